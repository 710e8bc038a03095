"""A small writer of ONNX files: just enough of the protobuf wire format to build a network from arrays.

It lets weights that come as plain arrays run on ONNX Runtime without the `onnx` package. A message is the
concatenation of its fields; every function here returns the bytes of one field, so a graph is a sum of bytes.
Field numbers are those of ``onnx.proto`` (IR version 8).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError

__all__ = ["Attribute", "Dimension", "array", "graph_input", "graph_output", "model_bytes", "node"]

Attribute = int | float | str | Sequence[int] | Sequence[float]
Dimension = int | str
"""A fixed size, or the name of one that is known only when the network runs."""

IR_VERSION = 8
OPSET = 17

_ELEMENTS = {np.dtype(np.float32): 1, np.dtype(np.uint8): 2, np.dtype(np.int64): 7}
_VARINT, _BYTES, _FLOAT = 0, 2, 5


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def _field(number: int, value: int | float | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | _VARINT) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | _FLOAT) + struct.pack("<f", value)
    body = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | _BYTES) + _varint(len(body)) + body


def _fields(number: int, values: Iterable[int | float | str | bytes]) -> bytes:
    return b"".join(_field(number, v) for v in values)


def _attribute(name: str, value: Attribute) -> bytes:
    # Value field and type code, both as AttributeProto numbers them.
    if isinstance(value, int):
        body, code = _field(3, value), 2
    elif isinstance(value, float):
        body, code = _field(2, value), 1
    elif isinstance(value, str):
        body, code = _field(4, value), 3
    elif all(isinstance(v, int) for v in value):
        body, code = _fields(8, value), 7
    else:
        body, code = _fields(7, map(float, value)), 6
    return _field(5, _field(1, name) + body + _field(20, code))


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Attribute) -> bytes:
    """Return one operation of the graph.

    Parameters
    ----------
    kind
        The operator's name in the default ONNX domain, for example ``"Conv"``.
    inputs, outputs
        Names of the values that go in and come out; an empty name leaves an optional input out.
    **attributes
        The operator's attributes; the type follows from the value (an integer is not a float).
    """
    named = b"".join(_attribute(n, v) for n, v in attributes.items())
    return _field(1, _fields(1, inputs) + _fields(2, outputs) + _field(3, outputs[0]) + _field(4, kind) + named)


def array(name: str, values: NDArray[np.generic]) -> bytes:
    """Return a constant of the graph, an array of float32, int64 or uint8.

    Raises
    ------
    ShapeError
        If the array has another dtype.
    """
    if values.dtype not in _ELEMENTS:
        raise ShapeError(name, "float32, int64 or uint8", values.dtype)
    raw = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    head = _fields(1, values.shape) + _field(2, _ELEMENTS[values.dtype])
    return _field(5, head + _field(8, name) + _field(9, raw))


def _value(number: int, name: str, dtype: type[np.generic], shape: Sequence[Dimension]) -> bytes:
    sizes = b"".join(_field(1, _field(1 if isinstance(d, int) else 2, d)) for d in shape)
    tensor = _field(1, _ELEMENTS[np.dtype(dtype)]) + _field(2, sizes)
    return _field(number, _field(1, name) + _field(2, _field(1, tensor)))


def graph_input(name: str, dtype: type[np.generic], shape: Sequence[Dimension]) -> bytes:
    """Return a declared input; a dimension that is a word is free."""
    return _value(11, name, dtype, shape)


def graph_output(name: str, dtype: type[np.generic], shape: Sequence[Dimension]) -> bytes:
    """Return a declared output; a dimension that is a word is free."""
    return _value(12, name, dtype, shape)


def model_bytes(name: str, parts: Iterable[bytes]) -> bytes:
    """Return the bytes of an ONNX file.

    Parameters
    ----------
    name
        What the graph is called.
    parts
        What `node`, `array`, `graph_input` and `graph_output` gave; nodes in the order in which they run.
    """
    graph = b"".join(parts) + _field(2, name)
    opset = _field(1, "") + _field(2, OPSET)
    return _field(1, IR_VERSION) + _field(2, "mien") + _field(7, graph) + _field(8, opset)
