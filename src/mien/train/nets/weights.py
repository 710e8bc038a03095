"""Weights from a file into a network's trunk."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ...errors import ModelError, SourceNotFoundError
from .net import Net

__all__ = ["load_trunk", "read_weights", "upgrade_keys"]

_WRAPPED = re.compile(r"^(?:module\.|_orig_mod\.|net\.)+")
_OLD_HEAD = re.compile(r"^((?:.*\.)?)(crowd|fer2013)\.(weight|bias)$")
_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}
)


def upgrade_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state in today's names: the heads ``crowd`` and ``fer2013`` once stood beside the trunk.

    >>> list(upgrade_keys({"net.crowd.bias": torch.zeros(8), "net.heads.fer2013.bias": torch.zeros(7)}))
    ['net.heads.crowd.bias', 'net.heads.fer2013.bias']
    """
    return {key if "heads." in key else _OLD_HEAD.sub(r"\1heads.\2.\3", key): value for key, value in state.items()}


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a file of weights: a ``.safetensors``, or what ``torch.save`` wrote of a state or a checkpoint.

    Returns
    -------
    dict
        Tensors on the CPU by name, without the prefixes that wrappers and checkpoints put before all of them.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    ModelError
        If it is not a file of named tensors. Only plain tensors are read: a file that would run code is refused.
    """
    file = Path(path)
    if not file.is_file():
        msg = f"{file}: no such file of weights"
        raise SourceNotFoundError(msg)
    try:
        read = _read_safetensors if file.suffix == ".safetensors" else _read_torch
        return {_WRAPPED.sub("", key): value for key, value in read(file).items()}
    except Exception as error:  # torch raises whatever its unpickler meets
        msg = f"{file}: not a file of weights ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise ModelError(msg) from error


def load_trunk(net: Net, path: str | Path) -> Net:
    """Give a network's trunk the weights of a file, in place; its heads stay as they are.

    Parameters
    ----------
    net
        The network.
    path
        As `read_weights` takes it, with the weights of a whole network of mien, of a trunk alone, or of the same layers
        elsewhere under names that ``net.trunk_key`` knows: `resnet18` takes torchvision's.

    Returns
    -------
    Net
        The network itself.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    ModelError
        If a weight is missing, unknown or of another shape; the network is then unchanged.
    """
    held = read_weights(path)
    inner = {k.removeprefix("trunk."): v for k, v in held.items() if k.startswith("trunk.")}
    if not inner:
        named = {net.trunk_key(k): v for k, v in held.items() if not k.startswith("heads.")}
        inner = {k: v for k, v in named.items() if k is not None}
    own = net.trunk.state_dict()
    # Counters of batches, which old files lack, decide nothing.
    inner = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")} | inner
    if wrong := _mismatch(own, inner):
        msg = f"{path}: does not fit the trunk of {type(net).__name__} ({wrong})"
        raise ModelError(msg)
    net.trunk.load_state_dict(inner)
    return net


def _mismatch(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    """Return the first fault and how many there are, or nothing."""
    faults = [f"no weight {k}" for k in own if k not in given]
    faults += [f"unknown weight {k}" for k in given if k not in own]
    faults += [
        f"{k} is {tuple(given[k].shape)}, not {tuple(own[k].shape)}"
        for k in own
        if k in given and given[k].shape != own[k].shape
    ]
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return f"{faults[0]}{more}" if faults else ""


def _read_torch(file: Path) -> dict[str, Tensor]:
    held: Any = torch.load(file, map_location="cpu", weights_only=True)
    held = held.get("state_dict", held)
    return {str(k): v for k, v in held.items() if isinstance(v, Tensor)}


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    """Read the format by its own page: eight bytes of length, a JSON table of places, then the numbers."""
    blob = file.read_bytes()
    start = 8 + int.from_bytes(blob[:8], "little")
    table: dict[str, Any] = json.loads(blob[8:start])
    table.pop("__metadata__", None)
    return {name: _tensor(blob, start, place) for name, place in table.items()}


def _tensor(blob: bytes, start: int, place: Mapping[str, Any]) -> Tensor:
    dtype, shape = _DTYPES[place["dtype"]], place["shape"]
    low, high = (start + offset for offset in place["data_offsets"])
    if not start <= low <= high <= len(blob) or high - low != math.prod(shape) * dtype.itemsize:
        msg = f"a tensor of shape {tuple(shape)} is said to lie in bytes {low} to {high} of {len(blob)}"
        raise ValueError(msg)
    if low == high:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(blob[low:high]), dtype=dtype).reshape(shape)
