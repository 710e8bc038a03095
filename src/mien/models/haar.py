"""OpenCV's Haar cascades: frontal faces, and eyes."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import geometry, image
from ..errors import OptionError
from ..zoo.catalog import card
from ..zoo.store import locate
from .base import Boxes, Picture, at_least, within

__all__ = ["Haar", "count_eyes", "with_eyes"]

_FILES = {"default": "haar-face", "alt2": "haar-face-alt2", "eye": "haar-eye"}

# What a window's sum in the last stage must exceed, as the cascade's file says, and by how much the faces of our test
# photographs exceed it in the middle.
_LAST_STAGE = {"default": (-2.9928, 7.0), "alt2": (53.7555, 1.9)}

_thread = threading.local()


def _cascade(name: str) -> cv2.CascadeClassifier:
    """Return the thread's own classifier: OpenCV's cannot be shared."""
    mine: dict[str, cv2.CascadeClassifier] = _thread.__dict__.setdefault("cascades", {})
    if name not in mine:
        mine[name] = cv2.CascadeClassifier(str(locate(card(_FILES[name]))))
    return mine[name]


_EYE_CROP = 96
"""Width to which a face is brought before its eyes are looked for: cost and answer do not depend on its size."""


def _eyes_in(upper: Picture) -> int:
    """Count the eyes in the upper part of a face: at most one in either half."""
    height = round(_EYE_CROP * upper.shape[0] / upper.shape[1])
    grey = cv2.equalizeHist(cv2.cvtColor(image.resize(upper, _EYE_CROP, max(1, height)), cv2.COLOR_RGB2GRAY))
    found = _cascade("eye").detectMultiScale(grey, scaleFactor=1.05, minNeighbors=3, minSize=(16, 16), maxSize=(44, 44))
    return len({bool(x + width / 2 > _EYE_CROP / 2) for x, _, width, _ in found})


def count_eyes(picture: Picture, boxes: geometry.Floats) -> NDArray[np.int16]:
    """Count the eyes that OpenCV's eye cascade sees in the upper part of each box.

    It sees open eyes that look ahead; spectacles, hair and closed lids often hide them. One detection counts in either
    half of the box, so the number is 0, 1 or 2 and not the "five eyes" that a cascade likes to find.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB.
    boxes
        (N, 4) x1 y1 x2 y2, pixels, of any detector; may reach over the border.

    Returns
    -------
    ndarray
        (N,) int16, each 0, 1 or 2.

    Raises
    ------
    ShapeError
        If the picture has another shape or dtype.
    """
    h, w = image.check(picture).shape[:2]
    counts = np.zeros(len(boxes), np.int16)
    for i, (x1, y1, x2, y2) in enumerate(boxes.astype(np.float64)):
        middle = y1 + 0.6 * (y2 - y1)
        left, top, right, bottom = np.clip(np.round([x1, y1, x2, middle]), 0, [w, h, w, h]).astype(int)
        # Below some pixels there is nothing for the cascade to see.
        if right - left >= 8 and bottom - top >= 5:
            counts[i] = _eyes_in(picture[top:bottom, left:right])
    return counts


def with_eyes(picture: Picture, found: Boxes, *, require: bool) -> Boxes:
    """Return the boxes with their eyes counted; with ``require``, only those in which there is one."""
    counted = replace(found, eyes=count_eyes(picture, found.box))
    return counted[counted.eyes > 0] if require else counted


class Haar:
    """OpenCV's frontal-face cascade: square boxes without points, and a count of eyes.

    The score only orders: it is 1 - exp(-m / t), where m is how far the window's sum exceeds the threshold of the
    cascade's last stage and t a constant of the cascade, chosen so that the middle face of our test photographs has
    0.63. It is not a probability, and it cannot be compared with that of another detector.

    Parameters
    ----------
    cascade
        ``"default"``, which most tutorials use, or ``"alt2"``, which finds fewer things that are no faces.
    min_face
        Side of the smallest box that is looked for, pixels of the given picture.
    width
        A picture whose longer side is longer is made smaller to this before the search. None: searched as it is.
    scale_factor
        Ratio of neighbouring sizes that are tried, above 1.
    neighbours
        How many windows must agree on a face.
    require_eyes
        Drop boxes in which the eye cascade sees no eye.

    Raises
    ------
    OptionError
        If an option has an impossible value.

    Notes
    -----
    Viola, Jones (2001), "Rapid Object Detection using a Boosted Cascade of Simple Features"; Lienhart, Maydt (2002).
    An instance may be called from several threads; each thread loads the cascades once.
    """

    def __init__(
        self,
        *,
        cascade: Literal["default", "alt2"] = "default",
        min_face: int = 24,
        width: int | None = 1280,
        scale_factor: float = 1.1,
        neighbours: int = 4,
        require_eyes: bool = False,
    ) -> None:
        if cascade not in _LAST_STAGE:
            msg = f"cascade is {cascade!r}; choose one of: {', '.join(_LAST_STAGE)}"
            raise OptionError(msg)
        at_least("min_face", min_face)
        at_least("width", width, least=12)
        at_least("scale_factor", scale_factor, least=1.01)
        at_least("neighbours", neighbours)
        self.cascade = cascade
        self.min_face = min_face
        self.width = width
        self.scale_factor = scale_factor
        self.neighbours = neighbours
        self.require_eyes = require_eyes

    def __repr__(self) -> str:
        return f"Haar(cascade={self.cascade!r}, min_face={self.min_face}, width={self.width})"

    def __call__(self, picture: Picture, /) -> Boxes:
        """Find the faces of one picture.

        Parameters
        ----------
        picture
            (H, W, 3) uint8 RGB.

        Returns
        -------
        Boxes
            Best score first, one box a face; points are NaN, ``eyes`` is 0, 1 or 2.

        Raises
        ------
        ShapeError
            If the picture has another shape or dtype.
        ModelError
            If a cascade's file cannot be read.
        """
        small, factor = within(picture, self.width)
        least = max(1, round(self.min_face / float(factor[1])))
        rectangles, _, weights = _cascade(self.cascade).detectMultiScale3(
            cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
            scaleFactor=self.scale_factor,
            minNeighbors=self.neighbours,
            minSize=(least, least),
            outputRejectLevels=True,
        )
        if not len(rectangles):
            return Boxes.empty()
        corner, sides = np.split(np.asarray(rectangles, np.float32), 2, axis=1)
        box = np.concatenate([corner, corner + sides], 1) * factor
        threshold, middle = _LAST_STAGE[self.cascade]
        margin = np.maximum(np.asarray(weights, np.float64).reshape(-1) - threshold, 0)
        score = (1 - np.exp(-margin / middle)).astype(np.float32)
        kept = geometry.same_face(box, score)
        points = np.full((len(kept), 5, 2), np.nan, np.float32)
        found = Boxes(box[kept], score[kept], points, np.full(len(kept), -1, np.int16))
        return with_eyes(picture, found, require=self.require_eyes)
