"""Before every route: known names, own pages, sizes; on every answer: armour, an id, the one shape."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from serving import app, client, face, settings
from starlette.websockets import WebSocketDisconnect

from mien.serve.guard import greet
from mien.serve.origin import Names, Place
from mien.serve.tokens import Role, make_token

HERE = "http://127.0.0.1:8000"


@pytest.fixture
def held(tmp_path: Path) -> Iterator[TestClient]:
    with client(tmp_path) as found:
        yield found


def code(answer: Any) -> tuple[int, str | None]:
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return answer.status_code, answer.json().get("error", {}).get("code") if is_json else None


# Names


@pytest.mark.parametrize(
    ("changes", "known", "unknown"),
    [
        (
            {},
            ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:1", "localhost.", "[::1]:8000"],
            ["evil.example", "127.0.0.1.evil.example", "0.0.0.0", "192.168.1.5", "localhost:99999999", "a@localhost"],  # noqa: S104  # refused
        ),
        ({"host": "0.0.0.0"}, ["192.168.1.5:8000", "[fe80::1]", "localhost"], ["evil.example", "192.168.1.5.nip.io"]),  # noqa: S104  # not listened at
        ({"host": "::"}, ["[2001:db8::1]:8000", "10.0.0.1", "127.0.0.1"], ["evil.example", "::1"]),
        ({"host": "192.168.1.5"}, ["192.168.1.5:8000"], ["192.168.1.6", "localhost", "evil.example"]),
        ({"hosts": ("Faces.Example.",)}, ["faces.example", "FACES.example:80", "localhost"], ["x.faces.example"]),
        ({"origin": "https://faces.example"}, ["faces.example"], ["evil.example", "faces.example.evil"]),
    ],
)
def test_by_which_names_it_may_be_called(
    tmp_path: Path, changes: dict[str, Any], known: list[str], unknown: list[str]
) -> None:
    app_client = TestClient(app(tmp_path, **changes), raise_server_exceptions=False)
    for name in known:
        assert app_client.get("/healthz", headers={"host": name}).status_code == 200, name
    for name in [*unknown, "", " ", "/", "localhost/..", "localhost\\", "[::1", "lo\tcalhost"]:
        answer = app_client.get("/healthz", headers={"host": name})
        assert code(answer) == (421, "unknown_host"), name
        assert "script-src 'self'" in answer.headers["content-security-policy"]


def test_two_hosts_are_none(held: TestClient) -> None:
    assert code(held.get("/healthz", headers=[("host", "localhost"), ("host", "evil.example")])) == (400, "host")


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"origin": HERE}, True),
        ({"origin": HERE, "sec-fetch-site": "same-origin"}, True),
        ({"origin": "null", "sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "http://127.0.0.1"}, False),
        ({"origin": "http://127.0.0.1:8001"}, False),
        ({"origin": "http://localhost:8000"}, False),
        ({"origin": "https://127.0.0.1:8000"}, True),  # TLS ends at a proxy
        ({"origin": "http://127.0.0.1:8000.evil.example"}, False),
        ({"origin": "http://evil@127.0.0.1:8000"}, False),
        ({"origin": "chrome-extension://127.0.0.1:8000"}, False),
        ({"origin": "file://"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": HERE, "sec-fetch-site": "cross-site"}, False),
    ],
)
def test_only_our_own_page_changes_anything(held: TestClient, headers: dict[str, str], allowed: bool) -> None:
    posted = held.post("/v1/analyze", content=face(), headers={"content-type": "image/png", **headers})
    assert code(posted) == ((200, None) if allowed else (403, "foreign_page"))
    for method in ("DELETE", "PUT", "PATCH", "FOO"):
        assert (code(held.request(method, "/healthz", headers=headers)) == (403, "foreign_page")) is not allowed
    if "site" not in "".join(headers):
        assert held.get("/healthz", headers=headers).status_code == 200


def test_origins_of_a_service_with_tls_and_with_a_name(tmp_path: Path) -> None:
    def posted(base: str, page: str, **changes: Any) -> int:
        found = TestClient(app(tmp_path, **changes), base_url=base, raise_server_exceptions=False)
        return found.post("/healthz", headers={"origin": page}).status_code

    named = {"origin": "https://faces.example"}
    assert posted("http://faces.example", "https://faces.example", **named) == 405
    assert posted("https://localhost:8443", "https://localhost:8443") == 405
    assert posted("https://localhost", "https://localhost:443") == 405
    assert posted("https://localhost:8443", "http://localhost:8443") == 403
    assert posted("http://localhost", "https://faces.example", **named) == 405
    assert posted("http://localhost", "https://other.example", **named) == 403


def test_another_site_may_link_here_but_not_embed(held: TestClient) -> None:
    def got(mode: str | None) -> int:
        headers = {"sec-fetch-site": "cross-site"} | ({"sec-fetch-mode": mode} if mode else {})
        return held.get("/healthz", headers=headers).status_code

    assert got("navigate") == 200
    assert got("no-cors") == got("cors") == got("websocket") == 403


def test_no_answer_lets_another_site_read_it(held: TestClient) -> None:
    for answer in (held.get("/healthz"), held.options("/v1/analyze", headers={"origin": HERE})):
        assert not [h for h in answer.headers if h.startswith("access-control")]


def test_a_proxy_before_an_open_service_is_noticed(tmp_path: Path) -> None:
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        with client(tmp_path) as held:
            assert code(held.get("/v1/models", headers={name: "203.0.113.1"})) == (403, "forwarded")
    with client(tmp_path, proxy=True) as held:
        assert held.get("/healthz", headers={"X-Forwarded-For": "203.0.113.1"}).status_code == 200
    path = tmp_path / "t"
    path.write_text(make_token("anna", Role.USER)[1])
    path.chmod(0o600)
    with client(tmp_path, token_file=path) as held:
        assert held.get("/healthz", headers={"X-Forwarded-For": "203.0.113.1"}).status_code == 200


# Armour


def test_every_answer_is_armoured(tmp_path: Path) -> None:
    made = app(tmp_path)

    @made.get("/boom")
    async def boom() -> None:
        raise RuntimeError("holiday-of-anna.jpg")

    with TestClient(made, base_url=HERE, raise_server_exceptions=False) as held:
        answers = [
            held.get("/healthz"),
            held.get("/nothing"),
            held.get("/boom"),
            held.post("/healthz"),
            held.post("/healthz", headers={"origin": "http://evil.example"}),
            held.get("/healthz", headers={"host": "evil.example"}),
            held.post("/v1/analyze", content=b"x", headers={"content-type": "text/html"}),
        ]
    assert [a.status_code for a in answers] == [200, 404, 500, 405, 403, 421, 415]
    ids = {a.headers["x-request-id"] for a in answers}
    assert len(ids) == len(answers)
    for answer in answers:
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["permissions-policy"].startswith("camera=(self)")
        assert headers["cache-control"] == "no-store"
        assert "strict-transport-security" not in headers
        policy = dict(p.strip().split(" ", 1) for p in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        if answer.status_code >= 400:
            assert set(answer.json()) == {"error"}
            assert answer.json()["error"]["request"] == headers["x-request-id"]
            assert "holiday" not in answer.text


def test_tls_is_kept_where_its_certificate_is_trusted(tmp_path: Path) -> None:
    def armed(base: str, **changes: Any) -> bool:
        found = TestClient(app(tmp_path, **changes), base_url=base)
        return "strict-transport-security" in found.get("/healthz").headers

    assert armed("https://localhost")
    assert not armed("http://localhost")
    assert not armed("https://localhost", tls="self-signed")


def test_web_sockets_of_the_page_are_named_for_old_safari(held: TestClient) -> None:
    assert "ws://127.0.0.1:8000 wss://127.0.0.1:8000" in held.get("/healthz").headers["content-security-policy"]


# Failures and the log


def test_a_failure_has_the_one_shape_and_leaves_no_words_of_a_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = app(tmp_path)

    class Broken:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and scope["path"] == "/inside":
                raise ValueError(scope["query_string"].decode())
            await self.inner(scope, receive, send)

    guard = made.user_middleware.pop()
    made.add_middleware(Broken)  # a fault in a middleware inside the guard
    made.user_middleware.insert(0, guard)
    with TestClient(made, base_url=HERE, raise_server_exceptions=False) as held:
        answer = held.get("/inside?holiday-of-anna.jpg")
    assert code(answer) == (500, "failed")
    assert "ValueError" in caplog.text
    assert answer.json()["error"]["request"] in caplog.text
    assert "in __call__" in caplog.text  # where it was
    assert "holiday" not in caplog.text


def test_the_log_has_the_route_and_never_the_path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counted: list[tuple[str, str, int]] = []
    with caplog.at_level(logging.INFO, "mien.serve.access"), client(tmp_path) as held:
        measures = held.app.state.service.measures  # type: ignore[attr-defined]  # FastAPI's
        measures.answered = lambda route, method, status, seconds: counted.append((route, method, status))
        held.get("/v1/jobs/holiday-of-anna?name=holiday")
        held.get("/holiday.jpg")
        held.request("HOLIDAY", "/healthz")
        body = {"file": ("holiday-of-anna.png", face(), "image/png")}
        held.post("/v1/analyze", files=body)
    lines = [r.getMessage() for r in caplog.records if r.name == "mien.serve.access"]
    assert "holiday" not in "".join(lines).lower()
    assert counted[0][:2] == ("/v1/jobs/{id}", "GET")
    assert counted[1] == ("(none)", "GET", 404)
    assert counted[2][1:] == ("OTHER", 405)
    assert counted[3] == ("/v1/analyze", "POST", 200)
    form = re.compile(r"POST /v1/analyze 200 [\d.]+ms in=\d{4,} out=\d+ caller=local id=[0-9a-f]{16}")
    assert form.fullmatch(lines[3])


def test_the_document_says_how_to_show_a_token(held: TestClient) -> None:
    document = held.get("/v1/openapi.json").json()
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["paths"]["/v1/analyze"]["post"]["security"] == [{"token": []}]
    assert "security" not in document["paths"]["/healthz"]["get"]


# Sizes


def test_heads_have_a_size(held: TestClient) -> None:
    assert code(held.get("/healthz", headers={f"x-{n}": "y" for n in range(120)})) == (431, "head_too_large")
    assert code(held.get("/healthz", headers={"x": "y" * 40_000})) == (431, "head_too_large")
    assert code(held.get(f"/healthz?{'a' * 9000}")) == (414, "address_too_long")


@pytest.mark.parametrize("path", ["/web/../secret", "/web/%2e%2e/secret", "/a%00b", "/a%5c..%5cb", "/%0d%0aX:y", "/./"])
def test_paths_that_lead_elsewhere_are_not_found(tmp_path: Path, path: str) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    from urllib.parse import unquote

    scope = {
        "type": "http", "method": "GET", "scheme": "http", "path": unquote(path), "raw_path": path.encode(),
        "query_string": b"", "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    asyncio.run(app(tmp_path)(scope, receive, send))
    assert sent[0]["status"] == 404


def test_bodies_of_other_routes_are_small(held: TestClient) -> None:
    assert code(held.post("/v1/policy", content=b"x" * 70_000)) == (413, "too_large")

    def pieces() -> Iterator[bytes]:
        yield b'{"purpose": "'
        for _ in range(100):
            yield b"x" * 1000
        yield b'"}'

    answer = held.post("/v1/policy", content=pieces(), headers={"content-type": "application/json"})
    assert code(answer) == (413, "too_large")


# Web sockets


def sockets(state: Path, **changes: Any) -> FastAPI:
    made = app(state, **changes)

    @made.websocket("/greet")
    async def meet(socket: WebSocket) -> None:
        caller = await greet(socket, Role.USER)
        if caller is not None:
            await socket.send_json({"hello": caller.name})
            await socket.close()

    @made.websocket("/fail")
    async def fail(socket: WebSocket) -> None:
        await socket.accept()
        raise RuntimeError(socket.query_params["name"])

    return made


def tokens(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    path.chmod(0o600)
    return path


def test_a_web_socket_from_another_site_is_refused(tmp_path: Path) -> None:
    from starlette.testclient import WebSocketDenialResponse

    with TestClient(sockets(tmp_path), base_url=HERE) as held:
        for headers in (
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"origin": HERE, "host": "evil.example"},
        ):
            with (
                pytest.raises(WebSocketDenialResponse) as caught,
                held.websocket_connect("ws://127.0.0.1:8000/greet", headers=headers),
            ):
                pass
            assert caught.value.status_code in {403, 421}
            assert caught.value.json()["error"]["code"] in {"foreign_page", "unknown_host"}
        for headers in ({}, {"origin": HERE}):
            with held.websocket_connect("ws://127.0.0.1:8000/greet", headers=headers) as socket:
                assert socket.receive_json() == {"hello": "local"}


def test_a_web_socket_shows_its_token_first(tmp_path: Path) -> None:
    (anna, anna_line), (door, door_line) = make_token("anna", Role.USER), make_token("door", Role.VIEWER)
    made = sockets(tmp_path, token_file=tokens(tmp_path / "t", anna_line, door_line), limits={"idle_seconds": 0.2})
    with TestClient(made, base_url=HERE) as held:

        def greeted(text: str | bytes | None, **headers: str) -> Any:
            with held.websocket_connect("ws://127.0.0.1:8000/greet", headers=headers) as socket:
                if isinstance(text, bytes):
                    socket.send_bytes(text)
                elif text is not None:
                    socket.send_text(text)
                answer = socket.receive_json()
                with pytest.raises(WebSocketDisconnect) as caught:
                    socket.receive_json()
            return answer.get("hello") or (answer["error"]["code"], caught.value.code)

        assert greeted(json.dumps({"token": anna})) == "anna"
        assert greeted(None, authorization=f"Bearer {anna}") == "anna"
        assert greeted(json.dumps({"token": door})) == ("role", 1008)
        assert greeted(json.dumps({"token": "mien_wrong"})) == ("token", 1008)
        assert greeted(None) == ("too_slow", 1008)
        for text in ("", "[]", "{}", '{"token": 3}', "[" * 3000, "x" * 10_000, b"\0\1"):
            assert greeted(text) == ("token", 1008)


def test_a_web_socket_that_fails_is_closed_without_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        TestClient(sockets(tmp_path), base_url=HERE) as held,
        held.websocket_connect("ws://127.0.0.1:8000/fail?name=holiday") as socket,
    ):
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_json()
        assert caught.value.code == 1011
    assert "RuntimeError" in caplog.text
    assert "holiday" not in caplog.text


def test_places_are_read_strictly() -> None:
    assert Place.parse("[::1]:80") == Place("::1", 80)
    for text in ("a:b", "a:", ":80", "[]", "[::1", "::1", "a b", "a/b", "a,b", "", "a:123456"):
        assert Place.parse(text) is None
    assert Names(settings(Path("x"), origin="https://A.example/")).origin == "https://a.example"
