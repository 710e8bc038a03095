"""Sums over the rows of an index for each period and track: all that a report, and its intervals, are made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..results.columns import Reason
from .index import Index
from .report_when import Periods
from .timeline_rows import batches

__all__ = ["REASONS", "Cells", "Sums", "add", "columns"]

REASONS = tuple(int(r) for r in Reason if r not in {Reason.NO_FACE, Reason.UNREADABLE, Reason.LOW_SCORE})
"""Why a face may not be read, in the order of their columns."""

Floats = NDArray[np.float64]


def columns(labels: int) -> dict[str, slice]:
    """Return where the sums of K labels stand.

    ``face`` and ``read`` are face-seconds; ``named`` the read face-seconds of each label and of no label; ``time`` and
    ``time_named`` the same with each row divided by the number of faces read in its frame; ``scores`` sums of score
    times seconds; ``reasons`` the face-seconds not read for each of `REASONS`.
    """
    sizes = {
        "face": 1,
        "read": 1,
        "named": labels + 1,
        "time": 1,
        "time_named": labels + 1,
        "scores": labels,
        "reasons": len(REASONS),
    }
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The tracks of one period: ``block`` (T,) a number for each, -1 where faces have none, and their sums (T, C)."""

    block: NDArray[np.int64]
    sums: Floats

    @property
    def face_seconds(self) -> float:
        """Face-seconds."""
        return float(self.sums[:, 0].sum())

    @property
    def read_seconds(self) -> float:
        """Face-seconds in which the face was read."""
        return float(self.sums[:, 1].sum())

    @property
    def tracks(self) -> int:
        """Separate tracks."""
        return int((self.block >= 0).sum())

    @property
    def tracks_read(self) -> int:
        """Separate tracks with a face that was read."""
        return int(((self.block >= 0) & (self.sums[:, 1] > 0)).sum())


@dataclass(slots=True, eq=False)
class Sums:
    """All cells; grows film by film.

    Attributes
    ----------
    with_face, with_read
        (P,) seconds with a face, with one that was read.
    """

    with_face: Floats
    with_read: Floats
    labels: int
    _period: list[NDArray[np.int64]] = field(default_factory=list)
    _block: list[NDArray[np.int64]] = field(default_factory=list)
    _sums: list[Floats] = field(default_factory=list)
    _blocks: int = 0

    @classmethod
    def empty(cls, count: int, labels: int) -> Self:
        """Return sums over nothing, for so many periods and labels."""
        return cls(np.zeros(count), np.zeros(count), labels)

    def take(self, period: NDArray[np.int64], block: NDArray[np.int64], sums: Floats, blocks: int) -> None:
        """Add the cells of one film, whose tracks are numbered below ``blocks``."""
        self._period.append(period)
        self._block.append(np.where(block >= 0, block + self._blocks, -1))
        self._sums.append(sums)
        self._blocks += blocks

    def finished(self) -> Self:
        """Put the cells in the order of their periods."""
        period = np.concatenate([*self._period, np.empty(0, np.int64)])
        order = np.argsort(period, kind="stable")
        width = max(s.stop for s in columns(self.labels).values())
        self._period = [period[order]]
        self._block = [np.concatenate([*self._block, np.empty(0, np.int64)])[order]]
        self._sums = [np.concatenate([*self._sums, np.empty((0, width))])[order]]
        return self

    def of(self, period: int) -> Cells:
        """Return the tracks of a period; what has no track is one cell that counts as none."""
        low, high = np.searchsorted(self._period[0], [period, period + 1])
        return Cells(self._block[0][low:high], self._sums[0][low:high])


_NAMES = ("ordinal", "track", "reason", "scores")


def add(
    sums: Sums,
    index: Index,
    cut: Periods,
    film: int,
    *,
    rows: NDArray[np.int64] | None,
    tell: Callable[[int], None],
) -> None:
    """Add a film; its table is read twice, in parts."""
    frames, pieces = cut.frames[film], cut.pieces[film]
    read, seen = np.zeros(len(frames), np.int64), np.zeros(len(frames), np.bool_)
    tracks: set[int] = set()
    for part in batches(index, _NAMES, rows=rows):
        place = np.searchsorted(frames.ordinal, part["ordinal"])
        seen[place] = True
        read += np.bincount(place[_read(part)], minlength=len(frames))
        tracks |= set(np.unique(part["track"]).tolist())
    sums.with_face += np.bincount(pieces.period, pieces.seconds * seen[pieces.place], len(cut.names))
    sums.with_read += np.bincount(pieces.period, pieces.seconds * (read > 0)[pieces.place], len(cut.names))
    known = np.array(sorted(tracks - {-1}), np.int64)
    held: dict[int, Floats] = {}
    done = 0
    first, last = (np.searchsorted(pieces.place, np.arange(len(frames)), side=s) for s in ("left", "right"))
    for part in batches(index, _NAMES, rows=rows):
        done += len(part["track"])
        tell(done)
        place = np.searchsorted(frames.ordinal, part["ordinal"])
        count = (last - first)[place]
        row = np.repeat(np.arange(len(place)), count)
        piece = np.repeat(first[place] - np.cumsum(count) + count, count) + np.arange(len(row))
        values = _values(part, read[place])[row] * pieces.seconds[piece, None]
        block = np.where(part["track"] >= 0, np.searchsorted(known, part["track"]), -1)[row]
        _gather(held, pieces.period[piece] * (len(known) + 1) + block + 1, values)
    keys = np.array(sorted(held), np.int64)
    width = max(s.stop for s in columns(sums.labels).values())
    table = np.array([held[k] for k in keys.tolist()]).reshape(len(keys), width)
    sums.take(keys // (len(known) + 1), keys % (len(known) + 1) - 1, table, len(known))


def _read(part: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    return np.asarray(~np.isnan(part["scores"]).any(1), np.bool_)


def _values(part: dict[str, NDArray[Any]], in_frame: NDArray[np.int64]) -> Floats:
    """Return what one second of each row adds: (n, C)."""
    scores, flags = part["scores"].astype(np.float64), part["reason"]
    n, labels = scores.shape
    read = _read(part)
    at = columns(labels)
    out = np.zeros((n, max(s.stop for s in at.values())))
    out[:, at["face"]] = 1
    out[:, at["read"]] = read[:, None]
    low = (flags & int(Reason.LOW_SCORE)) > 0
    top = np.where(low, labels, np.argmax(np.nan_to_num(scores, nan=-1.0), 1))
    named = np.zeros((n, labels + 1))
    named[np.arange(n), top] = read
    share = read / np.maximum(in_frame, 1)
    out[:, at["named"]] = named
    out[:, at["time"]] = share[:, None]
    out[:, at["time_named"]] = named * share[:, None]
    out[:, at["scores"]] = np.where(read[:, None], scores, 0.0)
    out[:, at["reasons"]] = (~read[:, None]) & ((flags[:, None] & np.array(REASONS, np.uint16)) > 0)
    return out


def _gather(held: dict[int, Floats], keys: NDArray[np.int64], values: Floats) -> None:
    unique, at = np.unique(keys, return_inverse=True)
    order = np.argsort(at, kind="stable")
    starts = np.searchsorted(at[order], np.arange(len(unique)))
    added = np.add.reduceat(values[order], starts) if len(unique) else values
    for key, row in zip(unique.tolist(), added, strict=True):
        held[key] = held[key] + row if key in held else row
