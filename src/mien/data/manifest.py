"""A list of pictures with what is known of each: the form in which sets of one's own are kept."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MissingExtraError, OptionError, ShapeError, SourceNotFoundError
from ..labels import LabelSet, canonical, found_labels
from ..results.files import replacing
from .fer2013 import csv_rows, open_parquet

__all__ = ["FORMS", "PATHS", "Manifest", "read_manifest", "write_manifest"]

FORMS = (".csv", ".jsonl", ".parquet")
PATHS = ("path", "file", "filename")
"""The columns that may name the picture; the first of them that there is."""

_UNSURE = ("unknown", "not_a_face")
_TEXTS = ("label", "person", "split")
_VOTES = "votes."


def _no_votes() -> NDArray[np.float32]:
    return np.zeros((0, 0), np.float32)


def _no_columns() -> Mapping[str, NDArray[np.str_]]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Manifest:
    """A list of pictures, not yet read, with what is known of each.

    Attributes
    ----------
    path
        (N,) str: where the picture is, relative to ``root``; with ``pictures`` only its name.
    label
        (N,) str; "" where there is none.
    person
        (N,) str: who it is; "" where not known.
    split
        (N,) str; "" where the list names none.
    votes
        (N, K + 2) float32 of at least 0: votes for the K labels of ``vote_labels``, then unknown, then not-a-face. (N,
        0) where the list has no votes.
    vote_labels
        What ``votes`` counts in; None where there are none.
    columns
        Further facts by their name, such as ``source``, ``licence`` or ``age``: (N,) str each; "" where not known.
    root
        The folder that the paths start from.
    pictures
        The bytes of the pictures, where the list holds them itself; else empty.
    problems
        One line for each picture that is known already to be of no use.

    Raises
    ------
    ShapeError
        If the columns differ in length.
    OptionError
        If a further column has a name that the list needs itself.
    """

    path: NDArray[np.str_]
    label: NDArray[np.str_]
    person: NDArray[np.str_]
    split: NDArray[np.str_]
    votes: NDArray[np.float32] = field(default_factory=_no_votes)
    vote_labels: LabelSet | None = None
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=_no_columns)
    root: Path = Path()
    pictures: tuple[bytes, ...] = ()
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.path)
        if self.vote_labels is None:
            object.__setattr__(self, "votes", np.zeros((n, 0), np.float32))
        width = len(self.vote_labels) + 2 if self.vote_labels else 0
        if self.votes.shape != (n, width):
            raise ShapeError("votes", f"({n}, {width})", self.votes.shape)
        rows = {what: getattr(self, what) for what in _TEXTS} | dict(self.columns)
        for what, column in rows.items():
            if len(column) != n:
                raise ShapeError(what, f"{n} rows, one a path", len(column))
        for name in self.columns:
            if name in {"path", "votes", "image", *_TEXTS} or name.startswith(_VOTES):
                msg = f"a further column cannot be called {name!r}, which the list has itself; rename it"
                raise OptionError(msg)

    def __len__(self) -> int:
        return len(self.path)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.integer[Any]]) -> Manifest:
        held = np.arange(len(self))[index]
        return replace(
            self,
            **{f: getattr(self, f)[held] for f in ("path", "votes", *_TEXTS)},
            columns={name: column[held] for name, column in self.columns.items()},
            pictures=tuple(self.pictures[i] for i in held.tolist()) if self.pictures else (),
        )

    @classmethod
    def concat(cls, parts: Sequence[Manifest]) -> Manifest:
        """Join several lists, one after the other; a column that only some of them have is "" in the others.

        Raises
        ------
        DataError
            If there is none, they vote for different labels, or only some hold their pictures themselves.
        """
        if len({(bool(p.pictures), p.vote_labels and p.vote_labels.labels) for p in parts}) != 1:
            msg = (
                f"{len(parts)} lists cannot be joined: all or none may hold pictures, and votes are for the same labels"
            )
            raise DataError(msg)
        names = dict.fromkeys(name for p in parts for name in p.columns)
        roots = parts[0].root if len({p.root for p in parts}) == 1 else None
        paths = [p.path if roots else [str(p.root / str(f)) for f in p.path] for p in parts]
        joined: dict[str, Any] = {f: np.concatenate([getattr(p, f) for p in parts]) for f in ("votes", *_TEXTS)}
        return replace(
            parts[0],
            path=np.concatenate(paths),
            **joined,
            columns={
                name: np.concatenate([p.columns.get(name, np.zeros(len(p), np.str_)) for p in parts]) for name in names
            },
            root=roots or Path(),
            pictures=tuple(b for p in parts for b in p.pictures),
            problems=tuple(line for p in parts for line in p.problems),
        )

    def labels(self) -> LabelSet:
        """Return the set of the labels that occur, or that are voted for where there are no labels.

        Raises
        ------
        DataError
            If there are fewer than two, or a label is not among those that are voted for.
        """
        names = sorted(set(self.label.tolist()) - {""})
        several = len({canonical(name) for name in names}) > 1
        if self.vote_labels is None and not several:
            held = f"all {len(self)} pictures are {names[0]!r}" if names else "no picture has a label"
            msg = f"{held}; at least two classes are needed"
            raise DataError(msg)
        if self.vote_labels is not None and (odd := [n for n in names if n not in self.vote_labels]):
            msg = f"the label {odd[0]!r} is none of those that are voted for ({', '.join(self.vote_labels)})"
            raise DataError(msg)
        return self.vote_labels if self.vote_labels is not None and not several else found_labels(names)


# Writing


def write_manifest(path: str | os.PathLike[str], manifest: Manifest) -> None:
    """Write a list of pictures; an existing file is replaced only when the new one is complete.

    Parameters
    ----------
    path
        Ends in ``.csv``, ``.jsonl`` or ``.parquet``. Paths in the list that are not absolute are written relative to
        its folder.
    manifest
        What to write. Pictures that the list holds itself go into Parquet only.

    Raises
    ------
    OptionError
        If the ending is none of these, or the list holds pictures and the ending is not ``.parquet``.
    DataError
        If a path or a fact is no UTF-8.
    OutputError
        If the file cannot be written.
    MissingExtraError
        If Parquet is asked for and pyarrow is not installed.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> text = lambda *words: np.array(words, np.str_)
    >>> rows = text("a.png", "b.png"), text("smile", "pout"), text("Ann", ""), text("", "")
    >>> write_manifest(folder / "mine.csv", Manifest(*rows, root=folder))
    >>> print((folder / "mine.csv").read_text())
    path,label,person,split
    a.png,smile,Ann,
    b.png,pout,,
    <BLANKLINE>
    """
    target = Path(path)
    write = _WRITERS[_form(target)]
    if manifest.pictures and target.suffix.lower() != ".parquet":
        msg = f"{target}: a list that holds its pictures is written as .parquet"
        raise OptionError(msg)
    columns = _columns(manifest, target)
    with replacing(target) as temporary:
        try:
            write(temporary, columns)
        except UnicodeEncodeError as error:
            msg = f"{target}: {error.object!a} is no UTF-8; rename it"
            raise DataError(msg) from error


def _form(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in FORMS:
        msg = f"{path}: a manifest is known by its ending, one of: {', '.join(FORMS)}"
        raise OptionError(msg)
    return ending


def _columns(manifest: Manifest, target: Path) -> dict[str, Sequence[Any]]:
    paths = manifest.path.tolist()
    if not manifest.pictures:
        paths = [_relative(manifest.root / p, target.parent) if not Path(p).is_absolute() else p for p in paths]
    columns: dict[str, Sequence[Any]] = {"path": paths}
    columns |= {what: getattr(manifest, what).tolist() for what in _TEXTS}
    columns |= {name: column.tolist() for name, column in manifest.columns.items()}
    if manifest.vote_labels:
        named = (*manifest.vote_labels, *_UNSURE)
        columns |= {f"{_VOTES}{n}": [*manifest.votes[:, i]] for i, n in enumerate(named)}
    return columns | ({"image": manifest.pictures} if manifest.pictures else {})


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def _plain(value: Any) -> str:
    return np.format_float_positional(value, trim="-") if isinstance(value, np.floating) else value


def _write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(_line(columns))
        file.writelines(_line(_plain(v) for v in row) for row in zip(*columns.values(), strict=True))


def _line(cells: Iterable[str]) -> str:
    # csv.writer does not quote a lone carriage return, on which every reader ends a row.
    return ",".join('"' + c.replace('"', '""') + '"' if set(c) & set(',"\r\n') else c for c in cells) + "\n"


def _write_jsonl(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in zip(*columns.values(), strict=True):
            record = dict(zip(columns, row, strict=True))
            votes = {k.removeprefix(_VOTES): float(_plain(v)) for k, v in record.items() if k.startswith(_VOTES)}
            told = {k: v for k, v in record.items() if not k.startswith(_VOTES)} | ({"votes": votes} if votes else {})
            file.write(json.dumps(told, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    kinds = {"image": pa.binary()} | {name: pa.float32() for name in columns if name.startswith(_VOTES)}
    pq.write_table(pa.table({n: pa.array(c, kinds.get(n, pa.string())) for n, c in columns.items()}), path)


_WRITERS: Mapping[str, Callable[[Path, Mapping[str, Sequence[Any]]], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}


# Reading


@dataclass(frozen=True, slots=True)
class _Table:
    """What stands in a file: its columns, and what each row is called."""

    columns: Mapping[str, Sequence[Any]]
    places: Sequence[str]


def read_manifest(path: str | os.PathLike[str], *, label: str = "label") -> Manifest:
    """Read a list of pictures with what is known of each.

    Parameters
    ----------
    path
        A ``.csv`` with a header, ``.jsonl`` or ``.parquet``. The columns: ``path`` (or ``file``, or ``filename``),
        relative to the file's folder, or in Parquet ``image``, the bytes of the picture; ``label``; ``person``;
        ``split``; votes, as a column ``votes.<label>`` for each label or one column ``votes`` of JSON objects
        ``{"happy": 3, "unknown": 1}``, in which ``unknown`` and ``not_a_face`` count no label. Only the path, and a
        label or votes, are required. Every other column is kept, as text.
    label
        The column that is the label.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    OptionError
        If the ending is none of these.
    DataError
        If a column is missing, or a row is damaged; the message names the line or row.
    MissingExtraError
        If it is Parquet and pyarrow is not installed.
    """
    source = Path(path)
    read = _READERS[_form(source)]
    if not source.is_file():
        msg = f"{source}: no such file"
        raise SourceNotFoundError(msg)
    table = read(source)
    if not table.places:
        msg = f"{source}: the file lists no pictures"
        raise DataError(msg)
    return _from_table(table, source, label)


def _from_table(table: _Table, source: Path, label: str) -> Manifest:
    columns = table.columns
    votes = {name for name in columns if name == "votes" or name.startswith(_VOTES)}
    blobs = columns.get("image") if all(isinstance(b, bytes) for b in columns.get("image", [""])) else None
    where = next((name for name in PATHS if name in columns), None)
    held = f"it has {', '.join(columns)}"
    if where is None and blobs is None:
        msg = f"{source}: no column path; {held}"
        raise DataError(msg)
    if label not in columns and (label != "label" or not votes):
        msg = f"{source}: no column {label} and no votes; {held}; name the column of the label, as with --attribute"
        raise DataError(msg)
    rest = [n for n in columns if n not in {where, label, "person", "split"} | votes | ({"image"} if blobs else set())]
    n = len(table.places)
    vote_labels, counts = _votes(table, votes, source)
    empty = [""] * n
    return Manifest(
        path=_texts(columns[where] if where else [f"row {i}" for i in range(n)]),
        label=_texts(columns.get(label, empty)),
        person=_texts(columns.get("person", empty)),
        split=_texts(columns.get("split", empty)),
        votes=counts,
        vote_labels=vote_labels,
        columns={_renamed(name): _texts(columns[name]) for name in rest},
        root=source.parent,
        pictures=tuple(blobs) if blobs else (),
    )


def _renamed(name: str) -> str:
    # Where another column was made the label, one that is called "label" is a fact like the others.
    return "label_column" if name == "label" else name


def _texts(values: Sequence[Any]) -> NDArray[np.str_]:
    return np.array([_text(v) for v in values], np.str_)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():  # a whole number beside missing ones, from a data frame
        return str(int(value))
    return value.strip() if isinstance(value, str) else str(value)


def _votes(table: _Table, names: set[str], source: Path) -> tuple[LabelSet | None, NDArray[np.float32]]:
    if not names:
        return None, _no_votes()
    rows = [dict(told) for told in _told(table, names, source)]
    labels = found_labels(name for row in rows for name in row if name not in _UNSURE)
    place = {name: i for i, name in enumerate((*labels, *_UNSURE))}
    counts = np.zeros((len(rows), len(place)), np.float32)
    for i, (row, where) in enumerate(zip(rows, table.places, strict=True)):
        for name, value in row.items():
            column = place[name] if name in place else labels.index(name)
            counts[i, column] += _count(value, f"{source}, {where}", name)
    return labels, counts


def _told(table: _Table, names: set[str], source: Path) -> Iterator[Mapping[str, Any]]:
    if "votes" not in names:
        order = [name for name in table.columns if name in names]
        for row in zip(*(table.columns[name] for name in order), strict=True):
            yield {name.removeprefix(_VOTES): value for name, value in zip(order, row, strict=True)}
    elif names != {"votes"}:
        msg = f"{source}: there are a column votes and columns {_VOTES}…; keep one of the two forms"
        raise DataError(msg)
    else:
        for value, where in zip(table.columns["votes"], table.places, strict=True):
            yield _object(value, f"{source}, {where}")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if value is None or value == "":
        return {}
    try:
        told = dict(json.loads(value) if isinstance(value, str) else value)
    except (ValueError, TypeError) as error:
        msg = f'{where}: votes are an object such as {{"happy": 3}}, got {value!r}'
        raise DataError(msg) from error
    return told


def _count(value: Any, where: str, name: str) -> float:
    try:
        count = float(value or 0)
    except (TypeError, ValueError):
        count = -1
    if not 0 <= count < math.inf:
        msg = f"{where}: the votes for {name!r} are {value!r}; a number of at least 0 is expected"
        raise DataError(msg)
    return count


def _read_csv(path: Path) -> _Table:
    rows = csv_rows(path)
    header = [name.strip() for name in next(rows, (1, []))[1]]
    if twice := next((name for name in header if header.count(name) > 1), None):
        msg = f"{path}: the column {twice!r} stands there twice"
        raise DataError(msg)
    cells, places = [], []
    for number, row in rows:
        if len(row) != len(header):
            msg = f"{path}, line {number}: {len(row)} fields; the header has {len(header)}"
            raise DataError(msg)
        cells.append(row)
        places.append(f"line {number}")
    return _Table(dict(zip(header, zip(*cells, strict=True), strict=True)) if cells else {}, places)


def _read_jsonl(path: Path) -> _Table:
    records, places = [], []
    with path.open(encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    places.append(f"line {number}")
                    records.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            where = places[-1] if places else "line 1"
            msg = f"{path}, {where}: not a JSON object ({error})"
            raise DataError(msg) from error
    names = dict.fromkeys(name for record in records for name in record)
    return _Table({name: [record.get(name) for record in records] for name in names}, places)


def _read_parquet(path: Path) -> _Table:
    table = open_parquet(path).read()
    columns = {name: table[name].to_pylist() for name in table.column_names}
    return _Table(columns, [f"row {i}" for i in range(len(table))])


_READERS: Mapping[str, Callable[[Path], _Table]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
