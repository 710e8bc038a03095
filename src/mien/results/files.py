"""Face tables in files: CSV, JSON Lines and Parquet, whole or growing by the row.

What is missing is an empty cell in CSV and null in JSON Lines and Parquet. Every number reads back to the same bits.
A table of which only a part was wanted never stands under its final name: files are written beside it and renamed.
"""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import (
    DataError,
    MienError,
    MissingExtraError,
    OptionError,
    OutputError,
    SourceNotFoundError,
)
from ..labels import LabelSet
from .columns import ARRAYS, DERIVED, POINTS, flat, flat_names, scores_column
from .faces import Faces
from .table import as_array, flat_columns, from_arrow, from_flat, known_set, labels_in, needed_pyarrow, schema, to_arrow

if TYPE_CHECKING:
    pass

__all__ = [
    "FILM_NAMES",
    "film_rows",
    "jsonl_parts",
    "line_form",
    "read_faces",
    "replacing",
    "write_faces",
    "write_parquet",
    "writing",
]

FILM_NAMES = ("frame", "faces", "expressions", "file", "boxes")
"""The header of the film layout, one row a frame."""

_CHUNK = 8192
"""Rows that are held at once when a long file is read or turned into Parquet."""


def _line(cells: Iterable[str]) -> str:
    # csv.writer does not quote a lone carriage return, on which every reader ends a row.
    return ",".join('"' + c.replace('"', '""') + '"' if set(c) & set(',"\r\n') else c for c in cells) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _csv_rows(faces: Faces) -> str:
    columns = flat_columns(faces)
    listed = [c.plain(columns[name], exact=True) for name, c in flat(faces.labels.labels).items()]
    return "".join(_line(map(_cell, row)) for row in zip(*listed, strict=True))


def _json_rows(faces: Faces) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in faces.records(exact=True))


def film_rows(faces: Faces) -> list[tuple[str, ...]]:
    """Return one row a frame, in the columns `FILM_NAMES`, all text.

    ``frame`` is the frame's number in its source, from 0; ``faces`` how many faces it shows, also where that is 0;
    ``expressions`` the label of each face, ``?`` where none is named, joined by ``|``; ``file`` the source; ``boxes``
    the ``x1 y1 x2 y2`` of each face in pixels, joined by ``|``.

    >>> from mien.results import Reason
    >>> film_rows(Faces.missing("clip.mp4", Reason.NO_FACE, frame=7))
    [('7', '0', '', 'clip.mp4', '')]
    """
    frames: dict[tuple[str, int], list[tuple[str, str]]] = {}
    boxes = next(c for c in ARRAYS if c.name == "box").plain(faces.box, exact=True)
    columns = (faces.source_names.tolist(), faces.frame.tolist(), faces.found.tolist(), faces.top.tolist(), boxes)
    for source, frame, found, top, box in zip(*columns, strict=True):
        held = frames.setdefault((source, frame), [])
        if found:
            held.append((top or "?", " ".join(map(_cell, box or []))))
    return [
        (str(frame), str(len(held)), "|".join(t for t, _ in held), source, "|".join(b for _, b in held))
        for (source, frame), held in frames.items()
    ]


@dataclass(frozen=True, slots=True)
class _Text:
    """How rows become lines: the ending of such a file, its header, its rows, what becomes of a name's odd bytes."""

    ending: str
    head: Callable[[LabelSet], str]
    rows: Callable[[Faces], str]
    odd: str

    def encode(self, text: str) -> bytes:
        return text.encode("utf-8", self.odd)


_CSV = _Text(".csv", lambda labels: _line(flat_names(labels.labels)), _csv_rows, "surrogateescape")
_FILM = _Text(".csv", lambda _: _line(FILM_NAMES), lambda f: "".join(map(_line, film_rows(f))), "surrogateescape")
# In JSON, the backslash that replaces an odd byte is just how JSON spells it, so it reads back.
_JSONL = _Text(".jsonl", lambda _: "", _json_rows, "backslashreplace")
_ENDINGS = {".csv": _CSV, ".jsonl": _JSONL, ".parquet": _JSONL}
"""The text of each kind of file; a Parquet file that grows is JSON Lines until it is finished."""
_LAYOUTS = ("default", "film")


def line_form(path: Path, layout: str) -> _Text:
    """Return how rows become lines in a file of this ending and layout; Parquet grows as JSON Lines."""
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        msg = f"{path}: a table is written by its ending, one of: {', '.join(_ENDINGS)}"
        raise OptionError(msg)
    if layout not in _LAYOUTS:
        msg = f"unknown layout {layout!r}; choose one of: {', '.join(_LAYOUTS)}"
        raise OptionError(msg)
    if layout == "film" and ending != ".csv":
        msg = f"{path}: the film layout is for .csv only; choose that ending, or the default layout"
        raise OptionError(msg)
    return _FILM if layout == "film" else _ENDINGS[ending]


# Writing


_ADVICE = {
    errno.ENOENT: "its folder does not exist; make the folder first",
    errno.ENOTDIR: "a part of its path is a file; choose another folder",
    errno.EISDIR: "it is a folder; name a file",
    errno.EACCES: "no permission; choose another folder",
    errno.EPERM: "no permission; choose another folder",
    errno.EROFS: "the disk is read-only; choose another",
    errno.ENOSPC: "the disk is full; make room, then go on",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's errors into one line that names the file which the user asked for."""
    try:
        yield
    except MienError:
        raise
    except OSError as error:
        why = _ADVICE.get(error.errno or 0, error.strerror or str(error))
        msg = f"{path}: cannot be written: {why}"
        raise OutputError(msg) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside ``path``; what was written there takes its place when all went well."""
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_faces(path: str | os.PathLike[str], faces: Faces, *, layout: str = "default") -> None:
    """Write a table; an existing file is replaced only when the new one is complete.

    Parameters
    ----------
    path
        Ends in ``.csv``, ``.jsonl`` or ``.parquet``.
    faces
        The rows, in any order.
    layout
        ``"default"``, one row a face, or ``"film"``, one row a frame (`film_rows`), for ``.csv`` only.

    Raises
    ------
    OptionError
        If the ending or the layout is none of these.
    OutputError
        If the file cannot be written.
    MissingExtraError
        If Parquet is asked for and pyarrow is not installed.
    """
    target = Path(path)
    text = line_form(target, layout)
    if target.suffix.lower() == ".parquet":
        parts: Iterable[Faces] = (faces[i : i + _CHUNK] for i in range(0, len(faces), _CHUNK))
        with replacing(target) as temporary:
            write_parquet(temporary, parts, faces.labels)
        return
    with replacing(target) as temporary:
        temporary.write_bytes(text.encode(text.head(faces.labels) + text.rows(faces)))


def write_parquet(path: Path, parts: Iterable[Faces], labels: LabelSet) -> None:
    """Write tables one after the other as the row groups of one file."""
    with needed_pyarrow().parquet.ParquetWriter(path, schema(labels)) as writer:
        for part in parts:
            writer.write_table(to_arrow(part))


# Reading


def read_faces(path: str | os.PathLike[str], *, labels: LabelSet | None = None) -> Faces:
    """Read a table that `write_faces` or a `Sink` wrote, in the default layout.

    Parameters
    ----------
    path
        Ends in ``.csv``, ``.jsonl`` or ``.parquet``.
    labels
        The label set that the file must have. Without it, it is found by the labels in the file; a set that mien does
        not know is called ``"custom"`` when it comes from text, and a JSON Lines file without rows has the set
        ``eight``.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    OptionError
        If the ending is none of these.
    DataError
        If it is not such a table; the message names the line or the column.
    """
    source = Path(path)
    line_form(source, "default")
    if not source.is_file():
        msg = f"{source}: no such file"
        raise SourceNotFoundError(msg)
    try:
        return _READERS[source.suffix.lower()](source, labels)
    except MienError as error:
        if isinstance(error, MissingExtraError):
            raise
        msg = f"{source}: {error}"
        raise DataError(msg) from error


_BOOLS = {"true": True, "false": False}
_PARSE: Mapping[str, Callable[[str], Any]] = {"f": float, "i": int, "b": lambda t: _BOOLS[t.lower()], "U": str}


def _read_csv(path: Path, labels: LabelSet | None) -> Faces:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = csv.reader(file, strict=True)
        try:
            header = next(rows, [])
            if tuple(header) == FILM_NAMES:
                msg = "is in the film layout, which does not hold every column; write the default layout"
                raise DataError(msg)
            found = labels_in(header, labels)
            parts = [Faces.empty(labels=found)]
            while chunk := list(islice(rows, _CHUNK)):
                parts.append(_parsed(header, chunk, found, before=rows.line_num))
        except csv.Error as error:
            msg = f"line {rows.line_num}: {error}"
            raise DataError(msg) from error
    return Faces.concat(parts)


def _parsed(header: Sequence[str], rows: list[list[str]], labels: LabelSet, *, before: int) -> Faces:
    if any(len(row) != len(header) for row in rows):
        msg = f"a row before line {before + 1} does not have {len(header)} cells as the header has"
        raise DataError(msg)
    texts = dict(zip(header, zip(*rows, strict=True), strict=True))
    columns = {}
    for name, c in flat(labels.labels).items():
        cells = [t if t or not c.nullable else None for t in texts[name]]
        columns[name] = as_array(cells, c, _PARSE[np.dtype(c.dtype).kind])
    return from_flat(columns, labels)


def _read_jsonl(path: Path, labels: LabelSet | None) -> Faces:
    parts = list(jsonl_parts(path, labels))
    return Faces.concat(parts) if parts else Faces.empty(**({"labels": labels} if labels else {}))


def jsonl_parts(path: Path, wanted: LabelSet | None) -> Iterator[Faces]:
    """Give the rows of a JSON Lines file in tables of some thousand rows."""
    with path.open("rb") as file:
        first = file.readline()
        if not first:
            return
        with _row(1):
            labels = tuple(json.loads(first)["scores"])
        found = known_set(labels, wanted)
        file.seek(0)
        numbered = enumerate(file, 1)
        while lines := list(islice(numbered, _CHUNK)):
            rows = []
            for number, line in lines:
                with _row(number):
                    rows.append(_flattened(json.loads(line), found))
            yield from_flat({n: as_array([r[n] for r in rows], c) for n, c in flat(found.labels).items()}, found)


@contextmanager
def _row(number: int) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"line {number}: not the row of a table of faces ({error!r})"
        raise DataError(msg) from error


def _flattened(record: Mapping[str, Any], labels: LabelSet) -> dict[str, Any]:
    """Return the parts of a record by their flat names."""
    row: dict[str, Any] = {}
    for c in (*ARRAYS, scores_column(labels.labels), *DERIVED):
        value = record[c.key]
        if not c.shape:
            row[c.key] = value
            continue
        if isinstance(value, dict):
            value = [value[key] for key in (POINTS if c.name == "points" else c.names)]
        parts = np.array([None] * len(c.names) if value is None else value, object).ravel().tolist()
        row |= zip(c.names, parts, strict=True)
    row["reason"] = "|".join(row["reason"])
    return row


def _read_parquet(path: Path, labels: LabelSet | None) -> Faces:
    pa = needed_pyarrow()
    try:
        return from_arrow(pa.parquet.read_table(path), labels=labels)
    except (pa.ArrowException, ValueError, TypeError) as error:
        first = str(error).partition("\n")[0]
        msg = first if isinstance(error, MienError) else f"not a Parquet file of faces ({first})"
        raise DataError(msg) from error


_READERS: Mapping[str, Callable[[Path, LabelSet | None], Faces]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
