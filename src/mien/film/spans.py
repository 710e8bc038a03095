"""Stretches of a film in which a track shows what was asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError

__all__ = ["Spans", "clock"]

_DTYPES: dict[str, str] = {
    "track": "i",
    "shot": "i",
    "first_frame": "i",
    "last_frame": "i",
    "start": "f",
    "end": "f",
    "frames": "i",
    "score": "f",
    "label": "U",
}


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """One row a stretch, S of them in the order of ``start``, then of ``track``.

    Attributes
    ----------
    track
        (S,) int64; -1 for a face without a track.
    shot
        (S,) int64: the shot of its first row.
    first_frame, last_frame
        (S,) int64: the film's frames of the first and of the last row.
    start, end
        (S,) float64 seconds: when the first frame begins to be shown, and when the last ends.
    frames
        (S,) int64: rows in it, fewer than the frames from first to last where a gap was bridged.
    score
        (S,) float64: mean score of the label that was asked for, or of the label on top where not just one was; NaN
        where no row was read.
    label
        (S,) str: the label that was asked for, or the one that is on top most often; empty where none is.
    """

    track: NDArray[np.int64]
    shot: NDArray[np.int64]
    first_frame: NDArray[np.int64]
    last_frame: NDArray[np.int64]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    frames: NDArray[np.int64]
    score: NDArray[np.float64]
    label: NDArray[np.str_]

    def __post_init__(self) -> None:
        for name, kind in _DTYPES.items():
            array = getattr(self, name)
            if array.shape != (len(self.track),) or array.dtype.kind != kind:
                raise ShapeError(name, f"({len(self.track)},) of kind {kind}", f"{array.shape} {array.dtype}")

    def __len__(self) -> int:
        return len(self.track)

    def __getitem__(self, index: slice | NDArray[np.bool_] | NDArray[np.integer[Any]]) -> Self:
        """Return the chosen spans: a mask, indices or a slice."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @property
    def seconds(self) -> NDArray[np.float64]:
        """(S,) float64: how long each lasts."""
        return self.end - self.start

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the columns in their order."""
        return tuple(_DTYPES)

    def records(self) -> list[dict[str, Any]]:
        """Return one dict a span of plain Python values, ready for JSON; what is missing is ``None``.

        Times have six decimals and scores too.
        """
        columns = [getattr(self, f.name).tolist() for f in fields(self)]
        return [dict(zip(_DTYPES, map(_plain, row), strict=True)) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return None if value in {"", -1} else value


def clock(seconds: float) -> str:
    """Return a time as ``h:mm:ss.mmm``; nothing for none.

    >>> clock(3723.5), clock(0.9996), clock(float("nan"))
    ('1:02:03.500', '0:00:01.000', '')
    """
    if not math.isfinite(seconds):
        return ""
    sign, whole = "-" if round(seconds * 1000) < 0 else "", abs(round(seconds * 1000))
    minutes, rest = divmod(whole, 60_000)
    return f"{sign}{minutes // 60}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"
