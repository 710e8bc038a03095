"""How often a label flips when the box moves, with and without the vote of 45 windows, and what the vote costs.

Run: python benchmarks/jitter.py ../shared/data/pictures [--fer2013 ../shared/data/fer2013] [--model expression]
     [--faces 150] [--voted 40] [--trials 2] [--threads 1] [--json]

Three measurements. Photographs (`dlib/`, `people/`, `crowd/`): the bundled detector finds the faces, and a moved box
sees what truly lies beside a face. Ready crops: held-out faces of FER2013's Training, of which a moved frame sees the
edge repeated; on the same faces, how often the label is right with and without the vote. Time: one face of a
photograph, cut and read once, against 45 windows cut and read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scene import about, timed

from mien.data.split import split_training
from mien.evaluate import metrics
from mien.evaluate.jitter import JitterReport, measure, measure_pictures
from mien.media.stills import read_picture
from mien.models.align import crop
from mien.models.base import Boxes, Detector, Picture
from mien.models.detect import detector
from mien.models.expression import Expression
from mien.models.quality import Limits, judge
from mien.models.vote import GRID, vote, window_crops, windows

FOLDERS = ("dlib", "people", "crowd")
ENDINGS = {".jpg", ".jpeg", ".png"}


def photographs(root: Path) -> list[Picture]:
    files = sorted(f for name in FOLDERS for f in (root / name).rglob("*") if f.suffix in ENDINGS)
    return [read_picture(f) for f in files]


def readable(picture: Picture, find: Detector, model: Expression) -> Boxes:
    """Return the faces that nothing speaks against reading."""
    spec = model.card.input
    assert spec is not None
    found = find(picture)
    reasons = judge(found, crop(picture, found, spec), width=picture.shape[1], height=picture.shape[0], limits=Limits())
    return found[reasons == 0]


def in_photographs(pictures: list[Picture], tables: list[Boxes], model: Expression, o: argparse.Namespace) -> Any:
    """Measure on at most ``o.faces`` faces, drawn from all pictures by the seed."""
    where = [(p, i) for p, table in enumerate(tables) for i in range(len(table))]
    drawn = np.random.default_rng(o.seed).permutation(len(where))[: o.faces]
    kept = [np.array(sorted(where[d][1] for d in drawn if where[d][0] == p), np.intp) for p in range(len(pictures))]
    chosen = [table[k] for table, k in zip(tables, kept, strict=True)]
    return measure_pictures(model, pictures, chosen, trials=o.trials, voted_faces=o.voted, seed=o.seed)


def accuracy(model: Expression, o: argparse.Namespace) -> tuple[JitterReport, dict[str, Any]]:
    held = split_training(o.fer2013, validation=0.05, seed=1).validation
    report = measure(model, held.images, trials=o.trials, faces=o.faces, voted_faces=o.voted, seed=o.seed)
    rows = np.random.default_rng(o.seed).permutation(len(held))[: o.right]

    def head(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        return model.read(crops).fer2013

    plain = head(held.images[rows])
    voted = np.concatenate([vote(head, window_crops(held.images[r : r + 1])).mean for r in rows])
    truth = held.label[rows]
    right, voted_right = plain.argmax(1) == truth, voted.argmax(1) == truth
    return report, {
        "faces": len(rows),
        "plain": metrics.accuracy(truth, plain.argmax(1)),
        "voted": metrics.accuracy(truth, voted.argmax(1)),
        "won": int((voted_right & ~right).sum()),
        "lost": int((right & ~voted_right).sum()),
        "plain_loss": metrics.likelihood_loss(truth, plain),
        "voted_loss": metrics.likelihood_loss(truth, voted),
    }


def cost(pictures: list[Picture], tables: list[Boxes], model: Expression) -> dict[str, Any]:
    """Return milliseconds a face, median (lowest to highest), of the face that is largest."""
    spec = model.card.input
    assert spec is not None
    sizes = [(float(np.ptp(t.box[i, ::2])), p, i) for p, t in enumerate(tables) for i in range(len(t))]
    _, p, i = sorted(sizes)[len(sizes) // 2]
    face = tables[p][np.array([i])]
    once = timed(lambda: model(crop(pictures[p], face, spec)))
    cut = timed(lambda: windows(pictures[p], face, spec))
    all_of_it = timed(lambda: vote(model, windows(pictures[p], face, spec)))
    parts = {"one crop": once, "cutting the windows": cut, "vote": all_of_it}
    return {name: [round(1000 * t, 2) for t in times] for name, times in parts.items()}


def show(title: str, report: JitterReport) -> None:
    print(f"\n{title}: {report.faces} faces, {report.trials} moves of each kind, vote on {report.voted_faces}")
    print("move     flips              faces that flip    with the vote      same faces without  saved by the vote")
    for m in report.moves:
        held = [m.flips, m.unstable, m.voted, m.plain_of_voted, m.saved]
        cells = ["—" if e is None else f"{e.value:.1%} ({e.low:.1%}–{e.high:.1%})" for e in held]
        print(f"{m.move:7}  " + "  ".join(f"{c:17}" for c in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--fer2013", type=Path)
    parser.add_argument("--model", default="expression")
    parser.add_argument("--faces", type=int, default=150)
    parser.add_argument("--voted", type=int, default=40)
    parser.add_argument("--right", type=int, default=400, help="held-out faces on which right and wrong are counted")
    parser.add_argument("--trials", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    model = Expression(options.model, threads=options.threads)
    find = detector("mtcnn", threads=options.threads)
    pictures = photographs(options.pictures)
    tables = [readable(p, find, model) for p in pictures]
    result: dict[str, Any] = {"about": about(), "windows": len(GRID), "readable": sum(map(len, tables))}
    result["photographs"] = in_photographs(pictures, tables, model, options)
    result["milliseconds"] = cost(pictures, tables, model)
    if options.fer2013 is not None:
        result["crops"], result["accuracy"] = accuracy(model, options)
    if options.json:
        print(json.dumps(result, default=lambda v: v.as_dict() if isinstance(v, JitterReport) else vars(v)))
        return
    print(result["about"])
    show(f"Photographs ({len(pictures)}, {result['readable']} readable faces)", result["photographs"])
    for name, (middle, low, high) in result["milliseconds"].items():
        print(f"{name:20} {middle:.2f} ms a face ({low:.2f} to {high:.2f})")
    if options.fer2013 is not None:
        a = result["accuracy"]
        show("Ready crops, held out of FER2013's Training", result["crops"])
        print(
            f"label right: {a['plain'].value:.1%} alone, {a['voted'].value:.1%} with the vote, n {a['faces']};", end=" "
        )
        print(f"won {a['won']}, lost {a['lost']}; loss {a['plain_loss']:.3f} and {a['voted_loss']:.3f} nats")


if __name__ == "__main__":
    main()
