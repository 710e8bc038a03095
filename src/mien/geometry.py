"""Boxes, overlap, suppression and plane transforms, on plain NumPy arrays.

A box is ``x1 y1 x2 y2`` in pixels with the far edge outside, so its width is ``x2 - x1``.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ShapeError

__all__ = [
    "Floats",
    "apply",
    "area",
    "intersection",
    "invert",
    "iou",
    "nms",
    "overlap_smaller",
    "same_face",
    "similarity",
]

Floats = NDArray[np.floating[Any]]


def _boxes(boxes: Floats) -> Floats:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError("boxes", "(N, 4) x1 y1 x2 y2", boxes.shape)
    return boxes


def _scored(boxes: Floats, scores: Floats) -> Floats:
    if scores.shape != _boxes(boxes).shape[:1]:
        raise ShapeError("scores", f"({len(boxes)},), one a box", scores.shape)
    return scores


def _share(part: Floats, whole: Floats) -> Floats:
    """Return part / whole, 0 where there is no whole; boxes of whole numbers give fractions too."""
    out = np.zeros(part.shape, np.result_type(part, np.float32))
    return np.divide(part, whole, out=out, where=whole > 0)


def area(boxes: Floats) -> Floats:
    """Return the areas (N,) of boxes (N, 4), pixels squared; an inverted box has none."""
    sides: Floats = np.maximum(_boxes(boxes)[:, 2:] - boxes[:, :2], 0)
    product: Floats = sides[:, 0] * sides[:, 1]
    return product


def intersection(a: Floats, b: Floats) -> Floats:
    """Return the common areas (N, M) of boxes (N, 4) and (M, 4)."""
    low = np.maximum(_boxes(a)[:, None, :2], _boxes(b)[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides: Floats = np.maximum(high - low, 0)
    product: Floats = sides[..., 0] * sides[..., 1]
    return product


def iou(a: Floats, b: Floats) -> Floats:
    """Return intersection over union (N, M), each in [0, 1]; 0 where both boxes are empty.

    >>> iou(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2]])).round(3).tolist()
    [[0.333]]
    """
    common = intersection(a, b)
    return _share(common, area(a)[:, None] + area(b)[None, :] - common)


def overlap_smaller(a: Floats, b: Floats) -> Floats:
    """Return the intersection as a share of the smaller box, (N, M), each in [0, 1]."""
    common = intersection(a, b)
    return _share(common, np.minimum(area(a)[:, None], area(b)[None, :]))


def nms(
    boxes: Floats, scores: Floats, *, threshold: float, by: Literal["union", "smaller"] = "union"
) -> NDArray[np.intp]:
    """Suppress boxes that overlap a better one.

    Parameters
    ----------
    boxes, scores
        (N, 4) pixels and (N,); higher is better, the earlier box wins a tie.
    threshold
        A box goes when its overlap with a kept one is larger than this.
    by
        Overlap as a share of the union or of the smaller box.

    Returns
    -------
    ndarray
        Indices of the kept boxes, best first.

    Raises
    ------
    ShapeError
        If there is not one score a box.
    """
    # One row of overlaps a kept box: the full matrix of some thousand proposals would not fit a small machine.
    order = np.argsort(-_scored(boxes, scores), kind="stable")
    areas = area(boxes)
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        common = intersection(boxes[best : best + 1], boxes[rest])[0]
        whole = areas[best] + areas[rest] - common if by == "union" else np.minimum(areas[best], areas[rest])
        order = rest[common <= threshold * whole]
    return np.array(kept, np.intp)


def same_face(boxes: Floats, scores: Floats, *, reach: float = 0.3, cover: float = 0.6) -> NDArray[np.intp]:
    """Keep one box where two lie on one face, though they may overlap too little for ``nms``.

    Two boxes are one face when their centres are nearer than ``reach`` times the larger one's side, or when the
    smaller one lies in the larger by more than ``cover``. Two heads side by side or one above another stay two.

    Returns
    -------
    ndarray
        Indices of the kept boxes, best score first.

    Raises
    ------
    ShapeError
        If there is not one score a box.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = np.sqrt(area(boxes))
    kept: list[int] = []
    for i in np.argsort(-_scored(boxes, scores), kind="stable"):
        if kept:
            larger = np.maximum(side[kept], side[i])
            near = np.hypot(*(centre[kept] - centre[i]).T) < reach * larger
            inside = overlap_smaller(boxes[i : i + 1], boxes[kept])[0] > cover
            if (near | inside).any():
                continue
        kept.append(int(i))
    return np.array(kept, np.intp)


def similarity(source: Floats, target: Floats) -> NDArray[np.float64]:
    """Fit turn, size and shift that carry points to points with least squares (Umeyama 1991, without mirroring).

    Parameters
    ----------
    source, target
        (K, 2) points each, K ≥ 2.

    Returns
    -------
    ndarray
        (2, 3) float64: ``[[a, -b, tx], [b, a, ty]]``; only a shift where all source points are one.

    Raises
    ------
    ShapeError
        If the points are not two arrays (K, 2) of one length, K ≥ 2.

    Examples
    --------
    >>> here = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> similarity(here, 2 * here + [3, 4]).round(6).tolist()
    [[2.0, -0.0, 3.0], [0.0, 2.0, 4.0]]
    """
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2 or len(source) < 2:
        raise ShapeError("points", "two arrays (K, 2) of equal length, K >= 2", (source.shape, target.shape))
    s, t = source.astype(np.float64), target.astype(np.float64)
    s_mean, t_mean = s.mean(0), t.mean(0)
    s, t = s - s_mean, t - t_mean
    spread = (s**2).sum()
    if spread == 0:
        a, b = 1.0, 0.0
    else:
        a = (s * t).sum() / spread
        b = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / spread
    turn = np.array([[a, -b], [b, a]])
    return np.column_stack([turn, t_mean - turn @ s_mean])


def apply(matrix: Floats, points: Floats) -> Floats:
    """Carry points (…, 2) by a (2, 3) matrix."""
    moved: Floats = points @ matrix[:, :2].T + matrix[:, 2]
    return moved


def invert(matrix: Floats) -> NDArray[np.float64]:
    """Return the (2, 3) matrix that undoes a (2, 3) matrix.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the matrix squeezes the plane to a line.
    """
    turn = np.linalg.inv(matrix[:, :2].astype(np.float64))
    return np.column_stack([turn, -turn @ matrix[:, 2]])
