"""The network of the emoticon classifier."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from torch import nn

from ...zoo.card import InputSpec
from .net import Net

__all__ = ["Emoticon"]


class Emoticon(Net):
    """Four convolutions of 64 channels and one dense layer of 256, the norm behind each activation.

    Dropout .1 on the picture; twice a 5×5 and twice a 3×3 convolution, each with ReLU, norm and 2×2 pooling; dropout
    .3, dense 256, ReLU, norm; dropout .3, one linear layer a head. The source states no padding; the picture is padded
    to its size, since four unpadded layers leave nothing of 48 pixels.

    Parameters
    ----------
    heads
        Name and number of labels of each head; the source has one of 17 emoticons, its detector one of 2.
    """

    source = "a webcam-to-emoticon application that shares one net between detector and classifier"

    def __init__(self, heads: Mapping[str, int]) -> None:
        layers: list[nn.Module] = [nn.Dropout(0.1)]
        for (i, o), size in zip(pairwise((3, 64, 64, 64, 64)), (5, 5, 3, 3), strict=True):
            layers += [nn.Conv2d(i, o, size, padding="same"), nn.ReLU(), nn.BatchNorm2d(o), nn.MaxPool2d(2)]
        layers += [nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 3 * 3, 256), nn.ReLU(), nn.BatchNorm1d(256)]
        super().__init__(nn.Sequential(*layers), 256, heads, takes=InputSpec(width=48, height=48), dropout=0.3)
