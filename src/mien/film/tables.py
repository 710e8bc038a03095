"""The tables of a film's index, each column declared once; Parquet and the docs follow from this."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, OptionError, ShapeError
from ..labels import LabelSet
from ..results.columns import Column, flat
from ..results.table import needed_pyarrow

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "FACE_COLUMNS",
    "FRAME_COLUMNS",
    "TRACK_COLUMNS",
    "Frames",
    "Tracks",
    "arrow_schema",
    "as_arrays",
    "as_table",
    "face_columns",
    "track_columns",
]

FACE_COLUMNS: tuple[Column, ...] = (
    Column("ordinal", np.int64, (), "count", 0, "Number of the frame among those that were read, from 0."),
    Column("shot", np.int32, (), "count", 0, "Number of the shot, from 0; a cut begins the next."),
    Column("faces", np.int16, (), "count", 0, "Faces in this frame."),
    Column("side", np.float32, (), "px", np.nan, "Size of the face: the square root of its box."),
    Column("yaw", np.float32, (), "1", np.nan, "How far the face is turned, in [-2, 2]; 0 from the front."),
    Column("sharpness", np.float32, (), "1", np.nan, "Fine detail of the crop as a share of its contrast."),
    Column("brightness", np.float32, (), "1", np.nan, "Mean luma of the crop, in [0, 255]."),
)
"""What the face table of an index holds beside the columns of every face table."""

FRAME_COLUMNS: tuple[Column, ...] = (
    Column("ordinal", np.int64, (), "count", 0, "Number of the frame among those that were read, from 0."),
    Column("frame", np.int64, (), "count", 0, "Number of the frame in the film, from 0."),
    Column("time", np.float64, (), "s", np.nan, "The container's time stamp."),
    Column("shot", np.int32, (), "count", 0, "Number of the shot, from 0; a cut begins the next."),
    Column("change", np.float32, (), "1", np.nan, "How much the picture differs from the one before, in [0, 1]."),
    Column("faces", np.int16, (), "count", 0, "Faces in this frame."),
    Column("detected", np.bool_, (), "", 0, "The detector looked at this frame; else faces were followed."),
    Column("reason", np.str_, (), "", "", "Why there is no face: no_face or unreadable; empty where there is one."),
    Column("error", np.str_, (), "", "", "What the decoder says of a frame that is unreadable."),
)
"""The columns of the frame table: one row a frame that was read, also where there is no face."""

TRACK_COLUMNS: tuple[Column, ...] = (
    Column("track", np.int64, (), "id", 0, "The track, from 0 in the order of appearance."),
    Column("shot", np.int32, (), "count", 0, "The shot in which it lies."),
    Column("first_frame", np.int64, (), "count", 0, "Frame of its first row."),
    Column("last_frame", np.int64, (), "count", 0, "Frame of its last row."),
    Column("start", np.float64, (), "s", np.nan, "Time of its first row."),
    Column("end", np.float64, (), "s", np.nan, "Time of its last row."),
    Column("rows", np.int64, (), "count", 0, "Frames in which the face was seen."),
    Column("detected", np.int64, (), "count", 0, "Of these, frames in which the detector found it."),
    Column("read", np.int64, (), "count", 0, "Of these, frames in which its expression was read."),
    Column("side", np.float32, (), "px", np.nan, "Mean size of the face."),
    Column("best_frame", np.int64, (), "count", -1, "Frame that shows it best: read, frontal, large, sharp."),
    Column("best_time", np.float64, (), "s", np.nan, "Time of that frame."),
    Column("top", np.str_, (), "label", "", "The label with the highest mean score; empty where nothing was read."),
)
"""The columns of the track table; the mean score of each label follows them, one column a label."""


_FRAME_NAMES = tuple(c.name for c in FRAME_COLUMNS)


def face_columns(labels: LabelSet) -> Mapping[str, Column]:
    """Return the columns of an index's face table by name, in order: those of every face table, then `FACE_COLUMNS`."""
    further = {c.name: c for c in FACE_COLUMNS}
    if taken := further.keys() & set(labels):
        msg = f"a label cannot have the name of a column: rename {', '.join(sorted(taken))}"
        raise OptionError(msg)
    return dict(flat(labels.labels)) | further


def track_columns(labels: LabelSet) -> Mapping[str, Column]:
    """Return the columns of the track table by name, in order."""
    doc = "Mean score of the label over the frames that were read."
    means = {name: Column(name, np.float32, (), "1", np.nan, doc) for name in labels.labels}
    return {c.name: c for c in TRACK_COLUMNS} | means


def arrow_schema(columns: Mapping[str, Column], metadata: Mapping[bytes, bytes] | None = None) -> pa.Schema:
    """Return the Arrow schema of declared columns, with unit and doc of each."""
    arrow = needed_pyarrow("film")
    schema: pa.Schema = arrow.schema(
        [
            arrow.field(
                c.name,
                arrow.string() if c.dtype is np.str_ else arrow.from_numpy_dtype(c.dtype),
                nullable=c.nullable,
                metadata={"unit": c.unit, "doc": c.doc},
            )
            for c in columns.values()
        ],
        dict(metadata or {}),
    )
    return schema


def as_table(columns: Mapping[str, Column], values: Mapping[str, NDArray[Any]], schema: pa.Schema) -> pa.Table:
    """Return arrays (N,) by name as an Arrow table; null where missing."""
    arrow = needed_pyarrow("film")
    arrays = [arrow.array(values[n], schema.field(n).type, mask=c.lacks(values[n])) for n, c in columns.items()]
    table: pa.Table = arrow.Table.from_arrays(arrays, schema=schema)
    return table


def as_arrays(columns: Mapping[str, Column], table: pa.Table) -> dict[str, NDArray[Any]]:
    """Undo `as_table`; further columns are left aside.

    Raises
    ------
    DataError
        If a column is missing or holds something else.
    """
    out: dict[str, NDArray[Any]] = {}
    for name, c in columns.items():
        if name not in table.column_names:
            msg = f"it lacks the column {name!r}; index the film again"
            raise DataError(msg)
        try:
            filled = table.column(name).fill_null(np.asarray(c.missing, c.dtype).item())
            out[name] = filled.to_numpy().astype(c.dtype)
        except (ValueError, TypeError, NotImplementedError) as error:
            msg = f"column {name}: not {np.dtype(c.dtype)} ({error}); index the film again"
            raise DataError(msg) from error
    return out


def _check(owner: object, columns: Mapping[str, Column], n: int) -> None:
    for name, c in columns.items():
        array = getattr(owner, name)
        fits = array.dtype.kind == "U" if c.dtype is np.str_ else array.dtype == c.dtype
        if array.shape != (n,) or not fits:
            raise ShapeError(name, f"({n},) {np.dtype(c.dtype)}", f"{array.shape} {array.dtype}")


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """One row a frame that was read, in the order of showing; arrays (N,) as `FRAME_COLUMNS` declares them."""

    ordinal: NDArray[np.int64]
    frame: NDArray[np.int64]
    time: NDArray[np.float64]
    shot: NDArray[np.int32]
    change: NDArray[np.float32]
    faces: NDArray[np.int16]
    detected: NDArray[np.bool_]
    reason: NDArray[np.str_]
    error: NDArray[np.str_]

    def __post_init__(self) -> None:
        _check(self, {c.name: c for c in FRAME_COLUMNS}, len(self.ordinal))

    @classmethod
    def build(cls, n: int, **arrays: Any) -> Self:
        """Make a table of N rows; a scalar is repeated, what is not given holds its declared missing value."""
        return cls(**_built(n, {c.name: c for c in FRAME_COLUMNS}, arrays))

    @classmethod
    def concat(cls, parts: Iterable[Self]) -> Self:
        """Join tables, one after the other."""
        held = list(parts)
        return cls(**{n: np.concatenate([getattr(p, n) for p in held]) for n in _FRAME_NAMES}) if held else cls.build(0)

    def __len__(self) -> int:
        return len(self.ordinal)

    def __getitem__(self, index: Any) -> Self:
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @property
    def step(self) -> float:
        """The middle distance of two frames in time, seconds; 1/25 where no two have times."""
        gaps = np.diff(self.time)
        gaps = gaps[np.isfinite(gaps) & (gaps > 0)]
        return float(np.median(gaps)) if len(gaps) else 1 / 25

    @property
    def ends(self) -> NDArray[np.float64]:
        """(N,) float64 seconds: until when each frame is shown, the time of the next; of the last, one `step` more."""
        following = np.append(self.time[1:], np.nan) if len(self) else np.empty(0, np.float64)
        return np.where(following > self.time, following, self.time + self.step)


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """One row a track, in the order of appearance; arrays (N,) as `TRACK_COLUMNS` declares them, and mean scores.

    Attributes
    ----------
    labels
        The label set of ``mean``, K labels.
    mean
        (N, K) float32, the mean scores over the frames that were read; NaN where none was.
    """

    labels: LabelSet
    track: NDArray[np.int64]
    shot: NDArray[np.int32]
    first_frame: NDArray[np.int64]
    last_frame: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    rows: NDArray[np.int64]
    detected: NDArray[np.int64]
    read: NDArray[np.int64]
    side: NDArray[np.float32]
    best_frame: NDArray[np.int64]
    best_time: NDArray[np.float64]
    top: NDArray[np.str_]
    mean: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check(self, {c.name: c for c in TRACK_COLUMNS}, len(self.track))
        if self.mean.shape != (len(self.track), len(self.labels)) or self.mean.dtype != np.float32:
            raise ShapeError("mean", f"({len(self.track)}, {len(self.labels)}) float32", self.mean.shape)

    @classmethod
    def build(cls, n: int, *, labels: LabelSet, mean: Any = np.nan, **arrays: Any) -> Self:
        """Make a table of N rows; a scalar is repeated, what is not given holds its declared missing value."""
        means = np.array(np.broadcast_to(np.asarray(mean, np.float32), (n, len(labels))))
        return cls(labels=labels, mean=means, **_built(n, {c.name: c for c in TRACK_COLUMNS}, arrays))

    def __len__(self) -> int:
        return len(self.track)


def _built(n: int, columns: Mapping[str, Column], arrays: dict[str, Any]) -> dict[str, Any]:
    if unknown := arrays.keys() - columns.keys():
        raise ShapeError("columns", ", ".join(columns), ", ".join(sorted(unknown)))
    return {
        name: np.array(np.broadcast_to(np.asarray(arrays.get(name, c.missing), c.dtype), (n,)))
        for name, c in columns.items()
    }
