"""A recipe: everything that decides what a training run makes, read from one TOML file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
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
    """From this share of the epochs on, train at this picture size; ``mixup`` None: as the recipe's augmentation."""

    start: float
    size: int
    mixup: float | None = None


_MEANING: Mapping[str, str] = MappingProxyType(
    {
        "epochs": "train for one or more",
        "batch": "a step needs one face or more",
        "validation": "it is the share of Training that is held out, between 0 and 1",
        "optim.hold": "it is the share of the steps after which the rate falls, at least 0 and below 1",
        "stages": "the first starts at 0 and each starts after the one before",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run as a value.

    ``validation`` is the share of Training, whole groups of pixel-equal pictures together, that is held out to choose
    and to calibrate; test splits choose nothing. ``card`` holds what only its maker knows and the exported model's card
    must say: ``licence``, ``origin`` and ``data``.
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
    optim: Optim = field(default_factory=Optim)
    augment: Augment = field(default_factory=Augment)
    stages: tuple[Stage, ...] = (Stage(start=0.0, size=48),)
    card: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        impossible = {
            "epochs": self.epochs < 1,
            "batch": self.batch < 1,
            "validation": not 0 < self.validation < 1,
            "optim.hold": not 0 <= self.optim.hold < 1,
            "stages": not self.stages
            or self.stages[0].start > 0
            or any(a.start >= b.start for a, b in pairwise(self.stages)),
        }
        for name in (n for n, wrong in impossible.items() if wrong):
            part: Any = self
            for step in name.split("."):
                part = getattr(part, step)
            msg = f"recipe {self.name}: {name} cannot be {part!r}; {_MEANING[name]}"
            raise OptionError(msg)

    def stage_at(self, epoch: int) -> Stage:
        """Return the stage that an epoch belongs to, its mixup filled in."""
        stage = [s for s in self.stages if s.start * self.epochs <= epoch][-1]
        return stage if stage.mixup is not None else replace(stage, mixup=self.augment.mixup)

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, ready for JSON."""
        return asdict(self)


def read_recipe(path: str | Path, *, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe, or the ``recipe.json`` of a run, and apply settings of the form ``optim.lr=0.02``.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    OptionError
        If the file is neither TOML nor JSON, or a setting is unknown or has an impossible value.
    """
    file = Path(path)
    if not file.is_file():
        msg = f"{file}: no such recipe"
        raise SourceNotFoundError(msg)
    parse = json.loads if file.suffix == ".json" else tomllib.loads
    try:
        table: dict[str, Any] = parse(file.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"{file}: not a recipe ({error})"
        raise OptionError(msg) from error
    for setting in settings:
        _set(table, setting)
    recipe: Recipe = _make(Recipe, {"name": file.stem} | table, "recipe")
    return recipe


def _set(table: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    *above, last = key.strip().split(".")
    place: Any = table
    for name in above:
        place = place.setdefault(name, {}) if isinstance(place, dict) else None
    if not equals or not isinstance(place, dict):
        msg = f"--set {setting!r}: write it as name=value, or optim.name=value for a setting of a part"
        raise OptionError(msg)
    place[last] = _value(value.strip())


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


_KINDS: Mapping[str, tuple[str, tuple[type, ...]]] = MappingProxyType(
    {"int": ("a whole number", (int,)), "float": ("a number", (int, float)), "str": ("a text", (str,))}
)


def _make(kind: type[Any], table: Any, where: str) -> Any:
    if not isinstance(table, Mapping):
        msg = f"{where}: expected settings, got {table!r}"
        raise OptionError(msg)
    known = {f.name: f for f in fields(kind)}
    if unknown := set(table) - set(known):
        msg = f"{where}: unknown setting {', '.join(sorted(unknown))}; choose from {', '.join(known)}"
        raise OptionError(msg)
    for name, value in table.items():
        words, types = _KINDS.get(str(known[name].type), ("", (object,)))
        if not isinstance(value, types) or (isinstance(value, bool) and words):
            msg = f"{where}: {name} is {value!r}; it must be {words}"
            raise OptionError(msg)
    parts: dict[str, Any] = dict(table)
    if kind is Recipe:
        parts |= {
            n: _make(k, parts[n], f"{where}.{n}") for n, k in (("optim", Optim), ("augment", Augment)) if n in parts
        }
        if "stages" in parts:
            parts["stages"] = _stages(parts["stages"], f"{where}.stages")
    try:
        return kind(**parts)
    except TypeError as error:
        msg = f"{where}: a setting is missing ({error})"
        raise OptionError(msg) from error


def _stages(tables: Any, where: str) -> tuple[Stage, ...]:
    if not isinstance(tables, list | tuple):
        msg = f"{where}: expected a list of stages, got {tables!r}"
        raise OptionError(msg)
    return tuple(_make(Stage, table, where) for table in tables)
