"""Packets to frames: every frame in the order of showing, and a word for each that is lost."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..image import Picture
from .container import check_size
from .curve import Curve, to_standard
from .stills import DEFAULT_MAX_PIXELS

__all__ = ["Account", "Decoder", "Key", "Raw", "raw_frames", "shown_size", "to_picture"]

_NAN = float("nan")
_DAMAGED = "the frame is damaged"
_CURVES = frozenset(Curve)
_BT2020 = 9
# Frames that wait for their turn: no format lets more than 16 overtake one.
_MOST_HELD = 17


@dataclass(frozen=True, slots=True, eq=False)
class Raw:
    """A decoded frame before its colours are converted; ``frame`` is None where it could not be decoded.

    ``stamp`` is its time in ticks of the stream's clock; None where there is none.
    """

    frame: VideoFrame | None
    time: float
    error: str = ""
    stamp: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A packet at which decoding can begin: where in the file it stands, and its stamps.

    ``faults`` counts what had gone wrong with the decoder before.
    """

    place: int
    size: int
    stamp: int
    order: int
    faults: int


class Decoder:
    """Decodes a stream; iterate it once for its frames in the order of showing.

    Parameters
    ----------
    packets
        Where to take the packets from; the container's next ones unless given.

    Attributes
    ----------
    keys : deque of Key
        The newest key packet whose frame has been shown, then those whose frames are still to come.
    faults : int
        How many errors and damaged packets there have been.
    by_decoding : bool
        The stamps of showing ran backwards, as in an AVI with B-frames, so those of decoding are taken.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        name: str,
        *,
        threads: int = 0,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        packets: Iterable[Packet[VideoStream]] | None = None,
    ) -> None:
        # A decoder that has begun keeps its threads.
        if not stream.codec_context.is_open:
            stream.codec_context.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
        self._stream = stream
        self._name = name
        self._max_pixels = max_pixels
        self._packets = iter(container.demux(stream) if packets is None else packets)
        self._lost = _Lost()
        self._last: tuple[int, int | None, int | None] = 0, None, None
        self._given: int | None = None
        self._fed: int | None = None
        self.keys: deque[Key] = deque()
        self.faults = 0
        self.by_decoding = False

    def __iter__(self) -> Generator[Raw, None, None]:
        base = float(self._stream.time_base) if self._stream.time_base is not None else _NAN
        lost = self._lost
        time = _NAN
        for frame in self._in_turn():
            part = lost.part_of(frame.pts)
            if lost.told(part, frame.pts):
                continue
            check_size(frame.width, frame.height, self._name, self._max_pixels)
            damaged = frame.is_corrupt or lost.damages(part, frame.pts)
            for missing in lost.before(part, frame.pts):
                time = time if missing is None else missing * base
                yield Raw(None, time, lost.why)
            stamp = self._stamp(part, frame.pts, frame.dts)
            time = _NAN if stamp is None else stamp * base
            yield Raw(None, time, _DAMAGED) if damaged else Raw(frame, time, stamp=stamp)
        for missing in lost.rest():
            time = time if missing is None else missing * base
            yield Raw(None, time, lost.why)

    def _in_turn(self) -> Iterator[VideoFrame]:
        """Give each frame when no packet can come any more that has to be shown before it."""
        held: deque[VideoFrame] = deque()
        for frames in self._decoded():
            held.extend(frames)
            while held and (len(held) > _MOST_HELD or self._in_time(held[0])):
                yield held.popleft()
        while held:
            yield held.popleft()

    def _in_time(self, frame: VideoFrame) -> bool:
        # Nothing is decoded behind the moment at which it is shown. A damaged stream gives frames too early.
        if frame.pts is None or self._fed is None or self._fed >= frame.pts:
            return True
        return self._lost.part_of(frame.pts) < self._lost.part

    def account(self) -> Account:
        """Return what a reading that goes on from here has to know of the errors before."""
        return self._lost.account()

    def carry(self, account: Account) -> None:
        """Go on as after the errors that an earlier reading met."""
        self._lost.carry(account)

    def _stamp(self, part: int, shown: int | None, decoded: int | None) -> int | None:
        was = self._last
        self._last = part, shown, decoded
        same = was[0] == part
        if same and _runs_back(was[1], shown) and _runs_back(decoded, was[2]):
            self.by_decoding = True
        # Where AVI and raw streams give no time of showing, that of decoding is the best there is.
        if shown is None or (self.by_decoding and decoded is not None):
            shown = decoded
        if self.by_decoding and same and shown is not None and self._given is not None:
            shown = max(shown, self._given)
        self._given = shown
        while len(self.keys) > 1 and shown is not None and self.keys[1].stamp <= shown:
            self.keys.popleft()
        return shown

    def _decoded(self) -> Iterator[list[VideoFrame]]:
        while True:
            try:
                packet = next(self._packets)
            except StopIteration:
                return
            except av.FFmpegError as error:
                self._fed = None
                yield self._decode(None)
                self.faults += 1
                self._lost.broke(f"it breaks off here ({error.strerror})")
                return
            self._note(packet)
            yield self._decode(packet)

    def _decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        try:
            return self._stream.decode(packet)
        except av.EOFError:
            return []
        except av.FFmpegError as error:
            self.faults += 1
            self._lost.failed(f"the frame cannot be decoded ({error.strerror})")
            return []

    def _note(self, packet: Packet[VideoStream]) -> None:
        self._lost.given(packet)
        if packet.size:
            self._fed = packet.dts
        self.faults += packet.is_corrupt
        if packet.is_keyframe and packet.pos is not None:
            stamp = packet.dts if packet.pts is None else packet.pts
            if stamp is not None:
                order = stamp if packet.dts is None else packet.dts
                self.keys.append(Key(packet.pos, packet.size, stamp, order, self.faults))


def _runs_back(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after < before


def raw_frames(
    container: InputContainer, stream: VideoStream, name: str, *, threads: int = 0, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Generator[Raw, None, None]:
    """Decode a stream; give its frames in the order of showing, and one without a picture for each that is lost.

    Raises
    ------
    TooLargeError
        If a frame has more than ``max_pixels`` pixels; a stream may change its size on the way.
    """
    yield from Decoder(container, stream, name, threads=threads, max_pixels=max_pixels)


class Account(NamedTuple):
    """Errors not yet blamed for a missing frame, the last one's reason, and what was learnt of the stream."""

    errors: int
    why: str
    loose: bool
    failed: bool


class _Lost:
    """Keeps account of the frames that went into the decoder and never came out.

    A decoder with several threads reports an error some packets late, and B-frames change the order. So the time stamps
    of what is missing before a frame that did come tell which frames errors cost: all that are missing, where each
    packet gave a frame until the first error. Packets without a frame of their own are ordinary in some formats, so
    without an error nothing counts as lost, and where some were seen, no more frames than errors do.
    """

    def __init__(self) -> None:
        self.why = _DAMAGED
        self.part = 0
        self._last: int | None = None
        self._shown = 0
        self._waiting: list[tuple[int, int]] = []
        self._damaged: set[tuple[int, int]] = set()
        self._told: deque[tuple[int, int]] = deque(maxlen=256)
        self._begun = False
        self._failed = False
        self._loose = False
        self._errors = 0
        self._unstamped = 0

    def given(self, packet: Packet[VideoStream]) -> None:
        """Note a packet that goes into the decoder."""
        # Films joined from several begin to count anew; stamps can only be compared within one part.
        self.part += _runs_back(self._last, packet.dts)
        self._last = self._last if packet.dts is None else packet.dts
        if packet.pts is not None and not packet.is_discard:
            heapq.heappush(self._waiting, (self.part, packet.pts))
            if packet.is_corrupt:
                self._damaged.add((self.part, packet.pts))

    def part_of(self, pts: int | None) -> int:
        """Return the part of a joined film to which a frame belongs that the decoder gives now."""
        if pts is None or self._shown == self.part:
            return self._shown
        return min((part for part, stamp in self._waiting if stamp == pts), default=self._shown)

    def failed(self, why: str) -> None:
        """Note an error of the decoder."""
        self.why = why
        self._failed = True
        if self._waiting:
            self._errors += 1
        else:
            self._unstamped += 1

    def broke(self, why: str) -> None:
        """Note that the container cannot be read any further."""
        self.why = why
        self._failed = True
        self._unstamped += 1

    def account(self) -> Account:
        """Return what a later reading has to know."""
        return Account(self._errors, self.why, self._loose, self._failed)

    def carry(self, account: Account) -> None:
        """Begin with what an earlier reading had on its account."""
        self._errors, self.why, self._loose, self._failed = account

    def damages(self, part: int, pts: int | None) -> bool:
        """Tell whether the container said that the packet of this frame is damaged."""
        return (part, pts) in self._damaged

    def told(self, part: int, pts: int | None) -> bool:
        """Tell whether a frame that came late was already said to be lost."""
        return (part, pts) in self._told

    def before(self, part: int, pts: int | None) -> list[int | None]:
        """Return the stamps of the frames lost before the one that just came; None for a lost frame without a stamp."""
        self._shown = part
        passed: list[tuple[int, int]] = []
        while pts is not None and self._waiting and self._waiting[0] <= (part, pts):
            passed.append(heapq.heappop(self._waiting))
        blamed = self._blamed([stamp for stamp in passed if stamp != (part, pts)])
        self._damaged.difference_update(passed)
        self._begun = True
        return blamed

    def rest(self) -> list[int | None]:
        """Return the stamps of the frames lost at the end."""
        return self._blamed(sorted(self._waiting))

    def _blamed(self, missing: list[tuple[int, int]]) -> list[int | None]:
        # A film that was cut out of another may begin with frames that refer to what is gone; no player shows them.
        self._loose = self._loose or bool(missing and self._begun and not self._failed)
        all_of_them = self._errors > 0 if self._loose else self._failed
        blamed = [stamp for stamp in missing if all_of_them or stamp in self._damaged]
        self._errors = max(0, self._errors - len(blamed))
        self._told.extend(blamed)
        unstamped, self._unstamped = self._unstamped, 0
        return [*(pts for _, pts in blamed), *[None] * unstamped]


def to_picture(frame: VideoFrame) -> Picture:
    """Return a decoded frame as (H, W, 3) uint8 RGB, turned as its container says; high dynamic range becomes sRGB."""
    # Left to itself, the conversion starts threads for every frame, which takes longer than the work.
    array = np.asarray(frame.to_ndarray(format="rgb24", threads=1), np.uint8)
    if frame.color_trc in _CURVES:
        array = to_standard(array, Curve(frame.color_trc), wide=frame.color_primaries == _BT2020)
    return np.ascontiguousarray(np.rot90(array, _quarter_turns(frame)))


def _quarter_turns(frame: VideoFrame) -> int:
    """Return how often a frame is turned by 90°, counter-clockwise, in [0, 3]."""
    return round(frame.rotation / 90) % 4


def shown_size(frame: VideoFrame) -> tuple[int, int]:
    """Return width and height of a frame as it is shown, pixels."""
    size = frame.width, frame.height
    return size[::-1] if _quarter_turns(frame) % 2 else size
