"""Small films made on the spot, with every property known: times, turns, B-frames, sound, damage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
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


def make_film(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: float = 25,
    times: Sequence[float] | None = None,
    rotation: int = 0,
    sound: bool | str = False,
    bframes: int = 2,
    gop: int = 250,
    codec: str | None = None,
) -> Path:
    """Write frames (H, W, 3) uint8 RGB, even sides, as a film; the ending chooses the container.

    ``times`` are seconds, one a frame, else frames follow each other at ``fps``. ``rotation`` is by how many degrees
    clockwise a player shall turn it. ``codec`` is x264, in AVI MPEG-4, unless named; AVI and named codecs tick with the
    frame rate. ``sound`` adds a tone as long as the film: AAC, or the codec that it names.
    """
    frames = list(frames)
    codec = codec or ("mpeg4" if path.suffix == ".avi" else "libx264")
    fine = codec == "libx264"
    stamps = [round(CLOCK * (times[i] if times is not None else i / fps)) for i in range(len(frames))]
    step = round(CLOCK / fps)
    height, width = frames[0].shape[:2] if frames else (64, 96)
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, CLOCK) if fine else Fraction(1, round(fps))
        video.codec_context.gop_size = gop
        if fine:
            order = {"bf": str(bframes), "b-adapt": "0", "sc_threshold": "0"}
            video.options = {"preset": "ultrafast", "crf": "12", **order}
        if rotation:
            video.set_display_rotation(-rotation)
        audio = out.add_stream(sound if isinstance(sound, str) else "aac", rate=RATE) if sound else None
        if audio is not None:
            audio.layout = "stereo"
        if not frames:
            out.start_encoding()
        for number, (stamp, array) in enumerate(zip(stamps, frames, strict=True)):
            following = stamps[number + 1] if number + 1 < len(stamps) else stamp + step
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.time_base = video.codec_context.time_base
            frame.pts, frame.duration = (stamp, following - stamp) if fine else (number, 1)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None and frames:
            _tone(out, audio, stamps[0] / CLOCK, (stamps[-1] + step) / CLOCK)
    return path


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
