"""Recall and precision of every detector by face height, and its time, on photographs with hand-made boxes.

Run: python benchmarks/detectors.py ../shared/data/pictures [--threads 1] [--rounds 3] [--json]

The folder holds `crowd/` (street and group photographs, `boxes.json`) and `dlib/` (of the photographs of dlib's
examples those that have boxes, `testing.xml` and `training.xml`). Two rules say when a find is a face: an overlap (IoU)
of at least 0.4 with its box, and a centre that lies in its box, since dlib's boxes frame a face tighter than others. A
face has one find and a find one face, best overlap first. Finds below 10 px and on faces below 10 px count neither for
nor against. Far faces in the crowd often carry no box, so precision is a lower bound.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien import geometry
from mien.models.base import Boxes, Detector
from mien.models.detect import DETECTORS, detector
from mien.zoo.session import usable_cpus

BANDS = (10, 20, 40, 80)
NAMES = ("10–20", "20–40", "40–80", "80+")
RULES = ("iou", "centre")
LEAST_IOU = 0.4


@dataclass(frozen=True)
class Photograph:
    """A picture with its true boxes (N, 4); ``bare`` faces wear no mask."""

    picture: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    bare: NDArray[np.bool_]


def read(path: Path) -> NDArray[np.uint8]:
    found = cv2.imread(str(path))
    assert found is not None, f"{path}: not a picture"
    return np.asarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), np.uint8)


def crowd(folder: Path) -> Iterator[Photograph]:
    table = json.loads((folder / "boxes.json").read_text(encoding="utf-8"))
    for name, entry in table.items():
        boxes = np.array([f["box"] for f in entry["faces"]], np.float32).reshape(-1, 4)
        yield Photograph(
            read(folder / name), boxes, np.array([f["label"] == "without_mask" for f in entry["faces"]], bool)
        )


def dlib(folder: Path) -> Iterator[Photograph]:
    for file in ("testing.xml", "training.xml"):
        for entry in ET.parse(folder / file).getroot().iter("image"):  # noqa: S314  # a local file of dlib's examples
            corner = [[float(b.get(k, 0)) for k in ("left", "top", "width", "height")] for b in entry.iter("box")]
            boxes = np.array(corner, np.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            yield Photograph(read(folder / entry.get("file", "")), boxes, np.ones(len(boxes), bool))


def pairs(found: NDArray[np.float32], truth: NDArray[np.float32], rule: str) -> list[tuple[int, int]]:
    """Return which find is which face, each once, best overlap first."""
    overlap = np.array(geometry.iou(found, truth))
    if rule == "iou":
        overlap[overlap < LEAST_IOU] = 0
    else:
        centre = ((found[:, :2] + found[:, 2:]) / 2)[:, None]
        overlap[~((centre >= truth[:, :2]) & (centre <= truth[:, 2:])).all(2)] = 0
    out = []
    while overlap.size and overlap.max() > 0:
        i, j = np.unravel_index(int(overlap.argmax()), overlap.shape)
        out.append((int(i), int(j)))
        overlap[i], overlap[:, j] = 0, 0
    return out


def judge(photographs: list[Photograph], finds: list[Boxes], rule: str) -> dict[str, Any]:
    faces, hits, seen, right = (np.zeros(len(BANDS), int) for _ in range(4))
    bare = bare_hits = 0
    for p, boxes in zip(photographs, finds, strict=True):
        height = p.boxes[:, 3] - p.boxes[:, 1]
        band = np.digitize(height, BANDS) - 1
        matched = pairs(boxes.box, p.boxes, rule)
        hit = np.isin(np.arange(len(p.boxes)), [j for _, j in matched])
        face_of = dict(matched)
        for i, own in enumerate(np.digitize(boxes.box[:, 3] - boxes.box[:, 1], BANDS) - 1):
            # A right find belongs to its face's band, a wrong one to its own.
            place = band[face_of[i]] if i in face_of else own
            if place >= 0:
                seen[place] += 1
                right[place] += i in face_of
        for b in range(len(BANDS)):
            faces[b] += (band == b).sum()
            hits[b] += hit[band == b].sum()
        bare += int((p.bare & (height >= 20)).sum())
        bare_hits += int(hit[p.bare & (height >= 20)].sum())

    def share(a: Any, b: Any) -> float | None:
        return round(float(a) / float(b), 3) if b else None

    return {
        "recall": {n: share(h, f) for n, h, f in zip(NAMES, hits, faces, strict=True)},
        "precision": {n: share(r, s) for n, r, s in zip(NAMES, right, seen, strict=True)},
        "faces": dict(zip(NAMES, faces.tolist(), strict=True)),
        "finds": dict(zip(NAMES, seen.tolist(), strict=True)),
        "recall_20": share(hits[1:].sum(), faces[1:].sum()),
        "precision_20": share(right[1:].sum(), seen[1:].sum()),
        "recall_20_bare": share(bare_hits, bare),
        "faces_20_bare": bare,
    }


def timed(find: Detector, photographs: list[Photograph], rounds: int) -> tuple[list[Boxes], dict[str, float]]:
    finds = [find(p.picture) for p in photographs[:3]]  # warm-up
    seconds = np.empty((rounds, len(photographs)))
    for r in range(rounds):
        finds = []
        for i, p in enumerate(photographs):
            start = time.perf_counter()
            finds.append(find(p.picture))
            seconds[r, i] = time.perf_counter() - start
    best = seconds.min(0) * 1000
    low, middle, high = np.percentile(best, [10, 50, 90])
    rounds_ms = np.median(seconds, axis=1) * 1000
    spread = {"p10": low, "median": middle, "p90": high, "median_low": rounds_ms.min(), "median_high": rounds_ms.max()}
    return finds, {k: round(float(v), 1) for k, v in spread.items()}


def contenders(threads: int) -> dict[str, Callable[[], Detector]]:
    """Return every registered detector as it comes, and the settings of MTCNN that trade time for small faces."""
    made: dict[str, Callable[[], Detector]] = {
        f"mtcnn {' '.join(f'{k} {v}' for k, v in o.items())}".strip(): partial(detector, "mtcnn", threads=threads, **o)
        for o in ({}, {"min_face": 12}, {"min_face": 16}, {"min_face": 40}, {"width": 320}, {"width": 240})
    }
    return made | {n: partial(detector, n) for n in DETECTORS if n != "mtcnn"}


def environment(threads: int) -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    packages = ("numpy", "onnxruntime", "opencv-python-headless", "mtcnn")
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "cpu": cpu,
        "cpus": usable_cpus(),
        "threads": threads,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def show(result: dict[str, Any]) -> None:
    e = result["environment"]
    print(", ".join(f"{k} {v}" for k, v in e["versions"].items()))
    print(f"{e['cpu']}, {e['cpus']} CPUs usable, {e['threads']} thread(s) a detector, load {e['load']} before the run")
    for data, rows in result["data"].items():
        first = next(iter(rows.values()))["iou"]
        counts = ", ".join(f"{n} px: {c}" for n, c in first["faces"].items())
        bare = f"{first['faces_20_bare']} bare from 20 px"
        print(f"\n{data}: {result['pictures'][data]} photographs; faces {counts}; {bare}")
        print(
            f"{'detector':20} {'rule':7}"
            + "".join(f"{n:>12}" for n in NAMES)
            + f"{'from 20':>12}{'bare':>7}   ms an image"
        )
        for name, row in rows.items():
            for rule in RULES:
                r = row[rule]
                cells = [f"{_two(r['recall'][n])}/{_two(r['precision'][n])}" for n in NAMES]
                cells.append(f"{_two(r['recall_20'])}/{_two(r['precision_20'])}")
                ms = row["ms"]
                tail = f"   {ms['median']} ({ms['p10']}–{ms['p90']})" if rule == "iou" else ""
                line = "".join(f"{c:>12}" for c in cells) + f"{_two(r['recall_20_bare']):>7}"
                print(f"{name if rule == 'iou' else '':20} {rule:7}{line}{tail}")
    print("\nrecall/precision; ms: median over the images (10th–90th percentile) of the best of the rounds")


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".removeprefix("0")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    sets = {"crowd": list(crowd(options.pictures / "crowd")), "dlib": list(dlib(options.pictures / "dlib"))}
    result: dict[str, Any] = {
        "environment": environment(options.threads),
        "pictures": {k: len(v) for k, v in sets.items()},
        "data": {k: {} for k in sets},
    }
    for name, make in contenders(options.threads).items():
        find = make()
        for data, photographs in sets.items():
            finds, ms = timed(find, photographs, options.rounds)
            result["data"][data][name] = {rule: judge(photographs, finds, rule) for rule in RULES} | {"ms": ms}
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
