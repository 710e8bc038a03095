"""Faces as pictures of their own, in a folder for each expression."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, OutputError
from ..media.video import Frame
from ..media.writer import write_picture
from ..models.align import FER2013_TEMPLATE, crop
from ..models.base import Boxes
from ..render.anonymize import grown
from ..results.faces import Faces
from ..zoo import catalog
from ..zoo.card import InputSpec
from .clips import safe
from .query import Found
from .reading import Stretch

__all__ = ["Crops", "folder_of", "framing", "spread"]

UNNAMED = "unnamed"
"""The folder of faces that name no expression."""


def folder_of(path: Path) -> Path:
    """Make a folder for results and return it.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{path}: cannot make this folder ({error.strerror}); name another"
        raise OutputError(msg) from error
    return path


def spread(groups: list[Any], most: int | None) -> NDArray[np.int64]:
    """Return which of N rows to keep, ascending: at most ``most`` of each group, spread evenly over its rows.

    >>> spread(["a", "a", "b", "a", "a"], 2).tolist()
    [0, 2, 4]
    """
    if most is None:
        return np.arange(len(groups), dtype=np.int64)
    held: dict[Any, list[int]] = {}
    for row, group in enumerate(groups):
        held.setdefault(group, []).append(row)
    kept: list[int] = []
    for rows in held.values():
        # Of one, the middle one; else from the first to the last.
        places = np.linspace(0, len(rows) - 1, most) if most > 1 else np.array([(len(rows) - 1) / 2])
        kept += [rows[i] for i in np.unique(np.round(places).astype(int))] if most < len(rows) else rows
    return np.array(sorted(kept), np.int64)


def framing(models: dict[str, str], size: int | None = None) -> InputSpec:
    """Return how crops are aligned: by the template of the expression model that made an index, or of the bundled one.

    Parameters
    ----------
    models
        Names of models, as an index's manifest has them.
    size
        Width and height of the crops, pixels; None: those that the model is fed.
    """
    names = [name for name in models if name in catalog.names()]
    fed = [card.input for card in map(catalog.card, names) if card.task == "expression"]
    specs = [spec for spec in fed if spec is not None and spec.template is not None]
    spec = specs[0] if specs else InputSpec(width=48, height=48, template=FER2013_TEMPLATE)
    return replace(spec, width=size, height=size) if size else spec


class Crops:
    """Writes found faces as pictures ``happy/000123-t4.jpg`` (frame and track), while the frames come in order.

    Parameters
    ----------
    folder
        Where the folders of the expressions go.
    found
        The faces.
    margin
        How much wider than its box a face is cut out on each side, as a share of width and height.
    most
        At most so many faces of a track and expression, spread evenly over them; None: all.
    spec
        Turn, scale and shift faces to this framing; None: cut them out as they are.
    ending
        ``.jpg``, ``.png`` or ``.webp``.

    Raises
    ------
    OptionError
        If a number or the ending cannot be.
    """

    def __init__(
        self,
        folder: Path,
        found: Found,
        *,
        margin: float = 0.2,
        most: int | None = None,
        spec: InputSpec | None = None,
        ending: str = ".jpg",
    ) -> None:
        if not 0 <= margin <= 10 or (most is not None and most < 1) or ending not in {".jpg", ".png", ".webp"}:
            msg = (
                f"crops have a margin in 0…10, at least one of a track, and end in .jpg, .png or .webp; "
                f"got {margin:g}, {most}, {ending!r}"
            )
            raise OptionError(msg)
        self._folder, self._margin, self._spec, self._ending = folder, margin, spec, ending
        faces = found.faces()
        one = found.labels_asked[0] if len(found.labels_asked) == 1 else None
        # Asked for one label, a face is filed under it also where smoothing, not its own score, put it on top.
        labels = np.array([one] * len(faces) if one else [t or UNNAMED for t in faces.top.tolist()], np.str_)
        kept = spread(list(zip(labels.tolist(), faces.track.tolist(), strict=True)), most)
        self._faces, self._labels = faces[kept], labels[kept]
        self.written = 0

    @property
    def stretches(self) -> list[Stretch]:
        """The parts of the film that are needed."""
        return [(f, f) for f in np.unique(self._faces.frame).tolist()]

    def _of(self, frame: int) -> tuple[int, int]:
        numbers = self._faces.frame
        return int(np.searchsorted(numbers, frame)), int(np.searchsorted(numbers, frame, side="right"))

    def wants(self, frame: int, _time: float) -> bool:
        """Say whether a found face is in a frame."""
        first, last = self._of(frame)
        return first < last

    def take(self, frame: Frame) -> None:
        """Write the faces of a frame whose picture is there.

        Raises
        ------
        OutputError
            If one cannot be written.
        """
        if frame.picture is None:
            return
        first, last = self._of(frame.index)
        rows = self._faces[first:last]
        for i, picture in enumerate(self._pictures(frame.picture, rows)):
            if picture is None:
                continue
            track = int(rows.track[i])
            name = f"{frame.index:06d}-" + (f"t{track}" if track >= 0 else f"f{rows.face[i]}")
            write_picture(folder_of(self._folder / safe(str(self._labels[first + i]))) / (name + self._ending), picture)
            self.written += 1

    def _pictures(self, picture: NDArray[np.uint8], rows: Faces) -> list[NDArray[np.uint8] | None]:
        if self._spec is not None:
            boxes = Boxes(rows.box, rows.score, rows.points, rows.eyes)
            return list(crop(picture, boxes, self._spec))
        height, width = picture.shape[:2]
        out: list[NDArray[np.uint8] | None] = []
        for box in grown(rows.box, self._margin):
            x1, y1 = np.floor(np.clip(box[:2], 0, (width, height))).astype(int)
            x2, y2 = np.ceil(np.clip(box[2:], 0, (width, height))).astype(int)
            out.append(picture[y1:y2, x1:x2] if x1 < x2 and y1 < y2 else None)
        return out

    def finish(self) -> None:
        """Do nothing: every picture is whole."""

    def discard(self, _error: BaseException) -> None:
        """Do nothing: what is written is whole."""
