"""Face tables in files: CSV, JSON Lines and Parquet, whole or growing by the row.

What is missing is an empty cell in CSV and null in JSON Lines and Parquet. Every number reads back to the same bits.
A table of which only a part was wanted never stands under its final name: files are written beside it and renamed.
"""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from io import FileIO
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import (
    DataError,
    MienError,
    MissingExtraError,
    OptionError,
    OutputError,
    ResumeError,
    ShapeError,
    SourceNotFoundError,
)
from ..labels import LABEL_SETS, LabelSet
from .columns import ARRAYS, DERIVED, POINTS, Column, Reason, flat, flat_names, scores_column
from .faces import Faces

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FILM_NAMES",
    "Progress",
    "Sink",
    "film_rows",
    "flat_columns",
    "from_arrow",
    "read_faces",
    "to_arrow",
    "write_faces",
]

FILM_NAMES = ("frame", "faces", "expressions", "file", "boxes")
"""The header of the film layout, one row a frame."""

_CHUNK = 8192
"""Rows that are held at once when a long file is read or turned into Parquet."""

_LABELS_KEY = b"mien.labels"


# Flat columns


def flat_columns(faces: Faces) -> dict[str, NDArray[Any]]:
    """Return the flat table as arrays (N,), by name, in the order of `results.columns.flat_names`.

    Sources are names, reasons are words joined by ``|``, boxes and points are split into numbers; missing numbers are
    what `results.columns` declares (NaN, −1), missing labels are empty strings.
    """
    values: dict[str, NDArray[Any]] = {}
    for c in (*ARRAYS, scores_column(faces.labels.labels), *DERIVED):
        array = faces.expression if c.name == "scores" else getattr(faces, c.name)
        values |= dict(zip(c.names, array.reshape(len(faces), len(c.names)).T, strict=True))
    values["source"] = faces.source_names
    values["reason"] = np.array(faces.reason_words, np.str_)
    return {name: values[name] for name in flat_names(faces.labels.labels)}


def _from_flat(columns: Mapping[str, NDArray[Any]], labels: LabelSet) -> Faces:
    """Undo `flat_columns`; what is derived is left aside."""
    names = columns["source"].tolist()
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    reasons = {words: int(Reason.parse(words)) for words in set(columns["reason"].tolist())}
    arrays: dict[str, Any] = {
        "source": np.array([numbers[n] for n in names], np.int32),
        "reason": np.array([reasons[w] for w in columns["reason"].tolist()], np.uint16),
    }
    for c in (*ARRAYS, scores_column(labels.labels)):
        if c.name not in arrays:
            parts = [columns[name] for name in c.names]
            arrays[c.name] = np.stack(parts, 1).reshape(len(names), *c.shape)
    return Faces.build(len(names), sources=tuple(numbers), labels=labels, expression=arrays.pop("scores"), **arrays)


def _array(values: Sequence[Any], column: Column, parse: Callable[[Any], Any] = lambda value: value) -> NDArray[Any]:
    """Return plain values, ``None`` where missing, as the array of a flat column."""
    with _column(column.name):
        if not column.nullable and None in values:
            raise KeyError(None)
        return np.array([column.missing if v is None else parse(v) for v in values], column.dtype)


@contextmanager
def _column(name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, OverflowError, NotImplementedError) as error:
        msg = f"column {name}: {error} is not a value of that column"
        raise DataError(msg) from error


def _labels_in(names: Sequence[str], wanted: LabelSet | None, *, called: str | None = None) -> LabelSet:
    """Find the label set of a header: the labels stand between the fixed columns."""
    fixed = flat_names(())
    before, after = fixed[: fixed.index(DERIVED[0].name)], DERIVED[0].name
    lacking = [n for n in fixed if n not in names]
    if lacking:
        msg = f"not a table of faces, it lacks the columns {', '.join(lacking)}"
        raise DataError(msg)
    return _label_set(tuple(names[names.index(before[-1]) + 1 : names.index(after)]), wanted, called=called)


def _label_set(labels: tuple[str, ...], wanted: LabelSet | None, *, called: str | None = None) -> LabelSet:
    if wanted is not None:
        if wanted.labels != labels:
            msg = f"holds the labels {', '.join(labels)}, not {', '.join(wanted.labels)}"
            raise DataError(msg)
        return wanted
    known = next((s for s in LABEL_SETS.values() if s.labels == labels), None)
    return LabelSet(called, labels) if called else known or LabelSet("custom", labels)


# Arrow


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    return pyarrow


def _schema(labels: LabelSet) -> pa.Schema:
    arrow = _pyarrow()
    fields = [
        arrow.field(
            c.name,
            arrow.string() if c.dtype is np.str_ else arrow.from_numpy_dtype(c.dtype),
            nullable=c.nullable,
            metadata={"unit": c.unit, "doc": c.doc},
        )
        for c in flat(labels.labels).values()
    ]
    schema: pa.Schema = arrow.schema(fields, {_LABELS_KEY: json.dumps({"name": labels.name, "labels": labels.labels})})
    return schema


def to_arrow(faces: Faces) -> pa.Table:
    """Return a flat Arrow table: fields with unit and doc, the label set in the schema's metadata, null where missing.

    Arrow holds UTF-8 only, so the odd bytes of a file name that is something else are written out as escapes.

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    """
    arrow = _pyarrow()
    schema = _schema(faces.labels)
    columns = flat_columns(faces)
    columns["source"] = np.array([_utf8(n) for n in columns["source"].tolist()], np.str_)
    arrays = [
        arrow.array(values, schema.field(name).type, mask=flat(faces.labels.labels)[name].lacks(values))
        for name, values in columns.items()
    ]
    table: pa.Table = arrow.Table.from_arrays(arrays, schema=schema)
    return table


def _utf8(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def from_arrow(table: pa.Table, *, labels: LabelSet | None = None) -> Faces:
    """Return the faces of a flat Arrow table; further columns are left aside.

    Parameters
    ----------
    labels
        The label set that the table must have; without it, it is found from the table.

    Raises
    ------
    DataError
        If columns are missing, hold something else, or have other labels.
    """
    held = json.loads((table.schema.metadata or {}).get(_LABELS_KEY, b"{}"))
    found = _labels_in(table.column_names, labels, called=held.get("name"))
    columns = {name: _from_column(table.column(name), c) for name, c in flat(found.labels).items()}
    return _from_flat(columns, found)


def _from_column(values: pa.ChunkedArray[Any], column: Column) -> NDArray[Any]:
    if column.dtype is np.str_ or (values.null_count and not column.nullable):
        return _array(values.to_pylist(), column)
    with _column(column.name):
        filled = values.fill_null(np.asarray(column.missing, column.dtype).item())
        return filled.to_numpy().astype(column.dtype)


# Text


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


def _text(path: Path, layout: str) -> _Text:
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
def _writing(path: Path) -> Iterator[None]:
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
def _replacing(path: Path) -> Iterator[Path]:
    """Give a name beside ``path``; what was written there takes its place when all went well."""
    with _writing(path):
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
    text = _text(target, layout)
    if target.suffix.lower() == ".parquet":
        parts: Iterable[Faces] = (faces[i : i + _CHUNK] for i in range(0, len(faces), _CHUNK))
        with _replacing(target) as temporary:
            _write_parquet(temporary, parts, faces.labels)
        return
    with _replacing(target) as temporary:
        temporary.write_bytes(text.encode(text.head(faces.labels) + text.rows(faces)))


def _write_parquet(path: Path, parts: Iterable[Faces], labels: LabelSet) -> None:
    with _pyarrow().parquet.ParquetWriter(path, _schema(labels)) as writer:
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
    _text(source, "default")
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
            found = _labels_in(header, labels)
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
        columns[name] = _array(cells, c, _PARSE[np.dtype(c.dtype).kind])
    return _from_flat(columns, labels)


def _read_jsonl(path: Path, labels: LabelSet | None) -> Faces:
    parts = list(_jsonl_parts(path, labels))
    return Faces.concat(parts) if parts else Faces.empty(**({"labels": labels} if labels else {}))


def _jsonl_parts(path: Path, wanted: LabelSet | None) -> Iterator[Faces]:
    """Give the rows of a JSON Lines file in tables of some thousand rows."""
    with path.open("rb") as file:
        first = file.readline()
        if not first:
            return
        with _row(1):
            labels = tuple(json.loads(first)["scores"])
        found = _label_set(labels, wanted)
        file.seek(0)
        numbered = enumerate(file, 1)
        while lines := list(islice(numbered, _CHUNK)):
            rows = []
            for number, line in lines:
                with _row(number):
                    rows.append(_flattened(json.loads(line), found))
            yield _from_flat({n: _array([r[n] for r in rows], c) for n, c in flat(found.labels).items()}, found)


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
    pa = _pyarrow()
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


# Growing files


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a source is: its last whole frame, −1 for none, and whether all of it was written."""

    frame: int = -1
    finished: bool = False


class _Growing:
    """A file that grows by whole pieces: a piece that fails leaves nothing behind."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        # Unbuffered, since a buffer would write what failed once more when it is closed.
        self._file: FileIO = path.open("r+b" if size else "w+b", buffering=0)
        self.size = size
        self.cut(size)

    def cut(self, size: int) -> None:
        self._file.truncate(size)
        self._file.seek(size)
        self.size = size

    def add(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.size += len(piece)

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class Sink:
    """A file of faces that grows frame by frame, outlives a crash, and can be continued.

    Until `finish`, rows go to ``NAME.part.csv`` (``.part.jsonl`` for JSON Lines and Parquet), which `read_faces` reads,
    and ``NAME.progress`` says how many bytes of it are whole frames. `finish` gives the file its name and deletes the
    other two, so a file under its own name is always complete. A run that ends otherwise, even by ``kill -9``, leaves
    both, and ``resume=True`` goes on after the last whole frame: what was written later is cut off, and rows of frames
    that stand are not written again.

    Parameters
    ----------
    path
        Ends in ``.csv``, ``.jsonl`` or ``.parquet``.
    labels
        The label set of all tables that will come.
    layout
        As in `write_faces`.
    resume
        Go on with the unfinished run of this file, if there is one. Otherwise its rows are thrown away.
    settings
        What else must be the same for rows to belong together; anything that JSON can hold.

    Raises
    ------
    OptionError
        If the ending or the layout does not exist, or a label has the name of a column.
    OutputError
        If the file cannot be written; also from the other methods.
    ResumeError
        If the unfinished run had other labels, layout or settings.
    MissingExtraError
        If Parquet is asked for and pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from mien.labels import EIGHT
    >>> path = Path(tempfile.mkdtemp()) / "faces.csv"
    >>> with Sink(path, labels=EIGHT) as sink:
    ...     sink.append(Faces.missing("wall.jpg", Reason.NO_FACE))
    ...     sink.close_source("wall.jpg")
    ...     sink.finish()
    >>> len(read_faces(path))
    1
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        labels: LabelSet,
        layout: str = "default",
        resume: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self._labels = labels
        self._text = _text(self.path, layout)
        self._parquet = self.path.suffix.lower() == ".parquet"
        if self._parquet:
            _pyarrow()
        head = self._text.encode(self._text.head(labels)) if flat(labels.labels) else b""
        run = {**(settings or {}), "layout": layout, "label names": list(labels.labels)}
        self._done: dict[str, Progress] = {}
        with _writing(self.path):
            if self.path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            rows, log = self._replay(json.loads(json.dumps(run, default=str))) if resume else (0, 0)
            if not log:
                # The old log must not speak of the new rows, should the process end between the two.
                self.progress.unlink(missing_ok=True)
            with ExitStack() as opened:
                self._rows = opened.enter_context(closing(_Growing(self.part, rows)))
                self._log = opened.enter_context(closing(_Growing(self.progress, log)))
                if not log:
                    self._rows.add(head)
                    self._note({"run": run, "bytes": self._rows.size})
                opened.pop_all()
        self._before = {name: p.frame for name, p in self._done.items()}

    @property
    def part(self) -> Path:
        """Where the rows are until `finish`."""
        return self.path.with_name(f"{self.path.name}.part{self._text.ending}")

    @property
    def progress(self) -> Path:
        """Where it says how far the run is, until `finish`."""
        return self.path.with_name(f"{self.path.name}.progress")

    def done(self) -> dict[str, Progress]:
        """Return how far each source is, by its name."""
        return dict(self._done)

    def append(self, faces: Faces) -> None:
        """Add the rows of one or more whole frames; they stand when this returns, or not at all.

        Frames of one source come in order, and all rows of a frame come in one call. Rows of frames that an earlier
        run wrote are passed over.

        Raises
        ------
        ShapeError
            If the table has another label set.
        """
        if faces.labels.labels != self._labels.labels:
            raise ShapeError("labels", ", ".join(self._labels.labels), ", ".join(faces.labels.labels))
        if self._before:
            last = np.array([self._before.get(name, -1) for name in faces.sources], np.int64)
            faces = faces[faces.frame > last[faces.source]]
        frames = dict(zip(faces.source_names.tolist(), faces.frame.tolist(), strict=True))
        if not frames:
            return
        sizes = self._rows.size, self._log.size
        with _writing(self.path):
            try:
                self._rows.add(self._text.encode(self._text.rows(faces)))
                self._note({"bytes": self._rows.size, "frames": frames})
            except BaseException:
                self._rows.cut(sizes[0])
                self._log.cut(sizes[1])
                raise
        self._done |= {name: Progress(frame) for name, frame in frames.items()}

    def close_source(self, source: str) -> None:
        """Note that all rows of a source were added; this stands even if the power fails."""
        with _writing(self.path):
            self._rows.sync()
            self._note({"source": source, "finished": True})
            self._log.sync()
        self._done[source] = Progress(self._done.get(source, Progress()).frame, finished=True)

    def finish(self) -> None:
        """Give the file its name and delete what an unfinished run leaves."""
        self.close()
        with _replacing(self.path) as temporary:
            if self._parquet:
                _write_parquet(temporary, _jsonl_parts(self.part, self._labels), self._labels)
            else:
                shutil.copyfile(self.part, temporary)
        with _writing(self.path):
            self.progress.unlink()
            self.part.unlink()

    def close(self) -> None:
        """Close the files; without `finish` the run can be continued."""
        self._rows.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, entry: Mapping[str, Any]) -> None:
        self._log.add(json.dumps(entry, default=str).encode() + b"\n")

    def _replay(self, run: Mapping[str, Any]) -> tuple[int, int]:
        """Take over what an unfinished run left; return how many bytes of rows and of the log stand.

        A line of the log counts if it is whole and the rows that it speaks of are there; the first that does not
        ends the log.
        """
        if not (self.part.exists() and self.progress.exists()):
            return 0, 0
        there = self.part.stat().st_size
        rows = log = 0
        with self.progress.open("rb") as lines:
            for line in lines:
                entry = _entry(line)
                if entry is None or entry.get("bytes", 0) > there:
                    break
                if not log:
                    self._agree(entry.get("run", {}), run)
                rows, log = entry.get("bytes", rows), log + len(line)
                self._done |= {name: Progress(frame) for name, frame in entry.get("frames", {}).items()}
                if "source" in entry:
                    frame = self._done.get(entry["source"], Progress()).frame
                    self._done[entry["source"]] = Progress(frame, finished=True)
        return rows, log

    def _agree(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        other = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        if other:
            changes = ", ".join(f"{key} was {then.get(key)!r} and is now {now.get(key)!r}" for key in other)
            msg = f"{self.path}: the unfinished run is another: {changes}; use the same, or start over without resuming"
            raise ResumeError(msg)


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return a line of the log, or ``None`` if it is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
