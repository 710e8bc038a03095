"""The periods of a report: which part of which frame belongs to which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from .index import Index
from .tables import Frames
from .timeline_rows import Moments, moments

__all__ = ["BY", "Periods", "clock", "periods", "plain"]

BY = ("film", "shot", "minute", "hour", "day")
"""What a report can be by."""

_LENGTH = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}
_WHOLE_DAY = len("2024-05-01")


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Parts of one film's frames: (P,) place in the frame table, ascending, period and seconds of each part."""

    place: NDArray[np.intp]
    period: NDArray[np.intp]
    seconds: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Periods:
    """The P periods of a report in their order; ``pieces`` has one entry a film, ``film`` is -1 for several films."""

    by: str
    films: tuple[str, ...]
    film: tuple[int, ...]
    names: tuple[str, ...]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    seconds: NDArray[np.float64]
    unreadable: NDArray[np.float64]
    frames: tuple[Frames, ...]
    pieces: tuple[Pieces, ...]


def clock(seconds: float) -> str:
    """Return a time as h:mm:ss, rounded down.

    >>> clock(3723.9)
    '1:02:03'
    """
    whole = int(np.floor(seconds))
    sign, whole = ("-", -whole) if whole < 0 else ("", whole)
    return f"{sign}{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def plain(name: str) -> str:
    r"""Return a file's name as text that any table or page can hold: odd bytes written out, line ends as spaces.

    >>> plain("a\nb.mp4")
    'a b.mp4'
    """
    return "".join(c if c.isprintable() else " " for c in name.encode("utf-8", "backslashreplace").decode())


def periods(indexes: Sequence[Index], by: str, dates: Sequence[str] = ()) -> Periods:
    """Cut films into periods; a frame that is shown across a border counts on both sides, for its time there.

    Raises
    ------
    OptionError
        If ``by`` is none of `BY`, or a date is lacking or is none.
    """
    if by not in BY:
        msg = f"unknown period {by!r}; choose one of: {', '.join(BY)}"
        raise OptionError(msg)
    begun = _recorded(indexes, dates) if by == "day" else [None] * len(indexes)
    frames = tuple(index.frames() for index in indexes)
    cuts = [_cut(f, by, when) for f, when in zip(frames, begun, strict=True)]
    keys = sorted({(-1 if by == "day" else n, key) for n, (_, keys, _, _) in enumerate(cuts) for key in set(keys)})
    number = {key: i for i, key in enumerate(keys)}
    start, end = np.full(len(keys), np.inf), np.full(len(keys), -np.inf)
    seconds, unreadable = np.zeros(len(keys)), np.zeros(len(keys))
    pieces = []
    for n, (place, key, span, when) in enumerate(cuts):
        at = np.array([number[-1 if by == "day" else n, k] for k in key], np.intp)
        pieces.append(Pieces(place, at, span))
        np.add.at(seconds, at, span)
        np.add.at(unreadable, at, np.where(frames[n].reason[place] == "unreadable", span, 0.0))
        np.minimum.at(start, at, when.start[place])
        np.maximum.at(end, at, when.end[place])
    if by in {"minute", "hour"}:
        start = np.array([key for _, key in keys], np.float64) * _LENGTH[by]
        end = start + _LENGTH[by]
    elif by == "day":
        start, end = np.full(len(keys), np.nan), np.full(len(keys), np.nan)
    names = tuple(_name(by, key, s) for (_, key), s in zip(keys, start, strict=True))
    film = tuple(f for f, _ in keys)
    return Periods(
        by, tuple(i.name for i in indexes), film, names, start, end, seconds, unreadable, frames, tuple(pieces)
    )


_Cut = tuple[NDArray[np.intp], list[int], NDArray[np.float64], Moments]


def _cut(frames: Frames, by: str, begun: tuple[datetime, bool] | None) -> _Cut:
    """Return place, key and seconds of each part of a frame, and when the frames were shown."""
    when = moments(frames)
    whole = np.arange(len(frames))
    if by in {"film", "shot"}:
        key = frames.shot.tolist() if by == "shot" else [0] * len(frames)
        return whole, key, when.seconds, when
    length, shift = _LENGTH[by], 0.0
    first = 0
    if begun is not None:
        day, timed = begun
        midnight = day.replace(hour=0, minute=0, second=0, microsecond=0)
        first = midnight.toordinal()
        if not timed:
            return whole, [first] * len(frames), when.seconds, when
        shift = (day - midnight).total_seconds() - (float(when.start[0]) if len(frames) else 0.0)
    start, end = when.start + shift, when.end + shift
    # A thousandth of a millisecond: rounding, not showing.
    low = np.floor(start / length + 1e-6 / length).astype(np.int64)
    high = np.maximum(low, np.ceil(end / length - 1e-6 / length).astype(np.int64) - 1)
    count = high - low + 1
    place = np.repeat(whole, count)
    key = low[place] + np.arange(len(place)) - np.repeat(np.cumsum(count) - count, count)
    span = np.minimum(end[place], (key + 1) * length) - np.maximum(start[place], key * length)
    return place, (key + first).tolist(), np.maximum(span, 1e-9), when


def _name(by: str, key: int, start: float) -> str:
    if by == "film":
        return "whole film"
    if by == "shot":
        return f"shot {key}"
    return datetime.fromordinal(key).date().isoformat() if by == "day" else clock(start)


def _recorded(indexes: Sequence[Index], dates: Sequence[str]) -> list[tuple[datetime, bool] | None]:
    if len(dates) not in {0, 1, len(indexes)}:
        msg = f"{len(dates)} dates for {len(indexes)} films; give one --date for all, or one for each"
        raise OptionError(msg)
    given = list(dates) * len(indexes) if len(dates) == 1 else list(dates)
    said: list[Any] = given or [i.manifest["film"].get("recorded") for i in indexes]
    return [_moment(index, text, given=bool(given)) for index, text in zip(indexes, said, strict=True)]


def _moment(index: Index, text: Any, *, given: bool) -> tuple[datetime, bool]:
    if not text:
        msg = f"{index.path}: the film does not say when it was recorded; say it with --date YYYY-MM-DD"
        raise OptionError(msg)
    try:
        # What a container says is mostly universal time; days are counted on the clock that was written down.
        moment = datetime.fromisoformat(str(text)).replace(tzinfo=None)
        moment + timedelta(days=366)
    except (ValueError, OverflowError) as error:
        what = f"--date is {text!r}" if given else f"{index.path}: the film says that it was recorded on {text!r}"
        msg = f"{what}, which is no date; write --date YYYY-MM-DD"
        raise OptionError(msg) from error
    return moment, len(str(text)) > _WHOLE_DAY
