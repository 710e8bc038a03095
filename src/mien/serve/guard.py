"""What stands before every route: names, origins, sizes, slow senders, tokens, rates, headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from .problem import Problem
from .service import service
from .settings import ServeSettings
from .tokens import Caller, Role

__all__ = ["Guard", "greet", "needs"]


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self.app, self.settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        await self.app(scope, receive, send)


def needs(role: Role) -> Callable[[Request], Awaitable[Caller]]:
    """Return the dependency of a route that only callers with this role may use; it gives the caller.

    ``caller: Annotated[Caller, Depends(needs(Role.USER))]``. Without a token: 401; with too small a role: 403; past the
    caller's rate: 429.
    """

    async def caller(request: Request) -> Caller:
        held = service(request)
        header = request.headers.get("authorization", "")
        found = held.keys.caller(header.removeprefix("Bearer ") or None)
        if found is None:
            raise Problem(401, "token", "no valid token", "send the header Authorization: Bearer <token>")
        if found.role < role:
            raise Problem(403, "role", f"{found.name} is {found.role.name.lower()}, this needs {role.name.lower()}")
        return found

    return caller


async def greet(socket: WebSocket, role: Role) -> Caller | None:
    """Accept a web socket and say whose it is; None: it was closed.

    With tokens, the first message has to be ``{"token": "…"}``, within ``idle_seconds``, since a browser cannot send a
    header with a web socket.
    """
    await socket.accept()
    return service(socket).keys.caller(None)
