"""Precision of an expression with and without the repeater, on tracks made of labelled faces.

Run: python benchmarks/repeater.py ../shared/data/fer2013 [--holds 1000] [--fps 25] [--model expression] [--threads 1]
     [--json]

A track is made of ten holds: one face of FER2013's PublicTest (none that is also in Training, pixel for pixel) for 10
to 40 frames, then one with another label. Each frame shows the face shifted and scaled a little, more or less blurred
and noisy; one in twenty is smeared by motion. A frame is right when the label named is the label of the hold's face.
That label is FER2013's own, which is noisy, and a face stands still where a living one moves: the figures say what the
rules do to flicker, not how often a film is read right. Intervals: 95 %, 1000 resamples of the holds. Nothing was
chosen by these faces.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scene import about

from mien.data.importers import read_fer2013
from mien.evaluate.metrics import Estimate, ratio
from mien.evaluate.resample import resampled, share_of
from mien.models.expression import Expression
from mien.models.vote import crops_at
from mien.track.smooth import Repeater, Smoothing

HOLDS_A_TRACK = 10
SEED = 4


def held_out(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Return the faces of PublicTest, one of each group of equal pictures, that are not in Training too."""
    faces = read_fer2013(folder)
    test = faces[faces.split == "PublicTest"]
    seen = np.unique(faces.group[faces.split == "Training"])
    _, first = np.unique(test.group, return_index=True)
    test = test[np.sort(first[~np.isin(test.group[first], seen)])]
    return test.images, test.label, test.labels.labels


def drawn(label: NDArray[np.int64], holds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw faces without repeating one, so that within a track no two in a row have the same label."""
    waiting = rng.permutation(len(label)).tolist()
    out: list[int] = []
    while len(out) < holds:
        last = label[out[-1]] if len(out) % HOLDS_A_TRACK else -1
        out.append(waiting.pop(next(i for i in range(len(waiting) - 1, -1, -1) if label[waiting[i]] != last)))
    return np.array(out)


def shown(face: NDArray[np.uint8], frames: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the frames (F, 48, 48) of one hold."""
    moves = np.concatenate([rng.normal(0, 0.03, (frames, 2)), np.exp(rng.normal(0, 0.04, (frames, 1)))], 1)
    crops = crops_at(face[None], moves[None])[0].astype(np.float32)
    for i, crop in enumerate(crops):
        if rng.random() < 0.05:
            crop = cv2.blur(crop, (9, 1) if rng.random() < 0.5 else (1, 9))
        crops[i] = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.1, 1.0)) + rng.normal(0, rng.uniform(1, 8), crop.shape)
    return np.clip(np.round(crops), 0, 255).astype(np.uint8)


class Tracks:
    """Generated tracks, read: everything (F,) or (F, K), one row a frame."""

    def __init__(self, folder: Path, holds: int, model: Expression, fps: float) -> None:
        rng = np.random.default_rng(SEED)
        images, label, self.labels = held_out(folder)
        faces = drawn(label, holds, rng)
        frames = rng.integers(10, 41, holds)
        self.hold = np.repeat(np.arange(holds), frames)
        self.truth = label[faces][self.hold]
        self.track = self.hold // HOLDS_A_TRACK
        self.ordinal = np.arange(len(self.hold))
        self.ordinal -= self.ordinal[np.searchsorted(self.track, self.track)]
        self.time = self.ordinal / fps
        self.scores = np.concatenate(
            [model.read(shown(images[f], n, rng)).fer2013 for f, n in zip(faces, frames, strict=True)]
        )
        self.holds = holds


def rules(data: Tracks) -> dict[str, tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Return the label of each frame and whether it counts, by the name of the rule."""
    out = {}
    for smoothing in ("none", "exponential:0.2", "exponential:0.5", "median:5", "median:15"):
        scores = Smoothing.parse(smoothing).apply(data.scores, data.time, data.track, data.ordinal)
        label = scores.argmax(1)
        for frames in (1, 2, 8, 16) if smoothing == "none" else (1, 8):
            kept = Repeater(frames=frames).keep(label, data.track, data.ordinal)
            out[f"{smoothing}, N = {frames}"] = label, kept
    best = data.scores.max(1)
    as_many = out["none, N = 8"][1].mean()
    out["score alone, as many kept as N = 8"] = data.scores.argmax(1), best >= np.quantile(best, 1 - as_many)
    return out


def counted(data: Tracks, label: NDArray[np.int64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return, for each hold and label named, the frames that are right, kept and named before the rule: (H, 3, K)."""
    out = np.zeros((data.holds, 3, len(data.labels)))
    right = kept & (label == data.truth)
    for place, chosen in enumerate((right, kept, np.ones(len(label), np.bool_))):
        np.add.at(out[:, place], (data.hold[chosen], label[chosen]), 1)
    return out


def judged(data: Tracks, label: NDArray[np.int64], kept: NDArray[np.bool_]) -> dict[str, Any]:
    """Return precision and share kept with intervals, over all labels and for each, and the number of stretches."""
    sums = counted(data, label, kept)
    holds, _, classes = sums.shape
    truth = np.bincount(data.truth, minlength=classes)

    def statistics(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        right, named, before = np.moveaxis((weights @ sums.reshape(holds, -1)).reshape(-1, 3, classes), 1, 0)
        whole = ratio(right.sum(1), named.sum(1)), ratio(named.sum(1), before.sum(1))
        parts = ratio(right, named), ratio(named, before)
        return {
            n: np.concatenate([w[:, None], p], 1) for n, w, p in zip(("precision", "kept"), whole, parts, strict=True)
        }

    value, spread = resampled(statistics, holds)
    stretches = Repeater(frames=1).spans(np.where(kept, label, -1), data.track, data.ordinal)
    rows = {}
    for place, name in enumerate(("all", *data.labels)):
        chosen = slice(None) if not place else place - 1
        n = int(sums[:, 1, chosen].sum())
        rows[name] = {
            key: share_of(value[key][place], spread[key][:, place], holds) for key in ("precision", "kept")
        } | {"frames": n, "shown": int(truth.sum() if not place else truth[place - 1])}
        rows[name]["recall"] = float(sums[:, 0, chosen].sum() / max(rows[name]["shown"], 1))
    return {"stretches": len(stretches), "rows": rows}


def words(e: Estimate) -> str:
    return f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--holds", type=int, default=1000)
    parser.add_argument("--fps", type=float, default=25)
    parser.add_argument("--model", default="expression")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    data = Tracks(chosen.folder, chosen.holds, Expression(chosen.model, threads=chosen.threads), chosen.fps)
    results = {name: judged(data, *rule) for name, rule in rules(data).items()}
    if chosen.json:
        print(json.dumps(results, default=lambda e: [e.value, e.low, e.high, e.n]))
        return
    print(about())
    print(f"{data.holds} holds on {data.track[-1] + 1} tracks, {len(data.hold)} frames, model {chosen.model}")
    changes = int(np.sum((np.diff(data.truth) != 0) & (np.diff(data.track) == 0)))
    print(f"the truth has {data.holds} stretches and {changes} changes\n")
    print("| rule | precision [95 %] | frames kept | recall | stretches |\n|---|---|---|---|---|")
    for name, result in results.items():
        row, count = result["rows"]["all"], result["stretches"]
        print(f"| {name} | {words(row['precision'])} | {words(row['kept'])} | {row['recall']:.3f} | {count} |")
    print("\n| label | frames shown | N = 1 | N = 2 | N = 8 | kept by N = 8 |\n|---|---|---|---|---|---|")
    for name in data.labels:
        parts = [results[f"none, N = {n}"]["rows"][name] for n in (1, 2, 8)]
        cells = [words(p["precision"]) + f", {p['frames']}" for p in parts]
        print(f"| {name} | {parts[0]['shown']} | {' | '.join(cells)} | {words(parts[2]['kept'])} |")


if __name__ == "__main__":
    main()
