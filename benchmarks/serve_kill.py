"""Kill -9 a server at random moments with films in work: whether every job ends, and none twice.

    python benchmarks/serve_kill.py --times 10 [--films 4] [--seconds 20] [--jobs 2]

The films are sent to ``mien serve``, which is killed after a random time, by turns alone and with its whole process
group, and started again on the same state, until all jobs have ended. Outside the service, a trigger in its database
writes down every change of every job's state. The tables are compared, byte for byte, with those of a server that
nobody killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from moving import moving_film
from scene import about

TABLES = ("faces.csv", "faces.jsonl", "faces.parquet", "frames.parquet", "tracks.parquet", "timeline.json")
ENDED = {"done", "failed", "cancelled"}
_HISTORY = """
CREATE TABLE IF NOT EXISTS history (at REAL, id TEXT, was TEXT, became TEXT, attempts INTEGER);
CREATE TRIGGER IF NOT EXISTS observed AFTER UPDATE OF state ON jobs WHEN OLD.state IS NOT NEW.state BEGIN
  INSERT INTO history VALUES (julianday('now'), NEW.id, OLD.state, NEW.state, NEW.attempts);
END;
"""


class Server:
    """A service in a process group of its own."""

    def __init__(self, state: Path, jobs: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        limits = ["--limit", f"jobs={jobs}", "--limit", "jobs_each=50"]
        command = [sys.executable, "-m", "mien", "serve", "--port", str(port), "--state", str(state)]
        begun = perf_counter()
        self.process = subprocess.Popen(
            [*command, "--purpose", "development", "--threads", "2", *limits],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait(self._up, 180)
        self.start = perf_counter() - begun

    def _up(self) -> bool:
        if self.process.poll() is not None:
            msg = f"the server ended with {self.process.returncode}"
            raise SystemExit(msg)
        try:
            return bool(self.ask("GET", "/healthz"))
        except OSError:
            return False

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Ask the service; JSON comes as values, a result as its bytes."""
        headers = {"Content-Type": "video/mp4"} if body else {}
        request = urllib.request.Request(self.address + path, body, headers, method=method)  # noqa: S310 - own server
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - own server
            data = answer.read()
        return (
            json.loads(data)
            if answer.headers["Content-Type"] == "application/json" and "/results/" not in path
            else data
        )

    def kill(self, *, group: bool) -> None:
        """Kill it, or all processes of its group."""
        if group:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()
        self.process.wait()


@contextmanager
def served(state: Path, jobs: int) -> Iterator[Server]:
    server = Server(state, jobs)
    try:
        yield server
    finally:
        server.kill(group=True)


def wait(holds: Callable[[], Any], seconds: float) -> Any:
    end = perf_counter() + seconds
    while not (found := holds()):
        if perf_counter() > end:
            msg = "it took too long"
            raise SystemExit(msg)
        sleep(0.05)
    return found


def states(state: Path) -> dict[str, tuple[str, int]]:
    with closing(sqlite3.connect(f"file:{state / 'jobs.sqlite'}?mode=ro", uri=True)) as table:
        return {row[0]: (row[1], row[2]) for row in table.execute("SELECT id, state, attempts FROM jobs")}


def observe(state: Path) -> None:
    with closing(sqlite3.connect(state / "jobs.sqlite")) as table:
        table.executescript(_HISTORY)


def all_ended(state: Path) -> bool:
    return all(s in ENDED for s, _ in states(state).values())


def results(server: Server, job: str) -> dict[str, bytes]:
    return {name: server.ask("GET", f"/v1/jobs/{job}/results/{name}") for name in TABLES}


def children_of(state: Path) -> list[int]:
    """Return the processes that work on films of this state folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"mien.serve.child" in (folder / "cmdline").read_bytes() and str(state) in str(
                (folder / "cwd").readlink()
            ):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def undisturbed(state: Path, films: list[bytes], jobs: int) -> tuple[list[dict[str, bytes]], float]:
    with served(state, jobs) as server:
        begun = perf_counter()
        sent = [server.ask("POST", "/v1/films", film)["id"] for film in films]
        wait(lambda: all_ended(state), 1800)
        seconds = perf_counter() - begun
        return [results(server, job) for job in sent], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--films", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    about()
    rng = random.Random(args.seed)  # noqa: S311 - moments, no secrets
    with tempfile.TemporaryDirectory() as folder:
        films = []
        for number in range(args.films):
            path = Path(folder) / f"{number}.mp4"
            moving_film(path, width=480, height=270, seconds=args.seconds, faces=2, seed=number)
            films.append(path.read_bytes())
        expected, seconds = undisturbed(Path(folder) / "whole", films, args.jobs)
        print(f"undisturbed: {args.films} films of {args.seconds:g} s in {seconds:.1f} s, {args.jobs} at once")
        killed(Path(folder) / "state", films, expected, seconds, args, rng)


def killed(
    state: Path,
    films: list[bytes],
    expected: list[dict[str, bytes]],
    seconds: float,
    args: argparse.Namespace,
    rng: random.Random,
) -> None:
    sent: list[str] = []
    kills = 0
    print("kill   whom  after s  up in s  running  waiting  done  orphans")
    while kills < args.times:
        server = Server(state, args.jobs)
        observe(state)
        # So that there is always work: films are sent again when too few are left.
        if not sent or sum(s not in ENDED for s, _ in states(state).values()) < args.jobs:
            sent += [server.ask("POST", "/v1/films", film)["id"] for film in films]
        wait(lambda: any(s == "running" for s, _ in states(state).values()), 180)
        moment = rng.uniform(0, 0.6 * seconds)
        sleep(moment)
        before = Counter(s for s, _ in states(state).values())
        group = bool(kills % 2)
        server.kill(group=group)
        if not before["running"]:
            continue
        kills += 1
        begun = perf_counter()
        while children_of(state) and perf_counter() - begun < 5:
            sleep(0.01)
        whom = "group" if group else "server"
        print(
            f"{kills:4d} {whom:>6} {moment:8.2f} {server.start:8.2f} {before['running']:8d} {before['waiting']:8d} "
            f"{before['done']:5d} {len(children_of(state)):8d}",
            flush=True,
        )
    with served(state, args.jobs) as server:
        wait(lambda: all_ended(state), 1800)
        told(state, server, sent, expected)


def told(state: Path, server: Server, sent: list[str], expected: list[dict[str, bytes]]) -> None:
    """Print what became of the jobs."""
    now = states(state)
    with closing(sqlite3.connect(state / "jobs.sqlite")) as table:
        history = list(table.execute("SELECT id, was, became FROM history"))
    ends = Counter(job for job, _, became in history if became in ENDED)
    interrupted = Counter(job for job, was, became in history if (was, became) == ("running", "waiting"))
    equal = [results(server, job) == expected[i % len(expected)] for i, job in enumerate(sent)]
    print(f"{'job':>4} {'state':>8} {'attempts':>9} {'interrupted':>12} {'ended':>6} {'tables':>10}")
    for number, job in enumerate(sent):
        same = "equal" if equal[number] else "DIFFERENT"
        state_, attempts = now.get(job, ("gone", 0))
        print(f"{number:4d} {state_:>8} {attempts:9d} {interrupted[job]:12d} {ends[job]:6d} {same:>10}")
    done = sum(now.get(job, ("gone", 0))[0] == "done" for job in sent)
    once = sum(ends[job] == 1 for job in sent)
    print(
        f"{len(sent)} jobs: {done} done, {once} ended exactly once, {sum(equal)} with tables equal byte for byte; "
        f"{sum(interrupted.values())} interruptions gone on with"
    )


if __name__ == "__main__":
    main()
