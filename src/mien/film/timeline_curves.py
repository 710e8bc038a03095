"""Each track's scores over time as few points as a page needs, and what the whole film shows."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..results.columns import Reason
from ..track.smooth import Smoothing
from .index import Index
from .tables import Frames
from .timeline_rows import Moments, batches

__all__ = ["LANE", "READ", "TICKS", "Curves", "Rows", "curves", "overview", "rows_of"]

LANE = 4000
"""Points of a lane at most."""

TICKS = 10_000
"""A page counts time in ten-thousandths of a second."""

READ = 1 << 15
"""Beside the flags of `Reason`: the point holds scores."""

_BYTES = 6_000_000
_FIXED = 18  # bytes of a point beside its scores
_WIDE = 65_535


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The faces of an index that have a track, by track and time: N rows.

    Attributes
    ----------
    track, ordinal, place
        (N,) integers; ``place`` is that of the row's frame in the frame table.
    box
        (N, 4) float32 pixels.
    reason
        (N,) uint16 flags of `Reason`.
    scores
        (N, K) float32, NaN where not read.
    start, end
        (N,) float64 seconds in which the frame was shown.
    """

    track: NDArray[np.int64]
    ordinal: NDArray[np.int64]
    place: NDArray[np.intp]
    box: NDArray[np.float32]
    reason: NDArray[np.uint16]
    scores: NDArray[np.float32]
    start: NDArray[np.float64]
    end: NDArray[np.float64]

    @property
    def read(self) -> NDArray[np.bool_]:
        """(N,) bool: the row has scores."""
        return np.asarray(~np.isnan(self.scores).any(1), np.bool_)


def rows_of(index: Index, frames: Frames, when: Moments, smooth: Smoothing) -> Rows:
    """Read the faces of an index, and make their scores steady."""
    names = ("track", "ordinal", "x1", "y1", "x2", "y2", "reason", "scores")
    parts = list(batches(index, names))
    if not parts:
        parts = [{name: np.empty(0, np.uint16) for name in names} | {"scores": np.empty((0, len(index.labels)))}]
    # Each column leaves its parts when it is joined: a film's rows are not held twice.
    held: dict[str, NDArray[Any]] = {name: np.concatenate([part.pop(name) for part in parts]) for name in names}
    kept = np.flatnonzero(held["track"] >= 0)
    order = kept[np.lexsort((held["ordinal"][kept], held["track"][kept]))]
    track, ordinal = (held.pop(name)[order].astype(np.int64) for name in ("track", "ordinal"))
    place = np.searchsorted(frames.ordinal, ordinal)
    start = when.start[place]
    scores = smooth.apply(held.pop("scores")[order].astype(np.float32, copy=False), start, track, ordinal)
    box = np.stack([held.pop(n)[order] for n in ("x1", "y1", "x2", "y2")], 1).astype(np.float32, copy=False)
    return Rows(track, ordinal, place, box, held.pop("reason")[order], scores, start, when.end[place])


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Points of all tracks, one after the other, P in all.

    Attributes
    ----------
    track, first, count
        (T,) the tracks, and where the points of each begin and how many there are.
    start, end
        (P,) float64 seconds.
    flags
        (P,) uint16: `READ`, and the reasons of its rows.
    box
        (P, 4) float32 pixels, the mean of its rows.
    mean, low, high
        (P, K) float32 over its rows that were read, weighted by their time; 0 where none was.
    merged
        How many rows a point may hold.
    """

    track: NDArray[np.int64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    flags: NDArray[np.uint16]
    box: NDArray[np.float32]
    mean: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    merged: int

    def packed(self, origin: float, width: float, height: float) -> dict[str, Any]:
        """Return the points as base64 of arrays one behind the other, little-endian.

        ``start`` and length, P uint32 ticks each from ``origin``; P uint16 flags; P × 4 uint16 boxes, x1 y1 x2 y2 as
        shares of the frame times 65,535; P × K uint8 mean scores times 255, and where points hold several rows the
        lowest and the highest.
        """
        start = np.rint((self.start - origin) * TICKS)
        length = np.maximum(np.rint((self.end - origin) * TICKS) - start, 1)
        share = np.clip(np.nan_to_num(self.box / np.array([width, height] * 2, np.float32)), 0, 1)
        scores = [self.mean, self.low, self.high] if self.merged > 1 else [self.mean]
        blob = b"".join(
            [
                start.astype("<u4").tobytes(),
                length.astype("<u4").tobytes(),
                self.flags.astype("<u2").tobytes(),
                np.rint(share * _WIDE).astype("<u2").tobytes(),
                *(np.rint(s * 255).astype(np.uint8).tobytes() for s in scores),
            ]
        )
        return {"points": len(self.start), "merged": self.merged, "data": base64.b64encode(blob).decode()}


def curves(rows: Rows, *, lane: int = LANE, room: int = _BYTES) -> Curves:
    """Return the points of all tracks, at most ``lane`` a track and about ``room`` bytes in all.

    A point holds consecutive rows of one track that all were read, or all not for the same reasons. It keeps their mean
    and, for each label, the lowest and the highest score, so no peak is lost. Only where a track changes between read
    and not read too often for that does a point hold both.
    """
    read = rows.read
    flags = np.where(read, READ | (rows.reason & int(Reason.LOW_SCORE)), rows.reason).astype(np.uint16)
    new = np.ones(len(rows.track), np.bool_)
    tracks, sizes = np.unique(rows.track, return_counts=True)
    new[1:] = (np.diff(rows.track) != 0) | (np.diff(rows.ordinal) != 1) | (flags[1:] != flags[:-1])
    within = np.repeat(np.arange(len(tracks)), sizes)
    begins, merged = _points(new, within, lane, room, rows.scores.shape[1])
    count = np.bincount(within[begins], minlength=len(tracks))
    held = _held(rows, begins, read, flags)
    return Curves(track=tracks, first=np.cumsum(count) - count, count=count, merged=merged, **held)


def _points(
    new: NDArray[np.bool_], within: NDArray[np.intp], lane: int, room: int, labels: int
) -> tuple[NDArray[np.intp], int]:
    """Return the rows with which points begin, and how many rows a point may hold."""
    n = len(new)
    if not n:
        return np.empty(0, np.intp), 1
    at = np.arange(n)
    in_run = at - np.maximum.accumulate(np.where(new, at, 0))
    in_track = at - np.maximum.accumulate(np.where(np.append(True, np.diff(within) != 0), at, 0))
    sizes, runs = np.bincount(within), np.bincount(within[new])
    # Broken up too often to keep every gap: rows are counted off along the track, whatever they are.
    broken = (runs > lane) | (runs.sum() * (_FIXED + 3 * labels) > room)
    step = 1
    while True:
        counted = np.where(broken, np.maximum(step, -(-sizes // lane)), 1)
        begins = np.where(broken[within], in_track % counted[within] == 0, in_run % step == 0)
        merged = max(step, int(counted.max()))
        size = _FIXED + labels * (1 if merged == 1 else 3)
        lanes = np.bincount(within[begins])
        if (lanes.max() <= lane and lanes.sum() * size <= room) or step > n:
            return np.flatnonzero(begins), merged
        step *= 2


def _held(rows: Rows, begins: NDArray[np.intp], read: NDArray[np.bool_], flags: NDArray[np.uint16]) -> dict[str, Any]:
    """Return the fields of `Curves` that are one a point."""
    following = np.append(begins[1:], len(rows.track)) if len(begins) else begins

    def over(how: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        return how.reduceat(values, begins) if len(begins) else values[:0]

    # Label by label: a float64 copy of all scores would be the largest thing in memory.
    weight = np.where(read, rows.end - rows.start, 0.0)
    total = over(np.add, weight)
    mean, low, high = (np.zeros((len(begins), rows.scores.shape[1]), np.float32) for _ in range(3))
    for k, scores in enumerate(rows.scores.T):
        sums = over(np.add, np.where(read, scores, 0.0) * weight)
        np.divide(sums, total, out=mean[:, k], where=total > 0, casting="same_kind")
        low[:, k] = np.where(total > 0, over(np.minimum, np.where(read, scores, np.inf)), 0.0)
        high[:, k] = np.where(total > 0, over(np.maximum, np.where(read, scores, -np.inf)), 0.0)
    box = np.stack([over(np.add, side.astype(np.float64)) for side in rows.box.T], 1) / (following - begins)[:, None]
    return {
        "start": rows.start[begins],
        "end": rows.end[following - 1],
        "flags": over(np.bitwise_or, flags),
        "box": box.astype(np.float32),
        "mean": mean,
        "low": low,
        "high": high,
    }


def overview(rows: Rows, begin: float, end: float, *, bins: int) -> dict[str, Any]:
    """Return the film in equal parts: mean scores of all faces read, (bins, K) uint8 as base64, and faces in view."""
    length = max(end - begin, 1e-9) / bins
    at = np.clip(((rows.start - begin) / length).astype(np.int64), 0, bins - 1)
    seconds, read = rows.end - rows.start, rows.read
    weight = np.bincount(at[read], seconds[read], bins)
    sums = np.stack([np.bincount(at[read], (seconds * scores)[read], bins) for scores in rows.scores.T], 1)
    mean = np.divide(sums, weight[:, None], out=np.zeros(sums.shape), where=weight[:, None] > 0)
    faces = np.bincount(at, seconds, bins) / length
    return {
        "bins": bins,
        "faces": [round(f, 2) for f in faces.tolist()],
        "read": [round(f, 2) for f in (weight / length).tolist()],
        "data": base64.b64encode(np.rint(mean * 255).astype(np.uint8).tobytes()).decode(),
    }
