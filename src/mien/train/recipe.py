"""A recipe: everything that decides what a training run makes, read from one TOML file or named by flags."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..data.split import Unit
from ..errors import MienError, OptionError, SourceNotFoundError
from ..labels import EIGHT, SEVEN, LabelSet, labels_from
from .augment import Augment

__all__ = ["BOTH", "PLAIN", "Optim", "Recipe", "Stage", "plain_recipe", "read_recipe", "recipe_of"]

BOTH = "both"
"""The ``labels`` of a recipe that learns from FER2013's own label and from FER+'s votes at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optim:
    """How the weights are moved.

    Attributes
    ----------
    kind
        ``sgd`` with Nesterov momentum, ``adam`` or ``adamw``.
    lr
        The highest rate.
    momentum
        Of ``sgd``.
    weight_decay
        Of matrices and filters; norms and biases carry none.
    schedule
        ``trapezoid``: warmed up, held, then brought down in a straight line; ``cosine``: warmed up, then half a wave
        down to zero; ``onecycle``: half a wave up and half a wave down (Smith and Topin 2017, arXiv 1708.07120);
        ``plateau``: lowered when the monitored value stands still; ``constant``.
    warmup
        Share of all steps until the rate is at its highest.
    hold
        Of ``trapezoid``: share of all steps until the rate falls.
    factor
        Of ``plateau``: by what the rate is multiplied.
    patience
        Of ``plateau``: after how many epochs without progress.
    floor
        Of ``plateau``: the rate that it does not go below.
    ema
        Decay a step of the weights' moving average, which is what is judged and kept; 0: the weights themselves.
    """

    kind: str = "sgd"
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "trapezoid"
    warmup: float = 0.03
    hold: float = 0.4
    factor: float = 0.2
    patience: int = 5
    floor: float = 1e-7
    ema: float = 0.998


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """From this share of the epochs on, train at this picture size.

    ``size`` None: the size that the net declares. ``mixup`` None: as the recipe's augmentation.
    """

    start: float
    size: int | None = None
    mixup: float | None = None


_CHOICES: Mapping[str, tuple[str | None, ...]] = MappingProxyType(
    {
        "targets": ("labels", "votes"),
        "class_weights": ("none", "balanced"),
        "sampler": ("shuffle", "balanced"),
        "split_by": (None, "group", "person", "frame"),
        "mode": ("auto", "min", "max"),
        "optim.kind": ("sgd", "adam", "adamw"),
        "optim.schedule": ("trapezoid", "cosine", "onecycle", "plateau", "constant"),
    }
)
_MEANING: Mapping[str, str] = MappingProxyType(
    {
        "epochs": "train for one or more",
        "batch": "a step needs one face or more",
        "accumulate": "it is the number of parts that a batch is worked through in, at least 1 and at most the batch",
        "validation": "it is the share of Training that is held out, between 0 and 1",
        "smoothing": "it is the share of a label that is spread over all, at least 0 and below 1",
        "patience": "it is the number of epochs without progress that end a run; 0 switches it off",
        "checkpoint_every": "it is a number of steps; 0: once in 45 seconds",
        "teacher_weight": "it is the teacher's share of a target, from 0 to 1, or one for each head by its name",
        "optim.lr": "a rate is more than 0",
        "optim.warmup": "it is the share of the steps until the rate is at its highest, at least 0 and below 1",
        "optim.hold": "it is the share of the steps after which the rate falls, at least 0 and below 1",
        "optim.factor": "a lower rate is a share of the one before, between 0 and 1",
        "optim.patience": "it is a number of epochs, 1 or more",
        "optim.ema": "it is a share, at least 0 and below 1; 0 switches the average off",
        "stages": "the first starts at 0 and each starts after the one before",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A training run as a value.

    Attributes
    ----------
    name
        What the run is called unless somebody says otherwise.
    net
        A network of ``nets.NETS``.
    net_options
        What that network takes.
    labels
        ``both``: two heads, ``crowd`` from FER+'s votes and ``fer2013`` from FER2013's label; or a label set's name, or
        a list of labels of one's own, for one head ``labels``.
    merge
        Where labels of the data go that ``labels`` does not have: ``{disgust = "angry"}``.
    drop
        Labels of the data whose faces are left out.
    targets
        Of one head: the hard ``labels``, or the taggers' ``votes`` as a distribution.
    class_weights
        ``balanced``: a class counts as much as any other, however many faces it has.
    sampler
        ``balanced``: an epoch draws every class equally often.
    init
        A run, a file of weights, a float ``.onnx`` or a bundled model's name: where the trunk begins, and each head
        that fits.
    freeze_trunk
        Train the heads alone.
    teacher
        Runs, checkpoints or ONNX models whose averaged answer is blended into the targets.
    teacher_weight
        The share at which it is; one number, or one for each head by its name.
    epochs
        How often all faces are seen.
    batch
        Faces a step, over all devices together.
    accumulate
        Parts that each device works its share of a batch through in, to fit into memory.
    seed
        Decides the split, the first weights, the order, the augmentation and the dropout.
    precision
        Lightning's word: ``32-true``, ``bf16-mixed``, ``16-mixed``.
    validation
        The share of Training, whole groups together, that is held out to choose and to calibrate; test splits choose
        nothing.
    split_by
        What is never parted by that: pixel-equal pictures (``group``), a ``person``, or nothing (``frame``);
        None: persons where they are known, else pictures.
    crowd_weight, fer2013_weight
        What the losses of the two heads count.
    smoothing
        Share of a hard label that is spread over all labels.
    monitor
        The value by which the best checkpoint is kept.
    mode
        Whether it is the ``min`` or the ``max`` that is best; ``auto``: low for losses, high for all others.
    patience
        Epochs without progress that end the run; 0: never.
    checkpoint_every
        Steps between two checkpoints; 0: 45 seconds.
    optim, augment, stages
        The parts.
    card
        What only its maker knows and the exported model's card must say: ``licence``, ``origin`` and ``data``.
    """

    name: str
    net: str = "residual"
    net_options: Mapping[str, Any] = field(default_factory=dict)
    labels: str | tuple[str, ...] = BOTH
    merge: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    targets: str = "labels"
    class_weights: str = "none"
    sampler: str = "shuffle"
    init: str = ""
    freeze_trunk: bool = False
    teacher: tuple[str, ...] = ()
    teacher_weight: float | Mapping[str, float] = 0.5
    epochs: int = 60
    batch: int = 128
    accumulate: int = 1
    seed: int = 1
    precision: str = "bf16-mixed"
    validation: float = 0.05
    split_by: Unit | None = None
    crowd_weight: float = 1.0
    fer2013_weight: float = 1.0
    smoothing: float = 0.1
    monitor: str = "val_loss"
    mode: str = "auto"
    patience: int = 0
    checkpoint_every: int = 0
    optim: Optim = field(default_factory=Optim)
    augment: Augment = field(default_factory=Augment)
    stages: tuple[Stage, ...] = (Stage(start=0.0),)
    card: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if self._part(name) not in choices:
                self._refuse(name, f"choose from {', '.join(c for c in choices if c)}")
        impossible = {
            "epochs": self.epochs < 1,
            "batch": self.batch < 1,
            "accumulate": not 1 <= self.accumulate <= self.batch,
            "validation": not 0 < self.validation < 1,
            "smoothing": not 0 <= self.smoothing < 1,
            "patience": self.patience < 0,
            "checkpoint_every": self.checkpoint_every < 0,
            "teacher_weight": not all(0 <= w <= 1 for w in self._teacher_weights().values()),
            "optim.lr": not self.optim.lr > 0,
            "optim.warmup": not 0 <= self.optim.warmup < 1,
            "optim.hold": not 0 <= self.optim.hold < 1,
            "optim.factor": not 0 < self.optim.factor < 1,
            "optim.patience": self.optim.patience < 1,
            "optim.ema": not 0 <= self.optim.ema < 1,
            "stages": not self.stages
            or self.stages[0].start > 0
            or any(a.start >= b.start for a, b in pairwise(self.stages)),
        }
        for name in (n for n, wrong in impossible.items() if wrong):
            self._refuse(name, _MEANING[name])
        self._check_labels()

    def _part(self, name: str) -> Any:
        part: Any = self
        for step in name.split("."):
            part = getattr(part, step)
        return part

    def _refuse(self, name: str, why: str) -> None:
        msg = f"recipe {self.name}: {name} cannot be {self._part(name)!r}; {why}"
        raise OptionError(msg)

    def _check_labels(self) -> None:
        try:
            heads = self.heads()
        except MienError as error:
            msg = f"recipe {self.name}: labels cannot be {self.labels!r}; {error}"
            raise OptionError(msg) from error
        if unknown := self._teacher_weights().keys() - {"", *heads}:
            self._refuse("teacher_weight", f"there is no head {min(unknown)}; the heads are {', '.join(heads)}")
        if self.labels == BOTH and (self.merge or self.drop or self.targets == "votes"):
            why = "heads of both kinds take FER2013's labels and FER+'s votes as they are; name a label set"
            self._refuse("merge" if self.merge else "drop" if self.drop else "targets", why)

    def _teacher_weights(self) -> Mapping[str, float]:
        return self.teacher_weight if isinstance(self.teacher_weight, Mapping) else {"": self.teacher_weight}

    def heads(self) -> dict[str, LabelSet]:
        """Return the label set of each head by its name, in the order of the net's answers."""
        if self.labels == BOTH:
            return {"crowd": EIGHT, "fer2013": SEVEN}
        return {"labels": labels_from(self.labels if isinstance(self.labels, str) else ",".join(self.labels))}

    def head_weight(self, head: str) -> float:
        """Return what a head's loss counts."""
        return {"crowd": self.crowd_weight, "fer2013": self.fer2013_weight}.get(head, 1.0)

    def teacher_share(self, head: str) -> float:
        """Return the teacher's share of a head's targets."""
        weights = self._teacher_weights()
        return float(weights.get(head, weights.get("", 0.0)))

    def soft(self, head: str) -> bool:
        """Return whether a head learns from votes rather than from hard labels."""
        return head == "crowd" or (head == "labels" and self.targets == "votes")

    def stage_at(self, epoch: int) -> Stage:
        """Return the stage that an epoch belongs to, its mixup filled in."""
        stage = [s for s in self.stages if s.start * self.epochs <= epoch][-1]
        return stage if stage.mixup is not None else replace(stage, mixup=self.augment.mixup)

    def lower_is_better(self) -> bool:
        """Return whether the best checkpoint is that with the lowest monitored value."""
        return self.mode == "min" or (self.mode == "auto" and self.monitor.endswith("loss"))

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, ready for JSON."""
        return asdict(self)


PLAIN: Mapping[str, Any] = MappingProxyType(
    {
        "labels": "seven",
        "epochs": 40,
        "batch": 64,
        "validation": 0.1,
        "optim": {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.01, "schedule": "cosine", "warmup": 0.05},
        "augment": {"blur": 0.0, "noise": 0.0, "erase": 0.25, "mixup": 0.0},
    }
)
"""The settings of a run that is named by flags alone, and of all recipes that are to be compared with one another."""


def plain_recipe(net: str, *, settings: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a net by its name, with `PLAIN`'s settings, changed by settings as in `read_recipe`.

    Raises
    ------
    OptionError
        If a setting is unknown or has an impossible value.
    """
    return recipe_of({"name": net, "net": net} | json.loads(json.dumps(dict(PLAIN))), settings=settings)


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
    return recipe_of({"name": file.stem} | table, settings=settings)


def recipe_of(table: dict[str, Any], *, settings: Sequence[str] = ()) -> Recipe:
    """Return a recipe from plain values, as `Recipe.as_dict` gives them, changed by settings as in `read_recipe`.

    Raises
    ------
    OptionError
        If a setting is unknown or has an impossible value.
    """
    for setting in settings:
        _set(table, setting)
    recipe: Recipe = _make(Recipe, table, "recipe")
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
    {
        "int": ("a whole number", (int,)),
        "int | None": ("a whole number", (int, type(None))),
        "float": ("a number", (int, float)),
        "float | None": ("a number", (int, float, type(None))),
        "bool": ("true or false", (bool,)),
        "str": ("a text", (str,)),
        "Unit | None": ("a text", (str, type(None))),
        "str | tuple[str, ...]": ("a text, or a list of texts", (str, list, tuple)),
        "tuple[str, ...]": ("a list of texts", (list, tuple)),
        "Mapping[str, str]": ("a table of texts", (Mapping,)),
        "Mapping[str, Any]": ("a table", (Mapping,)),
        "float | Mapping[str, float]": ("a number, or a table of numbers", (int, float, Mapping)),
    }
)
_PARTS: Mapping[str, type[Any]] = MappingProxyType({"optim": Optim, "augment": Augment})


def _make(kind: type[Any], table: Any, where: str) -> Any:
    if not isinstance(table, Mapping):
        msg = f"{where}: expected settings, got {table!r}"
        raise OptionError(msg)
    known = {f.name: f for f in fields(kind)}
    if unknown := set(table) - set(known):
        msg = f"{where}: unknown setting {', '.join(sorted(unknown))}; choose from {', '.join(known)}"
        raise OptionError(msg)
    parts = {n: _checked(n, v, str(known[n].type), where) for n, v in table.items()}
    if kind is Recipe:
        parts |= {n: _make(k, parts[n], f"{where}.{n}") for n, k in _PARTS.items() if n in parts}
        if "stages" in parts:
            parts["stages"] = _stages(parts["stages"], f"{where}.stages")
    try:
        return kind(**parts)
    except TypeError as error:
        msg = f"{where}: a setting is missing ({error})"
        raise OptionError(msg) from error


def _checked(name: str, value: Any, kind: str, where: str) -> Any:
    words, types = _KINDS.get(kind, ("", (object,)))
    inside: tuple[Any, ...] = tuple(value) if isinstance(value, list | tuple) and words else ()
    if isinstance(value, Mapping) and words != "a table":
        inside = tuple(value.values())
    inner: tuple[type, ...] = (int, float) if "numbers" in words else (str,)
    wrong = not isinstance(value, types) or (isinstance(value, bool) and bool not in types and bool(words))
    if wrong or (words and not all(isinstance(v, inner) for v in inside)):
        msg = f"{where}: {name} is {value!r}; it must be {words}"
        raise OptionError(msg)
    return tuple(value) if isinstance(value, list) and "tuple" in kind and words else value


def _stages(tables: Any, where: str) -> tuple[Stage, ...]:
    if not isinstance(tables, list | tuple):
        msg = f"{where}: expected a list of stages, got {tables!r}"
        raise OptionError(msg)
    return tuple(_make(Stage, table, where) for table in tables)
