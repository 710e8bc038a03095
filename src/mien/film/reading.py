"""Some frames of a film, decoded once, in order, and no further than the last that is needed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

from ..media.deinterlace import Deinterlacer
from ..media.stills import DEFAULT_MAX_PIXELS
from ..media.video import Frame, Raw, open_container, raw_frames, to_picture, video_stream
from ..pipeline.stream import ahead
from .cover import frame_length
from .tables import Frames

__all__ = ["Stretch", "joined", "read_frames"]

Stretch = tuple[int, int]
"""Numbers of the first and last frame of a part of a film."""

_NEAR = 250
"""Parts of a film that are no more frames apart are read in one go: winding costs about as much as decoding these."""
_BEFORE = 2.0
"""Seconds before a part to which the film is wound: a decoder's first pictures may lean on some that it never saw."""


def joined(stretches: Sequence[Stretch]) -> list[Stretch]:
    """Return parts of a film in order, those that overlap or lie near each other as one.

    >>> joined([(900, 950), (0, 10), (200, 300), (5, 20)])
    [(0, 300), (900, 950)]
    """
    out: list[Stretch] = []
    for first, last in sorted(stretches):
        if out and first <= out[-1][1] + _NEAR:
            out[-1] = out[-1][0], max(out[-1][1], last)
        else:
            out.append((max(0, first), last))
    return out


def read_frames(
    film: Path,
    table: Frames,
    stretches: Sequence[Stretch],
    wanted: Callable[[int, float], bool],
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    stepped: Callable[[int], None] = lambda _: None,
) -> Generator[Frame]:
    """Decode parts of a film in a thread of its own, and give the frames that are wanted.

    A part that lies far behind the one before is wound to. A frame's number is then known by its time, which the frame
    table tells to the last bit; where times cannot tell, the film is decoded from its beginning.

    Parameters
    ----------
    film, table
        The film and the frame table of its index.
    stretches
        The parts, in order and apart, as `joined` gives them.
    wanted
        Says of the number and time of a frame whether its picture is wanted; only then are its colours converted.
    max_pixels
        Refuse a film with larger frames.
    stepped
        Hears how many frames of the parts were decoded since it was called last.

    Yields
    ------
    Frame
        A frame that is wanted, in the order of showing; its picture is None where it cannot be decoded. Where the film
        gives no time, it is that of a steady film.
    """
    length = frame_length(table)

    def chosen() -> Generator[Frame]:
        for first, last in stretches:
            with closing(_part(film, table, first, max_pixels)) as numbered:
                weave = Deinterlacer()
                for before, (number, raw), after in _neighbours(numbered):
                    if number > last:
                        break
                    if number < first:
                        continue
                    time = raw.time if np.isfinite(raw.time) else number * length
                    if not wanted(number, time):
                        yield Frame(None, number, time)
                    elif raw.frame is None:
                        yield Frame(None, number, time, raw.error)
                    else:
                        whole = weave(before, raw.frame, after) if raw.frame.interlaced_frame else raw.frame
                        yield _frame(whole, number, time)

    with closing(chosen()) as source, closing(ahead(source)) as frames:
        for frame in frames:
            stepped(1)
            if frame.picture is not None or frame.error:
                yield frame


def _neighbours(
    numbered: Iterator[tuple[int, Raw]],
) -> Iterator[tuple[VideoFrame | None, tuple[int, Raw], VideoFrame | None]]:
    before: VideoFrame | None = None
    now = next(numbered, None)
    while now is not None:
        following = next(numbered, None)
        yield before, now, following[1].frame if following else None
        before, now = now[1].frame, following


def _frame(frame: VideoFrame, number: int, time: float) -> Frame:
    try:
        return Frame(to_picture(frame), number, time)
    except av.FFmpegError as error:
        return Frame(None, number, time, f"its colours cannot be converted ({error.strerror})")


def _part(film: Path, table: Frames, first: int, max_pixels: int) -> Generator[tuple[int, Raw]]:
    """Give numbered frames from ``first`` on at the latest."""
    at = int(np.searchsorted(table.frame, first))
    if first > _NEAR and at < len(table) and _clear(table):
        with open_container(film, str(film)) as container:
            numbered = _wound(container, film, table, at, max_pixels)
            if numbered is not None:
                yield from numbered
                return
    with open_container(film, str(film)) as container:
        yield from enumerate(_raws(container, film, max_pixels))


def _raws(container: InputContainer, film: Path, max_pixels: int) -> Generator[Raw, None, None]:
    stream = video_stream(container, str(film), max_pixels)
    return raw_frames(container, stream, str(film), max_pixels=max_pixels)


def _clear(table: Frames) -> bool:
    """Say whether a time names one frame."""
    return bool(np.isfinite(table.time).all() and (np.diff(table.time) > 0).all())


def _wound(
    container: InputContainer, film: Path, table: Frames, at: int, max_pixels: int
) -> Iterator[tuple[int, Raw]] | None:
    """Return numbered frames from before row ``at`` of the frame table on, or None where winding does not work."""
    stream = video_stream(container, str(film), max_pixels)
    goal = float(table.time[at])
    # In AVI the times of frames may be those of decoding, which a reading from the middle cannot know.
    if stream.time_base is None or container.format.name == "avi":
        return None
    try:
        container.seek(int((goal - _BEFORE) / stream.time_base), stream=stream, backward=True)
    except av.FFmpegError:
        return None
    raws = _raws(container, film, max_pixels)
    for raw in raws:
        if not raw.time <= goal:
            return None
        if raw.frame is None:  # it leans on pictures that were not decoded
            continue
        if raw.frame.pts is None:
            return None
        row = int(np.searchsorted(table.time, raw.time))
        if row < at and table.time[row] == raw.time:
            start = int(table.frame[row])
            return enumerate(chain([raw], raws), start)
    return None
