"""The address of the page as people reach it, and as a QR code."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from html import escape

from fastapi import Request

from ..errors import MissingExtraError
from .service import service
from .settings import is_loopback

__all__ = ["address_of", "only_here", "svg"]

_WILDCARDS = {"0.0.0.0", "::", "[::]", ""}  # noqa: S104  # compared with, not listened at
_HOST = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?")
# An address for documentation (RFC 5737): nobody has it, and asking for the way to it sends nothing.
_FAR = ("192.0.2.1", 9)


def address_of(request: Request) -> str:
    """Return the address by which others reach the page; never one that only the client made up.

    In this order: the origin in the settings; a name in the settings by which the request came; the address that the
    service listens at; where it listens at all of them, the one at which the request came in, and for a request of
    this very machine the one that its network knows it by.
    """
    settings = service(request).settings
    if settings.origin:
        return settings.address
    scheme = "https" if settings.tls else request.url.scheme
    found = _HOST.fullmatch(request.headers.get("host", ""))
    if found and found.group(1).lower() in {h.lower() for h in settings.hosts}:
        return f"{scheme}://{found.group(0).lower()}"
    if settings.host not in _WILDCARDS:
        return settings.address
    host, port = request.scope.get("server") or ("127.0.0.1", None)
    try:
        came_in = ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:  # a socket with a file name
        came_in = ipaddress.ip_address("127.0.0.1")
    if isinstance(came_in, ipaddress.IPv6Address) and came_in.ipv4_mapped:
        came_in = came_in.ipv4_mapped
    shown = _outward() or str(came_in) if came_in.is_loopback else str(came_in)
    return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port or settings.port}"


def _outward() -> str | None:
    """Return the address of this machine in its network; None: it has none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_FAR)
        name = str(probe.getsockname()[0])
        return None if is_loopback(name) or name in _WILDCARDS else name
    return None


def only_here(address: str) -> bool:
    """Tell whether an address leads to this machine alone, from wherever it is opened.

    >>> only_here("http://127.0.0.1:8000"), only_here("http://[::1]:8000"), only_here("https://faces.example")
    (True, True, False)
    """
    host = re.sub(r"^[a-z]+://", "", address).split("/")[0]
    return is_loopback(host if host.startswith("[") and host.endswith("]") else re.sub(r":\d+$", "", host))


def svg(text: str) -> str:
    """Draw a QR code as SVG markup: black on white with the quiet border that readers need, error correction M.

    Parameters
    ----------
    text
        What it says; drawn as its title, too.

    Raises
    ------
    MissingExtraError
        If segno is not installed.
    """
    try:
        import segno
    except ImportError as error:
        raise MissingExtraError("segno", "serve") from error
    rows = segno.make_qr(text, error="m").matrix_iter(border=4)
    runs, size = [], 0
    for y, row in enumerate(rows):
        bits = bytes(row)
        size = len(bits)
        runs += [f"M{m.start()} {y}h{m.end() - m.start()}v1h-{m.end() - m.start()}z" for m in re.finditer(b"\1+", bits)]
    title = escape(text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" role="img" shape-rendering="crispEdges">'
        f'<title>{title}</title><rect width="{size}" height="{size}" fill="#fff"/>'
        f'<path d="{"".join(runs)}" fill="#000"/></svg>'
    )
