"""A film that the service works on, as it tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = ["Failure", "Job", "Progress", "Result"]

_OVER = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes
    ----------
    frames
        Frames that were read.
    total
        Frames that there are; None: not known.
    fraction
        In [0, 1]; None: not known.
    frames_per_second
        Speed; None: not known yet.
    eta_seconds
        Seconds until it ends; None: not known.
    """

    frames: int = 0
    total: int | None = None
    fraction: float | None = None
    frames_per_second: float | None = None
    eta_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """A file that came of a job.

    Attributes
    ----------
    name
        ``faces.csv``, ``annotated.mp4`` and so on; what `Client.results` is asked for.
    url
        Its address below the service's.
    media_type
        As ``text/csv``.
    bytes
        Its size.
    """

    name: str
    url: str
    media_type: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed.

    Attributes
    ----------
    code
        One word for programs.
    message
        What was wrong.
    """

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """A film that was sent to the service.

    Attributes
    ----------
    id
        What the service calls it.
    state
        ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
    name
        The film's name, as it was sent.
    created, started, ended
        Times with their zone, UTC; None: not yet.
    progress
        How far it is.
    error
        Why it failed; None: it did not.
    results
        The files that can be fetched.
    expires
        When its results are deleted; None: not said.
    attempts
        How often it was begun; more than 1 where the service was restarted meanwhile.

    Examples
    --------
    >>> job = Job.read({"id": "a", "state": "running", "name": "film.mp4", "created": "2026-01-02T03:04:05Z"})
    >>> job.over, job.created.year, job.progress.frames
    (False, 2026, 0)
    """

    id: str
    state: str
    name: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    progress: Progress
    error: Failure | None
    results: tuple[Result, ...]
    expires: datetime | None
    attempts: int

    @property
    def over(self) -> bool:
        """It is done, failed or cancelled: nothing of it changes any more."""
        return self.state in _OVER

    @classmethod
    def read(cls, told: Any) -> Job:
        """Take a job from the JSON of the service; keys that this client does not know are passed over.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is something else.
        """
        if not isinstance(told, Mapping):
            msg = "not an object"
            raise TypeError(msg)
        progress = told.get("progress") or {}
        error = told.get("error")
        return cls(
            id=str(told["id"]),
            state=str(told["state"]),
            name=str(told["name"]),
            created=datetime.fromisoformat(told["created"]),
            started=_time(told.get("started")),
            ended=_time(told.get("ended")),
            progress=Progress(**{k: progress[k] for k in Progress.__slots__ if k in progress}),
            error=Failure(error["code"], error["message"]) if error else None,
            results=tuple(Result(**{k: r[k] for k in Result.__slots__}) for r in told.get("results") or ()),
            expires=_time(told.get("expires")),
            attempts=int(told.get("attempts", 0)),
        )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
