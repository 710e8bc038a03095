"""The expression model: crops in, probabilities of both label sources and an embedding out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import IntegrityError, ModelError
from ..zoo import catalog, store
from ..zoo.card import InputSpec, ModelCard, read_card
from ..zoo.session import open_session
from .prepare import prepare

__all__ = ["BATCH", "Expression", "Reading"]

BATCH = 64
"""Crops a call of the network: bounds memory whatever the number of crops."""

_OUTPUTS = ("crowd", "fer2013", "embedding")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model says about N crops.

    Attributes
    ----------
    crowd
        (N, 8) float32, how ten taggers would share their votes over ``labels.EIGHT``; rows sum to 1.
    fer2013
        (N, 7) float32, the label that FER2013 would give, over ``labels.SEVEN``; rows sum to 1.
    embedding
        (N, D) float32, the features below both heads; no unit length.
    """

    crowd: NDArray[np.float32]
    fer2013: NDArray[np.float32]
    embedding: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.crowd)


class Expression:
    """An expression model of mien's own kind: one ONNX file with a card.

    Parameters
    ----------
    model
        The name of a bundled model, or the path of an ``x.onnx`` that has its card beside it as ``x.card.json``.
    threads
        Threads of ONNX Runtime; 0 lets it choose.

    Attributes
    ----------
    card
        The model's card.

    Raises
    ------
    UnknownModelError
        If no bundled model has that name.
    ModelError
        If the file is missing, has no card beside it, or its card or outputs are not those of an expression model.
    IntegrityError
        If the file is not the one that its card names.
    """

    def __init__(self, model: str | Path = "expression", *, threads: int = 0) -> None:
        if isinstance(model, Path) or model.endswith(".onnx"):
            self.card, file = _beside(Path(model))
        else:
            self.card = catalog.card(model)
            file = store.locate(self.card)
        self._spec = _spec(self.card)
        self._session = open_session(file, threads=threads)
        names = [o.name for o in self._session.get_outputs()]
        if missing := set(_OUTPUTS) - set(names):
            msg = f"{file}: no output {', '.join(sorted(missing))}; an expression model has {', '.join(_OUTPUTS)}"
            raise ModelError(msg)
        self._input = self._session.get_inputs()[0].name

    def read(self, crops: NDArray[np.uint8]) -> Reading:
        """Read crops, at most `BATCH` at a time; a crop's numbers do not depend on the others.

        Parameters
        ----------
        crops
            (N, H, W, 3) uint8 RGB or (N, H, W) uint8 grey, framed as ``card.input.template`` says; N may be 0.

        Raises
        ------
        ShapeError
            If the crops have another shape or dtype.
        """
        parts = [self._run(crops[i : i + BATCH]) for i in range(0, max(len(crops), 1), BATCH)]
        return Reading(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    def __call__(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Score crops as the taggers would: ``read(crops).crowd``, (N, 8) float32."""
        return self.read(crops).crowd

    def _run(self, crops: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        fed = {self._input: prepare(crops, self._spec)}
        return [np.asarray(a, np.float32) for a in self._session.run(list(_OUTPUTS), fed)]


def _spec(card: ModelCard) -> InputSpec:
    if card.input is None or card.task != "expression":
        msg = f"model {card.name!r} is for the task {card.task!r}; an expression model declares that task and its input"
        raise ModelError(msg)
    return card.input


def _beside(file: Path) -> tuple[ModelCard, Path]:
    beside = file.with_suffix(".card.json")
    if not file.is_file():
        msg = f"{file}: no such model file"
        raise ModelError(msg)
    if not beside.is_file():
        msg = f"{file}: no card beside it; expected {beside.name} in the same folder, as `mien train` writes it"
        raise ModelError(msg)
    card = read_card(beside)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != card.sha256:
        msg = f"{file}: its SHA-256 is {found[:12]}…, its card names {card.sha256[:12]}…; export it again"
        raise IntegrityError(msg)
    return card, file
