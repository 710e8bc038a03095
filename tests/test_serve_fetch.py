"""An address that a client names leads to the public internet or nowhere, at every step; what comes is a picture."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from serving import face, settings

from mien.serve.fetch import INTERNET, Reach, fetch, is_public
from mien.serve.problem import Problem
from mien.serve.settings import ServeSettings

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site(ThreadingHTTPServer):
    """A server that answers by path and notes what it was asked."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.asked: list[tuple[str, str | None, dict[str, str]]] = []
        self.answers = answers
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers.get("host"), dict(self.headers)))
                site.answers.get(self.path, status(404))(self)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client cut the line, as it should


def body(data: bytes, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in {"content_length": str(len(data)), **headers}.items():
            if value:
                handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def dripping(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(face()[:5000])
    while True:
        handler.wfile.write(b"x")
        handler.wfile.flush()
        threading.Event().wait(0.02)


@pytest.fixture
def site() -> Iterator[Site]:
    held = Site({"/a.png": body(face())})
    thread = threading.Thread(target=held.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield held
    held.shutdown()
    held.server_close()
    thread.join()


def inside(site: Site, **changes: object) -> Reach:
    """Reach the names that end in .test, which lie at this server, and nothing else."""
    names = {"pictures.test": ["127.0.0.1"], "private.test": ["10.0.0.1"], "both.test": ["127.0.0.1", "10.0.0.1"]}

    def resolve(host: str, port: int) -> list[str]:
        if host not in names:
            raise socket.gaierror(-2, "no such name")
        return names[host]

    reach = Reach(resolve=resolve, allow=lambda a: str(a) == "127.0.0.1", ports=frozenset({site.port}), itself=True)
    return replace(reach, **changes)  # type: ignore[arg-type]  # fields of it


def on(**limits: int) -> ServeSettings:
    return settings(Path("nowhere"), fetch=True, limits=limits)


def got(url: str, told: ServeSettings | None = None, *, reach: Reach = INTERNET, seconds: float = 5.0) -> bytes:
    return asyncio.run(fetch(url, told or on(), reach=reach, seconds=seconds))


def refusal(
    url: str, told: ServeSettings | None = None, *, reach: Reach = INTERNET, seconds: float = 5.0
) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        got(url, told, reach=reach, seconds=seconds)
    return caught.value.status, caught.value.code


# Off, and where it may never go


def test_it_is_off_unless_switched_on() -> None:
    assert refusal("http://1.1.1.1/a.png", settings(Path("nowhere"))) == (403, "fetch_off")


PRIVATE = [
    "127.0.0.1", "127.1.2.3", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "0", "0.0.0.0",  # noqa: S104  # refused
    "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.127.255.254",
    "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.5", "224.0.0.1", "239.1.1.1",
    "240.0.0.1", "255.255.255.255",
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:8.8.8.8]", "[::127.0.0.1]", "[fe80::1]",
    "[fc00::1]", "[fd12:3456::1]", "[fec0::1]", "[ff02::1]", "[64:ff9b::7f00:1]", "[64:ff9b::8.8.8.8]",
    "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[2001:db8::1]", "[3fff::1]",
    "[100::1]", "[5f00::1]",
    "localhost", "localhost.", "ip6-localhost", "no-such-name.invalid",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_addresses_inside_are_refused_in_every_spelling(scheme: str, host: str) -> None:
    assert refusal(f"{scheme}://{host}/a.png") == (403, "fetch_refused")


def test_addresses_outside_are_not() -> None:
    for text in ("1.1.1.1", "8.8.8.8", "93.184.215.14", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"):
        assert is_public(ipaddress.ip_address(text)), text


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_what_python_calls_special_is_never_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    special = (
        address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
        or address.is_reserved or address.is_unspecified or not address.is_global
    )  # fmt: skip
    assert not (special and is_public(address))
    assert not is_public(ipaddress.ip_address(f"::ffff:{address}")) if address.version == 4 else True


@pytest.mark.parametrize("port", [22, 25, 6379, 8000, 11211])
def test_other_ports_are_refused(port: int) -> None:
    assert refusal(f"http://1.1.1.1:{port}/a.png") == (403, "fetch_refused")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://1.1.1.1/a", "file:///etc/passwd", "gopher://1.1.1.1/", "data:image/png;base64,AA", "//1.1.1.1/a",
        "a.png", "", "http://", "http:///a", "http://user@1.1.1.1/a", "http://u:p@1.1.1.1/", "http://1.1.1.1:99999/",
        "http://[::1/", "http://1.1.1.1/a\r\nHost: x", "http://1.1.1.1/a b", "http://1.1.1.1\\@127.0.0.1/", "http://bücher.example/",
        "http://1.1.1.1/\0", "jar:http://1.1.1.1!/", "HTTP ://1.1.1.1/",
    ],
)  # fmt: skip
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    assert refusal(url) == (422, "fetch_address")


# What is fetched


def test_a_picture_comes_with_the_name_asked_and_nothing_of_ours(site: Site) -> None:
    reach = inside(site)
    assert got(f"http://pictures.test:{site.port}/a.png", reach=reach) == face()
    ((path, host, headers),) = site.asked
    assert (path, host) == ("/a.png", f"pictures.test:{site.port}")
    assert {n.lower() for n in headers} == {"host", "user-agent", "accept", "accept-encoding", "connection"}


def test_a_name_with_one_address_inside_is_refused_whole(site: Site) -> None:
    for name in ("both.test", "private.test", "unknown.test"):
        assert refusal(f"http://{name}:{site.port}/a.png", reach=inside(site)) == (403, "fetch_refused")
    assert site.asked == []


def test_a_name_is_looked_up_once_and_the_checked_address_taken(site: Site) -> None:
    # The second answer of a name server that plays with us would lead inside.
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    reach = inside(site, resolve=lambda host, port: answers.pop(0))
    assert got(f"http://rebinding.test:{site.port}/a.png", reach=reach) == face()
    assert len(answers) == 1


def test_this_machine_is_refused_by_whatever_address(site: Site) -> None:
    reach = inside(site, itself=False)
    assert refusal(f"http://pictures.test:{site.port}/a.png", reach=reach) == (403, "fetch_refused")
    assert site.asked == []


def test_redirects_are_followed_and_checked(site: Site) -> None:
    here = f"http://pictures.test:{site.port}"
    site.answers |= {
        "/once": status(302, Location="/a.png"),
        "/thrice": status(307, Location="/twice"),
        "/twice": status(308, Location=f"{here}/once"),
        "/four": status(301, Location="/thrice"),
        "/loop": status(302, Location="/loop"),
        "/in": status(302, Location="http://127.0.0.1:1/a.png"),
        "/private": status(302, Location=f"http://private.test:{site.port}/a.png"),
        "/file": status(302, Location="file:///etc/passwd"),
        "/empty": status(302),
        "/gone": status(410),
    }
    reach = inside(site)
    assert got(f"{here}/once", reach=reach) == got(f"{here}/thrice", reach=reach) == face()
    for path, answer in {
        "/four": (422, "fetch_failed"),
        "/loop": (422, "fetch_failed"),
        "/in": (403, "fetch_refused"),
        "/private": (403, "fetch_refused"),
        "/file": (422, "fetch_address"),
        "/empty": (422, "fetch_failed"),
        "/gone": (422, "fetch_failed"),
    }.items():
        assert refusal(f"{here}{path}", reach=reach) == answer, path


def test_what_comes_must_be_a_picture_and_not_too_large(site: Site) -> None:
    here = f"http://pictures.test:{site.port}"
    site.answers |= {
        "/html": body(b"<html>" + bytes(50_000)),
        "/empty": body(b""),
        "/gzip": body(face(), content_encoding="gzip"),
        "/says": body(face(), content_length="9999999"),
        "/endless": body(face() + bytes(200_000), content_length=""),
        "/short": body(face()[:4500], content_length="5000"),
    }
    reach, told = inside(site), on(body_bytes=100_000)
    for path, answer in {
        "/html": (415, "not_a_picture"),
        "/empty": (415, "not_a_picture"),
        "/gzip": (422, "fetch_failed"),
        "/says": (413, "too_large"),
        "/endless": (413, "too_large"),
        "/short": (422, "fetch_failed"),
    }.items():
        assert refusal(f"{here}{path}", told, reach=reach) == answer, path


def test_a_server_that_drips_is_cut_off(site: Site) -> None:
    site.answers["/drip"] = dripping
    began = time.monotonic()
    answer = refusal(f"http://pictures.test:{site.port}/drip", reach=inside(site), seconds=0.3)
    assert answer == (422, "fetch_slow")
    assert time.monotonic() - began < 3


def test_a_server_that_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        reach = Reach(allow=lambda a: True, ports=frozenset({port}), itself=True)
        for scheme in ("http", "https"):
            assert refusal(f"{scheme}://127.0.0.1:{port}/a", reach=reach, seconds=0.2) == (422, "fetch_slow")


def test_only_a_few_at_once(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        reach = Reach(allow=lambda a: True, ports=frozenset({port}), itself=True)

        async def many() -> list[str]:
            asked = [fetch(f"http://127.0.0.1:{port}/", on(), reach=reach, seconds=0.3) for _ in range(10)]
            problems = await asyncio.gather(*asked, return_exceptions=True)
            return sorted(p.code for p in problems if isinstance(p, Problem))

        assert asyncio.run(many()) == ["busy"] * 6 + ["fetch_slow"] * 4
    assert got(f"http://pictures.test:{site.port}/a.png", reach=inside(site)) == face()  # the slots came back


def certificate(folder: Path, name: str) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    today = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(today - datetime.timedelta(1))
        .not_valid_after(today + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "c.pem").write_bytes(
        signed.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "c.pem")
    return context


def test_tls_holds_the_name_not_the_address(site: Site, tmp_path: Path) -> None:
    context = certificate(tmp_path, "pictures.test")
    named: list[str | None] = []
    context.sni_callback = lambda sock, name, ctx: named.append(name)
    site.socket = context.wrap_socket(site.socket, server_side=True)
    trusted = inside(site, tls=lambda: ssl.create_default_context(cafile=str(tmp_path / "c.pem")))
    assert got(f"https://pictures.test:{site.port}/a.png", reach=trusted) == face()
    assert named == ["pictures.test"]
    other = replace(trusted, resolve=lambda host, port: ["127.0.0.1"])
    assert refusal(f"https://other.test:{site.port}/a.png", reach=other) == (422, "fetch_failed")
    assert refusal(f"https://pictures.test:{site.port}/a.png", reach=inside(site)) == (422, "fetch_failed")
