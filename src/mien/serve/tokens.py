"""Who may ask: tokens with roles and rates, held as hashes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

__all__ = ["LOCAL", "Caller", "Keyring", "Role"]


class Role(IntEnum):
    """What a caller may do; each may do what those before may."""

    VIEWER = 1
    """See what models there are and what is stored."""
    USER = 2
    """Analyze pictures, films and cameras; see and delete its own jobs."""
    ADMIN = 3
    """See and delete all jobs, read the measures, declare the purpose."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    name
        As the token file calls it; owner of its jobs.
    role
        What it may do.
    rate
        Requests a minute; None: no bound.
    """

    name: str
    role: Role
    rate: float | None = None


LOCAL = Caller("local", Role.ADMIN)
"""Whoever asks a service without tokens, which listens on a loopback address only."""


class Keyring:
    """The tokens of a service."""

    @classmethod
    def load(cls, path: Path | None) -> Keyring:
        """Read a token file; None: everybody is `LOCAL`."""
        return cls()

    @property
    def open(self) -> bool:
        """Nobody is asked for a token."""
        return True

    def caller(self, token: str | None) -> Caller | None:
        """Return who has this token; None: nobody."""
        return LOCAL
