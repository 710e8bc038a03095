"""The one picture type: (H, W, 3) uint8 RGB."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import ShapeError
from .geometry import apply, invert

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

    Whole numbers are pixel centres. Where the matrix shrinks by more than two, the picture is first made smaller by
    area averages, since linear interpolation alone would skip pixels. Only the part that is seen is touched.

    Raises
    ------
    ShapeError
        If the matrix is not finite or squeezes the plane to a line.
    """
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:, :2]) == 0:
        raise ShapeError("matrix", "(2, 3), finite, that can be undone", matrix.tolist())
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    left, top, right, bottom = _seen(picture, matrix, width, height, reach=2 + 2 / scale)
    if left >= right or top >= bottom:
        return np.zeros((height, width, 3), np.uint8)
    picture = picture[top:bottom, left:right]
    moved = _after_crop(np.asarray(matrix, np.float64), left, top)
    if scale < 0.5:
        h, w = picture.shape[:2]
        small = max(1, round(w * scale * 2)), max(1, round(h * scale * 2))
        picture = resize(picture, *small)
        moved = _after_resize(moved, np.array([w / small[0], h / small[1]]))
    out = cv2.warpAffine(picture, moved, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(out, np.uint8)


def _seen(
    picture: Picture, matrix: NDArray[np.floating], width: int, height: int, *, reach: float
) -> tuple[int, int, int, int]:
    """Return the part of a picture, x1 y1 x2 y2, that a warp shows, ``reach`` pixels wider on each side."""
    corners = apply(invert(matrix), np.array([[0.0, 0], [width, 0], [0, height], [width, height]]) - 0.5)
    edge = np.array([picture.shape[1], picture.shape[0]])
    low = np.clip(np.floor(corners.min(0) - reach), 0, edge).astype(int)
    high = np.clip(np.ceil(corners.max(0) + reach) + 1, 0, edge).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _after_crop(matrix: NDArray[np.float64], left: int, top: int) -> NDArray[np.float64]:
    return np.column_stack([matrix[:, :2], matrix[:, 2] + matrix[:, :2] @ (left, top)])


def _after_resize(matrix: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    # Pixel centres, not corners, are what warpAffine moves: small pixel j lies at (j + 1/2) factor - 1/2.
    return np.column_stack([matrix[:, :2] * factor, matrix[:, 2] + matrix[:, :2] @ (0.5 * factor - 0.5)])
