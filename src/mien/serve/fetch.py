"""Fetching a picture from an address that a client names: off unless it was switched on."""

from __future__ import annotations

from .problem import Problem
from .settings import ServeSettings

__all__ = ["fetch"]


async def fetch(url: str, settings: ServeSettings) -> bytes:
    """Fetch a picture.

    Raises
    ------
    Problem
        403 ``fetch_off`` where it is not switched on.
    """
    del url, settings
    raise Problem(403, "fetch_off", "this service fetches no addresses", "send the bytes of the picture")
