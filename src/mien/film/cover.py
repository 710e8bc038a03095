"""Where faces are in every frame of a film, also between the frames that were read, so that they can be covered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..render.anonymize import HOW, anonymize, grown
from ..results.faces import Faces
from ..results.table import needed_pyarrow
from .index import Index
from .tables import Frames

if TYPE_CHECKING:
    from ..image import Picture

__all__ = ["WHOM", "Cover", "Placed", "Places", "frame_length", "rows_between"]

WHOM = ("others", "all")
"""Whose faces are covered: those of tracks that were not asked for, or every face."""

_WINDOW = 2048
"""Frames of which the rows are held at once."""
_REACH = 20.0
"""Seconds over which a gap of a track is bridged: far more than a tracker waits for a face that is hidden."""
_BEYOND = 0.3
"""Seconds by which a track is drawn out at its ends: the detector loses a face a little before it is gone."""
_LOOSE, _LOOSER, _LOOSEST = 0.1, 0.08, 0.6
"""How much wider a box is that was not seen, as a share of its side; how much more a frame further on; at most."""
_STEADY = 0.02
"""How much more a frame further on, between two frames that were read one after the other."""


def frame_length(frames: Frames) -> float:
    """Return how long one frame of the film is shown, seconds, the middle over those that were read."""
    gaps, numbers = np.diff(frames.time), np.diff(frames.frame)
    good = np.isfinite(gaps) & (gaps > 0) & (numbers > 0)
    return float(np.median(gaps[good] / numbers[good])) if good.any() else 1 / 25


def rows_between(index: Index, first: int, last: int) -> NDArray[np.int64]:
    """Return the numbers of the face table's rows whose frame lies in ``first`` … ``last``; few row groups are read."""
    file = needed_pyarrow("film").parquet.ParquetFile(index.faces_file)
    at = 0
    chosen: list[NDArray[np.int64]] = []
    column = file.schema_arrow.names.index("frame")
    for group in range(file.metadata.num_row_groups):
        held = file.metadata.row_group(group)
        known = held.column(column).statistics
        outside = known is not None and known.has_min_max and (known.min > last or known.max < first)
        if not outside:
            frame = file.read_row_group(group, columns=["frame"]).column(0).to_numpy()
            chosen.append(at + np.flatnonzero((frame >= first) & (frame <= last)))
        at += held.num_rows
    return np.concatenate(chosen).astype(np.int64) if chosen else np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Faces of one frame.

    Attributes
    ----------
    faces
        N rows of the index: those of this frame, or for a face that was not looked for, of the frame before (after,
        where its track only begins), with box and points moved to where it should be.
    row
        (N,) int64, the numbers of these rows in the face table.
    margin
        (N,) float32, how much wider than its box a face may lie, as a share of the box; 0 where it was seen.
    drawn
        (N,) bool, the face was seen here, or lies between two frames that were read one after the other.
    """

    faces: Faces
    row: NDArray[np.int64]
    margin: NDArray[np.float32]
    drawn: NDArray[np.bool_]


class Places:
    """The faces of an index at any frame of its film, asked for with rising numbers.

    Between two rows of a track its box is interpolated; at the ends of a track it stands still for a third of a second
    within its shot. Only a window of rows is held.
    """

    def __init__(self, index: Index, frames: Frames | None = None) -> None:
        self._index = index
        self._frames = index.frames() if frames is None else frames
        length = frame_length(self._frames)
        steps = np.diff(self._frames.frame)
        self._step = int(np.median(steps)) if len(steps) else 1
        self._beyond = max(int(np.ceil(_BEYOND / length)), 2 * self._step)
        self._reach = max(self._beyond, int(np.ceil(_REACH / length)))
        self._until = -1
        self._faces = Faces.empty(labels=index.labels)

    def at(self, frame: int) -> Placed:
        """Return the faces of a frame, by its number in the film."""
        if not self._until - _WINDOW < frame <= self._until:
            self._load(frame)
        # Of each track, the last row that is not after the frame, and the next.
        before = np.searchsorted(self._key, self._base + frame, side="right") - 1
        after = before + 1
        has_before = before >= self._start
        has_after = after < self._end
        b, a = np.maximum(before, self._start), np.minimum(after, self._end - 1)
        left, right = self._number[b], self._number[a]
        here = has_before & (left == frame)
        between = has_before & has_after & ~here
        ends = (has_before ^ has_after) & ~here & self._same_shot(frame)
        away = np.where(has_before & has_after, np.minimum(frame - left, right - frame), 0)
        away = np.where(ends, np.where(has_before, frame - left, right - frame), away)
        there = here | between | (ends & (away <= self._beyond))
        row = np.where(has_before, b, a)
        share = np.where(between, (frame - left) / np.maximum(right - left, 1), 0.0)
        unread = frame < self._following[b]
        drawn = here | (has_before & unread & (has_after | ends))
        loose = _LOOSE + np.where(has_before & unread, _STEADY, _LOOSER) * away
        margin = np.where(here, 0.0, np.minimum(loose, _LOOSEST))
        return self._placed(row[there], a[there], share[there], margin[there], drawn[there])

    def _placed(
        self,
        row: NDArray[np.int64],
        after: NDArray[np.int64],
        share: NDArray[np.float64],
        margin: NDArray[np.float64],
        drawn: NDArray[np.bool_],
    ) -> Placed:
        order = np.argsort(self._row[row], kind="stable")
        row, after, share = row[order], after[order], share[order].astype(np.float32)
        held, later = self._faces[row], self._faces[after]
        box = held.box + share[:, None] * (later.box - held.box)
        points = held.points + share[:, None, None] * (later.points - held.points)
        # A following row in another place has no part in a face that stays where it is; NaN points stay NaN.
        points = np.where(share[:, None, None] == 0, held.points, points)
        faces = held.with_(box=box.astype(np.float32), points=points.astype(np.float32))
        return Placed(faces, self._row[row], margin[order].astype(np.float32), drawn[order])

    def _same_shot(self, frame: int) -> NDArray[np.bool_]:
        """Return (tracks,) bool: the frame may lie in the shot of the track; one that was not read may lie in two."""
        table = self._frames
        i = int(np.searchsorted(table.frame, frame, side="right")) - 1
        exact = i >= 0 and int(table.frame[i]) == frame
        shots = [int(table.shot[k]) for k in ({i} if exact else {i, i + 1}) if 0 <= k < len(table)]
        return np.isin(self._shot, shots)

    def _load(self, frame: int) -> None:
        first, self._until = frame, frame + _WINDOW - 1
        rows = rows_between(self._index, first - self._reach, self._until + self._reach)
        faces, shot = self._index.faces(rows), self._index.details(rows)["shot"]
        found = faces.found & np.isfinite(faces.box).all(1)
        faces, shot, rows = faces[found], shot[found], rows[found]
        # A face without a track is one of its own.
        track = np.where(faces.track >= 0, faces.track, -2 - rows)
        order = np.lexsort((faces.frame, track))
        self._faces, self._row, shot, track = faces[order], rows[order], shot[order], track[order]
        self._number = self._faces.frame
        # Until the next frame that was read, nobody knows better.
        read = np.append(self._frames.frame, np.iinfo(np.int64).max)
        self._following = read[np.searchsorted(self._frames.frame, self._number, side="right")]
        self._start = np.flatnonzero(np.diff(track, prepend=track[:1] - 1)).astype(np.int64)
        self._end = np.append(self._start[1:], len(track)).astype(np.int64)[: len(self._start)]
        self._shot = shot[self._start]
        # One rising number for track and frame, so that one search finds a frame in every track.
        span = int(self._number.max(initial=0)) + self._until + 2
        self._base = np.arange(len(self._start), dtype=np.int64) * span
        self._key = self._number + np.repeat(self._base, self._end - self._start)


class Cover:
    """Covers faces in the frames of a film.

    Parameters
    ----------
    index
        The index of the film.
    whom
        ``"others"``: every face whose track holds none of ``rows``; ``"all"``: every face.
    how
        As `render.anonymize.anonymize`.
    rows
        Numbers of the rows that a query found.
    frames
        The frame table, if it is at hand.

    Raises
    ------
    OptionError
        If ``whom`` or ``how`` does not exist.
    """

    def __init__(
        self, index: Index, whom: str, how: str, rows: NDArray[np.int64], *, frames: Frames | None = None
    ) -> None:
        if whom not in WHOM or how not in HOW:
            msg = f"--anonymize is {' or '.join(WHOM)} and --how {' or '.join(HOW)}, got {whom!r} and {how!r}"
            raise OptionError(msg)
        self._places = Places(index, frames)
        self._whom, self._how = whom, how
        self._rows = np.sort(rows)
        self._kept = _tracks(index, rows) if whom == "others" else np.empty(0, np.int64)

    def asked(self, placed: Placed) -> NDArray[np.bool_]:
        """Return (N,) bool: the face belongs to a track that was asked for."""
        track = placed.faces.track
        return np.where(track >= 0, np.isin(track, self._kept), np.isin(placed.row, self._rows))

    def apply(self, picture: Picture, frame: int) -> Picture:
        """Return frame number ``frame`` with its faces covered."""
        return self.over(picture, self._places.at(frame))

    def over(self, picture: Picture, placed: Placed) -> Picture:
        """Return a frame with the faces covered that were placed in it."""
        chosen = np.ones(len(placed.row), np.bool_) if self._whom == "all" else ~self.asked(placed)
        boxes = grown(placed.faces.box[chosen], placed.margin[chosen])
        return anonymize(picture, boxes, how=self._how)


def _tracks(index: Index, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the tracks to which some rows belong."""
    held = [index.faces(rows[i : i + 65_536]).track for i in range(0, len(rows), 65_536)]
    tracks = np.unique(np.concatenate(held)) if held else np.empty(0, np.int64)
    return tracks[tracks >= 0]
