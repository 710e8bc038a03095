"""The work on one picture or on one frame of a camera, in two parts with the expression model between them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import MienError, TooLargeError
from ..image import Picture, resize
from ..media.stills import read_picture
from ..media.video import Frame
from ..models.base import Boxes
from ..pipeline.analyzer import Analyzer, Look
from ..pipeline.follow import Followed
from ..render.overlay import annotate
from ..results.faces import Faces
from .problem import Problem, problem_of
from .settings import Limits

__all__ = ["SEARCH_EVERY", "Camera", "Found", "FrameWork", "Order", "PictureWork", "Work", "encoded", "problem_for"]

SEARCH_EVERY = 5
"""A camera's faces are searched for in each so many frames and followed in between; a cut brings a search forward."""

_JPEG_QUALITY = 88
_JPEG_SIDE = 65_500
"""The longest side that libjpeg writes, px."""

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Order:
    """One picture to read.

    Attributes
    ----------
    data
        The bytes of its file.
    name
        What its rows are called.
    analyzer
        What reads it.
    annotated
        Draw the faces into it.
    crops
        Give the faces as they were read.
    """

    data: bytes
    name: str
    analyzer: Analyzer
    annotated: bool = False
    crops: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one picture.

    Attributes
    ----------
    faces
        Its rows, one at least.
    width, height
        Pixels.
    seconds
        From its turn to its faces.
    more
        Faces that were found and not read, because the picture has more than the limit allows.
    crops
        The faces as they were read, JPEG, if they were asked for.
    annotated
        The picture with its faces drawn into it, JPEG, if it was asked for.
    """

    faces: Faces
    width: int
    height: int
    seconds: float
    more: int = 0
    crops: tuple[bytes, ...] = ()
    annotated: bytes | None = None


class DroppedError(Exception):
    """Nobody waits for this work any more."""


class Work(ABC):
    """One thing that waits for a thread, and who waits for it.

    ``look`` runs in a thread of its own among a few, ``found`` after the expression model said its scores. Where
    ``drawn`` holds, ``found`` needs the picture too, and its thread waits for the model, so that never more pictures
    are decoded than there are threads.
    """

    analyzer: Analyzer
    drawn = False

    def __init__(self, path: tuple[Hashable, ...], size: int) -> None:
        self.path, self.size = path, size
        self.answer: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self.dropped = False
        self.began = 0.0

    @abstractmethod
    def look(self) -> Look:
        """Decode, find the faces and cut them out."""

    @abstractmethod
    def found(self, look: Look, scores: Scores) -> Found:
        """Make the answer."""

    def go_on(self) -> None:
        """Stop here when nobody waits for the answer.

        Raises
        ------
        DroppedError
            If so.
        """
        if self.dropped:
            raise DroppedError

    def settle(self, result: Found | BaseException) -> None:
        """Hand the answer, or why there is none, to whoever waits; for any thread."""

        def tell() -> None:
            if self.answer.done():
                return
            if isinstance(result, BaseException):
                self.answer.set_exception(result)
            else:
                self.answer.set_result(result)

        try:
            self.answer.get_loop().call_soon_threadsafe(tell)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            self.dropped = True


class PictureWork(Work):
    """The work on one picture."""

    def __init__(self, path: tuple[Hashable, ...], order: Order, limits: Limits) -> None:
        super().__init__(path, len(order.data))
        self.order, self.limits, self.analyzer = order, limits, order.analyzer
        self.drawn = order.annotated
        self._data = order.data
        self._picture: Picture | None = None
        self._size, self._more = (0, 0), 0

    def look(self) -> Look:
        """Decode, find the faces and cut them out."""
        picture, self._data = read_picture(self._data, max_pixels=self.limits.pixels), b""
        self._size = picture.shape[1], picture.shape[0]
        self.go_on()
        boxes, self._more = _at_most(self.analyzer.find(picture), self.limits.faces)
        self.go_on()
        if self.drawn:
            self._picture = picture
        return self.analyzer.look(Frame(picture, 0, float("nan")), boxes)

    def found(self, look: Look, scores: Scores) -> Found:
        """Make the answer."""
        faces = self.analyzer.table(Frame(None, 0, float("nan")), look, scores, self.order.name)
        crops = tuple(encoded(c) for c in look.crops) if self.order.crops else ()
        drawn = None
        if self._picture is not None:
            drawn, self._picture = encoded(annotate(self._picture, faces)), None
        return Found(faces, *self._size, perf_counter() - self.began, self._more, crops, drawn)


@dataclass(slots=True)
class Camera:
    """What is known of a camera from its earlier frames.

    Attributes
    ----------
    analyzer
        What reads its frames; it may be changed between two of them.
    limits
        Of pixels and faces.
    follower
        Gives its faces their tracks.
    """

    analyzer: Analyzer
    limits: Limits
    follower: Any = field(init=False)

    def __post_init__(self) -> None:
        self.follower = self.analyzer.follower()


class FrameWork(Work):
    """The work on one frame of a camera, of which one is in work at a time."""

    def __init__(self, path: tuple[Hashable, ...], camera: Camera, data: bytes, index: int, time: float) -> None:
        super().__init__(path, len(data))
        self.analyzer, self._camera = camera.analyzer, camera
        self._data, self._frame = data, Frame(None, index, time)
        self._followed: Followed | None = None
        self._size, self._more = (0, 0), 0

    def look(self) -> Look:
        """Decode, search or follow, and cut the faces out."""
        picture, self._data = read_picture(self._data, max_pixels=self._camera.limits.pixels), b""
        self._size = picture.shape[1], picture.shape[0]
        self.go_on()
        frame = Frame(picture, self._frame.index, self._frame.time)
        follower = self._camera.follower
        glance = follower.glance(frame)
        found = self.analyzer.find(picture) if glance.search else None
        followed = self.analyzer.kept(follower.take(frame, glance, found))
        most = self._camera.limits.faces
        self._more = max(0, len(followed.track) - most)
        self._followed = followed[np.arange(min(most, len(followed.track)))]
        return self.analyzer.look(frame, self._followed.boxes)

    def found(self, look: Look, scores: Scores) -> Found:
        """Make the answer."""
        faces = self.analyzer.table(self._frame, look, scores, "camera")
        if self._followed is not None:
            faces = self.analyzer.marked(faces, self._followed)
        return Found(faces, *self._size, perf_counter() - self.began, self._more)


def _at_most(boxes: Boxes, most: int) -> tuple[Boxes, int]:
    """Return the best boxes and how many there were beside them."""
    return boxes[:most], max(0, len(boxes) - most)


def encoded(picture: Picture) -> bytes:
    """Return a picture as JPEG, smaller where a side is longer than JPEG can say."""
    height, width = picture.shape[:2]
    if (share := _JPEG_SIDE / max(height, width)) < 1:
        picture = resize(picture, max(1, int(width * share)), max(1, int(height * share)))
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    return cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), quality)[1].tobytes()


def problem_for(error: MienError) -> Problem:
    """Return what a client is told of a picture that cannot be read: nothing of this program's own options."""
    problem = problem_of(error)
    message = problem.message.removeprefix("picture in memory: ")
    if isinstance(error, TooLargeError):
        message = message.partition(";")[0]
        return Problem(problem.status, problem.code, message, "make the picture smaller")
    hint = problem.hint or ("send JPEG, PNG, WebP, GIF, BMP or TIFF" if problem.status == 415 else None)
    return Problem(problem.status, problem.code, message, hint)
