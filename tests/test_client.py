"""The client against a server that follows a script: what it sends, what it does with odd answers and broken lines."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fakes import scene
from scripted import JOB, Reply, asking, event, lines, refusal, reply, scripted, sse, table

from mien.client import Client, Job, ServiceError
from mien.client.body import film
from mien.client.wire import Wire
from mien.errors import DecodeError, ShapeError, SourceError, SourceNotFoundError
from mien.results.columns import Reason
from mien.results.faces import Faces


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody sleeps; how long they would have is noted."""
    noted: list[float] = []
    monkeypatch.setattr(Wire, "pause", lambda _, seconds: noted.append(seconds))
    return noted


def test_importing_the_client_loads_no_heavy_library(tmp_path: Path) -> None:
    code = "import sys, mien.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    loaded = set(done.stdout.split())
    assert "mien.client" in loaded
    assert loaded.isdisjoint({"cv2", "av", "onnxruntime", "fastapi", "httpx", "httpx2", "pyarrow", "asyncio"})


# Pictures


def test_one_picture_goes_as_it_is_and_keeps_its_name_here(tmp_path: Path) -> None:
    path = tmp_path / "private name.jpg"
    path.write_bytes(b"\xff\xd8 some bytes")
    faces, answer = table("picture")
    with asking(reply(200, answer)) as (script, service):
        found = service.analyze(path, labels="eight", min_score=0.25, best_only=True)
    assert found == faces.with_(sources=(str(path),))
    assert found.expression.tobytes() == faces.expression.tobytes()
    asked = script.asked[0]
    assert asked.body == b"\xff\xd8 some bytes"
    assert asked.target == "/v1/analyze?format=jsonl&labels=eight&min_score=0.25&best_only=true"
    assert "private" not in str(asked)


def test_several_pictures_go_as_a_form_and_come_back_in_order_under_their_names() -> None:
    faces, answer = table("0", "1")
    with asking(reply(200, answer)) as (script, service):
        found = service.analyze([b"one", b"two"])
    assert found == faces.with_(sources=("picture 0", "picture 1"))
    asked = script.asked[0]
    kind, _, edge = asked.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    parts = asked.body.split(f"--{edge}".encode())
    assert [p.partition(b"\r\n\r\n")[2] for p in parts[1:-1]] == [b"one\r\n", b"two\r\n"]
    assert parts[-1] == b"--\r\n"


def test_many_pictures_go_in_several_requests() -> None:
    parts = [table("0", "1"), table("0", "1"), table("picture")]
    with asking(*(reply(200, answer) for _, answer in parts)) as (script, service):
        found = service.analyze([b"a", b"b", b"c", b"d", b"e"], at_once=2)
    assert found.source_names.tolist() == [f"picture {n}" for n in range(5)]
    assert len({a.link for a in script.asked}) == 1, "the connection is used again"


def test_large_pictures_do_not_make_one_request_too_large() -> None:
    large = bytes(13 * 1024 * 1024)
    with asking(*(reply(200, table("picture")[1]) for _ in range(2))) as (script, service):
        assert len(service.analyze([large, large])) == 2
    assert [len(a.body) for a in script.asked] == [len(large)] * 2


def test_the_same_picture_twice_is_one_source_with_two_rows() -> None:
    with asking(reply(200, table("0", "1")[1])) as (_script, service):
        path = Path(__file__)
        found = service.analyze([path, path])
    assert found.sources == (str(path),)
    assert found.source.tolist() == [0, 0]


def test_no_picture_is_no_request() -> None:
    with asking() as (script, service):
        assert len(service.analyze([])) == 0
    assert script.asked == []


def test_an_array_is_sent_without_loss() -> None:
    array = scene(40)
    with asking(reply(200, table("picture")[1])) as (script, service):
        service.analyze(array)
    sent = cv2.imdecode(np.frombuffer(script.asked[0].body, np.uint8), cv2.IMREAD_COLOR_RGB)
    np.testing.assert_array_equal(sent, array)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("missing.jpg", SourceNotFoundError, "no such file"),
        (".", SourceError, "cannot be read"),
        ("a\0b", SourceError, "cannot be read"),
        (3.5, TypeError, "iterable"),
        ([3.5], ShapeError, "a path, bytes or an array"),
        (np.zeros((4, 4), np.uint8), ShapeError, r"\(H, W, 3\)"),
    ],
)
def test_what_is_no_picture_is_refused_here(source: Any, error: type[Exception], message: str) -> None:
    with asking() as (script, service), pytest.raises(error, match=message):
        service.analyze(source)
    assert script.asked == []


def test_a_picture_that_the_service_cannot_read_is_an_error_with_its_name() -> None:
    bad = Faces.concat([table("0")[0], Faces.missing("1", Reason.UNREADABLE)])
    with (
        asking(reply(200, lines(bad))) as (_script, service),
        pytest.raises(DecodeError, match="picture 1: the service cannot read it"),
    ):
        service.analyze([b"good", b"bad"])


def test_one_picture_alone_that_the_service_cannot_read_is_the_same_error() -> None:
    with (
        asking(refusal(415, "not_a_picture", "not a picture, by its content", hint="save it as PNG")) as (_, service),
        pytest.raises(DecodeError, match="picture 0: not a picture, by its content; save it as PNG"),
    ):
        service.analyze(b"bad")


@pytest.mark.parametrize("answer", [b"<html>", b'{"hello": 1}\n', lines(table("9", "0")[0]), lines(table("x", "0")[0])])
def test_an_answer_that_is_no_table_is_a_service_error(answer: bytes) -> None:
    with asking(reply(200, answer)) as (_script, service):
        with pytest.raises(ServiceError, match="is it mien") as caught:
            service.analyze([b"1", b"2"])
        assert caught.value.code == "strange"


def test_the_annotated_picture_comes_as_it_is() -> None:
    with asking(reply(200, b"\xff\xd8jpeg")) as (script, service):
        assert service.annotated(b"picture", labels="seven") == b"\xff\xd8jpeg"
    assert script.asked[0].target == "/v1/analyze?format=jpeg&labels=seven"


# Films and jobs


def test_a_film_is_sent_as_a_form_with_its_name_and_its_options(tmp_path: Path) -> None:
    path = tmp_path / 'a "film"\n.mp4'
    path.write_bytes(b"moving pictures")
    with asking(reply(202, JOB)) as (script, service):
        job = service.submit(path, every=2, annotate=False)
    assert (job.id, job.state, job.over, job.progress.fraction, job.results[0].bytes) == (
        "j1",
        "running",
        False,
        0.5,
        9,
    )
    assert job.created.isoformat() == "2026-01-02T03:04:05+00:00"
    asked = script.asked[0]
    assert asked.target == "/v1/films?every=2&annotate=false"
    assert b'filename="a %22film%22%0A.mp4"' in asked.body
    assert b"\r\n\r\nmoving pictures\r\n--" in asked.body


def test_a_film_may_be_an_open_file_or_bytes() -> None:
    file = io.BytesIO(b"skipped film")
    file.seek(8)
    with asking(reply(202, JOB), reply(202, JOB)) as (script, service):
        service.submit(file, name="mine.mkv")
        service.submit(b"bytes")
    assert b'filename="mine.mkv"' in script.asked[0].body
    assert [a.body.split(b"\r\n\r\n")[1].split(b"\r\n")[0] for a in script.asked] == [b"film", b"bytes"]


def test_memory_does_not_grow_with_a_film(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    with asking(refusal(507, "disk", "no room", early=True, close=True)) as (_script, service):
        tracemalloc.start()
        try:
            with pytest.raises(ServiceError, match="no room"):
                service.submit(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


def test_a_film_that_is_refused_on_the_way_is_not_sent_to_its_end() -> None:
    class Endless(io.RawIOBase):
        """A film of a terabyte, of which somebody counts what is read."""

        read_bytes = 0

        def tell(self) -> int:
            return 0

        def seek(self, place: int, whence: int = 0) -> int:
            return 2**40 if whence else 0

        def read(self, size: int = -1) -> bytes:
            self.read_bytes += size
            return bytes(size)

    endless: Any = Endless()
    busy = refusal(413, "too_many_bytes", "too long", early=True, close=True)
    with asking(busy) as (_script, service), pytest.raises(ServiceError, match="too long") as caught:
        service.submit(endless)
    assert caught.value.status == 413
    assert endless.read_bytes < 2**30


@pytest.mark.parametrize("kept", [0, 3])
def test_a_film_that_shrinks_while_it_is_sent_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(bytes(10))
    sent = film(path, None)
    os.truncate(path, kept)
    with pytest.raises(SourceError, match=r"film\.mp4: became shorter"):
        list(sent.pieces())


def test_a_film_that_is_away_when_it_is_sent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"film")
    sent = film(path, None)
    path.unlink()
    monkeypatch.setattr("mien.client.api.film", lambda *_: sent)
    with asking() as (_script, service), pytest.raises(SourceNotFoundError, match="no such file"):
        service.submit(path)


def test_a_film_is_sent_once_even_where_the_answer_is_lost() -> None:
    with asking(Reply(b"", close=True)) as (script, service), pytest.raises(ServiceError) as caught:
        service.submit(b"film")
    assert (caught.value.code, caught.value.status, len(script.asked)) == ("unreachable", None, 1)


def test_jobs_are_told_of_and_deleted() -> None:
    with (
        scripted(reply(200, JOB), reply(200, {"jobs": [JOB, JOB | {"id": "b"}]}), reply(204)) as script,
        Client(script.address) as service,
    ):
        job = service.job("j1")
        assert [j.id for j in service.jobs()] == ["j1", "b"]
        service.delete(job)
    assert [(a.method, a.target) for a in script.asked] == [
        ("GET", "/v1/jobs/j1"),
        ("GET", "/v1/jobs"),
        ("DELETE", "/v1/jobs/j1"),
    ]


def test_an_id_cannot_lead_elsewhere() -> None:
    with (
        asking(refusal(404, "job", "no such job")) as (script, service),
        pytest.raises(ServiceError, match="no such job"),
    ):
        service.job("../models?x=1#")
    assert script.asked[0].target == "/v1/jobs/..%2Fmodels%3Fx%3D1%23"


def test_waiting_tells_of_each_event_and_ends_with_the_job() -> None:
    events = sse(b": alive\n\n", event("progress"), event("end", state="done"), event("progress", state="running"))
    told: list[Job] = []
    with asking(events) as (script, service):
        job = service.wait("j1", tell=told.append)
    assert job.over
    assert [j.state for j in told] == ["running", "done"]
    assert script.asked[0].headers["accept"] == "text/event-stream"


def test_a_job_that_failed_says_why() -> None:
    failed = event("end", state="failed", error={"code": "not_readable", "message": "no film"})
    with asking(sse(failed)) as (_script, service):
        job = service.wait("j1")
    assert job.error is not None
    assert (job.state, job.error.code, job.error.message) == ("failed", "not_readable", "no film")


def test_events_go_on_where_the_connection_broke(pauses: list[float]) -> None:
    replies = [
        sse(event("progress", attempts=1), b'event: progress\ndata: {"id": "cut'),
        refusal(503, "stopping", "it stops", headers={"Retry-After": "2"}),
        Reply(b"", close=True),
        Reply(b"", close=True),
        sse(event("progress", attempts=2), event("end", state="done", attempts=2)),
    ]
    with asking(*replies) as (_script, service):
        assert [(j.state, j.attempts) for j in service.events("j1")] == [("running", 1), ("running", 2), ("done", 2)]
    assert pauses[:2] == [1.0, 2.0]


def test_events_of_a_service_that_stays_away_end_with_an_error(pauses: list[float]) -> None:
    with (
        scripted(sse(event("progress")), *[Reply(b"", close=True)] * 9) as script,
        Client(script.address, patience=3) as service,
        pytest.raises(ServiceError) as caught,
    ):
        list(service.events("j1"))
    assert caught.value.code == "unreachable"
    assert pauses.count(1.0) == 3


def test_events_of_no_job_are_refused_at_once() -> None:
    with (
        asking(refusal(404, "job", "no such job")) as (script, service),
        pytest.raises(ServiceError, match="no such job"),
    ):
        service.wait("x")
    assert len(script.asked) == 1


def test_an_event_that_is_no_job_is_said() -> None:
    with (
        asking(*[sse(b"data: [1]\n\n")] * 3, patience=2) as (_script, service),
        pytest.raises(ServiceError, match="no job"),
    ):
        service.wait("j1")
