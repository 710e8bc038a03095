"""The address of the page as people reach it, and as a QR code."""

from __future__ import annotations

import ipaddress
import re
from html import escape

from fastapi import Request

from ..errors import MissingExtraError
from .origin import Place
from .service import service
from .settings import is_loopback
from .tls import own_addresses

__all__ = ["address_of", "only_here", "svg"]

_WILDCARDS = {"0.0.0.0", "::", "[::]", ""}  # noqa: S104  # compared with, not listened at


def address_of(request: Request) -> str:
    """Return the address by which others reach the page.

    The origin in the settings; else, by which name of the settings the request came; else the address that the service
    listens at. Where it listens at all addresses: the one that was asked, and for a request of this very machine the
    one that its network knows it by. A name that only the client made up is never in it.
    """
    settings = service(request).settings
    place = Place.parse(request.headers.get("host", ""))
    if settings.origin or place is None:
        return settings.address
    host = place.host
    if host not in {h.lower().rstrip(".") for h in settings.hosts}:
        if settings.host not in _WILDCARDS:
            return settings.address
        host = _literal(host) or own_addresses()[0]
    scheme = "https" if settings.tls else request.url.scheme
    return f"{scheme}://{f'[{host}]' if ':' in host else host}{'' if place.port is None else f':{place.port}'}"


def _literal(host: str) -> str | None:
    """Return an address that is written in numbers and leads to others, too."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return None if address.is_loopback or address.is_unspecified else str(address)


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
    # Left to itself it would take Shift-JIS for some texts, which telephones guess at.
    rows = segno.make_qr(text, error="m", mode="byte", encoding="utf-8").matrix_iter(border=4)
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
