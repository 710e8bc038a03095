"""What a start of `mien serve` costs: seconds to readiness and to the first faces, memory, what the imports take."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep

import cv2
from scene import about, frames

STARTS = 7
PICTURES = 200
_PARTS = ("numpy", "cv2", "onnxruntime", "fastapi", "mien.pipeline.analyzer", "mien.serve.app", "mien.serve.process")
_LATE = ("duckdb", "pyarrow", "segno", "cryptography", "matplotlib")
_IMPORTS = f"""
import importlib, sys, time
for name in sys.argv[1:]:
    begun, spent = time.perf_counter(), time.process_time()
    importlib.import_module(name)
    print(name, time.perf_counter() - begun, time.process_time() - spent)
print("loaded", *[name for name in {_LATE!r} if name in sys.modules])
"""

# As it is for an installed package, whatever the shell says of bytecode.
_BYTECODE = tempfile.TemporaryDirectory()
_ENVIRON = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {
    "PYTHONPYCACHEPREFIX": _BYTECODE.name
}


@contextmanager
def started(state: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], int, float]]:
    """Start the command; give the process, its port, and the seconds until it was ready."""
    port = _free_port()
    begun = perf_counter()
    words = ("--port", str(port), "--state", str(state), "--purpose", "development", *options)
    process = subprocess.Popen([sys.executable, "-m", "mien", "serve", *words], stderr=subprocess.DEVNULL, env=_ENVIRON)
    try:
        while _status(port, "/readyz") != 200:
            assert process.poll() is None
            sleep(0.005)
        yield process, port, perf_counter() - begun
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def spent(process: int) -> float:
    """Return the seconds of processors that a process has taken since its start."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _status(port: int, path: str) -> int:
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        wire.request("GET", path)
        return wire.getresponse().status
    except OSError:
        return 0
    finally:
        wire.close()


def analyze(port: int, data: bytes) -> int:
    """Send one picture; return how many faces were found."""
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    wire.request("POST", "/v1/analyze", data, {"Content-Type": "image/jpeg"})
    answer = wire.getresponse()
    body = json.loads(answer.read())
    wire.close()
    assert answer.status == 200, body
    return len(body["pictures"][0]["faces"])


def memory(process: int) -> dict[str, float]:
    """Return MB of a process and its children: resident, and that which is theirs alone."""
    total = {"Rss": 0.0, "Pss": 0.0}
    for number in [process, *_children(process)]:
        text = Path(f"/proc/{number}/smaps_rollup").read_text(encoding="ascii")
        for name in total:
            total[name] += int(text.partition(f"{name}:")[2].split()[0]) / 1000
    return total


def _children(of: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == of:
            found += [int(folder.name), *_children(int(folder.name))]
    return found


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} s [{min(values):.2f}–{max(values):.2f}]"


def imports() -> None:
    """Print what each part of the imports takes, in the order in which it is loaded; medians of five processes."""
    runs = []
    for _ in range(6):
        told = subprocess.run(
            [sys.executable, "-c", _IMPORTS, *_PARTS], check=True, capture_output=True, text=True, env=_ENVIRON
        )
        runs.append([line.split() for line in told.stdout.splitlines()])
    for i, name in enumerate(_PARTS):
        wall, worked = (statistics.median(float(run[i][k]) for run in runs[1:]) for k in (1, 2))
        print(f"  import {name:24} {wall:.3f} s, {worked:.3f} s of the processor")
    print(f"  loaded though not needed yet: {', '.join(runs[0][-1][1:]) or 'nothing'} of {', '.join(_LATE)}")


def starts(data: bytes) -> None:
    """Print seconds of cold starts: each a new process with a new state; the files are in the cache of the disk."""
    ready, first, taken = list[float](), list[float](), list[float]()
    for i in range(STARTS + 1):
        with tempfile.TemporaryDirectory() as state, started(Path(state)) as (process, port, seconds):
            processor, begun = spent(process.pid), perf_counter()
            assert analyze(port, data) == 1
            if i:  # the first one warms the cache of the disk
                ready.append(seconds)
                taken.append(processor)
                first.append(seconds + perf_counter() - begun)
    print(f"mien serve to the first 200 of /readyz, {STARTS} starts: {spread(ready)}")
    print(f"  of which the processor worked                       {spread(taken)}")
    print(f"mien serve to the faces of a first 640×480 picture:   {spread(first)}")


def sizes(data: bytes) -> None:
    """Print memory, idle and after many pictures, of one process and of two workers."""
    for options in ((), ("--workers", "2")):
        with tempfile.TemporaryDirectory() as state, started(Path(state), *options) as (process, port, _):
            idle = memory(process.pid)
            threads = [threading.Thread(target=_some, args=(port, data, PICTURES // 8)) for _ in range(8)]
            begun = perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rate = PICTURES / (perf_counter() - begun)
            after = memory(process.pid)
        what = f"{options[1]} workers and their parent" if options else "one process"
        print(
            f"{what}: {idle['Rss']:.0f} MB resident when idle ({idle['Pss']:.0f} MB with shared pages shared out), "
            f"{after['Rss']:.0f} MB ({after['Pss']:.0f} MB) after {PICTURES} pictures, 8 clients, {rate:.0f} a second"
        )


def _some(port: int, data: bytes, number: int) -> None:
    for _ in range(number):
        analyze(port, data)


def main() -> None:
    print(about())
    data = cv2.imencode(".jpg", next(frames(640, 480, 1))[..., ::-1])[1].tobytes()
    imports()
    starts(data)
    sizes(data)


if __name__ == "__main__":
    main()
