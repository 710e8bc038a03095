"""From a trained net to the bytes of an ONNX file: norms folded, temperatures built in, nothing left of the machine."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from ..errors import ModelError, OptionError, SourceNotFoundError
from ..models.expression import EMBEDDING, Reading
from ..models.prepare import prepare
from ..zoo.card import InputSpec
from .bundle import strip
from .nets import Net
from .recipe import Recipe
from .trained import open_net

__all__ = ["Answer", "answers", "folded", "load_net", "rounded", "to_onnx"]

OPSET = 18
_BATCH = 256
_CHECKPOINTS = ("last", "best")


class Answer(nn.Module):  # type: ignore[misc, unused-ignore]  # torch may be absent
    """A trained net as it is shipped: probabilities, each head's logits divided by its temperature first.

    Parameters
    ----------
    net
        Gives the logits of each head in order, then the embedding, and declares its ``input``.
    temperatures
        One for each head of the net, by name and in order.
    """

    def __init__(self, net: nn.Module, temperatures: Mapping[str, float]) -> None:
        super().__init__()
        self.net = net
        self.temperatures = dict(temperatures)

    @property
    def spec(self) -> InputSpec:
        """What the net is fed."""
        spec: InputSpec = self.net.input
        return spec

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Take (N, C, H, W) as prepared; return the probabilities (N, K) of each head, then the embedding (N, D)."""
        *logits, embedding = self.net(x)
        both = zip(logits, self.temperatures.values(), strict=True)
        return (*(torch.softmax(z / t, 1) for z, t in both), embedding)


def load_net(run: str | Path, *, checkpoint: str = "last") -> tuple[Recipe, Net]:
    """Return a run's recipe and its net, branches joined and norms folded where they can be, in eval mode.

    Parameters
    ----------
    run
        The folder of a run, or a checkpoint.
    checkpoint
        ``last`` or ``best``, of a folder.

    Raises
    ------
    OptionError
        If ``checkpoint`` is neither.
    SourceNotFoundError
        If there is no such checkpoint, or no recipe.
    ModelError
        If the checkpoint does not fit its recipe.
    """
    if checkpoint not in _CHECKPOINTS:
        msg = f"checkpoint is {checkpoint!r}; a run has {' and '.join(_CHECKPOINTS)}"
        raise OptionError(msg)
    file = Path(run)
    file = file / f"{checkpoint}.ckpt" if file.is_dir() else file
    if not file.is_file():
        msg = f"{file}: no such checkpoint; name the folder of a run or a .ckpt file"
        raise SourceNotFoundError(msg)
    recipe, net = open_net(file)
    return recipe, folded(net)


def folded(net: nn.Module) -> Any:
    """Return an equal copy in eval mode with as few layers as can be.

    Parallel branches are joined where the net says how (``reparameterised``), and a norm that follows a convolution or
    a dense layer in a sequence becomes part of it. Any other norm stays.
    """
    join = getattr(net, "reparameterised", None)
    net = deepcopy(net if join is None else join()).eval()
    for parent in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for i, (first, second) in enumerate(pairwise(list(parent))):
            if (joined := _fused(first, second)) is not None:
                parent[i], parent[i + 1] = joined, nn.Identity()
    return net


def _fused(first: nn.Module, second: nn.Module) -> nn.Module | None:
    if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
        return fuse_conv_bn_eval(first, second)
    if isinstance(first, nn.Linear) and isinstance(second, nn.BatchNorm1d):
        return fuse_linear_bn_eval(first, second)
    return None


@torch.no_grad()
def rounded(net: nn.Module) -> Any:
    """Return a copy whose matrices of weights are what float16 makes of them.

    Raises
    ------
    ModelError
        If a weight is beyond the range of float16.
    """
    net = deepcopy(net)
    for name, weights in net.named_parameters():
        if weights.ndim >= 2:
            small = weights.half()
            if not torch.isfinite(small).all():
                msg = f"the weights {name} reach {weights.abs().max():.3g}, beyond float16; export with half=False"
                raise ModelError(msg)
            weights.copy_(small.float())
    return net


def answers(net: nn.Module, heads: tuple[str, ...], crops: NDArray[np.uint8]) -> Reading:
    """Return what a net, or an `Answer`, says about crops (N, H, W[, 3]) uint8."""
    spec: InputSpec = net.spec if isinstance(net, Answer) else net.input
    parts = []
    with torch.inference_mode():
        for i in range(0, max(len(crops), 1), _BATCH):
            *scores, embedding = (a.numpy() for a in net(torch.from_numpy(prepare(crops[i : i + _BATCH], spec))))
            parts.append(Reading(dict(zip(heads, scores, strict=True)), embedding))
    return Reading.concat(parts)


def to_onnx(answer: Answer, *, half: bool) -> bytes:
    """Return a net as the bytes of an ONNX file with a free batch size, all weights inside.

    With ``half``, matrices of weights are stored as float16 with a cast to float32 behind; ONNX Runtime folds the
    casts when it opens the file, so only the file gets smaller.
    """
    spec = answer.spec
    example = torch.zeros(2, 1 if spec.colour == "grey" else 3, spec.height, spec.width)
    with _quiet_exporter():
        program = torch.onnx.export(
            answer.eval(),
            (example,),
            input_names=["input"],
            output_names=[*answer.temperatures, EMBEDDING],
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    proto = program.model_proto
    strip(proto)
    if half:
        _halve(proto)
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Drop the exporter's warnings about its own use of torch and about torchvision, which nobody here can change."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _halve(proto: Any) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = proto.graph, []
    for tensor in graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.ndim < 2:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(weights.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}.widen", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
