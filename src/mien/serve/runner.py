"""Works on the films that wait, and deletes what is over its time: one thread in one process of the service."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .attempt import CHILD, Ending, attempt
from .film_work import NAMES
from .folders import FILM, INDEX, RESULTS, Hold, hold, removed, size_of
from .ledger import ENDED, Ledger, Record
from .settings import ServeSettings

__all__ = ["CRASHES", "Runner"]

CRASHES = 2
"""How often a job whose process fell over is tried again."""

_PAUSE, _SWEEP = 0.25, 60.0
_CRASHED = (
    "crashed",
    f"the work on the film broke down {CRASHES + 1} times; the file may be damaged, convert it and send it again",
)
_log = logging.getLogger("mien.serve")


class Runner:
    """Works on the jobs of a state folder; of several, one works and the others stand by.

    Parameters
    ----------
    settings
        Of the service.
    ledger
        The table of jobs.
    films
        The folder with a folder for each job.
    clock
        Seconds since 1970.
    told
        Hears of each state that a job comes into.
    command
        What works on one film.
    """

    def __init__(
        self,
        settings: ServeSettings,
        ledger: Ledger,
        films: Path,
        *,
        clock: Callable[[], float],
        told: Callable[[str], None],
        command: Sequence[str] = CHILD,
    ) -> None:
        self._settings, self._ledger, self._films = settings, ledger, films
        self._clock, self._told, self._command = clock, told, command
        self._closing, self._wake = threading.Event(), threading.Event()
        self._working: dict[str, threading.Thread] = {}
        self._held: Hold | None = None
        self._swept = float("-inf")
        self._thread = threading.Thread(target=self._run, name="mien-films", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def close(self) -> None:
        """Stop; films in work are given back to the queue and go on where they were."""
        self._closing.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        for thread in list(self._working.values()):
            thread.join()
        if self._held is not None:
            self._held.close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if self._first():
                    self._turn()
            except Exception:  # noqa: BLE001  # a full disk may have room again; without this thread nothing is done
                _log.exception("the queue of films cannot be worked on")
            self._wake.wait(_PAUSE)
            self._wake.clear()

    def _first(self) -> bool:
        """Be the one that works on this state folder, unless another process is."""
        if self._held is None:
            self._held = hold(self._films)
        return self._held is not None

    def _turn(self) -> None:
        self._working = {job: thread for job, thread in self._working.items() if thread.is_alive()}
        for left in self._ledger.find(states=("running",)):
            # Whoever worked on it is gone: an earlier process, or a thread that could not write down its end.
            if left.id not in self._working and self._ledger.give_back(left, crashed=False):
                _log.info("job %s is gone on with", left.id[:8])
        self.sweep()
        while len(self._working) < self._settings.limits.jobs and not self._closing.is_set():
            record = self._ledger.claim(self._clock())
            if record is None:
                return
            self._told("running")
            thread = threading.Thread(target=self._work, args=(record,), name=f"mien-film-{record.number}")
            self._working[record.id] = thread
            thread.start()

    # One film

    def _work(self, record: Record) -> None:
        try:
            ending = attempt(
                record,
                self._films / record.id,
                self._settings,
                note=lambda values: self._ledger.note(record, **values),
                stopping=self._closing.is_set,
                room=self._room,
                command=self._command,
            )
            self._end(record, ending)
        except Exception:  # noqa: BLE001  # see below
            # Whatever it was: the job must not stand in the table as running for ever.
            _log.exception("job %s", record.id[:8])
            self._end(record, Ending("crashed"))
        finally:
            self._wake.set()

    def _room(self) -> int:
        return self._settings.limits.disk_bytes - size_of(self._films)

    def _end(self, record: Record, ending: Ending) -> None:
        far = {**ending.far, "worked": record.worked + ending.seconds}
        if ending.kind == "taken":
            return
        if ending.kind == "stopped":
            self._ledger.note(record, **far)
            self._ledger.give_back(record, crashed=False)
        elif ending.kind == "crashed" and record.crashes < CRASHES:
            self._ledger.note(record, **far)
            self._ledger.give_back(record, crashed=True)
            _log.warning("job %s: its process broke down, it is tried again", record.id[:8])
        elif ending.kind == "done":
            self._done(record, far)
        else:
            crashed = ending.kind == "crashed"
            code, message = _CRASHED if crashed else (ending.code, ending.message)
            self._failed(record, far | {"code": code, "message": message, "crashes": record.crashes + crashed})

    def _done(self, record: Record, far: Mapping[str, Any]) -> None:
        folder = self._films / record.id
        results = [[n, (folder / RESULTS / n).stat().st_size] for n in NAMES if (folder / RESULTS / n).is_file()]
        removed(folder / INDEX)
        self._finish(record, "done", {**far, "fraction": 1.0, "results": results})
        if not self._settings.keep:
            (folder / FILM).unlink(missing_ok=True)
        self._ledger.weigh(record.id, size_of(folder))

    def _failed(self, record: Record, values: Mapping[str, Any]) -> None:
        if self._finish(record, "failed", values):
            removed(self._films / record.id)
            self._ledger.weigh(record.id, 0)

    def _finish(self, record: Record, state: str, values: Mapping[str, Any]) -> bool:
        now, keep = self._clock(), self._settings.keep or self._settings.limits.hand_over
        ended = self._ledger.end(record, state, now, now + keep, {**values, "eta": None})
        if ended:
            self._told(state)
        return ended

    # What goes

    def sweep(self, *, all_: bool = False) -> None:
        """Delete what is over its time or was cancelled; now and then, what belongs to no job."""
        now = self._clock()
        gone = [*self._ledger.expired(now), *self._ledger.find(states=("cancelled",))]
        for record in gone:
            self.erase(record.id)
        if all_ or not 0 <= now - self._swept < _SWEEP:
            self._swept = now
            self._strays()

    def erase(self, job: str) -> bool:
        """Remove all of a job that nobody works on; say whether it is gone."""
        if job in self._working and self._working[job].is_alive():
            return False
        if not removed(self._films / job):
            return False
        self._ledger.forget(job)
        return True

    def _strays(self) -> None:
        """Remove what a process left that ended in the middle; who still works in a folder holds it."""
        known: Mapping[str, Record] = {r.id: r for r in self._ledger.find()}
        for path in self._films.iterdir():
            record = known.get(path.name)
            if record is None or record.state == "receiving":
                self._stray(path)
            elif record.state in ENDED:
                self._settled(path, record)
        for job, record in known.items():
            if record.state == "receiving" and not (self._films / job).exists():
                self._ledger.drop(job)

    def _stray(self, path: Path) -> None:
        held = hold(path)
        if held is None:
            return
        try:
            # Between our look at the table and now it may have become a job.
            if self._ledger.drop(path.name) and not (path.is_dir() and not removed(path)):
                path.unlink(missing_ok=True)
        finally:
            held.close()

    def _settled(self, path: Path, record: Record) -> None:
        """Remove what a job that ended needs no more."""
        removed(path / INDEX)
        if record.state == "failed":
            removed(path)
        elif not self._settings.keep:
            (path / FILM).unlink(missing_ok=True)
