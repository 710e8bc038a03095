"""Contact sheets: many small pictures with captions on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, ShapeError
from ..image import Picture, check, resize
from .overlay import drawable
from .palette import GREY, RGB

__all__ = ["beside", "sheet", "tile"]

_FONT = cv2.FONT_HERSHEY_DUPLEX
_CAP = 22
"""Height of a capital letter at font scale 1, px."""
_FINE = 4
"""Letters are drawn so many times as large and averaged down: OpenCV's own edges are rough at this size."""
_INK, _PALE, _PAPER = (34, 34, 34), (110, 110, 110), (250, 250, 248)
_LETTER, _TITLE = 10, 15
"""Heights of capital letters, px."""
_GAP, _EDGE, _STRIPE = 14, 28, 4


def tile(
    picture: Picture, box: NDArray[np.floating], *, width: int = 240, height: int = 180, share: float = 0.5
) -> Picture:
    """Cut a face out with what is around it, for a sheet.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB.
    box
        (4,) x1 y1 x2 y2, pixels.
    width, height
        Of the tile, pixels.
    share
        How much of the tile's height the face takes, above 0. The cut is moved to stay in the picture, and grows no
        larger than it; a tile of another shape than the picture has borders in grey.

    Returns
    -------
    ndarray
        (height, width, 3) uint8 RGB.

    Raises
    ------
    ShapeError
        If the picture is not (H, W, 3) uint8, or the box is not four finite numbers.
    """
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ShapeError("box", "(4,) finite", f"{box.shape} {box.tolist()}")
    high, wide = check(picture).shape[:2]
    side = max(float(box[3] - box[1]), float(box[2] - box[0]), 1.0)
    cut_height = min(side / share, high, wide * height / width)
    size = np.array([cut_height * width / height, cut_height])
    low = np.clip((box[:2] + box[2:]) / 2 - size / 2, 0, np.array([wide, high]) - size)
    x1, y1 = np.floor(low).astype(int)
    x2, y2 = np.minimum(np.ceil(low + size).astype(int), (wide, high))
    return resize(picture[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)], width, height)


def sheet(
    pictures: Sequence[Picture | None],
    captions: Sequence[str],
    *,
    columns: int,
    title: str = "",
    footer: str = "",
    colours: Sequence[RGB | None] | None = None,
    size: tuple[int, int] | None = None,
) -> Picture:
    """Lay pictures out on a page, row by row, each with its caption below.

    Parameters
    ----------
    pictures
        N pictures (H, W, 3) uint8 RGB; another size than the page's is fitted into it. None leaves the place empty.
    captions
        N texts; a line break begins another line, in paler ink. Letters beyond ASCII lose their accents or become
        ``?``; a line that is too long ends in dots.
    columns
        Pictures a row, at least 1.
    title, footer
        Lines above and below; left away when empty.
    colours
        For each picture the colour of a stripe under it, or None.
    size
        Width and height of each place, pixels; None: that of the first picture.

    Returns
    -------
    ndarray
        (H, W, 3) uint8 RGB.

    Raises
    ------
    OptionError
        If there is no picture, not one caption a picture, or columns is below 1.
    """
    tints = [None] * len(pictures) if colours is None else colours
    first = next((p for p in pictures if p is not None), None)
    if not pictures or len(captions) != len(pictures) or len(tints) != len(pictures) or columns < 1:
        counts = f"{len(pictures)} pictures, {len(captions)} captions, {columns} columns"
        msg = f"a sheet needs at least one picture, a caption for each and a column; got {counts}"
        raise OptionError(msg)
    width, height = size or (first.shape[1::-1] if first is not None else (160, 160))
    lines = max(c.count("\n") + 1 for c in captions)
    place = _Place(int(width), int(height), lines)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    top = _EDGE + (_TITLE + _EDGE if title else 0)
    page_width = 2 * _EDGE + columns * place.width + (columns - 1) * _GAP
    page_height = top + rows * (place.full + _GAP) - _GAP + _EDGE + (_LETTER + _GAP if footer else 0)
    page = np.full((page_height, page_width, 3), _PAPER, np.uint8)
    for i, (picture, caption, tint) in enumerate(zip(pictures, captions, tints, strict=True)):
        x = _EDGE + i % columns * (place.width + _GAP)
        y = top + i // columns * (place.full + _GAP)
        place.draw(page, x, y, picture, caption, tint)
    inside = page_width - 2 * _EDGE
    if title:
        _write(page, title, _EDGE, _EDGE, _TITLE, _INK, inside)
    if footer:
        _write(page, footer, _EDGE, page_height - _EDGE - _LETTER + _GAP // 2, _LETTER, _PALE, inside)
    return page


def beside(left: Picture, right: Picture) -> Picture:
    """Return two pages side by side with a line between; the shorter one is filled up with paper."""
    height = max(left.shape[0], right.shape[0])
    parts = [np.pad(p, ((0, height - len(p)), (0, 0), (0, 0)), constant_values=_PAPER[0]) for p in (left, right)]
    line = np.full((height, 2, 3), 205, np.uint8)
    line[:_EDGE], line[-_EDGE:] = _PAPER, _PAPER
    return np.concatenate([parts[0], line, parts[1]], 1)


@dataclass(frozen=True, slots=True)
class _Place:
    """Room for one picture and its caption."""

    width: int
    height: int
    lines: int

    @property
    def full(self) -> int:
        return self.height + _STRIPE + self.lines * (_LETTER + 8) + 4

    def draw(self, page: Picture, x: int, y: int, picture: Picture | None, caption: str, tint: RGB | None) -> None:
        if picture is None:
            cv2.rectangle(page, (x, y, self.width, self.height), (232, 232, 230), cv2.FILLED)
        else:
            page[y : y + self.height, x : x + self.width] = _fitted(picture, self.width, self.height)
        below = y + self.height
        if tint is not None:
            cv2.rectangle(page, (x, below, self.width, _STRIPE), tint, cv2.FILLED)
        for number, line in enumerate(caption.split("\n")):
            top = below + _STRIPE + 6 + number * (_LETTER + 8)
            _write(page, line, x, top, _LETTER, _INK if number == 0 else _PALE, self.width)


def _fitted(picture: Picture, width: int, height: int) -> Picture:
    if picture.shape[:2] == (height, width):
        return picture
    scale = min(width / picture.shape[1], height / picture.shape[0])
    small = resize(picture, max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    out = np.full((height, width, 3), GREY, np.uint8)
    y, x = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    out[y : y + small.shape[0], x : x + small.shape[1]] = small
    return out


def _write(page: Picture, text: str, x: int, y: int, height: int, colour: RGB, most: int) -> None:
    """Write one line whose capitals reach from ``y`` down to ``y + height``, at most ``most`` pixels wide."""
    words = drawable(text)
    scale, stroke = height * _FINE / _CAP, max(1, round(height * _FINE / 11))

    def wide(part: str) -> int:
        return int(cv2.getTextSize(part, _FONT, scale, stroke)[0][0])

    if wide(words) > most * _FINE:
        while words and wide(words + "...") > most * _FINE:
            words = words[:-1]
        words += "..."
    reach = height // 2
    mask = np.zeros(((height + 2 * reach) * _FINE, (min(most, wide(words) // _FINE + 2)) * _FINE), np.uint8)
    cv2.putText(mask, words, (0, (height + reach) * _FINE), _FONT, scale, 255, stroke, cv2.LINE_AA)
    small = cv2.resize(mask, None, fx=1 / _FINE, fy=1 / _FINE, interpolation=cv2.INTER_AREA)
    top, left = max(0, y - reach), x
    region = page[top : top + small.shape[0], left : left + small.shape[1]]
    alpha = small[: region.shape[0], : region.shape[1], None].astype(np.float32) / 255
    region[:] = np.round(region * (1 - alpha) + np.array(colour, np.float32) * alpha).astype(np.uint8)
