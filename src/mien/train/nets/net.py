"""What every network has: a trunk, an embedding, and one linear head a label set."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Self

from torch import Tensor, nn

from ...errors import OptionError, ShapeError
from ...zoo.card import InputSpec
from .block import Branches

__all__ = ["Net", "grey"]


def grey(side: int) -> InputSpec:
    """Return the input of a network that takes square grey pictures in [0, 1]."""
    return InputSpec(width=side, height=side, colour="grey", low=0.0, high=1.0)


class Net(nn.Module):
    """Faces to one set of logits a head, and the embedding below the heads.

    Parameters
    ----------
    trunk
        Everything below the embedding.
    features
        Width of the embedding.
    heads
        Name and number of labels of each head, at least two labels each.
    takes
        The pictures that the network takes.
    dropout
        Share of the embedding that is dropped before the heads while training.

    Attributes
    ----------
    trunk, dropout, heads
        The parts; ``heads`` is an ``nn.ModuleDict`` of linear layers, in the order of the logits.
    input, features
        What it takes, and the width of its embedding.
    source
        Where the layers come from.
    any_size
        Whether pictures of other sizes than ``input`` fit.

    Raises
    ------
    OptionError
        If there is no head, or one has fewer than two labels.
    """

    source: str
    any_size: bool = False

    def __init__(
        self,
        trunk: nn.Module,
        features: int,
        heads: Mapping[str, int],
        *,
        takes: InputSpec,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.input, self.features = takes, features
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.heads = linear_heads(features, heads)
        self.frozen = False

    def embed(self, x: Tensor) -> Tensor:
        """Return the embedding (N, features) of pictures (N, C, H, W)."""
        return self.trunk(x)

    def scored(self, z: Tensor) -> Tensor:
        """Return logits (N, K) from what a linear head gives, (N, K)."""
        return z

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Take (N, C, H, W) float in [0, 1]; return the logits (N, K) of each head in order, then the embedding.

        Raises
        ------
        ShapeError
            If the pictures have other channels, or another size and the network takes only one.
        """
        self._check(x)
        embedding = self.embed(x)
        held = self.dropout(embedding)
        return (*(self.scored(head(held)) for head in self.heads.values()), embedding)

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  # torch's signature
        """Switch between training and answering; a frozen trunk stays as it answers, norms and dropout alike."""
        super().train(mode)
        if self.frozen:
            self.trunk.eval()
        return self

    def reparameterised(self) -> Self:
        """Return an equal copy in eval mode in which parallel branches are one convolution each."""
        net = deepcopy(self).eval()
        for parent in list(net.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Branches):
                    setattr(parent, name, child.merged())
        return net

    def trunk_key(self, key: str) -> str | None:
        """Return the name inside the trunk of a weight in a file from elsewhere; None: the trunk has no use for it."""
        return key

    def _check(self, x: Tensor) -> None:
        channels = 1 if self.input.colour == "grey" else 3
        size = (self.input.height, self.input.width)
        if x.ndim != 4 or x.shape[1] != channels or not (self.any_size or tuple(x.shape[2:]) == size):
            sides = "H, W" if self.any_size else f"{size[0]}, {size[1]}"
            raise ShapeError(type(self).__name__, f"pictures (N, {channels}, {sides})", tuple(x.shape))


def linear_heads(features: int, heads: Mapping[str, int]) -> nn.ModuleDict:
    """Return one linear layer a head.

    Raises
    ------
    OptionError
        If there is no head, or one has fewer than two labels.
    """
    if not heads or min(heads.values()) < 2:
        msg = f"a network needs a head or more with at least two labels each, got {dict(heads)}"
        raise OptionError(msg)
    return nn.ModuleDict({name: nn.Linear(features, labels) for name, labels in heads.items()})
