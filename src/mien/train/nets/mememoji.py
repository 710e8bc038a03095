"""The network of Mememoji, and the baseline that it was measured against."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from .net import Net, grey

__all__ = ["Mememoji"]


class Mememoji(Net):
    """3×3 convolutions of 32, then 64, then 128 channels, 2×2 pooling after each width, dense 64 twice, dropout .5.

    Parameters
    ----------
    heads
        Name and number of labels of each head; the source has one of six.
    layers
        Convolutions of each width: 3, or 1 for the three-layer baseline.
    dropout
        Share that is dropped behind both dense layers while training; the source says at most .5.
    """

    source = "Mememoji, github.com/JostineHo/mememoji"

    def __init__(self, heads: Mapping[str, int], *, layers: int = 3, dropout: float = 0.5) -> None:
        parts: list[nn.Module] = []
        i = 1
        for o in (32, 64, 128):
            for k in range(layers):
                parts += [nn.Conv2d(o if k else i, o, 3, padding=1), nn.ReLU()]
            parts.append(nn.MaxPool2d(2))
            i = o
        parts += [
            nn.Flatten(),
            nn.Linear(128 * 6 * 6, 64),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(64, 64),
            nn.ReLU(),
        ]
        super().__init__(nn.Sequential(*parts), 64, heads, takes=grey(48), dropout=dropout)
