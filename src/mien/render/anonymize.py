"""Faces covered so that nobody can be recognised."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, ShapeError
from ..image import Picture, check

__all__ = ["HOW", "anonymize", "grown"]

HOW = ("pixelate", "blur")
"""The ways to cover a face."""

_ACROSS = 6
"""What is left of a face is so many averages by as many: far below what people or networks tell persons apart by."""


def grown(boxes: NDArray[np.floating[Any]], margin: float | NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return boxes (N, 4) with ``margin`` times their width and height added on each side; margin a number or (N,)."""
    around = np.asarray(margin, np.float64)[..., None] * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - around, boxes[:, 2:] + around], 1).astype(np.float32)


def anonymize(
    picture: Picture, boxes: NDArray[np.floating[Any]], *, how: str = "pixelate", margin: float = 0.15
) -> Picture:
    """Return a copy of a picture with some faces made unrecognisable.

    Each box, grown by ``margin``, is replaced by at most six by six averages of its pixels, as blocks or, blurred, with
    smooth passages between them. Both hold the same 36 colours, so sharpening a blurred face brings nothing back. Where
    boxes overlap they are covered one after the other.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB; it is not changed.
    boxes
        (N, 4) x1 y1 x2 y2, pixels; they may reach over the border. One with a coordinate that is not finite is no box.
    how
        ``"pixelate"`` or ``"blur"``.
    margin
        How far a box is grown on each side, as a share of its width and height, at least 0.

    Returns
    -------
    ndarray
        (H, W, 3) uint8 RGB.

    Raises
    ------
    ShapeError
        If the picture is not (H, W, 3) uint8, or the boxes are not (N, 4).
    OptionError
        If ``how`` is none of `HOW`, or the margin is negative.

    Examples
    --------
    >>> noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    >>> len(np.unique(anonymize(noise, np.array([[0.0, 0, 60, 60]]))[..., 0])) <= 36
    True
    """
    if how not in HOW or not margin >= 0:
        msg = f"faces are covered by {' or '.join(HOW)} with a margin of at least 0, got {how!r} and {margin:g}"
        raise OptionError(msg)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError("boxes", "(N, 4) x1 y1 x2 y2", boxes.shape)
    out = check(picture).copy()
    height, width = out.shape[:2]
    for box in grown(boxes[np.isfinite(boxes).all(1)], margin):
        # Whole pixels outwards: none of the box may be left.
        x1, y1 = np.floor(np.clip(box[:2], 0, (width, height))).astype(int)
        x2, y2 = np.ceil(np.clip(box[2:], 0, (width, height))).astype(int)
        if x1 < x2 and y1 < y2:
            out[y1:y2, x1:x2] = _covered(out[y1:y2, x1:x2], box, how)
    return out


def _covered(part: Picture, box: NDArray[np.float32], how: str) -> Picture:
    height, width = part.shape[:2]
    # A box that the border cuts has as many blocks less: what is seen of the face stays as coarse.
    block = max(float(box[2] - box[0]), float(box[3] - box[1]), 1.0) / _ACROSS
    across, down = max(1, int(width / block)), max(1, int(height / block))
    small = cv2.resize(part, (across, down), interpolation=cv2.INTER_AREA)
    between = cv2.INTER_NEAREST if how == "pixelate" else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(small, (width, height), interpolation=between), np.uint8)
