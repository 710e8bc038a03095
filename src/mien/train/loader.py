"""Batches of faces for every head, in an order that only the seed and the epoch decide."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor

from ..data.balance import sampling_probability
from ..data.importers import LabelledFaces, read_labelled
from ..data.split import Split, split_training
from ..models.prepare import prepare
from ..zoo.card import InputSpec
from .recipe import Recipe
from .targets import Targets, make_targets, relabelled

__all__ = ["INPUT", "Batch", "Batches", "FacesData", "Shard", "stratified"]

INPUT = InputSpec(width=48, height=48, colour="grey", low=0.0, high=1.0)
"""What our own networks are fed, in training and, by way of the exported card, ever after."""

_VALIDATED = 512


class Batch(NamedTuple):
    """Faces of one step, or of the part of one that a device works through at a time.

    ``pictures`` (N, C, H, W) float32 as `models.prepare` makes them; ``shares`` (N, K) and ``weights`` (N,) by head, as
    in `targets.Targets`; ``totals`` the weight of the whole step, of all devices, by head; ``seed`` for what is drawn.
    """

    pictures: Tensor
    shares: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    totals: Mapping[str, float]
    seed: int


@dataclass(frozen=True, slots=True)
class Shard:
    """Which part of every step is for this process: its ``rank`` of ``world``, worked through in ``parts``."""

    rank: int = 0
    world: int = 1
    parts: int = 1


class Batches:
    """One epoch of `Batch`, reshuffled by seed and epoch; ``epoch`` None: every face once, in their order.

    Its place can be saved and gone back to, as Lightning does for a run that was killed in the middle of an epoch.
    """

    def __init__(
        self,
        faces: LabelledFaces,
        targets: Targets,
        spec: InputSpec = INPUT,
        *,
        batch: int,
        seed: int,
        epoch: int | None,
        balanced: bool = False,
        shard: Shard | None = None,
    ) -> None:
        self._crops, self._targets, self._spec = faces.images, targets, spec
        self._classes = faces.label if balanced else None
        self.batch, self.seed, self.epoch = batch, seed, epoch
        self.shard = shard or Shard()
        self._place = 0

    def __len__(self) -> int:
        n = len(self._crops)
        if self.epoch is None:
            return -(-n // self.batch)
        return max(n // self.batch, 1) * self.shard.parts

    def state_dict(self) -> dict[str, Any]:
        """Return the place in the epoch."""
        return {"epoch": self.epoch, "place": self._place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a place in the epoch, if it is this one."""
        self._place = int(state["place"]) if state["epoch"] == self.epoch else 0

    def __iter__(self) -> Iterator[Batch]:
        seed = self.seed * 1_000_003 + (self.epoch or 0)
        order = self._order(seed)
        for place in range(self._place, len(self)):
            step, part = divmod(place, 1 if self.epoch is None else self.shard.parts)
            self._place = place + 1
            yield self._batch(order[step * self.batch : (step + 1) * self.batch], part, seed * 10_007 + step)
        self._place = 0

    def _order(self, seed: int) -> Tensor:
        n = len(self._crops)
        if self.epoch is None:
            return torch.arange(n)
        generator = torch.Generator().manual_seed(seed)
        if self._classes is None:
            return torch.randperm(n, generator=generator)
        chances = torch.from_numpy(sampling_probability(self._classes, int(self._classes.max()) + 1))
        return torch.multinomial(chances, n, replacement=True, generator=generator)

    def _batch(self, whole: Tensor, part: int, seed: int) -> Batch:
        s = self.shard
        first, every = (s.rank, s.world) if self.epoch is None else (s.rank * s.parts + part, s.world * s.parts)
        rows = whole[first::every]
        weights = {head: w[rows] for head, w in self._targets.weights.items()}
        if len(rows) * every < len(whole) or not len(rows):
            # Every process has the same number of faces: who has one less gets one that counts nothing.
            rows = torch.cat([rows, whole[:1]])
            weights = {head: torch.cat([w, torch.zeros(1)]) for head, w in weights.items()}
        return Batch(
            torch.from_numpy(prepare(self._crops[rows.numpy()], self._spec)),
            {head: shares[rows] for head, shares in self._targets.shares.items()},
            weights,
            {head: float(w[whole].sum()) for head, w in self._targets.weights.items()},
            # Processes that see other faces draw other numbers.
            seed + first * 1_000_000_000_039,
        )


class FacesData(lightning.LightningDataModule):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """Faces for Lightning: a fresh, seeded order every epoch, so a resumed run sees what an unbroken one would.

    Parameters
    ----------
    data
        A path that `data.importers.read_labelled` reads, or faces.
    recipe
        What is wanted of them.
    spec
        What the net is fed.
    limit
        Use only so many faces of each part, of every class its share.

    Attributes
    ----------
    split
        The faces to train on and those held out.
    training, validation
        Their `Targets`; a teacher's answers may be blended into the former.
    """

    def __init__(
        self, data: str | Path | LabelledFaces, recipe: Recipe, spec: InputSpec = INPUT, *, limit: int | None = None
    ) -> None:
        super().__init__()
        faces = data if isinstance(data, LabelledFaces) else read_labelled(data)
        self.problems = faces.problems
        split = split_training(
            relabelled(faces, recipe), validation=recipe.validation, seed=recipe.seed, by=recipe.split_by
        )
        if limit is not None:
            train, held = (p[stratified(p, limit, seed=recipe.seed)] for p in (split.train, split.validation))
            split = Split(train, held, split.dropped)
        self.split, self.recipe, self.spec = split, recipe, spec
        self.training = make_targets(split.train, recipe, weighted=True)
        self.validation = make_targets(split.validation, recipe, weighted=False)

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return max(len(self.split.train) // self.recipe.batch, 1)

    def fingerprint(self) -> str:
        """Return a SHA-256 of the faces that are trained on and of their labels."""
        digest = hashlib.sha256()
        for part in (self.split.train.images, self.split.train.label, self.split.train.votes):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def train_dataloader(self) -> Batches:
        """Return the batches of the current epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        return Batches(
            self.split.train,
            self.training,
            self.spec,
            batch=self.recipe.batch,
            seed=self.recipe.seed,
            epoch=epoch,
            balanced=self.recipe.sampler == "balanced",
            shard=self._shard(),
        )

    def val_dataloader(self) -> Batches:
        """Return the held-out faces in their order."""
        return Batches(
            self.split.validation,
            self.validation,
            self.spec,
            batch=_VALIDATED,
            seed=self.recipe.seed,
            epoch=None,
            shard=self._shard(),
        )

    def _shard(self) -> Shard:
        if self.trainer is None:
            return Shard(parts=self.recipe.accumulate)
        return Shard(self.trainer.global_rank, self.trainer.world_size, self.recipe.accumulate)


def stratified(faces: LabelledFaces, count: int, *, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return rows of at most so many faces, in their order, of every class the share that it has of all."""
    shuffled = np.random.default_rng(seed).permutation(len(faces))
    label = faces.label[shuffled]
    place = np.empty(len(faces))
    for name in np.unique(label):
        (inside,) = np.nonzero(label == name)
        # The k-th of n faces of a class comes when the part (k + ½) / n of all has come.
        place[inside] = (np.arange(len(inside)) + 0.5) / len(inside)
    chosen: np.ndarray[Any, np.dtype[np.int64]] = np.sort(shuffled[np.argsort(place, kind="stable")[:count]])
    return chosen
