"""The VGG13 that FER+ was introduced with."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ...errors import OptionError
from .net import Net, grey

__all__ = ["Vgg13"]


class Vgg13(Net):
    """Ten 3×3 convolutions (2×64, 2×128, 3×256, 3×256) and dense 1024 twice.

    Every convolution and dense layer has a ReLU; behind each group come 2×2 pooling and dropout .25, behind each dense
    layer dropout .5. With 64 pixels and eight labels 8,757,704 parameters, the source's 8.75 million.

    Parameters
    ----------
    heads
        Name and number of labels of each head; the source has one of eight.
    side
        Pixels of the picture, a multiple of 16: 64 as in the source, or 48.

    Raises
    ------
    OptionError
        If the side is no multiple of 16.
    """

    source = "VGG13 of Barsoum et al. 2016 (FER+, arXiv 1608.01041)"

    def __init__(self, heads: Mapping[str, int], *, side: int = 64) -> None:
        if side < 16 or side % 16:
            msg = f"side is {side}; four poolings need a multiple of 16"
            raise OptionError(msg)
        layers: list[nn.Module] = []
        i = 1
        for o, depth in ((64, 2), (128, 2), (256, 3), (256, 3)):
            for k in range(depth):
                layers += [nn.Conv2d(o if k else i, o, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2), nn.Dropout(0.25)]
            i = o
        layers += [nn.Flatten(), nn.Linear(256 * (side // 16) ** 2, 1024), nn.ReLU(), nn.Dropout(0.5)]
        layers += [nn.Linear(1024, 1024), nn.ReLU()]
        super().__init__(nn.Sequential(*layers), 1024, heads, takes=grey(side), dropout=0.5)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
