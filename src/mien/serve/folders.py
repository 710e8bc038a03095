"""Folders of jobs: one for each, named by its id, that only the service's user can read; who is at work holds it."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has none; there, two processes at one folder are not told apart
    fcntl = None  # type: ignore[assignment]  # asked before it is used

__all__ = ["FILM", "INDEX", "RESULTS", "Hold", "held_new", "hold", "made", "removed", "size_of"]

FILM, INDEX, RESULTS = "film", "index", "results"
"""What lies in the folder of a job: the film, what is being worked out, what can be fetched."""

_PAUSE = 0.05


def made(path: Path) -> Path:
    """Make a folder that only its owner can read."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


class Hold:
    """A folder or file that this process alone works in, until it closes it or ends, however it ends."""

    def __init__(self, number: int) -> None:
        self._number = number

    def close(self) -> None:
        """Let others at it."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1


def hold(path: Path, *, seconds: float = 0.0) -> Hold | None:
    """Hold a folder or file; None where another process does, still after so many seconds, or where it is not there."""
    until = time.monotonic() + seconds
    try:
        number = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    while fcntl is not None:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() >= until:
                os.close(number)
                return None
            time.sleep(_PAUSE)
    return Hold(number)


def held_new(parent: Path) -> tuple[Path, Hold]:
    """Make a folder with a random name, 160 bits, and hold it."""
    while True:
        path = made(parent / secrets.token_hex(20))
        held = hold(path)
        # Whoever sweeps may have come between the two, held it first, and removed it.
        if held is not None and path.exists():
            return path, held
        if held is not None:
            held.close()


def removed(path: Path) -> bool:
    """Remove a folder and all in it; say whether it is gone."""
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def size_of(path: Path) -> int:
    """Return the bytes of all files in a folder; 0 where there is none."""
    return sum(size for _, size in _files(path))


def _files(path: Path) -> Iterator[tuple[Path, int]]:
    for folder, _, names in os.walk(path):
        for name in names:
            file = Path(folder) / name
            try:
                yield file, file.lstat().st_size
            except OSError:  # it went while we looked
                continue
