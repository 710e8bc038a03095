"""One request and its answer, seen from outside: how much comes, how slowly, what goes out, what the log says."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from . import problem as problems
from .armour import arm
from .origin import Place
from .problem import Problem
from .settings import Limits

__all__ = ["Exchange", "Memory"]

_SMALL = 65_536
_LINGER_SECONDS = 2.0
_LINGER_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Memory:
    """Bytes of bodies that all requests of a process hold together.

    Attributes
    ----------
    most
        Past it a request is answered 503.
    held
        Now.
    """

    most: int
    held: int = 0


class Exchange:
    """Stands between the server and the application for one request.

    Parameters
    ----------
    scope, receive, send
        As the server gave them.
    limits
        Of the service.
    memory
        Of the process.
    request_id
        What the answer and the log call it.
    hsts
        Tell browsers to come by TLS only from now on, where the request came so.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, limits: Limits, memory: Memory, request_id: str, hsts: bool
    ) -> None:
        self.scope, self._receive, self._send = scope, receive, send
        self.limits, self.memory, self.request_id = limits, memory, request_id
        self.headers = Headers(scope=scope)
        self.place: Place | None = None
        self.status = 0
        self.came = self.went = 0
        self.started = self.finished = False
        self._secure = hsts and scope["scheme"] == "https"
        self._problem: Problem | None = None
        self._waited = self._silent = 0.0
        self._held = 0
        self._lingers = True
        self._limit, self._limit_name = _limit(scope["path"], limits)
        self._body_ended = not ("transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0")

    def check_length(self) -> None:
        """Refuse a body that says itself that it is too large, or gives two lengths.

        Raises
        ------
        Problem
            400 or 413.
        """
        lengths = self.headers.getlist("content-length")
        if len(lengths) > 1 or (lengths and "transfer-encoding" in self.headers):
            raise Problem(400, "length", "the body has more than one length")
        if lengths and not (lengths[0].isascii() and lengths[0].isdigit()):
            raise Problem(400, "length", "Content-Length is not a number")
        if lengths and (len(lengths[0]) > 18 or int(lengths[0]) > self._limit):
            raise self._too_large()

    async def receive(self) -> Message:
        """Give the application what comes, as long as it comes in time and is not too much.

        Raises
        ------
        Problem
            408, 413 or 503, which is then the answer, whatever the application makes of it.
        """
        if self._body_ended:
            return await self._receive()
        try:
            message = await self._in_time()
        except Problem as problem:
            self._problem = problem
            raise
        if message["type"] != "http.request":
            self._problem = Problem(499, "gone", "the client went away")
        return message

    async def _in_time(self) -> Message:
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(0.01, self.limits.idle_seconds - self._silent))
        except TimeoutError:
            self._lingers = False
            raise self._too_slow() from None
        self._body_ended = message["type"] != "http.request" or not message.get("more_body", False)
        # Only waiting for the client counts, not what the application does between.
        passed = time.monotonic() - began
        self._waited += passed
        size = len(message.get("body", b""))
        self._silent = 0.0 if size else self._silent + passed
        self._count(size)
        if (
            not self._body_ended
            and self._waited > self.limits.idle_seconds
            and self.came < self.limits.least_rate * self._waited
        ):
            raise self._too_slow()
        return message

    def _count(self, size: int) -> None:
        self.came += size
        if self.came > self._limit:
            raise self._too_large()
        if self._limit_name != "film_bytes":  # a film goes to the disk, all else is held until it is answered
            self._held += size
            self.memory.held += size
            if self.memory.held > self.memory.most:
                hint = "try again in a moment"
                raise Problem(503, "busy", "too many requests hold their bodies", hint, headers={"Retry-After": "2"})

    def _too_large(self) -> Problem:
        hint = "send less at once"
        if self._limit_name:
            hint += f"; whoever runs the service can raise {self._limit_name}"
        named = f" ({self._limit_name})" if self._limit_name else ""
        return Problem(413, "too_large", f"the body is over the limit of {self._limit} bytes{named}", hint)

    def _too_slow(self) -> Problem:
        limits = self.limits
        message = (
            f"the body came too slowly: silent for {limits.idle_seconds:g} s, or below {limits.least_rate} bytes/s"
        )
        return Problem(408, "too_slow", message, "try again on a better line")

    async def send(self, message: Message) -> None:
        """Send what the application answers, in armour; or the problem that was met while its body came."""
        if self.finished:
            return
        if message["type"] == "http.response.start":
            if self._problem is not None and self._problem.status != message["status"]:
                await self.answer(self._problem)
                return
            self.started = True
            self.status = message["status"]
            message = {**message, "headers": self._armoured(message)}
        elif message["type"] == "http.response.body":
            self.went += len(message.get("body", b""))
            if not message.get("more_body", False):
                await self._last(message)
                return
        await self._send(message)

    async def answer(self, problem: Problem) -> None:
        """Answer with a problem, unless the answer has begun."""
        if self.started or self.finished:
            return
        self._problem = None
        await problems.answer(problem, self.request_id)(self.scope, self.receive, self.send)

    def release(self) -> None:
        """Give back what the body held."""
        self.memory.held -= self._held
        self._held = 0

    def _armoured(self, message: Message) -> list[tuple[bytes, bytes]]:
        headers = MutableHeaders(raw=list(message.get("headers", ())))
        headers["x-request-id"] = self.request_id
        arm(headers, path=self.scope["path"], place=self.place, secure=self._secure)
        if not self._body_ended:
            # The rest of the body would otherwise be taken for the next request, or for ever waited for.
            headers["connection"] = "close"
        return headers.raw

    async def _last(self, message: Message) -> None:
        self.finished = True
        if self._body_ended or not self._lingers or (self.headers.get("expect") and not self.came):
            await self._send(message)
            return
        # The server cuts the line after the answer's end; a client that still sends would then never see the answer.
        await self._send({**message, "more_body": True})
        await self._linger()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        read = 0
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while read < _LINGER_BYTES:
                    message = await self._receive()
                    read += len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return


def _limit(path: str, limits: Limits) -> tuple[int, str]:
    if path.startswith("/v1/films"):
        return limits.film_bytes, "film_bytes"
    if path.startswith("/v1/analyze"):
        return limits.body_bytes, "body_bytes"
    return _SMALL, ""
