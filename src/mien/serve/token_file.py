"""The file of the tokens: a line is added to it."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import OutputError

__all__ = ["append"]


def append(path: Path, line: str) -> None:
    """Add a line at the end of a file; one that is not there is made, readable by its owner only.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b") as file:
            file.seek(0, os.SEEK_END)
            if size := file.tell():
                file.seek(size - 1)
                line = line if file.read(1) == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
    except OSError as error:
        msg = f"the token file {path} cannot be written ({error.strerror})"
        raise OutputError(msg) from error
