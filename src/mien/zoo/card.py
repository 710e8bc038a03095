"""Model cards: every fact about a model, in one place."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..labels import LabelSet

__all__ = ["Change", "Head", "InputSpec", "ModelCard", "Score", "read_card"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What a model is fed.

    Attributes
    ----------
    width, height
        Pixels.
    colour
        ``"rgb"`` or ``"grey"``.
    low, high
        Where the pixel values 0 and 255 go.
    template
        The five points in the crop, as shares of its width and height (x, y), where crops are aligned.
    """

    width: int
    height: int
    colour: str = "rgb"
    low: float = 0.0
    high: float = 1.0
    template: tuple[tuple[float, float], ...] | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """One answer of a model: probabilities over a label set, under the name that the network's output has."""

    name: str
    labels: LabelSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A measured score: on which data, over how many, with its 95 % interval."""

    data: str
    split: str
    n: int
    metric: str
    value: float
    low: float
    high: float
    date: str
    commit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of a measure when the weights were quantised: over how many faces (0: none), before and after."""

    what: str
    n: int
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """A model: where its bytes come from, what goes in, what comes out, how good it is, who may use it.

    ``file`` is a path inside the package, inside an installed dependency (``package:path``), or a name in the model
    store; ``sha256`` is that of the file. ``heads`` are the answers of an expression model in their order; ``labels``
    are those of the first. ``changes`` is what quantising cost and brought.
    """

    name: str
    task: str
    file: str
    sha256: str
    size: int
    licence: str
    origin: str
    data: str
    summary: str = ""
    parameters: int | None = None
    url: str | None = None
    date: str = ""
    commit: str = ""
    input: InputSpec | None = None
    labels: LabelSet | None = None
    heads: tuple[Head, ...] = ()
    temperatures: tuple[tuple[str, float], ...] = ()
    scores: tuple[Score, ...] = ()
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the card as plain values, ready for JSON."""
        return asdict(self)


def read_card(path: str | Path) -> ModelCard:
    """Read a card from its JSON file.

    Raises
    ------
    ModelError
        If there is no such file or it is not a card.
    """
    file = Path(path)
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
        if table.get("input"):
            template = table["input"].pop("template", None)
            points = tuple((float(x), float(y)) for x, y in template) if template else None
            table["input"] = InputSpec(**table["input"], template=points)
        if table.get("labels"):
            table["labels"] = _label_set(table["labels"])
        table["heads"] = tuple(Head(str(h["name"]), _label_set(h["labels"])) for h in table.get("heads", ()))
        table["scores"] = tuple(Score(**s) for s in table.get("scores", ()))
        table["changes"] = tuple(Change(**c) for c in table.get("changes", ()))
        table["temperatures"] = tuple((str(k), float(v)) for k, v in table.get("temperatures", ()))
        table["notes"] = tuple(table.get("notes", ()))
        return ModelCard(**table)
    except (OSError, ValueError, TypeError, KeyError) as error:
        msg = f"{file}: not a model card ({error})"
        raise ModelError(msg) from error


def _label_set(table: dict[str, Any]) -> LabelSet:
    return LabelSet(table["name"], tuple(table["labels"]))
