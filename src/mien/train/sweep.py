"""Running a sweep: every point of a plan trained in a process of its own, several at a time, resumable."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from ..errors import OptionError, ResumeError, SourceNotFoundError
from ..results.files import replacing
from .grid import BASE, PLAN, Plan, Point, plain, planned
from .recipe import read_recipe
from .runs import RECIPE, Run, flat, read_run

__all__ = ["Result", "results", "sweep"]

_LOG = "log.txt"
_GRACE = 60.0
"""Seconds that a run has to write its checkpoint when the sweep is stopped."""
_IDLE = ("name", "card")
"""Settings that make no run another."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a point; ``error`` is one line for a point that failed, empty otherwise."""

    point: Point
    run: Run | None
    error: str = ""

    @property
    def state(self) -> str:
        """The run's state; ``waiting`` for one that was not begun, ``failed`` for one that gave no run at all."""
        if self.error:
            return "failed"
        return "waiting" if self.run is None or self.run.state == "foreign" else self.run.state

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values: name, settings, state, scores of the best epoch; what is missing is None."""
        told = self.run.as_dict() if self.run else {}
        best = told.get("best") or {}
        return {
            "name": self.point.name,
            **self.point.settings,
            "state": self.state,
            "epoch": told.get("epoch"),
            "metric": best.get("metric"),
            "value": best.get("value"),
            "best_epoch": best.get("epoch"),
            **{k: v for k, v in told.get("scores", {}).items() if k.startswith("val_")},
            "parameters": told.get("facts", {}).get("parameters"),
            "seconds": told.get("seconds"),
            "error": self.error or None,
        }


Tell = Callable[[str, Result], None]
Command = Callable[[Point, Path], Sequence[str]]


def sweep(
    plan: Plan,
    data: str | Path,
    out: str | Path,
    *,
    jobs: int = 1,
    tell: Tell = lambda _what, _result: None,
    command: Command | None = None,
) -> tuple[Result, ...]:
    """Train every point of a plan that is not finished, and return what became of all, the best first.

    Each point is trained by a process of its own, ``mien train … --resume``, whose words go to ``log.txt`` in the run's
    folder. A point that is finished is left alone, one that was interrupted is resumed, one that another process is
    training is left to it, and one that fails stops no other. The results are written after each.

    Parameters
    ----------
    plan
        What to run.
    data
        What to train on.
    out
        Folder of the sweep. It may hold points of an earlier plan with the same base.
    jobs
        Runs at a time. With several, each gets its share of the cores, unless ``OMP_NUM_THREADS`` is set.
    tell
        Called with ``started`` or the state that a point ended in, and what is known of it.
    command
        Gives the command that trains a point in a folder; None: ``mien train``.

    Raises
    ------
    SourceNotFoundError
        If there is no such data.
    OptionError
        If ``jobs`` is below 1.
    ResumeError
        If the folder holds a run of another recipe or with another limit.
    KeyboardInterrupt
        If Ctrl-C or SIGTERM came; every run has been asked to write its checkpoint, and the results are written.
    """
    folder = Path(out)
    if jobs < 1:
        msg = f"{jobs} jobs: there has to be one or more"
        raise OptionError(msg)
    if not Path(data).exists():
        msg = f"{data}: no such data"
        raise SourceNotFoundError(msg)
    _check_folder(plan, folder)
    _write_plan(plan, folder)
    make = command or (lambda _point, place: _train(place, data, plan.limit))
    found = {p.name: _found(p, folder) for p in plan.points}
    waiting = deque(p for p in plan.points if found[p.name].state not in {"finished", "running"})
    for result in found.values():
        if result.state in {"finished", "running"}:
            tell(result.state, result)
    with _terminable():
        _work(waiting, found, folder, jobs, make, tell)
    return results(found.values())


def results(found: Sequence[Result] | Any) -> tuple[Result, ...]:
    """Return results the best monitored value first, those without one last."""

    def key(result: Result) -> tuple[float, str]:
        best = result.run.best if result.run else None
        if best is None or not math.isfinite(best.value):
            return math.inf, result.point.name
        return best.value if best.mode == "min" else -best.value, result.point.name

    return tuple(sorted(found, key=key))


def _check_folder(plan: Plan, folder: Path) -> None:
    if (folder / PLAN).is_file():
        before = planned(folder)
        if before.limit != plan.limit:
            msg = f"{folder} holds a sweep with --limit {before.limit}, not {plan.limit}; name another folder"
            raise ResumeError(msg)
    for point in plan.points:
        if not (folder / point.name / RECIPE).is_file():
            continue
        there = flat(plain(read_recipe(folder / point.name / RECIPE)))
        now = flat(plain(point.recipe))
        changed = [k for k in there | now if k.split(".")[0] not in _IDLE and there.get(k) != now.get(k)]
        if changed:
            told = "; ".join(f"{k} was {there.get(k)!r} and is {now.get(k)!r}" for k in changed)
            msg = f"{folder / point.name} holds a run of another recipe: {told}; name another folder with --out"
            raise ResumeError(msg)


def _write_plan(plan: Plan, folder: Path) -> None:
    told: dict[str, Any] = {"grid": plan.grid, "limit": plan.limit, "random": plan.random, "seed": plan.seed}
    told |= {"points": [p.name for p in plan.points]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in ((BASE, plain(plan.base)), (PLAN, told)):
        _write(folder / name, json.dumps(table, indent=1, ensure_ascii=False))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_results(found: Sequence[Result], folder: Path) -> None:
    rows = [r.as_dict() for r in found]
    _write(folder / "results.json", json.dumps(rows, indent=1, ensure_ascii=False))
    columns = list(dict.fromkeys(k for row in rows for k in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: json.dumps(v) if isinstance(v, list | dict) else v for k, v in row.items()})
    _write(folder / "results.csv", text.getvalue())


def _found(point: Point, folder: Path) -> Result:
    place = folder / point.name
    return Result(point, read_run(place) if place.is_dir() else None)


def _train(place: Path, data: str | Path, limit: int | None) -> list[str]:
    some = [] if limit is None else ["--limit", str(limit)]
    train = [sys.executable, "-m", "mien", "train", str(place / RECIPE), "--data", str(data)]
    return [*train, "--run", str(place), "--resume", *some]


@dataclass(frozen=True, slots=True)
class _Child:
    """A process that trains a point, and where its words begin in the log."""

    point: Point
    process: subprocess.Popen[bytes]
    begin: int


def _work(waiting: deque[Point], found: dict[str, Result], folder: Path, jobs: int, make: Command, tell: Tell) -> None:
    running: dict[str, _Child] = {}
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                point = waiting.popleft()
                running[point.name] = _start(point, folder / point.name, make, ended, jobs)
                tell("started", found[point.name])
            child = running.pop(_next(ended))
            result = _ended(child, folder / child.point.name)
            found[child.point.name] = result
            _write_results(results(found.values()), folder)
            tell(result.state, result)
    finally:
        _stop([child.process for child in running.values()])
        found |= {name: _found(child.point, folder) for name, child in running.items()}
        _write_results(results(found.values()), folder)


def _start(point: Point, place: Path, make: Command, ended: queue.SimpleQueue[str], jobs: int) -> _Child:
    place.mkdir(parents=True, exist_ok=True)
    _write(place / RECIPE, json.dumps(plain(point.recipe), indent=1, ensure_ascii=False))
    environment = dict(os.environ)
    if jobs > 1:
        environment.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // jobs, 1)))
    with (place / _LOG).open("ab") as log:
        begin = log.tell()
        process = subprocess.Popen(  # noqa: S603 - our own command
            list(make(point, place)),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C comes to the sweep alone, which then asks every run
        )

    def wait() -> None:
        process.wait()
        ended.put(point.name)

    threading.Thread(target=wait, daemon=True).start()
    return _Child(point, process, begin)


def _next(ended: queue.SimpleQueue[str]) -> str:
    while True:
        # With a limit of time, so that Ctrl-C is heard on Windows too.
        try:
            return ended.get(timeout=1.0)
        except queue.Empty:
            continue


def _ended(child: _Child, place: Path) -> Result:
    run = read_run(place)
    code = child.process.returncode
    if code == 0 and run.state == "finished":
        return Result(child.point, run)
    return Result(child.point, run, _why(run, place / _LOG, child.begin, code))


def _why(run: Run, log: Path, begin: int, code: int) -> str:
    """Return one line: what the run itself says, else its last words, else how its process ended."""
    with log.open("rb") as file:
        file.seek(begin)
        words = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    own = [w.removeprefix("mien: ") for w in words if w.startswith("mien: ")]
    if own:
        return own[-1]
    if run.state == "failed" and run.facts.get("error"):
        return str(run.facts["error"])
    how = f"killed by signal {-code}" if code < 0 else f"ended with code {code} and is {run.state}"
    return words[-1] if words and code > 0 else how


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask all to end, which lets them write a checkpoint; end those that do not hear, or all on a second Ctrl-C."""
    for process in processes:
        process.terminate()
    try:
        for process in processes:
            process.wait(_GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, so that no run outlives its sweep."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
