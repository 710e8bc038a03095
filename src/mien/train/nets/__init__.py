"""The networks that can be trained, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from ...errors import UnknownModelError
from .residual import TwoHeadResidual

__all__ = ["NETS", "TwoHeadResidual", "build"]

NETS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType({"residual": TwoHeadResidual})


def build(name: str, **options: object) -> nn.Module:
    """Build a network by its registered name.

    Raises
    ------
    UnknownModelError
        If no network has that name.
    """
    try:
        make = NETS[name]
    except KeyError:
        raise UnknownModelError(name, tuple(NETS)) from None
    return make(**options)
