"""Landmarks: places in a film from which reading goes on exactly as if it had never stopped."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypedDict, cast, get_type_hints

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.stream import VideoStream

from .decode import Account, Decoder, Key, Raw

__all__ = ["Landmark", "Landmarks", "Resumed", "resume"]

EVERY = 512
"""Frames from one landmark to the next."""
WINDOW = 17
"""Frames that a landmark vouches for. H.264 and HEVC look back at 16 at most, VP9 and AV1 at 8: where 17 in a row come
out alike, the decoder remembers alike, and so everything behind them comes out alike."""
_KEPT = 4
_PATIENCE = 20_000


class Landmark(TypedDict):
    """A frame and how to find it again; every value can be written as JSON.

    Attributes
    ----------
    frame
        Its number in the order of showing.
    first, last
        Stamps of the first and the last frame of those that are compared, in ticks of the stream's clock.
    digest
        BLAKE2b of the stamps and pixels of these frames, as hexadecimal digits.
    place, size, stamp, order
        The key packet at which decoding begins: where it stands in the file, its bytes, and its stamps of showing and
        of decoding.
    errors, why, loose, failed, by_decoding
        What the decoder had on its account.
    """

    frame: int
    first: int
    last: int
    digest: str
    place: int
    size: int
    stamp: int
    order: int
    errors: int
    why: str
    loose: bool
    failed: bool
    by_decoding: bool


class _Window:
    """Frames in a row, digested."""

    def __init__(self) -> None:
        self.stamps: list[int] = []
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, raw: Raw) -> bool:
        """Add a frame; False where it cannot vouch for anything."""
        if raw.frame is None or raw.stamp is None or (self.stamps and raw.stamp <= self.stamps[-1]):
            return False
        self.stamps.append(raw.stamp)
        self._hash.update(f"{raw.stamp} {raw.frame.width} {raw.frame.height} {raw.frame.format.name};".encode())
        try:
            for number, plane in enumerate(raw.frame.planes):
                self._hash.update(_pixels(raw.frame, plane, number))
        except ValueError:  # rows that stand upside down in memory
            return False
        return True

    def digest(self) -> str:
        """Return the digest of what was added."""
        return self._hash.hexdigest()


def _pixels(frame: VideoFrame, plane: VideoPlane, number: int) -> Any:
    # Without what stands between the rows, which nobody ever set.
    size = sum(-(-part.bits // 8) for part in frame.format.components if part.plane == number)
    rows = np.frombuffer(plane, np.uint8)[: plane.height * plane.line_size].reshape(plane.height, plane.line_size)  # type: ignore[call-overload]  # a plane is a buffer
    return np.ascontiguousarray(rows[:, : plane.width * size])


class Landmarks:
    """Takes a landmark every `EVERY` frames while a film is decoded, and keeps the newest few.

    Parameters
    ----------
    decoder
        What decodes the film.
    known
        The landmark at which this reading began.
    """

    def __init__(self, decoder: Decoder, known: Landmark | None = None) -> None:
        self._decoder = decoder
        self._kept: deque[Landmark] = deque([known] if known else [], _KEPT)
        self._window: _Window | None = None
        self._key: Key | None = None

    def note(self, index: int, raw: Raw) -> None:
        """Look at a frame that was decoded; all of them have to be shown, in order."""
        at = index % EVERY
        if at == 0:
            keys = self._decoder.keys
            self._key = keys[0] if keys and raw.stamp is not None and keys[0].stamp <= raw.stamp else None
            self._window = _Window() if self._key else None
        if at >= WINDOW or self._window is None or self._key is None:
            return
        if not self._window.add(raw):
            self._window = None
        elif at == WINDOW - 1 and self._decoder.faults == self._key.faults:
            self._kept.append(self._taken(index, self._window, self._key))

    def _taken(self, index: int, window: _Window, key: Key) -> Landmark:
        account = self._decoder.account()
        return Landmark(
            frame=index,
            first=window.stamps[0],
            last=window.stamps[-1],
            digest=window.digest(),
            place=key.place,
            size=key.size,
            stamp=key.stamp,
            order=key.order,
            errors=account.errors,
            why=account.why,
            loose=account.loose,
            failed=account.failed,
            by_decoding=self._decoder.by_decoding,
        )

    def at(self, frame: int) -> Landmark | None:
        """Return the last landmark at or before a frame, None where none of those that are kept is."""
        return next((mark for mark in reversed(tuple(self._kept)) if mark["frame"] <= frame), None)


@dataclass(frozen=True, slots=True, eq=False)
class Resumed:
    """A reading that goes on behind a landmark.

    Attributes
    ----------
    landmark
        The landmark.
    before
        Its frame.
    decoder
        What decodes the film now.
    raws
        The frames behind it.
    """

    landmark: Landmark
    before: Raw
    decoder: Decoder
    raws: Iterator[Raw]


def resume(
    container: InputContainer, stream: VideoStream, name: str, landmark: Mapping[str, Any], *, max_pixels: int
) -> Resumed | None:
    """Go to a landmark; None where it is not found, or the pictures there are not those that it vouches for.

    What the container gives next is then undefined: open it anew and read from the beginning.
    """
    try:
        mark = _read(landmark)
        packets = _from_key(container, stream, mark)
        if packets is None:
            return None
        decoder = Decoder(container, stream, name, max_pixels=max_pixels, packets=packets)
        decoder.by_decoding = mark["by_decoding"]
        raws = iter(decoder)
        last = _vouched(raws, mark)
    except (av.FFmpegError, KeyError, TypeError, ValueError, OverflowError):
        return None
    if last is None or decoder.faults or decoder.by_decoding != mark["by_decoding"]:
        return None
    decoder.carry(Account(mark["errors"], mark["why"], mark["loose"], mark["failed"]))
    return Resumed(mark, last, decoder, raws)


def _read(landmark: Mapping[str, Any]) -> Landmark:
    """Return a landmark that was written as JSON and read again; KeyError or ValueError where it is none."""
    kinds = get_type_hints(Landmark)
    values = {key: kind(landmark[key]) for key, kind in kinds.items()}
    return cast(Landmark, values)


def _from_key(container: InputContainer, stream: VideoStream, mark: Landmark) -> Iterator[Packet[VideoStream]] | None:
    """Return the packets from the landmark's key packet on."""
    container.seek(mark["order"], stream=stream, backward=True)
    packets = container.demux(stream)
    for packet in islice(packets, _PATIENCE):
        stamp = packet.dts if packet.pts is None else packet.pts
        # The place in the file makes it unique: a stamp may come again, as in films joined from several.
        if (packet.pos, packet.size, stamp) == (mark["place"], mark["size"], mark["stamp"]) and packet.is_keyframe:
            return chain([packet], packets)
        if packet.dts is not None and packet.dts > max(mark["order"], mark["stamp"]):
            return None
    return None


def _vouched(raws: Iterator[Raw], mark: Landmark) -> Raw | None:
    """Decode up to the landmark; return its frame if all that it vouches for are what they were."""
    window = _Window()
    for raw in islice(raws, _PATIENCE):
        if raw.stamp is not None and raw.stamp < mark["first"]:
            continue
        if not window.add(raw):
            return None
        if len(window.stamps) == WINDOW:
            same = (window.stamps[0], window.stamps[-1], window.digest()) == (
                mark["first"],
                mark["last"],
                mark["digest"],
            )
            return raw if same else None
    return None
