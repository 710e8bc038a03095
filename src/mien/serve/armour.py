"""The headers that every answer wears, so that a browser does nothing with it that it was not meant for."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders

from .origin import Place

__all__ = ["arm"]

_OFF = (
    "accelerometer display-capture encrypted-media geolocation gyroscope hid idle-detection magnetometer microphone "
    "midi payment publickey-credentials-get screen-wake-lock serial usb xr-spatial-tracking"
)
_PERMISSIONS = ", ".join(["camera=(self)", *(f"{name}=()" for name in _OFF.split())])
_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'{sockets}; font-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
# Nothing of the API is a page; where a browser shows a result as one, it may show a film and no more.
_DATA = (
    "default-src 'none'; img-src 'self'; media-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "permissions-policy": _PERMISSIONS,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_YEAR = "max-age=31536000"


def arm(headers: MutableHeaders, *, path: str, place: Place | None, secure: bool) -> None:
    """Put the security headers on an answer.

    Parameters
    ----------
    headers
        Of the answer; changed.
    path
        That was asked for: below ``/v1`` are data, elsewhere pages.
    place
        By which name the request came, when that was found good.
    secure
        The answer goes through TLS with a certificate that browsers trust.
    """
    for name, value in _ALWAYS.items():
        headers[name] = value
    headers["content-security-policy"] = _DATA if path.startswith("/v1/") else _PAGE.format(sockets=_sockets(place))
    headers.setdefault("cache-control", "no-store")
    if secure:
        headers["strict-transport-security"] = _YEAR


def _sockets(place: Place | None) -> str:
    """Name our own web sockets, which Safari before version 15.4 does not count among 'self'."""
    if place is None:
        return ""
    host = f"[{place.host}]" if ":" in place.host else place.host
    at = host if place.port is None else f"{host}:{place.port}"
    return f" ws://{at} wss://{at}"
