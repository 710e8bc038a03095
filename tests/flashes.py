"""Films that flash and click at the same instants, and how far apart the two are in a copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

CLOCK = 90_000
RATE = 48_000
_HALF = 480
"""Half the length of a click, samples: 10 ms."""


def click_film(
    path: Path,
    times: Sequence[float],
    flashes: Sequence[int],
    *,
    codecs: Sequence[str] = ("aac",),
    size: tuple[int, int] = (96, 64),
    gop: int = 12,
    sound_starts: float | None = None,
    rate: int = RATE,
) -> Path:
    """Write a film whose frames ``flashes`` are white while a short tone sounds, its middle at the frame's time.

    Other frames are grey, and say their number in a bar at the bottom. ``sound_starts`` is when the sound begins,
    seconds; by default with the first frame. There is an audio stream for each of ``codecs``.
    """
    width, height = size
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.time_base = Fraction(1, CLOCK)
        video.codec_context.gop_size = gop
        video.options = {"preset": "ultrafast", "crf": "14", "bf": "2", "b-adapt": "0", "sc_threshold": "0"}
        tracks = [out.add_stream(codec, rate=rate) for codec in codecs]
        for track in tracks:
            track.layout = "stereo"
        for number, time in enumerate(times):
            array = np.full((height, width, 3), 235 if number in flashes else 60, np.uint8)
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = round(time * CLOCK), Fraction(1, CLOCK)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        begin = times[0] if sound_starts is None else sound_starts
        wave = _clicks([times[f] for f in flashes], begin, times[-1] + 0.04, rate)
        for track in tracks:
            _encode(out, track, wave, begin, rate)
    return path


def _clicks(at: Sequence[float], begin: float, end: float, rate: int) -> NDArray[np.float64]:
    wave = np.zeros(round((end - begin) * rate))
    half = _HALF * rate // RATE
    around = np.arange(-half, half + 1)
    burst = 0.7 * np.cos(2 * np.pi * 2000 * around / rate) * np.cos(np.pi * around / (2 * half)) ** 2
    for time in at:
        middle = round((time - begin) * rate)
        low, high = max(0, middle - half), min(len(wave), middle + half + 1)
        if low < high:
            wave[low:high] += burst[low - middle + half : high - middle + half]
    return wave


def _encode(
    out: av.container.OutputContainer, track: av.AudioStream, wave: NDArray[np.float64], begin: float, rate: int
) -> None:
    kind = track.codec_context.format.name
    size = track.codec_context.frame_size or 1024
    for at in range(0, len(wave), size):
        part = np.pad(wave[at : at + size], (0, max(0, size - len(wave[at : at + size]))))
        stereo = np.stack([part, part])
        if not kind.endswith("p"):
            stereo = stereo.T.reshape(1, -1)
        scale = {"s16": 2**15 - 1, "s32": 2**31 - 1}.get(kind.rstrip("p"))
        samples = (stereo * scale).astype(f"i{2 if scale == 2**15 - 1 else 4}") if scale else stereo.astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=kind, layout="stereo")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(begin * rate) + at
        out.mux(track.encode(frame))
    out.mux(track.encode(None))


def seen(path: Path) -> NDArray[np.float64]:
    """The times of the white frames of a film, seconds."""
    with av.open(str(path)) as container:
        frames = [(float(f.time), f.to_ndarray(format="gray").mean()) for f in container.decode(video=0)]
    return np.array([time for time, level in frames if level > 150])


def _sound(container: av.container.InputContainer, track: int) -> Iterator[av.AudioFrame]:
    if track < len(container.streams.audio):
        for packet in container.demux(audio=track):
            with suppress(av.FFmpegError):
                yield from packet.decode()


def heard(path: Path, track: int = 0) -> NDArray[np.float64]:
    """The times of the clicks of a film, seconds: the middle of the energy of each."""
    samples, at = [], []
    with av.open(str(path)) as container:
        for frame in _sound(container, track):
            array = frame.to_ndarray().astype(float)
            mono = array[0] if frame.format.is_planar else array[0, :: frame.layout.nb_channels]
            samples.append(mono / {"s16": 2**15, "s32": 2**31}.get(frame.format.name.rstrip("p"), 1))
            at.append(float(frame.time) + np.arange(len(mono)) / frame.sample_rate)
    if not samples:
        return np.empty(0)
    energy, times = np.concatenate(samples) ** 2, np.concatenate(at)
    loud = times[energy > 0.02]
    starts = loud[np.insert(np.diff(loud) > 0.1, 0, True)] if len(loud) else loud
    middles = []
    for start in starts:
        near = np.abs(times - start) < 0.05
        middles.append(np.average(times[near], weights=energy[near]))
    return np.array(middles)


def offsets(path: Path, track: int = 0) -> NDArray[np.float64]:
    """How much later than its flash each click is heard, seconds; clicks cut by an end of the film do not count."""
    flashes, clicks = seen(path), heard(path, track)
    whole = [f for f in flashes if f > 0.02]
    return np.array([clicks[np.abs(clicks - f).argmin()] - f for f in whole])
