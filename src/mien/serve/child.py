"""The process that works on one film: ``python -m mien.serve.child``, started and watched by `mien.serve.attempt`.

Its task comes as one line of JSON on its standard input, which then stays open: when it closes, whoever wanted the
film is gone, and so is this process. What it says goes out as lines of JSON. It is told how much memory, time and disk
it may take, and gives way to other work on the machine.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import (
    DecodeError,
    MienError,
    MissingExtraError,
    ModelError,
    OptionError,
    OutputError,
    SourceError,
    TooLargeError,
    UnknownLabelError,
)
from .folders import hold

__all__ = ["main"]

_CODES: tuple[tuple[type[MienError], str], ...] = (
    (TooLargeError, "too_large"),
    (DecodeError, "not_readable"),
    (SourceError, "source"),
    (OptionError, "option"),
    (UnknownLabelError, "unknown_label"),
    (OutputError, "disk"),
    (MissingExtraError, "not_installed"),
    (ModelError, "model"),
)
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_WAITING = 30.0
"""Seconds for which the process that had the film before may take to end."""


class _Voice:
    """Says lines to whoever watches; on its own file, since a library may print."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def say(self, **values: Any) -> None:
        with self._lock:
            try:
                self._file.write(json.dumps(values) + "\n")
                self._file.flush()
            except OSError:  # nobody listens
                os._exit(1)


def main() -> int:
    """Do the task that comes on the standard input; return the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Sent to all processes of a terminal or unit; the service ends this one, and knows that it did.
        signal.signal(number, signal.SIG_IGN)
    voice = _Voice()
    task = json.loads(sys.stdin.buffer.readline())
    _tie(task["parent"])
    _confine(task["bounds"])
    folder = Path(task["folder"])
    held = hold(folder, seconds=_WAITING)
    if held is None:  # no fault of the film: it is tried again
        return 1
    try:
        _work(task, folder, voice)
    except MienError as error:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), "failed")
        voice.say(failed=code, message=_told(error, folder, task["name"]))
    except MemoryError:
        voice.say(failed="too_much_memory", message="the film takes more memory than is allowed")
    except Exception:  # noqa: BLE001  # it is told with its traceback, to the log alone
        voice.say(failed="failed", message="the service could not do this", trace=traceback.format_exc())
    else:
        voice.say(done=True)
    return 0


def _work(task: Mapping[str, Any], folder: Path, voice: _Voice) -> None:
    # Only now: what is loaded here is held within the bounds.
    from .film_work import Far, Task, analysis_of, work

    def tell(far: Far) -> None:
        voice.say(frames=far.frames, total=far.total, fraction=far.fraction)

    options, limits = task["options"], task["limits"]
    work(
        Task(
            folder=folder,
            name=task["name"],
            settings=analysis_of(task["settings"]),
            every=options["every"],
            fps=options["fps"],
            annotate=options["annotate"],
            pixels=limits["pixels"],
            frames=limits["frames"],
            seconds=limits["seconds"],
        ),
        tell,
    )


def _told(error: MienError, folder: Path, name: str) -> str:
    """Return what an error says, without the places of the server."""
    text = str(error)
    for place, called in ((folder / "film", name), (folder / "results", "the result"), (folder, name)):
        text = text.replace(f"{place}/", "").replace(str(place), called)
    return text


def _tie(parent: int) -> None:
    """End this process with the one that started it, in whichever way that ends."""

    def watch() -> None:
        # Not through sys.stdin: at its end the interpreter would wait for a reader of that.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="mien-watch", daemon=True).start()
    if sys.platform == "linux":
        # The thread cannot run while native code holds the interpreter; the kernel can.
        ctypes.CDLL(None, use_errno=True).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _confine(bounds: Mapping[str, int]) -> None:
    """Take what the service gives this process and no more."""
    try:
        import resource
    except ImportError:  # Windows has none; there, the time limit alone holds
        return
    os.nice(bounds["nice"])
    kinds = {
        "address": resource.RLIMIT_AS,
        "cpu": resource.RLIMIT_CPU,
        "file": resource.RLIMIT_FSIZE,
        "core": resource.RLIMIT_CORE,
    }
    for name, kind in kinds.items():
        highest = resource.getrlimit(kind)[1]
        value = bounds[name] if highest == resource.RLIM_INFINITY else min(bounds[name], highest)
        resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
    sys.exit(main())
