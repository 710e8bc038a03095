"""Give `mien analyze` everything that goes wrong, one at a time; print the line, the exit code, seconds and memory."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from scene import film, portrait

# The command, with the peak of its memory in MB as the last line of stderr.
_RUN = """
import atexit, resource, sys
from mien.cli.app import run
atexit.register(lambda: sys.stderr.write(f"\\nPEAK {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}"))
sys.argv[0] = "mien"
run()
"""


def inputs(folder: Path) -> dict[str, list[str]]:
    """Write the bad inputs and return the arguments that name them."""
    good = cv2.imencode(".jpg", portrait()[..., ::-1])[1].tobytes()
    film(folder / "good.mp4", 320, 240, 2)
    clip = (folder / "good.mp4").read_bytes()
    middle = bytearray(clip)
    middle[len(clip) // 3 : len(clip) // 3 + 2000] = bytes(2000)
    writes = {
        "empty.jpg": b"",
        "text.jpg": b"these are words, not a picture",
        "truncated.jpg": good[: len(good) // 2],
        "one.png": cv2.imencode(".png", np.full((1, 1, 3), 128, np.uint8))[1].tobytes(),
        "black.png": cv2.imencode(".png", np.zeros((480, 640, 3), np.uint8))[1].tobytes(),
        "huge.jpg": cv2.imencode(".jpg", np.zeros((9000, 12000, 3), np.uint8))[1].tobytes(),
        "cut.mp4": clip[: len(clip) // 2],
        "damaged.mp4": bytes(middle),
        "noise.mp4": clip[:64] + np.random.default_rng(0).bytes(20000),
        "good.jpg": good,
    }
    for name, data in writes.items():
        (folder / name).write_bytes(data)
    film(folder / "none.mp4", 320, 240, 0)
    (folder / "shut.csv").mkdir()
    cases = {name: [str(folder / name)] for name in writes if name != "good.jpg"}
    return cases | {
        "zero-frame film": [str(folder / "none.mp4")],
        "missing file": [str(folder / "missing.jpg")],
        "glob without a match": [str(folder / "*.heic")],
        "output in a missing folder": [str(folder / "good.jpg"), "--out", str(folder / "no" / "where.csv")],
        "output that is a folder": [str(folder / "good.jpg"), "--out", str(folder / "shut.csv")],
        "output of an unknown kind": [str(folder / "good.jpg"), "--out", str(folder / "faces.xlsx")],
        "unknown label": [str(folder / "good.jpg"), "--only", "hapy"],
        "unknown label set": [str(folder / "good.jpg"), "--labels", "nine"],
        "unknown detector": [str(folder / "good.jpg"), "--detector", "yolo"],
        "unknown model": [str(folder / "good.jpg"), "--model", "vgg"],
        "impossible score": [str(folder / "good.jpg"), "--min-score", "60"],
        "no camera": ["7", "--seconds", "1"],
        "stream that is not there": ["rtsp://127.0.0.1:9/live", "--seconds", "1"],
        "one bad among good": [str(folder / "good.jpg"), str(folder / "text.jpg"), str(folder / "good.jpg")],
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print("| input | exit | seconds | MB | lines on stderr |\n|---|---|---|---|---|")
        for case, arguments in inputs(folder).items():
            start = perf_counter()
            command = [sys.executable, "-c", _RUN, "analyze", *arguments]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            seconds = perf_counter() - start
            lines = ran.stderr.replace(str(folder) + "/", "").strip().splitlines()
            peak = lines.pop().removeprefix("PEAK ") if lines and lines[-1].startswith("PEAK") else "?"
            print(
                f"| {case} | {ran.returncode} | {seconds:.1f} | {peak} | {'<br>'.join(x for x in lines if x)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
