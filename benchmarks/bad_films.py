"""Make films of every awkward kind, read each, print what came out; ``--index`` runs `mien film index` on each as well.

``--speed`` measures instead: decoding against PyAV's own loop, the cost of taking the comb out of interlaced frames,
and how long it takes to read on at 90 % of a film with a landmark and without.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import av
import numpy as np
from scene import about

from mien.errors import MienError
from mien.media.video import Film

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from films import combed, cut, joined, make_film, number_of, numbered, spoil

COUNT = 120
JUMPS = [float(t) for t in np.cumsum(np.random.default_rng(2).choice([0.01, 0.04, 3.0], COUNT, p=[0.3, 0.65, 0.05]))]
KINDS: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "10-bit.mp4": {"pixels": "yuv420p10le"},
    "10-bit-hevc.mkv": {"pixels": "yuv420p10le", "codec": "libx265"},
    "4-2-2.mp4": {"pixels": "yuv422p"},
    "4-4-4.mp4": {"pixels": "yuv444p"},
    "full-range-709.mp4": {"colour": (1, 2)},
    "2020.mp4": {"colour": (9, 1), "pixels": "yuv420p10le"},
    "hevc.mp4": {"codec": "libx265"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "av1.mkv": {"codec": "libsvtav1"},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "mpeg2.mpg": {"codec": "mpeg2video"},
    "mpeg4.avi": {},
    "h264-b-frames.avi": {"codec": "libx264"},
    "mjpeg.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "prores.mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "no-times.h264": {},
    "gaps.mp4": {"times": JUMPS},
    "gaps.mkv": {"times": JUMPS},
    "gaps.ts": {"times": JUMPS},
    "edit-list.mp4": {"times": [i / 25 - 0.2 for i in range(COUNT)]},
    "two-hours-in.ts": {"times": [7200 + i / 25 for i in range(COUNT)], "sound": True},
    "open-group.mp4": {"gop": 12, "options": {"x264-params": "open-gop=1"}},
    "fragments.mp4": {"gop": 12, "mux": {"movflags": "frag_keyframe+empty_moov"}},
    "turned-90.mp4": {"rotation": 90},
    "turned-270.mov": {"rotation": 270},
    "two-sounds.mp4": {"sound": True, "tracks": 2},
    "long-sound.mp4": {"sound": True, "sound_seconds": 20.0},
    "cover.mp4": {"cover": True},
    "interlaced.mp4": {"interlaced": "tff"},
    "interlaced.ts": {"interlaced": "bff", "codec": "mpeg2video"},
}


def made(folder: Path) -> Iterator[tuple[Path, int, list[float] | None]]:
    """Make the films; give each with its frames, and the steps between their times where these are known."""
    frames = numbered(COUNT)
    for name, options in KINDS.items():
        path = make_film(folder / name, combed(COUNT) if "interlaced" in options else frames, **options)
        times = options.get("times", [i / 25 for i in range(COUNT)])
        yield path, COUNT - 5 * (name == "edit-list.mp4"), None if name == "edit-list.mp4" else times
    yield make_film(folder / "one-frame.mp4", frames[:1]), 1, [0.0]
    yield make_film(folder / "still-for-minutes.mkv", frames[:2], times=[0, 300]), 2, [0, 300]
    yield make_film(folder / "2x2.mp4", [f[:2, :2] for f in frames[:9]]), 9, [i / 25 for i in range(9)]
    yield make_film(folder / "97x65.mkv", numbered(9, 97, 65), codec="ffv1"), 9, [i / 25 for i in range(9)]
    parts = make_film(folder / "a.ts", frames), make_film(folder / "b.ts", numbered(COUNT, 128, 96))
    yield joined(folder / "size-changes.ts", *parts), 2 * COUNT, None
    for where, (first, last) in {"start": (0, 0.1), "middle": (0.45, 0.55), "end": (0.9, 1)}.items():
        path = spoil(make_film(folder / f"damaged-{where}.mp4", frames, gop=12), first=first, last=last)
        yield path, COUNT, [i / 25 for i in range(COUNT)]
    for ending in ("mkv", "ts", "avi", "mp4"):
        yield cut(make_film(folder / f"cut-off.{ending}", frames, gop=12), 0.6), COUNT, None
    yield make_film(folder / "no-frames.mkv", []), 0, None
    for name, data in (("empty.mp4", b""), ("noise.mp4", frames[0].tobytes()), ("text.mp4", b"words " * 99)):
        (folder / name).write_bytes(data)
        yield folder / name, 0, None


def row(path: Path, count: int, times: list[float] | None) -> str:
    begun = perf_counter()
    try:
        with Film(path) as film:
            frames = list(film)
            facts = film.facts()
    except MienError as error:
        return (
            f"| {path.name} | {count} | | | | | {type(error).__name__}: {str(error).removeprefix(str(path) + ': ')} |"
        )
    ms = (perf_counter() - begun) * 1000 / max(1, len(frames))
    lost = sum(f.picture is None for f in frames)
    good = [f for f in frames if f.picture is not None]
    astray = sum(number_of(f.picture) != f.index % 256 for f in good) if path.name in _NUMBERED else ""  # type: ignore[arg-type]  # they have pictures
    steps = np.diff([f.time for f in frames])
    off = (
        f"{np.abs(steps - np.diff(times)).max() * 1000:.2f}"
        if times and len(times) == len(frames) and len(steps)
        else ""
    )
    told = f"{facts['codec']} {facts['pixel_format']}" + (" interlaced" if facts["interlaced"] else "")
    return f"| {path.name} | {count} | {len(frames)} | {lost} | {astray} | {off} | {ms:.2f} ms, {told} |"


_NUMBERED = {n for n, o in KINDS.items() if not {"interlaced", "rotation"} & o.keys() and n != "edit-list.mp4"} | {
    f"damaged-{where}.mp4" for where in ("start", "middle", "end")
}


def index(path: Path, folder: Path) -> str:
    begun = perf_counter()
    command = [sys.executable, "-m", "mien", "film", "index", str(path), "--out", str(folder / f"{path.name}.mien")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in ran.stderr.replace(str(folder) + "/", "").strip().splitlines() if line.strip()]
    seconds, last = perf_counter() - begun, lines[-1] if lines else ""
    return f"| {path.name} | {ran.returncode} | {seconds:.1f} | {len(lines)} | {last} |"


# Speed


def scene(count: int, width: int, height: int) -> list[np.ndarray]:
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    still = blocks.repeat(8, 0).repeat(8, 1)
    return [np.roll(still, (i, 2 * i), (0, 1)) for i in range(count)]


def plainly(path: Path) -> int:
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for f in container.decode(video=0) if f.to_ndarray(format="rgb24", threads=1).size)


def given(path: Path, **options: Any) -> int:
    with Film(path, **options) as film:
        return sum(1 for _ in film)


def side_by_side(title: str, ways: dict[str, Callable[[], int]], rounds: int = 7) -> None:
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            begun = perf_counter()
            count = way()
            spent[name].append((perf_counter() - begun) * 1000 / count)
    for name, ms in spent.items():
        print(f"{title}: {name:24} {statistics.median(ms):7.2f} ms a frame [{min(ms):.2f}–{max(ms):.2f}]", flush=True)


def speed(folder: Path, minutes: float) -> None:
    for width, height, count in ((640, 360, 600), (1280, 720, 300), (1920, 1080, 120)):
        path = make_film(folder / f"{height}.mp4", scene(count, width, height))
        ways = {"PyAV's loop": lambda p=path: plainly(p), "Film": lambda p=path: given(p)}
        side_by_side(f"{width}×{height}", ways)
    for width, height in ((720, 576), (1920, 1080)):
        frames = combed(80, width, height, step=6)
        plain = make_film(folder / f"p{height}.mp4", frames)
        woven = make_film(folder / f"i{height}.mp4", frames, interlaced="tff")
        ways = {"PyAV's loop": lambda p=woven: plainly(p), "Film, as progressive": lambda p=plain: given(p)}
        ways |= {"Film, interlaced": lambda p=woven: given(p)}
        side_by_side(f"{width}×{height}, fields", ways)
    count = round(minutes * 60 * 25)
    again = scene(250, 640, 360)
    path = make_film(folder / "long.mp4", (again[i % 250] for i in range(count)))
    start = round(count * 0.9)
    with Film(path) as film:
        mark = next(film.landmark(f.index) for f in film if f.index == start - 1)
    for landmark in (None, mark) * 3:
        begun = perf_counter()
        with Film(path, start=start, landmark=landmark) as film:
            first = next(iter(film))
        way = "from the landmark" if film.resumed else "from the beginning"
        print(
            f"{minutes:g} min of 640×360, on at frame {first.index}, {way}: {perf_counter() - begun:.2f} s", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", action="store_true", help="run mien film index on each as well")
    parser.add_argument("--speed", action="store_true", help="measure instead")
    parser.add_argument("--minutes", type=float, default=10, help="of the film that is read on in")
    chosen = parser.parse_args()
    os.environ.setdefault("SVT_LOG", "0")
    print(about())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.speed:
            speed(folder, chosen.minutes)
            return
        films = list(made(folder))
        print("| film | frames | read | unreadable | wrong pictures | time off, ms | |\n|---|---|---|---|---|---|---|")
        for film in films:
            print(row(*film), flush=True)
        if chosen.index:
            print("\n| film | exit | seconds | lines | last line of stderr |\n|---|---|---|---|---|")
            for path, _, _ in films:
                print(index(path, folder), flush=True)


if __name__ == "__main__":
    main()
