from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import BlueDetector, RedReader
from fastapi.testclient import TestClient
from gate import Gate, until
from serving import client, face, fake_analyzer, plain, settings
from starlette.websockets import WebSocket, WebSocketDisconnect

from mien.pipeline.analyzer import Analyzer, Settings
from mien.serve.app import create_app
from mien.serve.engine import Load
from mien.serve.picture import SEARCH_EVERY
from mien.serve.shapes import StreamFaces, StreamReady
from mien.serve.stream import _Stream

STREAM = "ws://127.0.0.1:8000/v1/stream"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[TestClient]:
    with client(tmp_path) as held:
        yield held


def load(web: TestClient) -> Load:
    held: Load = web.app.state.service.engine.load()  # type: ignore[attr-defined]  # it is a FastAPI application
    return held


def ending(camera: Any) -> tuple[int, str, str]:
    """Return how a stream ends: code and reason of the closing, and the code of the error before it."""
    said = camera.receive_json()
    assert said["type"] == "error"
    with pytest.raises(WebSocketDisconnect) as closed:
        camera.receive_json()
    return closed.value.code, closed.value.reason, said["error"]["code"]


def test_a_camera_is_greeted_and_each_frame_is_answered(web: TestClient) -> None:
    with web.websocket_connect(STREAM) as camera:
        ready = camera.receive_json()
        StreamReady.model_validate(ready, extra="forbid")
        assert len(ready["colours"]) == len(ready["labels"]) == 8
        for number in range(3):
            camera.send_bytes(face())
            seen = camera.receive_json()
            StreamFaces.model_validate(seen, extra="forbid")
            assert (seen["frame"], seen["dropped"], seen["width"], seen["height"]) == (number, 0, 160, 120)
            assert [(f["top"], f["track"], f["frame"]) for f in seen["faces"]] == [("happy", 0, number)]
            assert 0 <= seen["faces"][0]["time"] < 30
        camera.send_bytes(plain())
        none = camera.receive_json()
        assert load(web).streams == 1
    assert none["hint"] is not None or none["faces"]
    until(lambda: load(web).streams == 0)


def test_faces_are_searched_for_now_and_then_and_followed_in_between(tmp_path: Path) -> None:
    find = BlueDetector()
    reader = Analyzer(Settings(threads=1, read_all=True), find=find, read=RedReader())
    with (
        TestClient(create_app(settings(tmp_path), analyzer=reader, run=False), base_url="http://127.0.0.1:8000") as web,
        web.websocket_connect(STREAM) as camera,
    ):
        camera.receive_json()
        before, carried = find.calls, []
        for _ in range(2 * SEARCH_EVERY):
            camera.send_bytes(face())
            carried.append(camera.receive_json()["faces"][0]["carried"])
        assert find.calls - before == 2
    assert carried == ([False] + [True] * (SEARCH_EVERY - 1)) * 2


def test_a_bad_frame_is_told_and_the_stream_goes_on(tmp_path: Path) -> None:
    with (
        client(tmp_path, limits={"frame_bytes": 10_000, "pixels": 20_000}) as web,
        web.websocket_connect(STREAM) as camera,
    ):
        camera.receive_json()
        wrong = {
            b"": "not_readable",
            b"no picture": "not_readable",
            face()[:100]: "not_readable",
            plain(width=200): "too_many_pixels",
            b"\xff" * 10_001: "too_large",
        }
        for number, (bad, code) in enumerate(wrong.items()):
            camera.send_bytes(bad)
            said = camera.receive_json()
            assert (said["type"], said["error"]["code"], said["frame"]) == ("error", code, number)
        camera.send_bytes(face())
        seen = camera.receive_json()
        assert (seen["frame"], seen["faces"][0]["top"]) == (5, "happy")


def test_options_hold_for_the_frames_after_them(web: TestClient) -> None:
    with web.websocket_connect(STREAM) as camera:
        camera.receive_json()
        camera.send_text('{"labels": "three", "min_score": 0.9}')
        assert camera.receive_json()["labels"] == ["negative", "happy", "neutral"]
        camera.send_bytes(face())
        first = camera.receive_json()["faces"][0]
        assert (first["top"], first["reason"], set(first["scores"])) == (
            None,
            ["low_score"],
            {"negative", "happy", "neutral"},
        )
        camera.send_text("{}")
        assert len(camera.receive_json()["labels"]) == 8
        camera.send_bytes(face())
        second = camera.receive_json()["faces"][0]
        assert (second["top"], second["track"]) == ("happy", first["track"])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("labels=three", "json"),
        ("[1]", "json"),
        ("[" * 900, "json"),
        ('{"labels": "nine"}', "unknown_label"),
        ('{"min_score": 2}', "option"),
        ('{"speed": 2}', "option"),
        ('{"labels": "' + "x" * 2000 + '"}', "too_large"),
    ],
)
def test_wrong_options_are_told_and_change_nothing(web: TestClient, text: str, code: str) -> None:
    with web.websocket_connect(STREAM) as camera:
        camera.receive_json()
        camera.send_text(text)
        said = camera.receive_json()
        assert (said["type"], said["error"]["code"]) == ("error", code)
        camera.send_bytes(face())
        assert len(camera.receive_json()["faces"][0]["scores"]) == 8


def gated(tmp_path: Path, gate: Gate, **changes: Any) -> TestClient:
    reader = Analyzer(Settings(threads=1, read_all=True), find=gate, read=RedReader())
    app = create_app(settings(tmp_path, **changes), analyzer=reader, run=False)
    return TestClient(app, base_url="http://127.0.0.1:8000")


def test_the_newest_frame_wins_and_nothing_piles_up(tmp_path: Path) -> None:
    gate = Gate()
    with gated(tmp_path, gate, threads=1) as web, web.websocket_connect(STREAM) as camera:
        camera.receive_json()
        camera.send_bytes(face())
        assert gate.entered.acquire(timeout=20)
        for number in range(1, 8):
            camera.send_bytes(face(width=160 + number))
        camera.send_text("{}")  # answered when all before it were taken in
        assert camera.receive_json()["type"] == "ready"
        assert load(web).waiting == 0  # the frame that waits does so at the camera's own place
        gate.open.set()
        answers = [camera.receive_json() for _ in range(2)]
        camera.send_bytes(face())
        answers.append(camera.receive_json())
    assert [(a["frame"], a["dropped"], a["width"]) for a in answers] == [(0, 6, 160), (7, 6, 167), (8, 6, 160)]


def test_a_camera_that_leaves_gives_its_place_back_and_its_frame_is_dropped(tmp_path: Path) -> None:
    gate, reader = Gate(), RedReader()
    analyzer = Analyzer(Settings(threads=1, read_all=True), find=gate, read=reader)
    app = create_app(settings(tmp_path, threads=1), analyzer=analyzer, run=False)
    with TestClient(app, base_url="http://127.0.0.1:8000") as web:
        with web.websocket_connect(STREAM) as camera:
            camera.receive_json()
            camera.send_bytes(face())
            assert gate.entered.acquire(timeout=20)
        until(lambda: load(web).streams == 0)
        web.get("/healthz")  # once round the loop
        assert load(web).running == 1
        before = len(reader.batches)
        gate.open.set()
        until(lambda: load(web).running == 0)
        assert len(reader.batches) == before


def test_past_the_limit_a_camera_is_told_to_come_later(tmp_path: Path) -> None:
    with client(tmp_path, limits={"streams": 1}) as web, web.websocket_connect(STREAM) as first:
        first.receive_json()
        with web.websocket_connect(STREAM) as second:
            assert ending(second) == (1013, "streams", "streams")
        first.send_bytes(face())
        assert first.receive_json()["faces"]


def test_without_a_purpose_no_camera_is_read(tmp_path: Path) -> None:
    with client(tmp_path, purpose=None) as web, web.websocket_connect(STREAM) as camera:
        assert ending(camera) == (1008, "purpose", "purpose")


def test_a_silent_camera_is_let_go(tmp_path: Path) -> None:
    with client(tmp_path, limits={"idle_seconds": 0.1}) as web:
        with web.websocket_connect(STREAM) as camera:
            camera.receive_json()
            assert ending(camera) == (1000, "idle", "idle")
        until(lambda: load(web).streams == 0)


def test_a_closing_service_says_so(tmp_path: Path) -> None:
    with client(tmp_path) as web, web.websocket_connect(STREAM) as camera:
        camera.receive_json()
        web.app.state.service.engine._closed = True  # type: ignore[attr-defined]  # it is a FastAPI application
        camera.send_bytes(face())
        assert ending(camera) == (1013, "closing", "closing")


def test_a_frame_that_takes_too_long_is_told_and_the_next_one_is_read(tmp_path: Path) -> None:
    gate = Gate()
    with (
        gated(tmp_path, gate, threads=1, limits={"seconds": 0.1}) as web,
        web.websocket_connect(STREAM) as camera,
    ):
        camera.receive_json()
        camera.send_bytes(face())
        said = camera.receive_json()
        assert (said["error"]["code"], said["frame"]) == ("timeout", 0)
        gate.open.set()
        until(lambda: load(web).running == 0)
        camera.send_bytes(face())
        assert camera.receive_json()["frame"] == 1


class Deaf(WebSocket):
    """A client that sends frames and reads nothing."""

    sent = 0

    async def receive(self) -> Any:
        await asyncio.sleep(0.001)
        return {"type": "websocket.receive", "bytes": face()}

    async def send_text(self, data: str) -> None:
        self.sent += 1
        if self.sent > 1:
            await asyncio.Event().wait()


def test_a_client_that_does_not_listen_is_let_go(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, limits={"idle_seconds": 0.2}), analyzer=fake_analyzer(), run=False)
    held = app.state.service

    async def work() -> tuple[int, float]:
        await held.engine.start()
        begin = time.monotonic()
        with held.engine.stream() as camera:
            deaf = Deaf({"type": "websocket", "app": app, "headers": []}, None, None)  # type: ignore[arg-type]  # neither is called
            stream = _Stream(deaf, held, camera)
            await asyncio.wait_for(stream.run(), 20)
        await held.engine.close()
        return stream.frames - stream.dropped, time.monotonic() - begin

    taken, seconds = asyncio.run(work())
    assert taken <= 4
    assert seconds < 10


@pytest.mark.shared
def test_a_real_clip_gives_one_track(tmp_path: Path, shared: Path) -> None:
    import cv2

    from mien.media.video import Film

    app = create_app(settings(tmp_path), run=False)
    tracks: list[set[int]] = []
    with (
        Film(shared / "pictures" / "clips" / "single_face.mp4") as film,
        TestClient(app, base_url="http://127.0.0.1:8000") as web,
        web.websocket_connect(STREAM) as camera,
    ):
        camera.receive_json()
        for frame in film:
            assert frame.picture is not None
            camera.send_bytes(cv2.imencode(".jpg", frame.picture[..., ::-1])[1].tobytes())
            seen = camera.receive_json()
            tracks.append({f["track"] for f in seen["faces"]})
            if frame.index == 11:
                break
    assert len(set().union(*tracks)) == 1
    assert sum(map(len, tracks)) == 12
