"""The rows of an index read in parts, column by column, and how long each frame was shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..results.columns import Reason
from ..results.table import needed_pyarrow
from .index import Index
from .tables import Frames, as_arrays, face_columns

__all__ = ["Moments", "batches", "moments"]

_BATCH = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """When the frames of an index were shown, and for how long.

    Attributes
    ----------
    start
        (F,) float64 seconds, ascending where the container says so; a frame without a time stands where it would at
        an even pace.
    seconds
        (F,) float64 > 0, until the next frame that was read.
    """

    start: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @property
    def end(self) -> NDArray[np.float64]:
        """(F,) float64 seconds: until when each frame was shown."""
        return self.start + self.seconds


def moments(frames: Frames) -> Moments:
    """Return when each frame of a frame table was shown; every one has a time and a length."""
    timed = np.isfinite(frames.time)
    start = np.where(timed, frames.time, frames.ordinal * frames.step)
    until = frames.ends
    length = np.where(np.isfinite(until) & timed, until - start, frames.step)
    return Moments(start, np.asarray(np.where(length > 0, length, frames.step), np.float64))


def batches(
    index: Index, names: Sequence[str], *, rows: NDArray[np.int64] | None = None
) -> Iterator[dict[str, NDArray[Any]]]:
    """Give the faces of an index in parts, in the order of showing; memory does not grow with their number.

    Rows that only say that a frame has no face are left out.

    Parameters
    ----------
    index
        The index.
    names
        Columns of its face table; ``reason`` comes as (n,) uint16 flags of `Reason`, ``scores`` as (n, K) float32 of
        all labels.
    rows
        Only these rows, by number, ascending.

    Raises
    ------
    DataError
        If the table cannot be read.
    """
    arrow = needed_pyarrow("film")
    asked = dict.fromkeys(["face", *(n for n in names if n != "scores"), *(index.labels if "scores" in names else ())])
    declared = {name: face_columns(index.labels)[name] for name in asked}
    before = 0
    try:
        with arrow.parquet.ParquetFile(index.faces_file) as file:
            for batch in file.iter_batches(_BATCH, columns=list(declared)):
                chosen = _chosen(batch.num_rows, before, rows)
                before += batch.num_rows
                held = _arrays(index, declared, arrow.Table.from_batches([batch]))
                chosen &= held.pop("face") >= 0
                yield {name: values[chosen] for name, values in held.items()}
    except (OSError, arrow.ArrowException) as error:
        msg = f"{index.faces_file}: cannot be read ({str(error).partition(chr(10))[0]}); index the film again"
        raise DataError(msg) from error


def _chosen(count: int, before: int, rows: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    if rows is None:
        return np.ones(count, np.bool_)
    chosen = np.zeros(count, np.bool_)
    low, high = np.searchsorted(rows, [before, before + count])
    chosen[rows[low:high] - before] = True
    return chosen


def _arrays(index: Index, declared: Mapping[str, Any], table: Any) -> dict[str, NDArray[Any]]:
    held = as_arrays(declared, table)
    if all(label in held for label in index.labels):
        held["scores"] = np.stack([held.pop(label) for label in index.labels], 1)
    if "reason" in held:
        words, place = np.unique(held["reason"], return_inverse=True)
        held["reason"] = np.array([int(Reason.parse(w)) for w in words.tolist()], np.uint16)[place]
    return held
