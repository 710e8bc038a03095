"""Films with a high dynamic range, brought to the colours of ordinary ones.

Their codes spread from black to 1,000 or 10,000 cd/m², so that, taken for ordinary ones, faces come out grey and flat.
Formulas are those of Recommendation ITU-R BT.2100-2, the matrix that of BT.2087-0, and the white of BT.2408-5.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..image import Picture

__all__ = ["Curve", "to_standard"]

_WHITE = 203.0
"""cd/m² of a white sheet in a film with a high dynamic range (BT.2408)."""
_HLG_PEAK = 1000.0
_HLG_GAMMA = 1.2
_FINE = 4095
_LUMA = np.array([[0.2627, 0.6780, 0.0593]], np.float32)
_TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)


class Curve(IntEnum):
    """How codes become light, by its number in ITU-T H.273."""

    PQ = 16
    HLG = 18


@cache
def _light(curve: Curve) -> NDArray[np.float32]:
    """Return (256,) float32: light of each code; PQ as a share of white, HLG of the scene's brightest."""
    code = np.arange(256) / 255
    if curve is Curve.PQ:
        root = code ** (32 / 2523)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (16384 / 2610)
        return np.asarray(light * 10_000 / _WHITE, np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.asarray(np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12), np.float32)


@cache
def _code() -> NDArray[np.uint8]:
    """Return (4096,) uint8: the sRGB code of light in steps of 1 / 4095 of white (IEC 61966-2-1)."""
    light = np.arange(_FINE + 1) / _FINE
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * code), np.uint8)


def to_standard(picture: Picture, curve: Curve, *, wide: bool) -> Picture:
    """Return a picture in sRGB; what is brighter than a white sheet becomes white.

    Parameters
    ----------
    picture
        (H, W, 3) uint8, codes of ``curve``.
    curve
        What the codes mean.
    wide
        The colours are those of BT.2020; else those of BT.709.

    Returns
    -------
    Picture
        (H, W, 3) uint8 RGB.
    """
    light = np.asarray(cv2.LUT(picture, _light(curve)), np.float32)
    if curve is Curve.HLG:
        luma = cv2.transform(light, _LUMA)
        light *= (_HLG_PEAK / _WHITE * np.power(luma, _HLG_GAMMA - 1)).reshape(*light.shape[:2], 1)
    if wide:
        light = np.asarray(cv2.transform(light, _TO_709), np.float32)
    steps = np.clip(light * _FINE + 0.5, 0, _FINE).astype(np.uint16)
    return np.asarray(_code()[steps], np.uint8)
