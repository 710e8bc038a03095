"""Every column of a face table, declared once: CSV header, Parquet schema, JSON keys and the docs follow from this."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np

__all__ = ["ARRAYS", "DERIVED", "POINTS", "Column", "Reason", "flat_names"]

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
        """Read back what ``words`` wrote."""
        flags = cls(0)
        for word in filter(None, words.split("|")):
            flags |= cls[word.upper()]
        return flags


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``shape`` is that of one row, ``missing`` stands where there is no face."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int, ...]
    unit: str
    missing: float | int
    doc: str
    flat: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the column's parts in a flat table."""
        return self.flat or (self.name,)


ARRAYS: tuple[Column, ...] = (
    Column("source", np.int32, (), "index", 0, "Which input, as an index into `Faces.sources`; files hold its name."),
    Column("frame", np.int64, (), "count", 0, "Number of the frame in its source, from 0; 0 for a picture."),
    Column("time", np.float64, (), "s", np.nan, "The container's time stamp of the frame; missing for a picture."),
    Column("face", np.int32, (), "count", -1, "Number of the face in its frame, from 0 at the best detector score; -1: none."),
    Column("box", np.float32, (4,), "px", np.nan, "Far edge outside.", ("x1", "y1", "x2", "y2")),
    Column(
        "points", np.float32, (5, 2), "px", np.nan, "Right eye, left eye, nose, right and left mouth corner (the person's own right).",
        tuple(f"{p}_{a}" for p in POINTS for a in "xy"),
    ),
    Column("score", np.float32, (), "1", np.nan, "The detector's score in [0, 1].", ("detector_score",)),
    Column("eyes", np.int16, (), "count", -1, "Eyes that the eye cascade saw in the box; -1: not looked for."),
    Column("carried", np.bool_, (), "", False, "The box was carried over from an earlier frame, not detected in this one."),
    Column("track", np.int64, (), "id", -1, "One number for one face over time; -1: not tracked."),
    Column("reason", np.uint16, (), "flags", 0, "Why no expression is named; empty when one is."),
)
"""The arrays of `Faces`, in order. The scores follow them, one column a label."""

DERIVED: tuple[Column, ...] = (
    Column("top", np.str_, (), "label", 0, "The label with the highest score; empty where a reason stands against it."),
    Column("second", np.str_, (), "label", 0, "The label with the second score; empty as `top`."),
    Column("margin", np.float32, (), "1", np.nan, "First score less second."),
)
"""Columns that are computed from the scores, written to files for the reader's sake."""


def flat_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the header of a flat table for a label set, in order."""
    arrays = [n for c in ARRAYS for n in c.names]
    cut = arrays.index("reason")
    return (*arrays[:cut], *labels, *(c.name for c in DERIVED), *arrays[cut:])
