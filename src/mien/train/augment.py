"""Augmentation of whole batches on the device they are on, from one seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Augment", "cut", "mix"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """What is done to a training picture, with its strength; every 0 switches a step off.

    Attributes
    ----------
    enabled
        False: the picture as it is, at the size that is asked for, and nothing is blended.
    mirror
        Whether half of the pictures are mirrored; false for labels that tell left from right.
    rotate
        Largest turn, degrees, either way.
    scale
        Largest relative change of size, either way.
    shift
        Largest shift, as a share of the picture's side.
    shear
        Largest shear and aspect change.
    gamma
        Largest change of log gamma, either way.
    blur
        Share of batches that are blurred.
    noise
        Share of batches that get Gaussian noise.
    erase
        Share of pictures that lose a rectangle (Zhong et al. 2017, arXiv 1708.04896).
    mixup
        Beta parameter of mixup (Zhang et al. 2017, arXiv 1710.09412).
    cutmix
        Beta parameter of cutmix (Yun et al. 2019, arXiv 1905.04899); with mixup on too, half of the batches get each.
    """

    enabled: bool = True
    mirror: bool = True
    rotate: float = 12.0
    scale: float = 0.15
    shift: float = 0.08
    shear: float = 0.08
    gamma: float = 0.3
    blur: float = 0.1
    noise: float = 0.1
    erase: float = 0.5
    mixup: float = 0.3
    cutmix: float = 0.0

    def __call__(self, x: Tensor, generator: torch.Generator, size: int) -> Tensor:
        """Return (N, C, size, size) float in [0, 1] from (N, C, H, W) float in [0, 1].

        The random numbers are drawn on the CPU, so a seed gives the same pictures on every device.
        """
        n, channels = x.shape[:2]
        if not self.enabled:
            return _sized(x, size)

        def draw(*shape: int) -> Tensor:
            return (torch.rand(*shape, generator=generator) * 2 - 1).to(x.device)

        x = functional.grid_sample(
            x,
            functional.affine_grid(self._affine(draw, n), [n, channels, size, size], align_corners=False),
            padding_mode="border",
            align_corners=False,
        )
        if self.gamma:
            x = x.clamp(1e-3, 1) ** torch.exp(self.gamma * draw(n, 1, 1, 1))
        if self.blur and float(torch.rand(1, generator=generator)) < self.blur:
            x = functional.avg_pool2d(functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
        if self.noise and float(torch.rand(1, generator=generator)) < self.noise:
            x = (x + 0.04 * torch.randn(x.shape, generator=generator).to(x.device)).clamp(0, 1)
        return self._erased(x, draw) if self.erase else x

    def blend(
        self, x: Tensor, targets: tuple[Tensor, ...], generator: torch.Generator, *, mixup: float
    ) -> tuple[Tensor, ...]:
        """Return the pictures (N, C, H, W) and their targets (N, ...) after mixup, cutmix or neither."""
        if not self.enabled:
            return (x, *targets)
        # Without cutmix nothing is drawn, so a seed gives what it gave before cutmix was known.
        if self.cutmix and (not mixup or float(torch.rand(1, generator=generator)) < 0.5):
            return cut(x, targets, self.cutmix, generator)
        return mix(x, targets, mixup, generator)

    def _affine(self, draw: Callable[..., Tensor], n: int) -> Tensor:
        angle = draw(n) * math.radians(self.rotate)
        zoom, aspect, shear = (draw(n) * s for s in (self.scale, self.shear, self.shear))
        flip = torch.sign(draw(n))
        flip = torch.where(flip == 0, torch.ones_like(flip), flip) if self.mirror else torch.ones_like(flip)
        cos, sin = torch.cos(angle), torch.sin(angle)
        wide, high = torch.exp(zoom + aspect), torch.exp(zoom - aspect)
        shift = draw(n, 2) * self.shift * 2
        top = torch.stack([cos * wide * flip, -sin * high + shear, shift[:, 0]], 1)
        bottom = torch.stack([sin * wide * flip, cos * high, shift[:, 1]], 1)
        return torch.stack([top, bottom], 1)

    def _erased(self, x: Tensor, draw: Callable[..., Tensor]) -> Tensor:
        n, _, height, width = x.shape
        area = 0.02 + 0.09 * (draw(n) + 1)
        ratio = torch.exp(draw(n))
        centre = (draw(n, 2) + 1) / 2
        half_h, half_w = (area * ratio).sqrt() / 2, (area / ratio).sqrt() / 2
        rows = (torch.arange(height, device=x.device) + 0.5) / height
        cols = (torch.arange(width, device=x.device) + 0.5) / width
        inside = ((rows[None, :] - centre[:, :1]).abs() < half_h[:, None])[:, :, None] & (
            (cols[None, :] - centre[:, 1:]).abs() < half_w[:, None]
        )[:, None, :]
        chosen = (draw(n) + 1) / 2 < self.erase
        return torch.where(inside[:, None] & chosen[:, None, None, None], x.mean((1, 2, 3), keepdim=True), x)


def mix(x: Tensor, targets: tuple[Tensor, ...], alpha: float, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Blend every picture, and each of its targets, with another of the batch; one share a batch."""
    if alpha <= 0:
        return (x, *targets)
    gamma = _gammas(alpha, generator)
    share = float(gamma.max() / gamma.sum().clamp(min=1e-9))
    order = torch.randperm(len(x), generator=generator).to(x.device)
    return tuple(share * t + (1 - share) * t[order] for t in (x, *targets))


def cut(x: Tensor, targets: tuple[Tensor, ...], alpha: float, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Put the same box of another picture of the batch into every picture; targets are blended by its area."""
    if alpha <= 0:
        return (x, *targets)
    gamma = _gammas(alpha, generator)
    side = math.sqrt(1 - float(gamma[0] / gamma.sum().clamp(min=1e-9)))
    order = torch.randperm(len(x), generator=generator).to(x.device)
    centre = torch.rand(2, generator=generator).tolist()
    height, width = x.shape[2:]
    (top, bottom), (left, right) = (_span(c, side, n) for c, n in zip(centre, (height, width), strict=True))
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x[order, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return (mixed, *(share * t + (1 - share) * t[order] for t in targets))


def _gammas(alpha: float, generator: torch.Generator) -> Tensor:
    # Beta(a, a) is a ratio of two gammas, drawn on the CPU so that the seed decides on every device.
    return torch._standard_gamma(torch.full((2,), alpha), generator=generator)


def _span(centre: float, side: float, n: int) -> tuple[int, int]:
    """Return where a box of this share of n pixels begins and ends, cut off at the border."""
    return max(round((centre - side / 2) * n), 0), min(round((centre + side / 2) * n), n)


def _sized(x: Tensor, size: int) -> Tensor:
    if x.shape[2:] == (size, size):
        return x
    return functional.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
