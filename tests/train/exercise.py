"""Nets with pictures for them, for the tests of networks and weights."""

import torch
from torch import Tensor, nn

from mien.train.nets import build


def pictures(net: nn.Module, n: int, *, seed: int = 0) -> Tensor:
    spec = net.input
    channels = 1 if spec.colour == "grey" else 3
    return torch.rand(n, channels, spec.height, spec.width, generator=torch.Generator().manual_seed(seed))


def seeded(name: str, **options: object) -> nn.Module:
    torch.manual_seed(1)
    return build(name, **options)


def used(net: nn.Module, *, rounds: int = 3) -> nn.Module:
    """Let the norms see pictures, so that they are no identities."""
    torch.manual_seed(2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        for seed in range(rounds):
            net.train()(pictures(net, 8, seed=seed))
    return net.eval()
