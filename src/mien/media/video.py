"""Films: every frame with its number and the time that the container gives it."""

from __future__ import annotations

import heapq
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import DecodeError, OptionError, SourceError, SourceNotFoundError, TooLargeError
from ..image import Picture
from .source import Kind, is_url, refusal, sniff
from .stills import DEFAULT_MAX_PIXELS

__all__ = ["Film", "Frame", "Raw", "open_container", "raw_frames", "to_picture", "video_stream"]

_NAN = float("nan")
_DAMAGED = "the frame is damaged"


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


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """A decoded frame before its colours are converted; ``frame`` is None where it could not be decoded."""

    frame: VideoFrame | None
    time: float
    error: str = ""


class Film:
    """A film, read from its beginning to its end.

    Frames come in the order in which they are shown, with the times that ``ffprobe`` prints as ``pts_time``, whatever
    the frame rate does. What cannot be decoded is a frame without a picture, and reading goes on behind it. Memory does
    not grow with the length.

    Parameters
    ----------
    source
        A path, an address, or an open binary file.
    threads
        Threads of the decoder; 0 leaves it to the machine.
    every
        Give only frames 0, ``every``, 2 × ``every`` and so on, with their true numbers and times.
    start
        Give only frames from this number on. The ones before are decoded, so that numbers stay exact, and dropped.
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

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    DecodeError
        If it is no film, a damaged one, or one without a video stream or without a frame.
    TooLargeError
        If its frames have more pixels than ``max_pixels``.

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
        start: int = 0,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        if every < 1 or start < 0 or threads < 0:
            msg = f"every must be at least 1, start and threads at least 0; got {every}, {start}, {threads}"
            raise OptionError(msg)
        self._source = source
        self._threads = threads
        self._every = every
        self._start = start
        self._max_pixels = max_pixels
        self.name = _name(source)
        self._used = False
        self._container = open_container(source, self.name)
        try:
            self._open()
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> None:
        stream = video_stream(self._container, self.name, self._max_pixels)
        self.has_sound = bool(self._container.streams.audio)
        self.fps = float(stream.average_rate) if stream.average_rate else None
        self.duration = _duration(self._container, stream)
        self.frames: int | None = stream.frames or None
        if self.frames is None and self.duration is not None and self.fps is not None:
            self.frames = round(self.duration * self.fps)
        self._raws = raw_frames(self._container, stream, self.name, threads=self._threads, max_pixels=self._max_pixels)
        self._ahead: list[Raw] = []
        # How a frame is turned is known from a frame only; and a film without any is an error now, not later.
        shown = self._first_shown()
        self.width, self.height = _shown_size(shown) if shown else (stream.width, stream.height)

    def _first_shown(self) -> VideoFrame | None:
        for raw in self._raws:
            self._ahead.append(raw)
            if raw.frame is not None:
                return raw.frame
        if not self._ahead:
            msg = f"{self.name}: the film has no frames"
            raise DecodeError(msg)
        return None

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
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames; a second loop begins at the beginning again."""
        if self._used:
            self._again()
        self._used = True
        ahead, self._ahead = self._ahead, []
        for index, raw in enumerate(chain(_drained(ahead), self._raws)):
            if index >= self._start and index % self._every == 0:
                yield _frame(raw, index)

    def _again(self) -> None:
        self.close()
        if not isinstance(self._source, str | os.PathLike):
            self._source.seek(0)
        self._container = open_container(self._source, self.name)
        self._open()


def _frame(raw: Raw, index: int) -> Frame:
    if raw.frame is None:
        return Frame(None, index, raw.time, raw.error)
    try:
        return Frame(to_picture(raw.frame), index, raw.time)
    except av.FFmpegError as error:
        return Frame(None, index, raw.time, f"its colours cannot be converted ({error.strerror})")


def _drained(raws: list[Raw]) -> Iterator[Raw]:
    # Taken out one by one: a decoded frame that is held on to would stay in memory as long as the film.
    while raws:
        yield raws.pop(0)


def _name(source: str | os.PathLike[str] | IO[bytes]) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) else "film in memory"


def open_container(
    source: str | os.PathLike[str] | IO[bytes],
    name: str,
    *,
    timeout: tuple[float, float] | None = None,
    options: dict[str, str] | None = None,
) -> InputContainer:
    """Open a film or an address for reading.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    DecodeError
        If it is not a film, or one that breaks off before anything of it can be read.
    SourceError
        If an address does not answer, or a file cannot be read.
    """
    address = isinstance(source, str) and is_url(source)
    head = b"" if address else _look(source, name)
    try:
        place = os.fspath(source) if isinstance(source, str | os.PathLike) else source
        # Names and remarks in a film are often in no UTF-8; nothing here reads them.
        container = av.open(place, "r", timeout=timeout, options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        if address and not isinstance(error, av.InvalidDataError):
            msg = f"{name}: cannot be opened ({error.strerror}); check the address and that the camera or server runs"
            raise SourceError(msg) from error
        if head and sniff(head) is not Kind.FILM:
            raise DecodeError(refusal(name, head, "a film")) from error
        if isinstance(error, av.EOFError):
            msg = f"{name}: the film ends before its first frame, it is empty or cut off"
            raise DecodeError(msg) from error
        msg = f"{name}: the film cannot be opened, it is damaged or cut off ({error.strerror})"
        raise DecodeError(msg) from error
    if container.format.name == "tty":  # FFmpeg would play any text as a film of a terminal
        container.close()
        raise DecodeError(refusal(name, head, "a film"))
    return container


def _look(source: str | os.PathLike[str] | IO[bytes], name: str) -> bytes:
    """Return the first bytes of a file that may be a film."""
    try:
        if isinstance(source, str | os.PathLike):
            with Path(source).open("rb") as file:
                head = file.read(4096)
        else:
            head = source.read(4096)
            source.seek(0)
    except FileNotFoundError as error:
        msg = f"{name}: no such file"
        raise SourceNotFoundError(msg) from error
    except OSError as error:
        msg = f"{name}: cannot be read ({error.strerror})"
        raise SourceError(msg) from error
    if not head:
        raise DecodeError(refusal(name, head))
    if sniff(head) is Kind.PICTURE:
        msg = f"{name}: a picture, not a film"
        raise DecodeError(msg)
    return head


def video_stream(container: InputContainer, name: str, max_pixels: int = DEFAULT_MAX_PIXELS) -> VideoStream:
    """Return the stream that holds the film; the cover picture of a song is none.

    Raises
    ------
    DecodeError
        If there is none, or none that can be decoded.
    TooLargeError
        If its frames have more than ``max_pixels`` pixels.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        msg = f"{name}: it has no video stream"
        raise DecodeError(msg)
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in streams else streams[0]
    if getattr(stream, "codec_context", None) is None:
        msg = f"{name}: its video cannot be decoded, no decoder for it is built in"
        raise DecodeError(msg)
    _check_size(stream.width, stream.height, name, max_pixels)
    return stream


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        msg = (
            f"{name}: frames of {width} × {height} are {width * height / 1e6:.1f} megapixels, over the limit of "
            f"{max_pixels / 1e6:g}; make them smaller or raise max_pixels / --max-megapixels"
        )
        raise TooLargeError(msg)


def _duration(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration is not None else None


def raw_frames(
    container: InputContainer, stream: VideoStream, name: str, *, threads: int = 0, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Generator[Raw, None, None]:
    """Decode a stream; give its frames in the order of showing, and one without a picture for each that is lost.

    Raises
    ------
    TooLargeError
        If a frame has more than ``max_pixels`` pixels; a stream may change its size on the way.
    """
    stream.codec_context.thread_type = "AUTO"
    stream.codec_context.thread_count = threads
    base = float(stream.time_base) if stream.time_base is not None else _NAN
    lost = _Lost()
    time = _NAN
    for frames in _decoded(container, stream, lost):
        for frame in frames:
            _check_size(frame.width, frame.height, name, max_pixels)
            for missing in lost.before(frame.pts):
                time = time if missing is None else missing * base
                yield Raw(None, time, lost.why)
            # Where AVI and raw streams give no time of showing, that of decoding is the best there is.
            stamp = frame.pts if frame.pts is not None else frame.dts
            time = _NAN if stamp is None else stamp * base
            damaged = frame.is_corrupt or frame.pts in lost.damaged
            yield Raw(None, time, _DAMAGED) if damaged else Raw(frame, time)
    for missing in lost.rest():
        time = time if missing is None else missing * base
        yield Raw(None, time, lost.why)


def _decoded(container: InputContainer, stream: VideoStream, lost: _Lost) -> Iterator[list[VideoFrame]]:
    def decode(packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            return stream.decode(packet)
        except av.EOFError:
            return []
        except av.FFmpegError as error:
            lost.failed(f"the frame cannot be decoded ({error.strerror})")
            return []

    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError as error:
            yield decode(None)
            lost.broke(f"it breaks off here ({error.strerror})")
            return
        lost.given(packet)
        yield decode(packet)


class _Lost:
    """Keeps account of the frames that went into the decoder and never came out.

    A decoder with several threads reports an error some packets late, and B-frames change the order. So errors are only
    counted, and the time stamps of what is missing before a frame that did come tell which frames they cost. Without an
    error nothing counts as lost: packets without a frame of their own are ordinary in some formats.
    """

    def __init__(self) -> None:
        self.why = _DAMAGED
        self.damaged: set[int] = set()
        self._waiting: list[int] = []
        self._errors = 0
        self._unstamped = 0

    def given(self, packet: Packet[VideoStream]) -> None:
        """Note a packet that goes into the decoder."""
        if packet.pts is not None:
            heapq.heappush(self._waiting, packet.pts)
            if packet.is_corrupt:
                self.damaged.add(packet.pts)

    def failed(self, why: str) -> None:
        """Note an error of the decoder."""
        self.why = why
        if self._waiting:
            self._errors += 1
        else:
            self._unstamped += 1

    def broke(self, why: str) -> None:
        """Note that the container cannot be read any further."""
        self.why = why
        self._unstamped += 1

    def before(self, pts: int | None) -> list[int | None]:
        """Return the stamps of the frames lost before the one that just came; None for a lost frame without a stamp."""
        passed: list[int] = []
        while pts is not None and self._waiting and self._waiting[0] <= pts:
            passed.append(heapq.heappop(self._waiting))
        return self._blamed([stamp for stamp in passed if stamp != pts])

    def rest(self) -> list[int | None]:
        """Return the stamps of the frames lost at the end."""
        return self._blamed(sorted(self._waiting))

    def _blamed(self, missing: list[int]) -> list[int | None]:
        # With an error, all that is missing here: the first damaged frame may have vanished without one.
        blamed: list[int | None] = [s for s in missing if self._errors or s in self.damaged]
        self._errors = max(0, self._errors - len(blamed))
        blamed += [None] * self._unstamped
        self._unstamped = 0
        return blamed


def to_picture(frame: VideoFrame) -> Picture:
    """Return a decoded frame as (H, W, 3) uint8 RGB, turned as its container says."""
    # Left to itself, the conversion starts threads for every frame, which takes longer than the work.
    array = np.asarray(frame.to_ndarray(format="rgb24", threads=1), np.uint8)
    return np.ascontiguousarray(np.rot90(array, _quarter_turns(frame)))


def _quarter_turns(frame: VideoFrame) -> int:
    """Return how often a frame is turned by 90°, counter-clockwise, in [0, 3]."""
    return round(frame.rotation / 90) % 4


def _shown_size(frame: VideoFrame) -> tuple[int, int]:
    size = frame.width, frame.height
    return size[::-1] if _quarter_turns(frame) % 2 else size
