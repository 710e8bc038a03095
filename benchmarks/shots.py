"""How well cuts are found, and how long it takes.

Run: python benchmarks/shots.py ../shared/data/pictures [--films 40] [--half 1] [--joins 300] [--json]

Staged films: shots made from photographs with pans, zooms, a shaking camera, people who walk past, flashes, changes of
exposure and fades, see `staged.py`; the thresholds were chosen on the first half of the photographs (``--half 0``), the
figures are those of the other half. Clips: real films whose cuts were counted by eye, frame by frame. Joined: pieces of
10 to 40 frames of the clips' seven shots, one behind the other. A cut counts as found at its very frame only; every
other frame that is called a cut counts as wrong. Time: one thread of OpenCV, a picture that moves and cuts.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scene import about, frames
from staged import film, photographs

from mien.evaluate.metrics import share
from mien.media.shots import Shots
from mien.media.video import Film

CLIPS: dict[str, tuple[int, ...]] = {
    "hamilton.mp4": (20, 82, 211),
    "two_scenes.mp4": (),
    "single_face.mp4": (),
    "no_face.mp4": (),
}
"""The frames with which a shot begins, by eye."""

STEPS = (1, 2, 4)

Marked = Iterable[tuple[NDArray[np.uint8], bool, bool, str]]
"""Picture, whether a shot begins with it, whether either answer is right, and what it shows."""


class Tally:
    """Cuts found, missed and made up."""

    def __init__(self) -> None:
        self.found = self.missed = self.wrong = self.frames = 0
        self.why: Counter[str] = Counter()

    def add(self, marked: Marked, *, every: int) -> None:
        """Run one film, of which every so many frames are read."""
        shots, begun, either = Shots(), False, False
        for number, (picture, begins, may, kind) in enumerate(marked):
            begun, either = begun or begins, either or may
            if number % every:
                continue
            cut, _ = shots.update(picture)
            self.frames += 1
            self.found += cut and begun
            self.missed += begun and not cut
            self.wrong += cut and not begun and not either
            if begun != cut and not either:
                self.why[f"{'missed' if begun else 'wrong'}: {kind}"] += 1
            begun, either = False, False

    def result(self) -> dict[str, Any]:
        """Return precision and recall with n, and what went wrong."""
        precision, recall = (share(self.found, self.found + n) for n in (self.wrong, self.missed))
        return {
            "frames": self.frames,
            "precision": [precision.value, precision.low, precision.high, precision.n],
            "recall": [recall.value, recall.low, recall.high, recall.n],
            "why": dict(self.why),
        }


def staged(folder: Path, films: int, half: int) -> dict[str, Any]:
    photos = photographs(folder, half=half)
    tallies = {every: Tally() for every in STEPS}
    for seed in range(films):
        shown = [(s.picture, s.cut, s.either, s.kind) for s in film(photos, shots=25, seed=1000 * (half + 1) + seed)]
        for every, tally in tallies.items():
            tally.add(shown, every=every)
    return {f"staged, every {every}": tally.result() for every, tally in tallies.items()}


def clips(folder: Path, joins: int) -> dict[str, Any]:
    out, pieces = {}, []
    for name, cuts in CLIPS.items():
        with Film(folder / name) as opened:
            pictures = [f.picture for f in opened if f.picture is not None]
        bounds = [0, *cuts, len(pictures)]
        small = [cv2.resize(p, (640, 360), interpolation=cv2.INTER_AREA) for p in pictures]
        pieces += [small[a:b] for a, b in pairwise(bounds)]
        for every in STEPS:
            tally = Tally()
            tally.add(((p, i in cuts, False, name) for i, p in enumerate(pictures)), every=every)
            out[f"{name}, every {every}"] = tally.result()
    for every in STEPS:
        tally = Tally()
        tally.add(joined(pieces, joins), every=every)
        out[f"joined, every {every}"] = tally.result()
    return out


def joined(pieces: list[list[NDArray[np.uint8]]], joins: int) -> Marked:
    rng = np.random.default_rng(9)
    last = -1
    for number in range(joins + 1):
        last = int((last + rng.integers(1, len(pieces))) % len(pieces)) if number else 0
        piece = pieces[last]
        size = min(int(rng.integers(10, 41)), len(piece))
        start = int(rng.integers(0, len(piece) - size + 1))
        for i in range(size):
            yield piece[start + i], i == 0 and number > 0, False, f"shot {last}"


def speed() -> dict[str, Any]:
    cv2.setNumThreads(1)
    out = {}
    for width, height in ((640, 360), (1280, 720), (1920, 1080)):
        pictures = [p[:, ::-1] if i % 8 > 3 else p for i, p in enumerate(frames(width, height, 16))]
        pictures = [np.ascontiguousarray(p) for p in pictures]
        shots, spent = Shots(), []
        for i in range(420):
            start = perf_counter()
            shots.update(pictures[i % 16])
            spent.append(1000 * (perf_counter() - start))
        out[f"{height}p"] = [float(v) for v in np.percentile(spent[20:], [50, 5, 95])]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--films", type=int, default=40)
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    parser.add_argument("--joins", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    times = speed()
    results = staged(chosen.folder, chosen.films, chosen.half) | clips(chosen.folder / "clips", chosen.joins)
    if chosen.json:
        print(json.dumps({"cuts": results, "milliseconds": times}))
        return
    print(about())
    print("\n| film | frames | precision [95 %], n | recall [95 %], n | what went wrong |\n|---|---|---|---|---|")
    for name, r in results.items():
        cells = [f"{v:.3f} [{a:.3f}, {b:.3f}], {n}" if n else "–" for v, a, b, n in (r["precision"], r["recall"])]
        why = "; ".join(f"{count} {kind}" for kind, count in sorted(r["why"].items())) or "–"
        print(f"| {name} | {r['frames']} | {' | '.join(cells)} | {why} |")
    words = ", ".join(f"{name} {m:.2f} [{a:.2f}–{b:.2f}]" for name, (m, a, b) in times.items())
    print(f"\nmilliseconds a picture, median [5–95 %]: {words}")


if __name__ == "__main__":
    main()
