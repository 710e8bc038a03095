"""Our own family without shortcuts: branches while training, single convolutions afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

from .block import Branches, standardised
from .net import Net, grey

__all__ = ["PlainNet"]


class PlainNet(Net):
    """A stem at full size, then stages of branched 3×3 convolutions, then the mean over the picture.

    ``reparameterised`` returns an equal network that is a plain chain of 3×3 convolutions without norms.

    Parameters
    ----------
    heads
        Name and number of labels of each head.
    widths, depths
        Channels and number of convolutions of each stage; each stage halves the picture.
    stem
        Channels of the first convolution, at full size.
    dropout
        Share of the embedding that is dropped before the heads while training.
    """

    source = "own, of the blocks of Ding et al. 2021 (arXiv 2101.03697)"
    any_size = True

    def __init__(
        self,
        heads: Mapping[str, int],
        *,
        widths: Sequence[int] = (64, 128, 256),
        depths: Sequence[int] = (2, 4, 6),
        stem: int = 24,
        dropout: float = 0.3,
    ) -> None:
        layers: list[nn.Module] = [Branches(1, stem, 1), nn.ReLU()]
        for (i, o), depth in zip(pairwise((stem, *widths)), depths, strict=True):
            for k in range(depth):
                layers += [Branches(i if k == 0 else o, o, 2 if k == 0 else 1), nn.ReLU()]
        super().__init__(nn.Sequential(*layers), widths[-1], heads, takes=grey(48), dropout=dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def embed(self, x: Tensor) -> Tensor:
        """Return the embedding (N, widths[-1]) of grey pictures (N, 1, H, W)."""
        return self.trunk(standardised(x)).mean((2, 3))
