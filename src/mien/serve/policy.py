"""What the service is used for, what it is not, and what people who are seen by it have to be told."""

from __future__ import annotations

from fastapi import APIRouter, Request

from .problem import Problem
from .service import service
from .settings import ServeSettings

__all__ = ["Policy", "declared", "router"]

router = APIRouter()


class Policy:
    """The declared purpose of one service, kept in ``state/policy.json``."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings

    @property
    def purpose(self) -> str | None:
        """The declared purpose; None: not declared yet."""
        return self.settings.purpose


async def declared(request: Request) -> None:
    """Let a route be used only when a purpose is declared: dependency of every route that reads faces; else 403."""
    if service(request).policy.purpose is None:
        raise Problem(403, "purpose", "no purpose is declared", "declare it on the page, or start with --purpose")
