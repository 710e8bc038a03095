"""Camera frames end to end: JPEG of a real clip over a real web socket to ``mien serve`` and the faces back.

    python benchmarks/serve_camera.py [FILM …] [--seconds 10] [--repeat 3] [--cameras 1,4] [--json]

Frames of 640 × 480 are sent as the page sends them: the next one when an answer has come, with one or two under way.
With two, a frame waits at the service while the one before is read. Decoding the film and making JPEG of it happens
before; the client runs on the same machine. Without a film, portraits drift over a moving ground (`scene.frames`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scene import about, frames
from served import Server, started
from websockets.asyncio.client import connect

from mien.media.video import Film

WIDTH, HEIGHT = 640, 480
MOST = 300


def covering(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle of a picture at the camera's size."""
    height, width = picture.shape[:2]
    scale = max(WIDTH / width, HEIGHT / height)
    size = max(WIDTH, round(width * scale)), max(HEIGHT, round(height * scale))
    large = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    top, left = (large.shape[0] - HEIGHT) // 2, (large.shape[1] - WIDTH) // 2
    return np.asarray(large[top : top + HEIGHT, left : left + WIDTH], np.uint8)


def files(film: Path | None) -> list[bytes]:
    """Return the frames of a film as a camera's JPEG."""
    if film is None:
        pictures = list(frames(WIDTH, HEIGHT, MOST))
    else:
        with Film(film) as opened:
            pictures = [covering(f.picture) for f in islice(opened, MOST) if f.picture is not None]
    quality = [cv2.IMWRITE_JPEG_QUALITY, 80]
    return [cv2.imencode(".jpg", p[..., ::-1], quality)[1].tobytes() for p in pictures]


async def camera(server: Server, sent: list[bytes], flying: int, seconds: float) -> list[tuple[float, int]]:
    """Send frames for some time, ``flying`` under way at once; return seconds and faces of each answer."""
    answers: list[tuple[float, int]] = []
    async with connect(f"ws://{server.host}:{server.port}/v1/stream", max_size=None, compression=None) as socket:
        await socket.recv()
        begun: dict[int, float] = {}
        number, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end or begun:
            while time.perf_counter() < end and len(begun) < flying:
                begun[number] = time.perf_counter()
                await socket.send(sent[number % len(sent)])
                number += 1
            if not begun:
                break
            said = json.loads(await socket.recv())
            assert said["type"] == "faces", said
            assert said["dropped"] == 0, said  # never more than one waits
            answers.append((time.perf_counter() - begun.pop(said["frame"]), len(said["faces"])))
    return answers


async def cameras(server: Server, sent: list[bytes], flying: int, count: int, seconds: float) -> list[Any]:
    """Run several cameras at once."""
    answers = await asyncio.gather(*(camera(server, sent, flying, seconds) for _ in range(count)))
    return [one for each in answers for one in each]


def measured(
    server: Server, sent: list[bytes], flying: int, count: int, options: argparse.Namespace
) -> list[dict[str, float]]:
    asyncio.run(cameras(server, sent, flying, count, options.warm))
    rows = []
    for _ in range(options.repeat):
        begin, spent = time.perf_counter(), server.processor_seconds()
        answers = asyncio.run(cameras(server, sent, flying, count, options.seconds))
        wall = time.perf_counter() - begin
        times = [seconds for seconds, _ in answers]
        rows.append(
            {
                "frames_per_second": len(answers) / wall,
                "p50_ms": float(np.percentile(times, 50)) * 1000,
                "p99_ms": float(np.percentile(times, 99)) * 1000,
                "faces": sum(n for _, n in answers) / len(answers),
                "processor_ms": (server.processor_seconds() - spent) * 1000 / len(answers),
            }
        )
    return rows


def line(film: str, flying: int, count: int, rows: list[dict[str, float]]) -> str:
    def middle(name: str) -> float:
        return statistics.median(row[name] for row in rows)

    rates = [row["frames_per_second"] for row in rows]
    return (
        f"{film:22} {count} camera{'s' if count > 1 else ' '} {flying} under way  {middle('frames_per_second'):5.1f} "
        f"frames/s ({min(rates):.1f} to {max(rates):.1f})  p50 {middle('p50_ms'):4.0f} ms  p99 {middle('p99_ms'):4.0f} "
        f"ms  {middle('faces'):.1f} faces a frame  processors {middle('processor_ms'):.0f} ms a frame"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("films", type=Path, nargs="*")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warm", type=float, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cameras", default="1,4")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    packages = ", ".join(f"{p} {version(p)}" for p in ("fastapi", "uvicorn", "websockets"))
    head = f"{about()}, {packages}; {WIDTH} × {HEIGHT} JPEG"
    if not options.json:
        print(head)
    results: list[dict[str, Any]] = []
    with started("ours") as server:
        for film in options.films or [None]:
            sent = files(film)
            name = film.name if film else "drifting portrait"
            for count in map(int, options.cameras.split(",")):
                for flying in (1, 2):
                    rows = measured(server, sent, flying, count, options)
                    results.append({"film": name, "cameras": count, "flying": flying, "runs": rows})
                    if not options.json:
                        print(line(name, flying, count, rows), flush=True)
        memory = server.peak_mb()
    if options.json:
        print(json.dumps({"about": head, "most_memory_mb": memory, "results": results}))
        return
    print(f"most memory {memory:.0f} MB")


if __name__ == "__main__":
    main()
