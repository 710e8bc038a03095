"""Contact sheets of what was found: the best frame of each span, and rows with and without steadiness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..image import Picture
from ..media.video import Frame
from ..media.writer import write_picture
from ..render.palette import RGB, colours
from ..render.sheet import beside, sheet, tile
from .language import And, Held, Node, Not, Or
from .query import Found
from .reading import Stretch

__all__ = ["Compared", "Sheet", "loosened"]

_COLUMNS = 6
_SIDE = 96
"""Side of the tiles of a comparison, pixels."""


def _short(seconds: float) -> str:
    """Return a time as ``0:12.40``, with hours only where there are some."""
    if not np.isfinite(seconds):
        return "-"
    hundredths = max(0, round(seconds * 100))
    minutes, rest = divmod(hundredths, 6000)
    hours = f"{minutes // 60}:{minutes % 60:02}" if minutes >= 60 else f"{minutes}"
    return f"{hours}:{rest // 100:02}.{rest % 100:02}"


class _Tiles:
    """Cuts one tile out of the film for each of some rows, while its frames come in order."""

    def __init__(self, found: Found, rows: NDArray[np.int64], size: tuple[int, int], share: float) -> None:
        self.faces = found.index.faces(rows)
        self._size, self._share = size, share
        self._order = np.argsort(self.faces.frame, kind="stable")
        self._frames = self.faces.frame[self._order]
        self.pictures: list[Picture | None] = [None] * len(rows)

    @property
    def stretches(self) -> list[Stretch]:
        """The parts of the film that are needed."""
        return [(f, f) for f in np.unique(self._frames).tolist()]

    def wants(self, frame: int, _time: float) -> bool:
        """Say whether a tile shows this frame."""
        at = int(np.searchsorted(self._frames, frame))
        return at < len(self._frames) and int(self._frames[at]) == frame

    def take(self, frame: Frame) -> None:
        """Cut the tiles of a frame whose picture is there."""
        if frame.picture is None:
            return
        first, last = np.searchsorted(self._frames, [frame.index, frame.index + 1])
        for row in self._order[first:last].tolist():
            width, height = self._size
            box = self.faces.box[row]
            self.pictures[row] = tile(frame.picture, box, width=width, height=height, share=self._share)

    def discard(self, _error: BaseException) -> None:
        """Do nothing: nothing is written yet."""


class Sheet(_Tiles):
    """A page with the best frame of each span: time, track, label and score.

    Parameters
    ----------
    path
        Where to.
    found
        What was found.
    most
        Spans at most; of more, those with the highest scores are shown, and the page says how many there are.

    Raises
    ------
    OptionError
        If ``most`` is below 1.
    """

    def __init__(self, path: Path, found: Found, *, most: int = 60) -> None:
        if most < 1:
            msg = f"a sheet shows at least one span, got {most}"
            raise OptionError(msg)
        spans = found.spans
        # Unread spans last; the order in time stays.
        score = np.where(np.isfinite(spans.score), spans.score, -1.0)
        chosen = np.sort(np.argsort(-score, kind="stable")[:most])
        super().__init__(found, _best(found)[chosen], (240, 180), 0.5)
        self._path, self._found, self._spans = path, found, spans[chosen]

    def finish(self) -> None:
        """Write the page.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        spans, index = self._spans, self._found.index
        tints = colours(index.labels.labels)
        captions, stripes = [], []
        for i in range(len(spans)):
            label, score = str(spans.label[i]), float(spans.score[i])
            words = " ".join(filter(None, [label, f"{score:.2f}" if np.isfinite(score) else ""]))
            track = f"track {spans.track[i]}" if spans.track[i] >= 0 else ""
            frames = f"{spans.frames[i]} frame{'s' if spans.frames[i] != 1 else ''}"
            below = ", ".join(filter(None, [words, track, frames]))
            captions.append(f"{_short(spans.start[i])} - {_short(spans.end[i])}\n{below}")
            stripes.append(tints.get(label))
        more = len(self._found.spans) - len(spans)
        footer = f"the {len(spans)} spans with the highest scores, and {more} more" if more else ""
        title = f"{self._found.query} - {index.name}"
        page = sheet(
            self.pictures, captions, columns=_COLUMNS, title=title, footer=footer, colours=stripes, size=self._size
        )
        write_picture(self._path, page)


def _best(found: Found) -> NDArray[np.int64]:
    """Return for each span the number of the row that shows best what was asked for: the highest score."""
    best = np.full(len(found.spans), -1, np.int64)
    high = np.full(len(found.spans), -np.inf)
    one = found.labels_asked[0] if len(found.labels_asked) == 1 else None
    for begin in range(0, len(found.rows), 65_536):
        part = slice(begin, begin + 65_536)
        faces = found.index.faces(found.rows[part])
        scores = faces.expression[:, found.index.labels.index(one)] if one else faces.top_score
        scores = np.where(np.isnan(scores), -1.0, scores).astype(np.float64)
        order = np.lexsort((-scores, found.span[part]))
        span = found.span[part][order]
        first = np.flatnonzero(np.diff(span, prepend=-1))
        rows, tops = order[first], scores[order[first]]
        better = tops > high[span[first]]
        high[span[first][better]] = tops[better]
        best[span[first][better]] = found.rows[part][rows[better]]
    return best


def loosened(node: Node) -> Node:
    """Return a query without its ``for``: what was to hold for a while has to hold in the one frame.

    >>> from mien.film.parser import parse
    >>> from mien.labels import EIGHT
    >>> str(loosened(parse("happy >= 0.7 for 8 frames and not (sad for 2 s)", EIGHT)))
    'happy >= 0.7 and not sad'
    """
    if isinstance(node, Held):
        return loosened(node.condition)
    if isinstance(node, Not):
        return replace(node, condition=loosened(node.condition))
    if isinstance(node, And | Or):
        return type(node)(tuple(map(loosened, node.conditions)))
    return node


class Compared(_Tiles):
    """A page with every face that a query finds without its ``for`` at the left, and at the right those that stay.

    Parameters
    ----------
    path
        Where to.
    found
        What the query finds.
    loose
        What it finds without its ``for``.
    most
        Faces at most; of more, some are chosen evenly.

    Raises
    ------
    OptionError
        If the query has no ``for``, or ``most`` is below 1.
    """

    def __init__(self, path: Path, found: Found, loose: Found, *, most: int = 120) -> None:
        if found.query == loose.query:
            msg = (
                f"--compare shows what `for` leaves out, and {found.query!r} has none; write for example: for 8 frames"
            )
            raise OptionError(msg)
        if most < 1:
            msg = f"a sheet shows at least one face, got {most}"
            raise OptionError(msg)
        # By track, then in time: faces that flicker stand beside those that they interrupt.
        order = np.argsort(loose.span, kind="stable")
        chosen = order[np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(np.int64))]
        super().__init__(loose, loose.rows[chosen], (_SIDE, _SIDE), 0.75)
        self._path, self._found, self._loose = path, found, loose
        self._kept = np.isin(loose.rows[chosen], found.rows)

    def finish(self) -> None:
        """Write the page.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        found, loose = self._found, self._loose
        one = found.labels_asked[0] if len(found.labels_asked) == 1 else None
        labels = np.array([one] * len(self.faces) if one else self.faces.top, np.str_)
        tints: dict[str, RGB] = colours(found.index.labels.labels)
        scores: NDArray[Any] = self.faces.expression[:, found.index.labels.index(one)] if one else self.faces.top_score
        captions = [
            f"{_short(time)}\nt{track} {score:.2f}" if np.isfinite(score) else f"{_short(time)}\nt{track}"
            for time, track, score in zip(self.faces.time, self.faces.track, scores, strict=True)
        ]
        stripes = [tints.get(str(label)) for label in labels]
        lost = int((~np.isin(loose.rows, found.rows)).sum())
        shown = f", {len(captions)} of them shown" if len(captions) < len(loose.rows) else ""
        pages = []
        for name, held, kept in (("every frame", loose, np.ones_like(self._kept)), ("with for", found, self._kept)):
            title = f"{held.query}: {len(held.rows)} faces in {len(held.spans)} spans"
            page = sheet(
                [p if k else None for p, k in zip(self.pictures, kept, strict=True)],
                [c if k else "" for c, k in zip(captions, kept, strict=True)],
                columns=max(6, min(12, round(len(captions) ** 0.5))),
                title=title,
                footer=f"{name}: all{shown}" if held is loose else f"{name}: {lost} faces were left out",
                colours=[s if k else None for s, k in zip(stripes, kept, strict=True)],
                size=self._size,
            )
            pages.append(page)
        write_picture(self._path, beside(*pages))
