"""nginx with `deploy/nginx.conf`, on free ports, in front of something; and a client that calls it by its name."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mien.serve.settings import ServeSettings
from mien.serve.tls import certificate_files

SNIPPET = Path(__file__).resolve().parents[1] / "deploy" / "nginx.conf"
NAME = "faces.example"
_NONE: Mapping[str, str] = MappingProxyType({})

_MAIN = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/mien.conf;
}}
"""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Front:
    """A running nginx: its folder, its ports with TLS and without, and what trusts its certificate."""

    folder: Path
    port: int
    plain: int
    trust: ssl.SSLContext

    def socket(self, name: str | None = NAME) -> ssl.SSLSocket:
        """Open a connection under a name."""
        held = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        return self.trust.wrap_socket(held, server_hostname=name)

    def connection(self) -> http.client.HTTPConnection:
        """Open a connection for HTTP."""
        held = http.client.HTTPConnection(NAME, 443)
        held.sock = self.socket()
        return held

    def ask(self, method: str, path: str, body: bytes | None = None, *, headers: Mapping[str, str] = _NONE) -> Answer:
        """Send one request."""
        held = self.connection()
        try:
            return answered(held, method, path, body, headers=headers)
        finally:
            held.close()


def answered(
    held: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    headers: Mapping[str, str] = _NONE,
) -> Answer:
    """Send a request over a connection."""
    held.putrequest(method, path, skip_host="Host" in headers)
    given = dict(headers)
    if body is not None:
        given.setdefault("Content-Length", str(len(body)))
    for key, value in given.items():
        held.putheader(key, value)
    held.endheaders(body)
    came = held.getresponse()
    return Answer(came.status, {k.lower(): v for k, v in came.getheaders()}, came.read())


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
    return port


@contextmanager
def nginx(folder: Path, behind: int) -> Iterator[Front]:
    """Run nginx in front of a port of this machine; nothing of the snippet is changed but ports and places."""
    files = certificate_files(ServeSettings(state=folder / "tls", tls="self-signed", hosts=(NAME,)))
    assert files is not None
    trust = ssl.create_default_context(cafile=str(files[0]))
    front = Front(folder, free_port(), free_port(), trust)
    text = SNIPPET.read_text()
    for old, new in {
        "listen 80;": f"listen 127.0.0.1:{front.plain};",
        "listen 443 ssl": f"listen 127.0.0.1:{front.port} ssl",
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{behind};",
        "/etc/ssl/mien/fullchain.pem": str(files[0]),
        "/etc/ssl/mien/privkey.pem": str(files[1]),
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    (folder / "mien.conf").write_text(text)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    command = [shutil.which("nginx") or "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    tried = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False, timeout=60)
    assert tried.returncode == 0, tried.stderr
    assert "[warn]" not in tried.stderr, tried.stderr
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(front, running)
        yield front
    finally:
        running.terminate()
        running.wait(30)


def _wait(front: Front, running: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", front.port), timeout=5).close()
        except OSError:
            assert running.poll() is None, (front.folder / "error.log").read_text()
            assert time.monotonic() < until, "nginx does not listen"
        else:
            return


class Echo(ThreadingHTTPServer):
    """Stands where mien would: tells what came to it, and when the first of a body came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.first = threading.Event()

    def __enter__(self) -> Echo:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # an answer in one piece
    server: Echo

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if size:
            self.rfile.read(1)
            self.server.first.set()
            self.rfile.read(size - 1)
        told = json.dumps({"path": self.path, "headers": [[k.lower(), v] for k, v in self.headers.items()]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_POST = do_GET  # noqa: N815  # the name is the library's

    def log_message(self, *_: object) -> None:
        """Say nothing."""
