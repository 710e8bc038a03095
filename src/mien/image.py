"""The one picture type: (H, W, 3) uint8 RGB."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import ShapeError

__all__ = ["Picture", "check", "grey", "resize", "warp"]

Picture = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""


def check(picture: NDArray[np.generic]) -> Picture:
    """Return the picture if it is (H, W, 3) uint8 with at least one pixel.

    Raises
    ------
    ShapeError
        If it is anything else; the message names what came.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or picture.size == 0:
        raise ShapeError("picture", "(H, W, 3) uint8 RGB", f"{picture.shape} {picture.dtype}")
    return picture  # type: ignore[return-value]  # the dtype was just checked


def resize(picture: Picture, width: int, height: int) -> Picture:
    """Return the picture at another size: area averages down, linear up."""
    smaller = width * height < picture.shape[0] * picture.shape[1]
    out = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return np.asarray(out, np.uint8)


def grey(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return luma (…, H, W) float32 in [0, 255] of RGB (…, H, W, 3) (ITU-R BT.601)."""
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return pictures.astype(np.float32) @ weights


def warp(picture: Picture, matrix: NDArray[np.floating], width: int, height: int) -> Picture:
    """Carry a picture by a (2, 3) matrix from its pixels to those of a (height, width) one; outside is black.

    Where the matrix shrinks by more than two, the picture is first made smaller by area averages, since linear
    interpolation alone would skip pixels.
    """
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    moved = np.asarray(matrix, np.float64)
    if 0 < scale < 0.5:
        h, w = picture.shape[:2]
        small = max(1, round(w * scale * 2)), max(1, round(h * scale * 2))
        picture = resize(picture, *small)
        factor = np.array([w / small[0], h / small[1]])
        # Pixel centres, not corners, are what warpAffine moves.
        moved = np.column_stack([moved[:, :2] * factor, moved[:, 2] + moved[:, :2] @ (0.5 * factor - 0.5)])
    out = cv2.warpAffine(picture, moved, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(out, np.uint8)
