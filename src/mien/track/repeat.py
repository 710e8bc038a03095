"""When an expression counts: unchanged for some frames or seconds, with onset, peak and offset."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, OptionError, ShapeError

__all__ = ["Events", "Holds", "Repeater", "RepeaterStream", "events", "hysteresis", "run_numbers"]

Integers = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]
Labels = NDArray[np.str_] | Integers

_INSTANT = 1e-9
"""Seconds by which a difference of time stamps may fall short: 10.48 - 10.16 is less than 0.32."""


def run_numbers(track: Integers, ordinal: Integers, *, bridge: int = 0) -> NDArray[np.int64]:
    """Return numbers for the stretches in which a face is seen frame after frame.

    Parameters
    ----------
    track, ordinal
        (N,) the track of each row, and the number of its frame among those that were read; in any order of rows.
    bridge
        So many frames in a row may lack the face without ending the stretch.

    Returns
    -------
    ndarray
        (N,) int64, from 0 in the order of (track, ordinal): a new number where the track changes or the ordinal jumps
        by more than 1 + ``bridge``. A row without a track (below 0) is a stretch of its own.

    Raises
    ------
    ShapeError
        If the arrays do not have one length.
    OptionError
        If ``bridge`` is below 0.
    DataError
        If a track has two rows in one frame.

    Examples
    --------
    >>> run_numbers(np.array([0, 0, 0, 1]), np.array([4, 5, 7, 8])).tolist()
    [0, 0, 1, 2]
    >>> run_numbers(np.array([0, 0, 0, 1]), np.array([4, 5, 7, 8]), bridge=1).tolist()
    [0, 0, 0, 1]
    """
    order = in_order(track, ordinal)
    begins = _begins(track[order], ordinal[order], bridge)
    out = np.empty(len(track), np.int64)
    out[order] = np.cumsum(begins) - 1
    return out


def in_order(track: Integers, ordinal: Integers) -> NDArray[np.intp]:
    """Return the places (N,) of the rows in the order of (track, ordinal).

    Raises
    ------
    ShapeError
        If the arrays do not have one length.
    DataError
        If a track has two rows in one frame.
    """
    of_one_length(track=track, ordinal=ordinal)
    order = np.lexsort((ordinal, track))
    t, o = track[order], ordinal[order]
    twice = np.flatnonzero((t[1:] == t[:-1]) & (o[1:] == o[:-1]) & (t[1:] >= 0))
    if len(twice):
        msg = f"track {t[twice[0]]} has two rows in frame {o[twice[0]]}; a track is one face, seen once a frame"
        raise DataError(msg)
    return order


def of_one_length(**arrays: NDArray[Any]) -> None:
    """Raise `ShapeError` unless all arrays are (N, …) of one N and all but ``scores`` have one axis."""
    rows = len(next(iter(arrays.values())))
    for name, array in arrays.items():
        axes = 2 if name == "scores" else 1
        if array.ndim != axes or len(array) != rows:
            raise ShapeError(name, f"({rows}, K)" if axes == 2 else f"({rows},)", array.shape)


def _begins(track: Integers, ordinal: Integers, bridge: int) -> NDArray[np.bool_]:
    """Return where a stretch begins, for rows in order."""
    if bridge < 0:
        msg = f"bridge is {bridge}; give the frames that may be missing, at least 0"
        raise OptionError(msg)
    begins = np.ones(len(track), np.bool_)
    begins[1:] = (track[1:] != track[:-1]) | (track[1:] < 0) | (np.diff(ordinal) > 1 + bridge)
    return begins


def hysteresis(
    score: Floats, track: Integers, ordinal: Integers, *, enter: float, leave: float, bridge: int = 0
) -> NDArray[np.bool_]:
    """Return where a score is on: from where it reaches ``enter`` to where it falls below ``leave``.

    Two thresholds instead of one keep a score that trembles about one of them from switching with every frame (the
    trigger of O. H. Schmitt 1938, J. Sci. Instrum. 15, 24).

    Parameters
    ----------
    score, track, ordinal
        (N,) rows in any order.
    enter, leave
        ``enter`` ≥ ``leave``; with both alike it is a plain threshold.
    bridge
        So many frames in a row may lack the face, or its score, without switching off.

    Returns
    -------
    ndarray
        (N,) bool. A row without a score (NaN) or a track is off; a row behind a longer gap has to reach ``enter``
        again, and so has the first of a track.

    Raises
    ------
    ShapeError, DataError
        As `run_numbers`.
    OptionError
        If ``enter`` is below ``leave``, one of them is not a number, or ``bridge`` is below 0.
    """
    if not enter >= leave:
        msg = f"enter is {enter} and leave {leave}; give numbers, enter not below leave"
        raise OptionError(msg)
    of_one_length(track=track, score=score, ordinal=ordinal)
    order = in_order(track, ordinal)
    order = order[(~np.isnan(score[order])) & (track[order] >= 0)]
    value = score[order]
    out = np.zeros(len(track), np.bool_)
    # The last row that switched, or that began a stretch, says how things are.
    begins = _begins(track[order], ordinal[order], bridge)
    tells = begins | (value >= enter) | (value < leave)
    last = np.maximum.accumulate(np.where(tells, np.arange(len(order)), 0))
    out[order] = value[last] >= enter if len(order) else False
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Holds:
    """Stretches in which a track shows one expression unchanged, S of them in order of ``first``, then ``track``.

    Attributes
    ----------
    track
        (S,) int64.
    label
        (S,) as given: names or codes.
    onset, offset
        (S,) float64, seconds: the time of the first and of the last row; NaN where no times were given.
    first, last
        (S,) int64: the ordinals of these rows.
    frames
        (S,) int64: rows, which are fewer than the frames from first to last where a gap was bridged.
    """

    track: NDArray[np.int64]
    label: NDArray[Any]
    onset: NDArray[np.float64]
    offset: NDArray[np.float64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    frames: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.track)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeater:
    """An expression counts when a face shows it unchanged for some frames or some time.

    Rows of one track that name the same expression on consecutive frames are one hold. A row that names none (its face
    was not read, or no label reached the limit) or that is missing ends it, unless ``bridge`` allows for it; a row that
    names another expression always ends it. All rows of a hold count when it is long enough, and none of them
    otherwise. Bridged frames are no evidence and do not add to the number of frames, only to the time.

    Attributes
    ----------
    frames
        Rows that a hold has at least. Give this or ``seconds``.
    seconds
        Time from a hold's first row to its last, at least; for films of varying frame rate. Where it is told until when
        a row is shown, to the end of the last row, as ``for 2 s`` of a query means it.
    bridge
        So many frames in a row may be missing or name nothing.

    Raises
    ------
    OptionError
        If not one of ``frames`` and ``seconds`` is given, or a value is impossible.

    Examples
    --------
    >>> happy = np.array(["happy", "happy", "sad", "happy"])
    >>> Repeater(frames=2).keep(happy, np.zeros(4, np.int64), np.arange(4)).tolist()
    [True, True, False, False]
    """

    frames: int | None = None
    seconds: float | None = None
    bridge: int = 0

    def __post_init__(self) -> None:
        if (self.frames is None) == (self.seconds is None):
            msg = f"a repeater of frames {self.frames} and seconds {self.seconds}; give one of the two"
            raise OptionError(msg)
        if self.frames is not None and self.frames < 1:
            msg = f"frames is {self.frames}; give at least 1"
            raise OptionError(msg)
        if self.seconds is not None and not 0 <= self.seconds < math.inf:
            msg = f"seconds is {self.seconds}; give a number of at least 0"
            raise OptionError(msg)
        if self.bridge < 0:
            msg = f"bridge is {self.bridge}; give the frames that may be missing, at least 0"
            raise OptionError(msg)

    def keep(
        self,
        label: Labels,
        track: Integers,
        ordinal: Integers,
        time: Floats | None = None,
        *,
        until: Floats | None = None,
    ) -> NDArray[np.bool_]:
        """Return which rows count.

        Parameters
        ----------
        label
            (N,) names, "" for none, or codes, below 0 for none.
        track, ordinal
            (N,) rows in any order; one without a track (below 0) never counts.
        time
            (N,) seconds; only needed for ``seconds``.
        until
            (N,) seconds, until when each row is shown (`Frames.ends` of a film); None: only its time counts.

        Returns
        -------
        ndarray
            (N,) bool.

        Raises
        ------
        ShapeError, DataError
            As `run_numbers`.
        OptionError
            If ``seconds`` is asked for without times.
        """
        order, _, size, counts = self.holds(label, track, ordinal, time, until)
        out = np.zeros(len(track), np.bool_)
        out[order] = np.repeat(counts, size)
        return out

    def spans(
        self,
        label: Labels,
        track: Integers,
        ordinal: Integers,
        time: Floats | None = None,
        *,
        until: Floats | None = None,
    ) -> Holds:
        """Return the holds that count; takes and raises what `keep` does."""
        order, first, size, counts = self.holds(label, track, ordinal, time, until)
        head, tail = order[first[counts]], order[(first + size - 1)[counts]]
        sort = np.lexsort((track[head], ordinal[head]))
        head, tail = head[sort], tail[sort]
        stamps = np.full(len(track), np.nan) if time is None else np.asarray(time, np.float64)
        return Holds(
            track[head].astype(np.int64),
            label[head],
            stamps[head],
            stamps[tail],
            ordinal[head].astype(np.int64),
            ordinal[tail].astype(np.int64),
            size[counts][sort].astype(np.int64),
        )

    def stream(self) -> RepeaterStream:
        """Return the live form: a row counts once its hold has been long enough up to it."""
        return RepeaterStream(self)

    def enough(self, frames: NDArray[np.intp] | int, seconds: Floats | float) -> NDArray[np.bool_]:
        """Return whether holds of so many rows and so much time from first to last row are long enough."""
        if self.frames is not None:
            return np.asarray(frames) >= self.frames
        return np.asarray(np.asarray(seconds) >= (self.seconds or 0.0) - _INSTANT, np.bool_)

    def holds(
        self,
        label: Labels,
        track: Integers,
        ordinal: Integers,
        time: Floats | None = None,
        until: Floats | None = None,
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
        """Return the named rows in order, and for each hold where among them it begins, its rows, whether it counts."""
        given = {"time": time, "until": until}
        of_one_length(track=track, label=label, ordinal=ordinal, **{n: a for n, a in given.items() if a is not None})
        if self.seconds is not None and time is None:
            msg = f"a repeater of {self.seconds} seconds needs the time of each row"
            raise OptionError(msg)
        order = in_order(track, ordinal)
        named: NDArray[np.bool_] = label != "" if label.dtype.kind not in "iu" else np.greater_equal(label, 0)
        order = order[named[order] & (track[order] >= 0)]
        shown = label[order]
        begins = _begins(track[order], ordinal[order], self.bridge)
        begins[1:] |= shown[1:] != shown[:-1]
        first = np.flatnonzero(begins)
        size = np.diff(np.append(first, len(order)))
        stamps = np.zeros(len(track)) if time is None else time
        ends = stamps if until is None else until
        long = ends[order[first + size - 1]] - stamps[order[first]]
        return order, first, size, self.enough(size, long)


class RepeaterStream:
    """A `Repeater` that looks at each frame once and never back.

    A row counts when its hold has been long enough up to this row, so that the first rows of a hold, which
    `Repeater.keep` counts afterwards, do not count. Memory is bounded by the faces seen in the last 1 + bridge frames.
    """

    def __init__(self, rule: Repeater) -> None:
        self.rule = rule
        self._ordinal = -1
        self._held: dict[int, tuple[str | int, int, float, int]] = {}

    def update(
        self, track: Integers, label: Labels, *, time: float | None = None, ordinal: int | None = None
    ) -> NDArray[np.bool_]:
        """Take the faces of the next frame; a frame without one has to be told too, with empty arrays.

        Parameters
        ----------
        track, label
            (F,) the faces of this frame, as for `Repeater.keep`.
        time
            The frame's time in seconds; only needed for ``seconds``.
        ordinal
            The frame's number, above the one before; None: the next.

        Returns
        -------
        ndarray
            (F,) bool.

        Raises
        ------
        ShapeError
            If the arrays do not have one length.
        OptionError
            If the number is not above the one before, or ``seconds`` is asked for without a time.
        DataError
            If a track has two rows.
        """
        of_one_length(track=track, label=label)
        if self.rule.seconds is not None and time is None:
            msg = f"a repeater of {self.rule.seconds} seconds needs the time of each frame"
            raise OptionError(msg)
        number = self._ordinal + 1 if ordinal is None else ordinal
        if number <= self._ordinal:
            msg = f"frame {number} comes after frame {self._ordinal}; give the frames in their order"
            raise OptionError(msg)
        in_order(track, np.full(len(track), number))
        self._ordinal = number
        reach = number - 1 - self.rule.bridge
        self._held = {t: held for t, held in self._held.items() if held[3] >= reach}
        rows = zip(track.tolist(), label.tolist(), strict=True)
        return np.array([self._one(t, shown, number, 0.0 if time is None else time) for t, shown in rows], np.bool_)

    def _one(self, track: int, shown: str | int, number: int, time: float) -> bool:
        nothing = shown == "" or (isinstance(shown, int) and shown < 0)
        if track < 0 or nothing:
            return False
        before = self._held.get(track)
        if before is None or before[0] != shown:
            before = shown, 0, time, number
        frames, since = before[1] + 1, before[2]
        self._held[track] = shown, frames, since, number
        return bool(self.rule.enough(frames, time - since))


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Expressions that come and go, E of them in order of onset, then track, then label.

    Attributes
    ----------
    track
        (E,) int64.
    label
        (E,) int64, the column of the scores.
    onset, peak, offset
        (E,) float64, seconds: the first row that is on, the first with the highest score, and the last that is on.
    peak_score
        (E,) the score at the peak.
    """

    track: NDArray[np.int64]
    label: NDArray[np.int64]
    onset: NDArray[np.float64]
    peak: NDArray[np.float64]
    offset: NDArray[np.float64]
    peak_score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.track)


def events(
    scores: Floats,
    track: Integers,
    ordinal: Integers,
    time: Floats,
    *,
    enter: float,
    leave: float,
    frames: int = 1,
    bridge: int = 0,
) -> Events:
    """Find where each expression sets in, is strongest and ends.

    An event is a stretch of one track in which `hysteresis` of a label's score is on, of at least ``frames`` rows.
    Labels are looked at one by one: with ``leave`` below a half, two may be on at once.

    Parameters
    ----------
    scores
        (N, K), NaN where a face was not read.
    track, ordinal, time
        (N,) rows in any order; times in seconds.
    enter, leave, bridge
        As for `hysteresis`.
    frames
        Rows that an event has at least.

    Raises
    ------
    ShapeError, DataError, OptionError
        As `hysteresis` and `Repeater`.
    """
    of_one_length(track=track, scores=scores, ordinal=ordinal, time=time)
    rule = Repeater(frames=frames, bridge=bridge)
    switched = partial(hysteresis, track=track, ordinal=ordinal, enter=enter, leave=leave, bridge=bridge)
    found = [
        _events_of(k, scores[:, k], track, ordinal, time, rule, switched(scores[:, k])) for k in range(scores.shape[1])
    ]
    whole, values = (np.concatenate([f[i] for f in found]) for i in range(2)) if found else _NO_EVENTS
    sort = np.lexsort((whole[:, 1], whole[:, 0], values[:, 0]))
    return Events(*whole[sort].T, *values[sort].T)


_NO_EVENTS = np.empty((0, 2), np.int64), np.empty((0, 4))


def _events_of(
    k: int, score: Floats, track: Integers, ordinal: Integers, time: Floats, rule: Repeater, on: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return track and label (E, 2), and onset, peak, offset and peak score (E, 4), of one label."""
    # A row that is read and off names something else: it parts two events, however many frames may be bridged.
    order, first, size, counts = rule.holds(np.where(np.isnan(score), -1, on), track, ordinal)
    counts &= on[order[first]]
    value = np.where(on, score, -np.inf)[order]
    best = np.maximum.reduceat(value, first) if len(first) else value
    at_best = np.flatnonzero(value == np.repeat(best, size))
    peak = order[at_best[np.searchsorted(at_best, first)]][counts]
    head, tail = order[first[counts]], order[(first + size - 1)[counts]]
    rows = np.stack([track[head].astype(np.int64), np.full(len(head), k, np.int64)], 1)
    return rows, np.stack([time[head], time[peak], time[tail], score[peak]], 1).astype(np.float64)
