"""One number for each face over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, ShapeError
from ..geometry import iou, overlap_smaller
from .assign import assign

__all__ = ["Follow", "Sightings", "Tracked", "Tracker"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Sightings:
    """Faces seen in one frame.

    Attributes
    ----------
    box
        (N, 4) float32, x1 y1 x2 y2, pixels; finite.
    score
        (N,) float32 in [0, 1]; NaN where nobody judged.
    points
        (N, 5, 2) float32, pixels; NaN where there are none.
    look
        (N, D) float32, how each looks, of unit length; a row of zeros says nothing, and D may be 0.
    """

    box: NDArray[np.float32]
    score: NDArray[np.float32]
    points: NDArray[np.float32]
    look: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.box)
        width = self.look.shape[1] if self.look.ndim == 2 else 0
        for name, shape in {"box": (n, 4), "score": (n,), "points": (n, 5, 2), "look": (n, width)}.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(name, str(shape), getattr(self, name).shape)
        if not np.isfinite(self.box).all():
            raise ShapeError("box", "finite numbers", self.box[~np.isfinite(self.box).all(1)][0].tolist())

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp]) -> Sightings:
        return Sightings(self.box[index], self.score[index], self.points[index], self.look[index])

    @classmethod
    def empty(cls) -> Sightings:
        """Return no sightings."""
        f = np.float32
        return cls(np.empty((0, 4), f), np.empty(0, f), np.empty((0, 5, 2), f), np.empty((0, 0), f))

    def joined(self, other: Sightings) -> Sightings:
        """Return these and then the others; a side without rows leaves no trace."""
        if not len(self) or not len(other):
            return self if len(self) else other
        return Sightings(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


Follow = Callable[[NDArray[np.float32]], tuple[Sightings, NDArray[np.bool_]]]
"""Looks again at M boxes (M, 4) of the current frame: M sightings, and (M,) whether there is a face at each."""


@dataclass(frozen=True, slots=True, eq=False)
class Tracked:
    """The faces of one frame with their tracks: those found, in their order, then those followed, by track.

    Attributes
    ----------
    track
        (R,) int64, from 0 in the order of appearance.
    sightings
        R rows.
    carried
        (R,) bool: followed from the frame before, not found by the detector.
    source
        (R,) int64: row of what was found; -1 where carried.
    """

    track: NDArray[np.int64]
    sightings: Sightings
    carried: NDArray[np.bool_]
    source: NDArray[np.int64]


_REACH, _SPREAD, _FARTHEST = 1.0, 5.0, 5.0
"""How far from its predicted place a face may be, in sides of the face: at once, more each second unseen, at most."""

_RESIZED = math.log(1.8)
"""How much its size may have changed, as a natural logarithm."""

_ALIKE = 0.5
"""Distance in look, 1 less the cosine, from which two faces are two persons."""

_GATE = 2.0
"""Sum of both distances, as shares of their limits, from which a face is rather a new one."""

_BLIND = 2.5
"""How far off a face that comes back may be, in sides, where nothing is known of looks."""

_COAST = 0.3
"""Seconds for which a face is expected to go on as it moved; then to stay."""

_STEADY = 0.2
"""Time constant of a face's velocity, seconds."""

_SHORTEST = 1 / 240
"""Seconds by which a way is divided at least, or two frames with nearly one time would give a face any speed."""

_LEARN = 0.1
"""Weight of a new look in what a track is known to look like."""

_AGAIN = 0.3
"""Seconds for which a face out of sight is looked for at its predicted place, where the detector did not look."""

_FITS, _TAKEN = 0.3, 0.3
"""Overlap with the prediction that a followed face needs; overlap with another face from which it is that one."""

_APART = 1.0
"""Distance to the next face, in sides, below which a look may be part of the other's and is not learnt."""

_TRUST = 0.5
"""Seconds for which the second look is believed where the detector, twice or more, finds nothing."""

_STEP = 1 / 25
"""Seconds between frames until times say otherwise."""


@dataclass(slots=True, eq=False)
class _Tracks:
    """What is known of T tracks; arrays of equal length, by track."""

    name: NDArray[np.int64]
    middle: Floats
    size: Floats
    velocity: Floats
    seen: Floats
    found: Floats
    sightings: NDArray[np.int64]
    finds: NDArray[np.int64]
    misses: NDArray[np.int64]
    lost: NDArray[np.bool_]
    look: Floats

    @classmethod
    def none(cls, width: int = 0) -> Self:
        n, f = np.empty(0, np.int64), np.empty(0, np.float64)
        pair = np.empty((0, 2), np.float64)
        return cls(n, pair, pair, pair, f, f, n, n, n, np.empty(0, np.bool_), np.empty((0, width), np.float64))

    @classmethod
    def born(cls, first: int, seen: Sightings, clock: float) -> Self:
        n = len(seen)
        middle, size = _middle(seen.box)
        at, count = np.full(n, clock), np.ones(n, np.int64)
        names = np.arange(first, first + n, dtype=np.int64)
        zero = np.zeros(n, np.int64)
        look = seen.look.astype(np.float64)
        return cls(names, middle, size, np.zeros((n, 2)), at, at.copy(), count, count.copy(), zero, zero > 0, look)

    def __len__(self) -> int:
        return len(self.name)

    def only(self, kept: NDArray[np.bool_]) -> Self:
        return type(self)(*(getattr(self, f.name)[kept] for f in fields(self)))

    def joined(self, other: Self) -> Self:
        if not len(self):
            return other
        return type(self)(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def predicted(self, clock: float) -> Floats:
        """Return the boxes (T, 4) in which the faces should be."""
        middle = self.middle + self.velocity * np.minimum(clock - self.seen, _COAST)[:, None]
        return np.concatenate([middle - self.size / 2, middle + self.size / 2], 1)

    def see(self, rows: NDArray[np.intp], seen: Sightings, clock: float, *, alone: NDArray[np.bool_]) -> None:
        """Take over where these tracks are now, and how those look that stand alone."""
        middle, size = _middle(seen.box)
        gap = np.maximum(clock - self.seen[rows], _SHORTEST)
        weight = np.maximum(1 - np.exp(-gap / _STEADY), 1 / (self.sightings[rows] + 1.0))[:, None]
        speed = (middle - self.middle[rows]) / gap[:, None]
        self.velocity[rows] += weight * (speed - self.velocity[rows])
        self.middle[rows], self.size[rows], self.seen[rows] = middle, size, clock
        self.sightings[rows] += 1
        self.lost[rows] = False
        if alone.any():
            learnt = rows[alone]
            look = (1 - _LEARN) * self.look[learnt] + _LEARN * seen.look[alone]
            length = np.linalg.norm(look, axis=1, keepdims=True)
            self.look[learnt] = np.divide(look, length, out=np.zeros_like(look), where=length > 0)


def _middle(box: NDArray[np.float32]) -> tuple[Floats, Floats]:
    wide = box.astype(np.float64)
    return (wide[:, :2] + wide[:, 2:]) / 2, np.maximum(wide[:, 2:] - wide[:, :2], 1.0)


def _unlike(a: Floats, b: Floats) -> Floats:
    """Return the distance in look (N, M), 1 less the cosine; 0 where either says nothing."""
    if a.shape[1] != b.shape[1]:
        raise ShapeError("look", f"(N, {a.shape[1]}) as before", b.shape)
    known = _known(a)[:, None] & _known(b)[None, :]
    distance: Floats = np.where(known, 1 - a @ b.T, 0.0)
    return distance


def _known(look: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    return np.asarray(look.any(1), np.bool_)


class Tracker:
    """Gives faces their tracks, frame by frame.

    Found faces are paired with tracks by the optimal assignment over how far they are from where the track should be
    and how much they look like it. A track that the detector missed is looked for once more where it should be. What
    stays unseen is remembered and gets its number back when a face appears that looks like it and that it could have
    reached. A cut ends all tracks; numbers go on. Equal input gives equal output.

    Parameters
    ----------
    patience
        Seconds after which a track out of sight ends. Memory holds the tracks of that long.

    Raises
    ------
    OptionError
        If ``patience`` is negative or not finite.
    """

    def __init__(self, *, patience: float = 2.0) -> None:
        if not 0 <= patience < math.inf:
            msg = f"patience is {patience}; give seconds, 0 or more"
            raise OptionError(msg)
        self.patience = float(patience)
        self._next = 0
        self._clock = 0.0
        self._time = math.nan
        self._step = _STEP
        self._tracks = _Tracks.none()

    def update(
        self, found: Sightings | None, *, time: float, cut: bool = False, follow: Follow | None = None
    ) -> Tracked:
        """Take the next frame.

        Parameters
        ----------
        found
            What the detector found; None where it did not look.
        time
            Seconds. Where it is NaN or not after the last, a frame counts as long as the last did.
        cut
            A new shot begins with this frame.
        follow
            Looks again at predicted places; None: only what was found is there.

        Raises
        ------
        ShapeError
            If ``look`` has another width than before.
        """
        self._tick(time)
        if cut:
            self._tracks = _Tracks.none(self._tracks.look.shape[1])
        tracks = self._tracks
        self._tracks = tracks.only(~(tracks.lost & (self._clock - tracks.seen > self.patience)))
        seen = Sightings.empty() if found is None else found
        row = self._matched(seen)
        rows, followed = self._followed(seen, row, follow, searched=found is not None)
        return self._taken(seen, row, followed, rows)

    def _tick(self, time: float) -> None:
        gap = time - self._time
        if 0 < gap < math.inf:
            self._step = gap
        self._clock += self._step
        self._time = time if math.isfinite(time) else math.nan

    def _matched(self, seen: Sightings) -> NDArray[np.intp]:
        """Return the row of the track of each sighting; -1 where it has none."""
        out = np.full(len(seen), -1, np.intp)
        tracks = self._tracks
        if not len(tracks) or not len(seen):
            return out
        away, unlike = self._distances(seen)
        gap = (self._clock - tracks.seen)[:, None]
        reach = np.minimum(_REACH + _SPREAD * gap, _FARTHEST)
        here = ~tracks.lost[:, None]
        blind = ~(_known(tracks.look)[:, None] & _known(seen.look)[None, :])
        fits = (away < np.where(blind, np.minimum(reach, _BLIND), reach)) & (unlike < _ALIKE)
        for allowed in (fits & here & (away < 2 * _REACH), fits):
            free = np.ones(len(tracks), np.bool_)
            free[out[out >= 0]] = False
            cost = np.where(allowed & free[:, None] & (out < 0)[None, :], away / reach + unlike / _ALIKE, np.inf)
            rows, columns = assign(cost, gate=_GATE)
            out[columns] = rows
        return out

    def _distances(self, seen: Sightings) -> tuple[Floats, Floats]:
        """Return how far tracks are from sightings, in sides, and how unlike, each (T, N)."""
        tracks = self._tracks
        place = tracks.predicted(self._clock)
        middle = (place[:, :2] + place[:, 2:]) / 2
        other, size = _middle(seen.box)
        a, b = np.sqrt(tracks.size.prod(1)), np.sqrt(size.prod(1))
        side = np.sqrt(a[:, None] * b[None, :])
        away = np.hypot(*(middle[:, None] - other[None, :]).transpose(2, 0, 1)) / side
        away = np.where(np.abs(np.log(a[:, None] / b[None, :])) < _RESIZED, away, np.inf)
        return away, _unlike(tracks.look, seen.look.astype(np.float64))

    def _followed(
        self, seen: Sightings, row: NDArray[np.intp], follow: Follow | None, *, searched: bool
    ) -> tuple[NDArray[np.intp], Sightings]:
        """Look again for tracks that nothing was found for: their rows, by track, and what is there."""
        tracks = self._tracks
        unseen = np.ones(len(tracks), np.bool_)
        unseen[row[row >= 0]] = False
        if searched:
            tracks.misses[unseen] += 1
        # A place that only the second look takes for a face, oftener than the detector did, is none.
        held = (tracks.misses < tracks.finds) & ((tracks.misses < 2) | (self._clock - tracks.found <= _TRUST))
        recent = ~tracks.lost if searched else ~tracks.lost | (self._clock - tracks.seen <= _AGAIN)
        tried = np.flatnonzero(unseen & held & recent)
        if follow is None:
            if searched:
                tracks.lost[unseen] = True
            return np.empty(0, np.intp), Sightings.empty()
        tracks.lost[unseen] = True
        if not len(tried):
            return tried, Sightings.empty()
        place = tracks.predicted(self._clock)[tried]
        again, there = follow(place.astype(np.float32))
        box = again.box.astype(np.float64)
        fit = np.diagonal(iou(place, box))
        unlike = np.diagonal(_unlike(tracks.look[tried], again.look.astype(np.float64)))
        good = there & (fit >= _FITS) & (unlike < _ALIKE)
        kept = _undisputed(box, good, cost=unlike / _ALIKE + 1 - fit, others=seen.box.astype(np.float64))
        return tried[kept], again[kept]

    def _taken(
        self,
        seen: Sightings,
        row: NDArray[np.intp],
        followed: Sightings,
        rows: NDArray[np.intp],
    ) -> Tracked:
        """Bring the tracks up to date and say who is who."""
        tracks, matched = self._tracks, row >= 0
        every = seen.joined(followed)
        alone = _alone(every.box)
        tracks.see(row[matched], seen[matched], self._clock, alone=alone[: len(seen)][matched])
        tracks.see(rows, followed, self._clock, alone=alone[len(seen) :])
        tracks.found[row[matched]], tracks.misses[row[matched]] = self._clock, 0
        tracks.finds[row[matched]] += 1
        names = np.full(len(seen), -1, np.int64)
        names[matched] = tracks.name[row[matched]]
        new = seen[~matched]
        names[~matched] = np.arange(self._next, self._next + len(new))
        carried_names = tracks.name[rows]
        if len(new):
            self._tracks = tracks.joined(_Tracks.born(self._next, new, self._clock))
            self._next += len(new)
        carried = np.arange(len(every)) >= len(seen)
        source = np.where(carried, -1, np.arange(len(every)))
        return Tracked(np.concatenate([names, carried_names]), every, carried, source)

    def state(self) -> dict[str, Any]:
        """Return all that decides what comes next, ready for JSON; floats are exact."""
        tracks = {f.name: getattr(self._tracks, f.name).tolist() for f in fields(_Tracks)}
        return {
            "patience": self.patience,
            "next": self._next,
            "clock": self._clock,
            "time": self._time if math.isfinite(self._time) else None,
            "step": self._step,
            "width": self._tracks.look.shape[1],
            "tracks": tracks,
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        """Return a tracker that goes on where `state` was asked, with the same results to the bit."""
        out = cls(patience=state["patience"])
        out._next, out._clock, out._step = int(state["next"]), float(state["clock"]), float(state["step"])
        out._time = math.nan if state["time"] is None else float(state["time"])
        none, known = _Tracks.none(int(state["width"])), state["tracks"]
        shapes = {f.name: getattr(none, f.name) for f in fields(_Tracks)}
        out._tracks = _Tracks(
            **{k: np.array(known[k], a.dtype).reshape(len(known[k]), *a.shape[1:]) for k, a in shapes.items()}
        )
        return out


def _undisputed(box: Floats, good: NDArray[np.bool_], *, cost: Floats, others: Floats) -> NDArray[np.intp]:
    """Return, ascending, the good rows on no other's face: the cheapest of those that lie on each other stays."""
    good = good & ~((_shared(box, others) > _TAKEN).any(1) if len(others) else np.zeros(len(box), np.bool_))
    kept: list[int] = []
    shared = _shared(box, box)
    for i in np.argsort(cost, kind="stable"):
        if good[i] and not (shared[i, kept] > _TAKEN).any():
            kept.append(int(i))
    return np.array(sorted(kept), np.intp)


def _shared(a: Floats, b: Floats) -> Floats:
    """Return overlaps (N, M); a small box inside a large one counts whole."""
    inside = overlap_smaller(a, b)
    return np.asarray(np.maximum(iou(a, b), np.where(inside > 0.8, inside, 0.0)), np.float64)


def _alone(box: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return (N,) whether no other face is near."""
    middle, size = _middle(box)
    side = np.sqrt(size.prod(1))
    away = np.hypot(*(middle[:, None] - middle[None, :]).transpose(2, 0, 1)) / np.maximum(side[:, None], side[None, :])
    np.fill_diagonal(away, np.inf)
    return np.asarray((away > _APART).all(1), np.bool_)
