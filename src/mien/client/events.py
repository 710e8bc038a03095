"""Server-sent events: read line by line, gone on with where the connection broke."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPResponse

from ..errors import ServiceError
from .job import Job
from .wire import Wire, gone

__all__ = ["events"]

_LINE = 1024 * 1024
_PAUSE = 1.0


def events(wire: Wire, path: str, patience: float) -> Iterator[Job]:
    """Give a job each time the service tells of it, until it is over.

    Parameters
    ----------
    wire
        The way to the service.
    path
        Where its events are.
    patience
        Seconds for which a service that does not answer is asked again, since the last news.

    Raises
    ------
    ServiceError
        If there is no such job, or the service stays away.
    """
    silent = 0.0
    while True:
        lost: ServiceError | None = None
        try:
            for job in _once(wire, path):
                silent = 0.0
                yield job
                if job.over:
                    return
        except ServiceError as error:
            if error.status is not None or error.code == "certificate":
                raise
            lost = error
        if silent >= patience:
            raise lost or wire.strange("the events ended before the job")
        wire.pause(_PAUSE)
        silent += _PAUSE


def _once(wire: Wire, path: str) -> Iterator[Job]:
    with wire.open("GET", path, headers={"Accept": "text/event-stream"}) as answer:
        try:
            for data in _data(answer):
                try:
                    job = Job.read(json.loads(data))
                except (ValueError, KeyError, TypeError) as error:
                    msg = "an event is no job"
                    raise wire.strange(msg) from error
                yield job
        except gone as error:
            raise wire.lost(error) from error


def _data(answer: HTTPResponse) -> Iterator[str]:
    """Give the data of each event (WHATWG HTML, 9.2.6: an empty line ends it, a colon begins a comment)."""
    held: list[str] = []
    while line := answer.readline(_LINE):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text.startswith("data:"):
            held.append(text[5:].removeprefix(" "))
        elif not text and held:
            yield "\n".join(held)
            held = []
