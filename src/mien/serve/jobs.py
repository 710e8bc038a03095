"""Films as jobs: a table in SQLite says what became of each and is the queue, and outlives every process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .attempt import CHILD
from .film_work import NAMES
from .folders import FILM, RESULTS, held_new, made, removed, size_of
from .ledger import ENDED, Ledger, Record, Usage
from .measure import Measures
from .problem import Problem
from .runner import Runner
from .settings import ServeSettings
from .tokens import Caller, Role

__all__ = ["ENDED", "Jobs", "Place", "Record"]

_AGAIN = 30
"""Seconds after which who was refused may ask again."""

_FREE = 256 * 1024**2
"""Bytes of the disk that films never take."""


@dataclass(frozen=True, slots=True)
class Place:
    """Room for a film that comes.

    Attributes
    ----------
    job
        The id of the job that it will be.
    folder
        Where the film is put.
    """

    job: str
    folder: Path
    _jobs: Jobs

    def submit(self, film: Path, *, name: str, options: Mapping[str, Any]) -> Record:
        """Put the film that came, a file in ``folder``, into the queue.

        Raises
        ------
        Problem
            503 if the service let the place go.
        """
        return self._jobs._submit(self, film, name, options)


class Jobs:
    """The jobs of a service; made in every process, the runner only in one.

    Parameters
    ----------
    settings
        Of the service.
    measures
        Hears of each state that a job comes into, in the process that brings it there.
    clock
        Seconds since 1970.
    command
        What works on one film.
    """

    def __init__(
        self,
        settings: ServeSettings,
        measures: Measures | None = None,
        *,
        clock: Callable[[], float] = time.time,
        command: Sequence[str] = CHILD,
    ) -> None:
        self.settings = settings
        self._measures, self._clock, self._command = measures, clock, command
        self._films = settings.state / "films"
        self._ledger: Ledger | None = None
        self._runner: Runner | None = None

    def start(self, *, run: bool) -> None:
        """Open the table; with ``run``, go on with what an earlier process left, and work.

        Of several processes that run on one state folder, one works; when it ends, another takes over.

        Raises
        ------
        OutputError
            If the table cannot be used.
        """
        made(self.settings.state)
        made(self._films)
        self._ledger = Ledger(self.settings.state / "jobs.sqlite")
        if run:
            self._runner = Runner(
                self.settings, self._ledger, self._films, clock=self._clock, told=self._told, command=self._command
            )
            self._runner.start()

    def close(self) -> None:
        """Stop working; what runs is gone on with at the next start."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None

    @property
    def open(self) -> bool:
        """The table is open."""
        return self._ledger is not None

    @property
    def _table(self) -> Ledger:
        if self._ledger is None:
            raise Problem(503, "starting", "the service does not take films now", headers={"Retry-After": "5"})
        return self._ledger

    def _told(self, state: str) -> None:
        if self._measures is not None:
            self._measures.job(state)

    # Films that come

    @contextmanager
    def place(self, caller: Caller, size: int | None) -> Iterator[Place]:
        """Keep room for a film that comes; what is not submitted within is removed.

        Parameters
        ----------
        caller
            Whose it is.
        size
            How long the body says it is, bytes.

        Raises
        ------
        Problem
            413 past ``film_bytes``, 429 past ``jobs_waiting`` or ``jobs_each``, 507 past ``disk_bytes`` or where the
            disk is full.
        """
        table, limits = self._table, self.settings.limits
        if size is not None and size > limits.film_bytes:
            message = f"the body has {size} bytes, over the limit of {limits.film_bytes} (film_bytes)"
            raise Problem(413, "too_large", message, "send a shorter or smaller film")
        # A body that does not say how long it is takes a share; it is counted when it has come.
        likely = min(limits.film_bytes, limits.disk_bytes // 8) if size is None else size
        folder, held = held_new(self._films)
        job = folder.name
        try:
            table.reserve(job, caller.name, likely, self._clock(), fits=lambda usage: self._fits(usage, likely))
            yield Place(job, folder, self)
        finally:
            if table.drop(job):
                removed(folder)
            held.close()
            if self._runner is not None:
                self._runner.wake()

    def _fits(self, usage: Usage, size: int) -> None:
        limits = self.settings.limits
        again = {"Retry-After": str(_AGAIN)}
        if usage.own >= limits.jobs_each:
            message = f"{usage.own} of your films wait or are worked on, the limit is {limits.jobs_each} (jobs_each)"
            raise Problem(429, "jobs_each", message, "wait for one to end, or delete one", headers=again)
        if usage.waiting >= limits.jobs_waiting:
            message = f"{usage.waiting} films wait, the limit is {limits.jobs_waiting} (jobs_waiting)"
            raise Problem(429, "jobs_waiting", message, "try again later", headers=again)
        if usage.bytes + 2 * size > limits.disk_bytes or shutil.disk_usage(self._films).free < 2 * size + _FREE:
            message = f"no room for a film of {size} bytes and its results (disk_bytes)"
            raise Problem(507, "disk", message, "delete films that you have fetched, or try again later")

    def _submit(self, place: Place, film: Path, name: str, options: Mapping[str, Any]) -> Record:
        target = place.folder / FILM
        film.replace(target)
        record = self._table.submit(place.job, name=name, size=target.stat().st_size, options=options)
        if record is None:
            raise Problem(503, "gone", "the service let the film go", "send it again", headers={"Retry-After": "5"})
        self._told("waiting")
        return record

    # Asking

    def get(self, job: str, caller: Caller) -> Record:
        """Return a job of this caller, or, to who may see all, any.

        Raises
        ------
        Problem
            404 where there is none, or another caller's.
        """
        record = self.look(job)
        if record is None or not (record.owner == caller.name or caller.role >= Role.ADMIN):
            raise Problem(404, "no_job", "there is no such job", "it may have been deleted; GET /v1/jobs lists yours")
        return record

    def look(self, job: str) -> Record | None:
        """Return a job as it stands, whoever's it is; None where there is none."""
        record = self._table.get(job)
        return None if record is None or record.state in {"receiving", "cancelled"} else record

    def list(self, caller: Caller, *, limit: int) -> Sequence[Record]:
        """Return the jobs of this caller, or, to who may see all, all; newest first."""
        owner = None if caller.role >= Role.ADMIN else caller.name
        return self._table.find(owner=owner, states=("waiting", "running", "done", "failed"), limit=limit)

    def result(self, job: str, caller: Caller, name: str) -> Path:
        """Return where a result of a job lies.

        Raises
        ------
        Problem
            404 where there is no such job or result.
        """
        record = self.get(job, caller)
        path = self._films / record.id / RESULTS / name
        if name not in NAMES or record.state != "done" or not path.is_file():
            message = f"job {record.state}: there is no result {name}" if name in NAMES else "there is no such result"
            raise Problem(404, "no_result", message, "the job lists its results once it is done")
        return path

    def counts(self) -> Mapping[str, int]:
        """Return how many jobs are in each state, of all processes together."""
        return self._table.counts()

    # Going

    def delete(self, job: str, caller: Caller) -> bool:
        """Stop a job if it runs, and erase all of it; say whether it is gone already.

        What runs ends within a second, where the process that works on it is alive.

        Raises
        ------
        Problem
            404 where there is none, or another caller's.
        """
        before = self._table.cancel(self.get(job, caller).id)
        if before is not None and before.state in {"waiting", "running"}:
            self._told("cancelled")
        if before is None or before.state == "running":
            if self._runner is not None:
                self._runner.wake()
            return before is None
        if removed(self._films / job):
            self._table.forget(job)
        return True

    def erased(self, job: str) -> bool:
        """Say whether nothing of a job is left."""
        return self._table.get(job) is None

    def sweep(self) -> None:
        """Delete now what is over its time or belongs to no job; the runner does so by itself."""
        if self._runner is not None:
            self._runner.sweep(all_=True)

    def stored(self) -> dict[str, int | float | None]:
        """Return what lies on the disk, as it is seen there now.

        Returns
        -------
        dict
            ``films``: films, also those still coming; ``results``: result files; ``bytes``: of all that belongs to
            jobs; ``next_deletion``: when the next results are deleted, seconds since 1970, None where none wait for it
            (a film that waits or is worked on goes when its job ends).
        """
        films = results = 0
        for folder in _inside(self._films):
            films += sum(path.is_file() for path in _inside(folder))
            results += sum((folder / RESULTS / name).is_file() for name in NAMES)
        soonest = self._ledger.next_expiry() if self._ledger is not None else None
        return {"films": films, "results": results, "bytes": size_of(self._films), "next_deletion": soonest}


def _inside(folder: Path) -> list[Path]:
    """Return what lies in a folder; nothing where it has gone meanwhile or is none."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []
