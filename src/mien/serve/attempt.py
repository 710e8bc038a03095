"""One attempt at a film: a child process is started, watched, and ended when it may not go on."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from ..film.build import SETTINGS
from .folders import size_of
from .ledger import Record
from .settings import ServeSettings

__all__ = ["CHILD", "MEMORY", "Ending", "attempt"]

CHILD = (sys.executable, "-P", "-m", "mien.serve.child")
"""What works on one film."""

MEMORY = 4 * 1024**3
"""Bytes of memory that the work on one film may take."""

_ADDRESS = 24 * 1024**3
_NICE = 10
_LOOK, _NOTE, _WEIGH = 0.1, 0.5, 2.0
"""Seconds between looks at the child, notes in the table, and looks at the disk."""
_LINE = 1 << 20
_LAST = 5.0
_log = logging.getLogger("mien.serve")

_LIMITS: Mapping[str, str] = MappingProxyType(
    {
        "too_long": "the work on the film takes longer than is allowed (job_seconds); cut it, or read fewer frames",
        "too_much_memory": "the film takes more memory than is allowed; make it smaller",
        "disk": "the films and results of the service take more room than is allowed (disk_bytes); try again later",
    }
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended.

    Attributes
    ----------
    kind
        ``done``; ``failed``, which another attempt would as well; ``crashed``; ``taken`` away, as the job is no longer
        held; ``stopped`` with the service.
    code, message
        Why it failed.
    seconds
        How long it took.
    far
        How far it came: columns of the table.
    """

    kind: Literal["done", "failed", "crashed", "taken", "stopped"]
    code: str = ""
    message: str = ""
    seconds: float = 0.0
    far: Mapping[str, Any] = field(default_factory=dict)


def attempt(
    record: Record,
    folder: Path,
    settings: ServeSettings,
    *,
    note: Callable[[Mapping[str, Any]], bool],
    stopping: Callable[[], bool],
    room: Callable[[], int],
    command: Sequence[str] = CHILD,
) -> Ending:
    """Work on a film in a child process until it ends or must end.

    Parameters
    ----------
    record
        The claimed job.
    folder
        Its folder.
    settings
        Of the service.
    note
        Writes down how far the job is; False where it is no longer held.
    stopping
        Says whether the service ends.
    room
        Says how many bytes all jobs may still take.
    command
        What to start.
    """
    begun = time.monotonic()
    left = settings.limits.job_seconds - record.worked
    with subprocess.Popen(  # noqa: S603  # our own module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, cwd=folder
    ) as child:
        try:
            watch = _Watch(child, record, folder, begun, left, note=note, stopping=stopping, room=room)
            ending = watch.run(_task(record, folder, settings, left))
        finally:
            child.kill()
    return replace(ending, seconds=time.monotonic() - begun, far=watch.far)


def _task(record: Record, folder: Path, settings: ServeSettings, left: float) -> bytes:
    limits, options = settings.limits, record.options
    threads = max(1, settings.threads // limits.jobs)
    labels = options.get("labels") or settings.analysis.labels
    analysis = replace(
        settings.analysis, track=True, detect_every=SETTINGS.detect_every, labels=labels, threads=threads
    )
    return json.dumps(
        {
            "parent": os.getpid(),
            "folder": str(folder.resolve()),
            "name": record.name,
            "options": dict(options),
            "settings": analysis.as_dict(),
            "limits": {
                "pixels": limits.film_pixels,
                "frames": limits.film_frames,
                "seconds": limits.film_seconds,
            },
            "bounds": {
                "address": _ADDRESS,
                "cpu": int(left * (threads + 4)) + 1,
                "file": limits.disk_bytes,
                "core": 0,
                "nice": _NICE,
            },
        }
    ).encode()


class _Watch:
    """Watches one child."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        record: Record,
        folder: Path,
        begun: float,
        left: float,
        *,
        note: Callable[[Mapping[str, Any]], bool],
        stopping: Callable[[], bool],
        room: Callable[[], int],
    ) -> None:
        self._child, self._record, self._folder = child, record, folder
        self._begun, self._left = begun, left
        self._note, self._stopping, self._room = note, stopping, room
        self._noted = self._weighed = begun
        self._size = record.bytes
        self.far: dict[str, Any] = {}
        self._first: tuple[float, int, float] | None = None

    def run(self, task: bytes) -> Ending:
        """Give the child its task and watch until there is an end."""
        out = self._child.stdout
        assert out is not None  # noqa: S101  # a pipe was asked for
        if not self._given(task):
            return self._broken()
        held = b""
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while True:
                if (ending := self._look()) is not None:
                    return ending
                if not selector.select(_LOOK):
                    continue
                chunk = os.read(out.fileno(), 65_536)
                if not chunk or len(held) > _LINE:
                    return self._broken()
                *lines, held = (held + chunk).split(b"\n")
                for line in lines:
                    if (ending := self._heard(line)) is not None:
                        return ending

    def _broken(self) -> Ending:
        """Return what a child that fell silent died of."""
        try:
            code = self._child.wait(_LAST)
        except subprocess.TimeoutExpired:
            return Ending("crashed")
        if code in {-signal.SIGINT, -signal.SIGTERM}:  # somebody stops the whole service, who has not heard it yet
            return Ending("stopped")
        return _over("too_long") if code == -signal.SIGXCPU else Ending("crashed")

    def _given(self, task: bytes) -> bool:
        given = self._child.stdin
        assert given is not None  # noqa: S101  # a pipe was asked for
        try:
            given.write(task + b"\n")
        except OSError:  # it is gone already
            return False
        return True

    def _look(self) -> Ending | None:
        """Return why the child must end, if it must; note now and then how far it is."""
        now = time.monotonic()
        if self._stopping():
            return Ending("stopped")
        if now - self._begun > self._left:
            return _over("too_long")
        if _memory_of(self._child.pid) > MEMORY:
            return _over("too_much_memory")
        if now - self._weighed > _WEIGH:
            self._weighed, self._size = now, size_of(self._folder)
            if self._room() < 0:
                return _over("disk")
        if now - self._noted > _NOTE:
            self._noted = now
            worked = self._record.worked + now - self._begun
            if not self._note(self.far | {"worked": worked, "bytes": self._size}):
                return Ending("taken")
        return None

    def _heard(self, line: bytes) -> Ending | None:
        try:
            said = json.loads(line)
            if said.get("done"):
                return Ending("done")
            if code := said.get("failed"):
                if trace := said.get("trace"):
                    _log.error("job %s: %s", self._record.id[:8], trace)
                return Ending("failed", str(code), str(said["message"]))
            self.far = self._pace(int(said["frames"]), said["total"], said["fraction"])
        except (ValueError, TypeError, KeyError, AttributeError):  # a child that talks nonsense has lost its mind
            return Ending("crashed")
        return None

    def _pace(self, frames: int, total: int | None, fraction: float | None) -> dict[str, Any]:
        """Return how far and how fast the work is."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, frames, fraction or 0.0
        since, before, share = self._first
        spent = now - since
        values: dict[str, Any] = {"frames": frames, "total": total, "fraction": fraction}
        if spent > 0 and frames > before and (total is None or frames < total):
            values["rate"] = round((frames - before) / spent, 2)
        elif rate := self.far.get("rate"):
            values["rate"] = rate
        if spent > 0 and fraction is not None and fraction > share:
            values["eta"] = round(spent * (1 - fraction) / (fraction - share), 1)
        return values


def _over(code: str) -> Ending:
    return Ending("failed", code, _LIMITS[code])


def _memory_of(process: int) -> int:
    """Return the bytes of memory that a process takes; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
