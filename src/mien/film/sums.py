"""The track table, summed up while the rows go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labels import LabelSet
from ..results.faces import Faces
from .tables import Tracks

__all__ = ["TrackSums", "merit"]


def merit(
    side: NDArray[np.floating[Any]], yaw: NDArray[np.floating[Any]], sharpness: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Return how well each face can be seen, (N,) float64 ≥ 0: its size, less where it is turned or blurred.

    The side in pixels times ``1 - |yaw|`` (at least 0.05) times the sharpness up to 0.3; without points, yaw counts
    as 0.5.
    """
    turned = np.nan_to_num(np.abs(yaw.astype(np.float64)), nan=0.5)
    fine = np.clip(np.nan_to_num(sharpness.astype(np.float64)), 0, 0.3) / 0.3
    out: NDArray[np.float64] = np.nan_to_num(side.astype(np.float64)) * np.maximum(1 - turned, 0.05) * fine
    return out


@dataclass(slots=True)
class _Track:
    shot: int
    first_frame: int
    start: float
    last_frame: int = 0
    end: float = np.nan
    rows: int = 0
    detected: int = 0
    read: int = 0
    side: float = 0.0
    best: float = -1.0
    best_frame: int = -1
    best_time: float = np.nan
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


class TrackSums:
    """Adds up rows; what it holds grows with the number of tracks, not with that of rows."""

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels
        self._tracks: dict[int, _Track] = {}

    def add(self, faces: Faces, details: Mapping[str, NDArray[Any]]) -> None:
        """Add rows, in the order of showing."""
        quality = merit(details["side"], details["yaw"], details["sharpness"])
        read = faces.read
        rows = np.flatnonzero(faces.track >= 0)
        order = rows[np.argsort(faces.track[rows], kind="stable")]
        for at in np.split(order, np.flatnonzero(np.diff(faces.track[order])) + 1) if len(order) else ():
            self._add(faces, details, quality, read, at)

    def _add(
        self,
        faces: Faces,
        details: Mapping[str, NDArray[Any]],
        quality: NDArray[np.float64],
        read: NDArray[np.bool_],
        at: NDArray[np.intp],
    ) -> None:
        first, last = at[0], at[-1]
        number = int(faces.track[first])
        if number not in self._tracks:
            self._tracks[number] = _Track(
                int(details["shot"][first]), int(faces.frame[first]), float(faces.time[first])
            )
            self._tracks[number].scores = np.zeros(len(self._labels))
        track, seen = self._tracks[number], at[read[at]]
        track.last_frame, track.end = int(faces.frame[last]), float(faces.time[last])
        track.rows += len(at)
        track.detected += int((~faces.carried[at]).sum())
        track.read += len(seen)
        track.side += float(details["side"][at].astype(np.float64).sum())
        track.scores = track.scores + faces.expression[seen].astype(np.float64).sum(0)
        among = seen if len(seen) else at
        # A face that was read is better than any that was not.
        worth = quality[among] + (1e6 if len(seen) else 0.0)
        if worth.max() > track.best:
            best = among[int(worth.argmax())]
            track.best, track.best_frame, track.best_time = (
                float(worth.max()),
                int(faces.frame[best]),
                float(faces.time[best]),
            )

    def tracks(self) -> Tracks:
        """Return the table, in the order of the tracks' numbers."""
        held = [self._tracks[n] for n in sorted(self._tracks)]
        names = (
            "shot",
            "first_frame",
            "last_frame",
            "start",
            "end",
            "rows",
            "detected",
            "read",
            "best_frame",
            "best_time",
        )
        with np.errstate(invalid="ignore"):
            sums = np.array([t.scores for t in held], np.float64).reshape(len(held), len(self._labels))
            mean = sums / np.array([t.read for t in held], np.float64)[:, None]
        tops = [self._labels.labels[int(t.scores.argmax())] if t.read else "" for t in held]
        return Tracks.build(
            len(held),
            labels=self._labels,
            mean=mean,
            track=sorted(self._tracks),
            side=[t.side / t.rows for t in held],
            top=np.array(tops, np.str_),
            **{name: [getattr(t, name) for t in held] for name in names},
        )
