"""A small residual network of plain 3×3 convolutions with two heads on one embedding."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["TwoHeadResidual"]


def _conv(i: int, o: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(i, o, size, stride, size // 2, bias=False), nn.BatchNorm2d(o))


class _Block(nn.Module):  # type: ignore[misc, unused-ignore]  # torch may be absent
    """Two 3×3 convolutions beside a shortcut (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(i, o, 3, stride)
        self.second = _conv(o, o, 3)
        self.shortcut = nn.Identity() if i == o and stride == 1 else _conv(i, o, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(torch.relu(self.first(x)))
        return torch.relu(y + self.shortcut(x))


class TwoHeadResidual(nn.Module):  # type: ignore[misc, unused-ignore]  # torch may be absent
    """Grey faces to two sets of logits and an embedding.

    Every picture is first brought to mean 0 and variance 1, so that light and contrast do not matter.

    Parameters
    ----------
    widths, depths
        Channels and number of blocks of each stage; each stage halves the picture.
    stem
        Channels of the first convolution, at full size.
    dropout
        Share of the embedding that is dropped before the heads while training.
    crowd, fer2013
        Number of labels of each head.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (64, 128, 256),
        depths: Sequence[int] = (1, 2, 3),
        stem: int = 24,
        dropout: float = 0.3,
        crowd: int = 8,
        fer2013: int = 7,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv(1, stem, 3), nn.ReLU()]
        for (i, o), depth in zip(pairwise((stem, *widths)), depths, strict=True):
            layers += [_Block(i if k == 0 else o, o, 2 if k == 0 else 1) for k in range(depth)]
        self.trunk = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.crowd = nn.Linear(widths[-1], crowd)
        self.fer2013 = nn.Linear(widths[-1], fer2013)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, _Block):  # start as the identity (Goyal et al. 2017, arXiv 1706.02677)
                norm = module.second[1]
                nn.init.zeros_(norm.weight)

    def embed(self, x: Tensor) -> Tensor:
        """Return the embedding (N, widths[-1]) of grey pictures (N, 1, H, W)."""
        mean = x.mean((1, 2, 3), keepdim=True)
        spread = (x - mean).square().mean((1, 2, 3), keepdim=True)
        return self.trunk((x - mean) * torch.rsqrt(spread + 1e-4)).mean((2, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take (N, 1, H, W) float in [0, 1]; return logits ``crowd`` (N, 8), ``fer2013`` (N, 7), and the embedding."""
        embedding = self.embed(x)
        held = self.dropout(embedding)
        return self.crowd(held), self.fer2013(held), embedding
