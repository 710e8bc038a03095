"""The pictures of a timeline: which frames are worth keeping, taken in one pass through the film."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..image import Picture, resize
from .reading import joined, read_frames
from .tables import Frames

__all__ = ["Taken", "chosen", "spread_evenly", "take"]

_WIDTH, _FACE, _MARGIN = 320, 56, 0.25


def spread_evenly(values: Sequence[int], count: int) -> list[int]:
    """Return at most so many of the values, evenly spread over their order.

    >>> spread_evenly(range(10), 3)
    [0, 4, 9]
    """
    if count < 1 or not values:
        return []
    if len(values) <= count:
        return list(values)
    return [values[i] for i in np.linspace(0, len(values) - 1, count).round(6).astype(int).tolist()]


def chosen(
    best: Sequence[int], peaks: Sequence[int], shots: Sequence[int], frames: NDArray[np.int64], limit: int
) -> list[int]:
    """Return the frames to keep as pictures, ascending: at most ``limit`` of the film's ``frames``.

    Two of each six places go to tracks' best frames in the order given, two to peaks, one to the beginnings of shots
    (evenly spread where there are too many) and one to frames spread evenly; what a kind leaves free goes to the
    others.
    """
    known = set(frames.tolist())
    plan = (best, peaks, best, spread_evenly(shots, max(1, limit // 3)), peaks, _halving(frames.tolist()))
    queues = {id(kind): iter(kind) for kind in plan}
    picked: set[int] = set()
    alive = True
    while alive and len(picked) < limit:
        alive = False
        for kind in plan:
            found = next((f for f in queues[id(kind)] if f in known and f not in picked), None)
            if found is not None and len(picked) < limit:
                picked.add(found)
                alive = True
    return sorted(picked)


def _halving(frames: Sequence[int]) -> Iterable[int]:
    """Give frames so that however many are taken they lie about evenly: the middle, the quarters, the eighths."""
    size = len(frames)
    if not size:
        return
    depth = max(1, math.ceil(math.log2(size + 1)))
    for level in range(1, depth + 1):
        for odd in range(1, 1 << level, 2):
            yield frames[min(size - 1, odd * size >> level)]


@dataclass(slots=True, eq=False)
class Taken:
    """What was kept of a film, all JPEG as base64: stills by frame, faces by track; and frames that were unreadable."""

    stills: dict[int, str] = field(default_factory=dict)
    faces: dict[int, str] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)


def take(
    film: Path,
    table: Frames,
    stills: Iterable[int],
    faces: Mapping[int, Sequence[tuple[int, NDArray[np.float32]]]],
    *,
    tell: Callable[[int, int], None] | None = None,
) -> Taken:
    """Read a film once and keep frames as stills, and faces of frames as thumbnails.

    Parameters
    ----------
    film, table
        The film and the frame table of its index. Between frames that are kept, the film is decoded or wound on, and
        reading ends with the last.
    stills
        Numbers of frames.
    faces
        For the number of a frame, tracks and boxes (4,) in it.
    tell
        Is told how many frames are decoded, and of how many.

    Raises
    ------
    SourceError
        If the film cannot be read.
    """
    wanted = set(stills)
    needed = wanted | faces.keys()
    parts = joined([(frame, frame) for frame in sorted(needed)])
    total, done = sum(last - first + 1 for first, last in parts), 0

    def stepped(count: int) -> None:
        nonlocal done
        done += count
        if tell:
            tell(done, total)

    out = Taken()
    for frame in read_frames(film, table, parts, lambda number, _: number in needed, stepped=stepped):
        if frame.picture is None:
            out.lost.append(frame.index)
            continue
        if frame.index in wanted:
            out.stills[frame.index] = _still(frame.picture)
        for track, box in faces.get(frame.index, ()):
            if (crop := _square(frame.picture, box)) is not None:
                out.faces[track] = _jpeg(resize(crop, _FACE, _FACE), 74)
    return out


def _still(picture: Picture) -> str:
    height, width = picture.shape[:2]
    small = picture
    if width > _WIDTH:
        small = resize(picture, _WIDTH, max(1, round(height * _WIDTH / width)))
    return _jpeg(small, 68)


def _square(picture: Picture, box: NDArray[np.float32]) -> Picture | None:
    x1, y1, x2, y2 = map(float, box)
    if not np.isfinite(box).all():
        return None
    reach = max(x2 - x1, y2 - y1) * (0.5 + _MARGIN)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    height, width = picture.shape[:2]
    reach = min(reach, width / 2, height / 2)
    x, y = min(max(x, reach), width - reach), min(max(y, reach), height - reach)
    crop = picture[round(y - reach) : round(y + reach), round(x - reach) : round(x + reach)]
    return crop if crop.size else None


def _jpeg(picture: Picture, quality: int) -> str:
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return base64.b64encode(data.tobytes()).decode()
