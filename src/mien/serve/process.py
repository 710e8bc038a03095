"""One process that answers: uvicorn with our settings, which ends in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ModelError
from .connection import Connection
from .settings import ServeSettings

if TYPE_CHECKING:
    from ..pipeline.analyzer import Analyzer
    from .service import Service

__all__ = ["GRACE", "Gate", "Process"]

GRACE = 10
"""Seconds that answers in work are given when the process is told to end."""

_HEAD_BYTES = 16 * 1024
_BACKLOG = 512
_KEEP_ALIVE = 15


class _Config(uvicorn.Config):
    """uvicorn's configuration, and how long a connection may be silent within a head."""

    idle_seconds: float


class _Loop(asyncio.SelectorEventLoop):
    """Gives a client the time of a head for the handshake of TLS, too; asyncio gives it a minute."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def create_server(self, *arguments: Any, **options: Any) -> asyncio.Server:
        """Listen."""
        if options.get("ssl") is not None:
            options["ssl_handshake_timeout"] = self._seconds
        return await super().create_server(*arguments, **options)


class Gate:
    """ASGI middleware outside all others: it knows when the process is about to end, and why it could not start.

    An answer that would never end by itself (server-sent events) is ended when the process is told to end: such a
    client comes back by itself. Everything else is left to finish.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.failed: BaseException | None = None
        self.ending = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what comes."""
        if scope["type"] == "lifespan":
            await self._life(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _life(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def brief(message: Message) -> None:
            # Starlette sends the whole traceback; the error itself is told by whoever started the process.
            await send({k: v for k, v in message.items() if k != "message"})

        try:
            await self.app(scope, receive, brief)
        except BaseException as error:
            self.failed = error
            raise

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = endless = done = False

        async def heard() -> Message:
            nonlocal whole
            if whole and await self._ends_before(gone := asyncio.ensure_future(receive()), lambda: endless):
                return {"type": "http.disconnect"}
            message = gone.result() if whole else await receive()
            whole = not message.get("more_body", False)
            return message

        async def told(message: Message) -> None:
            nonlocal endless, done
            if message["type"] == "http.response.start":
                kinds = [v for k, v in message.get("headers", ()) if k.lower() == b"content-type"]
                endless = any(k.startswith(b"text/event-stream") for k in kinds)
            done = done or (message["type"] == "http.response.body" and not message.get("more_body", False))
            await send(message)

        await self.app(scope, heard, told)
        if endless and not done and self.ending.is_set():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ends_before(self, gone: asyncio.Future[Message], endless: Callable[[], bool]) -> bool:
        """Wait until the client is gone, or until the process ends an answer that has no end: then True."""
        ends = asyncio.ensure_future(self.ending.wait())
        try:
            await asyncio.wait((ends, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done() or not endless():
                await gone
            return not gone.done()
        finally:
            ends.cancel()
            gone.cancel()


class Process(uvicorn.Server):
    """Answers requests that come to some sockets until it is told to end.

    Parameters
    ----------
    settings
        With the port that the sockets have.
    sockets
        Bound, not yet listening; closed at the end.
    certificate
        Files of the certificate and its key, for TLS.
    log
        A configuration for `logging.config.dictConfig`; None: logging is left as it is.
    started
        Called once requests are answered, with the application.
    analyzer, run
        As `app.create_app` takes them.
    heeds
        Signals that are the wish to end.
    """

    def __init__(
        self,
        settings: ServeSettings,
        sockets: Sequence[socket.socket],
        *,
        certificate: tuple[Path, Path] | None = None,
        log: dict[str, Any] | None = None,
        started: Callable[[], None] | None = None,
        analyzer: Analyzer | None = None,
        run: bool = True,
        heeds: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
    ) -> None:
        from .app import create_app

        self.settings, self.sockets, self.signals = settings, list(sockets), list[int]()
        self._told, self._heeds = started, heeds
        self.application = create_app(settings, analyzer=analyzer, run=run)
        self.gate = Gate(self.application)
        super().__init__(_config(settings, self.gate, certificate, log))

    def answer(self) -> int | None:
        """Answer until told to end; return the signal that told so, None where none did.

        Raises
        ------
        MienError
            If the models cannot be loaded or the state cannot be opened.
        """
        try:
            self.run(self.sockets)
        except SystemExit as error:
            raise self.gate.failed or ModelError("the service did not start") from error
        finally:
            for each in self.sockets:
                each.close()
        return self.signals[0] if self.signals else None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer in an event loop of its own."""
        with asyncio.Runner(loop_factory=lambda: _Loop(self.settings.limits.idle_seconds)) as runner:
            runner.run(self.serve(sockets))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load, listen, and say so."""
        await super().startup(sockets)
        if self.started and self._told:
            self._told()

    async def on_tick(self, counter: int) -> bool:
        """Look ten times a second whether to end; once a second, note how the process is."""
        if counter % 10 == 0:
            held: Service = self.application.state.service
            load = held.engine.load()
            held.measures.pulse(waiting=load.waiting, running=load.running, streams=load.streams)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, end endless answers, let the others finish."""
        self.gate.ending.set()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take some signals as the wish to end, without uvicorn's raising them anew afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, self.handle_exit) for s in self._heeds}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal; a second Ctrl-C waits for nothing."""
        self.signals.append(sig)
        super().handle_exit(sig, frame)


def _config(
    settings: ServeSettings, app: ASGIApp, certificate: tuple[Path, Path] | None, log: dict[str, Any] | None
) -> _Config:
    limits = settings.limits
    made = _Config(
        app,
        http=Connection,
        ws="websockets-sansio",
        ws_max_size=limits.frame_bytes + 1024,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        # Frames are compressed pictures already, and what inflates is a way to fill the memory.
        ws_per_message_deflate=False,
        loop="asyncio",
        lifespan="on",
        interface="asgi3",
        log_config=log,
        log_level=logging.CRITICAL,
        access_log=False,
        server_header=False,
        proxy_headers=settings.proxy,
        forwarded_allow_ips=["127.0.0.1", "::1"],
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=_HEAD_BYTES,
        workers=1,
        ssl_certfile=certificate and certificate[0],
        ssl_keyfile=certificate and certificate[1],
    )
    made.idle_seconds = limits.idle_seconds
    return made
