"""Live sources: a scripted camera, and a server on this machine."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread

import cv2
import numpy as np
import pytest
from films import make_film, number_of, numbered

from mien.errors import DecodeError, OptionError, SourceError
from mien.media.camera import Camera, Shot, open_capture
from mien.media.video import Frame

FRAMES = numbered(40)


class Script:
    """A camera that gives the frames of `FRAMES` one after the other, each only when the test lets it."""

    def __init__(self, count: int, *, live: bool = True, gates: dict[int, Event] | None = None) -> None:
        self.live = live
        self.done, self.closed = Event(), Event()
        self.converted: list[int] = []
        self._count, self._next, self._gates = count, 0, gates or {}

    def read(self) -> Shot | None:
        number = self._next
        if number in self._gates:
            self._gates[number].wait(10)
        if number == self._count:
            self.done.set()
            return None
        self._next += 1
        return Shot(lambda: self._convert(number), None if self.live else number / 10)

    def _convert(self, number: int) -> np.ndarray:
        self.converted.append(number)
        return FRAMES[number]

    def close(self) -> None:
        self.closed.set()


def numbers(frames: list[Frame]) -> list[int]:
    return [number_of(f.picture) for f in frames if f.picture is not None]


def test_a_slow_reader_gets_the_newest_frame() -> None:
    go = Event()
    script = Script(10, gates={1: go})
    with Camera(0, open=lambda _: script) as camera:
        frames = iter(camera)
        first = next(frames)
        go.set()
        assert script.done.wait(10)
        rest = list(frames)
    assert numbers([first, *rest]) == [0, 9]
    assert [f.index for f in (first, *rest)] == [0, 1]
    assert camera.dropped == 8
    assert script.converted == [0, 9]
    assert script.closed.wait(10)


def test_time_is_that_of_arrival_and_seconds_end_it() -> None:
    gates = {n: Event() for n in range(1, 10)}
    script = Script(10, gates=gates)
    ticks = itertools.count(100.0, 0.5)
    with Camera(3, seconds=2, open=lambda _: script, clock=lambda: next(ticks)) as camera:
        frames = []
        for frame in camera:
            frames.append(frame)
            gates[frame.index + 1].set()
        for gate in gates.values():
            gate.set()
    times = [f.time for f in frames]
    assert times[0] == 0
    assert times == sorted(times)
    assert 0 < times[-1] < 2
    assert camera.name == "3"
    assert (camera.frames, camera.duration, camera.fps, camera.has_sound) == (None, None, None, False)


def test_a_recording_is_read_in_full_by_its_own_times() -> None:
    script = Script(30, live=False)
    with Camera("http://host/film.mp4", open=lambda _: script) as camera:
        frames = list(camera)
    assert numbers(frames) == list(range(30))
    assert camera.dropped == 0
    np.testing.assert_allclose([f.time for f in frames], np.arange(30) / 10)
    with Camera("http://host/film.mp4", open=lambda _: Script(30, live=False), seconds=1) as camera:
        assert numbers(list(camera)) == list(range(10))


def test_a_camera_that_freezes() -> None:
    stuck = Event()
    with Camera(0, open=lambda _: Script(5, gates={1: stuck}), patience=0.05) as camera:
        frames = iter(camera)
        next(frames)
        with pytest.raises(SourceError, match=r"camera 0: no frame for 0\.05 s"):
            next(frames)
        stuck.set()


def test_a_frozen_camera_whose_time_is_over_ends_in_peace() -> None:
    stuck = Event()
    now = [0.0]
    with Camera(0, open=lambda _: Script(5, gates={1: stuck}), clock=lambda: now[0], seconds=5) as camera:
        frames = iter(camera)
        next(frames)
        now[0] = 6.0
        assert list(frames) == []
        stuck.set()


def test_a_camera_that_gives_nothing() -> None:
    with (
        Camera(2, open=lambda _: Script(0)) as camera,
        pytest.raises(SourceError, match="camera 2: it opened but gave no"),
    ):
        next(iter(camera))


@pytest.mark.parametrize(
    ("raised", "told"),
    [(OSError("cable"), r"camera 1: reading failed \(cable\)"), (SourceError("own line"), "own line")],
)
def test_an_error_of_the_reading_thread_is_raised_to_the_reader(raised: Exception, told: str) -> None:
    class Broken(Script):
        def read(self) -> Shot | None:
            raise raised

    script = Broken(3)
    with Camera(1, open=lambda _: script) as camera, pytest.raises(SourceError, match=told):
        next(iter(camera))
    assert script.closed.is_set()


def test_a_frame_that_is_lost_is_a_frame_without_a_picture() -> None:
    shots = iter([Shot(None, 0.1, "the frame is damaged"), None])
    script = Script(1, live=False)
    script.read = lambda: next(shots)  # type: ignore[method-assign]  # a script of this test alone
    with Camera("rtsp://host/a", open=lambda _: script) as camera:
        (frame,) = camera
    assert (frame.picture, frame.time, frame.error) == (None, 0.1, "the frame is damaged")


def test_news_of_a_lost_frame_does_not_replace_a_picture() -> None:
    go = Event()

    class Lossy(Script):
        def read(self) -> Shot | None:
            shot = super().read()
            return Shot(None, error="lost") if shot is not None and self._next == 3 else shot

    script = Lossy(3, gates={1: go})
    with Camera(0, open=lambda _: script) as camera:
        frames = iter(camera)
        first = next(frames)
        go.set()
        assert script.done.wait(10)
        assert numbers([first, *frames]) == [0, 1]
    assert camera.dropped == 1


def test_leaving_early_lets_go_of_the_camera() -> None:
    script = Script(40)
    with Camera(0, open=lambda _: script) as camera:
        next(iter(camera))
    assert script.closed.wait(10)
    assert list(camera) == []
    never_read = Script(5)
    with Camera(0, open=lambda _: never_read):
        pass
    assert never_read.closed.is_set()


def test_impossible_seconds() -> None:
    with pytest.raises(OptionError, match="seconds must be more than 0"):
        Camera(0, seconds=0, open=lambda _: Script(1))


# OpenCV's camera, without one


class Device:
    def __init__(self, opened: bool) -> None:
        self._opened, self._left = opened, 2
        self.released = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self._opened

    def read(self) -> tuple[bool, np.ndarray | None]:
        self._left -= 1
        return (True, FRAMES[5][..., ::-1]) if self._left >= 0 else (False, None)

    def release(self) -> None:
        self.released = True


def test_a_device_gives_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(opened=True)
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: device)
    capture = open_capture(0)
    shot = capture.read()
    assert shot is not None
    assert shot.picture is not None
    assert shot.time is None
    np.testing.assert_array_equal(shot.picture(), FRAMES[5])
    assert capture.read() is not None
    assert capture.read() is None
    capture.close()
    assert device.released


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: Device(opened=False))
    with pytest.raises(SourceError, match="camera 7: cannot be opened; check that it is plugged in"):
        Camera(7)


# Addresses


@contextmanager
def served(data: bytes, *, sized: bool, status: int = 200, whole: bool = True) -> Iterator[str]:
    """Serve bytes at an address of this machine; without a size they are a live stream, which may end in mid-air."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0]) if sized else 0
            self.send_response(206 if sized and start and status == 200 else status)
            if sized:
                self.send_header("Content-Length", str(len(data) - start))
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("Accept-Ranges", "bytes")
            elif whole:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)
                self.wfile.write(chunked if whole and not sized else data[start:])
            except OSError:  # the reader has left
                return

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/film"
        finally:
            server.shutdown()
            thread.join()


def test_a_film_on_a_server_is_read_in_full(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", FRAMES, fps=25)
    with served(path.read_bytes(), sized=True) as url, Camera(url) as camera:
        frames = list(camera)
    assert camera.name == url
    assert numbers(frames) == list(range(40))
    assert camera.dropped == 0
    np.testing.assert_allclose([f.time for f in frames], np.arange(40) / 25, atol=1e-4)


def test_a_live_stream_loses_frames_but_not_the_last(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.ts", FRAMES, bframes=0)
    with served(path.read_bytes(), sized=False) as url, Camera(url) as camera:
        frames = list(camera)
    read = numbers(frames)
    assert read == sorted(set(read))
    assert read[-1] == 39
    assert len(read) + camera.dropped == 40
    assert [f.index for f in frames] == list(range(len(frames)))


def test_a_stream_whose_connection_breaks_says_so(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.ts", FRAMES, bframes=0)
    with served(path.read_bytes(), sized=False, whole=False) as url:
        capture = open_capture(url)
        *shots, last = iter(capture.read, None)
        capture.close()
    assert len(shots) == 40
    assert all(s.picture for s in shots)
    assert last.picture is None
    assert "it breaks off here" in last.error


def test_addresses_that_do_not_answer(tmp_path: Path) -> None:
    with served(b"", sized=True, status=404) as url, pytest.raises(SourceError, match="cannot be opened") as caught:
        Camera(url)
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="cannot be opened"):
        Camera(url)  # the server is gone
    with served(io.BytesIO(b"hello world " * 100).read(), sized=True) as url, pytest.raises(DecodeError, match="film"):
        Camera(url)
