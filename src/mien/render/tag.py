"""The number of a track, drawn at its face."""

from __future__ import annotations

import cv2
import numpy as np

from ..image import Picture
from ..results.faces import Faces
from .palette import BLACK, WHITE

__all__ = ["tags"]

_FONT = cv2.FONT_HERSHEY_DUPLEX
_CAP = 22
"""Height of a capital letter at font scale 1, px."""


def tags(picture: Picture, faces: Faces) -> Picture:
    """Write the numbers of tracks into the lower right corners of their boxes, white on black; return the same picture.

    Parameters
    ----------
    picture
        (H, W, 3) uint8 RGB; it is changed.
    faces
        The rows of this picture, boxes in its pixels. One without a track, or outside, has no number.
    """
    height, width = picture.shape[:2]
    letter = max(9.0, 0.011 * max(height, width))
    scale, stroke = letter / _CAP, max(1, round(letter / 10))
    for track, box in zip(faces.track.tolist(), faces.box, strict=True):
        if track < 0 or not np.isfinite(box).all() or (box[2:] <= 0).any() or (box[:2] >= (width, height)).any():
            continue
        text = f"{track}"
        wide, pad = cv2.getTextSize(text, _FONT, scale, stroke)[0][0], max(2, round(letter * 0.35))
        size = wide + 2 * pad, round(letter) + 2 * pad
        corner = np.minimum(box[2:], (width, height)) - size
        x, y = (int(v) for v in np.clip(corner, 0, (max(0, width - size[0]), max(0, height - size[1]))))
        cv2.rectangle(picture, (x, y, *size), BLACK, cv2.FILLED)
        cv2.putText(picture, text, (x + pad, y + pad + round(letter)), _FONT, scale, WHITE, stroke, cv2.LINE_AA)
    return picture
