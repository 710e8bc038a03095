"""Can this face be read honestly? Measures of a face, and the limits past which it gets a reason, not a label."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..geometry import Floats, area
from ..image import grey
from ..results.columns import Reason
from .align import yaw
from .base import Boxes

__all__ = ["Limits", "judge", "outside", "sharpness"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where reading stops.

    Attributes
    ----------
    side
        Smallest face, as the square root of its box, pixels.
    sharpness
        Smallest `sharpness` of the crop.
    dark, bright
        Smallest and largest mean luma of the crop, [0, 255].
    yaw
        Largest size of `align.yaw`, to either side.
    outside
        Largest share of the box that lies over the picture's border.

    Notes
    -----
    From ``benchmarks/limits.py`` on 1,387 held-out faces of FER2013's Training: the agreement with the taggers falls
    from 0.84 to 0.74 at crops of 20 px and to 0.57 at a blur of two pixels, whose middle sharpness is 0.04. Light
    matters little until the eight bits of a pixel run out. How agreement falls as a face turns was not measured.
    """

    side: float = 20.0
    sharpness: float = 0.04
    dark: float = 8.0
    bright: float = 248.0
    yaw: float = 0.62
    outside: float = 0.15


def sharpness(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return fine detail as a share of all contrast, (N,) float32, for RGB crops (N, H, W, 3).

    The variance of the Laplacian (Pech-Pacheco et al. 2000) over the variance of the luma, both in the middle of the
    crop, so that neither the picture's contrast nor the background decides.
    """
    out = np.zeros(len(crops), np.float32)
    for i, luma in enumerate(grey(crops)):
        h, w = luma.shape
        middle = luma[h // 8 : h - h // 8, w // 8 : w - w // 8]
        out[i] = cv2.Laplacian(middle, cv2.CV_32F).var() / max(float(middle.var()), 1.0)
    return out


def outside(boxes: Floats, width: int, height: int) -> Floats:
    """Return the share of each box (N, 4) that lies outside a picture, (N,) in [0, 1]."""
    inside = np.clip(boxes, 0, np.array([width, height, width, height]))
    whole = area(boxes)
    return np.where(whole > 0, 1 - area(inside) / np.maximum(whole, 1e-9), 0)


def judge(boxes: Boxes, crops: NDArray[np.uint8], *, width: int, height: int, limits: Limits) -> NDArray[np.uint16]:
    """Return the reasons (N,) uint16, flags of `Reason`, against reading each face; 0 where there is none.

    Parameters
    ----------
    boxes
        N faces of one picture of ``width`` × ``height`` pixels.
    crops
        Their aligned crops, (N, H, W, 3) uint8 RGB.
    limits
        Where reading stops.
    """
    luma = grey(crops).mean((1, 2)) if len(crops) else np.empty(0, np.float32)
    turned = np.abs(np.nan_to_num(yaw(boxes.points)))
    tests = (
        (Reason.TOO_SMALL, np.sqrt(area(boxes.box)) < limits.side),
        (Reason.CUT, outside(boxes.box, width, height) > limits.outside),
        (Reason.TURNED_AWAY, turned > limits.yaw),
        (Reason.TOO_DARK, luma < limits.dark),
        (Reason.TOO_BRIGHT, luma > limits.bright),
        (Reason.BLURRED, sharpness(crops) < limits.sharpness),
    )
    reasons = np.zeros(len(boxes), np.uint16)
    for reason, hit in tests:
        reasons |= np.where(hit, np.uint16(reason), np.uint16(0))
    # A crop without light has no detail to be blurred.
    lightless = (reasons & (Reason.TOO_DARK | Reason.TOO_BRIGHT)) != 0
    return np.where(lightless, reasons & ~np.uint16(Reason.BLURRED), reasons).astype(np.uint16)
