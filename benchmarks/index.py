"""How quickly a film is indexed, by the side of the peers' way in one run; what an hour costs; how much memory.

    python benchmarks/index.py                       # by resolution and number of faces
    python benchmarks/index.py --minutes 5 15 60     # cost and memory over length

The peers' way is OpenCV's capture, its Haar cascade on the grey frame, and the classifier on each frame, one face at a
time, as in ``film.py``. A long film is one minute repeated, its packets copied.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from time import perf_counter

import av
from film import peers_way
from moving import moving_film
from scene import about, film

from mien.film.build import SETTINGS, index_film
from mien.media.video import Film


def decoded(path: Path) -> int:
    with Film(path) as frames:
        return sum(1 for _ in frames)


def ours(path: Path, folder: Path, **changes: object) -> Callable[[], int]:
    def call() -> int:
        out = folder / "index.mien"
        rmtree(out, ignore_errors=True)
        return index_film(path, out, settings=replace(SETTINGS, **changes)).frames

    return call


def speed(width: int, height: int, faces: int, seconds: float, rounds: int, folder: Path) -> None:
    path = film(folder / f"{width}-{faces}.mp4", width, height, seconds, faces=faces)
    ways: dict[str, Callable[[], int]] = {
        "decoding alone": lambda: decoded(path),
        "mien film index": ours(path, folder),
        "… --width 640": ours(path, folder, width=640),
        "… --width 640 --model expression-int8": ours(path, folder, width=640, model="expression-int8"),
        "… --detect-every 1": ours(path, folder, detect_every=1),
        "OpenCV capture + Haar + classifier": lambda: peers_way(path)[0],
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):  # the first warms up
        for name, call in ways.items():
            start = perf_counter()
            count = call()
            if turn:
                spent[name].append((perf_counter() - start) / count * 1e3)
    base = statistics.median(spent["OpenCV capture + Haar + classifier"])
    print(f"\n{width}×{height}, {faces} faces, {seconds:g} s of 25 frames/s, ms a frame")
    for name, times in spent.items():
        middle = statistics.median(times)
        spread = f"{min(times):.1f}–{max(times):.1f}"
        print(
            f"  {name:40} {middle:6.1f} ({spread}) {1e3 / middle:7.1f} frames/s {40 / middle:5.1f}× realtime "
            f"{base / middle:5.1f}× the peers' way"
        )


def repeated(minute: Path, path: Path, times: int) -> Path:
    """Write a film several times one after the other, packets copied."""
    with av.open(str(path), "w") as out:
        stream = None
        shift = 0
        for _ in range(times):
            with av.open(str(minute)) as source:
                video = source.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                for packet in source.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = stream
                    out.mux(packet)
                shift += video.duration
    return path


def resident(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return float("nan")
    lines = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(lines[0].split()[1]) / 1024 if lines else float("nan")


def length(minutes: list[int], folder: Path) -> None:
    minute = folder / "minute.mp4"
    moving_film(minute, width=640, height=360, seconds=60, faces=2, seed=2)
    rows = []
    for count in minutes:
        path = repeated(minute, folder / f"{count}.mp4", count)
        out = folder / f"{count}.mien"
        start = perf_counter()
        run = subprocess.Popen(
            [sys.executable, "-m", "mien", "film", "index", str(path), "--out", str(out), "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        curve = []
        while run.poll() is None:
            curve.append((perf_counter() - start, resident(run.pid)))
            time.sleep(1)
        said = json.loads(run.stdout.read() if run.stdout else "")
        seconds = perf_counter() - start
        held = [mb for _, mb in curve if mb == mb]
        quarters = [max(held[len(held) * q // 4 : max(len(held) * (q + 1) // 4, 1)] or [0]) for q in range(4)]
        size = sum(p.stat().st_size for p in out.iterdir()) / 1e6
        rows.append((count, seconds))
        print(
            f"{count:3d} min: {said['frames']} frames in {seconds:.1f} s, {count * 60 / seconds:.1f}× realtime, "
            f"{seconds / count * 60:.0f} s an hour of film; resident MB, largest in each quarter: "
            f"{', '.join(f'{q:.0f}' for q in quarters)}; index {size:.1f} MB; {said['counts']}",
            flush=True,
        )
        path.unlink()
        rmtree(out)
    if len(rows) > 2:
        x, y = [r[0] for r in rows], [r[1] for r in rows]
        slope, cross = statistics.linear_regression(x, y)
        fit = statistics.correlation(x, y) ** 2
        print(f"line through {len(rows)} lengths: {cross:.1f} s + {slope * 60:.0f} s an hour of film, R² {fit:.5f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=int, nargs="+")
    args = parser.parse_args()
    about()
    print(f"load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        if args.minutes:
            length(args.minutes, Path(folder))
            return
        for width, height in ((1280, 720), (1920, 1080)):
            for faces in (1, 4):
                speed(width, height, faces, args.seconds, args.rounds, Path(folder))


if __name__ == "__main__":
    main()
