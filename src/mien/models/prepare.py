"""The preprocessing: from pixels of a crop to what a network is fed. Run time, training and evaluation all go here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import image
from ..errors import ShapeError
from ..zoo.card import InputSpec

__all__ = ["prepare"]


def prepare(crops: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Bring crops to the size, colour and range that a model's card declares.

    Parameters
    ----------
    crops
        (N, H, W, 3) uint8 RGB or (N, H, W) uint8 grey, any size of at least one pixel, N ≥ 0.
    spec
        What the model is fed.

    Returns
    -------
    ndarray
        (N, C, spec.height, spec.width) float32, C = 1 for grey and 3 for RGB; pixel 0 is at ``spec.low`` and 255 at
        ``spec.high``. Crops that have the size already are not resampled.

    Raises
    ------
    ShapeError
        If the crops have another shape or dtype.

    Examples
    --------
    >>> prepare(np.full((2, 48, 48), 255, np.uint8), InputSpec(width=48, height=48, colour="grey")).shape
    (2, 1, 48, 48)
    """
    sized = _sized(_checked(crops), spec)
    if spec.colour == "grey":
        planes = (image.grey(sized) if sized.ndim == 4 else sized.astype(np.float32))[:, None]
    else:
        planes = np.moveaxis(_as_rgb(sized), 3, 1).astype(np.float32)
    scaled = planes * np.float32((spec.high - spec.low) / 255) + np.float32(spec.low)
    return np.ascontiguousarray(scaled, np.float32)


def _checked(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shaped = crops.ndim == 3 or (crops.ndim == 4 and crops.shape[3] == 3)
    if not shaped or crops.dtype != np.uint8 or 0 in crops.shape[1:3]:
        raise ShapeError("crops", "(N, H, W, 3) or (N, H, W) uint8", f"{crops.shape} {crops.dtype}")
    return crops


def _as_rgb(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return crops if crops.ndim == 4 else np.repeat(crops[..., None], 3, axis=3)


def _sized(crops: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.uint8]:
    if crops.shape[1:3] == (spec.height, spec.width):
        return crops
    # Grey is resized as RGB: OpenCV may round one channel otherwise than three.
    out = np.empty((len(crops), spec.height, spec.width, 3), np.uint8)
    for row, crop in enumerate(_as_rgb(crops)):
        out[row] = image.resize(crop, spec.width, spec.height)
    return out
