"""The service under load, beside the one that everybody writes first, in turns in one run on one machine.

    python benchmarks/serve_load.py [--clients 1,8,32,128] [--seconds 10] [--repeat 3] [--pictures FOLDER] [--json]

"naive" is a FastAPI application whose one route calls ``mien.analyze`` in the thread that FastAPI gives it: no queue,
no limit, no batch (`served.naive`). "ours" is ``mien serve`` with its default limits. Both are given the same portraits
over connections that stay open, by clients that send the next picture when the last was answered and that wait as
``Retry-After`` says when they are turned away. The load is made on the same machine and takes its share of it.

Then pictures arrive at twice the rate that ours managed, whether answers come or not, and nobody tries again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scene import about, portrait
from served import Server, started

PATIENCE = 120.0
"""Seconds after which a request counts as one that hangs."""


def portraits() -> list[bytes]:
    """Return JPEG files of two portraits at some sizes: 0.1 to 0.4 megapixels."""
    import matplotlib.cbook

    hopper = cv2.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    collins = np.ascontiguousarray(portrait()[..., ::-1])
    files = []
    for picture in (collins, hopper):
        for side in (320, 480, 640):
            height = round(picture.shape[0] * side / picture.shape[1])
            small = cv2.resize(picture, (side, height), interpolation=cv2.INTER_AREA)
            files.append(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())
    return files


_BOUNDARY = "a-boundary-that-no-picture-has"


def form(file: bytes) -> bytes:
    """Return the body of a form with one picture."""
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="picture"; filename="face.jpg"\r\n'
    return f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + file + f"\r\n--{_BOUNDARY}--\r\n".encode()


# A client


@dataclass(slots=True)
class Seen:
    """What clients saw.

    Attributes
    ----------
    statuses
        Answers by status; "broken" for a connection that ended, "hangs" for an answer that did not come.
    seconds
        Of each request that was answered 200.
    until
        Of each picture, from the first try to its faces.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    until: list[float] = field(default_factory=list)


class Connection:
    """One connection that stays open, HTTP/1.1."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, body: bytes) -> tuple[str, float]:
        """Send a picture; return the status and the seconds of ``Retry-After``."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._post(body)
        except TimeoutError:
            self.close()
            return "hangs", 0.0
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.close()
            return "broken", 0.1

    async def _post(self, body: bytes) -> tuple[str, float]:
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.server.host, self.server.port)
        head = (
            f"POST /v1/analyze HTTP/1.1\r\nHost: {self.server.host}:{self.server.port}\r\n"
            f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode("ascii") + body)
        await self.writer.drain()
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        await self.reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return lines[0].split(" ")[1], float(headers.get("retry-after", 0))

    def close(self) -> None:
        """Open anew next time."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def closed_loop(server: Server, files: Sequence[bytes], clients: int, seconds: float) -> Seen:
    """Let so many clients send one picture after the other."""
    seen, end = Seen(), time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection, count, first = Connection(server), number, 0.0
        while time.perf_counter() < end:
            begin = time.perf_counter()
            first = first or begin
            status, wait = await connection.post(files[count % len(files)])
            now = time.perf_counter()
            seen.statuses[status] += 1
            if status == "200":
                seen.seconds.append(now - begin)
                seen.until.append(now - first)
                count, first = count + 1, 0.0
            elif now + wait < end:
                await asyncio.sleep(wait)
            else:
                break
        connection.close()

    await asyncio.gather(*(client(i) for i in range(clients)))
    return seen


async def open_loop(server: Server, files: Sequence[bytes], rate: float, seconds: float) -> tuple[Seen, float]:
    """Let pictures arrive at random at a rate, whatever the answers; return also how long the last answer took."""
    seen, free, tasks = Seen(), list[Connection](), list[asyncio.Task[None]]()
    chance = random.Random(0)  # noqa: S311  # when pictures arrive is no secret

    async def one(number: int) -> None:
        connection = free.pop() if free else Connection(server)
        begin = time.perf_counter()
        status, _ = await connection.post(files[number % len(files)])
        seen.statuses[status] += 1
        if status == "200":
            seen.seconds.append(time.perf_counter() - begin)
        free.append(connection)

    begin = due = time.perf_counter()
    while (due := due + chance.expovariate(rate)) < begin + seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(len(tasks))))
    last = time.perf_counter()
    await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return seen, time.perf_counter() - last


# What is printed


def percentile(values: Iterable[float], share: float) -> float:
    """Return a percentile in milliseconds; NaN of nothing."""
    held = list(values)
    return float(np.percentile(held, share)) * 1000 if held else float("nan")


def summary(seen: Seen, seconds: float) -> dict[str, Any]:
    return {
        "rate": seen.statuses["200"] / seconds,
        "p50_ms": percentile(seen.seconds, 50),
        "p99_ms": percentile(seen.seconds, 99),
        "until_p50_ms": percentile(seen.until, 50),
        "until_p99_ms": percentile(seen.until, 99),
        "statuses": dict(seen.statuses),
    }


def middle(rows: Sequence[dict[str, Any]], name: str) -> tuple[float, float, float]:
    values = [row[name] for row in rows]
    return statistics.median(values), min(values), max(values)


def line(server: str, clients: int, rows: Sequence[dict[str, Any]]) -> str:
    rate, low, high = middle(rows, "rate")
    p50, p99 = middle(rows, "p50_ms")[0], middle(rows, "p99_ms")
    until = middle(rows, "until_p99_ms")[0]
    others = Counter[str]()
    for row in rows:
        others.update({k: v for k, v in row["statuses"].items() if k != "200"})
    errors = ", ".join(f"{k}: {v}" for k, v in sorted(others.items())) or "none"
    memory = middle(rows, "peak_mb")[2]
    return (
        f"{server:6} {clients:4} clients {rate:6.1f}/s ({low:.1f} to {high:.1f})  p50 {p50:6.0f} ms  "
        f"p99 {p99[0]:6.0f} ms ({p99[1]:.0f} to {p99[2]:.0f})  with tries p99 {until:6.0f} ms  "
        f"processors {middle(rows, 'processor_ms')[0]:.0f} ms a picture  most memory {memory:4.0f} MB  "
        f"other answers {errors}"
    )


def turns(servers: Sequence[Server], files: Sequence[bytes], clients: int, options: argparse.Namespace) -> list[Any]:
    """Load the servers in turns; return one row a turn."""
    rows = []
    for repeat in range(options.repeat):
        for server in servers if repeat % 2 == 0 else servers[::-1]:
            asyncio.run(closed_loop(server, files, clients, options.warm))
            server.forget_peak()
            begin, spent = time.perf_counter(), server.processor_seconds()
            seen = asyncio.run(closed_loop(server, files, clients, options.seconds))
            row = summary(seen, time.perf_counter() - begin)
            row["processor_ms"] = (server.processor_seconds() - spent) * 1000 / max(seen.statuses["200"], 1)
            rows.append({"server": server.name, "clients": clients, "peak_mb": server.peak_mb()} | row)
    return rows


def flood(server: Server, files: Sequence[bytes], rate: float, seconds: float) -> dict[str, Any]:
    """Send pictures at a rate and see what becomes of them."""
    server.forget_peak()
    seen, drain = asyncio.run(open_loop(server, files, rate, seconds))
    row = summary(seen, seconds + drain)
    asked = sum(seen.statuses.values())
    refused = seen.statuses["429"] / max(asked, 1)
    return (
        {"server": server.name, "arrivals": rate, "asked": asked, "refused": refused, "drain_s": drain}
        | row
        | {"peak_mb": server.peak_mb()}
    )


def flood_line(row: dict[str, Any]) -> str:
    return (
        f"{row['server']:6} {row['arrivals']:6.1f} arrivals/s, {row['asked']} in all: {row['rate']:.1f}/s read, "
        f"p50 {row['p50_ms']:.0f} ms, p99 {row['p99_ms']:.0f} ms of those, {row['refused']:.0%} turned away, "
        f"the last answer {row['drain_s']:.1f} s after the last arrival, most memory {row['peak_mb']:.0f} MB, "
        f"answers {row['statuses']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", default="1,8,32,128")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--warm", type=float, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--flood", type=float, default=30, help="seconds at twice saturation; 0: none")
    parser.add_argument("--waiting", type=int, default=64, help="pictures that may wait in ours")
    parser.add_argument("--threads", type=int, default=0, help="threads of ours; 0: a processor each")
    parser.add_argument("--pictures", type=Path, help="use the JPEG files of this folder instead of two portraits")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    own = [p.read_bytes() for p in sorted(options.pictures.rglob("*.jpg"))] if options.pictures else portraits()
    files = [form(file) for file in own]
    packages = ", ".join(f"{p} {version(p)}" for p in ("fastapi", "starlette", "uvicorn"))
    sizes = sum(map(len, files)) / len(files) / 1000
    head = f"{about()}, {packages}\n{len(files)} pictures of {sizes:.0f} kB on the average"
    if not options.json:
        print(head)
    results: list[dict[str, Any]] = []
    with ExitStack() as stack:
        ours = stack.enter_context(started("ours", str(options.waiting), str(options.threads)))
        naive = stack.enter_context(started("naive"))
        for clients in map(int, options.clients.split(",")):
            rows = turns((naive, ours), files, clients, options)
            results += rows
            for server in (naive, ours):
                if not options.json:
                    print(line(server.name, clients, [r for r in rows if r["server"] == server.name]), flush=True)
        if options.flood:
            rate = 2 * max(r["rate"] for r in results if r["server"] == "ours")
            for server in (naive, ours):
                results.append(flood(server, files, rate, options.flood))
                if not options.json:
                    print(flood_line(results[-1]), flush=True)
    if options.json:
        print(json.dumps({"about": head, "results": results}))


if __name__ == "__main__":
    main()
