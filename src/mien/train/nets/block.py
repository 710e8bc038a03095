"""Parts that several networks are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["Branches", "Residual", "conv", "standardised"]


def conv(i: int, o: int, size: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution without bias, its picture padded to the same size, and a norm."""
    return nn.Sequential(nn.Conv2d(i, o, size, stride, size // 2, bias=False), nn.BatchNorm2d(o))


def standardised(x: Tensor) -> Tensor:
    """Bring every picture to mean 0 and variance 1, so that light and contrast do not matter."""
    mean = x.mean((1, 2, 3), keepdim=True)
    spread = (x - mean).square().mean((1, 2, 3), keepdim=True)
    return (x - mean) * torch.rsqrt(spread + 1e-4)


class Residual(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al. 2016, arXiv 1512.03385)."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.first = conv(i, o, 3, stride)
        self.second = conv(o, o, 3)
        self.shortcut = nn.Identity() if i == o and stride == 1 else conv(i, o, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Take (N, i, H, W) and return (N, o, H / stride, W / stride)."""
        y = self.second(torch.relu(self.first(x)))
        return torch.relu(y + self.shortcut(x))


class Branches(nn.Module):
    """The sum of a 3×3 convolution, a 1×1 convolution and, where shapes allow, the picture itself, a norm behind each.

    All three are linear in the picture when the norms answer, so `merged` makes them one convolution
    (Ding et al. 2021, arXiv 2101.03697).
    """

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.wide = conv(i, o, 3, stride)
        self.narrow = conv(i, o, 1, stride)
        self.itself = nn.BatchNorm2d(i) if i == o and stride == 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Take (N, i, H, W) and return (N, o, H / stride, W / stride), before any activation."""
        y = self.wide(x) + self.narrow(x)
        return y if self.itself is None else y + self.itself(x)

    @torch.no_grad()
    def merged(self) -> nn.Conv2d:
        """Return one 3×3 convolution that gives what all branches give together in eval mode."""
        joined = fuse_conv_bn_eval(*self.wide.eval())
        narrow = fuse_conv_bn_eval(*self.narrow.eval())
        joined.weight += nn.functional.pad(narrow.weight, (1, 1, 1, 1))
        joined.bias += narrow.bias
        if self.itself is not None:
            norm = self.itself
            gain = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            channel = torch.arange(len(gain), device=gain.device)
            joined.weight[channel, channel, 1, 1] += gain
            joined.bias += norm.bias - norm.running_mean * gain
        return joined
