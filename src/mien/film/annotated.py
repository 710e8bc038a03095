"""A film with what its index says drawn into it; no model runs."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..image import Picture, resize
from ..media.stills import DEFAULT_MAX_PIXELS
from ..media.video import Frame
from ..media.writer import FilmWriter
from ..render.overlay import annotate
from ..render.tag import tags
from ..results.columns import Reason
from ..results.faces import Faces
from .cover import Cover, Places, frame_length
from .extract import Listener
from .index import Index
from .query import Found
from .reading import read_frames
from .spans import clock
from .tables import Frames

__all__ = ["Annotated", "annotate_film"]


@dataclass(frozen=True, slots=True)
class Annotated:
    """What came of it.

    Attributes
    ----------
    path
        The annotated film.
    frames
        Frames that were written.
    unreadable
        Frames that could not be decoded; the picture before stands for each.
    film_seconds, seconds
        How much of the film they are, and how long it took.
    sound
        The film's sound went along.
    """

    path: Path
    frames: int
    unreadable: int
    film_seconds: float
    seconds: float
    sound: bool

    @property
    def realtime(self) -> float:
        """Seconds of film a second of work."""
        return self.film_seconds / self.seconds if self.seconds > 0 else float("nan")


def annotate_film(
    index: Index,
    out: str | os.PathLike[str],
    *,
    found: Found | None = None,
    film: str | os.PathLike[str] | None = None,
    anonymize: str | None = None,
    how: str = "pixelate",
    slow: float = 1.0,
    listener: Listener | None = None,
) -> Annotated:
    """Draw boxes, expressions and tracks over a film, by its index alone.

    In frames that were not read, a face is drawn where it should be between the two that were, with the expression of
    the one before.

    Parameters
    ----------
    index
        The index.
    out
        Where to: H.264 in MP4.
    found
        Draw only the faces that a query found; None: all.
    film
        Where the film is; None: where it was when it was indexed.
    anonymize
        Cover faces before anything is drawn: ``"all"``, or ``"others"``, those whose tracks were not found.
    how
        As `render.anonymize.anonymize`.
    slow
        Play so many times as slowly; the film is then without sound.
    listener
        Hears of progress.

    Raises
    ------
    OptionError
        If ``slow`` is not in 0.1…100, or ``"others"`` is asked for without a query.
    OutputError
        If the film cannot be written; nothing is left of it.
    SourceError
        If the film is not there, or not that of the index.
    """
    if not 0.1 <= slow <= 100:
        msg = f"slow is {slow:g}; give how many times as slowly it plays, 0.1 to 100"
        raise OptionError(msg)
    if anonymize == "others" and found is None:
        msg = "anonymize is 'others', but nobody was asked for; give a query, or 'all'"
        raise OptionError(msg)
    place, target, begun = index.film(film), Path(out), monotonic()
    frames = index.frames()
    rows = found.rows if found is not None else np.empty(0, np.int64)
    cover = None if anonymize is None else Cover(index, anonymize, how, rows, frames=frames)
    drawing = _Drawing(index, frames, found, cover)
    with ExitStack() as opened:
        strip = _Strip(index, target, place if slow == 1 else None, slow, opened)
        limit = index.manifest.get("settings", {}).get("max_pixels") or DEFAULT_MAX_PIXELS
        last = int(frames.frame[-1]) if len(frames) else 0
        # Behind the last that was read there may be more, less than a step.
        last += int(np.max(np.diff(frames.frame), initial=1)) - 1
        if listener:
            listener.begin(last + 1)
        step = listener.step if listener else lambda _: None
        read = read_frames(place, frames, [(0, last)], lambda *_: True, max_pixels=limit, stepped=step)
        with closing(read):
            for frame in read:
                strip.add(frame, drawing)
    length = frame_length(frames)
    covered = strip.end - strip.start + length if strip.frames else 0.0
    sound = slow == 1 and strip.has_sound
    return Annotated(target, strip.frames, strip.unreadable, covered, monotonic() - begun, sound)


class _Drawing:
    """Draws what an index says into the frames of its film."""

    def __init__(self, index: Index, frames: Frames, found: Found | None, cover: Cover | None) -> None:
        self._index, self._frames, self._cover = index, frames, cover
        self._rows: NDArray[np.int64] | None = None if found is None else found.rows
        self._places = Places(index, frames)

    def __call__(self, picture: Picture, frame: Frame) -> Picture:
        placed = self._places.at(frame.index)
        if self._cover is not None:
            picture = self._cover.over(picture, placed)
        chosen = placed.drawn if self._rows is None else placed.drawn & np.isin(placed.row, self._rows)
        faces = placed.faces[chosen]
        shown = faces if len(faces) else self._nothing(frame, hidden=bool(placed.drawn.any()))
        return tags(annotate(picture, shown, note=clock(frame.time)), faces)

    def _nothing(self, frame: Frame, *, hidden: bool) -> Faces:
        """Return rows that say why there is no face, unless there is one that was not asked for."""
        if hidden or frame.picture is None:
            return Faces.empty(labels=self._index.labels)
        at = int(np.searchsorted(self._frames.frame, frame.index, side="right")) - 1
        nobody = at >= 0 and int(self._frames.frame[at]) == frame.index and not self._frames.faces[at]
        if not nobody:
            return Faces.empty(labels=self._index.labels)
        return Faces.missing(self._index.name, Reason.NO_FACE, labels=self._index.labels)


class _Strip:
    """The film that is written; it begins with the first frame that can be read."""

    def __init__(self, index: Index, path: Path, sound: Path | None, slow: float, opened: ExitStack) -> None:
        self._index, self._path, self._sound, self._slow, self._opened = index, path, sound, slow, opened
        self._writer: FilmWriter | None = None
        self._last: Picture | None = None
        self.frames = self.unreadable = 0
        self.start = self.end = 0.0
        self.has_sound = False

    def add(self, frame: Frame, draw: _Drawing) -> None:
        """Write a frame."""
        self.unreadable += frame.picture is None
        picture = self._last if frame.picture is None else frame.picture
        if picture is None:
            return
        writer = self._writer = self._writer or self._begin(picture, frame.time)
        if picture.shape[:2] != writer.size:
            picture = resize(picture, *writer.size[::-1])
        self._last = picture
        # Without sound to keep step with, the film begins at 0.
        time = frame.time if self._sound is not None else (frame.time - self.start) * self._slow
        writer.write(draw(picture, frame), time)
        self.frames += 1
        self.end = frame.time

    def _begin(self, picture: Picture, time: float) -> FilmWriter:
        height, width = picture.shape[:2]
        fps = self._index.manifest["film"].get("fps")
        fps = fps / self._slow if fps else None
        writer = FilmWriter(self._path, width=width, height=height, fps=fps, sound_from=self._sound)
        self._opened.enter_context(writer)
        self.has_sound = writer.has_sound
        self.start = time
        return writer
