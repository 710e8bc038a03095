"""Scores made steady over time, within a track and never beyond it. The rules of when one counts are in `repeat`.

What smoothing can and cannot do: every smoothed score lies between the lowest and the highest that the label had in the
rows looked at (the median's before its rows are brought back to a sum of 1), and a label that is on top in all of these
rows stays on top. But a label can come out on top that no row had there: one that was second in every row, while the
first place went to a different label each time. With two labels, or scores of 0 and 1 alone, that cannot happen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..results.faces import Faces
from .repeat import (
    Events,
    Floats,
    Holds,
    Integers,
    Repeater,
    RepeaterStream,
    events,
    hysteresis,
    in_order,
    of_one_length,
    run_numbers,
)

__all__ = [
    "GAP",
    "Events",
    "Holds",
    "Repeater",
    "RepeaterStream",
    "Smoothing",
    "events",
    "exponential",
    "hysteresis",
    "median",
    "run_numbers",
    "smoothed",
]

F = TypeVar("F", np.float32, np.float64)

GAP = 1.0
"""Seconds without a row that was read, after which exponential smoothing begins anew."""

_PART = 1 << 16
_CHUNK = 64
_BLOCK = 1 << 13
_NETWORK = 15


def exponential(scores: NDArray[F], time: Floats, track: Integers, *, seconds: float, gap: float = GAP) -> NDArray[F]:
    """Let each score follow the track's scores with a delay: the newer a row, the more it weighs.

    A row gets ``a · before + (1 - a) · own`` with ``a = exp(-Δt / seconds)``, where *before* is what the row before it
    got and Δt the seconds since then: the moving average for unevenly spaced times in the form that takes a value to
    hold since the time before ("next point", A. Eckner, Algorithms for Unevenly Spaced Time Series, 2019). It looks
    only back, so that a change is shown late, by ``seconds`` on average.

    Parameters
    ----------
    scores
        (N, K); a row with a NaN was not read: it stays as it is, and the others pass it by.
    time
        (N,) seconds; a row without a time (NaN) stays as it is.
    track
        (N,) rows in any order; a row without a track (below 0) stays as it is.
    seconds
        The time constant, above 0; a sudden change has come through by 63 % after it.
    gap
        After so many seconds without a row that was read, the next row begins anew.

    Returns
    -------
    ndarray
        (N, K) of the same dtype, in the order of the input; a row sums to what its parts sum to.

    Raises
    ------
    ShapeError
        If the arrays do not have one length.
    OptionError
        If ``seconds`` or ``gap`` is not above 0.
    """
    for name, given in {"seconds": seconds, "gap": gap}.items():
        if not given > 0:
            msg = f"{name} is {given}; give a number above 0"
            raise OptionError(msg)
    of_one_length(track=track, scores=scores, time=time)
    order = np.lexsort((time, track))
    usable = ~np.isnan(scores).any(1) & ~np.isnan(time) & (track >= 0)
    order = order[usable[order]]
    since = np.full(len(order), np.inf)
    since[1:] = np.where(np.diff(track[order]) == 0, np.diff(time[order]), np.inf)
    weight = np.where(since <= gap, np.exp(-since / seconds), 0.0)
    out = scores.copy()
    before = np.zeros(scores.shape[1])
    for start in range(0, len(order), _PART):
        rows, w = order[start : start + _PART], weight[start : start + _PART]
        value = np.ascontiguousarray(scores[rows].T, np.float64)
        value *= 1 - w
        value[:, 0] += w[0] * before
        done = _recursion(w, value)
        out[rows], before = done.T, done[:, -1]
    return out


def _recursion(weight: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return y (K, N) with ``y[:, i] = weight[i] · y[:, i - 1] + value[:, i]``; nothing comes before the first.

    Chunks side by side, each from nothing; then what each takes over from the one before, by the same recursion.
    """
    columns, rows = value.shape
    chunks = -(-rows // _CHUNK)
    w, y = np.zeros(chunks * _CHUNK), np.zeros((columns, chunks * _CHUNK))
    w[:rows], y[:, :rows] = weight, value
    # Position in the chunk first, chunks last: each step runs along memory.
    w = np.ascontiguousarray(w.reshape(chunks, _CHUNK).T)
    y = np.ascontiguousarray(np.moveaxis(y.reshape(columns, chunks, _CHUNK), 2, 0))
    for i in range(1, _CHUNK):
        y[i] += w[i] * y[i - 1]
    if chunks > 1:
        w = np.cumprod(w, axis=0)
        ends = _recursion(w[-1], y[-1])
        for i in range(_CHUNK):
            y[i, :, 1:] += w[i, 1:] * ends[:, :-1]
    return np.moveaxis(y, 0, 2).reshape(columns, -1)[:, :rows]


def median(scores: NDArray[F], track: Integers, ordinal: Integers, *, frames: int) -> NDArray[F]:
    """Give each row the median of each label over the frames around it: a stray frame leaves no trace.

    The window holds the rows of the track at most ``frames // 2`` frames before or after (J. W. Tukey, Exploratory Data
    Analysis, 1977), however many of them there are; of an even number, the mean of the two in the middle. Then each row
    is divided by its sum. It needs frames to come, so it is no way for live use.

    Parameters
    ----------
    scores
        (N, K), at least 0; a row with a NaN was not read: it stays as it is and is in nobody's window.
    track, ordinal
        (N,) rows in any order; a row without a track (below 0) stays as it is.
    frames
        Width of the window, odd.

    Returns
    -------
    ndarray
        (N, K) of the same dtype, in the order of the input; smoothed rows sum to 1. A row in whose window every label
        has a median of 0 stays as it is.

    Raises
    ------
    ShapeError, DataError
        As `run_numbers`.
    OptionError
        If ``frames`` is not odd and above 0.
    """
    if frames < 1 or frames % 2 == 0:
        msg = f"frames is {frames}; give an odd number, the frame itself and as many before as after it"
        raise OptionError(msg)
    of_one_length(track=track, scores=scores, ordinal=ordinal)
    order = in_order(track, ordinal)
    order = order[(~np.isnan(scores).any(1) & (track >= 0))[order]]
    own, t, o = scores[order], track[order], ordinal[order]
    out = scores.copy()
    reach = min(frames // 2, max(len(order) - 1, 0))
    step = max(_BLOCK // frames, 1)
    for start in range(0, len(order), step):
        rows = np.arange(start, min(start + step, len(order)))
        out[order[rows]] = _medians(own, t, o, rows, reach, frames // 2)
    return out


def _medians(
    own: NDArray[F], track: Integers, ordinal: Integers, rows: NDArray[np.intp], reach: int, half: int
) -> NDArray[F]:
    """Return the medians (R, K) around some rows, divided by their sum; all arrays in order of track and ordinal."""
    around = rows + np.arange(-reach, reach + 1)[:, None]
    inside = (around >= 0) & (around < len(own))
    around = np.clip(around, 0, len(own) - 1)
    inside &= (track[around] == track[rows]) & (np.abs(ordinal[around] - ordinal[rows]) <= half)
    window = own[around]
    window[~inside] = np.inf
    _sort(window)
    count = inside.sum(0)[None, :, None]
    low, high = (np.take_along_axis(window, at, 0)[0] for at in ((count - 1) // 2, count // 2))
    middle = (low + high) / 2
    total = middle.sum(1, keepdims=True)
    shares: NDArray[F] = np.where(total > 0, middle / np.where(total > 0, total, 1), own[rows])
    return shares


def _sort(window: NDArray[Any]) -> None:
    """Sort along the first axis in place: whole planes are compared where they are few, which is many times faster."""
    if len(window) > _NETWORK:
        window.sort(axis=0)
        return
    for end in range(len(window) - 1, 0, -1):
        for i in range(end):
            lower = np.minimum(window[i], window[i + 1])
            np.maximum(window[i], window[i + 1], out=window[i + 1])
            window[i] = lower


Kind = Literal["none", "exponential", "median"]


@dataclass(frozen=True, slots=True)
class Smoothing:
    """How scores are made steady: ``none``, ``exponential`` with a time constant, or ``median`` over some frames.

    Attributes
    ----------
    kind
        Which.
    amount
        Seconds of `exponential`, or the frames of `median`; 0 for none.

    Raises
    ------
    OptionError
        If there is no such way, or the amount is impossible.

    Examples
    --------
    >>> str(Smoothing.parse("exponential:0.5"))
    'exponential:0.5'
    """

    kind: Kind = "none"
    amount: float = 0.0

    def __post_init__(self) -> None:
        fits = {
            "none": self.amount == 0,
            "exponential": 0 < self.amount < math.inf,
            "median": self.amount > 0 and self.amount % 2 == 1,
        }
        if not fits.get(self.kind, False):
            raise OptionError(_refusal(f"{self.kind}:{self.amount:g}"))

    @classmethod
    def parse(cls, text: str) -> Smoothing:
        """Read ``"none"``, ``"exponential:SECONDS"`` or ``"median:FRAMES"``, FRAMES odd.

        Raises
        ------
        OptionError
            If it is anything else; the message says what it may be.
        """
        kind, colon, amount = text.strip().partition(":")
        try:
            number = float(amount) if colon else 0.0
            return cls(_KINDS[kind], number)
        except (KeyError, ValueError):
            raise OptionError(_refusal(text)) from None

    def __str__(self) -> str:
        return self.kind if self.kind == "none" else f"{self.kind}:{self.amount:.15g}"

    def apply(self, scores: NDArray[F], time: Floats, track: Integers, ordinal: Integers) -> NDArray[F]:
        """Return the scores (N, K) made steady; takes and raises what `exponential` and `median` do."""
        if self.kind == "exponential":
            return exponential(scores, time, track, seconds=self.amount)
        if self.kind == "median":
            return median(scores, track, ordinal, frames=int(self.amount))
        return scores


_KINDS: dict[str, Kind] = {kind: kind for kind in get_args(Kind)}


def _refusal(text: str) -> str:
    return (
        f"smoothing {text!r}: give none, exponential:SECONDS (as exponential:0.5) or median:FRAMES, odd (as median:5)"
    )


def smoothed(faces: Faces, ordinal: Integers, smoothing: Smoothing) -> Faces:
    """Return the faces with steady scores, so that ``top``, ``second`` and ``margin`` follow them.

    Parameters
    ----------
    faces
        Rows in any order; those without a track stay as they are. Tracks of different sources are different tracks.
    ordinal
        (N,) the number of each row's frame among those that were read.
    smoothing
        How.

    Returns
    -------
    Faces
        The same rows with other scores. The reasons stand as they were found in the single frames: one that was below
        ``min_score`` keeps that reason.

    Raises
    ------
    ShapeError, DataError
        As `exponential` and `median`.
    """
    track = faces.track
    if len(faces.sources) > 1:
        track = np.where(track >= 0, track * len(faces.sources) + faces.source, track)
    return faces.with_(expression=smoothing.apply(faces.expression, faces.time, track, ordinal))
