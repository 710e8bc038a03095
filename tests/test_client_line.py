"""The client against a server that follows a script: results, tokens, patience, broken connections."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import JOB, Reply, Script, asking, event, refusal, reply, scripted, sse, table

from mien.client import Client, Job, ServiceError
from mien.client.wire import Wire
from mien.errors import OptionError, OutputError
from mien.results.files import write_faces


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody sleeps; how long they would have is noted."""
    noted: list[float] = []
    monkeypatch.setattr(Wire, "pause", lambda _, seconds: noted.append(seconds))
    return noted


# Results


def test_a_result_goes_to_a_file_that_is_whole_or_not_there(tmp_path: Path) -> None:
    data = os.urandom(1_000_000)
    with asking(reply(200, data), reply(200, b"table")) as (script, service):
        path = service.results("j1", "annotated.mp4", tmp_path / "out.mp4")
        assert service.results("j1", "faces.csv", tmp_path) == tmp_path / "faces.csv"
    assert path.read_bytes() == data
    assert sorted(p.name for p in tmp_path.iterdir()) == ["faces.csv", "out.mp4"]
    assert script.asked[0].target == "/v1/jobs/j1/results/annotated.mp4"


def test_a_result_that_breaks_off_is_gone_on_with(tmp_path: Path) -> None:
    data = os.urandom(900)
    rest = reply(206, data[300:], headers={"Content-Range": "bytes 300-899/900"})
    with asking(reply(200, data[:300], length=900, close=True), rest) as (script, service):
        assert service.results("j1", "faces.csv", tmp_path).read_bytes() == data
    assert script.asked[1].headers["range"] == "bytes=300-"


def test_a_result_starts_anew_where_the_server_does_not_go_on(tmp_path: Path) -> None:
    data = os.urandom(900)
    with (
        scripted(reply(200, b"other", length=900, close=True), reply(200, data)) as script,
        Client(script.address) as service,
    ):
        assert service.results("j1", "faces.csv", tmp_path).read_bytes() == data


def test_a_result_that_keeps_breaking_off_leaves_no_file(tmp_path: Path) -> None:
    with (
        asking(*[reply(206, b"x", length=900, close=True)] * 3) as (_script, service),
        pytest.raises(ServiceError, match="broke off"),
    ):
        service.results("j1", "faces.csv", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with asking() as (_script, service), pytest.raises(OutputError, match="does not exist"):
        service.results("j1", "faces.csv", tmp_path / "none" / "faces.csv")


def test_a_full_disk_is_no_fault_of_the_service(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "faces.csv.tmp").symlink_to(full)
    with asking(reply(200, bytes(2_000_000))) as (_script, service), pytest.raises(OutputError, match="disk is full"):
        service.results("j1", "faces.csv", tmp_path)


def test_the_faces_of_a_job_are_those_of_its_file(tmp_path: Path) -> None:
    faces, answer = table("film.mp4")
    write_faces(tmp_path / "same.jsonl", faces)
    assert (tmp_path / "same.jsonl").read_bytes() == answer
    with asking(reply(200, answer)) as (script, service):
        assert service.faces("j1") == faces
    assert script.asked[0].target == "/v1/jobs/j1/results/faces.jsonl"


# The line


def test_the_token_goes_with_every_request_and_shows_nowhere() -> None:
    with scripted(reply(200, {"status": "ok"}), refusal(401, "token", "no valid token", hint="send it")) as script:
        with Client(script.address, token="-".join(["secret", "word"])) as service:
            assert service.health() == {"status": "ok"}
            with pytest.raises(ServiceError) as caught:
                service.models()
        assert "secret" not in repr(service) + str(caught.value)
    assert [a.headers["authorization"] for a in script.asked] == ["Bearer secret-word"] * 2
    assert str(caught.value) == "no valid token; send it"
    assert (caught.value.status, caught.value.code, caught.value.hint) == (401, "token", "send it")


@pytest.mark.parametrize(
    ("status", "seconds"), [(429, "7"), (503, "1"), (429, "Thu, 01 Jan 1970 00:00:00 GMT")], ids=str
)
def test_a_busy_service_is_asked_again_when_it_says_so(status: int, seconds: str, pauses: list[float]) -> None:
    busy = refusal(status, "busy", "later", headers={"Retry-After": seconds})
    with asking(busy, reply(202, JOB)) as (script, service):
        assert service.submit(b"film").id == "j1"
    assert [a.body.split(b"\r\n\r\n")[1].split(b"\r\n")[0] for a in script.asked] == [b"film", b"film"]
    assert pauses == [float(seconds) if seconds.isdigit() else 0.0]


def test_patience_ends(pauses: list[float]) -> None:
    busy = refusal(429, "waiting", "too many wait", headers={"Retry-After": "4"})
    with (
        asking(*[busy] * 3, patience=10) as (_script, service),
        pytest.raises(ServiceError, match="too many wait") as caught,
    ):
        service.analyze(b"picture")
    assert caught.value.status == 429
    assert pauses == [4.0, 4.0]


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "soon"}])
def test_a_busy_service_that_does_not_say_when_is_not_asked_again(headers: dict[str, str]) -> None:
    with (
        asking(refusal(429, "rate", "too often", headers=headers)) as (_script, service),
        pytest.raises(ServiceError, match="too often"),
    ):
        service.health()


def test_a_connection_that_the_service_closed_is_opened_anew() -> None:
    with asking(reply(200, {"n": 1}, close=True), reply(200, {"n": 2})) as (script, service):
        assert [service.health(), service.health()] == [{"n": 1}, {"n": 2}]
    assert script.links == 2


def test_connections_that_were_all_closed_meanwhile_do_not_use_up_the_tries() -> None:
    """As after a pause in which the service closed all of them."""
    with asking(*[reply(200, {}, close=True)] * 3, reply(200, {"n": 4})) as (script, service):
        opened = [service._wire.open("GET", "/healthz") for _ in range(3)]
        for one in [each.__enter__() for each in opened]:
            one.read()
        for each in opened:
            each.__exit__(None, None, None)
        assert len(service._wire._idle) == 3
        assert service.health() == {"n": 4}
    assert script.links == 4


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    with (
        scripted(reply(200, b'{"n"', length=9, close=True), reply(200, {"n": 2})) as script,
        Client(script.address) as service,
    ):
        assert service.health() == {"n": 2}


def test_a_service_that_is_not_there_is_one_line() -> None:
    with scripted() as script:
        address = script.address
    with Client(address) as service, pytest.raises(ServiceError, match="cannot be reached") as caught:
        service.health()
    assert (caught.value.code, caught.value.status) == ("unreachable", None)
    assert "\n" not in str(caught.value)


def test_silence_ends_with_the_timeout() -> None:
    with (
        asking(Reply(b""), timeout=0.05) as (script, service),
        pytest.raises(ServiceError, match=r"within 0\.05 seconds") as caught,
    ):
        service.health()
    assert caught.value.code == "timeout"
    assert len(script.asked) == 1


@pytest.mark.parametrize("status", [301, 413, 502])
def test_an_error_of_what_stands_between_has_no_code_of_the_service(status: int) -> None:
    with (
        asking(reply(status, b"<html>nginx</html>")) as (_script, service),
        pytest.raises(ServiceError, match=f"answered {status}") as caught,
    ):
        service.health()
    assert (caught.value.status, caught.value.code) == (status, "http")


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda c: c.health(), b"no JSON"),
        (lambda c: c.models(), b"[]"),
        (lambda c: c.jobs(), b'{"jobs": 3}'),
        (lambda c: c.job("x"), b'{"id": "x"}'),
        (lambda c: c.faces("x"), b"no table\n"),
    ],
)
def test_another_service_is_told_from_mien(call: Any, answer: bytes) -> None:
    with asking(reply(200, answer)) as (_script, service), pytest.raises(ServiceError, match="is it mien") as caught:
        call(service)
    assert caught.value.code == "strange"


def test_an_address_below_a_path_is_kept() -> None:
    with scripted(reply(200, {})) as script, Client(script.address + "/faces/") as service:
        service.health()
    assert script.asked[0].target == "/faces/healthz"


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        ("127.0.0.1:8000", {}, "must be as http"),
        ("ftp://x", {}, "must be as http"),
        ("http://user:word@x", {}, "must be as http"),
        ("http://x?y", {}, "must be as http"),
        ("http://x:99999", {}, "must be as http"),
        ("http://x", {"token": "a\r\nHost: b"}, "one word"),
        ("http://x", {"token": ""}, "one word"),
        ("http://x", {"timeout": 0}, "timeout"),
        ("http://x", {"patience": -1}, "patience"),
        ("https://x", {"verify": "missing.pem"}, "no file with a certificate"),
        ("https://x", {"verify": __file__}, "no file with a certificate"),
    ],
)
def test_what_cannot_be_is_refused_when_the_client_is_made(address: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Client(address, **options)


def test_an_event_stream_that_is_left_closes_its_connection() -> None:
    with asking(sse(event("progress"), event("progress"))) as (_script, service):
        stream: Iterator[Job] = service.events("j1")
        next(stream)
        stream.close()  # type: ignore[attr-defined]  # it is a generator
        assert service._wire._idle == []


def test_a_script_notes_what_is_asked() -> None:
    """The server of these tests itself: two requests on one connection are two notes."""
    with asking(reply(200, {}), reply(200, {})) as (script, service):
        service.health()
        service.health()
    assert isinstance(script, Script)
    assert [a.link for a in script.asked] == [1, 1]
