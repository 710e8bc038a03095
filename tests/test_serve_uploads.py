"""What comes in is told by its content, counted while it comes, and leaves nothing behind when it is refused."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from films import make_film, numbered
from hypothesis import given
from hypothesis import strategies as st
from serving import face, settings

from mien.media.source import Kind
from mien.serve import problem
from mien.serve.names import shown
from mien.serve.uploads import receive_film, receive_pictures

FILM = b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(5000)
FORM = "multipart/form-data; boundary=frontier"


def part(value: bytes, name: str = "file", file: str | None = "a.jpg", *more: str) -> bytes:
    named = "" if file is None else f'; filename="{file}"'
    lines = [f'Content-Disposition: form-data; name="{name}"{named}', *more]
    return b"--frontier\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--frontier--\r\n"


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    return folder


@pytest.fixture
def client(tmp_path: Path, films: Path) -> Iterator[TestClient]:
    told = settings(tmp_path, limits={"body_bytes": 200_000, "film_bytes": 3_000_000, "pictures": 3})
    app = FastAPI()
    problem.install(app)

    @app.post("/pictures")
    async def pictures(request: Request) -> dict[str, Any]:
        got = await receive_pictures(request, told)
        return {
            "files": [[u.name, u.kind, u.size, base64.b64encode(u.data).decode()] for u in got.uploads],
            "fields": dict(got.fields),
        }

    @app.post("/films")
    async def film(request: Request) -> dict[str, Any]:
        got = await receive_film(request, told, films)
        (one,) = got.uploads
        assert one.path is not None
        return {"name": one.name, "kind": one.kind, "size": one.size, "fields": dict(got.fields), "file": one.path.name}

    with TestClient(app, raise_server_exceptions=False) as held:
        yield held


def refusal(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# Pictures


def test_a_raw_body_is_a_picture_whatever_its_type_says(client: TestClient) -> None:
    for kind in ("image/jpeg", "image/png", "application/octet-stream", "video/mp4"):
        answer = client.post("/pictures", content=face(), headers={"content-type": kind})
        (name, found, size, data) = answer.json()["files"][0]
        assert (name, found, size, base64.b64decode(data)) == ("picture", "picture", len(face()), face())


def test_a_form_brings_its_files_in_order_and_its_fields(client: TestClient) -> None:
    body = form(
        part(face(red=10), "a", "one.png"),
        part(b"seven", "labels", None),
        part(face(red=20), "b", "two.png", "Content-Type: text/html"),
    )
    got = client.post("/pictures", content=body, headers={"content-type": FORM}).json()
    assert [f[0] for f in got["files"]] == ["one.png", "two.png"]
    assert [base64.b64decode(f[3]) for f in got["files"]] == [face(red=10), face(red=20)]
    assert got["fields"] == {"labels": "seven"}


def test_a_form_may_come_byte_by_byte(client: TestClient) -> None:
    body = form(part(b"\r\n--frontie\r\n--".join([b"GIF89a", b"x", b""])), part(b"1", "every", None))

    def slowly() -> Iterator[bytes]:
        yield from (body[i : i + 1] for i in range(len(body)))

    got = client.post("/pictures", content=slowly(), headers={"content-type": FORM}).json()
    assert base64.b64decode(got["files"][0][3]) == b"GIF89a\r\n--frontie\r\n--x\r\n--frontie\r\n--"
    assert got["fields"] == {"every": "1"}


def test_a_file_that_was_not_chosen_is_no_file(client: TestClient) -> None:
    got = client.post("/pictures", content=form(part(b"", file=""), part(face())), headers={"content-type": FORM})
    assert len(got.json()["files"]) == 1
    none = client.post("/pictures", content=form(part(b"", file="")), headers={"content-type": FORM})
    assert refusal(none) == (422, "nothing")


def test_json_brings_base64_and_options(client: TestClient) -> None:
    text = base64.b64encode(face()).decode()
    body = {
        "pictures": [{"name": "../a.png", "data": text}, {"data": f"data:image/png;base64,{text}"}],
        "options": {"min_score": 0.5, "best_only": True, "include": ["csv", "crops"], "labels": None},
    }
    got = client.post("/pictures", json=body).json()
    assert [f[0] for f in got["files"]] == ["a.png", "picture"]
    assert all(base64.b64decode(f[3]) == face() for f in got["files"])
    assert got["fields"] == {"min_score": "0.5", "best_only": "true", "include": "csv,crops"}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"{", (400, "json")),
        (b"[]", (422, "json")),
        (b'{"pictures": 3}', (422, "json")),
        (b'{"pictures": []}', (422, "nothing")),
        (b'{"pictures": [{}]}', (422, "json")),
        (b'{"pictures": [{"data": 3}]}', (422, "json")),
        (b'{"pictures": [{"data": "", "url": ""}]}', (422, "json")),
        (b'{"pictures": [{"data": "R0lG ODlh"}]}', (422, "base64")),
        (b'{"pictures": [{"data": "R0lGODl"}]}', (422, "base64")),
        (b'{"pictures": [{"data": "R0-_"}]}', (422, "base64")),
        ('{"pictures": [{"data": "é"}]}'.encode(), (422, "base64")),
        (b'{"pictures": [{"data": ""}]}', (415, "empty")),
        (b'{"pictures": [{"data": "aGVsbG8="}]}', (415, "not_a_picture")),
        (b'{"pictures": [], "options": {"x": {}}}', (422, "json")),
        (b'{"pictures": [], "options": {"x": [["y"]]}}', (422, "json")),
        (b'{"pictures": [], "options": {"x": "\\ud800"}}', (422, "json")),
        (b'{"pictures": [], "options": {"x": NaN}}', (400, "json")),
        (b'{"pictures": [], "more": 1}', (422, "json")),
        (b'{"pictures": [' + b"1" * 5000 + b"]}", (400, "json")),
        (b'{"pictures": ' + b"[" * 4000 + b"]" * 4000 + b"}", (400, "json")),
        (b'{"pictures": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", (422, "json")),
        (b'{"pictures": [{"data":"R0lGODlh"}' + b',{"data":"R0lGODlh"}' * 3 + b"]}", (413, "too_many")),
        (b'{"pictures": [{"url": "http://127.0.0.1/a.jpg"}]}', (403, "fetch_off")),
        (b"\xff\xfe{\0}\0", (400, "json")),
    ],
)
def test_json_that_is_not_what_was_asked_for(client: TestClient, body: bytes, answer: tuple[int, str]) -> None:
    assert refusal(client.post("/pictures", content=body, headers={"content-type": "application/json"})) == answer


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (FILM, (415, "not_a_picture")),
        (b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', (415, "not_a_picture")),
        (b"<!doctype html><script>alert(1)</script>", (415, "not_a_picture")),
        (b"PK\3\4" + bytes(100), (415, "not_a_picture")),
        (b"%PDF-1.7\n", (415, "not_a_picture")),
        (b"#!/bin/sh\n", (415, "not_a_picture")),
        (b"\x1f\x8b\x08" + bytes(30), (415, "not_a_picture")),
    ],
)
def test_only_a_picture_is_a_picture(client: TestClient, data: bytes, answer: tuple[int, str]) -> None:
    raw = client.post("/pictures", content=data, headers={"content-type": "image/jpeg"})
    in_form = client.post("/pictures", content=form(part(data, file="a.jpg")), headers={"content-type": FORM})
    assert refusal(raw) == refusal(in_form) == answer
    assert raw.json()["error"]["hint"]


def test_nothing_is_told_from_an_empty_file(client: TestClient) -> None:
    assert refusal(client.post("/pictures", content=b"", headers={"content-type": "image/png"})) == (422, "nothing")
    assert refusal(client.post("/pictures", content=form(part(b"")), headers={"content-type": FORM})) == (415, "empty")


def test_one_that_is_none_among_several_is_given_on(client: TestClient) -> None:
    body = form(part(face()), part(b"<html>"))
    got = client.post("/pictures", content=body, headers={"content-type": FORM}).json()
    assert [f[1] for f in got["files"]] == [Kind.PICTURE, None]


def test_types_and_encodings_that_are_not_taken(client: TestClient) -> None:
    def sent(**headers: str) -> tuple[int, str]:
        return refusal(client.post("/pictures", content=face(), headers=headers))

    assert sent(**{"content-type": "application/x-www-form-urlencoded"}) == (415, "content_type")
    assert sent(**{"content-type": "text/html"}) == (415, "content_type")
    for encoding in ("gzip", "br", "deflate, identity", "GZIP"):
        assert sent(**{"content-type": "image/png", "content-encoding": encoding}) == (415, "encoded")


# Limits


def test_a_body_that_says_it_is_too_large_is_not_read(client: TestClient) -> None:
    read: list[int] = []

    def body() -> Iterator[bytes]:
        read.append(1)
        yield b"x"

    headers = {"content-type": "image/png", "content-length": "200001"}
    assert refusal(client.post("/pictures", content=body(), headers=headers)) == (413, "too_large")
    headers["content-length"] = "9" * 5000
    assert refusal(client.post("/pictures", content=b"x", headers=headers)) == (413, "too_large")


def test_a_body_without_a_length_is_counted() -> None:
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": bytes(10_000), "more_body": True}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")], "path": "/"}
    told = settings(Path("nowhere"), limits={"body_bytes": 100_000})
    with pytest.raises(problem.Problem) as caught:
        asyncio.run(receive_pictures(Request(scope, receive), told))
    assert (caught.value.status, caught.value.code, taken) == (413, "too_large", 11)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (form(*[part(face())] * 4), (413, "too_many")),
        (form(*[part(b"1", "a", None)] * 33), (413, "too_many")),
        (form(part(b"1" * 4097, "a", None)), (413, "too_large")),
        (form(part(b"1", "a" * 101, None)), (413, "too_many")),
        (form(*[part(b"", file="")] * 300), (413, "too_many")),
        (form(part(face(), "a", "b", f"X-Long: {'x' * 9000}")), (400, "form")),
        (form(part(face(), "a", "b", *[f"X-{n}: y" for n in range(20)])), (400, "form")),
        (form(part(face(), "a", "b", "Content-Transfer-Encoding: base64")), (400, "form")),
        (b"--frontier\r\nContent-Type: image/png\r\n\r\nx\r\n--frontier--\r\n", (400, "form")),
        (form(part(face()))[:-15], (400, "form")),
        (b"", (400, "form")),
        (b"nonsense", (400, "form")),
    ],
)
def test_forms_past_a_limit_or_damaged(client: TestClient, body: bytes, answer: tuple[int, str]) -> None:
    assert refusal(client.post("/pictures", content=body, headers={"content-type": FORM})) == answer


def test_the_boundary_has_a_length(client: TestClient) -> None:
    for boundary in ("", "; boundary=", f"; boundary={'x' * 300}"):
        kind = f"multipart/form-data{boundary}"
        assert refusal(client.post("/pictures", content=b"--", headers={"content-type": kind})) == (400, "form")


# Names


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/abs/a.jpg", "a.jpg"),
        ("a\0b\r\nSet-Cookie: x.jpg", "abSet-Cookie: x.jpg"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("=cmd|' /C calc'!A0.jpg", "C calc'!A0.jpg"),
        ("=1+2.jpg", "1+2.jpg"),
        ("", "picture"),
        ("...", "picture"),
        (" .. ", "picture"),
        ("面.png", "面.png"),
        ("\ud800", "picture"),
        ("x" * 500, "x" * 99 + "…"),
    ],
)
def test_names_are_for_showing_only(name: str, cleaned: str) -> None:
    assert shown(name, "picture") == cleaned


@given(st.text() | st.binary())
def test_a_shown_name_is_one_printable_part(name: str | bytes) -> None:
    got = shown(name, "picture")
    assert 0 < len(got) <= 100
    assert got.isprintable()
    assert not set(got) & set("/\\")
    assert got not in {".", ".."}
    assert shown(got, "picture") == got


# Films


def test_a_film_lies_under_a_name_of_ours_for_its_owner_only(client: TestClient, films: Path) -> None:
    made = films.parent / "f.mp4"
    make_film(made, numbered(5))
    data = made.read_bytes()
    for body, kind in ((data, "video/mp4"), (form(part(data, file="../../x.mp4"), part(b"2", "every", None)), FORM)):
        got = client.post("/films", content=body, headers={"content-type": kind}).json()
        path = films / got["file"]
        assert path.read_bytes() == data
        assert (got["kind"], got["size"]) == (Kind.FILM, len(data))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(path.name) == 32
        path.unlink()
    assert (got["name"], got["fields"]) == ("x.mp4", {"every": "2"})


@pytest.mark.parametrize(
    ("body", "kind", "answer"),
    [
        (face(), "video/mp4", (415, "not_a_film")),
        (b"", "video/mp4", (422, "nothing")),
        (form(part(b"")), FORM, (415, "empty")),
        (b"<html>", "video/mp4", (415, "not_a_film")),
        (b"PK\3\4" + bytes(9000), "video/mp4", (415, "not_a_film")),
        (FILM + bytes(3_000_000), "video/mp4", (413, "too_large")),
        (form(part(FILM), part(FILM)), FORM, (422, "too_many")),
        (form(part(b"", file="")), FORM, (422, "nothing")),
        (form(part(b"x", "a", None)), FORM, (422, "nothing")),
        (form(part(FILM + bytes(2_000_000)))[:-15], FORM, (400, "form")),
        (form(part(FILM + bytes(2_000_000)), part(b"x" * 5000, "a", None)), FORM, (413, "too_large")),
        (b"{}", "application/json", (415, "content_type")),
    ],
)
def test_a_refused_film_leaves_no_file(
    client: TestClient, films: Path, body: bytes, kind: str, answer: tuple[int, str]
) -> None:
    def pieces() -> Iterator[bytes]:  # without a length, so that it is counted
        yield from (body[i : i + 65_536] for i in range(0, len(body), 65_536))

    assert refusal(client.post("/films", content=pieces(), headers={"content-type": kind})) == answer
    assert list(films.iterdir()) == []


def test_a_client_that_goes_away_leaves_no_file(films: Path) -> None:
    messages = [
        {"type": "http.request", "body": FILM + bytes(2_000_000), "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"video/mp4")], "path": "/"}
    with pytest.raises(problem.Problem) as caught:
        asyncio.run(receive_film(Request(scope, receive), settings(films.parent), films))
    assert caught.value.status == 499
    assert list(films.iterdir()) == []


def test_a_request_that_is_cancelled_leaves_no_file(films: Path) -> None:
    async def body() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": FILM + bytes(2_000_000), "more_body": True}
        await asyncio.Event().wait()

    async def cancelled() -> None:
        messages = body()
        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"video/mp4")], "path": "/"}
        task = asyncio.ensure_future(
            receive_film(Request(scope, messages.__anext__), settings(films.parent), films)  # type: ignore[arg-type]  # the messages of this test only
        )
        while not list(films.iterdir()):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert list(films.iterdir()) == []


def test_a_full_disk_is_said(client: TestClient, films: Path) -> None:
    films.rmdir()
    answer = client.post("/films", content=FILM, headers={"content-type": "video/mp4"})
    assert refusal(answer) == (507, "disk")
    assert str(films) not in json.dumps(answer.json())
