"""What one training step does: both label sources at once."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor
from torch.nn import functional

from .augment import mix
from .nets import build
from .recipe import Recipe

__all__ = ["TwoLabelModule"]


def _soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return -(target * functional.log_softmax(logits.float(), 1)).sum(1)


class TwoLabelModule(lightning.LightningModule):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """The taggers' vote distribution for one head, FER2013's own label for the other.

    The crowd's loss is weighted, face by face, with the share of taggers that named an expression at all.
    """

    def __init__(self, recipe: Recipe, steps_an_epoch: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.steps_an_epoch = steps_an_epoch
        self.net = build(recipe.net, **recipe.net_options).to(memory_format=torch.channels_last)

    def _losses(self, x: Tensor, crowd: Tensor, weight: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        crowd_logits, label_logits, _ = self.net(x.contiguous(memory_format=torch.channels_last))
        crowd_loss = (weight * _soft_cross_entropy(crowd_logits, crowd)).sum() / weight.sum().clamp(min=1)
        return crowd_loss, _soft_cross_entropy(label_logits, label).mean(), crowd_logits, label_logits

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor, int], _index: int) -> Tensor:
        """Augment, mix, and return the weighted sum of both losses."""
        pictures, crowd, weight, label, seed = batch
        r = self.recipe
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # decides the dropout: a resumed run drops what an unbroken one would
        stage = r.stage_at(self.current_epoch)
        with torch.autocast(self.device.type, enabled=False):
            x = r.augment(pictures, generator, stage.size)
            label = label * (1 - r.smoothing) + r.smoothing / label.shape[1]
            x, crowd, weight, label = mix(x, (crowd, weight, label), stage.mixup or 0.0, generator)
        crowd_loss, label_loss, *_ = self._losses(x, crowd, weight, label)
        loss = r.crowd_weight * crowd_loss + r.fer2013_weight * label_loss
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor, Tensor, int], _index: int) -> None:
        """Log both losses and both agreements on the held-out faces."""
        pictures, crowd, weight, label, _ = batch
        crowd_loss, label_loss, crowd_logits, label_logits = self._losses(pictures, crowd, weight, label)
        scores = {
            "val_loss": crowd_loss + label_loss,
            "val_crowd_loss": crowd_loss,
            "val_fer2013_loss": label_loss,
            "val_crowd_accuracy": (crowd_logits.argmax(1) == crowd.argmax(1))[weight > 0].float().mean(),
            "val_fer2013_accuracy": (label_logits.argmax(1) == label.argmax(1)).float().mean(),
        }
        self.log_dict(scores, on_epoch=True, batch_size=len(pictures))

    def configure_optimizers(self) -> dict[str, Any]:
        """SGD over a trapezoid: warm-up, hold, straight line to zero. Norms and biases carry no weight decay."""
        o = self.recipe.optim
        decayed = [p for p in self.net.parameters() if p.ndim > 1]
        plain = [p for p in self.net.parameters() if p.ndim <= 1]
        optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": o.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=o.lr,
            momentum=o.momentum,
            nesterov=True,
        )
        total = self.recipe.epochs * self.steps_an_epoch

        def share(step: int) -> float:
            done = step / total
            return max(min(done / max(o.warmup, 1e-9), (1 - done) / (1 - o.hold), 1.0), 1e-4)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
