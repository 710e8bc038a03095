"""One face over time: a search in some frames, a short look at the same places in those between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..geometry import iou
from ..image import Picture
from ..media.shots import Shots
from ..media.video import Frame
from ..models.base import Boxes
from ..track.appearance import look
from ..track.tracker import Follow, Sightings, Tracker

__all__ = ["Followed", "Follower", "Following", "Glance"]


@runtime_checkable
class Following(Protocol):
    """A detector that can look again at known places for a small part of a search's cost."""

    def follow(self, picture: Picture, box: NDArray[np.float32]) -> tuple[Boxes, NDArray[np.bool_]]:
        """Fit N boxes to this picture; say at which of them there is a face."""
        ...


@dataclass(frozen=True, slots=True)
class Glance:
    """What is known of a frame before anybody looked for faces.

    Attributes
    ----------
    cut
        It begins a new shot.
    shot
        Number of its shot, from 0.
    change
        How much it differs from the frame before, [0, 1]; NaN for the first and for a frame without a picture.
    search
        It is a frame in which the detector looks.
    """

    cut: bool
    shot: int
    change: float
    search: bool


@dataclass(frozen=True, slots=True)
class Followed:
    """The faces of one frame with their tracks; best score of the detector first, then those that were followed."""

    boxes: Boxes
    track: NDArray[np.int64]
    carried: NDArray[np.bool_]

    def __getitem__(self, index: NDArray[np.intp]) -> Followed:
        return Followed(self.boxes[index], self.track[index], self.carried[index])


class Follower:
    """Gives every face of a film one number for as long as it is seen.

    Frames are first shown to `glance`, in order, which is cheap and tells where a search is due; the searches may then
    run side by side, and their results come to `take`, in the same order.

    Parameters
    ----------
    follow
        What looks again at known places; None: boxes move on as they moved.
    every
        A search in each so many frames; a cut brings one forward.
    """

    def __init__(self, follow: Callable[..., tuple[Boxes, NDArray[np.bool_]]] | None, *, every: int = 1) -> None:
        self._follow, self._every = follow, every
        self._tracker, self._shots = Tracker(), Shots()
        self._age, self._shot = every, 0
        self._last = np.empty((0, 4), np.float32)

    def glance(self, frame: Frame) -> Glance:
        """Look at the next frame as a whole."""
        if frame.picture is None:
            return Glance(cut=False, shot=self._shot, change=float("nan"), search=False)
        cut, change = self._shots.update(frame.picture)
        self._shot += cut
        self._age += 1
        search = cut or self._age >= self._every
        if search:
            self._age = 0
        return Glance(cut, self._shot, change, search)

    def take(self, frame: Frame, glance: Glance, found: Boxes | None) -> Followed:
        """Give the faces of the next frame their tracks.

        Parameters
        ----------
        frame, glance
            The frame and what `glance` said of it.
        found
            What the detector found; None where it did not look.
        """
        if frame.picture is None:
            self._last = self._last[:0]
            return Followed(Boxes.empty(), np.empty(0, np.int64), np.empty(0, np.bool_))
        sightings = None if found is None else _sightings(frame.picture, found)
        tracked = self._tracker.update(
            sightings, time=frame.time, cut=glance.cut, follow=self._looking(frame.picture, searched=found is not None)
        )
        seen = tracked.sightings
        self._last = seen.box
        eyes = np.full(len(tracked.track), -1, np.int16)
        if found is not None:
            direct = tracked.source >= 0
            eyes[direct] = found.eyes[tracked.source[direct]]
        return Followed(Boxes(seen.box, seen.score, seen.points, eyes), tracked.track, tracked.carried)

    def _looking(self, picture: Picture, *, searched: bool) -> Follow | None:
        if self._follow is None:
            # Without a second look there is no evidence: where a search found nothing, nothing is.
            return None if searched else lambda box: _carried(picture, box, self._last)
        again = self._follow

        def following(box: NDArray[np.float32]) -> tuple[Sightings, NDArray[np.bool_]]:
            boxes, there = again(picture, box)
            return _sightings(picture, boxes), there

        return following

    def glanced(self) -> dict[str, Any]:
        """Return all that decides what `glance` says next, ready for JSON; floats are exact."""
        return {"shots": self._shots.state(), "age": self._age, "shot": self._shot}

    def taken(self) -> dict[str, Any]:
        """Return all that decides what `take` gives next, ready for JSON; floats are exact."""
        return {"tracker": self._tracker.state(), "last": self._last.tolist()}

    def restore(self, glanced: Mapping[str, Any], taken: Mapping[str, Any]) -> Self:
        """Go on after the frame at which `glanced` and `taken` were asked."""
        self._shots = Shots.restored(glanced["shots"])
        self._age, self._shot = int(glanced["age"]), int(glanced["shot"])
        self._tracker = Tracker.restored(taken["tracker"])
        self._last = np.array(taken["last"], np.float32).reshape(-1, 4)
        return self


def _sightings(picture: Picture, boxes: Boxes) -> Sightings:
    return Sightings(boxes.box, boxes.score, boxes.points, look(picture, boxes.box))


def _carried(
    picture: Picture, box: NDArray[np.float32], last: NDArray[np.float32]
) -> tuple[Sightings, NDArray[np.bool_]]:
    """Take it that a face that was there in the frame before is where it should be now; one that was lost is not."""
    n = len(box)
    points = np.full((n, 5, 2), np.nan, np.float32)
    there = np.asarray((iou(box, last) > 0).any(1), np.bool_) if n and len(last) else np.zeros(n, np.bool_)
    return Sightings(box, np.full(n, np.nan, np.float32), points, look(picture, box)), there
