"""The sound of a film on its way into another: copied packet by packet, or encoded anew; all of it, or a stretch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any, TypeAlias

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet

__all__ = ["SoundPacket", "beginning", "sounds"]

SoundPacket: TypeAlias = "tuple[float, Packet[AudioStream]]"
"""A packet of the new film, and its time there in seconds."""

# What MP4 holds and players play; anything else is encoded anew. With each, how many packets a decoder needs before the
# first that is heard: AAC and AC-3 overlap with the one before, MP3 reaches back into several (bit reservoir), Opus
# takes 80 ms to settle (RFC 7845, 4.6).
_KEPT_SOUND = {"aac": 1, "mp3": 4, "ac3": 1, "eac3": 1, "alac": 0, "flac": 0, "opus": 4}
_AAC_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
_AAC_FRAME = 1024
# By number, since PCM often does not say which of its channels is which.
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
_INFINITE = float("inf")
_AHEAD = 1.0
"""Seconds before a stretch to which a film is wound: more than any decoder needs to settle."""
_ROUNDED = 0.01
"""Seconds by which the times of sound may be rounded in a container."""
_LONGEST = 3600
"""Seconds of silence that are put in a gap at most; a longer one is a broken clock."""
_BEHIND = 10.0
"""Seconds behind a stretch after which no stream is waited for: films are not woven that loosely."""


def beginning(source: InputContainer) -> float:
    """Return the time that becomes 0, seconds: the clock of an MPEG stream may begin at any hour, others at theirs."""
    running = source.format.name in {"mpegts", "mpeg"}
    return source.start_time / av.time_base if running and source.start_time else 0.0


def sounds(
    reopen: Callable[[], InputContainer], source: InputContainer, out: OutputContainer, span: tuple[float, float] | None
) -> Iterator[SoundPacket]:
    """Prepare an audio stream in ``out`` for each in ``source``; give their packets with their times in seconds.

    Parameters
    ----------
    reopen
        Opens the source once more, for a film that cannot be wound.
    source, out
        The films, open for reading and writing.
    span
        Begin and end in the source's clock, seconds: what lies outside is left away, and begin becomes 0. A copied
        stream begins with the packets that its decoder needs, at negative times: MP4 notes in an edit list that they
        are not heard. None: all of it, with times from `beginning`.
    """
    streams = [s for s in source.streams.audio if getattr(s, "codec_context", None)]
    tracks = [(_Copied if _kept(s) else _Encoded)(s, out, span) for s in streams]
    if not tracks:
        return iter(())
    numbers = [s.index for s in streams]
    shift = beginning(source) if span is None else span[0]
    read = _packets(source, numbers) if span is None else _wound(reopen, source, numbers, span)
    return _given(read, dict(zip(numbers, tracks, strict=True)), shift)


def _kept(stream: AudioStream) -> bool:
    # Of a damaged stream not even the rate may be known, and no container takes that.
    return _name(stream) in _KEPT_SOUND and stream.codec_context.sample_rate > 0 and stream.codec_context.channels > 0


def _name(stream: AudioStream) -> str:
    return stream.codec_context.codec.canonical_name  # a decoder's own name may be another, as mp3float


def _packets(source: InputContainer, numbers: list[int]) -> Iterator[Packet[AudioStream]]:
    # Sound that breaks off ends there; the film itself says, frame by frame, what it lacks.
    with suppress(av.FFmpegError):
        yield from source.demux(*(source.streams[n] for n in numbers))  # type: ignore[misc]  # they are of audio


def _wound(
    reopen: Callable[[], InputContainer], source: InputContainer, numbers: list[int], span: tuple[float, float]
) -> Iterator[Packet[AudioStream]]:
    """Give the packets from shortly before a stretch to shortly behind it."""
    start, end = span
    packets: Iterator[Packet[AudioStream]] = iter(())
    first = None
    with suppress(av.FFmpegError):
        source.seek(int((start - 2 * _AHEAD) * av.time_base), backward=True)
        packets = _packets(source, numbers)
        first = next(packets, None)
    before = first is not None and (_time(first) or 0.0) <= start - _AHEAD
    ends: dict[int, Packet[AudioStream]] = {}
    if not before:  # wound too far, or there is nothing so early: only the beginning tells
        source = reopen()
        packets, first = _packets(source, numbers), None
    for packet in _with(first, packets):
        at = _time(packet)
        if at is not None and at >= end:
            ends.setdefault(packet.stream.index, packet)
            if len(ends) == len(numbers) or at > end + _BEHIND:
                break
        yield packet
    for number in numbers:
        # The empty packet that empties a decoder; after the last one of a film it comes a second time, to no harm.
        flush: Packet[Any] = Packet(0)
        flush.stream = source.streams[number]
        yield flush


def _with(first: Packet[AudioStream] | None, rest: Iterator[Packet[AudioStream]]) -> Iterator[Packet[AudioStream]]:
    if first is not None:
        yield first
    yield from rest


def _time(packet: Packet[AudioStream]) -> float | None:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return None if stamp is None or packet.time_base is None else float(stamp * packet.time_base)


def _given(
    read: Iterator[Packet[AudioStream]], tracks: dict[int, _Copied | _Encoded], shift: float
) -> Iterator[SoundPacket]:
    for packet in read:
        for done in tracks[packet.stream.index].take(packet):
            if done.pts is not None and done.time_base:
                ticks = round(shift / done.time_base)
                done.pts -= ticks
                done.dts = done.pts if done.dts is None else done.dts - ticks
                yield float(done.pts * done.time_base), done


class _Copied:
    """An audio stream that goes along as it is."""

    def __init__(self, stream: AudioStream, out: OutputContainer, span: tuple[float, float] | None) -> None:
        self._stream = out.add_stream_from_template(stream)
        self._span = span
        self._earlier: deque[Packet[AudioStream]] = deque(maxlen=_KEPT_SOUND[_name(stream)])

    def take(self, packet: Packet[AudioStream]) -> Iterator[Packet[AudioStream]]:
        if packet.dts is None:  # the packet at the end is empty
            return
        if self._span is not None:
            at, length = _time(packet) or 0.0, float((packet.duration or 0) * (packet.time_base or 0))
            if at + length <= self._span[0]:
                self._earlier.append(packet)
                return
            if at >= self._span[1]:
                return
        for kept in (*self._earlier, packet):
            kept.stream = self._stream
            yield kept
        self._earlier.clear()


class _Encoded:
    """An audio stream that MP4 cannot hold, encoded as AAC.

    An encoder counts samples and knows no gaps: where sound is missing there is silence, and where it comes twice the
    second is left away, so that what follows stays in step.
    """

    def __init__(self, stream: AudioStream, out: OutputContainer, span: tuple[float, float] | None) -> None:
        rate = stream.rate if stream.rate in _AAC_RATES else 48_000
        layout = _LAYOUTS.get(stream.channels, "stereo")
        self._span = span or (-_INFINITE, _INFINITE)
        self._ended = False
        self._next: int | None = None
        self._stream = out.add_stream("aac", rate=rate)
        self._stream.layout = layout
        self._resampler = AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=_AAC_FRAME)

    def take(self, packet: Packet[AudioStream]) -> Iterator[Packet[AudioStream]]:
        if self._ended:
            return
        frames: list[AudioFrame] = []
        with suppress(av.FFmpegError):  # of damaged sound, decoders say the oddest things
            frames = packet.stream.decode(packet)
        for frame in frames:
            for placed in self._placed(frame):
                yield from self._encode(placed)
        if packet.dts is None:
            self._ended = True
            yield from self._encode(None)
            yield from self._stream.encode(None)

    def _placed(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        """Give what is heard of a frame, each sample at its place; before it, silence where there is a gap."""
        rate = frame.sample_rate
        if frame.pts is None or frame.time_base is None:
            at = float(self._next or 0)
        else:
            at = float(frame.pts * frame.time_base) * rate
        # Containers round their times; only what is more than that is a gap.
        near = self._next is not None and abs(at - self._next) <= _ROUNDED * rate
        start = self._next if near and self._next is not None else round(at)
        low, high = (int(np.clip(np.ceil(edge * rate), -(2**53), 2**53)) for edge in self._span)
        first = max(start, low, self._next if self._next is not None else low)
        last = min(start + frame.samples, high)
        if first >= last:
            return
        samples: Any = frame.to_ndarray()
        each = 1 if frame.format.is_planar else frame.layout.nb_channels
        if self._next is not None:
            for begin in range(self._next, min(first, self._next + _LONGEST * rate), _AAC_FRAME):
                size = min(_AAC_FRAME, first - begin)
                silence = np.full((len(samples), size * each), 128 if samples.dtype == np.uint8 else 0, samples.dtype)
                yield _frame(silence, begin, frame)
        yield _frame(samples[:, (first - start) * each : (last - start) * each], first, frame)
        self._next = last

    def _encode(self, frame: AudioFrame | None) -> Iterator[Packet[AudioStream]]:
        for even in self._resampler.resample(frame):
            yield from self._stream.encode(even)


def _frame(samples: Any, at: int, like: AudioFrame) -> AudioFrame:
    """Return samples as a frame that begins with sample ``at``."""
    out = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format=like.format.name, layout=like.layout.name)
    out.sample_rate, out.time_base, out.pts = like.sample_rate, Fraction(1, like.sample_rate), at
    return out
