"""An index while it grows: parts of some hundred frames, each whole or not there, and how they become the tables."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from ..errors import DataError, OutputError, ResumeError
from ..labels import LabelSet
from ..results.faces import Faces
from ..results.files import replacing, writing
from ..results.table import from_arrow, needed_pyarrow
from .index import (
    FACES,
    FORMAT,
    FRAMES,
    MANIFEST,
    TRACKS,
    Index,
    face_schema,
    face_table,
    frame_schema,
    frame_table,
    track_table,
    write_manifest,
)
from .sums import TrackSums
from .tables import FACE_COLUMNS, Frames, as_arrays

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Parts", "Point", "TableFile"]

ROW_GROUP = 122_880
"""Rows of a row group, as DuckDB likes them."""

_RUN, _LOCK = "run.json", "lock"


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run can go on: after the last frame of the last whole part.

    Attributes
    ----------
    part
        Number of parts that are whole.
    ordinal
        Frames that they hold.
    frame
        Number of the last of them in the film, -1 for none.
    finished
        The film ended there.
    glanced, taken
        What the follower knew.
    landmark
        How to find the frame again without decoding all before it; None where that is not known.
    """

    part: int = 0
    ordinal: int = 0
    frame: int = -1
    finished: bool = False
    glanced: Mapping[str, Any] = field(default_factory=dict)
    taken: Mapping[str, Any] = field(default_factory=dict)
    landmark: Mapping[str, Any] | None = None


class Parts:
    """The folder of an index that is being made; one process at a time.

    Parameters
    ----------
    folder
        Where the index will be.
    run
        All that decides what it holds, ready for JSON.
    labels
        The label set of the scores.
    restart
        Throw away what is there.

    Attributes
    ----------
    index : Index or None
        The finished index, where it is there already.
    point : Point
        Where to go on.

    Raises
    ------
    ResumeError
        If what is there was made from something else, or another process is at it.
    OutputError
        If the folder cannot be written, or holds other things.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], *, labels: LabelSet, restart: bool = False) -> None:
        self.folder, self.labels = folder, labels
        self._run = json.loads(json.dumps(run))
        self._parts = folder / "parts"
        _own(folder)
        with writing(folder):
            self._parts.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self._parts / _LOCK, folder)
        try:
            if restart:
                self._clear()
            self.index = self._finished()
            self.point = Point() if self.index else self._begun()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another process at it."""
        self._lock.close()

    def _clear(self) -> None:
        with writing(self.folder):
            for name in (MANIFEST, FACES, FRAMES, TRACKS):
                (self.folder / name).unlink(missing_ok=True)
            for file in self._parts.iterdir():
                if file.name != _LOCK:
                    file.unlink()

    def _finished(self) -> Index | None:
        if not (self.folder / MANIFEST).exists():
            return None
        index = Index.open(self.folder)
        _agree(self.folder, index.manifest, self._run)
        self._sweep()
        return index

    def _begun(self) -> Point:
        """Return where to go on; what is not whole is removed."""
        with writing(self.folder):
            for stray in self.folder.glob("*.tmp"):
                stray.unlink()
            said = self._parts / _RUN
            if not said.exists():
                _atomic(said, json.dumps(self._run, sort_keys=True))
                return Point()
            _agree(self.folder, _loaded(said), self._run)
            states = sorted(self._parts.glob("*.state.json"))
            for file in self._parts.iterdir():
                if file.suffix == ".tmp" or file.name.partition(".")[0] not in {
                    _RUN.partition(".")[0],
                    _LOCK,
                    *(s.name.partition(".")[0] for s in states),
                }:
                    file.unlink()
        return Point(**_loaded(states[-1])) if states else Point()

    def write(self, faces: Faces, details: Mapping[str, NDArray[Any]], frames: Frames, point: Point) -> None:
        """Add a part; it counts from the moment in which its state has its name."""
        name = f"{point.part - 1:06d}"
        arrow = needed_pyarrow("film")
        with writing(self.folder):
            for kind, table in (("faces", face_table(faces, details)), ("frames", frame_table(frames))):
                file = self._parts / f"{name}.{kind}.parquet"
                arrow.parquet.write_table(table, file, **_encoded(table.schema))
                _sync(file)
            _atomic(self._parts / f"{name}.state.json", json.dumps(asdict(point)))
        self.point = point

    def finish(self, film: Mapping[str, Any]) -> Index:
        """Join the parts into the tables, write the manifest, and remove the parts."""
        numbers = range(self.point.part)
        sums = TrackSums(self.labels)
        found = rows = 0
        with TableFile(self.folder / FACES, face_schema(self.labels)) as out:
            for table in self._tables(numbers, "faces"):
                out.add(table)
                faces = from_arrow(table, labels=self.labels)
                sums.add(faces, as_arrays({c.name: c for c in FACE_COLUMNS}, table))
                found, rows = found + int(faces.found.sum()), rows + len(faces)
        frames = unreadable = 0
        with TableFile(self.folder / FRAMES, frame_schema()) as out:
            for table in self._tables(numbers, "frames"):
                out.add(table)
                frames += table.num_rows
                unreadable += int((table.column("reason").to_numpy() == "unreadable").sum())
        tracks = sums.tracks()
        with TableFile(self.folder / TRACKS, track_table(tracks).schema) as out:
            out.add(track_table(tracks))
        counts = {"frames": frames, "unreadable": unreadable, "rows": rows, "faces": found, "tracks": len(tracks)}
        manifest = {"format": FORMAT, "counts": counts, "film": dict(film)} | self._run
        write_manifest(self.folder, manifest)
        self._sweep()
        return Index.open(self.folder)

    def _tables(self, numbers: range, kind: str) -> Iterator[pa.Table]:
        arrow = needed_pyarrow("film")
        for number in numbers:
            file = self._parts / f"{number:06d}.{kind}.parquet"
            try:
                yield arrow.parquet.read_table(file)
            except (OSError, arrow.ArrowException) as error:
                msg = f"{file}: a part of the index cannot be read; begin anew with --restart"
                raise DataError(msg) from error

    def _sweep(self) -> None:
        # A crash may have come between the manifest and this; the next run comes by here again.
        with suppress(OSError):
            shutil.rmtree(self._parts)


_FEW = {
    "source", "face", "eyes", "track", "top", "second", "reason", "shot", "faces", "carried", "detected", "error"
}  # fmt: skip
_COUNTING = ("frame", "ordinal")


def _encoded(schema: pa.Schema) -> dict[str, Any]:
    return {
        "compression": "snappy",
        "use_dictionary": [name for name in schema.names if name in _FEW],
        "column_encoding": {name: "DELTA_BINARY_PACKED" for name in _COUNTING if name in schema.names},
    }


class TableFile:
    """A Parquet file in row groups of one size, whatever pieces it comes in; it has its name when it is whole.

    Columns that only count are written as differences, those of few values by a dictionary, scores and places as they
    are: on two million rows that takes 29 % less room than zstd over all, and 28 % less time to scan.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._held: list[pa.Table] = []
        self._rows = 0

    def __enter__(self) -> Self:
        self._replacing = replacing(self._path)
        file = self._replacing.__enter__()
        with writing(self._path):
            self._writer = needed_pyarrow("film").parquet.ParquetWriter(file, self._schema, **_encoded(self._schema))
        return self

    def add(self, table: pa.Table) -> None:
        """Add rows; whole row groups are written at once."""
        self._held.append(table.cast(self._schema) if table.schema != self._schema else table)
        self._rows += table.num_rows
        while self._rows >= ROW_GROUP:
            whole = needed_pyarrow("film").concat_tables(self._held)
            self._writer.write_table(whole.slice(0, ROW_GROUP).combine_chunks(), row_group_size=ROW_GROUP)
            self._held = [whole.slice(ROW_GROUP)]
            self._rows -= ROW_GROUP

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._rows:
                whole = needed_pyarrow("film").concat_tables(self._held).combine_chunks()
                self._writer.write_table(whole, row_group_size=ROW_GROUP)
            self._writer.close()
        except BaseException as broken:
            if not self._replacing.__exit__(type(broken), broken, broken.__traceback__):
                raise
            return
        self._replacing.__exit__(kind, error, trace)


def _own(folder: Path) -> None:
    """Refuse a folder of other things: nothing of anybody's is written over or thrown away."""
    if folder.exists() and not folder.is_dir():
        msg = f"{folder}: there is a file of this name; name another with --out"
        raise OutputError(msg)
    known = {"parts", MANIFEST, FACES, FRAMES, TRACKS}
    strangers = (
        [p.name for p in folder.iterdir() if p.name not in known and p.suffix != ".tmp"] if folder.exists() else []
    )
    if strangers:
        msg = f"{folder}: holds other things ({', '.join(sorted(strangers)[:3])}); name a new folder with --out"
        raise OutputError(msg)


def _locked(path: Path, folder: Path) -> Any:
    file = path.open("a")
    try:
        import fcntl
    except ImportError:  # Windows has none; there, two processes on one index are not told apart
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        msg = f"{folder}: another process is making this index; wait for it, or name another with --out"
        raise ResumeError(msg) from error
    return file


def _agree(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    other = [
        f"{key} was {then.get(part, {}).get(key)!r} and is now {wanted.get(key)!r}"
        for part, wanted in now.items()
        for key in {**then.get(part, {}), **wanted}
        if then.get(part, {}).get(key) != wanted.get(key)
    ]
    if other:
        msg = (
            f"{folder}: was begun from something else: {'; '.join(other[:3])}; use the same, name another with --out, "
            "or throw it away with --restart"
        )
        raise ResumeError(msg)


def _loaded(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path}: cannot be read; begin anew with --restart"
        raise DataError(msg) from error
    if not isinstance(held, dict):
        msg = f"{path}: not what a run writes; begin anew with --restart"
        raise DataError(msg)
    return held


def _atomic(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.tmp")
    part.write_text(text, "utf-8")
    _sync(part)
    part.replace(path)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
