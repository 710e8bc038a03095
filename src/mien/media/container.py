"""Opening a film, and what its container says of it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import DecodeError, SourceError, SourceNotFoundError, TooLargeError
from .source import Kind, is_url, refusal, sniff
from .stills import DEFAULT_MAX_PIXELS

__all__ = ["check_size", "duration_of", "facts_of", "name_of", "open_container", "recorded_at", "video_stream"]

_RECORDED = ("com.apple.quicktime.creationdate", "creation_time", "DATE_RECORDED", "date_recorded")
# Clocks that were never set write the beginning of their era.
_NO_DATE = {1601, 1904, 1970}
_FIELD_ORDERS = {2, 3, 4, 5}
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_RANGES = {1: "limited", 2: "full"}
_CURVES = {16: "pq", 18: "hlg"}

# Names and remarks in a film are often in no UTF-8, and nothing here reads them. PyAV 19 takes them as they are.
_REMARKS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}


def name_of(source: str | os.PathLike[str] | IO[bytes]) -> str:
    """Return what a film is called in messages."""
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
        container: InputContainer = av.open(place, "r", timeout=timeout, options=options, **_REMARKS)
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
    check_size(stream.width, stream.height, name, max_pixels)
    return stream


def check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    """Raise `TooLargeError` where a frame has more than ``max_pixels`` pixels."""
    if width * height > max_pixels:
        msg = (
            f"{name}: frames of {width} × {height} are {width * height / 1e6:.1f} megapixels, over the limit of "
            f"{max_pixels / 1e6:g}; make them smaller or raise max_pixels / --max-megapixels"
        )
        raise TooLargeError(msg)


def duration_of(container: InputContainer, stream: VideoStream) -> float | None:
    """Return how long a film says that it is, seconds; None where it does not."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration is not None else None


def recorded_at(container: InputContainer, stream: VideoStream) -> str | None:
    """Return when a film was recorded, as ISO 8601 text in whole seconds, by its metadata; None where it does not say.

    The zone is UTC unless the film names another.
    """
    for tags in (container.metadata, stream.metadata):
        for key in _RECORDED:
            try:
                moment = datetime.fromisoformat(tags[key].strip())
            except (KeyError, ValueError):
                continue
            if moment.year not in _NO_DATE:
                moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
                return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    return None


def facts_of(container: InputContainer, stream: VideoStream, shown: VideoFrame | None) -> dict[str, Any]:
    """Return what a container, its film and the first frame that could be decoded say of themselves.

    Returns
    -------
    dict
        Of str, int, float, bool and None, the same at every call: see `Film.facts`.
    """
    kind = shown.format if shown else stream.codec_context.format
    rotation = round(shown.rotation / 90) % 4 * 90 if shown else 0
    return {
        "container": container.format.name,
        "codec": stream.codec_context.codec.canonical_name,
        "pixel_format": kind.name if kind else None,
        "bits": max((c.bits for c in kind.components), default=None) if kind else None,
        "matrix": _MATRICES.get(shown.colorspace) if shown else None,
        "range": _RANGES.get(shown.color_range) if shown else None,
        "curve": _CURVES.get(shown.color_trc, "sdr") if shown else None,
        "interlaced": bool(shown and shown.interlaced_frame) or stream.codec_context.field_order in _FIELD_ORDERS,
        "rotation": -rotation % 360,
        "rate": str(stream.average_rate) if stream.average_rate else None,
        "start": float(stream.start_time * stream.time_base)
        if stream.start_time is not None and stream.time_base is not None
        else None,
        "sound_tracks": len(container.streams.audio),
        "recorded": recorded_at(container, stream),
    }
