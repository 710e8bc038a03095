"""One connection of HTTP/1.1: uvicorn's, with the time limits and the shape of errors that it has not."""

from __future__ import annotations

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .problem import Problem, body

__all__ = ["CONNECTIONS", "STALLED", "Connection"]

CONNECTIONS = 1024
"""Connections at once in one process; past it a new one is answered 503."""

STALLED = 60.0
"""Seconds in which a reader has to take the 64 KiB that wait for it; else its connection is cut."""

_WAITING_BYTES = 65_536


class Connection(H11Protocol):
    """A connection that does not wait for ever: neither for a request's head nor for a reader.

    A head that is not whole within ``idle_seconds`` (set by the server on ``config``) is answered 408; one that is not
    HTTP 400, one that is too large 431, each in the one shape of errors; the connection is closed after it.
    """

    _head: asyncio.TimerHandle | None = None
    _reader: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first head; past `CONNECTIONS`, say so and close."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_WAITING_BYTES)
        if len(self.connections) > CONNECTIONS:
            self._turn_away(
                Problem(503, "busy", "too many connections", "try again later", headers={"Retry-After": "5"})
            )
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both clocks."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; the clock of the head runs from its first byte to its last."""
        super().data_received(data)
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            self._stop_head()
        elif self._head is None and self.conn.trailing_data[0]:
            self._wait_for_head()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to the web socket, which has clocks of its own."""
        self._stop()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        """Give the reader its time."""
        super().pause_writing()
        self._reader = self.loop.call_later(STALLED, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on, now that the reader took what waited."""
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn names it
        """Answer what is not a request: uvicorn calls this while it handles the error of h11."""
        error = sys.exception()
        if getattr(error, "error_status_hint", 400) == 431:
            self._turn_away(Problem(431, "head_too_large", "the head of the request is too large"))
        else:
            self._turn_away(Problem(400, "not_http", "this is not a request of HTTP/1.1"))

    def _wait_for_head(self) -> None:
        seconds: float = self.config.idle_seconds  # type: ignore[attr-defined]  # our configuration has it
        late = Problem(408, "head_too_slow", f"the head of the request did not come within {seconds:g} s")
        self._head = self.loop.call_later(seconds, self._turn_away, late)

    def _turn_away(self, problem: Problem) -> None:
        self._stop_head()
        if self.transport.is_closing():
            return
        content = json.dumps(body(problem, None), separators=(",", ":")).encode()
        headers: list[tuple[str, str]] = [
            ("content-type", "application/json"),
            ("content-length", str(len(content))),
            ("connection", "close"),
            *problem.headers.items(),
        ]
        events: tuple[Any, ...] = (
            h11.Response(status_code=problem.status, headers=headers, reason=HTTPStatus(problem.status).phrase),
            h11.Data(data=content),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _stop_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _stop(self) -> None:
        self._stop_head()
        if self._reader is not None:
            self._reader.cancel()
            self._reader = None
