"""Route of cameras: frames in, faces out, the newest frame wins."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..errors import MienError
from ..pipeline.analyzer import Analyzer
from ..render.palette import colours
from .analyze import ended, validated
from .engine import Engine
from .guard import greet
from .picture import Camera, Found, problem_for
from .policy import check
from .problem import Problem, problem_of
from .service import Service, service
from .shapes import StreamOptions, reasons_of, records
from .tokens import Role

__all__ = ["router"]

router = APIRouter()

_log = logging.getLogger("mien.serve")

_TEXT = 1000
"""Characters of a message with options."""

# Codes of RFC 6455, 7.4.1, and of the IANA's list.
_NORMAL, _AWAY, _REFUSED, _FAILED, _LATER = 1000, 1001, 1008, 1011, 1013


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    """Read the frames of a camera: the newest one, whenever the one before is done."""
    held = service(socket)
    caller = await greet(socket, Role.USER)
    if caller is None:
        return
    try:
        check(held.policy)
        with held.engine.stream() as camera:
            await _Stream(socket, held, camera).run()
    except Problem as problem:
        await _end(socket, problem, _LATER if problem.status in {429, 503} else _REFUSED)


async def _end(socket: WebSocket, problem: Problem, code: int) -> None:
    """Say why, then close; a client that is gone needs neither."""
    with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(1):
            await socket.send_json(_error(problem))
            await socket.close(code, problem.code)


def _error(problem: Problem, frame: int | None = None) -> dict[str, Any]:
    detail = {"code": problem.code, "message": problem.message, "hint": problem.hint}
    return {"type": "error", "error": detail} | ({} if frame is None else {"frame": frame})


class _Frame(NamedTuple):
    number: int
    data: bytes
    time: float


@dataclass(slots=True)
class _Stream:
    """One camera: a place for one frame that waits, and the work on the one before."""

    socket: WebSocket
    held: Service
    camera: Camera
    waiting: _Frame | None = None
    reading: asyncio.Task[dict[str, Any]] | None = None
    came: asyncio.Event = field(default_factory=asyncio.Event)
    sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    frames: int = 0
    dropped: int = 0
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())

    @property
    def engine(self) -> Engine:
        return self.held.engine

    async def run(self) -> None:
        """Read frames until the camera ends, goes silent or does not listen."""
        await self.send(_ready(self.camera.analyzer))
        tasks = {asyncio.create_task(self.receive()), asyncio.create_task(self.work())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (WebSocketDisconnect, _GoneError):
            pass
        finally:
            await ended(*tasks, *([self.reading] if self.reading else []))

    async def receive(self) -> None:
        """Take messages as fast as they come; a frame that nobody began to read gives way to the next."""
        idle = self.held.settings.limits.idle_seconds
        while True:
            try:
                async with asyncio.timeout(idle):
                    message = await self.socket.receive()
            except TimeoutError:
                await _end(self.socket, Problem(408, "idle", f"no message came for {idle:g} s"), _NORMAL)
                return
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", _NORMAL))
            if (data := message.get("bytes")) is not None:
                await self.take(data)
            else:
                await self.change(message.get("text") or "")

    async def take(self, data: bytes) -> None:
        """Put a frame into the one place."""
        number, self.frames = self.frames, self.frames + 1
        most = self.held.settings.limits.frame_bytes
        if len(data) > most:
            msg = f"a frame of {len(data)} bytes, the limit is {most}"
            await self.send(
                _error(Problem(413, "too_large", msg, "send smaller frames or more compressed ones"), number)
            )
            return
        if self.waiting is not None:
            self.dropped += 1
            self.held.measures.frame(dropped=1)
        self.waiting = _Frame(number, data, asyncio.get_running_loop().time())
        if self.reading is None:
            self.begin()
            self.came.set()

    async def change(self, text: str) -> None:
        """Take other options for the frames that are read from now on."""
        try:
            self.camera.analyzer = self.engine.camera_analyzer(**_options(text).model_dump())
        except (Problem, MienError) as error:
            await self.send(_error(error if isinstance(error, Problem) else problem_of(error)))
            return
        await self.send(_ready(self.camera.analyzer))

    async def work(self) -> None:
        """Send the answers; the next frame is begun before the answer to the one before is sent.

        Otherwise a client that sends a frame on every answer would now and then push out the one that waits.
        """
        while True:
            await self.came.wait()
            self.came.clear()
            while self.reading is not None:
                answer = await self.reading
                self.begin()
                await self.send(answer)

    def begin(self) -> None:
        """Begin to read the frame that waits, if one does."""
        frame, self.waiting = self.waiting, None
        self.reading = None if frame is None else asyncio.create_task(self.answer(frame))

    async def answer(self, frame: _Frame) -> dict[str, Any]:
        """Read a frame; a bad one does not end the stream."""
        try:
            found = await self.engine.follow(
                self.camera, frame.data, index=frame.number, time=frame.time - self.began, caller=id(self)
            )
        except MienError as error:
            return _error(problem_for(error), frame.number)
        except Problem as problem:
            if problem.status == 503:
                raise
            return _error(problem, frame.number)
        self.held.measures.frame()
        return self.seen(frame, found)

    def seen(self, frame: _Frame, found: Found) -> dict[str, Any]:
        """Return the answer to a frame."""
        reasons, hint = reasons_of(found.faces)
        spent = asyncio.get_running_loop().time() - frame.time
        return {
            "type": "faces",
            "frame": frame.number,
            "dropped": self.dropped,
            "width": found.width,
            "height": found.height,
            "milliseconds": round(spent * 1000, 1),
            "faces": records(found.faces),
            "more_faces": found.more,
            "reasons": reasons,
            "hint": hint,
        }

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message to a client that listens."""
        try:
            async with asyncio.timeout(self.held.settings.limits.idle_seconds), self.sending:
                await self.socket.send_text(json.dumps(message, ensure_ascii=False, allow_nan=False))
        except (TimeoutError, RuntimeError, OSError) as error:
            raise _GoneError from error


class _GoneError(Exception):
    """The client does not take what is sent."""


def _ready(reader: Analyzer) -> dict[str, Any]:
    tints = colours(reader.labels.labels)
    return {
        "type": "ready",
        "labels": list(reader.labels),
        "colours": ["#{:02x}{:02x}{:02x}".format(*tints[label]) for label in reader.labels],
    }


def _options(text: str) -> StreamOptions:
    if len(text) > _TEXT:
        raise Problem(413, "too_large", f"a message of {len(text)} characters, the limit is {_TEXT}")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise Problem(422, "json", "the message is not JSON", 'send {"labels": "seven"}, or a frame as bytes') from None
    if not isinstance(values, dict):
        raise Problem(422, "json", "the message is not an object", 'send {"labels": "seven"}')
    return validated(StreamOptions, values)
