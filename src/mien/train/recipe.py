"""A recipe: everything that decides what a training run makes, read from one TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from ..errors import OptionError, SourceNotFoundError
from .augment import Augment

__all__ = ["Optim", "Recipe", "Stage", "read_recipe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Optim:
    """Stochastic gradient descent with Nesterov momentum, warmed up, held, then brought down in a straight line."""

    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warmup: float = 0.03
    hold: float = 0.4
    ema: float = 0.998


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """From this share of the epochs on, train at this picture size."""

    start: float
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run as a value.

    ``validation`` is the share of Training, whole groups of pixel-equal pictures together, that is held out to choose
    and to calibrate; test splits choose nothing.
    """

    name: str
    net: str = "residual"
    net_options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 60
    batch: int = 128
    seed: int = 1
    precision: str = "bf16-mixed"
    validation: float = 0.05
    crowd_weight: float = 1.0
    fer2013_weight: float = 1.0
    smoothing: float = 0.1
    optim: Optim = Optim()
    augment: Augment = Augment()
    stages: tuple[Stage, ...] = (Stage(start=0.0, size=48),)

    def size_at(self, epoch: int) -> int:
        """Return the picture size of an epoch."""
        return [s.size for s in self.stages if s.start * self.epochs <= epoch][-1]

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, ready for JSON."""
        return asdict(self)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _make(kind: type, table: Mapping[str, Any], where: str) -> Any:
    known = {f.name: f for f in fields(kind)}
    unknown = set(table) - set(known)
    if unknown:
        msg = f"recipe{where}: unknown setting {', '.join(sorted(unknown))}; choose from {', '.join(known)}"
        raise OptionError(msg)
    parts: dict[str, Any] = dict(table)
    for name, part in {"optim": Optim, "augment": Augment}.items():
        if is_dataclass(kind) and kind is Recipe and name in parts:
            parts[name] = _make(part, parts[name], f".{name}")
    if kind is Recipe and "stages" in parts:
        parts["stages"] = tuple(_make(Stage, s, ".stages") for s in parts["stages"])
    return kind(**parts)


def read_recipe(path: str | Path, *, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply settings of the form ``optim.lr=0.02``.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    OptionError
        If the file is not TOML or a setting is unknown.
    """
    file = Path(path)
    if not file.is_file():
        msg = f"{file}: no such recipe"
        raise SourceNotFoundError(msg)
    try:
        table: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        msg = f"{file}: not a TOML file ({error})"
        raise OptionError(msg) from error
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            msg = f"--set {setting!r}: write it as name=value"
            raise OptionError(msg)
        *above, last = key.strip().split(".")
        place = table
        for name in above:
            place = place.setdefault(name, {})
        place[last] = _value(value.strip())
    table.setdefault("name", file.stem)
    recipe: Recipe = _make(Recipe, table, "")
    return recipe
