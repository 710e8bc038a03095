"""The two calls that most programs need: `analyze` and `stream`."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any, Literal

from ..errors import MienError, OptionError, SourceError, SourceNotFoundError
from ..media.camera import Camera
from ..media.source import Kind, Source, find
from ..media.stills import DEFAULT_MAX_PIXELS, read_picture
from ..media.video import Film, Frame
from ..results.columns import Reason
from ..results.faces import Faces
from .analyzer import Settings, analyzer

__all__ = ["ahead", "analyze", "open_frames", "stream"]


def ahead(frames: Iterator[Frame], *, depth: int = 8) -> Generator[Frame]:
    """Decode in a thread of its own, at most ``depth`` frames ahead of the reader.

    An error of the decoder is raised here; leaving the loop ends the thread.
    """
    queue: Queue[Frame | BaseException | None] = Queue(depth)
    left = Event()

    def fill() -> None:
        try:
            for frame in frames:
                queue.put(frame)
                if left.is_set():
                    return
            queue.put(None)
        except BaseException as error:  # noqa: BLE001 - it is raised again in the reader's thread
            queue.put(error)

    thread = Thread(target=fill, name="mien-decode", daemon=True)
    thread.start()
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        while thread.is_alive():
            while not queue.empty():
                queue.get_nowait()
            thread.join(0.01)


def open_frames(
    source: Source,
    *,
    every: int = 1,
    seconds: float | None = None,
    start: int = 0,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Film | Camera:
    """Open a film, a camera or a stream; iterate it for frames and close it.

    Parameters
    ----------
    source
        A source that is no picture.
    every
        Give only each n-th frame of a film.
    seconds
        Stop a camera or stream after so long.
    start
        Skip the frames of a film before this number.
    max_pixels
        Refuse a film with larger frames.
    """
    if source.kind is Kind.FILM:
        return Film(source.place, every=every, start=start, max_pixels=max_pixels)  # type: ignore[arg-type]  # a film's place is a path
    return Camera(source.place, seconds=seconds)  # type: ignore[arg-type]  # a camera's is a number or an address


def _places(source: Any) -> list[Source] | None:
    """Return the sources that a name means, or None for pixels, bytes and base64."""
    if isinstance(source, int):
        return [Source(str(source), Kind.CAMERA, source)]
    if isinstance(source, str):
        named = "://" in source or source.isdigit() or any(c in source for c in "*?[") or os.path.lexists(source)
        if source.startswith("data:") or not named:
            return None
    elif not isinstance(source, os.PathLike):
        return None
    found, failed = find([source])
    if failed:
        raise failed[0][1]
    return found


def _moving(source: Any) -> Source:
    """Return the one film, camera or stream that a name means."""
    found = _places(source)
    if found is None and isinstance(source, str) and not source.startswith("data:"):
        msg = f"{source[:80]}: no such file or folder"
        raise SourceNotFoundError(msg)
    if found is None or len(found) != 1 or found[0].kind is Kind.PICTURE:
        msg = f"{str(source)[:80]}: not a film, a camera or a stream; use analyze() for pictures and folders"
        raise SourceError(msg)
    return found[0]


def stream(
    source: str | os.PathLike[str] | int,
    *,
    every: int = 1,
    seconds: float | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    **settings: Any,
) -> Iterator[Faces]:
    """Read a film, a camera or a stream frame by frame; memory does not grow with its length.

    Parameters
    ----------
    source
        A film's path, a camera's number, or an ``rtsp://`` or ``http(s)://`` address.
    every
        Read only each n-th frame of a film; numbers and times stay those of the film.
    seconds
        Stop a camera or stream after so long.
    max_pixels
        Refuse a film with larger frames.
    **settings
        As `Settings` names them.

    Yields
    ------
    Faces
        The faces of one frame, or one row with the reason why there is none, with the frame's own time in seconds.

    Raises
    ------
    SourceError
        If the source is missing, is no film, or cannot be opened.
    OptionError
        If ``seconds`` is given for a film, or a setting has an impossible value.
    """
    chosen = _moving(source)
    if seconds is not None and chosen.kind is Kind.FILM:
        msg = f"seconds is {seconds:g}, but {chosen.name} is a film, which is read to its end; leave the loop instead"
        raise OptionError(msg)
    reader = analyzer(Settings(**settings))
    opened = open_frames(chosen, every=every, seconds=seconds, max_pixels=max_pixels)
    with opened as frames, closing(_paced(chosen, iter(frames))) as paced:
        if chosen.kind is Kind.FILM:
            tables = reader.frames(paced, source=chosen.name)
        else:
            tables = reader.frames(paced, source=chosen.name, batch=1)
        for faces in tables:
            if not reader.settings.one_face or int(faces.found.sum()) == 1:
                yield faces


def _paced(source: Source, frames: Iterator[Frame]) -> Any:
    return ahead(frames) if source.kind is Kind.FILM else (f for f in frames)


def analyze(
    source: Any,
    *,
    on_error: Literal["raise", "row"] = "raise",
    max_pixels: int = DEFAULT_MAX_PIXELS,
    every: int = 1,
    **settings: Any,
) -> Faces:
    """Find and read all faces of a picture, a film, a folder, or a list of these.

    Parameters
    ----------
    source
        A path, a folder or a glob; a picture as bytes, base64, array (H, W, 3) RGB or PIL image; or a list of these.
    on_error
        ``"row"``: an input that cannot be read gives a row with the reason ``unreadable`` instead of an error.
    max_pixels
        Refuse pictures with more pixels than this.
    every
        Read only each n-th frame of films.
    **settings
        As `Settings` names them, for example ``min_score=0.5, labels="seven", detector="haar"``.

    Returns
    -------
    Faces
        One row a face; a picture or frame without a face is a row with a reason.

    Raises
    ------
    SourceError
        If an input cannot be used and ``on_error`` is ``"raise"``.

    Examples
    --------
    >>> import numpy as np
    >>> analyze(np.zeros((80, 80, 3), np.uint8)).reason_words
    ['no_face']
    """
    parts = source if isinstance(source, Sequence) and not isinstance(source, str | bytes | bytearray) else [source]
    tables: list[Faces] = []
    for number, part in enumerate(parts):
        tables += _part(part, number, on_error, max_pixels, every, settings)
    return Faces.concat(tables)


def _part(part: Any, number: int, on_error: str, max_pixels: int, every: int, settings: dict[str, Any]) -> list[Faces]:
    reader = analyzer(Settings(**settings))
    try:
        places = _places(part)
    except MienError:
        if on_error == "raise":
            raise
        return [Faces.missing(str(part), Reason.UNREADABLE, labels=reader.labels)]
    sources: Sequence[Source | None] = [None] if places is None else places
    tables = []
    for chosen in sources:
        name = chosen.name if chosen else f"picture {number}"
        try:
            if chosen is None or chosen.kind is Kind.PICTURE:
                place: Any = chosen.place if chosen else part
                picture = read_picture(place, max_pixels=max_pixels)
                faces = reader.picture(picture, source=name)
                if not reader.settings.one_face or int(faces.found.sum()) == 1:
                    tables.append(faces)
            elif chosen.kind is Kind.FILM:
                tables += list(stream(Path(str(chosen.place)), every=every, max_pixels=max_pixels, **settings))
            else:
                msg = f"{name}: a camera or stream has no end; use stream()"
                raise SourceError(msg)
        except MienError:
            if on_error == "raise":
                raise
            tables.append(Faces.missing(name, Reason.UNREADABLE, labels=reader.labels))
    return tables
