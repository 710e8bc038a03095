"""Frames per second of a film, side by side in one run: ours, ours with carried boxes, and the peers' way.

The peers' way is OpenCV's capture, OpenCV's Haar cascade on the grey frame at its usual settings, and the classifier
on every frame, one face at a time. ``--memory MINUTES`` reads a long film and compares resident memory in its first
and last quarter instead.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from scene import about, film, memory_mb

import mien
from mien.zoo.catalog import card
from mien.zoo.store import locate


def ours(path: Path, **settings: object) -> tuple[int, int]:
    rows = [(len(f), int(f.named.sum())) for f in mien.stream(path, **settings)]
    return len(rows), sum(n for _, n in rows)


def peers_way(path: Path) -> tuple[int, int]:
    cascade = cv2.CascadeClassifier(str(locate(card("haar-face"))))
    model = mien.Expression()
    capture = cv2.VideoCapture(str(path))
    count = named = 0
    while True:
        more, frame = capture.read()
        if not more:
            return count, named
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        for x, y, w, h in cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=5, minSize=(50, 50)):
            crop = cv2.resize(frame[y : y + h, x : x + w], (48, 48), interpolation=cv2.INTER_AREA)[None, ..., ::-1]
            model.read(np.ascontiguousarray(crop))
            named += 1
        count += 1


def speed(width: int, height: int, seconds: float, folder: Path, faces: int) -> None:
    path = film(folder / f"{width}x{height}-{seconds:g}s-{faces}.mp4", width, height, seconds, faces=faces)
    ways: dict[str, Callable[[], tuple[int, int]]] = {
        "mien": lambda: ours(path),
        "mien --width 640": lambda: ours(path, width=640),
        "mien --detect-every 5": lambda: ours(path, detect_every=5),
        "mien --width 640 --detect-every 5": lambda: ours(path, width=640, detect_every=5),
        "OpenCV capture + Haar + classifier": lambda: peers_way(path),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    result = {name: call() for name, call in ways.items()}  # warm-up
    for _ in range(3):
        for name, call in ways.items():
            start = perf_counter()
            call()
            spent[name].append(perf_counter() - start)
    base = statistics.median(spent["OpenCV capture + Haar + classifier"])
    print(f"\n{width}×{height}, {faces} face(s), {seconds:g} s of film")
    for name, times in spent.items():
        count, named = result[name]
        middle = statistics.median(times)
        print(
            f"{name:36} {count / middle:7.1f} frames/s [{count / max(times):.1f}–{count / min(times):.1f}]"
            f"  realtime ×{seconds / middle:.2f}  peers' time / ours {base / middle:.2f}"
            f"  {count} frames, {named} faces read"
        )


def memory(minutes: float, folder: Path) -> None:
    path = film(folder / f"memory-{minutes:g}min.mp4", 640, 360, minutes * 60)
    seen: list[float] = []
    for _ in mien.stream(path, width=320, detect_every=5):
        seen.append(memory_mb())  # noqa: PERF401 - the loop is what is measured
    quarter = len(seen) // 4
    middles = [statistics.median(seen[i * quarter : (i + 1) * quarter]) for i in range(4)]
    print(
        f"{len(seen)} frames of {minutes:g} minutes: resident memory by quarter "
        f"{', '.join(f'{m:.1f}' for m in middles)} MB; last less first {middles[3] - middles[0]:+.1f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--faces", type=int, default=1)
    parser.add_argument("--memory", type=float, metavar="MINUTES")
    parser.add_argument("--size", action="append", help="as 1280x720; may be repeated")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mien-bench")
    chosen = parser.parse_args()
    chosen.folder.mkdir(exist_ok=True)
    print(about())
    if chosen.memory:
        memory(chosen.memory, chosen.folder)
        return
    for size in chosen.size or ["1280x720"]:
        width, height = map(int, size.split("x"))
        speed(width, height, chosen.seconds, chosen.folder, chosen.faces)


if __name__ == "__main__":
    main()
