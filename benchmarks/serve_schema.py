"""Ask a running service ten thousand things that schemathesis thinks up from its OpenAPI document.

The real command with the real models answers, in another process, with a token. Rounds go on until the cases are there
or the time is over; what was counted stands in a file after every round, and the same call goes on with it.

    python benchmarks/serve_schema.py [--cases 10000] [--minutes 15] [--counts schema-counts.json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

from scene import about

from mien.client import Client
from mien.errors import ServiceError
from mien.serve.start import bind
from mien.serve.tokens import Role, make_token

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import schemarun
from schemarun import Tally

ROUND = 60
"""Seconds of one run of schemathesis."""
FREE = 5
"""Each so many-th round asks a service without a fixed purpose."""


@contextmanager
def served(folder: Path, *more: str) -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    """Run ``mien serve`` with a token; give its address, the token and the process."""
    token, line = make_token("root", Role.ADMIN)
    folder.mkdir()
    tokens = folder / "tokens.txt"
    tokens.write_text(line, encoding="utf-8")
    tokens.chmod(0o600)
    with bind("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mien", "serve", "--port", str(port), "--token-file", str(tokens)]
    command += [*more, "--state", str(folder / "state"), "--limit", "jobs_each=2", "--limit", "idle_seconds=5s"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        with Client(address, token=token) as service:
            end = monotonic() + 60
            while True:
                with suppress(ServiceError):
                    service.health()
                    break
                assert process.poll() is None, (folder / "log.txt").read_text(encoding="utf-8")
                assert monotonic() < end, "the service does not answer"
        yield address, token, process
    finally:
        process.terminate()
        process.wait(60)


def memory(process: subprocess.Popen[bytes]) -> float:
    """MB of memory that the process takes, where the system tells."""
    status = Path(f"/proc/{process.pid}/status")
    text = status.read_text(encoding="ascii") if status.exists() else ""
    return next((int(line.split()[1]) / 1000 for line in text.splitlines() if line.startswith("VmRSS")), float("nan"))


def load(path: Path) -> tuple[int, Tally]:
    """Return how many rounds were counted, and what."""
    if not path.exists():
        return 0, Tally()
    held = json.loads(path.read_text(encoding="utf-8"))
    answers = Counter({(o, s): n for o, s, n in held["answers"]})
    return held["rounds"], Tally(Counter(held["cases"]), answers, Counter(held["checks"]), held["failures"])


def save(path: Path, rounds: int, tally: Tally) -> None:
    """Write the counts."""
    answers = [[o, s, n] for (o, s), n in sorted(tally.answers.items())]
    told = {"rounds": rounds, "cases": tally.cases, "answers": answers, "checks": tally.checks}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(told | {"failures": tally.failures}, indent=1), encoding="utf-8")
    partial.replace(path)


def add(tally: Tally, more: Tally) -> None:
    """Add the counts of another round."""
    tally.cases += more.cases
    tally.answers += more.answers
    tally.checks += more.checks
    tally.failures |= more.failures


def show(tally: Tally, rounds: int) -> None:
    """Print what was counted."""
    methods = {"GET", "POST", "DELETE"}
    named = {o: n for o, n in tally.cases.items() if o.split()[0] in methods and n > rounds}
    print(f"\n{tally.total} cases in {rounds} rounds; by operation:")
    for operation, count in sorted(named.items(), key=lambda item: -item[1]):
        statuses = {s: n for (o, s), n in sorted(tally.answers.items()) if o == operation}
        print(f"  {count:6d}  {operation:42s} {' '.join(f'{s}×{n}' for s, n in statuses.items())}")
    print(f"  {tally.total - sum(named.values()):6d}  other methods")
    print("statuses:", " ".join(f"{s}×{n}" for s, n in sorted(tally.statuses.items())))
    print("checks:", ", ".join(f"{name} {count}" for name, count in tally.checks.most_common()))
    print("left out:", ", ".join(sorted(schemarun.LEFT_OUT)))
    broken = sum(n for s, n in tally.statuses.items() if s >= 500 or s == 0)
    print(f"no answer or 5xx: {broken}; kinds of failure: {len(tally.failures)}")
    for key, text in tally.failures.items():
        print(f"\n{key}\n{text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--counts", type=Path, default=Path("schema-counts.json"))
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(about())
    rounds, tally = load(asked.counts)
    end = monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory(prefix="mien-") as name:
        folder = Path(name)
        # Where a purpose is fixed, it cannot be declared; where it is not, one case takes it away from all that follow.
        with (
            served(folder / "fixed", "--purpose", "development") as (address, token, process),
            served(folder / "free") as (other, other_token, _),
        ):
            begun = memory(process)
            while tally.total < asked.cases and (left := end - monotonic()) > ROUND / 4:
                rounds += 1
                there = (other, other_token) if rounds % FREE == 0 else (address, token)
                seconds = round(min(ROUND, left))
                add(tally, schemarun.run(*there, folder, seed=rounds, examples=60, seconds=seconds, workers=4))
                save(asked.counts, rounds, tally)
                print(f"round {rounds}: {tally.total} cases, {memory(process):.0f} MB", flush=True)
            print(f"memory of the service: {begun:.0f} MB at the start, {memory(process):.0f} MB at the end")
            assert process.poll() is None, "the service ended"
        logs = [p.read_text(encoding="utf-8", errors="replace") for p in folder.glob("*/log.txt")]
        print(f"tracebacks in the logs of the services: {sum(log.count('Traceback') for log in logs)}")
    show(tally, rounds)


if __name__ == "__main__":
    main()
