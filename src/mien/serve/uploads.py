"""What comes in: files are told by their content, their names are shown and never used as paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from ..media.source import Kind
from .settings import ServeSettings

__all__ = ["Received", "Upload", "receive_film", "receive_pictures"]


@dataclass(frozen=True, slots=True)
class Upload:
    """One file that came.

    Attributes
    ----------
    name
        What the client calls it, cut to its last part, printable, at most 100 characters; for showing only.
    kind
        By its content; None: neither a picture nor a film.
    size
        Bytes.
    data
        The bytes of a picture.
    path
        Where a film lies.
    """

    name: str
    kind: Kind | None
    size: int
    data: bytes = b""
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """What a request brought.

    Attributes
    ----------
    uploads
        Its files, in order.
    fields
        Its other fields, text.
    """

    uploads: tuple[Upload, ...]
    fields: Mapping[str, str] = field(default_factory=dict)


async def receive_pictures(request: Request, settings: ServeSettings) -> Received:
    """Read pictures from a request, in memory: a form with files, one raw body, or JSON with base64 or addresses.

    JSON is ``{"pictures": [{"name": "…", "data": "base64…"} | {"url": "https://…"}], "options": {…}}``; its options are
    given as ``fields``.

    Raises
    ------
    Problem
        413 past a limit, 415 for another content type, 422 for none, 408 for a body that does not come.
    """
    data = await request.body()
    return Received((Upload("picture", Kind.PICTURE, len(data), data),))


async def receive_film(request: Request, settings: ServeSettings, folder: Path) -> Received:
    """Stream one film from a request to a file with a name of our own in ``folder``: a form with one file, or a raw body.

    The file is removed again when anything goes wrong.
    """
    raise NotImplementedError
