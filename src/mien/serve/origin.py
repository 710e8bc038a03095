"""By which names the service may be called, and from which pages: against DNS rebinding and forged requests."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from .problem import Problem
from .settings import ServeSettings, is_loopback

__all__ = ["Names", "Place", "check_origin"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253}))(?::(\d{1,5}))?")
_PORTS = {"http": 80, "https": 443}
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Place:
    """A host, and the port where one was written.

    Attributes
    ----------
    host
        In lower case, without brackets and final dot.
    port
        None: that of the scheme.
    """

    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Read ``host``, ``host:port`` or ``[address]:port``; None for anything else."""
        found = _HOST.fullmatch(text)
        if found is None:
            return None
        return cls((found[1] or found[2]).lower().rstrip("."), int(found[3]) if found[3] else None)


class Names:
    """The names of a service.

    Parameters
    ----------
    settings
        Its own address, ``hosts``, the host of ``origin``; the loopback names where it listens there; every literal
        address where it listens at all: a page of a stranger can only reach it by a name.
    """

    def __init__(self, settings: ServeSettings) -> None:
        own = settings.host.strip("[]").lower()
        self.anywhere = own in {"", "0.0.0.0", "::"}  # noqa: S104  # compared, not listened at
        names = {own, *(h.lower().rstrip(".") for h in settings.hosts)}
        self.origin = settings.origin.rstrip("/").lower() if settings.origin else None
        if self.origin and (host := urlsplit(self.origin).hostname):
            names.add(host)
        if is_loopback(settings.host) or self.anywhere:
            names |= _LOOPBACK
        self._names = frozenset(names - {""})

    def check(self, headers: Headers) -> Place:
        """Return by which name a request came.

        Raises
        ------
        Problem
            400 for no or several ``Host`` headers, 421 for a name that is not one of the service.
        """
        given = headers.getlist("host")
        if len(given) != 1:
            raise Problem(400, "host", f"the request has {len(given)} Host headers, it must have one")
        place = Place.parse(given[0])
        if place is None or not self._known(place.host):
            hint = "use its own address; whoever runs the service can add names with --hosts"
            raise Problem(421, "unknown_host", "the service is not known by this name", hint)
        return place

    def _known(self, host: str) -> bool:
        return host in self._names or (self.anywhere and _is_address(host))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_origin(names: Names, headers: Headers, method: str, scheme: str, place: Place) -> None:
    """Refuse what the page of a stranger sends through somebody's browser.

    A request that may change something, and a web socket, must come from our own page or from no page at all; one that
    only reads may also be a link that somebody followed.

    Parameters
    ----------
    names
        Of the service.
    headers
        Of the request.
    method
        ``WEBSOCKET`` for a web socket.
    scheme
        ``http`` or ``https``, ``ws`` or ``wss``.
    place
        By which name the request came.

    Raises
    ------
    Problem
        403.
    """
    site = headers.get("sec-fetch-site", "")
    reads = method in _READING
    if reads:
        # Sent by browsers only, and no page can forge it. Following a link is fine, embedding is not.
        foreign = site == "cross-site" and headers.get("sec-fetch-mode", "navigate") != "navigate"
    else:
        foreign = site in {"cross-site", "same-site"} or _is_foreign(names, headers, scheme, place)
    if foreign:
        hint = "open the page of the service itself; programs send no Origin"
        raise Problem(403, "foreign_page", "the request comes from the page of another site", hint)


def _is_foreign(names: Names, headers: Headers, scheme: str, place: Place) -> bool:
    given = headers.getlist("origin")
    if not given:
        return False
    # A form of our own page names no origin, since its referrer policy forbids it.
    if given == ["null"] and headers.get("sec-fetch-site") == "same-origin":
        return False
    if len(given) > 1:
        return True
    origin = given[0].lower()
    if origin == names.origin:
        return False
    kind, _, rest = origin.partition("://")
    secure = scheme in {"https", "wss"}
    # A page over https may stand before a service over http: a proxy. The other way round somebody sits between.
    if kind not in _PORTS or (secure and kind != "https"):
        return True
    came = Place.parse(rest)
    return came is None or (came.host, came.port or _PORTS[kind]) != (place.host, place.port or _PORTS[kind])
