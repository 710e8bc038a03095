"""Begin with what was trained before: a run, a checkpoint, a file of weights, or a finished model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ModelError
from ..models.expression import Expression
from ..models.prepare import prepare
from ..zoo.catalog import names
from .answer import folded
from .nets import Net, load_trunk, upgrade_keys
from .nets.weights import read_weights
from .trained import checkpoint_of

__all__ = ["begin", "unfold"]

_FEW = 512


def begin(net: Net, path: str | Path, crops: NDArray[np.uint8]) -> tuple[str, ...]:
    """Give a net the trunk of what was trained before, in place, and each head that fits by name.

    Parameters
    ----------
    net
        What is to be trained.
    path
        A run, a checkpoint, a file of weights, a float ``.onnx`` with its card, or a bundled model's name.
    crops
        Some faces (N, H, W) or (N, H, W, 3) uint8 of those to train on, by which norms are set where a model has none.

    Returns
    -------
    tuple of str
        The heads that were taken over.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    ModelError
        If the trunk does not fit.
    """
    if Path(path).suffix == ".onnx" or (str(path) in names() and not Path(path).exists()):
        return unfold(net, path, torch.from_numpy(prepare(crops[:_FEW], net.input)))
    file = checkpoint_of(path)
    load_trunk(net, file)
    held = upgrade_keys(read_weights(file))
    taken = []
    for name, head in net.heads.items():
        own = {k: held.get(f"heads.{name}.{k}") for k in head.state_dict()}
        if all(v is not None and v.shape == head.state_dict()[k].shape for k, v in own.items()):
            head.load_state_dict(own)
            taken.append(name)
    return tuple(taken)


@torch.no_grad()
def unfold(net: Net, model: str | Path, pictures: Tensor) -> tuple[str, ...]:
    """Give a net the weights of a float ONNX model of the same kind, in place, and each head that fits by name.

    In the file norms are part of the convolutions before them. A norm of the net gets the mean and spread that some
    pictures cause, and scale and shift that undo them, so the net answers as the file does and its norms do not leap
    when training begins.

    Parameters
    ----------
    net
        Any net whose norms follow their convolutions.
    model
        The name of a bundled model, or an ``.onnx`` with its card.
    pictures
        (N, C, H, W) float32 as the net is fed; the first 512 are looked at.

    Returns
    -------
    tuple of str
        The heads that were taken over.

    Raises
    ------
    ModelError
        If the model cannot be opened, is quantised, or its layers are not those of the net.
    """
    found = Expression(model)
    held = _weights(found.file)
    equal = folded(net)
    wanted = equal.state_dict()
    heads = {n for n in net.heads if _fits(held, wanted, f"heads.{n}.")}
    needed = [k for k in wanted if not k.startswith("heads.") and not k.endswith("num_batches_tracked")]
    if wrong := [k for k in needed if k not in held or held[k].shape != wanted[k].shape]:
        msg = f"{found.file.name}: {wrong[0]} does not fit; name the net that the model is made of, with its options"
        raise ModelError(msg)
    taken = [k for k in held if k in wanted and (not k.startswith("heads.") or k.split(".")[1] in heads)]
    equal.load_state_dict({k: held[k] for k in taken}, strict=False)
    seen = _statistics(equal, pictures[:_FEW])
    for name, conv, norm in _pairs(net):
        own = equal.get_submodule(name)
        mean, spread = seen[name]
        conv.weight.copy_(own.weight)
        norm.running_mean.copy_(mean - own.bias)
        norm.running_var.copy_(spread)
        norm.weight.copy_((spread + norm.eps).sqrt())
        norm.bias.copy_(mean)
    for name in heads:
        net.heads[name].load_state_dict(equal.heads[name].state_dict())
    return tuple(n for n in net.heads if n in heads)


def _weights(file: Path) -> dict[str, Tensor]:
    import onnx
    from onnx import numpy_helper

    initializers = onnx.load(file).graph.initializer
    arrays = {t.name.removeprefix("net.").removesuffix(".half"): numpy_helper.to_array(t) for t in initializers}
    if any(a.dtype == np.int8 for a in arrays.values()):
        msg = f"{file.name}: an eight-bit model cannot be trained on; begin with the one that it was made of"
        raise ModelError(msg)
    return {n: torch.from_numpy(a.astype(np.float32)) for n, a in arrays.items() if a.dtype.kind == "f"}


def _fits(held: dict[str, Tensor], wanted: dict[str, Tensor], start: str) -> bool:
    return all(k in held and held[k].shape == v.shape for k, v in wanted.items() if k.startswith(start))


def _pairs(net: nn.Module) -> Iterator[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    for parent, module in net.named_modules():
        if isinstance(module, nn.Sequential):
            for (name, first), (_, second) in pairwise(module.named_children()):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    yield f"{parent}.{name}", first, second


def _statistics(equal: nn.Module, pictures: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Return mean and variance of each channel that every convolution gives."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out, name=name: seen.update({name: (out.mean((0, 2, 3)), out.var((0, 2, 3)) + 1e-4)})
        )
        for name, module in equal.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    equal.eval()(pictures)
    for hook in hooks:
        hook.remove()
    return seen
