"""Live pictures: a camera or a stream, always the newest frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Protocol, Self

import cv2
import numpy as np

from ..errors import MienError, OptionError, SourceError
from ..image import Picture
from .stills import quiet
from .video import Frame, open_container, raw_frames, to_picture, video_stream

__all__ = ["Camera", "Capture", "Shot", "open_capture"]

_PATIENCE = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class Shot:
    """What a capture gives: pixels still to be converted, since most of a fast camera's are never asked for.

    Attributes
    ----------
    picture
        Makes the picture, (H, W, 3) uint8 RGB; None where the frame could not be decoded.
    time
        Seconds by the recording's own clock; None where the time of arrival is all there is.
    error
        Why there is no picture, else empty.
    """

    picture: Callable[[], Picture] | None
    time: float | None = None
    error: str = ""


class Capture(Protocol):
    """What a camera is read through.

    Attributes
    ----------
    live
        Frames come whether they are read or not. Where this is False, as with a film on a web server, reading waits
        for the reader and nothing is dropped.
    """

    live: bool

    def read(self) -> Shot | None:
        """Wait for the next frame; None at the end."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


class _Device:
    """A camera at this machine."""

    live = True

    def __init__(self, number: int) -> None:
        with quiet():
            self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            self._capture.release()
            msg = f"camera {number}: cannot be opened; check that it is plugged in and that no other program uses it"
            raise SourceError(msg)

    def read(self) -> Shot | None:
        got, array = self._capture.read()
        return Shot(lambda: _from_bgr(array)) if got else None

    def close(self) -> None:
        self._capture.release()


def _from_bgr(array: Any) -> Picture:
    return np.asarray(cv2.cvtColor(array, cv2.COLOR_BGR2RGB), np.uint8)


class _Stream:
    """An address: rtsp, rtmp, http, https or udp."""

    def __init__(self, url: str) -> None:
        options = {"rtsp_transport": "tcp"} if url.lower().startswith("rtsp") else None
        self._container = open_container(url, url, timeout=(_PATIENCE, _PATIENCE), options=options)
        try:
            # What says how long it is, is a recording and can be read at any pace.
            self.live = self._container.duration is None
            self._raws = raw_frames(self._container, video_stream(self._container, url), url)
        except BaseException:
            self._container.close()
            raise

    def read(self) -> Shot | None:
        raw = next(self._raws, None)
        if raw is None:
            return None
        seconds = None if self.live else raw.time
        frame = raw.frame
        return Shot(None, seconds, raw.error) if frame is None else Shot(lambda: to_picture(frame), seconds)

    def close(self) -> None:
        self._raws.close()
        self._container.close()


def open_capture(place: int | str) -> Capture:
    """Open a camera by its number or a stream by its address.

    Raises
    ------
    SourceError
        If it cannot be opened, or does not answer within 10 s.
    """
    return _Stream(place) if isinstance(place, str) else _Device(place)


class Camera:
    """A camera or a stream, iterated like a `Film`.

    A thread reads and keeps the newest frame only: a reader that is slower than the camera misses frames but never
    falls behind. A recording behind an address is read in full.

    Parameters
    ----------
    place
        The number of a camera at this machine, from 0, or an address: rtsp, rtmp, http, https, udp.
    seconds
        Stop when so many have passed since the first frame; None goes on until the source ends.
    open
        What opens the place; the default is `open_capture`.
    clock
        What tells the time, in seconds from any beginning.
    patience
        How many seconds without a frame mean that the source is gone.

    Attributes
    ----------
    name : str
        The place as text.
    dropped : int
        Frames that a newer one replaced before they were asked for.
    frames, duration, fps : None
        Not known of anything live; here so that a camera can stand where a `Film` does.
    has_sound : bool
        False; the sound of a stream is not read.

    Raises
    ------
    SourceError
        If it cannot be opened; while iterating, if it gives no frame at all or none for ``patience`` seconds.

    Examples
    --------
    >>> with Camera(0, seconds=10) as camera:  # doctest: +SKIP
    ...     for frame in camera:
    ...         print(frame.index, frame.time, camera.dropped)
    """

    frames: int | None = None
    duration: float | None = None
    fps: float | None = None
    has_sound = False

    def __init__(
        self,
        place: int | str,
        *,
        seconds: float | None = None,
        open: Callable[[int | str], Capture] = open_capture,  # noqa: A002 - the word for it
        clock: Callable[[], float] = time.monotonic,
        patience: float = _PATIENCE,
    ) -> None:
        if seconds is not None and not seconds > 0:
            msg = f"seconds must be more than 0, got {seconds:g}"
            raise OptionError(msg)
        self.name = str(place)
        self.dropped = 0
        self._called = place if isinstance(place, str) else f"camera {place}"
        self._seconds, self._patience, self._clock = seconds, patience, clock
        self._index = 0
        self._first: float | None = None
        self._newest: tuple[Shot, float] | None = None
        self._ended = False
        self._left = False
        self._error: Exception | None = None
        self._changed = Condition()
        self._capture = open(place)
        self._thread = Thread(target=self._read, name="mien-camera", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop reading and let go of the camera."""
        with self._changed:
            self._left = True
            self._changed.notify_all()
        if self._thread.ident is None:
            self._capture.close()
        else:
            # The thread closes what it reads. One that hangs in a dead network is left to its own time limit.
            self._thread.join(timeout=1)

    def __iter__(self) -> Iterator[Frame]:
        """Give the frames as they come; a second loop goes on with the next one."""
        if self._thread.ident is None and not self._left:
            self._thread.start()
        while (taken := self._next()) is not None:
            shot, since = taken
            if self._seconds is not None and since >= self._seconds:
                return
            picture = shot.picture() if shot.picture else None
            yield Frame(picture, self._index, since if shot.time is None else shot.time, shot.error)
            self._index += 1

    def _next(self) -> tuple[Shot, float] | None:
        """Wait for a frame; return it and the seconds since the first one, or None at the end."""
        with self._changed:
            wait = self._patience if self._remaining is None else min(self._patience, self._remaining)
            some = self._changed.wait_for(lambda: self._newest is not None or self._ended or self._left, wait)
            if self._newest is None:
                self._explain(came=some)
                return None
            shot, arrived = self._newest
            self._newest = None
            self._changed.notify_all()
        at = arrived if shot.time is None else shot.time
        self._first = at if self._first is None else self._first
        return shot, at - self._first

    @property
    def _remaining(self) -> float | None:
        # A recording runs by its own clock, which says nothing about how long to wait.
        if self._seconds is None or self._first is None or not self._capture.live:
            return None
        return max(0.0, self._seconds - (self._clock() - self._first))

    def _explain(self, *, came: bool) -> None:
        """Raise if the source should have given a frame."""
        if self._left:
            return
        if self._error is not None:
            if isinstance(self._error, MienError):
                raise self._error
            msg = f"{self._called}: reading failed ({self._error})"
            raise SourceError(msg) from self._error
        if self._ended and self._first is None:
            msg = f"{self._called}: it opened but gave no frame; check that no other program uses it"
            raise SourceError(msg)
        over = self._remaining is not None and self._remaining <= 0
        if not came and not over:
            msg = f"{self._called}: no frame for {self._patience:g} s; the camera or the network has stopped"
            raise SourceError(msg)

    def _read(self) -> None:
        try:
            while not self._left and (shot := self._capture.read()) is not None:
                self._put(shot)
        except Exception as error:  # noqa: BLE001 - it is raised again where the frames are asked for
            self._error = error
        finally:
            self._capture.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, shot: Shot) -> None:
        with self._changed:
            if not self._capture.live:
                self._changed.wait_for(lambda: self._newest is None or self._left)
            self.dropped += self._newest is not None
            if self._newest is None or shot.picture is not None:  # better a picture than the news that one is lost
                self._newest = shot, self._clock()
            self._changed.notify_all()
