"""A body that comes slowly, is too much, or breaks off: what the guard makes of it, and what the sender hears."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from serving import app

from mien.serve.exchange import Exchange, Memory
from mien.serve.problem import Problem
from mien.serve.settings import Limits


async def nothing(message: Any) -> None:
    pass


def exchange(
    receive: Any, send: Any = nothing, *, path: str = "/v1/analyze", memory: int = 10**9, **limits: Any
) -> Exchange:
    scope = {
        "type": "http", "method": "POST", "scheme": "http", "path": path,
        "headers": [(b"transfer-encoding", b"chunked"), (b"host", b"localhost")],
    }  # fmt: skip
    return Exchange(
        scope, receive, send, limits=Limits(**limits), memory=Memory(memory), request_id="1", hsts=False
    )  # fmt: skip


def piece(data: bytes = b"", *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": data, "more_body": more}


def refusal(found: Exchange) -> tuple[int, str]:
    async def read() -> None:
        while (await found.receive()).get("more_body"):
            pass

    with pytest.raises(Problem) as caught:
        asyncio.run(read())
    return caught.value.status, caught.value.code


def test_a_silent_sender_is_not_waited_for() -> None:
    messages = [piece(b"x" * 10_000)]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    assert refusal(exchange(receive, idle_seconds=0.05)) == (408, "too_slow")


def test_a_sender_of_nothings_is_silent() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return piece()

    assert refusal(exchange(receive, idle_seconds=0.05)) == (408, "too_slow")


def test_a_sender_that_drips_is_too_slow() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return piece(b"x")

    assert refusal(exchange(receive, idle_seconds=0.05, least_rate=1000)) == (408, "too_slow")


def test_a_slow_application_is_not_the_senders_fault() -> None:
    messages = [piece(b"x", more=False), piece(b"x"), piece(b"x")]

    async def receive() -> dict[str, Any]:
        return messages.pop()

    async def read() -> None:
        found = exchange(receive, idle_seconds=0.02, least_rate=1_000_000)
        while (await found.receive())["more_body"]:
            await asyncio.sleep(0.03)

    asyncio.run(read())


def test_bodies_of_all_requests_together_are_bounded() -> None:
    async def receive() -> dict[str, Any]:
        return piece(b"x" * 1000)

    found = exchange(receive, memory=10_000)
    assert refusal(found) == (503, "busy")
    assert found.memory.held == 11_000
    found.release()
    assert found.memory.held == 0
    film = exchange(receive, path="/v1/films", memory=10_000, film_bytes=50_000)
    assert refusal(film) == (413, "too_large")
    assert film.memory.held == 0


def test_what_the_guard_met_is_the_answer_whatever_the_route_makes_of_it() -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    async def route() -> None:
        found = exchange(receive, send, idle_seconds=0.02)
        with pytest.raises(Problem):
            await found.receive()
        await found.send({"type": "http.response.start", "status": 400, "headers": []})
        await found.send({"type": "http.response.body", "body": b"There was an error parsing the body"})

    asyncio.run(route())
    assert sent[0]["status"] == 408
    assert dict(sent[0]["headers"])[b"connection"] == b"close"
    assert json.loads(b"".join(m.get("body", b"") for m in sent[1:]))["error"]["code"] == "too_slow"


def test_an_answer_before_the_end_of_the_body_lets_the_sender_finish() -> None:
    sent: list[Any] = []
    messages = [piece(b"x" * 1000, more=False), piece(b"x" * 1000), piece(b"x" * 1000)]

    async def receive() -> dict[str, Any]:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append((message, len(messages)))

    async def route() -> None:
        await exchange(receive, send).answer(Problem(401, "token", "no token"))

    asyncio.run(route())
    (start, _), (body, unread), (end, rest) = sent
    assert start["status"] == 401
    assert (body["more_body"], unread) == (True, 3)
    assert (end.get("more_body", False), rest) == (False, 0)


def test_a_client_that_goes_away_is_not_an_error_of_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = app(tmp_path)
    sent: list[Any] = []
    messages = [{"type": "http.disconnect"}, piece(b"x")]

    async def receive() -> dict[str, Any]:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    @made.post("/read")
    async def read(request: Request) -> None:
        await request.body()

    headers = [(b"host", b"localhost"), (b"content-length", b"10")]
    scope = {
        "type": "http", "method": "POST", "scheme": "http", "path": "/read", "raw_path": b"/read", "root_path": "",
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 1),
    }  # fmt: skip
    with caplog.at_level(logging.INFO):
        asyncio.run(made(scope, receive, send))
    assert sent[0]["status"] == 499
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert " 499 " in caplog.text
