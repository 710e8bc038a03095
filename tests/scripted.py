"""A server of a few lines that answers just what a test tells it to, byte by byte, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mien.client import Client
from mien.results.faces import Faces

JOB: dict[str, Any] = {
    "id": "j1",
    "state": "running",
    "name": "film.mp4",
    "created": "2026-01-02T03:04:05Z",
    "progress": {"frames": 5, "total": 10, "fraction": 0.5, "frames_per_second": 2.5, "eta_seconds": 2.0},
    "results": [{"name": "faces.csv", "url": "/v1/jobs/j1/results/faces.csv", "media_type": "text/csv", "bytes": 9}],
    "attempts": 1,
    "new in a later version": {},
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request; ``link`` numbers its connection."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    link: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes to send; then the connection is closed, or kept. ``early``: before the body of the request is read."""

    data: bytes
    close: bool = False
    early: bool = False


def reply(
    status: int, body: object = b"", *, headers: dict[str, str] | None = None, length: int | None = None, **how: bool
) -> Reply:
    """A whole answer; what is not bytes goes as JSON. ``length``: what it says of its length, truly or not."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"Content-Length": str(len(data) if length is None else length)} | (headers or {})
    lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in told.items())]
    return Reply("\r\n".join(lines).encode() + b"\r\n\r\n" + data, **how)


def refusal(status: int, code: str, message: str, **more: Any) -> Reply:
    """An error in the shape of the service."""
    told = {"error": {"code": code, "message": message, "hint": more.pop("hint", None), "request": "r"}}
    return reply(status, told, **more)


@dataclass(slots=True)
class Script:
    """What is answered, in order, whatever is asked; and what was asked."""

    replies: list[Reply]
    address: str = ""
    asked: list[Asked] = field(default_factory=list)
    links: int = 0

    def serve(self, link: socket.socket, number: int) -> None:
        """Answer the requests of one connection."""
        with link, suppress(OSError), link.makefile("rb") as file:
            while line := file.readline():
                method, target, _ = line.decode().split(" ", 2)
                headers = {}
                while (head := file.readline().decode().rstrip("\r\n")) != "":
                    key, _, value = head.partition(":")
                    headers[key.lower()] = value.strip()
                answer = self.replies.pop(0) if self.replies else Reply(b"", close=True)
                body = b"" if answer.early else file.read(int(headers.get("content-length", 0)))
                self.asked.append(Asked(method, target, headers, body, number))
                link.sendall(answer.data)
                if answer.close:
                    link.shutdown(socket.SHUT_WR)
                    return


@contextmanager
def scripted(*replies: Reply) -> Iterator[Script]:
    """Start such a server on a free port; on leaving, all has to be answered."""
    script = Script(list(replies))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        script.address = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def accept() -> None:
            with suppress(OSError):
                while True:
                    link, _ = listening.accept()
                    script.links += 1
                    threads.append(threading.Thread(target=script.serve, args=(link, script.links), daemon=True))
                    threads[-1].start()

        threads: list[threading.Thread] = []
        threading.Thread(target=accept, daemon=True).start()
        yield script
        listening.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(20)
    assert script.replies == []


@contextmanager
def asking(*replies: Reply, **options: Any) -> Iterator[tuple[Script, Client]]:
    """A client of a server that gives these answers."""
    with scripted(*replies) as script, Client(script.address, **options) as service:
        yield script, service


def table(*sources: str) -> tuple[Faces, bytes]:
    """A table with a face a source, of numbers that six decimals cannot hold, and its JSON lines."""
    random = np.random.default_rng(3)
    n = len(sources)
    scores = random.dirichlet(np.ones(8), n).astype(np.float32)
    faces = Faces.build(
        n, sources=sources, source=np.arange(n), face=0, box=random.random((n, 4)) * 99, score=0.9, expression=scores
    )
    return faces, lines(faces)


def lines(faces: Faces) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in faces.records(exact=True)).encode()


def event(kind: str, **changes: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(JOB | changes)}\n\n".encode()


def sse(*events: bytes) -> Reply:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    return Reply(head + b"".join(events), close=True)
