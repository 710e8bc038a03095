"""What a person looks like, in a few hundred numbers: the colours of the face and of the clothes under it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ..image import Picture, check

__all__ = ["WIDTH", "look"]

_ROWS, _COLUMNS = 32, 24
_SIDE, _BELOW = 0.1, 1.1
"""How far beyond the face is looked, as shares of its width and height."""

_BANDS = 2
_HUES, _SATURATIONS, _VALUES = 12, 3, 4
_CELLS = _HUES * _SATURATIONS * _VALUES

WIDTH = _BANDS * _CELLS
"""Numbers in a look."""


def look(picture: Picture, box: NDArray[np.floating]) -> NDArray[np.float32]:
    """Describe how faces look, so that one is known again a moment later.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB.
    box
        (N, 4) x1 y1 x2 y2, pixels; may reach over the border.

    Returns
    -------
    ndarray
        (N, `WIDTH`) float32 of unit length; zeros where nothing of a box lies in the picture.

    Raises
    ------
    ShapeError
        If the picture or the boxes have another shape.

    Notes
    -----
    Two histograms of hue, saturation and value, of the face and of what is as far below it, over 768 points each face
    whatever its size. The square root makes the product of two looks their Bhattacharyya coefficient (Comaniciu,
    Ramesh, Meer 2003, "Kernel-Based Object Tracking", IEEE Transactions on Pattern Analysis and Machine Intelligence
    25 (5)). It tells persons in one scene apart, not who they are: clothes and light count more than the face.
    """
    check(picture)
    wide = np.asarray(box, np.float64)
    if wide.ndim != 2 or wide.shape[1] != 4:
        raise ShapeError("box", "(N, 4) x1 y1 x2 y2", wide.shape)
    n = len(wide)
    if not n:
        return np.empty((0, WIDTH), np.float32)
    points, inside = _sampled(picture, wide)
    hue, saturation, value = cv2.cvtColor(points.reshape(n * _ROWS, _COLUMNS, 3), cv2.COLOR_RGB2HSV).astype(int).T
    # OpenCV's hue goes to 179, the others to 255.
    cell = (hue * _HUES // 180 * _SATURATIONS + saturation * _SATURATIONS // 256) * _VALUES + value * _VALUES // 256
    cell = cell.T.reshape(n, _ROWS, _COLUMNS)
    band = np.arange(_ROWS) * _BANDS // _ROWS
    cell += (np.arange(n)[:, None, None] * _BANDS + band[None, :, None]) * _CELLS
    count = np.bincount(cell[inside], minlength=n * WIDTH).reshape(n, WIDTH)
    whole = count.sum(1, keepdims=True)
    out = np.sqrt(np.divide(count, whole, out=np.zeros(count.shape), where=whole > 0))
    return np.asarray(out, np.float32)


def _sampled(picture: Picture, box: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the pixels on a grid over each face and its clothes, and which points lie in the picture."""
    height, width = picture.shape[:2]
    sides = box[:, 2:] - box[:, :2]
    across = box[:, :1] + sides[:, :1] * ((np.arange(_COLUMNS) + 0.5) / _COLUMNS * (1 + 2 * _SIDE) - _SIDE)
    down = box[:, 1:2] + sides[:, 1:] * ((np.arange(_ROWS) + 0.5) / _ROWS * (1 + _BELOW))
    x, y = np.floor(across).astype(int), np.floor(down).astype(int)
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    return picture[y[:, :, None], x[:, None, :]], inside
