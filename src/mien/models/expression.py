"""The expression model: crops in, probabilities of every head and an embedding out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import IntegrityError, ModelError, OptionError, UnknownLabelError
from ..labels import LABEL_SETS, LabelSet, projection
from ..zoo import catalog, store
from ..zoo.card import Head, InputSpec, ModelCard, read_card
from ..zoo.runtime import ort
from ..zoo.session import open_session
from .prepare import prepare

__all__ = ["BATCH", "EMBEDDING", "Expression", "Reading", "View", "offered", "view"]

BATCH = 64
"""Crops a call of the network: bounds memory whatever the number of crops."""

EMBEDDING = "embedding"
"""The output that is no head."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model says about N crops.

    Attributes
    ----------
    scores
        By the name of the head, in the card's order: (N, K) float32 over the head's K labels; rows sum to 1.
    embedding
        (N, D) float32, the features below all heads; no unit length.
    """

    scores: Mapping[str, NDArray[np.float32]]
    embedding: NDArray[np.float32]

    @property
    def crowd(self) -> NDArray[np.float32]:
        """(N, 8) float32, how ten taggers would share their votes over ``labels.EIGHT``.

        Raises
        ------
        ModelError
            If the model has no such head.
        """
        return self._of("crowd")

    @property
    def fer2013(self) -> NDArray[np.float32]:
        """(N, 7) float32, the label that FER2013 would give, over ``labels.SEVEN``.

        Raises
        ------
        ModelError
            If the model has no such head.
        """
        return self._of("fer2013")

    def __len__(self) -> int:
        return len(self.embedding)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.integer[Any]] | slice) -> Reading:
        return Reading({name: s[index] for name, s in self.scores.items()}, self.embedding[index])

    @classmethod
    def concat(cls, parts: Sequence[Reading]) -> Reading:
        """Join one or more readings of the same model, one after the other."""
        scores = {name: np.concatenate([p.scores[name] for p in parts]) for name in parts[0].scores}
        return cls(scores, np.concatenate([p.embedding for p in parts]))

    def _of(self, name: str) -> NDArray[np.float32]:
        if name not in self.scores:
            msg = f"this model has no head {name!r}; it has {', '.join(self.scores)}"
            raise ModelError(msg)
        return self.scores[name]


@dataclass(frozen=True, slots=True)
class View:
    """Scores over one label set: the head that they come from, and the matrix that carries them over.

    Attributes
    ----------
    head
        The head of K labels that is read.
    labels
        The M labels of the scores.
    matrix
        (K, M) float32, or None where the head's own labels are wanted.
    """

    head: Head
    labels: LabelSet
    matrix: NDArray[np.float32] | None = None

    def __call__(self, reading: Reading) -> NDArray[np.float32]:
        """Return the scores of a reading, (N, M) float32; rows sum to 1."""
        scores = reading.scores[self.head.name]
        return scores if self.matrix is None else scores @ self.matrix


def view(card: ModelCard, name: str | None = None) -> View:
    """Return how a model is read over a label set.

    A head that has the very labels comes first; otherwise the first head whose labels can be summed to them.

    Parameters
    ----------
    card
        The model's card.
    name
        One of `offered`: a label set of ``labels.LABEL_SETS`` or a head's own; None: the first head's.

    Raises
    ------
    ModelError
        If the card names no heads.
    UnknownLabelError
        If there is no label set of that name.
    OptionError
        If the model cannot give it; the message names those that it can.
    """
    views = _views(_headed(card))
    if name is None:
        return next(iter(views.values()))
    if name in views:
        return views[name]
    if name not in LABEL_SETS:
        raise UnknownLabelError(name, tuple(views), what="label set")
    known = ", ".join(_words(one) for one in views.values())
    msg = f"the model {card.name!r} cannot give the label set {name!r}; it can give {known}"
    raise OptionError(msg)


def offered(card: ModelCard) -> tuple[str, ...]:
    """Return the names of the label sets that a model can give, its own first."""
    return tuple(_views(_headed(card)))


def _views(heads: Sequence[Head]) -> dict[str, View]:
    views: dict[str, View] = {}
    for head in heads:  # of two sets of one name, the second goes by the name of its head
        key = head.labels.name
        taken = key in views and views[key].labels != head.labels
        views.setdefault(head.name if taken else key, View(head, head.labels))
    for head in heads:
        for labels in LABEL_SETS.values():
            matrix = _carried(head.labels, labels)
            if matrix is not None:
                views.setdefault(labels.name, View(head, labels, matrix))
    return views


def _carried(source: LabelSet, target: LabelSet) -> NDArray[np.float32] | None:
    """Return the projection, or None where a label has no place or a place would stay empty for ever."""
    try:
        matrix = projection(source, target)
    except UnknownLabelError:
        return None
    return matrix if matrix.any(0).all() else None


def _words(one: View) -> str:
    own = one.labels.name not in LABEL_SETS
    return f"{one.labels.name} ({', '.join(one.labels)})" if own else one.labels.name


class Expression:
    """An expression model of mien's own kind: one ONNX file with a card.

    Its outputs are named after the card's heads, each giving probabilities over the head's labels, and ``embedding``.

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
    file
        Where the network lies.

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
        self.file = Path(file)
        self._spec = _spec(self.card)
        self._session = open_session(file, threads=threads)
        self._names = [*(h.name for h in self.heads), EMBEDDING]
        _check_outputs(file, self._session, self.heads)
        self._input = self._session.get_inputs()[0].name

    @property
    def heads(self) -> tuple[Head, ...]:
        """The model's answers: name and label set of each, the first being the one that `__call__` gives."""
        return self.card.heads

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
        return Reading.concat([self._run(crops[i : i + BATCH]) for i in range(0, max(len(crops), 1), BATCH)])

    def __call__(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Score crops over the labels of the first head: (N, K) float32, rows sum to 1."""
        return self.read(crops).scores[self.heads[0].name]

    def _run(self, crops: NDArray[np.uint8]) -> Reading:
        fed = {self._input: prepare(crops, self._spec)}
        *scores, embedding = (np.asarray(a, np.float32) for a in self._session.run(self._names, fed))
        return Reading(dict(zip(self._names, scores, strict=False)), embedding)


def _spec(card: ModelCard) -> InputSpec:
    if card.input is None or card.task != "expression":
        msg = f"model {card.name!r} is for the task {card.task!r}; an expression model declares that task and its input"
        raise ModelError(msg)
    _headed(card)
    return card.input


def _headed(card: ModelCard) -> tuple[Head, ...]:
    if not card.heads:
        msg = f"model {card.name!r}: its card names no heads; export the model again"
        raise ModelError(msg)
    return card.heads


def _check_outputs(file: Path, session: ort.InferenceSession, heads: tuple[Head, ...]) -> None:
    widths = {o.name: o.shape[-1] if o.shape else None for o in session.get_outputs()}
    expected = ", ".join((*(h.name for h in heads), EMBEDDING))
    if missing := [name for name in (*(h.name for h in heads), EMBEDDING) if name not in widths]:
        msg = f"{file}: no output {', '.join(missing)}; by its card it has {expected}"
        raise ModelError(msg)
    for head in heads:
        if isinstance(width := widths[head.name], int) and width != len(head.labels):
            msg = f"{file}: the head {head.name} gives {width} scores, its card names {len(head.labels)} labels"
            raise ModelError(msg)


def _beside(file: Path) -> tuple[ModelCard, Path]:
    beside = file.with_suffix(".card.json")
    if not file.is_file():
        msg = f"{file}: no such model file"
        raise ModelError(msg)
    if not beside.is_file():
        msg = f"{file}: no card beside it; expected {beside.name} in the same folder, as `mien export` writes it"
        raise ModelError(msg)
    card = read_card(beside)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != card.sha256:
        msg = f"{file}: its SHA-256 is {found[:12]}…, its card names {card.sha256[:12]}…; export it again"
        raise IntegrityError(msg)
    return card, file
