"""Draws what was found into a picture: boxes, expressions, points, and what is missing."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..image import Picture, check
from ..results.columns import Reason
from ..results.faces import Faces
from .palette import GREY, RGB, colours, ink

__all__ = ["annotate", "drawable"]

_FONT = cv2.FONT_HERSHEY_DUPLEX
_CAP = 22
"""Height of a capital letter at font scale 1, px."""
_SMALLEST = 9.0
"""Letters below this height, px, are not read."""
_LONG = "surprise 0.00"
"""Letters are as high as this text asks, so that faces of one size have letters of one size."""
_SECOND = 0.75
"""Height of the second line as a share of the first."""

Box = tuple[int, int, int, int]


def annotate(picture: Picture, faces: Faces, *, note: str | None = None) -> Picture:
    """Return a copy of a picture with its faces drawn into it.

    A named face has a box in the colour of its expression, the five points, the label with its score, the second label
    below, and under these a bar that shows the share of every label. A face that names none is grey and says why. A
    picture without a face says so in its top left corner. Letters and lines grow with the picture; on a small face they
    shrink, then lose the second line, then the score.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB; it is not changed.
    faces
        The rows of this one picture or frame, boxes in its pixels. A face whose box is missing or outside is not drawn.
    note
        A line for the top left corner, for example the time. Letters beyond ASCII lose their accents or become ``?``.

    Returns
    -------
    ndarray
        (H, W, 3) uint8 RGB.

    Raises
    ------
    ShapeError
        If the picture is not (H, W, 3) uint8.

    Examples
    --------
    >>> annotate(np.zeros((48, 64, 3), np.uint8), Faces.missing("wall.jpg", Reason.NO_FACE)).shape
    (48, 64, 3)
    """
    canvas = check(picture).copy()
    taken = _corner(canvas, faces, note)
    marks = _marks(canvas, faces)
    for mark in marks:
        mark.outline(canvas)
    boxes = [mark.box for mark in marks]
    # Named faces first: where there is no room for all, a reason is left out before an expression is.
    for mark in sorted(marks, key=lambda m: not m.named):
        plate = mark.plate(canvas)
        if plate is None:
            continue
        spot, covered = _spot(plate, mark.box, canvas, taken, [b for b in boxes if b is not mark.box])
        if mark.named or not covered:
            plate.draw(canvas, spot[0], spot[1])
            taken.append(spot)
    return canvas


@dataclass(frozen=True, slots=True)
class _Plate:
    """A filled rectangle with lines of text, and below them a bar of shares."""

    lines: tuple[tuple[str, float], ...]
    colour: RGB
    shares: tuple[tuple[RGB, float], ...] = ()

    @property
    def pad(self) -> int:
        return max(2, round(self.lines[0][1] * 0.4))

    @property
    def bar(self) -> int:
        return max(5, round(self.lines[0][1] * 0.5)) if self.shares else 0

    @property
    def width(self) -> int:
        return max(_width(text, height) for text, height in self.lines) + 2 * self.pad

    @property
    def height(self) -> int:
        return sum(round(height) + self.pad for _, height in self.lines) + self.pad + self.bar

    def draw(self, canvas: Picture, x: int, y: int) -> None:
        cv2.rectangle(canvas, (x, y, self.width, self.height), self.colour, cv2.FILLED)
        base = y
        for text, height in self.lines:
            base += self.pad + round(height)
            origin = (x + self.pad, base)
            cv2.putText(canvas, text, origin, _FONT, height / _CAP, ink(self.colour), _stroke(height), cv2.LINE_AA)
        self._draw_bar(canvas, x, y + self.height - self.bar)

    def _draw_bar(self, canvas: Picture, x: int, y: int) -> None:
        if self.shares:
            # Without a line, the share of the plate's own label would be lost in the plate.
            cv2.line(canvas, (x, y), (x + self.width - 1, y), ink(self.colour), 1)
        passed = 0.0
        for colour, share in self.shares:
            left, right = (x + round(self.width * v) for v in (passed, passed + share))
            if right > left:
                cv2.rectangle(canvas, (left, y + 1, right - left, self.bar - 1), colour, cv2.FILLED)
            passed += share


@dataclass(frozen=True, slots=True)
class _Mark:
    """All that is drawn for one face."""

    box: Box
    points: NDArray[np.float32]
    colour: RGB
    named: bool
    texts: tuple[str, ...]
    second: str
    shares: tuple[tuple[RGB, float], ...]

    def outline(self, canvas: Picture) -> None:
        x1, y1, x2, y2 = self.box
        side = min(x2 - x1, y2 - y1)
        line = max(1, min(max(2, round(max(canvas.shape[:2]) / 500)), side // 20))
        # An edge in the ink of the colour keeps the box visible on any ground; a small face has no room for it.
        edge = max(1, line // 3) if side >= 40 else 0
        for inset in range(line + edge):
            colour = self.colour if inset < line else ink(self.colour)
            cv2.rectangle(canvas, (x1 + inset, y1 + inset), (x2 - 1 - inset, y2 - 1 - inset), colour, 1)
        for x, y in _near(self.points, canvas)[np.isfinite(self.points).all(1)] if side >= 24 else ():
            cv2.circle(canvas, (int(x), int(y)), line + 1, ink(self.colour), cv2.FILLED, cv2.LINE_AA)
            cv2.circle(canvas, (int(x), int(y)), line, self.colour, cv2.FILLED, cv2.LINE_AA)

    def plate(self, canvas: Picture) -> _Plate | None:
        if not self.texts:
            return None
        wide, most = self.box[2] - self.box[0], _letters(canvas)
        least = max(_SMALLEST, 0.4 * most)
        # The longest text that, at its smallest, is not far wider than the face.
        text = next((t for t in self.texts if _Plate(((t, least),), GREY).width <= 1.8 * wide), self.texts[-1])
        height = float(np.clip(most * 1.25 * wide / _Plate(((_LONG, most),), GREY).width, least, most))
        height = _fitting(text, height, canvas)
        full = bool(self.second) and wide >= 7 * height
        lines = ((text, height), (self.second, max(height * _SECOND, 8.0))) if full else ((text, height),)
        return _Plate(lines, self.colour, self.shares if full else ())


def _marks(canvas: Picture, faces: Faces) -> list[_Mark]:
    """Return what to draw for each face whose box lies in the picture."""
    tints = colours(faces.labels.labels)
    scores = faces.ranked(2)[1]
    top, second, words = faces.top.tolist(), faces.second.tolist(), faces.reason_words
    marks = []
    for i in np.flatnonzero(faces.found):
        box = _inside(faces.box[i], canvas)
        if box is None:
            continue
        named = bool(top[i])
        reasons = [w.replace("_", " ") for w in words[i].split("|") if w]
        texts = (
            (f"{top[i]} {scores[i, 0]:.2f}", top[i]) if named else (", ".join(reasons), *reasons[:1]) if reasons else ()
        )
        marks.append(
            _Mark(
                box=box,
                points=faces.points[i],
                colour=tints[top[i]] if named else GREY,
                named=named,
                texts=tuple(map(drawable, texts)),
                second=drawable(f"{second[i]} {scores[i, 1]:.2f}") if named else "",
                shares=tuple(zip(tints.values(), faces.expression[i].tolist(), strict=True)) if named else (),
            )
        )
    return marks


def _corner(canvas: Picture, faces: Faces, note: str | None) -> list[Box]:
    """Write what concerns the whole picture; return the place that it takes."""
    said = {int(Reason.NO_FACE): "no face", int(Reason.UNREADABLE): "unreadable frame"}
    reasons = int(np.bitwise_or.reduce(faces.reason[~faces.found], initial=0))
    texts = [drawable(note)] if note else []
    texts += [text for flag, text in said.items() if reasons & flag]
    if not texts:
        return []
    height = min(_fitting(t, _letters(canvas), canvas) for t in texts)
    plate = _Plate(tuple((t, height) for t in texts), GREY)
    plate.draw(canvas, 0, 0)
    return [(0, 0, plate.width, plate.height)]


def _spot(plate: _Plate, box: Box, canvas: Picture, taken: list[Box], faces: list[Box]) -> tuple[Box, float]:
    """Choose the place for a plate that covers least; return it and how many pixels of other things it covers."""
    x1, y1, x2, y2 = box
    width, height = plate.width, plate.height
    columns, rows = (x1, x2 - width, (x1 + x2 - width) // 2), (y1 - height, y2)
    spots = [(x, y) for y in rows for x in columns] + [(x2, y1), (x1 - width, y1), (x1, y1)]
    places = np.array(spots, np.int64)
    room = np.array([canvas.shape[1] - width, canvas.shape[0] - height])
    places = np.clip(places, 0, np.maximum(room, 0))
    rects = np.column_stack([places, places + np.array([width, height])])
    others = _common(rects, taken) * 4 + _common(rects, faces)
    best = int(np.argmin(others + _common(rects, [box]) * 0.5))
    chosen = tuple(rects[best].tolist())
    return chosen, float(others[best])


def _common(rects: NDArray[np.int64], boxes: list[Box]) -> NDArray[np.float64]:
    """Return how many pixels of some boxes each rectangle covers."""
    if not boxes:
        return np.zeros(len(rects))
    held = np.array(boxes)
    low = np.maximum(rects[:, None, :2], held[None, :, :2])
    high = np.minimum(rects[:, None, 2:], held[None, :, 2:])
    return np.asarray(np.maximum(high - low, 0).prod(2).sum(1), np.float64)


def _letters(canvas: Picture) -> float:
    """Return the height of capital letters that suits a picture, px."""
    return max(_SMALLEST + 1, 0.0125 * float(max(canvas.shape[:2])))


def _fitting(text: str, height: float, canvas: Picture) -> float:
    """Return a height at which a text is not wider than the picture."""
    return height * min(1.0, float(canvas.shape[1]) / _Plate(((text, height),), GREY).width)


def _inside(box: NDArray[np.float32], canvas: Picture) -> Box | None:
    """Return a box in whole pixels if any of it lies in the picture."""
    if not np.isfinite(box).all():
        return None
    height, width = canvas.shape[:2]
    x1, y1, x2, y2 = (int(v) for v in _near(box.reshape(2, 2), canvas).ravel())
    return (x1, y1, x2, y2) if x1 < min(x2, width) and y1 < min(y2, height) and x2 > 0 and y2 > 0 else None


def _near(points: NDArray[np.float32], canvas: Picture) -> NDArray[Any]:
    """Round points to whole pixels, those far outside pulled in to where OpenCV can still count."""
    edge = np.array([canvas.shape[1], canvas.shape[0]])
    return np.round(np.clip(np.nan_to_num(points), -edge, 2 * edge))


def _width(text: str, height: float) -> int:
    return int(cv2.getTextSize(text, _FONT, height / _CAP, _stroke(height))[0][0])


def _stroke(height: float) -> int:
    return max(1, round(height / 10))


def drawable(text: str) -> str:
    """Return what OpenCV's letters can write."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return "".join(c if " " <= c <= "~" else "?" for c in plain)
