"""What a stranger has: bytes on a line, files that lie, patience. `serve_attacks.py` tries them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer

import cv2
import numpy as np

_PATIENCE = 45.0
FORM = "multipart/form-data; boundary=b"


@dataclass(frozen=True)
class Service:
    """Where the service is, and a token that it takes."""

    port: int
    token: str


@dataclass(frozen=True)
class Answer:
    """What came back: status 0 for a line that was cut without an answer."""

    status: int
    code: str
    head: str
    body: bytes
    seconds: float

    @property
    def shown(self) -> str:
        """Status and code, as a table shows them."""
        return f"{self.status} {self.code}".strip() if self.status else "cut off"


Pieces = Iterable[bytes | float]


def send(service: Service, pieces: Pieces) -> Answer:
    """Send bytes as they are, waiting where a number stands, and read until the answer is whole."""
    began = time.perf_counter()
    data = b""
    with socket.create_connection(("127.0.0.1", service.port), timeout=_PATIENCE) as line, contextlib.suppress(OSError):
        try:
            for piece in pieces:
                if isinstance(piece, float):
                    line.settimeout(piece)
                    with contextlib.suppress(TimeoutError):
                        if line.recv(1, socket.MSG_PEEK):
                            break
                    line.settimeout(_PATIENCE)
                else:
                    line.sendall(piece)
        except OSError:
            pass  # it was answered before all was sent
        line.settimeout(_PATIENCE)
        while not _whole(data) and (block := line.recv(65_536)):
            data += block
    head, _, body = data.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return Answer(status, _code(body), head.decode("latin-1"), body, time.perf_counter() - began)


def _whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    length = next((h.split(b":")[1] for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), None)
    return bool(end) and length is not None and len(body) >= int(length)


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["code"])
    except (ValueError, LookupError, TypeError):
        return ""


def head(service: Service, method: str, target: str, *lines: str, length: int | None = None) -> bytes:
    """Spell the head of a request; a line that begins with Host or Authorization takes the place of ours.

    ``{port}`` and ``{token}`` in a line are those of the service.
    """
    lines = tuple(line.format(port=service.port, token=service.token) for line in lines)
    target = target.replace("{token}", service.token)
    given = {line.partition(":")[0].lower() for line in lines}
    own = [("Host", f"127.0.0.1:{service.port}"), ("Authorization", f"Bearer {service.token}"), ("Connection", "close")]
    kept = [f"{name}: {value}" for name, value in own if name.lower() not in given]
    sized = [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *kept, *lines, *sized, "", ""]).encode("latin-1")


def ask(service: Service, method: str, target: str, *lines: str, body: bytes | None = None) -> Answer:
    """Send a plain request."""
    return send(
        service, [head(service, method, target, *lines, length=None if body is None else len(body)), body or b""]
    )


def post(service: Service, body: bytes, kind: str = "image/jpeg", target: str = "/v1/analyze", *lines: str) -> Answer:
    """Send a body."""
    return ask(service, "POST", target, f"Content-Type: {kind}", *lines, body=body)


def form(*parts: tuple[str, bytes]) -> bytes:
    """Spell a form out of (what stands after ``form-data;``, content)."""
    spelled = [f"--b\r\nContent-Disposition: form-data; {how}\r\n\r\n".encode() + data + b"\r\n" for how, data in parts]
    return b"".join(spelled) + b"--b--\r\n"


Tries = Callable[[Service], Answer]


def asked(method: str, target: str, *lines: str, body: bytes | None = None) -> Tries:
    """Ask later."""
    return lambda service: ask(service, method, target, *lines, body=body)


def got(target: str, *lines: str) -> Tries:
    """Get later."""
    return asked("GET", target, *lines)


def posted(body: bytes, kind: str = "image/jpeg", target: str = "/v1/analyze", *lines: str) -> Tries:
    """Post later."""
    return lambda service: post(service, body, kind, target, *lines)


def formed(*parts: tuple[str, bytes]) -> Tries:
    """Post a form later."""
    return posted(form(*parts), FORM)


def raw(*pieces: bytes | float) -> Tries:
    """Send bytes as they are, later."""
    return lambda service: send(service, pieces)


# Files


def portrait() -> bytes:
    """Make a picture that can be read and shows nobody."""
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int) -> bytes:
    """Make a black one-bit PNG of any size, row by row."""
    packer, row = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    ihdr = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", ihdr) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def gif() -> bytes:
    """Make a GIF whose canvas has 4.3 gigapixels."""
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0)
        + bytes(6)
        + (b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;")
    )


def jpeg_header(width: int, height: int) -> bytes:
    """Say in a JPEG's header that it is larger than it is."""
    data = bytearray(portrait())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HTML = b"<html><script>alert(1)</script></html>"
XXE = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>'
ZIP = b"PK\x03\x04\x14\0\0\0\x08\0" + bytes(60) + b"PK\x05\x06" + bytes(18)
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
GIF_JS = b"GIF89a/*" + bytes(20) + b"*/=1;alert(1)//"


# Attacks that need more than one request


def slow_body(service: Service, piece: bytes, pause: float) -> Answer:
    """Begin a body, then send a piece now and then."""

    def pieces() -> Iterator[bytes | float]:
        yield head(service, "POST", "/v1/analyze", "Content-Type: image/jpeg", length=1_000_000)
        for _ in range(200):
            yield piece
            yield pause

    return send(service, pieces())


def slow_head(service: Service, pause: float) -> Answer:
    """Send a head one line at a time, and never its end."""

    def pieces() -> Iterator[bytes | float]:
        yield b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
        for n in range(200):
            yield pause
            yield f"X-{n}: y\r\n".encode()

    return send(service, pieces())


def chunked(service: Service, size: int, target: str = "/v1/analyze") -> Answer:
    """Send a body whose length is not told."""
    start = head(service, "POST", target, "Content-Type: image/jpeg", "Transfer-Encoding: chunked")
    block = b"10000\r\n" + b"\xff\xd8\xff" + bytes(0x10000 - 3) + b"\r\n"
    return send(service, [start, *[block] * (size // 0x10000), b"0\r\n\r\n"])


def guessing(service: Service) -> Answer:
    """Guess tokens until turned away."""
    answer = Answer(0, "", "", b"", 0.0)
    began = time.perf_counter()
    for n in range(40):
        answer = ask(service, "GET", "/v1/models", f"Authorization: Bearer mien_{n:043d}")
        if answer.status != 401:
            break
    return Answer(answer.status, f"{answer.code} after {n}", answer.head, answer.body, time.perf_counter() - began)


def socket_from(service: Service, lines: tuple[str, ...]) -> Answer:
    """Open a web socket."""
    key = base64.b64encode(bytes(16)).decode()
    upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}")
    return send(service, [head(service, "GET", "/v1/stream", *upgrade, *lines)])


def named(service: Service, url: str) -> Answer:
    """Name an address to be fetched."""
    return post(service, json.dumps({"pictures": [{"url": url}]}).encode(), "application/json")


def redirected(service: Service) -> Answer:
    """Let an address that may be fetched send us on to the service itself; in this process, for want of an internet."""
    from mien.serve.fetch import Address, Reach, fetch, is_public
    from mien.serve.problem import Problem
    from mien.serve.settings import ServeSettings

    target = f"http://127.0.0.1:{service.port}/healthz"

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    seen: list[Address] = []

    def allow(address: Address) -> bool:
        seen.append(address)  # the first stands for one outside
        return len(seen) == 1 or is_public(address)

    with HTTPServer(("127.0.0.1", 0), Redirect) as outside:
        threading.Thread(target=outside.handle_request, daemon=True).start()
        port = int(outside.server_address[1])
        reach = Reach(allow=allow, ports=frozenset({port, service.port}), itself=True)
        began = time.perf_counter()
        try:
            asyncio.run(fetch(f"http://127.0.0.1:{port}/", ServeSettings(fetch=True), reach=reach))
        except Problem as problem:
            assert len(seen) == 2, "it was not sent on"
            return Answer(problem.status, problem.code, "", b"", time.perf_counter() - began)
    return Answer(200, "fetched", "", b"", time.perf_counter() - began)
