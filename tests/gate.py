"""A detector that goes on only when it is let, to hold a service in any state for as long as a test looks at it."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from fakes import BlueDetector

from mien.models.base import Boxes

WARM = 2
"""Pictures that an engine reads when it starts."""


class Gate(BlueDetector):
    """Says what it was given, and how many of those pictures were alive then."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.widths: list[int] = []
        self.seen: list[weakref.ref[Any]] = []
        self.alive: list[int] = []

    def __call__(self, picture: Any, /) -> Boxes:
        self.widths.append(picture.shape[1])
        if len(self.widths) > WARM:
            self.seen.append(weakref.ref(picture))
            self.alive.append(sum(ref() is not None for ref in self.seen))
            self.entered.release()
            assert self.open.wait(30)
        return super().__call__(picture)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, not for ever."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
