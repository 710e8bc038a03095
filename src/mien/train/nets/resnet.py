"""ResNet18, whose trunk takes the weights that torchvision publishes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from ...errors import OptionError
from ...zoo.card import InputSpec
from .block import Residual, conv
from .net import Net

__all__ = ["ResNet18"]

# ImageNet's mean and spread of red, green and blue in [0, 1], for which published weights are made.
_MEAN, _SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_STEM = {"conv1": "0.0", "bn1": "0.1"}
_INSIDE = {"conv1": "first.0", "bn1": "first.1", "conv2": "second.0", "bn2": "second.1", "downsample": "shortcut"}
_LAYER = re.compile(r"layer(\d)\.(\d)\.(conv1|bn1|conv2|bn2|downsample)\.(.+)")


class ResNet18(Net):
    """A 7×7 stem with 3×3 pooling, then four stages of two residual blocks of 64, 128, 256 and 512 channels.

    Parameters
    ----------
    heads
        Name and number of labels of each head.
    stem_stride
        2 as in the source, made for 224 pixels; 1 keeps 48 pixels large enough for four stages.
    colour
        ``"rgb"`` or ``"grey"``; a grey picture is shown to the three channels alike, so the same weights fit.
    side
        Pixels of the picture.

    Raises
    ------
    OptionError
        If the colour is neither.
    """

    source = "ResNet18 of He et al. 2016 (arXiv 1512.03385)"
    any_size = True
    mean: Tensor
    spread: Tensor

    def __init__(self, heads: Mapping[str, int], *, stem_stride: int = 1, colour: str = "grey", side: int = 48) -> None:
        if colour not in {"rgb", "grey"}:
            msg = f"colour is {colour!r}; choose one of: rgb, grey"
            raise OptionError(msg)
        layers: list[nn.Module] = [conv(3, 64, 7, stem_stride), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
        for i, o in pairwise((64, 64, 128, 256, 512)):
            layers.append(nn.Sequential(Residual(i, o, 1 if i == o else 2), Residual(o, o, 1)))
        takes = InputSpec(width=side, height=side, colour=colour)
        super().__init__(nn.Sequential(*layers), 512, heads, takes=takes)
        self.register_buffer("mean", torch.tensor(_MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(_SPREAD).reshape(3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def embed(self, x: Tensor) -> Tensor:
        """Return the embedding (N, 512) of pictures (N, 3, H, W), or (N, 1, H, W) where grey, in [0, 1]."""
        return self.trunk((x - self.mean) / self.spread).mean((2, 3))

    def trunk_key(self, key: str) -> str | None:
        """Return where the trunk keeps a weight that torchvision names; None for its classifier."""
        name, _, rest = key.partition(".")
        if name == "fc":
            return None
        if found := _LAYER.fullmatch(key):
            stage, block, part, last = found.groups()
            return f"{int(stage) + 2}.{block}.{_INSIDE[part]}.{last}"
        return f"{_STEM[name]}.{rest}" if name in _STEM else key
