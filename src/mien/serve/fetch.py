"""Fetching a picture from an address that a client names: off unless it was switched on.

Whoever names the address sits outside; what it leads to must not be something that only this machine can reach. So the
name is looked up once, every address it has must be one of the public internet, the connection goes to the very address
that was checked, and each redirect is taken by hand with the same checks.
"""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import version
from urllib.parse import urljoin, urlsplit

from ..media.source import Kind, sniff
from .problem import Problem
from .settings import ServeSettings

__all__ = ["INTERNET", "Reach", "fetch", "is_public"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REDIRECTS = 3
_SECONDS = 10.0
_AT_ONCE = 4
_BLOCK = 65_536
_HEAD = 4096
_MOVED = {301, 302, 303, 307, 308}
_PLAIN = re.compile(r"[!-\[\]-~]+")  # printable ASCII without space and backslash
_HINT = "send the bytes of the picture instead"

# What `ipaddress` calls global in some version, and is not: IANA's registries of special addresses, July 2025; and what
# is carried to an IPv4 address that it names (6to4, Teredo; the prefixes of NAT64 lie outside 2000::/3).
_UNICAST6 = ipaddress.IPv6Network("2000::/3")
_SPECIAL: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
            "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
        ),
    )
)  # fmt: skip


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the public internet.

    Private, loopback, link-local, multicast, shared (CGNAT), documentation, reserved and translated ones (IPv4 in IPv6,
    6to4, Teredo, NAT64) are not.

    Examples
    --------
    >>> [is_public(ipaddress.ip_address(a)) for a in ("1.1.1.1", "10.0.0.1", "::ffff:1.1.1.1", "64:ff9b::101:101")]
    [True, False, False, False]
    """
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST6:
        return False
    return address.is_global and not any(address in n for n in _SPECIAL if n.version == address.version)


def look_up(host: str, port: int) -> list[str]:
    """Return the addresses of a name, as the system knows them; also of an address in any spelling."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(f[4][0]) for f in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What may be reached; tests reach a server of their own.

    Attributes
    ----------
    resolve
        Gives the addresses of a host.
    allow
        Tells whether an address may be connected to.
    ports
        To which ports.
    itself
        This machine may be reached too, by whatever address.
    tls
        Makes the context of TLS; that of the system unless told otherwise.
    """

    resolve: Callable[[str, int], Sequence[str]] = look_up
    allow: Callable[[Address], bool] = is_public
    ports: frozenset[int] = frozenset({80, 443})
    itself: bool = False
    tls: Callable[[], ssl.SSLContext] = ssl.create_default_context


INTERNET = Reach()
"""The public internet by http and https."""

_slots = threading.BoundedSemaphore(_AT_ONCE)


async def fetch(
    url: str,
    settings: ServeSettings,
    *,
    most: int | None = None,
    seconds: float = _SECONDS,
    reach: Reach = INTERNET,
) -> bytes:
    """Fetch a picture.

    Parameters
    ----------
    url
        ``http://…`` or ``https://…``, ASCII.
    settings
        Whether anything is fetched at all, and ``limits.body_bytes``.
    most
        Bytes, where that is less.
    seconds
        For all of it.
    reach
        What may be reached.

    Returns
    -------
    bytes
        Begins as a picture does.

    Raises
    ------
    Problem
        403 where it is switched off or the address is none of the public internet, 413 past the limit, 415 for what is
        not a picture, 422 for an address that cannot be fetched, 503 when too many are being fetched.
    """
    if not settings.fetch:
        raise Problem(403, "fetch_off", "this service fetches nothing from addresses", _HINT)
    limit = settings.limits.body_bytes if most is None else min(most, settings.limits.body_bytes)
    if not _slots.acquire(blocking=False):
        raise Problem(503, "busy", "too many addresses are being fetched", _HINT, headers={"Retry-After": "5"})
    # The slot goes back with the thread's end, not with the request's: a name server may keep the thread for long.
    work = asyncio.ensure_future(asyncio.to_thread(_all, url, limit, time.monotonic() + seconds, reach))
    try:
        async with asyncio.timeout(seconds + 0.5):
            return await asyncio.shield(work)
    except TimeoutError:
        raise _slow() from None
    finally:
        work.add_done_callback(_forget)


def _forget(work: asyncio.Future[bytes]) -> None:
    if not work.cancelled():
        work.exception()  # told already, or nobody waits


def _all(url: str, limit: int, until: float, reach: Reach) -> bytes:
    try:
        for _ in range(_REDIRECTS + 1):
            found = _one(url, limit, until, reach)
            if isinstance(found, bytes):
                return found
            url = urljoin(url, found)
        raise _failed("fetch_failed", f"more than {_REDIRECTS} redirects")
    finally:
        _slots.release()


def _one(url: str, limit: int, until: float, reach: Reach) -> bytes | str:
    """Ask one address: its picture, or where it sends us instead."""
    secure, host, port, target = _parts(url, reach)
    lines = [_connect(host, port, until, reach)]
    cut = threading.Timer(max(0.0, until - time.monotonic()), _cut, [lines])
    cut.daemon = True
    cut.start()
    try:
        if secure:
            lines.append(reach.tls().wrap_socket(lines[0], server_hostname=host, do_handshake_on_connect=False))
            lines[-1].do_handshake()  # type: ignore[attr-defined]  # it is the one just made
        with closing(_Asked(host, port, lines[-1], secure=secure)) as asked, closing(asked.ask(target)) as answer:
            found = _answer(answer, limit)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= until:
            raise _slow() from error
        why = (
            "its certificate is not valid" if isinstance(error, ssl.SSLCertVerificationError) else "it does not answer"
        )
        raise _failed("fetch_failed", why) from error
    finally:
        cut.cancel()
        lines[-1].close()
    if time.monotonic() >= until:  # a body without a length ends where it was cut
        raise _slow()
    return found


def _parts(url: str, reach: Reach) -> tuple[bool, str, int, str]:
    try:
        if not _PLAIN.fullmatch(url):
            raise _failed("fetch_address", "it has other than printable ASCII characters; encode them")
        found = urlsplit(url)
        host, port = found.hostname, found.port
    except ValueError:
        raise _failed("fetch_address", "it is not well-formed") from None
    if found.scheme not in {"http", "https"} or not host:
        raise _failed("fetch_address", "only http:// and https:// addresses are fetched")
    if "@" in found.netloc:
        raise _failed("fetch_address", "it names a user or a password")
    secure = found.scheme == "https"
    port = port if port is not None else (443 if secure else 80)
    if port not in reach.ports:
        raise _refused()
    return secure, host, port, (found.path or "/") + (f"?{found.query}" if found.query else "")


def _connect(host: str, port: int, until: float, reach: Reach) -> socket.socket:
    """Look a host up once and connect to an address that was checked; that is no name any more."""
    try:
        addresses = [ipaddress.ip_address(a.partition("%")[0]) for a in reach.resolve(host, port)]
    except (OSError, ValueError):
        addresses = []
    # One answer for unknown names and for private ones, so that nobody can ask for names of the network inside.
    if not addresses or not all(map(reach.allow, addresses)):
        raise _refused()
    failure: OSError | None = None
    for address in addresses[:3]:
        left = until - time.monotonic()
        if left <= 0:
            raise _slow()
        try:
            line = socket.create_connection((str(address), port), timeout=left)
        except OSError as error:
            failure = error
            continue
        if not reach.itself and line.getsockname()[0] == line.getpeername()[0]:
            line.close()
            raise _refused()
        return line
    raise _failed("fetch_failed", "it does not answer") from failure


def _cut(lines: list[socket.socket]) -> None:
    # The end of all time: a server that sends a byte now and then would otherwise hold the thread for hours.
    with suppress(OSError):
        lines[-1].shutdown(socket.SHUT_RDWR)


class _Asked(http.client.HTTPConnection):
    """A connection that is there already."""

    def __init__(self, host: str, port: int, line: socket.socket, *, secure: bool) -> None:
        super().__init__(host, port)
        self.sock = line
        self.default_port = 443 if secure else 80

    def ask(self, target: str) -> http.client.HTTPResponse:
        agent = f"mien/{version('mien')}"
        self.request(
            "GET",
            target,
            headers={"User-Agent": agent, "Accept": "image/*", "Accept-Encoding": "identity", "Connection": "close"},
        )
        return self.getresponse()


def _answer(found: http.client.HTTPResponse, limit: int) -> bytes | str:
    if found.status in _MOVED and (where := found.getheader("location")):
        return where
    if found.status != 200:
        raise _failed("fetch_failed", f"it answers {found.status}")
    if found.getheader("content-encoding", "identity").lower() != "identity":
        raise _failed("fetch_failed", "it answers with a compressed body")
    if found.length is not None and found.length > limit:
        raise _large(limit)
    data = bytearray()
    while block := found.read1(_BLOCK):
        sure = len(data) >= _HEAD
        data += block
        if len(data) > limit:
            raise _large(limit)
        if not sure and len(data) >= _HEAD and sniff(bytes(data[:_HEAD])) is not Kind.PICTURE:
            break
    if sniff(bytes(data[:_HEAD])) is not Kind.PICTURE:
        raise Problem(415, "not_a_picture", "what lies at the address is not a picture, by its content", _HINT)
    if found.length:
        raise _failed("fetch_failed", "it breaks off")
    return bytes(data)


def _refused() -> Problem:
    return Problem(403, "fetch_refused", "the address is not one of the public internet", _HINT)


def _failed(code: str, why: str) -> Problem:
    return Problem(422, code, f"the address cannot be fetched: {why}", _HINT)


def _large(limit: int) -> Problem:
    return Problem(413, "too_large", f"what lies at the address is over the limit of {limit} bytes", _HINT)


def _slow() -> Problem:
    return Problem(422, "fetch_slow", "the address did not answer in time", _HINT)
