"""A film's index on disk: a folder with a table of faces, of frames and of tracks, and what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MienError, SourceError, SourceNotFoundError
from ..labels import LabelSet
from ..results.faces import Faces
from ..results.files import writing
from ..results.table import flat_columns, from_arrow, needed_pyarrow
from .tables import (
    FACE_COLUMNS,
    FRAME_COLUMNS,
    Frames,
    Tracks,
    arrow_schema,
    as_arrays,
    as_table,
    face_columns,
    track_columns,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from .query import Found

__all__ = ["FACES", "FORMAT", "FRAMES", "MANIFEST", "TRACKS", "Index", "fingerprint"]

FORMAT = 1
"""Version of the index; another cannot be read."""

FACES, FRAMES, TRACKS, MANIFEST = "faces.parquet", "frames.parquet", "tracks.parquet", "manifest.json"

_SAMPLE = 1 << 20


def fingerprint(path: Path) -> str:
    """Return a SHA-256 over size, first and last MiB of a file: quick to check, whatever its length."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(_SAMPLE))
        file.seek(max(0, size - _SAMPLE))
        digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Index:
    """A finished index, opened for reading; its tables are plain Parquet, for pandas, Polars and DuckDB as well.

    Attributes
    ----------
    path
        The folder.
    manifest
        What the index was made from: ``film`` (name, place, bytes, sha256, fingerprint, width, height, fps, duration),
        ``labels`` (name, labels), ``settings``, ``models`` (name and sha256), ``versions``, ``counts``.
    labels
        The label set of the scores.

    Examples
    --------
    >>> index = Index.open("movie.mien")  # doctest: +SKIP
    >>> index.tracks().rows.max()  # doctest: +SKIP
    """

    path: Path
    manifest: Mapping[str, Any]
    labels: LabelSet

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open an index.

        Raises
        ------
        SourceNotFoundError
            If there is no such folder.
        DataError
            If it is no index, an unfinished one, or of another version.
        """
        folder = Path(path)
        if not folder.exists():
            msg = f"{folder}: no such index; make one with: mien film index FILM --out {folder}"
            raise SourceNotFoundError(msg)
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
            version, said = manifest["format"], manifest["labels"]
            labels = LabelSet(said["name"], tuple(said["labels"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"{folder}: {_no_index(folder)}"
            raise DataError(msg) from error
        if version != FORMAT:
            msg = f"{folder}: an index of format {version}, this version reads {FORMAT}; index the film again"
            raise DataError(msg)
        missing = [n for n in (FACES, FRAMES, TRACKS) if not (folder / n).is_file()]
        if missing:
            msg = f"{folder}: it lacks {', '.join(missing)}; index the film again"
            raise DataError(msg)
        return cls(folder, manifest, labels)

    @property
    def name(self) -> str:
        """The name of the film's file."""
        return str(self.manifest["film"]["name"])

    @property
    def faces_file(self) -> Path:
        """The face table: one row a face in the order of showing, and one for a frame without a face."""
        return self.path / FACES

    @property
    def frames_file(self) -> Path:
        """The frame table."""
        return self.path / FRAMES

    @property
    def tracks_file(self) -> Path:
        """The track table."""
        return self.path / TRACKS

    def __len__(self) -> int:
        return int(needed_pyarrow("film").parquet.read_metadata(self.faces_file).num_rows)

    def faces(self, rows: NDArray[np.integer[Any]] | None = None) -> Faces:
        """Return the face table, or some of its rows by number, in their order; only the row groups of these are read.

        Raises
        ------
        DataError
            If the table cannot be read.
        """
        return from_arrow(self._rows(rows), labels=self.labels)

    def details(self, rows: NDArray[np.integer[Any]] | None = None) -> dict[str, NDArray[Any]]:
        """Return the columns `tables.FACE_COLUMNS` of the face table, or of some of its rows, by name."""
        return as_arrays({c.name: c for c in FACE_COLUMNS}, self._rows(rows, [c.name for c in FACE_COLUMNS]))

    def frames(self) -> Frames:
        """Return the frame table."""
        columns = {c.name: c for c in FRAME_COLUMNS}
        return Frames(**as_arrays(columns, _read(self.frames_file)))

    def tracks(self) -> Tracks:
        """Return the track table."""
        arrays = as_arrays(track_columns(self.labels), _read(self.tracks_file))
        mean = np.stack([arrays.pop(label) for label in self.labels], 1)
        return Tracks(labels=self.labels, mean=mean, **arrays)

    def query(self, text: str = "", **options: Any) -> Found:
        """Find faces: ``index.query("happy >= 0.7 for 8 frames and alone", frontal=True)``.

        Parameters
        ----------
        text
            In the language of docs/query.md; empty: every face.
        **options
            As `film.query.find` takes them.

        Raises
        ------
        OptionError
            If the query cannot be understood; the message names the word and its place.
        """
        from .query import find

        return find(self, text, **options)

    def film(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Return where the film is: ``path``, or where it was when it was indexed, seen from the index.

        Raises
        ------
        SourceNotFoundError
            If it is not there.
        SourceError
            If it is not the film of this index.
        """
        said = self.manifest["film"]
        place = Path(path) if path is not None else Path(os.path.normpath(self.path.resolve() / said["place"]))
        if not place.is_file():
            msg = f"{place}: the film of {self.path} is not there; say where it is with --film"
            raise SourceNotFoundError(msg)
        try:
            same = place.stat().st_size == said["bytes"] and fingerprint(place) == said["fingerprint"]
        except OSError as error:
            msg = f"{place}: cannot be read ({error.strerror})"
            raise SourceError(msg) from error
        if not same:
            msg = f"{place}: not the film of {self.path} (its bytes differ); index it again or name another with --film"
            raise SourceError(msg)
        return place

    def _rows(self, rows: NDArray[np.integer[Any]] | None, columns: list[str] | None = None) -> pa.Table:
        if rows is None:
            return _read(self.faces_file, columns)
        with _reading(self.faces_file):
            return _taken(self.faces_file, np.asarray(rows, np.int64), columns)


def _no_index(folder: Path) -> str:
    if (folder / "parts").is_dir():
        return "an unfinished index; run the same `mien film index` again, it goes on"
    held = f"its {MANIFEST} cannot be read" if (folder / MANIFEST).exists() else f"it has no {MANIFEST}"
    return f"not an index, {held}; make one with: mien film index FILM --out FOLDER"


def _taken(path: Path, rows: NDArray[np.int64], columns: list[str] | None) -> pa.Table:
    arrow = needed_pyarrow("film")
    file = arrow.parquet.ParquetFile(path)
    sizes = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    if len(rows) and (rows.min() < 0 or rows.max() >= starts[-1]):
        msg = f"{path}: it has {starts[-1]} rows, asked for {rows.min()}…{rows.max()}"
        raise DataError(msg)
    order = np.argsort(rows, kind="stable")
    sorted_rows = rows[order]
    group = np.searchsorted(starts, sorted_rows, side="right") - 1
    parts = [
        file.read_row_group(int(g), columns=columns).take(sorted_rows[group == g] - starts[g]) for g in np.unique(group)
    ]
    table = arrow.concat_tables(parts) if parts else file.schema_arrow.empty_table()
    if columns is not None:
        table = table.select(columns)
    out: pa.Table = table.take(np.argsort(order, kind="stable"))
    return out


class _reading:  # noqa: N801 - used as a function
    """Turns what pyarrow and the system say of a broken table into one line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, MienError):
            return
        arrow = needed_pyarrow("film")
        if isinstance(error, OSError | arrow.ArrowException):
            msg = f"{self._path}: cannot be read ({str(error).partition(chr(10))[0]}); index the film again"
            raise DataError(msg) from error


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    with _reading(path):
        table: pa.Table = needed_pyarrow("film").parquet.read_table(path, columns=columns)
        return table


# Writing


def face_table(faces: Faces, details: Mapping[str, NDArray[Any]]) -> pa.Table:
    """Return rows of the face table: every column of `Faces`, and ``details`` by the names of `FACE_COLUMNS`."""
    return as_table(face_columns(faces.labels), flat_columns(faces) | dict(details), face_schema(faces.labels))


def face_schema(labels: LabelSet) -> pa.Schema:
    """Return the Arrow schema of the face table; it says the label set, as every Parquet file of faces does."""
    from ..results.table import schema

    return arrow_schema(face_columns(labels), schema(labels).metadata)


def frame_schema() -> pa.Schema:
    """Return the Arrow schema of the frame table."""
    return arrow_schema({c.name: c for c in FRAME_COLUMNS})


def frame_table(frames: Frames) -> pa.Table:
    """Return rows of the frame table."""
    columns = {c.name: c for c in FRAME_COLUMNS}
    return as_table(columns, {f.name: getattr(frames, f.name) for f in fields(frames)}, frame_schema())


def track_table(tracks: Tracks) -> pa.Table:
    """Return rows of the track table."""
    columns = track_columns(tracks.labels)
    values = {f.name: getattr(tracks, f.name) for f in fields(tracks) if f.name not in {"labels", "mean"}}
    values |= dict(zip(tracks.labels, tracks.mean.T, strict=True))
    return as_table(columns, values, arrow_schema(columns))


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, which makes an index whole; it comes last."""
    with writing(folder / MANIFEST):
        part = folder / f"{MANIFEST}.tmp"
        part.write_text(json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(folder / MANIFEST)
