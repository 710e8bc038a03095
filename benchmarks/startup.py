"""What a start costs: ``import mien`` beside ``import numpy`` in pairs, and a cold ``mien analyze`` of one picture."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import cv2
from scene import about, frames


def spent(*arguments: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def main() -> None:
    print(about())
    pairs = [
        (spent("-c", "import numpy"), spent("-c", "import mien, numpy"), spent("-c", "import mien; mien.analyze"))
        for _ in range(11)
    ]
    for name, column in zip(
        ("import numpy", "import mien, numpy", "import mien; mien.analyze"), zip(*pairs, strict=True), strict=True
    ):
        print(f"{name:28} {statistics.median(column):.3f} s [{min(column):.3f}–{max(column):.3f}]")
    print(
        f"mien over NumPy, median of {len(pairs)} paired runs: {statistics.median(m - n for n, m, _ in pairs):+.3f} s"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "one.png"
        cv2.imwrite(str(path), next(frames(640, 480, 1))[..., ::-1])
        cold = [spent("-m", "mien", "analyze", str(path)) for _ in range(7)]
    print(
        f"mien analyze, one 640×480 picture, a process each: {statistics.median(cold):.2f} s "
        f"[{min(cold):.2f}–{max(cold):.2f}]"
    )


if __name__ == "__main__":
    main()
