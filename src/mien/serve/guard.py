"""What stands before every route: names, origins, sizes, slow senders, tokens, rates, headers."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import secrets
import sqlite3
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from . import problem as problems
from .armour import arm
from .exchange import Exchange, Memory
from .origin import Names, check_origin
from .problem import Problem
from .service import service
from .settings import ServeSettings
from .tokens import Caller, Role

__all__ = ["Guard", "admit", "greet", "needs"]

_log = logging.getLogger("mien.serve")
_access = logging.getLogger("mien.serve.access")

_HEADERS = 100
_HEADER_BYTES = 32 * 1024
_URL_BYTES = 8 * 1024
_BODIES = 16
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FORWARDED = ("x-forwarded-for", "x-forwarded-host", "forwarded", "x-real-ip")
_TOKEN_CHARACTERS = 4096
_VIOLATION = 1008

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token of the service's token file. A service that only its own machine can reach asks for none.",
)


class Guard:
    """ASGI middleware around the whole application.

    Parameters
    ----------
    app
        What it guards.
    settings
        What the service was told.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self.app, self.settings = app, settings
        self._names = Names(settings)
        self._memory = Memory(_BODIES * settings.limits.body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._socket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        request_id = _mark(scope)
        exchange = Exchange(
            scope,
            receive,
            send,
            limits=self.settings.limits,
            memory=self._memory,
            request_id=request_id,
            hsts=self.settings.tls != "self-signed",
        )
        try:
            self._check(exchange)
            await self.app(scope, exchange.receive, exchange.send)
        except Problem as problem:
            _count_refusal(scope, problem)
            await exchange.answer(problem)
        except ClientDisconnect:
            await exchange.answer(Problem(499, "gone", "the client went away"))
        except Exception as error:  # noqa: BLE001  # the last one who can give it the one shape
            _tell(request_id, error)
            await exchange.answer(Problem(500, "failed", "the service could not do this"))
        finally:
            exchange.release()
            seconds = time.monotonic() - began
            _count(scope, exchange.status, seconds)
            _write(scope, exchange.status, seconds, f"in={exchange.came} out={exchange.went}")

    def _check(self, exchange: Exchange) -> None:
        scope, headers = exchange.scope, exchange.headers
        _check_size(scope, headers)
        exchange.place = self._names.check(headers)
        check_origin(self._names, headers, scope["method"], scope["scheme"], exchange.place)
        self._check_direct(scope, headers)
        exchange.check_length()
        _check_path(scope["path"])

    def _check_direct(self, scope: Scope, headers: Headers) -> None:
        """Refuse what came through a proxy to a service that takes everybody for its own user."""
        if self.settings.proxy or not service(HTTPConnection(scope)).keys.open:
            return
        if any(name in headers for name in _FORWARDED):
            hint = "whoever runs the service: start it with --proxy and --token-file"
            raise Problem(403, "forwarded", "a proxy sent this to a service that is for its own machine only", hint)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        request_id = _mark(scope)
        status = 101

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "websocket.close" and message.get("code", 1000) != 1000:
                status = int(message["code"])
            await send(message)

        try:
            headers = Headers(scope=scope)
            _check_size(scope, headers)
            place = self._names.check(headers)
            check_origin(self._names, headers, "WEBSOCKET", scope["scheme"], place)
            self._check_direct(scope, headers)
            await self.app(scope, receive, watched)
        except Problem as problem:
            status = problem.status
            _count_refusal(scope, problem)
            await self._deny(scope, send, problem, request_id)
        except (WebSocketDisconnect, ClientDisconnect):
            pass
        except Exception as error:  # noqa: BLE001  # as above
            status = 1011
            _tell(request_id, error)
            await _close(send)
        finally:
            seconds = time.monotonic() - began
            _count(scope, status, seconds)
            _write(scope, status, seconds, "")

    async def _deny(self, scope: Scope, send: Send, problem: Problem, request_id: str) -> None:
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": _VIOLATION})
            return
        answer = problems.answer(problem, request_id)
        answer.headers["x-request-id"] = request_id
        secure = scope["scheme"] == "wss" and self.settings.tls != "self-signed"
        arm(answer.headers, path=scope["path"], place=None, secure=secure)
        await send({"type": "websocket.http.response.start", "status": problem.status, "headers": answer.raw_headers})
        await send({"type": "websocket.http.response.body", "body": answer.body})


# Requests


def _mark(scope: Scope) -> str:
    """Give a request its id, and a place in which inner parts leave what the log should say."""
    request_id = secrets.token_hex(8)
    scope["mien.request"] = request_id
    scope["mien.log"] = {}
    return request_id


def _check_size(scope: Scope, headers: Headers) -> None:
    size = sum(len(name) + len(value) for name, value in headers.raw)
    if len(headers.raw) > _HEADERS or size > _HEADER_BYTES:
        limit = f"{_HEADERS} headers of {_HEADER_BYTES} bytes together"
        raise Problem(431, "head_too_large", f"the head of the request is over the limit of {limit}")
    if len(scope.get("raw_path") or b"") + len(scope.get("query_string", b"")) > _URL_BYTES:
        raise Problem(414, "address_too_long", f"the address is over the limit of {_URL_BYTES} bytes")


def _check_path(path: str) -> None:
    odd = "\\" in path or not path.isprintable() or not path.startswith("/")
    if odd or {"..", "."} & set(path.split("/")):
        raise Problem(404, "not_found", "there is no such address")


def _route(scope: Scope) -> str:
    """Return the route as the application spells it; what was asked for never gets into log or measures."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) and path else "(none)"


def _count(scope: Scope, status: int, seconds: float) -> None:
    method = scope.get("method", "WEBSOCKET")
    known = method if method in _METHODS or method == "WEBSOCKET" else "OTHER"
    service(HTTPConnection(scope)).measures.answered(_route(scope), known, status, seconds)


def _count_refusal(scope: Scope, problem: Problem) -> None:
    if problem.status < 500 or problem.status == 503:
        service(HTTPConnection(scope)).measures.refused(problem.code)


def _write(scope: Scope, status: int, seconds: float, sizes: str) -> None:
    method = scope.get("method", "WEBSOCKET")
    _access.info(
        "%s %s %d %.1fms %s caller=%s id=%s",
        method if method in _METHODS or method == "WEBSOCKET" else "OTHER",
        _route(scope),
        status,
        seconds * 1000,
        sizes,
        scope["mien.log"].get("caller", "-"),
        scope["mien.request"],
    )


def _tell(request_id: str, error: Exception) -> None:
    # Without the error's own words, in which a client's file name may stand.
    where = "".join(traceback.format_tb(error.__traceback__))
    _log.error("request %s: %s\n%s", request_id, type(error).__name__, where)


async def _close(send: Send) -> None:
    try:
        await send({"type": "websocket.close", "code": 1011})
    except RuntimeError:  # it was closed already
        return


# Callers


def needs(role: Role) -> Callable[..., Awaitable[Caller]]:
    """Return the dependency of a route that only callers with this role may use; it gives the caller.

    ``caller: Annotated[Caller, Depends(needs(Role.USER))]``. Without a token: 401; with too small a role: 403; past the
    caller's rate, or after too many wrong tokens: 429.
    """

    async def caller(
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)] = None,
    ) -> Caller:
        return await admit(request, _token(request.headers), role)

    return caller


def _token(headers: Headers) -> str | None:
    given = headers.getlist("authorization")
    kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return token.strip() or None if kind.lower() == "bearer" else None


async def admit(connection: HTTPConnection, token: str | None, role: Role) -> Caller:
    """Return whose token this is, and count the request.

    Raises
    ------
    Problem
        401, 403 or 429, as `needs`.
    """
    held = service(connection)
    try:
        caller = held.keys.caller(token)
        if not held.keys.open:
            await _check_guesses(connection, token, caller)
        if caller is None:
            raise _unknown(token)
        connection.scope.get("mien.log", {})["caller"] = caller.name
        if caller.role < role:
            message = f"{caller.name} is {caller.role.name.lower()}, this needs {role.name.lower()}"
            raise Problem(403, "role", message, "ask whoever runs the service for another token")
        await _check_rate(connection, caller)
    except Problem as problem:
        held.measures.refused(problem.code)
        raise
    return caller


def _unknown(token: str | None) -> Problem:
    message = "no token" if token is None else "the token is not valid"
    headers = {"WWW-Authenticate": 'Bearer realm="mien"'}
    return Problem(401, "token", message, "send the header Authorization: Bearer <token>", headers=headers)


async def _check_guesses(connection: HTTPConnection, token: str | None, caller: Caller | None) -> None:
    guesses = service(connection).keys.guesses
    address = connection.client.host if connection.client else ""
    if token is not None and (wait := guesses.wait(address, caller.name if caller else None)):
        raise _later("guesses", "too many wrong tokens came from this address", wait)
    if caller is not None:
        guesses.right(address, caller.name)
    elif token is not None:
        await asyncio.sleep(guesses.wrong(address))


async def _check_rate(connection: HTTPConnection, caller: Caller) -> None:
    if caller.rate is None:
        return
    held = service(connection)
    rates = held.keys.rates(held.settings.state)
    try:
        wait = await asyncio.to_thread(rates.take, caller.name, caller.rate)
    except (sqlite3.Error, OSError) as error:
        _log.error("requests of callers cannot be counted: %s", type(error).__name__)
        message = "the service cannot count requests now"
        raise Problem(503, "busy", message, "try again in a moment", headers={"Retry-After": "2"}) from error
    if wait:
        raise _later("rate", f"{caller.name} may ask {caller.rate:g} times a minute", wait)


def _later(code: str, message: str, wait: float) -> Problem:
    seconds = max(1, math.ceil(wait))
    return Problem(429, code, message, f"try again in {seconds} s", headers={"Retry-After": str(seconds)})


async def greet(socket: WebSocket, role: Role) -> Caller | None:
    """Accept a web socket and say whose it is; None: it was told why and closed.

    With tokens, the first message has to be ``{"token": "…"}``, within ``idle_seconds``, since a browser cannot send a
    header with a web socket; programs may send the header ``Authorization: Bearer`` instead.
    """
    await socket.accept()
    held = service(socket)
    try:
        token = _token(socket.headers)
        if token is None and not held.keys.open:
            token = await _first(socket, held.settings.limits.idle_seconds)
        return await admit(socket, token, role)
    except Problem as problem:
        error: dict[str, Any] = problems.body(problem, socket.scope.get("mien.request"))
        await socket.send_json({"type": "error", **error})
        await socket.close(_VIOLATION, problem.code)
    except WebSocketDisconnect:
        pass
    return None


async def _first(socket: WebSocket, seconds: float) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            message = await socket.receive()
    except TimeoutError:
        raise Problem(408, "too_slow", f"no token came within {seconds:g} s") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text = message.get("text") or ""
    try:
        given = json.loads(text) if len(text) <= _TOKEN_CHARACTERS else None
    except (ValueError, RecursionError):
        given = None
    token = given.get("token") if isinstance(given, dict) else None
    return token if isinstance(token, str) else None
