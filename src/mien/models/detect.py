"""Face detectors, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from ..errors import OptionError, UnknownModelError
from .base import Detector
from .haar import Haar, count_eyes
from .mtcnn import Mtcnn

__all__ = ["CARDS", "DETECTORS", "Haar", "Mtcnn", "count_eyes", "detector"]

DETECTORS: Mapping[str, Callable[..., Detector]] = MappingProxyType(
    {"mtcnn": Mtcnn, "haar": Haar, "haar-alt2": partial(Haar, cascade="alt2")}
)
"""What makes a detector, by name. All take ``min_face``, ``width`` and ``require_eyes``."""


CARDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"mtcnn": ("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet"), "haar": ("haar-face",), "haar-alt2": ("haar-face-alt2",)}
)
"""The cards of the weights that each detector uses."""


def detector(name: str, **options: Any) -> Detector:
    """Make a detector.

    Parameters
    ----------
    name
        A key of `DETECTORS`.
    **options
        What the detector's class takes; all of them take ``min_face``, ``width`` and ``require_eyes``.

    Raises
    ------
    UnknownModelError
        If there is no detector of that name.
    OptionError
        If an option has an impossible value, or the detector does not have it.
    """
    if name not in DETECTORS:
        raise UnknownModelError(name, tuple(DETECTORS))
    known = inspect.signature(DETECTORS[name]).parameters
    if unknown := options.keys() - known.keys():
        msg = f"{name} has no option {', '.join(sorted(unknown))}; it has {', '.join(known)}"
        raise OptionError(msg)
    return DETECTORS[name](**options)
