"""From a picture and its boxes to crops that are framed as a model was trained, and how far a face is turned."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .. import geometry, image
from ..errors import OptionError, ShapeError
from ..zoo.card import InputSpec
from .base import Boxes, Picture

__all__ = ["FER2013_TEMPLATE", "crop", "yaw"]

# Medians over 1,559 of 2,000 Training faces, made symmetric; benchmarks/template.py measured them on 2026-11-21.
# Standard error at most 0.003; another 2,000 differ by at most 0.004.
FER2013_TEMPLATE: tuple[tuple[float, float], ...] = (
    (0.3140, 0.3870),
    (0.6860, 0.3870),
    (0.5000, 0.6005),
    (0.3454, 0.7808),
    (0.6546, 0.7808),
)
"""Where FER2013 has the right eye, left eye, nose, right and left mouth corner, as shares of width and height."""

# Side and centre of the framing that MTCNN's points give, against a Haar box of the same face: means over 39 (default)
# and 38 (alt2) faces of dlib's example photographs, 0.970 ± 0.076 and 0.986 ± 0.052; centre -0.022 and -0.016 sides.
_BOX_GROWTH, _BOX_DROP = 0.98, -0.02


def _target(spec: InputSpec) -> geometry.Floats:
    """Return the template (5, 2) in pixels of the crop; a share is measured from the edge, a pixel at its centre."""
    if spec.template is None:
        msg = "the model's card has no crop template; add the five points of its training crops to the card"
        raise OptionError(msg)
    template = np.array(spec.template, np.float64)
    if template.shape != (5, 2):
        raise ShapeError("template", "(5, 2) shares of width and height", template.shape)
    return template * [spec.width, spec.height] - 0.5


def _by_box(box: geometry.Floats, spec: InputSpec) -> NDArray[np.float64]:
    """Return the matrix (2, 3) that carries a box to the crop, upright, in about the framing that points give."""
    x1, y1, x2, y2 = box.astype(np.float64)
    side = max(1.0, np.sqrt(max(0.0, (x2 - x1) * (y2 - y1))))
    scale = min(spec.width, spec.height) / (side * _BOX_GROWTH)
    # Edges of pixels go to edges, so both centres move by half a pixel.
    centre = np.array([(x1 + x2) / 2, (y1 + y2) / 2 + _BOX_DROP * side]) - 0.5
    shift = np.array([spec.width, spec.height]) / 2 - 0.5 - scale * centre
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])


def _cut(picture: Picture, matrix: NDArray[np.float64], spec: InputSpec) -> Picture:
    """Warp only the part of the picture that the crop shows: a warp that shrinks resizes all that it is given."""
    corners = np.array([[0, 0], [spec.width, 0], [0, spec.height], [spec.width, spec.height]], np.float64)
    seen = geometry.apply(geometry.invert(matrix), corners)
    margin = 2 + 2 / np.hypot(matrix[0, 0], matrix[1, 0])
    h, w = picture.shape[:2]
    left, top = np.clip(np.floor(seen.min(0) - margin), 0, [w, h]).astype(int)
    right, bottom = np.clip(np.ceil(seen.max(0) + margin), 0, [w, h]).astype(int)
    if right <= left or bottom <= top:
        return np.zeros((spec.height, spec.width, 3), np.uint8)
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ [left, top]
    return image.warp(picture[top:bottom, left:right], moved, spec.width, spec.height)


def crop(picture: Picture, boxes: Boxes, spec: InputSpec) -> NDArray[np.uint8]:
    """Cut faces out, aligned to the framing of a model's training pictures.

    A face with five points is turned, scaled and shifted so that they lie as near as can be to the template. A face
    without points is cut out upright by its box, grown by the measured mean factor between OpenCV's Haar boxes and
    the aligned framing. Outside the picture is black.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB.
    boxes
        N faces of this picture.
    spec
        Size and template of the crop, from the model's card.

    Returns
    -------
    ndarray
        (N, spec.height, spec.width, 3) uint8 RGB, in the order of the boxes.

    Raises
    ------
    ShapeError
        If the picture has another shape or dtype, or the template is not five points.
    OptionError
        If the card has no template.
    """
    image.check(picture)
    target = _target(spec)
    out = np.empty((len(boxes), spec.height, spec.width, 3), np.uint8)
    for i, (box, points) in enumerate(zip(boxes.box, boxes.points, strict=True)):
        spread = np.ptp(points, axis=0).max()
        # Points in one place (or NaN) say nothing about the size.
        matrix = geometry.similarity(points, target) if spread > 1 else _by_box(box, spec)
        out[i] = _cut(picture, matrix, spec)
    return out


def yaw(points: geometry.Floats) -> NDArray[np.float32]:
    """Return how far faces are turned to a side, from their five points.

    How far the nose lies beside the middle between eyes and mouth, along the line through the eyes, in units of half
    the distance of the eyes. 0: seen from the front. About 1: the nose lies below one eye, or beyond it. It is positive
    when the nose points to the right of the picture, and does not depend on size, place or tilt. It is no angle; on the
    42 faces that MTCNN finds in dlib's example photographs it correlates at 0.92 with the angle that 68 points give.

    Parameters
    ----------
    points
        (N, 5, 2) pixels: right eye, left eye, nose, mouth corners.

    Returns
    -------
    ndarray
        (N,) float32 in [-2, 2]; NaN where points are missing.

    Raises
    ------
    ShapeError
        If the points have another shape.

    Examples
    --------
    >>> yaw(np.array([[[30.0, 40], [70, 40], [58, 60], [36, 80], [64, 80]]])).round(2).tolist()
    [0.4000000059604645]
    """
    if points.ndim != 3 or points.shape[1:] != (5, 2):
        raise ShapeError("points", "(N, 5, 2)", points.shape)
    p = points.astype(np.float64)
    across = p[:, 1] - p[:, 0]
    squared = (across**2).sum(1)
    beside = p[:, 2] - (p[:, :2].mean(1) + p[:, 3:].mean(1)) / 2
    # Eyes in one place: a face seen so far from the side that every offset is large.
    share = 2 * (beside * across).sum(1) / np.where(squared == 0, 1e-12, squared)
    return np.asarray(np.clip(share, -2, 2), np.float32)
