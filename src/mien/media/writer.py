"""Pictures and films out, each under a temporary name until it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from ..errors import OptionError, OutputError, ShapeError
from ..image import Picture, check
from .video import open_container

__all__ = ["FilmWriter", "write_picture"]

_CLOCK = Fraction(1, 90_000)
_BT709 = 1
# What MP4 holds and players play; anything else is encoded anew.
_KEPT_SOUND = {"aac", "mp3", "ac3", "eac3", "alac", "flac", "opus"}
_AAC_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
_AAC_FRAME = 1024
# By number, since PCM often does not say which of its channels is which.
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_ENCODERS = {
    ".jpg": (cv2.IMWRITE_JPEG_QUALITY, 92),
    ".jpeg": (cv2.IMWRITE_JPEG_QUALITY, 92),
    ".png": (cv2.IMWRITE_PNG_COMPRESSION, 3),
    ".webp": (cv2.IMWRITE_WEBP_QUALITY, 92),
}


def _part(path: Path) -> Path:
    # Beside the target, since a rename over file systems is no rename; the number keeps two runs apart.
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def _claim(path: Path, part: Path) -> None:
    """Fail now if the file cannot be written in the end: FFmpeg would only say so after the first frame."""
    if path.is_dir():
        msg = f"{path}: cannot be written, there is a folder of this name"
        raise OutputError(msg)
    try:
        part.touch()
    except OSError as error:
        raise _refuse(path, error) from error


def _refuse(path: Path, error: Exception) -> OutputError:
    why = getattr(error, "strerror", None) or str(error)
    return OutputError(f"{path}: cannot be written ({why}); check the folder and the space on its disk")


def write_picture(path: str | os.PathLike[str], picture: Picture) -> None:
    """Write a picture; the ending says how: .jpg, .jpeg, .png or .webp.

    Parameters
    ----------
    path
        Where to; a file of this name is replaced when the new one is whole.
    picture
        (H, W, 3) uint8 RGB.

    Raises
    ------
    OutputError
        If the ending is another, or the file cannot be written.
    ShapeError
        If the array is no picture.
    """
    target = Path(path)
    options = _ENCODERS.get(target.suffix.lower())
    if options is None:
        msg = f"{target}: no picture can be written with the ending {target.suffix!r}; use {', '.join(_ENCODERS)}"
        raise OutputError(msg)
    part = _part(target)
    try:
        done, data = cv2.imencode(target.suffix.lower(), cv2.cvtColor(check(picture), cv2.COLOR_RGB2BGR), options)
        if not done:
            msg = f"{target}: OpenCV cannot encode {picture.shape[1]} × {picture.shape[0]} pixels as {target.suffix}"
            raise OutputError(msg)
        part.write_bytes(data.tobytes())
        part.replace(target)
    except (OSError, cv2.error) as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OutputError):
            raise
        raise _refuse(target, error) from error


class FilmWriter:
    """Writes a film: H.264 in MP4, each frame at its own time, with the sound of another film.

    The file appears under its name when the ``with`` block ends well; on an error nothing stays behind.

    Parameters
    ----------
    path
        Where to; a file of this name is replaced.
    width, height
        Of the pictures, pixels. H.264 needs even sides, so an odd one gets a last column or row twice.
    fps
        Frames a second, a hint for players; None if unknown. Frames keep the times that `write` gets.
    sound_from
        A film whose audio streams go along, at their own times: copied where MP4 can hold them, else encoded as AAC.
    crf
        Quality of x264, 0 (lossless) to 51; 18 to 28 is usual.

    Raises
    ------
    OutputError
        If the file cannot be written, or the block ends without a frame.
    SourceError
        If ``sound_from`` cannot be opened.
    OptionError
        If a number is out of its range.

    Examples
    --------
    >>> with FilmWriter("out.mp4", width=640, height=360, fps=25) as film:  # doctest: +SKIP
    ...     film.write(picture, 0.04)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int,
        height: int,
        fps: float | None,
        sound_from: str | os.PathLike[str] | None = None,
        crf: int = 20,
    ) -> None:
        if width < 1 or height < 1 or not 0 <= crf <= 51:
            msg = f"width and height must be at least 1 and crf in 0…51, got {width} × {height} and {crf}"
            raise OptionError(msg)
        self.path = Path(path)
        self._size = height, width
        self._fps = fps if fps is not None and 0 < fps < 1000 else 25.0
        self._last: int | None = None
        self._part = _part(self.path)
        with ExitStack() as opened:
            source = opened.enter_context(open_container(sound_from, str(sound_from))) if sound_from else None
            _claim(self.path, self._part)
            self._out = av.open(str(self._part), "w", format="mp4", container_options={"movflags": "+faststart"})
            opened.callback(self._discard)
            self._base = _beginning(source) if source is not None else 0.0
            self._video = self._add_video(crf)
            self._sounds = _sounds(source, self._out, self._base) if source is not None else iter(())
            self._sound: tuple[float, Packet[AudioStream]] | None = None
            self._open = opened.pop_all()

    def _add_video(self, crf: int) -> VideoStream:
        rate = Fraction(self._fps).limit_denominator(1001)
        # Left to itself, x264 keeps a second of pictures to look ahead; at 4K that is half a gigabyte.
        options = {"preset": "veryfast", "crf": str(crf), "rc-lookahead": "10"}
        video = self._out.add_stream("libx264", rate=rate, options=options)
        height, width = self._size
        video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context = video.codec_context
        context.time_base = _CLOCK
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        return video

    def __enter__(self) -> Self:
        return self

    def write(self, picture: Picture, time: float) -> None:
        """Add a frame.

        Parameters
        ----------
        picture
            (H, W, 3) uint8 RGB of the size that the film has.
        time
            Seconds. NaN follows the last frame at the film's rate; a time not after the last is put just behind it.

        Raises
        ------
        ShapeError
            If the picture has another size.
        OutputError
            If the file cannot be written any further.
        """
        height, width = self._size
        if check(picture).shape[:2] != self._size:
            expected = f"({height}, {width}, 3) as the film"
            raise ShapeError("picture", expected, picture.shape)
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
        )
        frame.pts, frame.time_base, frame.duration = self._stamp(time), _CLOCK, round(1 / self._fps / _CLOCK)
        try:
            self._mux_sound(float(frame.pts * _CLOCK))
            self._out.mux(self._video.encode(frame))
        except (av.FFmpegError, OSError) as error:
            raise _refuse(self.path, error) from error

    def _stamp(self, time: float) -> int:
        step = round(1 / self._fps / _CLOCK)
        if np.isnan(time):
            stamp = 0 if self._last is None else self._last + step
        else:
            stamp = round((time - self._base) / _CLOCK)
        self._last = stamp if self._last is None else max(stamp, self._last + 1)
        return self._last

    def _mux_sound(self, until: float) -> None:
        """Write the sound up to a time, so that the file is woven as players read it."""
        while True:
            if self._sound is None:
                self._sound = next(self._sounds, None)
            if self._sound is None or self._sound[0] > until:
                return
            self._out.mux(self._sound[1])
            self._sound = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            if kind is None:
                self._finish()

    def _finish(self) -> None:
        if self._last is None:
            msg = f"{self.path}: not written, since it would have no frame"
            raise OutputError(msg)
        try:
            self._out.mux(self._video.encode(None))
            self._mux_sound(float("inf"))
            self._out.close()
            self._part.replace(self.path)
        except (av.FFmpegError, OSError) as error:
            raise _refuse(self.path, error) from error

    def _discard(self) -> None:
        """Close and remove what was begun; after a good end there is nothing left of it."""
        with suppress(av.FFmpegError, OSError):
            self._out.close()
        with suppress(OSError):
            self._part.unlink(missing_ok=True)


def _beginning(source: InputContainer) -> float:
    """Return the time that becomes 0, seconds: the clock of an MPEG stream may begin at any hour, others at theirs."""
    running = source.format.name in {"mpegts", "mpeg"}
    return source.start_time / av.time_base if running and source.start_time else 0.0


def _sounds(source: InputContainer, out: OutputContainer, base: float) -> Iterator[tuple[float, Packet[AudioStream]]]:
    """Prepare an audio stream in ``out`` for each in ``source``; give their packets with their times in seconds."""
    tracks = {s.index: _track(s, out) for s in source.streams.audio if getattr(s, "codec_context", None)}
    return _packets(source, tracks, base)


def _packets(
    source: InputContainer, tracks: dict[int, _Copied | _Encoded], base: float
) -> Iterator[tuple[float, Packet[AudioStream]]]:
    if not tracks:
        return
    read = source.demux(*(s for s in source.streams.audio if s.index in tracks))
    # Sound that breaks off ends there; the film itself says, frame by frame, what it lacks.
    with suppress(av.FFmpegError):
        for packet in read:
            for done in tracks[packet.stream.index].take(packet):  # type: ignore[arg-type]  # of audio
                if done.pts is not None and done.time_base:
                    shift = round(base / done.time_base)
                    done.pts -= shift
                    done.dts = done.pts if done.dts is None else done.dts - shift
                    yield float(done.pts * done.time_base), done


def _track(stream: AudioStream, out: OutputContainer) -> _Copied | _Encoded:
    return (_Copied if stream.codec_context.name in _KEPT_SOUND else _Encoded)(stream, out)


class _Copied:
    """An audio stream that goes along as it is."""

    def __init__(self, stream: AudioStream, out: OutputContainer) -> None:
        self._stream = out.add_stream_from_template(stream)

    def take(self, packet: Packet[AudioStream]) -> Iterator[Packet[AudioStream]]:
        if packet.dts is not None:  # the packet at the end is empty
            packet.stream = self._stream
            yield packet


class _Encoded:
    """An audio stream that MP4 cannot hold, encoded as AAC."""

    def __init__(self, stream: AudioStream, out: OutputContainer) -> None:
        rate = stream.rate if stream.rate in _AAC_RATES else 48_000
        layout = _LAYOUTS.get(stream.channels, "stereo")
        self._source = stream
        self._stream = out.add_stream("aac", rate=rate)
        self._stream.layout = layout
        self._resampler = AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=_AAC_FRAME)

    def take(self, packet: Packet[AudioStream]) -> Iterator[Packet[AudioStream]]:
        with suppress(av.InvalidDataError):
            for frame in self._source.decode(packet):
                yield from self._encode(frame)
        if packet.dts is None:
            yield from self._encode(None)
            yield from self._stream.encode(None)

    def _encode(self, frame: AudioFrame | None) -> Iterator[Packet[AudioStream]]:
        for even in self._resampler.resample(frame):
            yield from self._stream.encode(even)
