"""What a model calls the faces of FairFace, by sex, age band and race: shares of answers, not of right ones.

Run: python benchmarks/subgroups.py ../shared/data/fairface/val.parquet [--model expression] [--faces 0] [--threads 1]

FairFace says nothing about expressions, so this is no accuracy: a group may be called happy more often because its
people were photographed smiling more often. It shows where to look, not who is wronged. The bundled detector finds and
aligns the face in each picture; pictures in which it finds none are left out and counted.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scene import about

from mien.evaluate.metrics import Estimate, share
from mien.evaluate.subgroup import FEWEST, fisher, holm, newcombe
from mien.media.stills import read_picture
from mien.models.align import crop
from mien.models.base import Picture
from mien.models.detect import detector
from mien.models.expression import Expression

COLUMNS = ("gender", "age", "race")
BORDER = 24


def read(path: Path, size: int, seed: int) -> tuple[list[Picture], dict[str, NDArray[np.str_]]]:
    table = pq.read_table(path)
    rows = np.sort(np.random.default_rng(seed).permutation(len(table))[: size or len(table)])
    table = table.take(rows)
    pictures = [read_picture(bytes(blob or b"")) for blob in table["image"].to_pylist()]
    columns = {c: np.array([v or "" for v in table[c].to_pylist()], np.str_) for c in COLUMNS}
    return pictures, columns


def edged(picture: Picture) -> Picture:
    """Return the picture with its own edge pixels around it: FairFace crops so tight that the detector misses some."""
    return np.asarray(cv2.copyMakeBorder(picture, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_REPLICATE), np.uint8)


def aligned(pictures: list[Picture], model: Expression, threads: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the crops of the pictures in which a face was found, and which pictures those are."""
    find, spec = detector("mtcnn", threads=threads), model.card.input
    assert spec is not None
    framed = [edged(p) for p in pictures]
    found = [find(p)[:1] for p in framed]
    crops = [crop(p, b, spec) for p, b in zip(framed, found, strict=True)]
    return np.concatenate(crops), np.array([len(b) > 0 for b in found])


def shares(named: NDArray[np.bool_], values: NDArray[np.str_]) -> list[dict[str, Any]]:
    """Return for each group the share that got a name, against the rest, largest group first."""
    groups, counts = np.unique(values[values != ""], return_counts=True)
    rows = []
    for group in groups[np.argsort(-counts, kind="stable")]:
        inside, rest = values == group, (values != group) & (values != "")
        hits, n, others, m = (int(v) for v in (named[inside].sum(), inside.sum(), named[rest].sum(), rest.sum()))
        p = fisher(hits, n, others, m) if min(n, m) >= FEWEST else None
        rows.append({"group": str(group), "share": share(hits, n), "difference": newcombe(hits, n, others, m), "p": p})
    return rows


def corrected(tables: dict[str, dict[str, list[dict[str, Any]]]]) -> int:
    """Correct all tests of the page together, the stricter way, and return how many there are."""
    tested = [r for by_label in tables.values() for rows in by_label.values() for r in rows if r["p"] is not None]
    for row, p in zip(tested, holm([r["p"] for r in tested]), strict=True):
        row["p_holm"] = p
    return len(tested)


def cell(e: Estimate) -> str:
    return f"{100 * e.value:5.1f} ({100 * e.low:.1f}–{100 * e.high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="expression")
    parser.add_argument("--faces", type=int, default=0, help="0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    model = Expression(options.model, threads=options.threads)
    pictures, columns = read(options.data, options.faces, options.seed)
    crops, kept = aligned(pictures, model, options.threads)
    columns = {c: v[kept] for c, v in columns.items()}
    answer, labels = model(crops).argmax(1), model.heads[0].labels.labels
    tables = {c: {name: shares(answer == i, v) for i, name in enumerate(labels)} for c, v in columns.items()}
    tests = corrected(tables)
    if options.json:
        print(json.dumps({"n": len(crops), "tests": tests, "tables": tables}, default=asdict))
        return
    print(about())
    print(
        f"{len(crops):,} of {len(pictures):,} faces; per cent called so, 95 % interval; * differs from the rest, ",
        end="",
    )
    print(f"Holm over {tests} tests, p < 0.05; - fewer than {FEWEST} faces")
    for column, by_label in tables.items():
        groups = [r["group"] for r in next(iter(by_label.values()))]
        print(f"\n{column}\n{'':10}" + "".join(f"{g[:20]:>22}" for g in groups))
        print(f"{'n':10}" + "".join(f"{r['share'].n:>22}" for r in next(iter(by_label.values()))))
        for label, rows in by_label.items():
            marks = ["-" if r["p"] is None else "*" if r["p_holm"] < 0.05 else " " for r in rows]
            print(f"{label:10}" + "".join(f"{cell(r['share']) + m:>22}" for r, m in zip(rows, marks, strict=True)))


if __name__ == "__main__":
    main()
