"""The table of jobs, in SQLite: what became of each film, and the queue; all that several processes share.

Every change is one transaction that says in its condition which state it starts from, so that of two processes one
changes a job and the other hears that it did not. See docs/decisions/0011-film-queue.md.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    func,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError

from ..errors import OutputError

__all__ = ["ENDED", "Ledger", "Record", "Usage"]

ENDED = ("done", "failed", "cancelled")
"""States that a job does not leave."""

_VERSION = 1
_JOBS = Table(
    "jobs",
    MetaData(),
    Column("number", Integer, primary_key=True),
    Column("id", String, unique=True, nullable=False),
    Column("owner", String, nullable=False),
    Column("name", String, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("options", JSON, nullable=False),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("expires", Float, index=True),
    Column("frames", Integer, nullable=False),
    Column("total", Integer),
    Column("fraction", Float),
    Column("rate", Float),
    Column("eta", Float),
    Column("worked", Float, nullable=False),
    Column("code", String),
    Column("message", String),
    Column("results", JSON, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("claim", String),
    sqlite_autoincrement=True,
)
_C = _JOBS.c


@dataclass(frozen=True, slots=True)
class Record:
    """One job, a row of the table.

    Attributes
    ----------
    number
        Its place in the queue; it only grows.
    id
        160 random bits; whoever does not know it cannot ask for it.
    owner
        `tokens.Caller.name` of who sent it.
    name
        What the client calls the film, for showing only.
    state
        ``receiving`` while the film comes, then ``waiting``, ``running``, and one of `ENDED`.
    options
        What was asked for.
    created, started, ended, expires
        Seconds since 1970; ``started`` is the first time, ``expires`` when everything of it is deleted.
    frames, total, fraction, rate, eta
        How far the work is: frames read, of how many, share of all work in [0, 1], frames a second, seconds to go.
    worked
        Seconds of work, of all attempts.
    code, message
        Why it failed.
    results
        Names and sizes of the files that can be fetched.
    bytes
        What lies on the disk for it, as far as it was looked.
    attempts
        How often the work was begun.
    crashes
        How often the process that did it fell over.
    claim
        Of whoever works on it; each beginning has another.
    """

    number: int
    id: str
    owner: str
    name: str
    state: str
    options: Mapping[str, Any]
    created: float
    started: float | None
    ended: float | None
    expires: float | None
    frames: int
    total: int | None
    fraction: float | None
    rate: float | None
    eta: float | None
    worked: float
    code: str | None
    message: str | None
    results: Sequence[Sequence[Any]]
    bytes: int
    attempts: int
    crashes: int
    claim: str | None


_NAMES = tuple(f.name for f in fields(Record))


def _record(row: Any) -> Record:
    return Record(**{name: row._mapping[_C[name]] for name in _NAMES})


@dataclass(frozen=True, slots=True)
class Usage:
    """What stands in the way of one more job: jobs that wait (also those still coming), jobs of one owner, bytes."""

    waiting: int
    own: int
    bytes: int


class Ledger:
    """The table of jobs; safe to use from several threads and processes.

    Raises
    ------
    OutputError
        If the file cannot be used, or is of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 30.0})
        event.listen(self._engine, "connect", _prepared)
        event.listen(self._engine, "begin", _begun)
        try:
            self._make()
        except DatabaseError as error:
            self._engine.dispose()
            msg = f"{path}: not a table of jobs that can be used ({error.orig}); move it away, a new one is made"
            raise OutputError(msg) from error

    def _make(self) -> None:
        with self._writing() as connection:
            version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            if version not in {0, _VERSION}:
                msg = f"{self.path}: a table of jobs of version {version}, this is {_VERSION}; name another --state"
                raise OutputError(msg)
            _JOBS.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._engine.execution_options(mien_writes=True).begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            yield connection

    # One job more

    def reserve(self, job: str, owner: str, size: int, now: float, *, fits: Callable[[Usage], None]) -> None:
        """Keep a place for a film of about ``size`` bytes that comes.

        ``fits`` is called with the `Usage` within the transaction and raises where there is no room.
        """
        with self._writing() as connection:
            fits(self._usage(connection, owner))
            values = {"id": job, "owner": owner, "name": "", "state": "receiving", "options": {}, "created": now}
            empty = {"frames": 0, "worked": 0.0, "results": [], "attempts": 0, "crashes": 0}
            connection.execute(_JOBS.insert().values(**values, **empty, bytes=size))

    @staticmethod
    def _usage(connection: Connection, owner: str) -> Usage:
        coming = _C.state.in_(("receiving", "waiting"))
        open_ = _C.state.in_(("receiving", "waiting", "running"))
        # Results may take about as much as the film they are made from.
        due = func.sum(_C.bytes * (1 + open_.cast(Integer)))
        waiting = connection.execute(select(func.count()).select_from(_JOBS).where(coming)).scalar_one()
        own = connection.execute(select(func.count()).select_from(_JOBS).where(open_, _C.owner == owner)).scalar_one()
        return Usage(waiting, own, int(connection.execute(select(due)).scalar_one() or 0))

    def usage(self, owner: str) -> Usage:
        """Return what stands in the way of one more job of this owner."""
        with self._reading() as connection:
            return self._usage(connection, owner)

    def submit(self, job: str, *, name: str, size: int, options: Mapping[str, Any]) -> Record | None:
        """Put a job whose film has come into the queue; None where its place is gone."""
        values = {"state": "waiting", "name": name, "bytes": size, "options": dict(options)}
        return self._changed(job, ("receiving",), None, values)

    # Reading

    def get(self, job: str) -> Record | None:
        """Return a job."""
        with self._reading() as connection:
            row = connection.execute(select(_JOBS).where(_C.id == job)).one_or_none()
        return None if row is None else _record(row)

    def find(self, *, owner: str | None = None, states: Sequence[str] = (), limit: int | None = None) -> list[Record]:
        """Return jobs, newest first: of one owner, in some states."""
        wanted = select(_JOBS).order_by(_C.number.desc()).limit(limit)
        wanted = wanted.where(_C.owner == owner) if owner is not None else wanted
        wanted = wanted.where(_C.state.in_(states)) if states else wanted
        with self._reading() as connection:
            return [_record(row) for row in connection.execute(wanted)]

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each state."""
        counted = select(_C.state, func.count()).group_by(_C.state)
        with self._reading() as connection:
            return {row[0]: row[1] for row in connection.execute(counted)}

    def expired(self, now: float) -> list[Record]:
        """Return the jobs whose time is over."""
        with self._reading() as connection:
            return [_record(row) for row in connection.execute(select(_JOBS).where(_C.expires <= now))]

    def next_expiry(self) -> float | None:
        """Return when the next job's time is over, seconds since 1970."""
        with self._reading() as connection:
            soonest: float | None = connection.execute(select(func.min(_C.expires))).scalar_one()
        return soonest

    # Work

    def claim(self, now: float) -> Record | None:
        """Take the job that waits longest; nobody else can have it."""
        first = select(_C.number).where(_C.state == "waiting").order_by(_C.number).limit(1).scalar_subquery()
        taking = (
            update(_JOBS)
            .where(_C.number == first, _C.state == "waiting")
            .values(
                state="running",
                claim=secrets.token_hex(8),
                attempts=_C.attempts + 1,
                started=func.coalesce(_C.started, now),
            )
        )
        with self._writing() as connection:
            row = connection.execute(taking.returning(_JOBS)).one_or_none()
        return None if row is None else _record(row)

    def note(self, held: Record, **values: Any) -> bool:
        """Write down how far a claimed job is; False where it is no longer held."""
        return self._changed(held.id, ("running",), held.claim, values) is not None

    def end(self, held: Record, state: str, now: float, expires: float, values: Mapping[str, Any]) -> bool:
        """End a claimed job; False where it is no longer held."""
        last = {"state": state, "claim": None, "ended": now, "expires": expires}
        return self._changed(held.id, ("running",), held.claim, {**values, **last}) is not None

    def give_back(self, held: Record, *, crashed: bool) -> bool:
        """Let a claimed job wait again."""
        values = {"state": "waiting", "claim": None, "eta": None, "rate": None, "crashes": _C.crashes + int(crashed)}
        return self._changed(held.id, ("running",), held.claim, values) is not None

    def cancel(self, job: str) -> Record | None:
        """End a job wherever it stands and forget its name; return how it stood before, None where there is none."""
        with self._writing() as connection:
            row = connection.execute(select(_JOBS).where(_C.id == job)).one_or_none()
            gone: dict[str, Any] = {
                "state": "cancelled",
                "claim": None,
                "name": "",
                "message": None,
                "results": [],
                "eta": None,
            }
            connection.execute(update(_JOBS).where(_C.id == job).values(**gone))
        return None if row is None else _record(row)

    def drop(self, job: str) -> bool:
        """Remove the row of a job whose film never came; say whether there is none now."""
        with self._writing() as connection:
            connection.execute(_JOBS.delete().where(_C.id == job, _C.state == "receiving"))
            return connection.execute(select(_C.id).where(_C.id == job)).one_or_none() is None

    def forget(self, job: str) -> None:
        """Remove the row of a job."""
        with self._writing() as connection:
            connection.execute(_JOBS.delete().where(_C.id == job))

    def weigh(self, job: str, size: int) -> None:
        """Write down what lies on the disk for a job, bytes."""
        with self._writing() as connection:
            connection.execute(update(_JOBS).where(_C.id == job).values(bytes=size))

    def _changed(self, job: str, states: Sequence[str], claim: str | None, values: Mapping[str, Any]) -> Record | None:
        changing = update(_JOBS).where(
            _C.id == job, _C.state.in_(states), _C.claim.is_(claim) if claim is None else _C.claim == claim
        )
        with self._writing() as connection:
            row = connection.execute(changing.values(**values).returning(_JOBS)).one_or_none()
        return None if row is None else _record(row)


def _prepared(connection: Any, _: object) -> None:
    """Make a connection that begins its transactions by our word alone, and loses none when the power fails."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begun(connection: Connection) -> None:
    # One that will write takes its turn now: two that only read yet and then both want to write would fail.
    writes = connection.get_execution_options().get("mien_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
