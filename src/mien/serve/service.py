"""What the routes share: one value in the state of the application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from .settings import ServeSettings

if TYPE_CHECKING:
    from .engine import Engine
    from .jobs import Jobs
    from .measure import Measures
    from .policy import Policy
    from .tokens import Keyring

__all__ = ["Service", "service"]


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running service."""

    settings: ServeSettings
    engine: Engine
    jobs: Jobs
    policy: Policy
    keys: Keyring
    measures: Measures


def service(connection: HTTPConnection) -> Service:
    """Return the service that a request or a web socket came to."""
    held: Service = connection.app.state.service
    return held
