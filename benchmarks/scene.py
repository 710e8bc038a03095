"""Films with a known face for the benchmarks, and what every benchmark prints about itself."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

import av
import cv2
import numpy as np
from numpy.typing import NDArray


def portrait() -> NDArray[np.uint8]:
    """Return NASA's portrait of Eileen Collins from scikit-image, (512, 512, 3) uint8 RGB."""
    from skimage.data import astronaut

    return np.asarray(astronaut(), np.uint8)


def frames(width: int, height: int, count: int, *, faces: int = 1, seed: int = 0) -> Iterator[NDArray[np.uint8]]:
    """Give frames in which portraits drift over a soft, moving background."""
    rng = np.random.default_rng(seed)
    side = round(height * (0.6 if faces == 1 else 0.4))
    face = cv2.resize(portrait(), (side, side), interpolation=cv2.INTER_AREA)
    ground = cv2.resize(
        rng.integers(60, 200, (9, 16, 3), np.uint8), (width + 64, height + 64), interpolation=cv2.INTER_CUBIC
    )
    for i in range(count):
        out = ground[i % 64 : i % 64 + height, (i // 2) % 64 : (i // 2) % 64 + width].copy()
        for k in range(faces):
            room = max((width - side) / faces, 1)
            x = int(room * k + (room - 1) * 0.5 * (1 + np.sin(i / 90 + k)))
            y = int((height - side) * 0.5 * (1 + np.cos(i / 70 + k)))
            out[y : y + side, x : x + side] = face[: height - y, : width - x]
        yield out


def film(path: Path, width: int, height: int, seconds: float, *, fps: int = 25, faces: int = 1) -> Path:
    """Write such a film as H.264 MP4, unless it is there already."""
    if path.exists():
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        container.start_encoding()  # so that a film without frames is one
        for i, picture in enumerate(frames(width, height, round(seconds * fps), faces=faces)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def memory_mb() -> float:
    """Return this process's resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def about() -> str:
    """Return processor, threads and versions in one line."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    packages = ", ".join(f"{p} {version(p)}" for p in ("mien", "numpy", "opencv-python-headless", "onnxruntime", "av"))
    processors, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return f"{cpu}, {processors} processors, load {load:.1f}; Python {platform.python_version()}, {packages}"


def timed(call: Callable[[], object], *, repeat: int = 7, warm: int = 2) -> tuple[float, float, float]:
    """Return median, lowest and highest seconds of ``repeat`` calls after ``warm`` more."""
    for _ in range(warm):
        call()
    spent = []
    for _ in range(repeat):
        start = perf_counter()
        call()
        spent.append(perf_counter() - start)
    return statistics.median(spent), min(spent), max(spent)
