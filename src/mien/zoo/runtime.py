"""ONNX Runtime, imported in the one way that sends and writes nothing: import it from here.

Its wheels for Linux gather telemetry (seen in 1.31): the import writes a number for the machine and a file of events
into the user's cache, and the library knows an address to send them to. It can be told not to only before it is
imported, by a variable of the environment, which is put back at once since importing mien changes nothing. A program
that imports onnxruntime before mien has to set ``ORT_DISABLE_TELEMETRY=1`` itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ort"]

_SWITCH = "ORT_DISABLE_TELEMETRY"


@contextmanager
def _silent() -> Iterator[None]:
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SWITCH]
        else:
            os.environ[_SWITCH] = before


with _silent():
    import onnxruntime as ort
