"""Batches of FER2013 faces with both label sources, in an order that only the seed and the epoch decide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lightning
import torch
from torch import Tensor

from ..data.importers import LabelledFaces
from ..data.split import Split, split_training
from ..labels import SEVEN
from ..models.prepare import prepare
from ..zoo.card import InputSpec
from .recipe import Recipe

__all__ = ["INPUT", "Batches", "FacesData"]

INPUT = InputSpec(width=48, height=48, colour="grey", low=0.0, high=1.0)
"""What the networks are fed, in training and, by way of the exported card, ever after."""


class Batches:
    """One epoch of ``(pictures, crowd, crowd weight, fer2013, step seed)``, reshuffled by seed and epoch.

    Pictures are (N, 1, 48, 48) float32, as `models.prepare` makes them for `INPUT`; ``crowd`` is (N, 8) a
    distribution; ``fer2013`` is (N, 7) one-hot.
    """

    def __init__(self, faces: LabelledFaces, *, batch: int, seed: int, epoch: int | None) -> None:
        self._crops = faces.images
        self._crowd = torch.from_numpy(faces.crowd())
        self._weight = torch.from_numpy(faces.crowd_weight())
        self._label = torch.nn.functional.one_hot(torch.from_numpy(faces.label), len(SEVEN)).float()
        self.batch, self.seed, self.epoch = batch, seed, epoch

    def __len__(self) -> int:
        n = len(self._crops)
        return n // self.batch if self.epoch is not None else -(-n // self.batch)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, int]]:
        n = len(self._crops)
        order = torch.arange(n)
        seed = self.seed * 1_000_003 + (self.epoch or 0)
        if self.epoch is not None:
            order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        for step in range(len(self)):
            i = order[step * self.batch : (step + 1) * self.batch]
            pictures = torch.from_numpy(prepare(self._crops[i.numpy()], INPUT))
            yield pictures, self._crowd[i], self._weight[i], self._label[i], seed * 10_007 + step


class FacesData(lightning.LightningDataModule):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """FER2013 for Lightning: a fresh, seeded order every epoch, so a resumed run sees what an unbroken one would."""

    def __init__(self, path: str | Path, recipe: Recipe, *, limit: int | None = None) -> None:
        super().__init__()
        self.split = split_training(path, validation=recipe.validation, seed=recipe.seed)
        if limit is not None:
            self.split = Split(self.split.train[:limit], self.split.validation[:limit], self.split.dropped)
        self.recipe = recipe

    def train_dataloader(self) -> Batches:
        """Return the batches of the current epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        return Batches(self.split.train, batch=self.recipe.batch, seed=self.recipe.seed, epoch=epoch)

    def val_dataloader(self) -> Batches:
        """Return the held-out faces in their order."""
        return Batches(self.split.validation, batch=512, seed=self.recipe.seed, epoch=None)
