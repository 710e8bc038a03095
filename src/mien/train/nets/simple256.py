"""Three convolutions of 256 channels with a sigmoid at the end."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor, nn
from torch.nn import functional

from ...errors import OptionError
from .net import Net, grey

__all__ = ["Simple256"]

# What is left of 48 pixels behind three convolutions and poolings.
_LEFT: Mapping[str, int] = MappingProxyType({"none": 4, "same": 6})


class Simple256(Net):
    """Three times a 3×3 convolution of 256, ReLU and 2×2 pooling; dense 128 twice; dropout .2 throughout.

    The source ends in one sigmoid a label and trains with categorical cross-entropy, for which Keras divides the
    outputs by their sum. Logits here are log sigmoids: their softmax is exactly a sigmoid over the sum of sigmoids.

    Parameters
    ----------
    heads
        Name and number of labels of each head.
    padding
        ``"none"`` (1,724,551 parameters with seven labels) or ``"same"`` (2,379,911).

    Raises
    ------
    OptionError
        If the padding is neither.
    """

    source = "a tutorial's own CNN beside VGG16, in Keras"

    def __init__(self, heads: Mapping[str, int], *, padding: str = "none") -> None:
        if padding not in _LEFT:
            msg = f"padding is {padding!r}; choose one of: {', '.join(_LEFT)}"
            raise OptionError(msg)
        layers: list[nn.Module] = []
        for i in (1, 256, 256):
            rim = 1 if padding == "same" else 0
            layers += [nn.Conv2d(i, 256, 3, padding=rim), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2)]
        layers.append(nn.Flatten())
        layers += [
            nn.Linear(256 * _LEFT[padding] ** 2, 128),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(128, 128),
            nn.ReLU(),
        ]
        super().__init__(nn.Sequential(*layers), 128, heads, takes=grey(48), dropout=0.2)

    def scored(self, z: Tensor) -> Tensor:
        """Return the log sigmoid of what a head gives."""
        return functional.logsigmoid(z)
