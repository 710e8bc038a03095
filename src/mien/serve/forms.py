"""A form as it comes, piece by piece: fields whole, files as a stream of bytes, nothing touches the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from .problem import Problem

__all__ = ["Field", "File", "read_form"]

FIELDS = 32
"""Fields in one form, or options in one JSON body."""
FIELD_BYTES = 4096
"""Length of a field's value."""
_NAME_BYTES = 100
_PARTS = 256
_BOUNDARY = 70
_HEADERS = 8
_HEADER_BYTES = 4096
_TEXT = b"text/plain"
_PLAIN = {b"", b"binary", b"8bit", b"7bit"}


@dataclass(frozen=True, slots=True)
class File:
    """A file begins; its bytes follow.

    Attributes
    ----------
    name
        As the client gave it, maybe empty; not to be trusted.
    """

    name: bytes


@dataclass(frozen=True, slots=True)
class Field:
    """A whole field.

    Attributes
    ----------
    name, value
        Text.
    """

    name: str
    value: str


async def read_form(body: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[File | Field | bytes]:
    """Read a ``multipart/form-data`` body.

    Yields
    ------
    File or Field or bytes
        A file's bytes come after its `File`, in pieces.

    Raises
    ------
    Problem
        400 for a form that is damaged or ends early, 413 for fields that are too many or too large.
    """
    if not 0 < len(boundary) <= _BOUNDARY:
        raise _refused("form", "it names no boundary, or one over 70 bytes")
    parts = _Parts()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": parts.begin,
            "on_part_data": parts.data,
            "on_part_end": parts.end,
            "on_header_field": parts.header_name,
            "on_header_value": parts.header_value,
            "on_header_end": parts.header_end,
            "on_headers_finished": parts.headers,
            "on_end": parts.finish,
        },
    )
    async for chunk in body:
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise _refused("form", "its parts cannot be told apart") from error
        for event in parts.take():
            yield event
    if not parts.finished:
        raise _refused("form", "it ends in the middle")


def _refused(code: str, why: str) -> Problem:
    status = 400 if code == "form" else 413
    return Problem(status, code, f"the form cannot be read: {why}", "send it as multipart/form-data (RFC 7578)")


class _Parts:
    """Turns what the parser finds into events."""

    def __init__(self) -> None:
        self.finished = False
        self._events: list[File | Field | bytes] = []
        self._parts = self._fields = self._heads = 0
        self._header = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._value: bytearray | None = None

    def take(self) -> list[File | Field | bytes]:
        events, self._events = self._events, []
        return events

    def begin(self) -> None:
        self._parts += 1
        self._headers, self._heads = {}, 0
        if self._parts > _PARTS:
            raise _refused("too_many", f"it has more than {_PARTS} parts")

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._add(0, data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._add(1, data[start:end])

    def header_end(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = [b"", b""]
        self._heads += 1
        if self._heads > _HEADERS:
            raise _refused("form", f"a part has more than {_HEADERS} headers")

    def _add(self, which: int, data: bytes) -> None:
        # Newer parsers have these limits too, older ones have none.
        if len(self._header[which]) + len(data) > _HEADER_BYTES:
            raise _refused("form", f"a part has a header over {_HEADER_BYTES} bytes")
        self._header[which] += data

    def headers(self) -> None:
        how, named = parse_options_header(self._headers.get(b"content-disposition"))
        kind, _ = parse_options_header(self._headers.get(b"content-type"))
        if how != b"form-data" or b"name" not in named:
            raise _refused("form", "a part has no name")
        if self._headers.get(b"content-transfer-encoding", b"").strip().lower() not in _PLAIN:
            raise _refused("form", "a part is encoded; send its bytes as they are")
        if b"filename" in named or kind not in {b"", _TEXT}:
            self._value = None
            self._events.append(File(named.get(b"filename", b"")))
            return
        self._fields += 1
        if self._fields > FIELDS or len(named[b"name"]) > _NAME_BYTES:
            raise _refused("too_many", f"more than {FIELDS} fields, or a name over {_NAME_BYTES} bytes")
        self._name, self._value = named[b"name"].decode("utf-8", "replace"), bytearray()

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._value is None:
            self._events.append(data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > FIELD_BYTES:
            raise _refused("too_large", f"a field is over {FIELD_BYTES} bytes")

    def end(self) -> None:
        if self._value is not None:
            self._events.append(Field(self._name, self._value.decode("utf-8", "replace")))
            self._value = None

    def finish(self) -> None:
        self.finished = True
