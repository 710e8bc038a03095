"""Cuts of a film, found picture by picture: no look ahead, and no more memory than three small pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..image import Picture, check

__all__ = ["Shots"]

_WIDTH, _HEIGHT = 64, 36
_BLOCK_WIDTH, _BLOCK_HEIGHT = 16, 9
_ASIDE, _DOWN = 10, 6
"""Pixels of the small picture by which a moving camera may have carried it from one picture to the next."""

_NOISE = 4.0
"""Variance of the small picture's luma, 0 to 255, that is no structure."""
_PLAIN, _COLOURLESS = 4.0, 12.0
"""A small picture whose luma spreads less and whose mean colour is nearer to grey is blank: black, white, grey."""
_DARKER, _ONE_WAY = 8.0, 0.02
"""Fewer pixels than this share differ by more than so much in one of the two ways: only the light changed."""

_RECENT = 3
_CHANGE, _SAME_PLACE = 0.33, 0.1
_TIMES_USUAL, _MEMORY = 2.0, 0.25


class _Small(NamedTuple):
    """A picture made small, (36, 64, 3) uint8 YCrCb, and what is compared of it."""

    pixels: NDArray[np.uint8]
    luma: NDArray[np.float32]
    colours: NDArray[np.float64]
    """The share of its pixels in each bin of colours."""
    blocks: NDArray[np.float32]
    """(16, 144): its luma, brought to one mean and spread, block by block."""
    plain: bool
    """There is nothing on it but, it may be, a colour."""
    chroma: NDArray[np.float64]
    """The mean colour, (2,), each in [-128, 127]; 0 is grey."""

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> _Small:
        light, blue, red = np.moveaxis(np.asarray(cv2.LUT(pixels, _BINS)), 2, 0)
        bins = light.astype(np.int64) * 256 + (blue * 16 + red)
        counts = np.bincount(bins.ravel(), minlength=1 << 12)
        luma = pixels[..., 0].astype(np.float32)
        spread = float(luma.var())
        chroma = pixels[..., 1:].mean((0, 1)) - 128
        blocks = _blocks((luma - luma.mean()) / np.float32(np.sqrt(spread + _NOISE)))
        return cls(pixels, luma, counts / bins.size, blocks, spread < _PLAIN**2, chroma)

    @property
    def blank(self) -> bool:
        """Whether it is black, white or grey all over."""
        return self.plain and float(np.abs(self.chroma).max()) < _COLOURLESS


def _bins() -> NDArray[np.uint8]:
    """Return the bin of each luma, finer in the dark, and of each chroma, finer near grey: films are dark and pale."""
    luma = np.floor(16 * np.sqrt(np.arange(256) / 256))
    away = np.arange(256) - 128
    chroma = np.round(7 * np.sign(away) * (np.abs(away) / 128) ** 0.7) + 7
    return np.stack([luma, chroma, chroma], 1).astype(np.uint8)[None]


_BINS = _bins()


class Shots:
    """Finds the hard cuts of a film as its pictures come.

    A picture is made small, 64 × 36, and compared with the one before in two ways. *Structure*: how well it correlates
    with the one before when that is moved by up to a sixth of its side, or how well the typical one of 16 blocks fits
    in its place, whichever is better; a moving camera leaves the first high, somebody who walks past the second.
    *Colour*: the share of pixels that two histograms do not have in common. The change is the geometric mean of what is
    new in structure and in colour, so that both have to be new. A shot begins where the change reaches 0.33 and twice
    the change that has been usual; and against each of the last three pictures of the shot, so that what was only
    hidden for two pictures is no cut. Where hardly a pixel became darker, or hardly one lighter, the light may have
    changed (a flash, a fade, the camera's exposure): there, the typical block must not fit in its place at all.

    Pictures that are blank (black, white or grey all over) begin no shot and are passed over; between two of one colour
    each, the colour decides. A fade to black and back
    to the same place is no cut; one that leads elsewhere is a cut at the first picture with something on it. A
    dissolve is found only where it is as quick as a cut.

    The thresholds were chosen on films staged from photographs, see ``benchmarks/shots.py``.

    Examples
    --------
    >>> shots = Shots()
    >>> left, right = np.zeros((90, 160, 3), np.uint8), np.zeros((90, 160, 3), np.uint8)
    >>> left[:, :80], right[:, 80:] = (200, 40, 40), (40, 90, 200)
    >>> [shots.update(picture)[0] for picture in (left, left, right, right)]
    [False, False, True, False]
    """

    def __init__(self) -> None:
        self._recent: list[_Small] = []
        self._usual = 0.0

    def update(self, picture: Picture) -> tuple[bool, float]:
        """Take the next picture; one that cannot be decoded is left out.

        Parameters
        ----------
        picture
            (H, W, 3) uint8 RGB; the size may change.

        Returns
        -------
        tuple
            Whether a shot begins with this picture, never so for the first; and how much it differs from the last
            picture that was not blank, in [0, 1], to four decimals.

        Raises
        ------
        ShapeError
            If it is no picture.
        """
        small = _smaller(check(picture))
        if not self._recent:
            self._recent = [] if small.blank else [small]
            return False, 0.0
        change, _ = _differs(self._recent[0], small)
        if small.blank:
            return False, change
        cut, least = self._begins(small)
        if cut:
            self._recent, least = [], 0.0
        self._usual += _MEMORY * (least - self._usual)
        self._recent = [small, *self._recent[: _RECENT - 1]]
        return cut, change

    def _begins(self, small: _Small) -> tuple[bool, float]:
        """Return whether a picture is new against all of the last ones, and the least change that was looked at."""
        least = 1.0
        for before in self._recent:
            change, new = _differs(before, small)
            least = min(least, change)
            if not new or change < max(_CHANGE, _TIMES_USUAL * self._usual):
                return False, least
        return True, least

    def state(self) -> dict[str, Any]:
        """Return all that is remembered, as plain values for JSON; about 28 kB."""
        recent = [base64.b64encode(small.pixels.tobytes()).decode("ascii") for small in self._recent]
        return {"usual": self._usual, "recent": recent}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        """Return one that goes on as the one whose `state` this is would have gone on, to the bit.

        Raises
        ------
        DataError
            If it is no such state.
        """
        shots = cls()
        try:
            shots._usual = float(state["usual"])
            held = [np.frombuffer(base64.b64decode(text, validate=True), np.uint8) for text in state["recent"]]
            shots._recent = [_Small.of(pixels.reshape(_HEIGHT, _WIDTH, 3)) for pixels in held]
        except (KeyError, TypeError, ValueError) as error:
            msg = f"the state of the cuts is damaged ({error}); begin anew"
            raise DataError(msg) from error
        return shots


def _smaller(picture: Picture) -> _Small:
    height, width = picture.shape[:2]
    # To look at every pixel of a large picture would cost more than all the rest: nine for a small pixel are enough.
    if height > 3 * _HEIGHT and width > 3 * _WIDTH:
        picture = np.asarray(cv2.resize(picture, (3 * _WIDTH, 3 * _HEIGHT), interpolation=cv2.INTER_NEAREST), np.uint8)
    small = cv2.resize(picture, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
    return _Small.of(np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb), np.uint8))


def _differs(before: _Small, now: _Small) -> tuple[float, bool]:
    """Return the change in [0, 1], and whether it can be more than a change of light."""
    colour = 1 - float(np.minimum(before.colours, now.colours).sum())
    if before.plain and now.plain:
        return round(colour, 4), float(np.abs(now.chroma - before.chroma).max()) > 2 * _COLOURLESS
    in_place = _in_place(before.blocks, now.blocks)
    structure = 1 - max(_moved(before.luma, now.luma), in_place, 0.0)
    step = now.luma - before.luma
    one_way = min((step > _DARKER).mean(), (step < -_DARKER).mean()) < _ONE_WAY
    # Rounded, so that another build of OpenCV does not decide otherwise for a last bit.
    return round(float(np.sqrt(max(structure * colour, 0.0))), 4), not one_way or in_place < _SAME_PLACE


def _moved(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    """Return the best correlation of the middle of the picture before with any place of this one that it may be at."""
    middle = before[_DOWN:-_DOWN, _ASIDE:-_ASIDE]
    size = middle.shape[::-1]
    common = np.asarray(cv2.matchTemplate(now, middle, cv2.TM_CCOEFF), np.float64) / middle.size
    rows, columns = common.shape
    mean, square = (
        np.asarray(filtered(now, cv2.CV_64F, size, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE))[:rows, :columns]
        for filtered in (cv2.boxFilter, cv2.sqrBoxFilter)
    )
    spread = np.maximum(square - mean**2, 0) + _NOISE
    return float((common / np.sqrt(spread * (float(middle.var()) + _NOISE))).max())


def _in_place(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return how well the typical block fits, at most 1; blocks weigh as much as there is to see on them."""
    spread_a, spread_b = a.var(1), b.var(1)
    fit = 1 - ((a - b) ** 2).mean(1) / (spread_a + spread_b + 0.05)
    order = fit.argsort(kind="stable")
    weight = (np.sqrt(np.maximum(spread_a, spread_b)) + 0.05)[order].cumsum()
    return float(fit[order][np.searchsorted(weight, weight[-1] / 2)])


def _blocks(luma: NDArray[np.float32]) -> NDArray[np.float32]:
    parts = luma.reshape(_HEIGHT // _BLOCK_HEIGHT, _BLOCK_HEIGHT, _WIDTH // _BLOCK_WIDTH, _BLOCK_WIDTH)
    return parts.swapaxes(1, 2).reshape(-1, _BLOCK_HEIGHT * _BLOCK_WIDTH)
