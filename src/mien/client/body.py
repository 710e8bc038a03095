"""What is sent: pictures as they are, arrays as PNG, films piece by piece."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import ShapeError, SourceError, SourceNotFoundError

__all__ = ["Body", "film", "picture", "pictures"]

_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request.

    Attributes
    ----------
    media_type
        Its Content-Type.
    length
        Bytes.
    pieces
        Gives it from the beginning, each time it is called.
    """

    media_type: str
    length: int
    pieces: Callable[[], Iterator[bytes]]


def picture(source: Any) -> bytes:
    """Return the bytes of a picture file: those of the path or the bytes given, an array as PNG.

    Raises
    ------
    SourceError
        If the file cannot be read.
    ShapeError
        If it is neither a path, nor bytes, nor an array (H, W, 3) uint8 RGB.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, str | os.PathLike):
        try:
            return Path(source).read_bytes()
        except (OSError, ValueError) as error:
            raise _unusable(source, error) from error
    if isinstance(source, np.ndarray):
        return _png(source)
    raise ShapeError("picture", "a path, bytes or an array", type(source).__name__)


def _unusable(source: Any, error: Exception) -> SourceError:
    if isinstance(error, FileNotFoundError):
        return SourceNotFoundError(f"{source}: no such file")
    return SourceError(f"{source}: cannot be read ({getattr(error, 'strerror', None) or error})")


def _png(array: np.ndarray[Any, Any]) -> bytes:
    import cv2

    from ..image import check

    # The channels in OpenCV's order; PNG keeps every bit.
    return bytes(cv2.imencode(".png", check(array)[..., ::-1])[1])


def pictures(files: Sequence[tuple[str, bytes]]) -> Body:
    """Return a form of files, each with the name it goes under; one alone goes as it is, without a name."""
    if len(files) == 1:
        data = files[0][1]
        return Body("application/octet-stream", len(data), lambda: iter((data,)))
    edge = secrets.token_hex(16)
    parts = [part for name, data in files for part in (_head(edge, "pictures", name), data, b"\r\n")]
    parts.append(_tail(edge))
    return Body(f"multipart/form-data; boundary={edge}", sum(map(len, parts)), lambda: iter(parts))


def film(source: str | os.PathLike[str] | bytes | BinaryIO, name: str | None) -> Body:
    """Return a form with one film, which is read while it is sent.

    Raises
    ------
    SourceError
        If there is no such file, or it cannot be read.
    """
    opened, size, called = _opened(source)
    edge = secrets.token_hex(16)
    head, tail = _head(edge, "film", name or called), b"\r\n" + _tail(edge)

    def pieces() -> Iterator[bytes]:
        yield head
        yield from _exactly(opened(), size, called)
        yield tail

    return Body(f"multipart/form-data; boundary={edge}", len(head) + size + len(tail), pieces)


def _opened(source: Any) -> tuple[Callable[[], Iterator[bytes]], int, str]:
    """Return what gives the pieces of a film from its beginning, its size, and its name."""
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        return lambda: iter((data,)), len(data), "film"
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            with path.open("rb") as file:
                return lambda: _of_path(path), os.fstat(file.fileno()).st_size, path.name
        except (OSError, ValueError) as error:
            raise _unusable(source, error) from error
    called = Path(str(getattr(source, "name", "film"))).name
    try:
        start = source.tell()
        size = source.seek(0, SEEK_END) - start
    except (OSError, ValueError) as error:
        raise _unusable(called, error) from error
    return lambda: _of_file(source, start, called), size, called


def _of_path(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise _unusable(path, error) from error
    with file:
        yield from _of_file(file, 0, path.name)


def _of_file(file: BinaryIO, start: int, name: str) -> Iterator[bytes]:
    try:
        file.seek(start)
        while piece := file.read(_PIECE):
            yield piece
    except OSError as error:
        raise _unusable(name, error) from error


def _exactly(pieces: Iterator[bytes], size: int, name: str) -> Iterator[bytes]:
    """Give so many bytes: what is added to a film while it is sent is left out."""
    left = size
    for piece in pieces:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return
    if left:
        msg = f"{name}: became shorter while it was sent"
        raise SourceError(msg)


def _head(edge: str, field: str, name: str) -> bytes:
    # As browsers write a name: whatever would end it is written out.
    shown = name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    lines = (
        f"--{edge}",
        f'Content-Disposition: form-data; name="{field}"; filename="{shown}"',
        "Content-Type: application/octet-stream",
    )
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace")


def _tail(edge: str) -> bytes:
    return f"--{edge}--\r\n".encode()
