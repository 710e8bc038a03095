"""Films: every frame with its number and the time that the container gives it."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any, Self

import av
from av.video.frame import VideoFrame

from ..errors import DecodeError, OptionError
from ..image import Picture
from .container import duration_of, facts_of, name_of, open_container, recorded_at, video_stream
from .decode import Decoder, Raw, raw_frames, shown_size, to_picture
from .deinterlace import Deinterlacer
from .seek import Landmark, Landmarks, resume
from .stills import DEFAULT_MAX_PIXELS

__all__ = ["Film", "Frame", "Landmark", "Raw", "open_container", "raw_frames", "to_picture", "video_stream"]

# Matroska and Flash round times to milliseconds; a frame half of one early is still on its tick.
_ROUNDING = 0.0005


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame of a film, a stream or a camera.

    Attributes
    ----------
    picture
        (H, W, 3) uint8 RGB, turned as the container says; None where the frame could not be decoded.
    index
        Its number in the order of showing, from 0; frames that could not be decoded count too.
    time
        Seconds, from the container's time stamp; NaN where there is none.
    error
        Why there is no picture, else empty.
    """

    picture: Picture | None
    index: int
    time: float
    error: str = ""


class Film:
    """A film, read from its beginning to its end.

    Frames come in the order in which they are shown, with the times that ``ffprobe`` prints as ``pts_time``, whatever
    the frame rate does. What cannot be decoded is a frame without a picture, and reading goes on behind it. Interlaced
    frames lose their comb and stay as many as they were. Memory does not grow with the length.

    Parameters
    ----------
    source
        A path, an address, or an open binary file.
    threads
        Threads of the decoder; 0 leaves it to the machine.
    every
        Give only frames 0, ``every``, 2 × ``every`` and so on, with their true numbers and times.
    fps
        Give at most so many frames a second: the first, and each that is the first at or behind a tick k / ``fps`` s
        of the film's own clock, to half a millisecond. The choice depends on the times of the frame and the one before,
        nothing else. Frames without a time are placed by their number and the average rate.
    start
        Give only frames from this number on. The ones before are decoded, so that numbers stay exact, and dropped.
    landmark
        What `landmark` said of an earlier reading of the same film, for a frame before ``start``: only what lies
        between is decoded then. Numbers, times and pictures are those of a reading from the beginning. Where the
        landmark does not fit the film, reading falls back to the beginning.
    max_pixels
        The limit on width times height.

    Attributes
    ----------
    name : str
        The path or address as given.
    width, height : int
        Of the first frame as it is shown, pixels.
    frames : int or None
        How many frames the container says or its duration suggests, for a progress bar; None if unknown.
    duration : float or None
        Seconds; None if unknown.
    fps : float or None
        Frames a second on average; None if unknown.
    has_sound : bool
        The film has an audio stream.
    recorded : str or None
        When it was recorded, by its metadata, as ISO 8601 text; None where it does not say.
    resumed : bool
        Reading begins at the landmark.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    DecodeError
        If it is no film, a damaged one, or one without a video stream or without a frame; while reading, if ``fps`` is
        asked for and neither frame nor film says anything of time.
    TooLargeError
        If its frames have more pixels than ``max_pixels``.
    OptionError
        If an option is out of its range, or both ``every`` and ``fps`` are asked for.

    Examples
    --------
    >>> with Film("clip.mp4") as film:  # doctest: +SKIP
    ...     for frame in film:
    ...         print(frame.index, frame.time)
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | IO[bytes],
        *,
        threads: int = 0,
        every: int = 1,
        fps: float | None = None,
        start: int = 0,
        landmark: Mapping[str, Any] | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        if every < 1 or start < 0 or threads < 0:
            msg = f"every must be at least 1, start and threads at least 0; got {every}, {start}, {threads}"
            raise OptionError(msg)
        if fps is not None and not (math.isfinite(fps) and fps > 0 and every == 1):
            msg = f"fps must be a number above 0, and every 1 beside it; got {fps} and {every}"
            raise OptionError(msg)
        self._source = source
        self._threads = threads
        self._every = every
        self._rate = fps
        self._start = start
        self._landmark = landmark
        self._max_pixels = max_pixels
        self.name = name_of(source)
        self._used = False
        self._container = open_container(source, self.name)
        try:
            self._open()
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> None:
        stream = self._stream = video_stream(self._container, self.name, self._max_pixels)
        self.has_sound = bool(self._container.streams.audio)
        self.recorded = recorded_at(self._container, stream)
        self.fps = float(stream.average_rate) if stream.average_rate else None
        self.duration = duration_of(self._container, stream)
        self.frames: int | None = stream.frames or None
        if self.frames is None and self.duration is not None and self.fps is not None:
            self.frames = round(self.duration * self.fps)
        self._begin()
        # How a frame is turned is known from a frame only; and a film without any is an error now, not later.
        shown = self._first_shown()
        self.width, self.height = shown_size(shown) if shown else (stream.width, stream.height)
        self._facts = facts_of(self._container, stream, shown)
        self.resumed = self._landmark is not None and self._resume(self._landmark)

    def _begin(self) -> None:
        decoder = Decoder(self._container, self._stream, self.name, threads=self._threads, max_pixels=self._max_pixels)
        self._landmarks = Landmarks(decoder)
        self._raws = _numbered(iter(decoder), 0, self._landmarks)
        self._ahead: list[tuple[int, Raw]] = []
        self._before: tuple[int, Raw] | None = None

    def _first_shown(self) -> VideoFrame | None:
        for index, raw in self._raws:
            self._ahead.append((index, raw))
            if raw.frame is not None:
                return raw.frame
        if not self._ahead:
            msg = f"{self.name}: the film has no frames"
            raise DecodeError(msg)
        return None

    def _resume(self, landmark: Mapping[str, Any]) -> bool:
        if not isinstance(frame := landmark.get("frame"), int) or not 0 <= frame < self._start:
            return False
        self._raws.close()
        self._ahead.clear()
        found = resume(self._container, self._stream, self.name, landmark, max_pixels=self._max_pixels)
        if found is None:
            self._reopen()
            self._stream = video_stream(self._container, self.name, self._max_pixels)
            self._begin()
            return False
        self._landmarks = Landmarks(found.decoder, found.landmark)
        self._raws = _numbered(found.raws, frame + 1, self._landmarks)
        self._before = frame, found.before
        return True

    def landmark(self, frame: int) -> Landmark | None:
        """Return the last landmark at or before a frame, to go on from later; None where there is none.

        Parameters
        ----------
        frame
            Number of a frame that was given. One is taken every 512 frames, and the newest four are kept.

        Returns
        -------
        Landmark or None
            A dictionary that can be written as JSON.
        """
        return self._landmarks.at(frame)

    def facts(self) -> dict[str, Any]:
        """Return what the film says of itself, as values that can be written as JSON; the same at every call.

        Returns
        -------
        dict
            ``container``, ``codec`` and ``pixel_format`` by FFmpeg's names; ``bits`` a sample; ``matrix``, ``range``
            and ``curve`` (sdr, pq or hlg) of its colours, None where untold; ``interlaced``; ``rotation`` in degrees
            clockwise; ``rate``, frames a second as a fraction; ``start`` of its clock, seconds; ``sound_tracks``;
            ``recorded``; ``width``, ``height``, ``frames``, ``duration`` as the attributes.
        """
        own = {"width": self.width, "height": self.height, "frames": self.frames, "duration": self.duration}
        return self._facts | own

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the film; no more frames come."""
        self._raws.close()
        self._ahead.clear()
        self._before = None
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames; a second loop begins at the beginning again."""
        if self._used:
            self._reopen()
            self._open()
        self._used = True
        ahead, self._ahead = self._ahead, []
        reel = _Reel(_drained(ahead, self._raws), self._before)
        self._before = None
        tick = self._tick(*reel.before) if reel.before else None
        weave = Deinterlacer()
        for index, raw in reel:
            last, tick = tick, self._tick(index, raw)
            if index >= self._start and tick != last:
                yield _frame(raw, index, reel, weave)

    def _tick(self, index: int, raw: Raw) -> int:
        """Return a number that changes where a frame is to be given."""
        if self._rate is None:
            return index // self._every
        time = raw.time
        if math.isnan(time):
            if self.fps is None:
                msg = f"{self.name}: frame {index} has no time and the film no rate; choose every n-th, not fps"
                raise DecodeError(msg)
            time = index / self.fps
        return math.floor((time + _ROUNDING) * self._rate)

    def _reopen(self) -> None:
        self.close()
        if not isinstance(self._source, str | os.PathLike):
            self._source.seek(0)
        self._container = open_container(self._source, self.name)


class _Reel:
    """Numbered frames, one after the other, and the neighbours of the one that is in hand."""

    def __init__(self, raws: Iterator[tuple[int, Raw]], before: tuple[int, Raw] | None) -> None:
        self._raws = raws
        self._now = before
        self._next: tuple[int, Raw] | None = None
        self.before: tuple[int, Raw] | None = before

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, Raw]:
        self.before = self._now
        self._now, self._next = self._next or next(self._raws), None
        return self._now

    def after(self) -> VideoFrame | None:
        """Return the frame behind the one in hand, decoded for this; None at the end and where it is lost."""
        self._next = self._next or next(self._raws, None)
        return self._next[1].frame if self._next else None


def _frame(raw: Raw, index: int, reel: _Reel, weave: Deinterlacer) -> Frame:
    frame = raw.frame
    if frame is None:
        return Frame(None, index, raw.time, raw.error)
    try:
        if frame.interlaced_frame:
            frame = weave(reel.before[1].frame if reel.before else None, frame, reel.after())
        return Frame(to_picture(frame), index, raw.time)
    except av.FFmpegError as error:
        return Frame(None, index, raw.time, f"its colours cannot be converted ({error.strerror})")


def _numbered(raws: Iterator[Raw], first: int, landmarks: Landmarks) -> Generator[tuple[int, Raw], None, None]:
    for index, raw in enumerate(raws, first):
        landmarks.note(index, raw)
        yield index, raw


def _drained(ahead: list[tuple[int, Raw]], rest: Iterator[tuple[int, Raw]]) -> Iterator[tuple[int, Raw]]:
    # Taken out one by one: a decoded frame that is held on to would stay in memory as long as the film.
    while ahead:
        yield ahead.pop(0)
    yield from rest
