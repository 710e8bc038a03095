"""Every column of a face table, declared once: CSV header, Parquet schema, JSON keys and the docs follow from this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntFlag
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, UnknownLabelError

__all__ = ["ARRAYS", "DERIVED", "POINTS", "Column", "Reason", "flat", "flat_names", "scores_column"]

POINTS = ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left")
"""The five points, in this order; right and left are the person's own, so the right eye has the smaller x."""


class Reason(IntFlag):
    """Why a row names no expression. A row may have several reasons; in files they are words joined by ``|``."""

    NO_FACE = 1
    """No face was found in this picture or frame."""
    UNREADABLE = 2
    """The picture or frame could not be decoded."""
    TOO_SMALL = 4
    """The face is smaller than a face that can be read."""
    BLURRED = 8
    """The crop has no fine detail."""
    TOO_DARK = 16
    """The crop is nearly black."""
    TOO_BRIGHT = 32
    """The crop is nearly white."""
    TURNED_AWAY = 64
    """The points say that the face is seen from the side."""
    CUT = 128
    """The border of the picture cuts the face."""
    LOW_SCORE = 256
    """The best score is below ``min_score``: the scores stand, no label is named."""

    @property
    def words(self) -> str:
        """The reasons as they stand in files: ``"too_small|blurred"``, or an empty string."""
        return "|".join(r.name.lower() for r in type(self) if r in self and r.name)

    @classmethod
    def parse(cls, words: str) -> Reason:
        """Read back what ``words`` wrote.

        Raises
        ------
        UnknownLabelError
            If a word is no reason; the message lists the reasons.
        """
        flags = cls(0)
        for word in filter(None, words.split("|")):
            try:
                flags |= cls[word.upper()]
            except KeyError:
                raise UnknownLabelError(word, [r.words for r in cls], what="reason") from None
        return flags


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``shape`` is that of one row, ``missing`` stands where there is no face."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int, ...]
    unit: str
    missing: float | int | str
    doc: str
    flat: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the column's parts in a flat table."""
        return self.flat or (self.name,)

    @property
    def key(self) -> str:
        """The name of the column in a record: its own for an array, that of its one part for a number."""
        return self.name if self.shape else self.names[0]

    @property
    def nullable(self) -> bool:
        """Whether a row may lack the value; files then hold an empty cell or null."""
        return self.missing in {"", -1} or self.missing != self.missing  # only NaN differs from itself

    def lacks(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return a mask, of the values' shape, of those that are missing."""
        if not self.nullable:
            return np.zeros(values.shape, np.bool_)
        absent: NDArray[np.bool_] = np.isnan(values) if values.dtype.kind == "f" else values == self.missing
        return absent

    def plain(self, values: NDArray[Any], *, exact: bool) -> list[Any]:
        """Return the N rows of this column as plain Python values; what is missing is ``None``.

        Parameters
        ----------
        values
            (N, ``*shape``); a row of an array that is missing as a whole is one ``None``.
        exact
            Floats whose shortest text reads back to the same value, not floats rounded to six decimals.
        """
        numbers = _floats(values, exact=exact) if values.dtype.kind == "f" else values.ravel().tolist()
        absent = self.lacks(values)
        listed = [None if gone else v for v, gone in zip(numbers, absent.ravel().tolist(), strict=True)]
        for size in reversed(values.shape[1:]):
            listed = [listed[i : i + size] for i in range(0, len(listed), size)]
        if not self.shape:
            return listed
        nothing = np.asarray(absent.all(axis=tuple(range(1, values.ndim))), np.bool_)
        return [None if gone else v for v, gone in zip(listed, nothing.tolist(), strict=True)]


def _floats(values: NDArray[np.floating[Any]], *, exact: bool) -> list[float]:
    if not exact:
        return [round(v, 6) for v in values.ravel().tolist()]
    # str() of a float32 is its shortest text; as a Python float that decimal keeps this text.
    return [float(str(v)) for v in values.ravel()]


ARRAYS: tuple[Column, ...] = (
    Column("source", np.int32, (), "index", 0, "Which input, as an index into `Faces.sources`; files hold its name."),
    Column("frame", np.int64, (), "count", 0, "Number of the frame in its source, from 0; 0 for a picture."),
    Column("time", np.float64, (), "s", np.nan, "The container's time stamp of the frame; missing for a picture."),
    Column(
        "face",
        np.int32,
        (),
        "count",
        -1,
        "Number of the face in its frame, from 0 at the best detector score; -1: none.",
    ),
    Column("box", np.float32, (4,), "px", np.nan, "Far edge outside.", ("x1", "y1", "x2", "y2")),
    Column(
        "points",
        np.float32,
        (5, 2),
        "px",
        np.nan,
        "Right eye, left eye, nose, right and left mouth corner (the person's own right).",
        tuple(f"{p}_{a}" for p in POINTS for a in "xy"),
    ),
    Column("score", np.float32, (), "1", np.nan, "The detector's score in [0, 1].", ("detector_score",)),
    Column("eyes", np.int16, (), "count", -1, "Eyes that the eye cascade saw in the box; -1: not looked for."),
    Column("carried", np.bool_, (), "", 0, "Followed from an earlier frame, not found by a search of this one."),
    Column("track", np.int64, (), "id", -1, "One number for one face over time; -1: not tracked."),
    Column("reason", np.uint16, (), "flags", 0, "Why no expression is named; empty when one is."),
)
"""The arrays of `Faces`, in order. The scores follow them, one column a label."""

DERIVED: tuple[Column, ...] = (
    Column(
        "top", np.str_, (), "label", "", "The label with the highest score; empty where a reason stands against it."
    ),
    Column("second", np.str_, (), "label", "", "The label with the second score; empty as `top`."),
    Column("margin", np.float32, (), "1", np.nan, "First score less second."),
)
"""Columns that are computed from the scores, written to files for the reader's sake."""


def scores_column(labels: tuple[str, ...]) -> Column:
    """Return the column of the scores of a label set, K labels."""
    return Column("scores", np.float32, (len(labels),), "1", np.nan, "Score of each label, in [0, 1].", labels)


@cache
def flat(labels: tuple[str, ...]) -> Mapping[str, Column]:
    """Return the columns of a flat table for a label set, by name and in order; ``source`` and ``reason`` are text.

    Raises
    ------
    OptionError
        If a label has the name of another column.
    """
    at = next(i for i, c in enumerate(ARRAYS) if c.name == "reason")
    scores = [scores_column(labels)] if labels else []
    columns: list[Column] = []
    for c in (*ARRAYS[:at], *scores, *DERIVED, *ARRAYS[at:]):
        dtype = np.str_ if c.name in {"source", "reason"} else c.dtype
        columns += [replace(c, name=name, dtype=dtype, shape=(), flat=()) for name in c.names]
    named = {c.name: c for c in columns}
    if len(named) < len(columns):
        others = set(flat(())) & set(labels)
        msg = f"a label cannot have the name of a column: rename {', '.join(sorted(others))}"
        raise OptionError(msg)
    return MappingProxyType(named)


def flat_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the header of a flat table for a label set, in order.

    >>> flat_names(("happy", "sad"))[-7:]
    ('track', 'happy', 'sad', 'top', 'second', 'margin', 'reason')
    """
    return tuple(flat(labels))
