"""A vote of neighbouring windows: a face is read in 45 boxes around it, and the mean of the answers is its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import geometry
from ..errors import OptionError, ShapeError
from ..zoo.card import InputSpec
from .align import crop
from .base import Boxes, Classifier, Picture

__all__ = ["GRID", "GRIDS", "Grid", "Vote", "crops_at", "moved", "pictures_at", "vote", "window_crops", "windows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Windows around a face: every shift to the side, with every shift up and down, at every size.

    Attributes
    ----------
    shifts
        How far a window's centre lies from the face's, along each axis, in sides of the face's own frame.
    scales
        Sides of a window, in sides of the face's own frame; above 1 it shows more than the frame.

    Raises
    ------
    OptionError
        If there is no window, or a size is not above 0.
    """

    shifts: tuple[float, ...] = (-0.05, 0.0, 0.05)
    scales: tuple[float, ...] = (0.9, 0.95, 1.0, 1.05, 1.1)

    def __post_init__(self) -> None:
        if not self.shifts or not self.scales or not min(self.scales) > 0:
            msg = f"a grid of shifts {self.shifts} and scales {self.scales}; give one of each, scales above 0"
            raise OptionError(msg)

    def __len__(self) -> int:
        return len(self.shifts) ** 2 * len(self.scales)

    def moves(self) -> NDArray[np.float64]:
        """Return the windows (W, 3): shift to the right, shift down, scale."""
        return np.array([(x, y, s) for s in self.scales for y in self.shifts for x in self.shifts], np.float64)


GRID = Grid()
"""The 45 windows that vote: 3 shifts to the side × 3 up and down × 5 sizes."""


GRIDS: Mapping[int, Grid] = MappingProxyType({45: GRID, 9: Grid(scales=(1.0,)), 5: Grid(shifts=(0.0,))})
"""The grids by the number of their windows: all, the shifts alone, the sizes alone."""


class Vote(NamedTuple):
    """What the windows of N faces say together.

    Attributes
    ----------
    mean
        (N, K) float32, the windows' scores summed and divided by their number; rows sum to 1 where theirs do.
    label
        (N,) int64, the class with the largest sum; the first of several.
    score
        (N,) float32 in [0, 1], that sum divided by the number of windows: the winner's entry of ``mean``.
    """

    mean: NDArray[np.float32]
    label: NDArray[np.int64]
    score: NDArray[np.float32]


def vote(classify: Classifier, windows: NDArray[np.uint8]) -> Vote:
    """Let the windows of each face vote: sum their scores, and take the class with the most.

    All windows of all faces go into one call of ``classify``. `Expression` runs its network on up to 64 crops at a
    time, so that the 45 windows of one face are one run of the network, in which no crop changes another's numbers.
    The answer is deterministic where the classifier is.

    Parameters
    ----------
    classify
        (M, H, W[, 3]) uint8 crops to (M, K) float32 scores.
    windows
        (N, W, h, w) grey or (N, W, h, w, 3) RGB uint8, N ≥ 0, W ≥ 1, as `windows` and `window_crops` make them.

    Raises
    ------
    ShapeError
        If the windows or the scores have another shape.

    Examples
    --------
    >>> crops = np.array([0, 0, 100], np.uint8).reshape(1, 3, 1, 1)
    >>> dark = vote(lambda c: np.stack([c[:, 0, 0] < 50, c[:, 0, 0] >= 50], 1).astype(np.float32), crops)
    >>> dark.label.tolist(), dark.score.round(3).tolist()
    ([0], [0.6669999957084656])
    """
    if windows.ndim not in {4, 5} or windows.dtype != np.uint8 or not windows.shape[1]:
        raise ShapeError("windows", "(N, W, h, w[, 3]) uint8, W >= 1", f"{windows.shape} {windows.dtype}")
    faces, each = windows.shape[:2]
    scores = np.asarray(classify(windows.reshape(faces * each, *windows.shape[2:])))
    if scores.ndim != 2 or len(scores) != faces * each:
        raise ShapeError("scores", f"({faces * each}, K), one row a window", scores.shape)
    mean = scores.reshape(faces, each, scores.shape[1]).sum(1, dtype=np.float64) / each
    label = mean.argmax(1).astype(np.int64)
    return Vote(mean.astype(np.float32), label, mean[np.arange(faces), label].astype(np.float32))


def windows(picture: Picture, boxes: Boxes, spec: InputSpec, *, grid: Grid = GRID) -> NDArray[np.uint8]:
    """Cut all windows of all faces out of their picture, aligned as `align.crop` aligns a face.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB.
    boxes
        N faces of this picture.
    spec
        Size and template of a crop, from the model's card.
    grid
        The windows.

    Returns
    -------
    ndarray
        (N, len(grid), spec.height, spec.width, 3) uint8 RGB, windows in the order of ``grid.moves()``. The window
        without shift at scale 1 is what `align.crop` gives, to rounding.

    Raises
    ------
    ShapeError, OptionError
        As `align.crop`.
    """
    return pictures_at(picture, boxes, spec, np.tile(grid.moves(), (len(boxes), 1, 1)))


def window_crops(crops: NDArray[np.uint8], *, grid: Grid = GRID) -> NDArray[np.uint8]:
    """Return the windows (N, len(grid), H, W[, 3]) of ready crops; see `crops_at` for what lies outside a crop."""
    return crops_at(crops, np.tile(grid.moves(), (len(crops), 1, 1)))


def moved(first: NDArray[np.float64], then: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the windows that ``then`` names inside the windows that ``first`` names, (…, 3) each, broadcast."""
    first, then = np.broadcast_arrays(first, then)
    return np.concatenate([first[..., :2] + first[..., 2:] * then[..., :2], first[..., 2:] * then[..., 2:]], -1)


def pictures_at(picture: Picture, boxes: Boxes, spec: InputSpec, moves: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Cut faces out of their picture in frames that are moved and scaled.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB.
    boxes
        N faces of this picture.
    spec
        Size and template of a crop, from the model's card.
    moves
        (N, M, 3): shift to the right, shift down, scale, in sides of the face's own frame and along its axes. The
        frame is what `align.crop` shows of a face with points, and the box of a face without.

    Returns
    -------
    ndarray
        (N, M, spec.height, spec.width, 3) uint8 RGB.

    Raises
    ------
    ShapeError, OptionError
        As `align.crop`; also if there is not one row of moves a face.
    """
    moves = _checked(moves, len(boxes))
    each = moves.shape[1]
    whole = boxes[np.repeat(np.arange(len(boxes)), each)]
    centre, axes = (np.repeat(a, each, axis=0) for a in _frames(boxes, spec))
    flat = moves.reshape(-1, 3)
    shift = np.einsum("nij,nj->ni", axes, flat[:, :2])

    def carried(points: geometry.Floats) -> NDArray[np.float32]:
        """Scale points (N·M, P, 2) about the frame's centre, then shift them."""
        about = centre[:, None]
        return np.asarray(about + (points - about) * flat[:, None, 2:] + shift[:, None], np.float32)

    box = carried(whole.box.reshape(-1, 2, 2)).reshape(-1, 4)
    out = crop(picture, Boxes(box, whole.score, carried(whole.points), whole.eyes), spec)
    return out.reshape(len(boxes), each, *out.shape[1:])


def crops_at(crops: NDArray[np.uint8], moves: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Cut moved and scaled frames out of ready crops.

    Around a ready crop there is no picture: what lies outside repeats the pixels of its edge. A window that reaches
    out is therefore a guess; `pictures_at` shows what is truly there.

    Parameters
    ----------
    crops
        (N, H, W) or (N, H, W, 3) uint8.
    moves
        (N, M, 3): shift to the right, shift down, scale, in sides of the crop.

    Returns
    -------
    ndarray
        (N, M, H, W[, 3]) uint8, linear interpolation; a frame that is not moved is the crop itself, bit for bit.

    Raises
    ------
    ShapeError
        If crops or moves have another shape or dtype.
    """
    if crops.ndim not in {3, 4} or crops.dtype != np.uint8 or 0 in crops.shape[1:3]:
        raise ShapeError("crops", "(N, H, W) or (N, H, W, 3) uint8", f"{crops.shape} {crops.dtype}")
    moves = _checked(moves, len(crops))
    height, width = crops.shape[1:3]
    middle = np.array([width - 1, height - 1]) / 2
    out = np.empty((len(crops), moves.shape[1], *crops.shape[1:]), np.uint8)
    for face, picture in enumerate(crops):
        for i, (x, y, scale) in enumerate(moves[face]):
            start = middle + np.array([x * width, y * height]) - scale * middle
            # Read backwards: from a pixel of the window to its place in the crop.
            matrix = np.array([[scale, 0, start[0]], [0, scale, start[1]]])
            out[face, i] = cv2.warpAffine(
                picture,
                matrix,
                (width, height),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
    return out


def _checked(moves: NDArray[np.float64], faces: int) -> NDArray[np.float64]:
    if moves.ndim != 3 or moves.shape[::2] != (faces, 3):
        raise ShapeError("moves", f"({faces}, M, 3), one row a face", moves.shape)
    return moves


def _frames(boxes: Boxes, spec: InputSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each face's frame in its picture: centre (N, 2), and a side to the right and down as columns (N, 2, 2)."""
    centre = (boxes.box[:, :2] + boxes.box[:, 2:]).astype(np.float64) / 2
    side = np.sqrt(np.maximum(geometry.area(boxes.box), 1.0)).astype(np.float64)
    axes = side[:, None, None] * np.eye(2)
    size = np.array([spec.width, spec.height], np.float64)
    for i, points in enumerate(boxes.points):
        if spec.template is not None and np.ptp(points, axis=0).max() > 1:
            back = geometry.invert(geometry.similarity(points, np.array(spec.template) * size - 0.5))
            centre[i] = geometry.apply(back, size / 2 - 0.5)
            axes[i] = back[:, :2] * size
    return centre, axes
