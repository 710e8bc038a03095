"""mini_XCEPTION, the field's small standard."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .net import Net, grey

__all__ = ["MiniXception"]


class MiniXception(Net):
    """Two convolutions, four residual modules of depthwise separable ones, and no dense layer.

    The source ends in a padded 3×3 convolution to the labels, averaged over the picture. A mean of a convolution is
    linear in the means of its nine shifted pictures, so these nine means of each channel are the embedding (1,152) and
    the head is a linear layer: the same function with the same weights, and heads can be swapped as elsewhere.

    With seven labels 56,951 parameters are trained (the source counts 58,423 with the 1,472 that norms keep):

    - stem: 9·8 + 16, 9·8·8 + 16 → 680
    - module i → o: i·o + 2·o shortcut; 9·i + i·o + 2·o; 9·o + o·o + 2·o;
      8 → 16: 824, 16 → 32: 2,672, 32 → 64: 9,440, 64 → 128: 35,264
    - last convolution: 9·128·7 + 7 → 8,071

    Parameters
    ----------
    heads
        Name and number of labels of each head.
    side
        Pixels of the picture: 48, or 64 as in the source.
    """

    source = "mini_XCEPTION of Arriaga et al. 2017 (arXiv 1710.07557)"
    any_size = True

    def __init__(self, heads: Mapping[str, int], *, side: int = 48) -> None:
        layers: list[nn.Module] = []
        for i, o in ((1, 8), (8, 8)):
            layers += [nn.Conv2d(i, o, 3, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        layers += [_Module(i, o) for i, o in pairwise((8, 16, 32, 64, 128))]
        super().__init__(nn.Sequential(*layers), 9 * 128, heads, takes=grey(side))

    def embed(self, x: Tensor) -> Tensor:
        """Return the means (N, 1152) of the nine shifted pictures of each channel, from (N, 1, H, W) in [0, 1]."""
        y = self.trunk(2 * x - 1)  # the source's range
        height, width = y.shape[2:]
        return functional.avg_pool2d(functional.pad(y, (1, 1, 1, 1)), (height, width), stride=1).flatten(1)


def _separable(i: int, o: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, i, 3, padding=1, groups=i, bias=False), nn.Conv2d(i, o, 1, bias=False), nn.BatchNorm2d(o)
    )


class _Module(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.first, self.second = _separable(i, o), _separable(o, o)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, 2, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return self.pool(y) + self.shortcut(x)
