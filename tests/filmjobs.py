"""Jobs of films for tests: a real film with a face, the jobs of a folder, children that misbehave."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from films import make_film
from numpy.typing import NDArray
from serving import settings
from skimage.data import astronaut

from mien.serve.attempt import CHILD
from mien.serve.jobs import Jobs, Record
from mien.serve.tokens import Caller, Role

ANNA, BERT = Caller("anna", Role.USER), Caller("bert", Role.USER)
OPTIONS = {"every": 1, "fps": None, "labels": None, "annotate": False}


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until something holds, and return it."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not (found := holds()):
        assert time.monotonic() < end, "it took too long"
        pause.wait(0.02)
    return found


def portrait(side: int = 96) -> NDArray[np.uint8]:
    """A frame with one face."""
    return np.ascontiguousarray(astronaut()[:256, 96:352][:: 256 // side, :: 256 // side][:side, :side])


@cache
def small_film() -> bytes:
    """Two seconds with one face that does not move."""
    face = np.ascontiguousarray(astronaut()[:240, 100:340])
    with TemporaryDirectory() as folder:
        return make_film(Path(folder) / "a.mp4", [face] * 16, fps=8).read_bytes()


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextmanager
def jobs(state: Path, *, run: bool = True, command: tuple[str, ...] = CHILD, **changes: Any) -> Iterator[Jobs]:
    """Jobs of a state folder, started."""
    clock, measures = changes.pop("clock", time.time), changes.pop("measures", None)
    held = Jobs(settings(state, **changes), measures, clock=clock, command=command)
    held.start(run=run)
    try:
        yield held
    finally:
        held.close()


def send(held: Jobs, data: bytes, caller: Caller = ANNA, **options: Any) -> str:
    """Put a film into the queue, as the route does."""
    with held.place(caller, len(data)) as place:
        path = place.folder / "came"
        path.write_bytes(data)
        return place.submit(path, name="holiday.mp4", options=OPTIONS | options).id


def ended(held: Jobs, job: str, caller: Caller = ANNA) -> Record:
    """Wait until a job ends."""
    return until(lambda: (r := held.get(job, caller)).state in {"done", "failed"} and r)


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def script(path: Path, text: str) -> tuple[str, ...]:
    """A child that is not ours."""
    path.write_text(text, "utf-8")
    return sys.executable, str(path)


SLOW = """
import json, sys, time
task = json.loads(sys.stdin.readline())
print(json.dumps({"frames": 1, "total": 4, "fraction": 0.25}), flush=True)
sys.stdin.read()
"""
