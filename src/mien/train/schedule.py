"""What moves the weights, how fast at which step, and which average of them is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, WeightAveraging
from torch import Tensor, nn

from .recipe import Optim

__all__ = ["Average", "Patience", "Plateau", "optimizer", "share"]

_LOWEST = 1e-4
"""The share of the highest rate that a schedule never falls below, so that the first and the last step count."""


def _trapezoid(done: float, o: Optim) -> float:
    return min(done / max(o.warmup, 1e-9), (1 - done) / (1 - o.hold), 1.0)


def _cosine(done: float, o: Optim) -> float:
    if done < o.warmup:
        return done / o.warmup
    return _wave(1.0, 0.0, (done - o.warmup) / (1 - o.warmup))


def _onecycle(done: float, o: Optim) -> float:
    start = 1 / 25
    if done < o.warmup:
        return _wave(start, 1.0, done / o.warmup)
    return _wave(1.0, start * 1e-4, (done - o.warmup) / (1 - o.warmup))


def _wave(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2


_SHARES: Mapping[str, Callable[[float, Optim], float]] = MappingProxyType(
    {"trapezoid": _trapezoid, "cosine": _cosine, "onecycle": _onecycle}
)


def share(done: float, optim: Optim) -> float:
    """Return the share of the highest rate at a share of all steps, both in [0, 1].

    ``onecycle`` is `torch.optim.lr_scheduler.OneCycleLR` with its own factors and the momentum as it is; schedules that
    do not depend on the step give 1.
    """
    shape = _SHARES.get(optim.schedule)
    return 1.0 if shape is None else max(shape(done, optim), _LOWEST)


def optimizer(net: nn.Module, optim: Optim) -> torch.optim.Optimizer:
    """Return what moves the weights of a net that are not frozen; norms and biases carry no weight decay."""
    trained = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if optim.kind == "sgd":
        return torch.optim.SGD(groups, lr=optim.lr, momentum=optim.momentum, nesterov=optim.momentum > 0)
    return (torch.optim.Adam if optim.kind == "adam" else torch.optim.AdamW)(groups, lr=optim.lr)


class Plateau:
    """Lower the rate when a value has not improved for some epochs, as ReduceLROnPlateau of Keras counts them.

    An epoch counts as progress when it is better than the best by more than ``least``. After ``patience`` epochs
    without progress the rate is multiplied by ``factor``, though not below ``floor``, and the count begins anew.
    (torch's class of that name waits one epoch longer.)
    """

    def __init__(self, optim: Optim, *, lower: bool, least: float = 1e-4) -> None:
        self.factor, self.patience, self.floor = optim.factor, optim.patience, optim.floor
        self.lower, self.least = lower, least
        self.best: float | None = None
        self.waited = 0

    def step(self, value: float, optimizer: torch.optim.Optimizer) -> None:
        """Take the value of an epoch."""
        gain = math.inf if self.best is None else (self.best - value if self.lower else value - self.best)
        if gain > self.least:
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited < self.patience:
            return
        for group in optimizer.param_groups:
            group["lr"] = min(group["lr"], max(group["lr"] * self.factor, self.floor))
        self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best, self.waited = state["best"], int(state["waited"])


class Patience(EarlyStopping):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """Lightning's early stopping, which a resumed run obeys at once and whose patience is that of the recipe."""

    def __init__(self, monitor: str, *, patience: int, lower: bool) -> None:
        super().__init__(monitor, patience=patience, mode="min" if lower else "max", check_on_train_epoch_end=True)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint, with the patience of today."""
        super().load_state_dict(state_dict | {"patience": self.patience})

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002  # Lightning names it
        """Stop before the first step if the patience ran out before the restart."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class Average(WeightAveraging):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """The weights' exponential moving average, which is validated and kept in their place.

    At step t the decay is the smaller of ``decay`` and (1 + t) / (10 + t), so that a short run is not an average over
    its first weights.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._now = 0.0
        super().__init__(multi_avg_fn=self._average)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:  # noqa: ARG002  # Lightning names it
        """Average after every step."""
        if step_idx is None:
            return False
        self._now = min(self.decay, (1 + step_idx) / (10 + step_idx))
        return True

    @torch.no_grad()
    def _average(self, averaged: list[Tensor], current: list[Tensor], _count: Tensor) -> None:
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - self._now)
            return
        for kept, fresh in zip(averaged, current, strict=True):
            kept.copy_(fresh)  # counters of batches
