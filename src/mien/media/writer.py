"""Pictures and films out, each under a temporary name until it is whole."""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.codec.context import Flags
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

from ..errors import OptionError, OutputError, ShapeError
from ..image import Picture, check
from .sound import SoundPacket, beginning, sounds
from .video import open_container

__all__ = ["FilmWriter", "write_picture"]

_CLOCK = Fraction(1, 90_000)
_BT709 = 1
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
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OutputError) or not isinstance(error, OSError | cv2.error):
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
    span
        Begin and end of a stretch of that film, seconds by its own clock: this film is only so long, and begins at 0.
        Copied sound is cut to the packet; what its decoder needs from before the begin goes along behind an edit list,
        so that it is heard to the sample.
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
        span: tuple[float, float] | None = None,
        crf: int = 20,
    ) -> None:
        if span is not None and not span[0] < span[1] < float("inf"):
            msg = f"span must begin before it ends, got {span[0]:g} to {span[1]:g} seconds"
            raise OptionError(msg)
        if width < 1 or height < 1 or not 0 <= crf <= 51:
            msg = f"width and height must be at least 1 and crf in 0…51, got {width} × {height} and {crf}"
            raise OptionError(msg)
        self.path = Path(path)
        self._size = height, width
        self._fps = fps if fps is not None and 0 < fps < 1000 else 25.0
        self._last: int | None = None
        self._until = None if span is None else round((span[1] - span[0]) / _CLOCK)
        self._part = _part(self.path)
        self._sound_from = sound_from
        with ExitStack() as self._open:
            source = self._reopened() if sound_from else None
            _claim(self.path, self._part)
            self._out = av.open(str(self._part), "w", format="mp4", container_options={"movflags": "+faststart"})
            self._open.callback(self._discard)
            self._base = span[0] if span else beginning(source) if source is not None else 0.0
            self._video = self._add_video(crf)
            self._sounds = sounds(self._reopened, source, self._out, span) if source is not None else iter(())
            self._sound: SoundPacket | None = None
            self._held: VideoFrame | None = None
            self._open = self._open.pop_all()

    def _reopened(self) -> InputContainer:
        return self._open.enter_context(open_container(self._sound_from or "", str(self._sound_from)))

    def _add_video(self, crf: int) -> VideoStream:
        rate = Fraction(self._fps).limit_denominator(1001)
        # Left to itself, x264 keeps a second of pictures to look ahead; at 4K that is half a gigabyte.
        options = {"preset": "veryfast", "crf": str(crf), "rc-lookahead": "10"}
        video = self._out.add_stream("libx264", rate=rate, options=options)
        height, width = self._size
        video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context = video.codec_context
        context.time_base = _CLOCK
        context.flags |= Flags.frame_duration  # else the last frame is shown as long as the rate says
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = ColorRange.MPEG
        return video

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures that it takes, pixels."""
        return self._size

    @property
    def has_sound(self) -> bool:
        """Whether the film has an audio stream."""
        return bool(self._out.streams.audio)

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
        frame.pts, frame.time_base = self._stamp(time), _CLOCK
        try:
            self._encode(frame)
        except (av.FFmpegError, OSError) as error:
            raise _refuse(self.path, error) from error

    def _encode(self, following: VideoFrame | None) -> None:
        """Encode the frame that is held, for as long as it is shown: until the one that follows, which is held now."""
        held, self._held = self._held, following
        if held is None or held.pts is None:
            return
        step = round(1 / self._fps / _CLOCK)
        until = following.pts if following is not None else self._until
        held.duration = until - held.pts if until is not None and until > held.pts else step
        self._mux_sound(float(held.pts * _CLOCK))
        self._out.mux(self._video.encode(held))

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
            try:
                self._out.mux(self._sound[1])
            except av.FFmpegError as error:
                # Not the disk: a damaged film has pieces of sound that no container takes. The pictures go on.
                if isinstance(error, OSError):
                    raise
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
            self._encode(None)
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
