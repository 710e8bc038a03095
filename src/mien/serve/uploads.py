"""What comes in: files are told by their content, their names are shown and never used as paths.

Pictures stay in memory, a film is streamed to a file with a name of our own. Nothing else of a request is believed: not
its content type, not its file names, not its length before it was counted.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from ..media.source import Kind, sniff
from .fetch import fetch
from .forms import Field, File, read_form
from .inline import Given, read_json
from .names import shown
from .problem import Problem
from .settings import ServeSettings

__all__ = ["Received", "Upload", "receive_film", "receive_pictures", "unreadable"]

_HEAD = 4096
_BLOCK = 1024 * 1024
_FETCH_SECONDS = 10.0
_RAW = ("image/", "video/")
_OCTETS = "application/octet-stream"
_FORM_HINT = (
    "send a form (curl -F file=@NAME) or the bytes with their type (curl --data-binary @NAME -H 'Content-Type: …')"
)


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
    given as ``fields``. What is not a picture is refused when it came alone; among several it is given on, so that
    each can have its own answer (`unreadable`).

    Raises
    ------
    Problem
        413 past a limit, 415 for another content type or content, 422 for none, 400 for a damaged form or JSON, 403 for
        an address where none are fetched, 408 for a body that does not come, 499 where the client went away.
    """
    limits = settings.limits
    kind, options = _content_type(request)
    body = _counted(request, limits.body_bytes, "body_bytes")
    if kind == "application/json" or kind.endswith("+json"):
        whole = b"".join([chunk async for chunk in body])
        given, fields = read_json(whole, pictures=limits.pictures)
        received = Received(await _all(given, settings), fields)
    else:
        sink = _Pictures(limits.pictures)
        received = Received(*await _receive(request, body, kind, options, sink))
    if not received.uploads:
        raise Problem(422, "nothing", "no picture came", _FORM_HINT)
    if len(received.uploads) == 1 and (problem := unreadable(received.uploads[0], Kind.PICTURE)):
        raise problem
    return received


async def receive_film(request: Request, settings: ServeSettings, folder: Path) -> Received:
    """Stream one film, from a form with one file or a raw body, to a file with a name of our own in ``folder``.

    The file has mode 0600 and is removed again when anything goes wrong, also when the client goes away.

    Raises
    ------
    Problem
        413 past a limit, 415 for another content type or content, 422 for none or several, 400 for a damaged form, 408
        for a body that does not come, 507 where the disk is full, 499 where the client went away.
    """
    kind, options = _content_type(request)
    body = _counted(request, settings.limits.film_bytes, "film_bytes")
    sink = _Film(folder)
    try:
        uploads, fields = await _receive(request, body, kind, options, sink)
        if not uploads:
            raise Problem(422, "nothing", "no film came", _FORM_HINT)
    except BaseException:
        sink.drop()
        raise
    return Received(uploads, fields)


def unreadable(upload: Upload, want: Kind) -> Problem | None:
    """Return the answer to a file that is not of the kind that is wanted; None: it is."""
    if upload.kind is want:
        return None
    return _other(upload.kind, want, empty=upload.size == 0)


def _other(kind: Kind | None, want: Kind, *, empty: bool) -> Problem:
    if empty:
        return Problem(415, "empty", "the file is empty", "choose it again, or save it anew")
    if kind is Kind.FILM:
        return Problem(415, "not_a_picture", "this is a film, by its content", "send films to POST /v1/films")
    if kind is Kind.PICTURE:
        return Problem(415, "not_a_film", "this is a picture, by its content", "send pictures to POST /v1/analyze")
    if want is Kind.PICTURE:
        hint = "JPEG, PNG, WebP, BMP, TIFF and GIF are read; save it as one of these"
        return Problem(415, "not_a_picture", "the file is not a picture, by its content", hint)
    hint = "MP4, QuickTime, Matroska, WebM, AVI, MPEG and a few others are read"
    return Problem(415, "not_a_film", "the file is not a film, by its content", hint)


# The body


def _content_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", ""}:
        raise Problem(415, "encoded", "a compressed body (Content-Encoding) is not taken", "send the bytes as they are")
    kind, options = parse_options_header(request.headers.get("content-type"))
    return kind.decode("latin-1"), options


async def _counted(request: Request, limit: int, name: str) -> AsyncIterator[bytes]:
    """Give the body piece by piece, and no more of it than is allowed, whatever its header says."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
        raise _too_large(limit, name)
    came = 0
    try:
        async for chunk in request.stream():
            came += len(chunk)
            if came > limit:
                raise _too_large(limit, name)
            if chunk:
                yield chunk
    except ClientDisconnect as gone:
        raise Problem(499, "gone", "the client went away") from gone


def _too_large(limit: int, name: str) -> Problem:
    hint = f"send less at once; whoever runs the service can raise {name}"
    return Problem(413, "too_large", f"the body is over the limit of {limit} bytes ({name})", hint)


async def _receive(
    request: Request, body: AsyncIterator[bytes], kind: str, options: Mapping[bytes, bytes], sink: _Sink
) -> tuple[tuple[Upload, ...], dict[str, str]]:
    fields: dict[str, str] = {}
    if kind == "multipart/form-data":
        async for event in read_form(body, options.get(b"boundary", b"")):
            if isinstance(event, File):
                await sink.begin(event.name)
            elif isinstance(event, Field):
                fields[event.name] = event.value
            else:
                await sink.write(event)
    elif not kind or kind == _OCTETS or kind.startswith(_RAW):
        _, named = parse_options_header(request.headers.get("content-disposition"))
        await sink.begin(named.get(b"filename", b""))
        async for chunk in body:
            await sink.write(chunk)
    else:
        raise Problem(415, "content_type", "the body has a type that is not taken here", _FORM_HINT)
    return await sink.finish(), fields


async def _all(given: Sequence[Given], settings: ServeSettings) -> tuple[Upload, ...]:
    """Fetch what is only named, all of it together within the limits of one request."""
    uploads: list[Upload] = []
    room, until = settings.limits.body_bytes, time.monotonic() + settings.limits.seconds
    for each in given:
        data = each.data
        if each.url is not None:
            left = max(0.0, until - time.monotonic())
            data = await fetch(each.url, settings, most=room, seconds=min(_FETCH_SECONDS, left))
            room -= len(data)
        uploads.append(Upload(shown(each.name, "picture"), sniff(data[:_HEAD]), len(data), data))
    return tuple(uploads)


# Where the files go


class _Sink(Protocol):
    async def begin(self, name: bytes) -> None:
        """Begin a file with the name that the client gave it."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes of the file."""

    async def finish(self) -> tuple[Upload, ...]:
        """Return the files."""


class _Pictures:
    """Keeps files in memory."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.files: list[tuple[bytes, bytearray]] = []

    async def begin(self, name: bytes) -> None:
        if len(self.files) == self.most:
            hint = "send the others in another request"
            raise Problem(413, "too_many", f"more than {self.most} pictures in one request (pictures)", hint)
        self.files.append((name, bytearray()))

    async def write(self, data: bytes) -> None:
        self.files[-1][1].extend(data)

    async def finish(self) -> tuple[Upload, ...]:
        # A form whose file was not chosen brings a file without a name and without bytes.
        return tuple(
            Upload(shown(name, "picture"), sniff(bytes(data[:_HEAD])), len(data), bytes(data))
            for name, data in self.files
            if name or data
        )


class _Film:
    """Streams one file to the disk, once its first bytes say that it is a film."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / secrets.token_hex(16)
        self.name: bytes | None = None
        self.held = bytearray()
        self.size = 0
        self.made = False

    async def begin(self, name: bytes) -> None:
        if self.name is not None and self.size + len(self.held) == 0 and not self.name:
            self.name = None  # the file of a form that was not chosen
        if self.name is not None:
            raise Problem(422, "too_many", "more than one film in one request", "send each film in its own request")
        self.name = name

    async def write(self, data: bytes) -> None:
        self.held += data
        if not self.made and len(self.held) >= _HEAD:
            self._make()
        if len(self.held) >= _BLOCK:
            await self._flush()

    async def finish(self) -> tuple[Upload, ...]:
        if self.name is None or not (self.name or self.held or self.size):
            return ()
        if not self.made:
            self._make()
        await self._flush()
        return (Upload(shown(self.name, "film"), Kind.FILM, self.size, path=self.path),)

    def drop(self) -> None:
        """Leave nothing behind."""
        self.path.unlink(missing_ok=True)

    def _make(self) -> None:
        if (kind := sniff(bytes(self.held[:_HEAD]))) is not Kind.FILM:
            raise _other(kind, Kind.FILM, empty=not self.held)
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise _disk() from error
        self.made = True

    async def _flush(self) -> None:
        block, self.held = self.held, bytearray()
        try:
            await asyncio.to_thread(_append, self.path, block)
        except OSError as error:
            raise _disk() from error
        self.size += len(block)


def _append(path: Path, block: bytearray) -> None:
    # Opened anew for each block: a request that is cancelled meanwhile leaves its thread behind, which must neither
    # write to a file number that has become another's nor make the file again.
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(file, rest) :]
    finally:
        os.close(file)


def _disk() -> Problem:
    return Problem(
        507, "disk", "the service cannot store the film", "try again later; whoever runs it: is the disk full?"
    )
