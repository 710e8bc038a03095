"""Pictures that are nearly one: re-encoded, mirrored, a little cropped, shifted, brightened or darkened copies."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError

__all__ = ["THRESHOLD", "Twins", "near"]

THRESHOLD = 0.93

_SIDE = 48
_WAVES = 9
_BLOCK = 512
_CANDIDATES = 3
_PATCH = 34
_SCALES = (0.88, 0.94, 1.0, 1.06, 1.13)

Planes = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Twins:
    """Pairs of near-equal pictures, best first.

    Attributes
    ----------
    first, second
        (P,) int64, rows of the first and of the second set.
    correlation
        (P,) float32 in [-1, 1], of the two pictures' details where they lie best on each other.
    mirrored
        (P,) bool, whether one of them is mirrored.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    correlation: NDArray[np.float32]
    mirrored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.first)


def near(first: NDArray[np.uint8], second: NDArray[np.uint8], *, threshold: float = THRESHOLD) -> Twins:
    """Find for each picture of the first set its near-equal pictures in the second.

    Parameters
    ----------
    first, second
        (N, H, W) grey or (N, H, W, 3) RGB uint8; the sizes of the two sets may differ.
    threshold
        Least correlation.

    Raises
    ------
    ShapeError
        If a set has another shape or dtype.
    """
    ours, theirs = _details(first), _details(second)
    if not len(ours) or not len(theirs):
        none = np.empty(0, np.int64)
        return Twins(none, none, np.empty(0, np.float32), np.empty(0, np.bool_))
    rows, columns, mirrored = _candidates(ours, theirs)
    found = np.array(
        [
            _correlation(ours[i], theirs[j][:, ::-1] if m else theirs[j])
            for i, j, m in zip(rows, columns, mirrored, strict=True)
        ],
        np.float32,
    )
    kept = np.flatnonzero(found >= threshold)
    kept = kept[np.argsort(-found[kept], kind="stable")]
    return Twins(rows[kept], columns[kept], found[kept], mirrored[kept])


def _details(pictures: NDArray[np.uint8]) -> Planes:
    """Return (N, 48, 48) float32: grey, without noise and without the light's slow changes."""
    if pictures.ndim not in {3, 4} or pictures.dtype != np.uint8 or (pictures.ndim == 4 and pictures.shape[3] != 3):
        raise ShapeError("pictures", "(N, H, W) or (N, H, W, 3) uint8", f"{pictures.shape} {pictures.dtype}")
    out = np.empty((len(pictures), _SIDE, _SIDE), np.float32)
    for row, picture in enumerate(pictures):
        grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        if grey.shape != (_SIDE, _SIDE):
            grey = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        plane = grey.astype(np.float32)
        out[row] = cv2.GaussianBlur(plane, (0, 0), 0.8) - cv2.GaussianBlur(plane, (0, 0), 6)
    return out


def _waves(planes: Planes) -> Planes:
    """Return the lowest cosine waves (N, 9, 9) float32 of the planes, vertical waves in rows, unit length."""
    place = (np.arange(_SIDE) + 0.5) * np.pi / _SIDE
    basis = np.cos(np.arange(_WAVES)[:, None] * place).astype(np.float32)
    held = np.einsum("uy,nyx,vx->nuv", basis, planes, basis, optimize=True)
    held[:, 0, 0] = 0
    length = np.sqrt((held**2).sum((1, 2), keepdims=True))
    # A picture of one colour has no waves and is like nothing.
    scaled: Planes = held / np.maximum(length, 1e-3)
    return scaled


def _candidates(ours: Planes, theirs: Planes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return for each of our pictures the few of theirs, or of their mirror images, whose waves are most alike."""
    waves, others = _waves(ours), _waves(theirs).reshape(len(theirs), -1)
    # Mirrored, every odd wave to the side changes its sign.
    sign = np.where(np.arange(_WAVES) % 2, -1, 1).astype(np.float32)
    both = np.stack([waves, waves * sign], 1).reshape(len(ours), 2, -1)
    each = min(_CANDIDATES, len(theirs))
    columns = np.empty((len(ours), 2, each), np.int64)
    for start in range(0, len(ours), _BLOCK):
        block = both[start : start + _BLOCK]
        alike = block.reshape(-1, others.shape[1]) @ others.T
        best = np.argpartition(-alike, each - 1, axis=1)[:, :each]
        columns[start : start + _BLOCK] = best.reshape(len(block), 2, each)
    rows = np.repeat(np.arange(len(ours)), 2 * each)
    mirrored = np.tile(np.repeat([False, True], each), len(ours))
    return rows, columns.reshape(-1), mirrored


def _correlation(ours: Planes, theirs: Planes) -> float:
    """Return the best correlation of our picture's middle with any place and size of theirs."""
    margin = (_SIDE - _PATCH) // 2
    patch = ours[margin : margin + _PATCH, margin : margin + _PATCH]
    best = -1.0
    for scale in _SCALES:
        side = round(_SIDE * scale)
        sized = theirs if side == _SIDE else cv2.resize(theirs, (side, side), interpolation=cv2.INTER_LINEAR)
        best = max(best, float(cv2.matchTemplate(sized, patch, cv2.TM_CCOEFF_NORMED).max()))
    return best
