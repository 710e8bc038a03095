"""Five blocks of two convolutions with exponential linear units."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from .net import Net, grey

__all__ = ["Elu5"]


class Elu5(Net):
    """Twice a 3×3 convolution, ELU and norm, 2×2 pooling, dropout .5, for 32, 64, 128, 256, 512; then dense layers.

    Dense 256, 128 and 64, each with ELU, norm and dropout .5. With five labels 5,282,533 parameters are trained and
    4,864 kept by the norms: 4,711,648 of convolutions, 3,968 of their norms, 566,592 of dense layers (the first sees
    512 × 2 × 2), 325 of the head. The count asks for 2×2 places, so pooling keeps an odd last row: 48, 24, 12, 6, 3,
    2 pixels.

    Parameters
    ----------
    heads
        Name and number of labels of each head.
    """

    source = "a FER2013 tutorial on five labels, in Keras"

    def __init__(self, heads: Mapping[str, int]) -> None:
        layers: list[nn.Module] = []
        i = 1
        for o in (32, 64, 128, 256, 512):
            for width in (i, o):
                layers += [nn.Conv2d(width, o, 3, padding=1), nn.ELU(), nn.BatchNorm2d(o)]
            layers += [nn.MaxPool2d(2, ceil_mode=True), nn.Dropout(0.5)]
            i = o
        layers.append(nn.Flatten())
        for width, o in ((512 * 2 * 2, 256), (256, 128), (128, 64)):
            layers += [nn.Linear(width, o), nn.ELU(), nn.BatchNorm1d(o), nn.Dropout(0.5)]
        # The head's own dropout is the last of these.
        super().__init__(nn.Sequential(*layers[:-1]), 64, heads, takes=grey(48), dropout=0.5)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)
