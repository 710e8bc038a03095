"""What people who are seen by the service have to be told: the text, and the sheet that is hung up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["VARIABLES", "Sheet"]

VARIABLES: Mapping[str, str] = MappingProxyType(
    {"controller": "MIEN_CONTROLLER", "contact": "MIEN_CONTACT", "legal_basis": "MIEN_LEGAL_BASIS"}
)
"""The lines of the notice that only those who run the service can fill, and the environment variables for them."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the service was told for its notice; empty: a line to be filled in by hand.

    Attributes
    ----------
    controller
        Who is responsible.
    contact
        How they are reached.
    legal_basis
        What of Art. 6 (and 9) of the GDPR they rest on.
    """

    controller: str = ""
    contact: str = ""
    legal_basis: str = ""
