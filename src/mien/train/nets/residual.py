"""Our own family: small residual networks of plain 3×3 convolutions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from torch import Tensor, nn

from .block import Residual, conv, standardised
from .net import Net, grey

__all__ = ["ResidualNet"]


class ResidualNet(Net):
    """A stem at full size, then stages of residual blocks, then the mean over the picture.

    Every picture is first brought to mean 0 and variance 1, so that light and contrast do not matter.

    Parameters
    ----------
    heads
        Name and number of labels of each head.
    widths, depths
        Channels and number of blocks of each stage; each stage halves the picture.
    stem
        Channels of the first convolution, at full size.
    dropout
        Share of the embedding that is dropped before the heads while training.
    """

    source = "own, of the blocks of He et al. 2016 (arXiv 1512.03385)"
    any_size = True

    def __init__(
        self,
        heads: Mapping[str, int],
        *,
        widths: Sequence[int] = (64, 128, 256),
        depths: Sequence[int] = (1, 2, 3),
        stem: int = 24,
        dropout: float = 0.3,
    ) -> None:
        layers: list[nn.Module] = [conv(1, stem, 3), nn.ReLU()]
        for (i, o), depth in zip(pairwise((stem, *widths)), depths, strict=True):
            layers += [Residual(i if k == 0 else o, o, 2 if k == 0 else 1) for k in range(depth)]
        super().__init__(nn.Sequential(*layers), widths[-1], heads, takes=grey(48), dropout=dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, Residual):  # start as the identity (Goyal et al. 2017, arXiv 1706.02677)
                nn.init.zeros_(module.second[1].weight)

    def embed(self, x: Tensor) -> Tensor:
        """Return the embedding (N, widths[-1]) of grey pictures (N, 1, H, W)."""
        return self.trunk(standardised(x)).mean((2, 3))
