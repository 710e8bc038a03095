"""Features of a trunk, computed once and kept in a file, and heads that are trained on them alone."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..data.importers import LabelledFaces
from ..data.split import split_training
from ..errors import DataError, OptionError, OutputError
from ..evaluate.metrics import Estimate, accuracy
from ..labels import LabelSet
from ..models.expression import Expression
from ..models.prepare import prepare
from .nets import Net

__all__ = ["Features", "TrainedHead", "extract", "read_features", "train_head"]

BATCH = 64
_ARRAYS = ("values", "label", "group", "split")


@dataclass(frozen=True, slots=True)
class Features:
    """What a trunk gives for labelled faces.

    Attributes
    ----------
    values
        (N, D) float32, the embedding of each face.
    label
        (N,) int64, index into ``labels``; -1 where there is none.
    group
        (N,) int64; equal numbers mean pixel-equal pictures.
    split
        (N,) str.
    labels
        What ``label`` counts in.
    weights, pictures
        SHA-256 of the weights and of the pictures, in their order, that ``values`` were computed from.
    """

    values: NDArray[np.float32]
    label: NDArray[np.int64]
    group: NDArray[np.int64]
    split: NDArray[np.str_]
    labels: LabelSet
    weights: str
    pictures: str

    def __len__(self) -> int:
        return len(self.values)

    @property
    def zero_share(self) -> NDArray[np.float64]:
        """The share of faces for which each feature is exactly zero, (D,) in [0, 1]."""
        share: NDArray[np.float64] = (self.values == 0).mean(0)
        return share

    @property
    def zeros(self) -> float:
        """The share of all numbers that are exactly zero, in [0, 1]."""
        return float((self.values == 0).mean())

    @property
    def dead(self) -> int:
        """How many features are zero for every face and tell a head nothing."""
        return int((self.values == 0).all(0).sum())

    def save(self, path: str | Path) -> None:
        """Write everything to one ``.npz`` of plain arrays, under a temporary name first.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        file = Path(path)
        arrays: dict[str, Any] = {f: getattr(self, f) for f in _ARRAYS}
        arrays["names"] = np.array([self.labels.name, *self.labels.labels])
        arrays["keys"] = np.array([self.weights, self.pictures])
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
                held = Path(folder) / "features.npz"
                np.savez(held, **arrays)
                held.replace(file)
        except OSError as error:
            msg = f"{file}: cannot be written ({error.strerror or error}); name a file in a folder of yours"
            raise OutputError(msg) from error


def read_features(path: str | Path) -> Features:
    """Read what `Features.save` wrote.

    Raises
    ------
    DataError
        If the file is missing or is no file of features.
    """
    file = Path(path)
    try:
        with np.load(file, allow_pickle=False) as held:
            name, *labels = (str(s) for s in held["names"])
            weights, pictures = (str(s) for s in held["keys"])
            arrays = {f: held[f] for f in _ARRAYS}
        found = Features(**arrays, labels=LabelSet(name, tuple(labels)), weights=weights, pictures=pictures)
    except (OSError, ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        msg = f"{file}: not a file of features ({error}); name another"
        raise DataError(msg) from error
    if found.values.ndim != 2 or {len(a) for a in arrays.values()} != {len(found)}:
        msg = f"{file}: not a file of features (its arrays have {[a.shape for a in arrays.values()]}); name another"
        raise DataError(msg)
    return found


def extract(
    model: Expression | Net,
    faces: LabelledFaces,
    *,
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Run a trunk over faces, once.

    Parameters
    ----------
    model
        A model file, or a network with its weights loaded; a network answers in eval mode and is left as it was.
    faces
        The faces, framed as the model expects.
    cache
        An ``.npz`` to keep the features in. Where it holds those of the same weights and the same pictures, nothing is
        computed; otherwise it is written anew.
    progress
        Is told how many faces of how many are done.

    Raises
    ------
    DataError
        If there are no faces, or ``cache`` exists and is no file of features.
    OutputError
        If ``cache`` cannot be written.
    """
    if not len(faces):
        msg = "there are no faces to take features of"
        raise DataError(msg)
    weights, pictures = _weights_key(model), _pictures_key(faces.images)
    held = read_features(cache) if cache is not None and Path(cache).exists() else None
    if held is not None and (held.weights, held.pictures) == (weights, pictures):
        values = held.values
    else:
        values = _run(model, faces.images, progress)
    found = Features(values, faces.label, faces.group, faces.split, faces.labels, weights, pictures)
    if cache is not None and not (held and _same(held, found)):
        found.save(cache)
    return found


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head trained on features, and how good it is.

    Attributes
    ----------
    head
        Takes features (N, D) as they are and gives logits (N, K): linear layers with ReLU between them. A single one
        fits into ``net.heads``.
    held_out, trained_on
        Accuracy on the faces that were held out or on the split that was asked for, and on those that it learned from.
    chance
        The share of the held-out faces that have the commonest label of the others.
    """

    head: nn.Sequential
    held_out: Estimate
    trained_on: Estimate
    chance: Estimate

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores (N, K) float32 of features (N, D); rows sum to 1."""
        with torch.inference_mode():
            scores: NDArray[np.float32] = self.head(torch.from_numpy(values)).softmax(1).numpy()
        return scores


def train_head(
    features: Features,
    faces: LabelledFaces,
    *,
    hidden: int = 0,
    validation: float = 0.1,
    on: str | None = None,
    epochs: int = 40,
    lr: float = 3e-3,
    seed: int = 0,
) -> TrainedHead:
    """Train a head on features of the split Training; the trunk is not run.

    Parameters
    ----------
    features, faces
        What `extract` gave for these faces.
    hidden
        Width of a dense layer with ReLU and half of it dropped while training; 0: the head is linear.
    validation
        Share of Training that is held out, as `data.split.split_training` does it. The head has not seen these faces;
        a trunk that learned from Training has, and then their accuracy flatters.
    on
        Score on this split in their place.
    epochs, lr
        Passes over the faces, and Adam's rate, which falls to zero along a cosine.
    seed
        Decides the split, the start and the order.

    Raises
    ------
    DataError
        If no labelled face of Training is left, or one class alone.
    OptionError
        If an option is impossible.
    """
    if hidden < 0 or epochs < 1 or not 0 < validation < 1:
        msg = f"hidden {hidden}, epochs {epochs}, validation {validation}: at least 0, at least 1, between 0 and 1"
        raise OptionError(msg)
    split = split_training(faces, validation=validation, seed=seed)
    inside = (features.split == "Training") & (features.label >= 0)
    train = inside & np.isin(features.group, split.train.group)
    held = inside & np.isin(features.group, split.validation.group)
    if on is not None:
        held = (features.split == on) & (features.label >= 0)
    if not train.any() or not held.any():
        msg = (
            f"{int(train.sum())} labelled faces to train a head on and {int(held.sum())} to score it on; both need some"
        )
        raise DataError(msg)
    x, y = torch.from_numpy(features.values[train]), torch.from_numpy(features.label[train])
    head = _fitted(x, y, len(features.labels), hidden=hidden, epochs=epochs, lr=lr, seed=seed)
    commonest = np.full(int(held.sum()), np.bincount(features.label[train]).argmax())
    with torch.inference_mode():
        named = head(torch.from_numpy(features.values)).argmax(1).numpy()
    return TrainedHead(
        head=head,
        held_out=accuracy(features.label[held], named[held]),
        trained_on=accuracy(features.label[train], named[train]),
        chance=accuracy(features.label[held], commonest),
    )


def _fitted(x: Tensor, y: Tensor, labels: int, *, hidden: int, epochs: int, lr: float, seed: int) -> nn.Sequential:
    mean, spread = x.mean(0), x.std(0, unbiased=False)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))  # a dead feature stays zero
    z = (x - mean) / spread
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = [x.shape[1], *([hidden] if hidden else []), labels]
        linear = [nn.Linear(i, o) for i, o in pairwise(widths)]
        between = [nn.ReLU(), nn.Dropout(0.5)]
        net = nn.Sequential(*(part for layer in linear for part in (layer, *between)))[: -len(between)]
        _descend(net, z, y, epochs=epochs, lr=lr)
    with torch.no_grad():  # the first layer takes over the scaling
        linear[0].weight /= spread
        linear[0].bias -= linear[0].weight @ mean
    return nn.Sequential(*(part for part in net if not isinstance(part, nn.Dropout))).eval()


def _descend(net: nn.Module, z: Tensor, y: Tensor, *, epochs: int, lr: float) -> None:
    batch = min(256, -(-len(z) // 16))  # few faces give small batches, so that there are steps enough
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-len(z) // batch))
    for _ in range(epochs):
        for rows in torch.randperm(len(z)).split(batch):
            optimizer.zero_grad()
            functional.cross_entropy(net(z[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()


def _run(
    model: Expression | Net, images: NDArray[np.uint8], progress: Callable[[int, int], None] | None
) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(images), BATCH):
        parts.append(_embedding(model, images[start : start + BATCH]))
        if progress:
            progress(min(start + BATCH, len(images)), len(images))
    return np.concatenate(parts)


def _embedding(model: Expression | Net, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    if isinstance(model, Expression):
        return model.read(crops).embedding
    before = model.training
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            x = torch.from_numpy(prepare(crops, model.input)).to(device)
            values: NDArray[np.float32] = model.eval().embed(x).float().cpu().numpy()
    finally:
        model.train(before)
    return values


def _weights_key(model: Expression | Net) -> str:
    if isinstance(model, Expression):
        return model.card.sha256
    digest = hashlib.sha256(repr((type(model).__name__, model.input)).encode())
    for name, value in model.trunk.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _pictures_key(images: NDArray[np.uint8]) -> str:
    digest = hashlib.sha256(repr(images.shape).encode())
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def _same(a: Features, b: Features) -> bool:
    facts = (a.labels, a.weights, a.pictures) == (b.labels, b.weights, b.pictures)
    return facts and all(np.array_equal(getattr(a, f), getattr(b, f)) for f in _ARRAYS)
