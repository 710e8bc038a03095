"""Servers for the benchmarks, each a process of its own: ours, and the one that everybody writes first.

    python benchmarks/served.py naive|ours [waiting]

It prints its address and ends with its standard input.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes
    ----------
    name
        Which one.
    host, port
        Where.
    pid
        Its process.
    """

    name: str
    host: str
    port: int
    pid: int

    def forget_peak(self) -> None:
        """Let the peak of its memory begin anew; Linux only."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def processor_seconds(self) -> float:
        """Return the seconds of processors that it took since it was started."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_mb(self) -> float:
        """Return the most memory that it held since then."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
        raise LookupError(self.pid)


@contextmanager
def started(name: str, *options: str) -> Iterator[Server]:
    """Run a server until the block ends."""
    command = [sys.executable, __file__, name, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().strip().removeprefix("http://").rsplit(":", 1)
        try:
            yield Server(name, host, int(port), process.pid)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def naive() -> None:
    """One model call a request, in the thread that FastAPI gives it; no queue, no limit, no batch."""
    import uvicorn
    from fastapi import FastAPI, UploadFile

    import mien
    from mien.serve.start import bind

    app = FastAPI()

    @app.post("/v1/analyze")
    def analyze(picture: UploadFile) -> list[dict[str, Any]]:
        return mien.analyze(picture.file.read()).records()

    taken = bind("127.0.0.1", 0)
    print(f"http://127.0.0.1:{taken.getsockname()[1]}", flush=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))

    def end() -> None:
        sys.stdin.read()
        server.should_exit = True

    Thread(target=end, daemon=True).start()
    server.run([taken])


def ours(waiting: str = "64", threads: str = "0") -> None:
    """Run the service as it is."""
    from mien.serve.settings import Limits, ServeSettings
    from mien.serve.start import running
    from mien.zoo.session import usable_cpus

    with tempfile.TemporaryDirectory(prefix="mien-bench-") as folder:
        settings = ServeSettings(
            port=0,
            state=Path(folder),
            purpose="development",
            limits=Limits(waiting=int(waiting)),
            threads=int(threads) or usable_cpus(),
        )
        with running(settings, run=False) as address:
            print(address, flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    {"naive": naive, "ours": ours}[sys.argv[1]](*sys.argv[2:])
