"""Small films made on the spot, with every property known: times, turns, B-frames, sound, damage."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

CLOCK = 90_000
RATE = 48_000


def numbered(count: int, width: int = 96, height: int = 64) -> list[NDArray[np.uint8]]:
    """Frames that say their number: eight squares in the upper half, black or white, are its bits, lowest first.

    The lower half is red at the left and blue at the right, so that turns and colours can be checked.
    """
    frames = []
    for number in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        for bit in range(8):
            frame[: height // 2, bit * width // 8 : (bit + 1) * width // 8] = 255 * (number >> bit & 1)
        frame[height // 2 :, : width // 2] = 230, 20, 20
        frame[height // 2 :, width // 2 :] = 20, 20, 230
        frames.append(frame)
    return frames


def number_of(picture: NDArray[np.uint8]) -> int:
    """Read back what `numbered` wrote."""
    height, width = picture.shape[:2]
    middles = [(2 * bit + 1) * width // 16 for bit in range(8)]
    return sum(1 << bit for bit, x in enumerate(middles) if picture[height // 4, x].mean() > 127)


# Encoders that take any time stamps; the others tick with the frame rate.
_FINE = {
    "libx264": {"preset": "ultrafast", "crf": "12", "b-adapt": "0", "sc_threshold": "0"},
    "libx265": {"preset": "ultrafast", "crf": "10", "x265-params": "log-level=none:b-adapt=0:scenecut=0:pools=1"},
    "libvpx-vp9": {"crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"crf": "10", "preset": "12", "svtav1-params": "lp=1"},
}


def make_film(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: float = 25,
    times: Sequence[float] | None = None,
    rotation: int = 0,
    sound: bool | str = False,
    tracks: int = 1,
    bframes: int = 2,
    gop: int = 250,
    codec: str | None = None,
    pixels: str = "yuv420p",
    colour: tuple[int, int] | None = None,
    interlaced: str = "",
    options: Mapping[str, str] | None = None,
    mux: Mapping[str, str] | None = None,
    recorded: str | None = None,
    sound_seconds: float | None = None,
    cover: bool = False,
) -> Path:
    """Write frames (H, W, 3) uint8 RGB, even sides, as a film; the ending chooses the container.

    ``times`` are seconds, one a frame, else frames follow each other at ``fps``. ``rotation`` is by how many degrees
    clockwise a player shall turn it. ``codec`` is x264, in AVI MPEG-4, unless named; AVI and most named codecs tick
    with the frame rate. ``sound`` adds ``tracks`` tones as long as the film: AAC, or the codec that it names;
    ``sound_seconds`` makes them longer or shorter. ``pixels`` is FFmpeg's name of the pixel format. ``colour`` is the
    matrix (1 BT.709, 5 BT.601, 9 BT.2020) and the range (1 limited, 2 full) that the frames are converted to and the
    film says of itself. ``interlaced``, tff or bff, says that two fields are woven, and which comes first; the frames
    have to be `combed`. ``options`` go to the encoder, ``mux`` to the container. ``recorded`` is the date that the
    container tells. ``cover`` attaches a picture.
    """
    frames = list(frames)
    codec = codec or ("mpeg4" if path.suffix == ".avi" else "libx264")
    fine = codec in _FINE
    stamps = [round(CLOCK * (times[i] if times is not None else i / fps)) for i in range(len(frames))]
    step = round(CLOCK / fps)
    height, width = frames[0].shape[:2] if frames else (64, 96)
    with _same_priority(), av.open(str(path), "w", options=dict(mux or {})) as out:
        if recorded:
            out.metadata["creation_time"] = recorded
        video = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        video.width, video.height, video.pix_fmt = width, height, pixels
        context = video.codec_context
        context.time_base = Fraction(1, CLOCK) if fine else Fraction(1, round(fps))
        context.gop_size = gop
        if colour:
            context.colorspace, context.color_range = colour
        _set_options(video, codec, {"bf": str(bframes)} | dict(options or {}), interlaced=bool(interlaced))
        if rotation:
            video.set_display_rotation(-rotation)
        audios = _sound(out, sound, tracks)
        picture = _picture(out) if cover else None
        if not frames:
            out.start_encoding()
        for number, (stamp, array) in enumerate(zip(stamps, frames, strict=True)):
            following = stamps[number + 1] if number + 1 < len(stamps) else stamp + step
            frame = _frame(array, pixels, colour)
            frame = _fielded(frame.reformat(format=pixels), interlaced) if interlaced else frame
            frame.time_base = context.time_base
            frame.pts, frame.duration = (stamp, following - stamp) if fine else (number, 1)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for audio in audios if frames else []:
            start = stamps[0] / CLOCK
            _tone(out, audio, start, start + sound_seconds if sound_seconds else (stamps[-1] + step) / CLOCK)
        if picture is not None:
            out.mux(picture.encode(_frame(np.full((32, 32, 3), 200, np.uint8), "yuvj420p", None)))
            out.mux(picture.encode(None))
    return path


@contextmanager
def _same_priority() -> Iterator[None]:
    """Keep the priority of this thread: SVT-AV1, run by root, leaves it at real time, where a browser stands still."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


def _fielded(frame: av.VideoFrame, order: str) -> av.VideoFrame:
    graph = av.filter.Graph()
    size = f"{frame.width}x{frame.height}"
    source = graph.add("buffer", video_size=size, pix_fmt=frame.format.name, time_base="1/25", pixel_aspect="1/1")
    graph.link_nodes(source, graph.add("setfield", order), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def _set_options(video: av.VideoStream, codec: str, options: dict[str, str], *, interlaced: bool) -> None:
    if codec != "libx264" and options["bf"] == "2":
        del options["bf"]
    if interlaced:
        video.codec_context.flags |= 1 << 18 | 1 << 29  # interlaced DCT and motion
    video.options = _FINE.get(codec, {}) | options


def _sound(out: av.container.OutputContainer, sound: bool | str, tracks: int) -> list[av.AudioStream]:
    audios = [
        out.add_stream(sound if isinstance(sound, str) else "aac", rate=RATE) for _ in range(tracks if sound else 0)
    ]
    for audio in audios:
        audio.layout = "stereo"
    return audios


def _picture(out: av.container.OutputContainer) -> av.VideoStream:
    picture = out.add_stream("mjpeg", rate=1)
    picture.width, picture.height, picture.pix_fmt = 32, 32, "yuvj420p"
    picture.disposition = Disposition.attached_pic
    return picture


def _frame(array: NDArray[np.uint8], pixels: str, colour: tuple[int, int] | None) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(array, format="rgb24")
    if colour:
        frame = frame.reformat(format=pixels, dst_colorspace=colour[0], dst_color_range=colour[1])
    return frame


def _tone(out: av.container.OutputContainer, audio: av.AudioStream, start: float, end: float) -> None:
    size = audio.codec_context.frame_size or 1024
    for at in range(round(start * RATE), round(end * RATE), size):
        wave = 0.3 * np.sin(2 * np.pi * 440 * (at + np.arange(size)) / RATE)
        kind = audio.codec_context.format.name
        if kind.startswith("s16"):
            samples = np.repeat((wave * 32767).astype(np.int16), 2)[None]
        else:
            samples = np.stack([wave, wave]).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format=kind, layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, at, Fraction(1, RATE)
        out.mux(audio.encode(frame))
    out.mux(audio.encode(None))


def spoil(path: Path, *, first: float = 0.4, last: float = 0.6) -> Path:
    """Overwrite a stretch of the film's data, given as shares of it, with noise; the index stays whole."""
    data = bytearray(path.read_bytes())
    start = data.find(b"mdat") + 4
    end = start - 8 + int.from_bytes(data[start - 8 : start - 4], "big")
    a, b = (start + round((end - start) * share) for share in (first, last))
    data[a:b] = np.random.default_rng(7).integers(0, 256, b - a, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    return path


def cut(path: Path, share: float) -> Path:
    """Keep only the first part of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * share)])
    return path


def joined(path: Path, *parts: Path) -> Path:
    """Put transport streams one behind the other."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def combed(
    count: int, width: int = 96, height: int = 64, *, step: int = 4, lower_first: bool = False
) -> list[NDArray[np.uint8]]:
    """Frames woven of two fields each: a bright bar moves by ``step`` pixels from field to field."""
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), 70, np.uint8)
        for field in range(2):
            at = 8 + step * (2 * number + field) % (width - 24)
            frame[field ^ lower_first :: 2, at : at + 12] = 220
        frames.append(frame)
    return frames
