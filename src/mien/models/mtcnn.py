"""The MTCNN cascade on ONNX Runtime, its graphs written from the weights inside the `mtcnn` wheel."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import geometry, image
from ..errors import ModelError, OptionError
from ..zoo import graph
from ..zoo.catalog import card
from ..zoo.runtime import ort
from ..zoo.session import open_session
from ..zoo.store import locate
from .base import Boxes, Picture, at_least, within
from .haar import with_eyes

__all__ = ["Mtcnn"]

Floats = NDArray[np.float32]


class _Network:
    """Collects the parts of a graph; each method adds an operation and returns the name of its result."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._numbers = itertools.count()

    def constant(self, values: NDArray[Any]) -> str:
        name = f"c{next(self._numbers)}"
        self.parts.append(graph.array(name, np.ascontiguousarray(values, np.float32)))
        return name

    def add(self, kind: str, *inputs: str, **attributes: graph.Attribute) -> str:
        name = f"v{next(self._numbers)}"
        self.parts.append(graph.node(kind, inputs, [name], **attributes))
        return name

    def layer(self, x: str, kernel: NDArray[Any], bias: NDArray[Any]) -> str:
        """Convolve with a kernel (height, width, in, out), or multiply by a matrix (in, out)."""
        if kernel.ndim == 2:
            return self.add("Gemm", x, self.constant(kernel), self.constant(bias))
        return self.add("Conv", x, self.constant(kernel.transpose(3, 2, 0, 1)), self.constant(bias))

    def bend(self, x: str, slope: NDArray[Any], *, flat: bool) -> str:
        # PReLU, written as slope * x + (1 - slope) * max(x, 0): on ONNX Runtime that takes half the time of its PRelu.
        slope = slope.reshape(-1) if flat else slope.reshape(-1, 1, 1)
        positive = self.add("Mul", self.add("Relu", x), self.constant(1 - slope))
        return self.add("Add", self.add("Mul", x, self.constant(slope)), positive)


def _as_channels_first(matrix: NDArray[Any], channels: int) -> NDArray[Any]:
    """Reorder the rows of a dense kernel that was trained on maps flattened as width, height, channel."""
    side = round((len(matrix) // channels) ** 0.5)
    return matrix.reshape(side, side, channels, -1).transpose(2, 1, 0, 3).reshape(matrix.shape)


def _network(name: str, arrays: Sequence[NDArray[Any]], pools: Sequence[int]) -> bytes:
    """Write one of the three networks.

    Its input is (N, H, W, 3) uint8, its one output has the heads side by side: four box offsets, ten point
    coordinates where it has them, and last the logit of "a face".
    """
    heads = next(i for i, a in enumerate(arrays) if a.shape[-1] == 4)
    net = _Network()
    net.parts.append(graph.graph_input("pictures", np.uint8, ("n", "h", "w", 3)))
    x = net.add("Transpose", net.add("Cast", "pictures", to=1), perm=(0, 3, 1, 2))
    flat = False
    for number in range(0, heads, 3):
        kernel, bias, slope = arrays[number : number + 3]
        if number == 0:
            # The first convolution takes over the normalisation (x - 127.5) / 128.
            kernel, bias = kernel / 128, bias - kernel.sum((0, 1, 2)) * (127.5 / 128)
        if kernel.ndim == 2:
            x, kernel, flat = net.add("Flatten", x), _as_channels_first(kernel, arrays[number - 2].size), True
        x = net.bend(net.layer(x, kernel, bias), slope, flat=flat)
        if size := pools[number // 3]:
            x = net.add("MaxPool", x, kernel_shape=(size, size), strides=(2, 2), ceil_mode=1)
    kernels, biases = list(arrays[heads::2]), list(arrays[heads + 1 :: 2])
    # Of two classes only the difference matters: its sigmoid is their softmax.
    kernels[-1], biases[-1] = np.diff(kernels[-1]), np.diff(biases[-1])
    y = net.layer(x, np.concatenate(kernels, -1), np.concatenate(biases))
    out = net.add("Identity", y)
    shape = ("n", sum(len(b) for b in biases), *(() if flat else ("rows", "columns")))
    return graph.model_bytes(name, [*net.parts, graph.graph_output(out, np.float32, shape)])


# What follows each layer: the side of a pooling, or none.
_POOLS = {"mtcnn-pnet": (2, 0, 0), "mtcnn-rnet": (3, 3, 0, 0), "mtcnn-onet": (3, 3, 2, 0, 0)}


def _arrays(file: Path) -> list[Any]:
    # joblib unpickles, which runs code: only files whose SHA-256 was checked come here.
    import joblib
    import lz4.frame

    # Given the file itself, joblib reads it through lz4's file object, which complains at its end in Python 3.13.
    arrays: list[Any] = joblib.load(io.BytesIO(lz4.frame.decompress(file.read_bytes())))
    return arrays


@cache
def _open(name: str, threads: int) -> ort.InferenceSession:
    file = locate(card(name))
    try:
        model = _network(name, _arrays(file), _POOLS[name])
    except (ValueError, TypeError, IndexError, StopIteration, RuntimeError) as error:
        msg = f"{file}: not the arrays of {name} ({error}); install mtcnn 1.0 again"
        raise ModelError(msg) from error
    return open_session(model, threads=threads)


_opening = threading.Lock()


def _run(name: str, pictures: NDArray[np.uint8], threads: int) -> Floats:
    with _opening:
        session = _open(name, threads)
    return np.asarray(session.run(None, {"pictures": pictures})[0], np.float32)


_PART = 32
"""Crops that the second and third stage look at in one call; more takes longer, and many times the memory."""


def _run_in_parts(name: str, crops: NDArray[np.uint8], threads: int) -> Floats:
    """Run a stage on N ≥ 1 crops: (N, …), bit for bit what one call would give."""
    return np.concatenate([_run(name, crops[i : i + _PART], threads) for i in range(0, len(crops), _PART)])


_STRIP = 32
"""Rows of cells that the first stage looks at in one call: what passes between its layers then fits the cache."""


def _run_in_strips(level: Picture, threads: int) -> Floats:
    """Run the first stage on one picture: (5, rows, columns), bit for bit what one call would give.

    Each cell sees ``_CELL`` rows of the picture, so a strip of cells takes as many more than twice its own rows. It
    takes a fifth less time than one call and, of a 720p picture, half the memory.
    """
    rows = (level.shape[0] - 1) // _STRIDE - 4
    strips = []
    for first in range(0, max(rows, 1), _STRIP):
        last = min(first + _STRIP, rows)
        end = level.shape[0] if last == rows else _STRIDE * (last - 1) + _CELL
        strips.append(_run("mtcnn-pnet", level[None, _STRIDE * first : end], threads)[0])
    return np.concatenate(strips, 1)


_CELL, _STRIDE = 12, 2
_STEP = 0.709
"""Ratio of neighbouring sizes of the pyramid, √½ as in the paper."""

_MOST_CELLS, _MOST_PROPOSALS, _MOST_CANDIDATES = 2_000, 1_000, 300
"""Most boxes that one pyramid level, the first and the second stage hand on; crowds of hundreds stay well below."""


def _sigmoid(x: Floats) -> Floats:
    # Bounded so that exp does not overflow; float32 has reached 0 and 1 long before.
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))), np.float32)


def _halved(picture: Picture) -> list[Picture]:
    """Return the picture and its halves, quarters, … down to some pixels."""
    out = [picture]
    while min(out[-1].shape[:2]) >= 2 * _CELL:
        h, w = out[-1].shape[:2]
        out.append(image.resize(out[-1], w // 2, h // 2))
    return out


_TIGHTER, _FOLLOWED = 0.9, 0.6
"""Side of the square in which a face is followed, in sides of its box, and the score that it needs; see `follow`."""


def _square(boxes: Floats, share: float = 1.0) -> Floats:
    """Widen boxes to squares about their centres, the longer side times ``share``."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = share * (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True) / 2
    return np.concatenate([centre - half, centre + half], 1)


def _cut(halves: list[Picture], squares: Floats, size: int) -> NDArray[np.uint8]:
    """Cut squares out as crops (N, size, size, 3), all in a few calls; outside the picture is black.

    Each crop is sampled from the halved picture in which it has one to two times its final size, so that linear
    interpolation skips nothing.
    """
    h, w = halves[0].shape[:2]
    sides = np.maximum(squares[:, 2] - squares[:, 0], 1e-3)
    levels = np.clip(np.floor(np.log2(sides / size)), 0, len(halves) - 1).astype(int)
    out = np.empty((len(squares), size, size, 3), np.uint8)
    steps = (np.arange(size, dtype=np.float32) + 0.5) / size
    most = 32_000 // size  # rows of one target picture, see LARGEST
    for level in np.unique(levels):
        source = halves[level]
        rows = np.flatnonzero(levels == level)
        for part in np.split(rows, range(most, len(rows), most)):
            at = squares[part, :2, None] + steps * sides[part, None, None]
            x = at[:, 0] * (source.shape[1] / w) - 0.5
            y = at[:, 1] * (source.shape[0] / h) - 0.5
            shape = (len(part), size, size)
            x_map = np.broadcast_to(x[:, None, :], shape).reshape(-1, size)
            y_map = np.broadcast_to(y[:, :, None], shape).reshape(-1, size)
            cut = cv2.remap(source, x_map, y_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
            out[part] = cut.reshape(*shape, 3)
    return out


def _cut_near(picture: Picture, square: Floats) -> NDArray[np.uint8]:
    """Cut one square out as a crop (1, 48, 48, 3); only its surroundings are made smaller, not the whole picture."""
    h, w = picture.shape[:2]
    left, top = np.clip(np.floor(square[:2]) - 2, 0, [w - 1, h - 1]).astype(int)
    right, bottom = np.clip(np.ceil(square[2:]) + 2, [left + 1, top + 1], [w, h]).astype(int)
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    moved = square - np.array([left, top, left, top], np.float32)
    return _cut(_halved(part), moved[None], 48)


def _fit(squares: Floats, out: Floats) -> tuple[Floats, Floats, Floats]:
    """Return boxes (N, 4), scores (N,) and points (N, 5, 2) that the third stage gives for squares (N, 4)."""
    # Five x, then five y, as shares of the square.
    shares = out[:, 4:14].reshape(-1, 2, 5).transpose(0, 2, 1)
    points = squares[:, None, :2] + shares * (squares[:, None, 2:] - squares[:, None, :2])
    return _shift(squares, out[:, :4]), _sigmoid(out[:, 14]), points


def _shift(boxes: Floats, offsets: Floats) -> Floats:
    """Move the edges of boxes by offsets that are shares of their sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * np.tile(sides, 2)


class Mtcnn:
    """The MTCNN cascade: boxes with five points.

    Boxes are as the last stage fitted them, from brow to chin, mostly higher than wide; they may reach over the
    border. Points are in pixel coordinates with (0, 0) at the centre of the first pixel.

    Parameters
    ----------
    min_face
        Height of the smallest face that is looked for, pixels of the given picture. The cost grows with
        ``1 / min_face**2``. Below about 20 px the cascade misses many faces.
    width
        A picture whose longer side is longer is made smaller to this before the search, which bounds time and memory;
        faces that are then below 12 px are not found. None: searched as it is, up to 16,384 px.
    thresholds
        Scores in [0, 1] that a box needs to pass each of the three stages.
    threads
        Threads that the networks may use; 0 takes as many as the process may use CPUs.
    require_eyes
        Drop boxes in which the eye cascade sees no eye.

    Raises
    ------
    OptionError
        If an option has an impossible value.

    Notes
    -----
    Zhang, Zhang, Li, Qiao (2016), "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional
    Networks", IEEE Signal Processing Letters 23 (10). The networks are opened at the first call and shared by all
    instances; an instance may be called from several threads.
    """

    def __init__(
        self,
        *,
        min_face: int = 20,
        width: int | None = 1280,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.8),
        threads: int = 0,
        require_eyes: bool = False,
    ) -> None:
        at_least("min_face", min_face, least=6)
        at_least("width", width, least=_CELL)
        at_least("threads", threads, least=0)
        if [0 < t < 1 for t in thresholds] != [True] * 3:
            msg = f"thresholds are {thresholds}; give three numbers between 0 and 1"
            raise OptionError(msg)
        self.min_face = min_face
        self.width = width
        self.thresholds = thresholds
        self.threads = threads
        self.require_eyes = require_eyes

    def __repr__(self) -> str:
        return f"Mtcnn(min_face={self.min_face}, width={self.width}, thresholds={self.thresholds})"

    def __call__(self, picture: Picture, /) -> Boxes:
        """Find the faces of one picture.

        Parameters
        ----------
        picture
            (H, W, 3) uint8 RGB.

        Returns
        -------
        Boxes
            Best score first, one box a face.

        Raises
        ------
        ShapeError
            If the picture has another shape or dtype.
        ModelError
            If the weights cannot be read.
        """
        small, factor = within(picture, self.width)
        halves = _halved(small)
        wanted = _CELL / self.min_face
        # What was made smaller to save time is not made larger again.
        boxes = self._propose(halves, first=min(wanted * float(factor[1]), max(1.0, wanted)))
        boxes = self._refine(halves, boxes)
        box, score, points = self._finish(halves, boxes)
        found = Boxes(box * factor, score, points * factor[:2] - 0.5, np.full(len(box), -1, np.int16))
        return with_eyes(picture, found, require=True) if self.require_eyes else found

    def follow(self, picture: Picture, box: Floats) -> tuple[Boxes, NDArray[np.bool_]]:
        """Look again at places where faces were a moment ago: the third stage alone, a small part of a search's cost.

        Parameters
        ----------
        picture
            (H, W, 3) uint8 RGB.
        box
            (N, 4) float32, where the faces should be, pixels.

        Returns
        -------
        Boxes
            N boxes with points, in the order of ``box``, fitted to this picture.
        ndarray
            (N,) bool: there is a face.

        Notes
        -----
        The stage was trained on squares that are somewhat tighter than the boxes that it gives, so the squares are. On
        533 faces of three clips, followed for up to four frames from a full search and compared with a full search in
        each: at 1.0 of the side and the third threshold 83 % overlap by half or more, at 0.9 and 0.6 it is 94 %, and 3
        of 482 followed boxes have no face of the search below them.

        Raises
        ------
        ShapeError
            If the picture has another shape or dtype.
        """
        squares = _square(np.asarray(box, np.float32).reshape(-1, 4), _TIGHTER)
        if not len(squares):
            return Boxes.empty(), np.zeros(0, np.bool_)
        crops = np.concatenate([_cut_near(image.check(picture), s) for s in squares])
        fitted, score, points = _fit(squares, _run_in_parts("mtcnn-onet", crops, self.threads))
        found = Boxes(fitted, score, points - np.float32(0.5), np.full(len(fitted), -1, np.int16))
        return found, score > min(_FOLLOWED, self.thresholds[2])

    def _propose(self, halves: list[Picture], *, first: float) -> Floats:
        """Run the first stage over the pyramid: boxes (N, 4), best first."""
        h, w = halves[0].shape[:2]
        boxes, scores = [np.empty((0, 4), np.float32)], [np.empty(0, np.float32)]
        scale = first
        while (rows := round(h * scale)) >= _CELL and (columns := round(w * scale)) >= _CELL:
            # Start from the smallest of the halved pictures that is still larger.
            start = max(0, min(int(np.log2(1 / scale)), len(halves) - 1))
            level = image.resize(halves[start], columns, rows)
            cells, good = self._scan(level)
            kept = geometry.nms(cells, good, threshold=0.5)
            boxes.append(cells[kept] * np.tile(np.array([w / columns, h / rows], np.float32), 2))
            scores.append(good[kept])
            scale *= _STEP
        every, score = np.concatenate(boxes), np.concatenate(scores)
        return every[geometry.nms(every, score, threshold=0.7)[:_MOST_PROPOSALS]]

    def _scan(self, level: Picture) -> tuple[Floats, Floats]:
        """Run the first stage on one picture: boxes (N, 4) in its pixels and scores (N,)."""
        out = _run_in_strips(level, self.threads)
        threshold = self.thresholds[0]
        row, column = np.nonzero(out[4] > np.log(threshold / (1 - threshold)))
        score = _sigmoid(out[4, row, column])
        if len(score) > _MOST_CELLS:
            best = np.argpartition(-score, _MOST_CELLS)[:_MOST_CELLS]
            row, column, score = row[best], column[best], score[best]
        corner = (np.stack([column, row], 1) * _STRIDE).astype(np.float32)
        cells = np.concatenate([corner, corner + _CELL], 1)
        return _shift(cells, out[:4, row, column].T), score

    def _refine(self, halves: list[Picture], boxes: Floats) -> Floats:
        """Run the second stage on all proposals at once: boxes (N, 4), best first."""
        if not len(boxes):
            return boxes
        squares = _square(boxes)
        out = _run_in_parts("mtcnn-rnet", _cut(halves, squares, 24), self.threads)
        score = _sigmoid(out[:, 4])
        good = score > self.thresholds[1]
        boxes, score = _shift(squares[good], out[good, :4]), score[good]
        return boxes[geometry.nms(boxes, score, threshold=0.7)[:_MOST_CANDIDATES]]

    def _finish(self, halves: list[Picture], boxes: Floats) -> tuple[Floats, Floats, Floats]:
        """Run the third stage on all candidates at once: boxes (N, 4), scores (N,) and points (N, 5, 2)."""
        if not len(boxes):
            none = Boxes.empty()
            return none.box, none.score, none.points
        squares = _square(boxes)
        box, score, points = _fit(squares, _run_in_parts("mtcnn-onet", _cut(halves, squares, 48), self.threads))
        good = score > self.thresholds[2]
        box, score, points = box[good], score[good], points[good]
        kept = geometry.nms(box, score, threshold=0.7, by="smaller")
        kept = kept[geometry.same_face(box[kept], score[kept])]
        return box[kept], score[kept], points[kept]
