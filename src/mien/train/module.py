"""What one training step does, for any number of heads, and how an epoch is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional

from .loader import Batch
from .nets import Net, upgrade_keys
from .recipe import Recipe
from .schedule import Plateau, optimizer, share

__all__ = ["ExpressionModule", "Tally", "metric_names"]


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * functional.log_softmax(logits.float(), 1)).sum(1)


class Tally:
    """Sums over an epoch, by head: the faces' losses, their weights, and the confusion matrix.

    Sums instead of means, so that processes and sessions can be added up and an epoch that was interrupted ends with
    the very numbers of one that was not.
    """

    def __init__(self, heads: Mapping[str, int]) -> None:
        self.heads = dict(heads)
        self.sums: dict[str, Tensor] = {}

    def add(self, head: str, losses: Tensor, weights: Tensor, logits: Tensor, target: Tensor) -> None:
        """Add faces: losses (N,), weights (N,), logits (N, K), target (N, K)."""
        k = self.heads[head]
        # Apple's GPUs know no float64.
        dtype = torch.float32 if losses.device.type == "mps" else torch.float64
        counted = (weights > 0).to(dtype)
        truth, said = (functional.one_hot(t.argmax(1), k).to(dtype) for t in (target, logits))
        confusion = (truth * counted[:, None]).T @ said
        loss = torch.stack([(losses.detach() * weights).sum(), weights.sum()]).to(dtype)
        fresh = torch.cat([loss, confusion.flatten()])
        held = self.sums.get(head)
        self.sums[head] = fresh if held is None else held.to(fresh.device) + fresh

    def joined(self) -> Tally:
        """Return the sum over all processes, where there are several."""
        whole = Tally(self.heads)
        for head, sums in self.sums.items():
            whole.sums[head] = sums.clone()
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(whole.sums[head])
        return whole

    def loss(self, head: str) -> float:
        """Return the mean loss of a head's faces, weighted."""
        total, weight = self._sums(head)[:2].tolist()
        return float(total / weight) if weight else 0.0

    def accuracy(self, head: str) -> float:
        """Return the share of a head's faces that get their label; 0 where there are none."""
        confusion = self._confusion(head)
        return float(confusion.trace() / confusion.sum().clamp(min=1))

    def f1(self, head: str) -> float:
        """Return the mean F1 over the classes that are there or are named; 0 where there are none."""
        confusion = self._confusion(head)
        both = confusion.sum(0) + confusion.sum(1)
        there = both > 0
        return float((2 * confusion.diag()[there] / both[there]).mean()) if there.any() else 0.0

    def _sums(self, head: str) -> Tensor:
        return self.sums.get(head, torch.zeros(2 + self.heads[head] ** 2)).cpu()

    def _confusion(self, head: str) -> Tensor:
        return self._sums(head)[2:].reshape(self.heads[head], -1)


def metric_names(heads: Sequence[str]) -> tuple[str, ...]:
    """Return the values that an epoch ends with, which a recipe may monitor."""
    scores = [
        f"{part}_{score}" if len(heads) == 1 else f"{part}_{head}_{score}"
        for part in ("train", "val")
        for head in heads
        for score in ("accuracy", "f1", *(("loss",) if len(heads) > 1 else ()))
    ]
    return ("train_loss", "val_loss", *scores)


class ExpressionModule(lightning.LightningModule):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """A net that learns, for each of its heads, a distribution over the head's labels.

    The loss of a face counts by its weight: for votes, the share of taggers that named an expression at all.

    Parameters
    ----------
    recipe
        How to train.
    net
        The network, with the heads of the recipe.
    steps
        Steps an epoch.
    """

    def __init__(self, recipe: Recipe, net: Net, *, steps: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.net = net.to(memory_format=torch.channels_last)
        self.steps = steps
        self.heads = {head: len(labels) for head, labels in recipe.heads().items()}
        self.trained, self.held_out = Tally(self.heads), Tally(self.heads)
        self.plateau = Plateau(recipe.optim, lower=recipe.lower_is_better())
        self.fingerprint = ""

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Augment, blend, and return the heads' losses, weighted and summed."""
        r, seed = self.recipe, batch.seed
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # decides the dropout: a resumed run drops what an unbroken one would
        stage = r.stage_at(self.current_epoch)
        size = stage.size or self.net.input.width
        with torch.autocast(self.device.type, enabled=False):
            x = r.augment(batch.pictures, generator, size)
            x, shares, weights = self._blended(x, batch, stage.mixup or 0.0, generator)
        losses = self._losses(x, shares, weights, self.trained)
        # Means over processes and parts are taken of this; each holds its share of one mean over the whole step.
        parts = self.trainer.world_size * r.accumulate
        loss = torch.stack([r.head_weight(h) * parts * v / max(batch.totals[h], 1e-6) for h, v in losses.items()]).sum()
        if index + 1 == self.trainer.num_training_batches:
            self._log("train", self.trained)
            self.trained = Tally(self.heads)
        return loss

    def _blended(
        self, x: Tensor, batch: Batch, mixup: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        smoothing = self.recipe.smoothing
        shares = [
            s if self.recipe.soft(h) else s * (1 - smoothing) + smoothing / s.shape[1] for h, s in batch.shares.items()
        ]
        x, *held = self.recipe.augment.blend(x, (*shares, *batch.weights.values()), generator, mixup=mixup)
        names = list(batch.shares)
        return x, dict(zip(names, held, strict=False)), dict(zip(names, held[len(names) :], strict=True))

    def _losses(
        self, x: Tensor, shares: Mapping[str, Tensor], weights: Mapping[str, Tensor], tally: Tally
    ) -> dict[str, Tensor]:
        """Return the weighted sum of the faces' losses, by head."""
        *logits, _embedding = self.net(x.contiguous(memory_format=torch.channels_last))
        out = {}
        for head, z in zip(self.heads, logits, strict=True):
            losses = _cross_entropy(z, shares[head])
            tally.add(head, losses, weights[head], z, shares[head])
            out[head] = (weights[head] * losses).sum()
        return out

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Add the held-out faces up."""
        self._losses(batch.pictures, batch.shares, batch.weights, self.held_out)

    def on_validation_epoch_end(self) -> None:
        """Log what the held-out faces give."""
        self._log("val", self.held_out)
        self.held_out = Tally(self.heads)

    def _log(self, part: str, tally: Tally) -> None:
        whole, several = tally.joined(), len(self.heads) > 1
        counted = {h: self.recipe.head_weight(h) if part == "train" else 1.0 for h in self.heads}
        scores = {f"{part}_loss": sum(counted[h] * whole.loss(h) for h in self.heads)}
        for head in self.heads:
            name = f"{part}_{head}" if several else part
            scores |= {f"{name}_accuracy": whole.accuracy(head), f"{name}_f1": whole.f1(head)}
            scores |= {f"{name}_loss": whole.loss(head)} if several else {}
        shown = {n: v for n, v in scores.items() if n == f"{part}_loss" or (part == "val" and n.endswith("accuracy"))}
        self.log_dict(shown, on_step=False, on_epoch=True, prog_bar=True, batch_size=1)
        self.log_dict({n: v for n, v in scores.items() if n not in shown}, on_step=False, on_epoch=True, batch_size=1)

    def on_train_epoch_end(self) -> None:
        """Lower the rate where the monitored value stands still."""
        if self.recipe.optim.schedule == "plateau":
            self.plateau.step(float(self.trainer.callback_metrics[self.recipe.monitor]), self.trainer.optimizers[0])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the sums of the unfinished epoch, of all processes, and what the rate waits for."""
        sums = self.trained.joined().sums
        checkpoint["mien"] = {
            "trained": {head: s.cpu() for head, s in sums.items()},
            "plateau": self.plateau.state_dict(),
            "recipe": self.recipe.as_dict(),
            "faces": self.fingerprint,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the sums of the unfinished epoch, which the first process keeps for all."""
        for name in ("state_dict", "current_model_state"):
            if name in checkpoint:
                checkpoint[name] = upgrade_keys(checkpoint[name])
        held = checkpoint.get("mien", {})
        if self.trainer.is_global_zero:
            self.trained.sums = dict(held.get("trained", {}))
        if "plateau" in held:
            self.plateau.load_state_dict(held["plateau"])

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the recipe's optimiser, and its schedule where that counts steps."""
        optim, total = self.recipe.optim, self.recipe.epochs * self.steps
        moved = optimizer(self.net, optim)
        if optim.schedule == "plateau":
            return {"optimizer": moved}
        schedule = torch.optim.lr_scheduler.LambdaLR(moved, lambda step: share(step / total, optim))
        return {"optimizer": moved, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
