"""The query language of a film's index: its words, its sentences as trees, and its errors. Described in docs/query.md.

::

    happy >= 0.7 for 8 frames and alone and not (blurred or time < 1:30)

A sentence is a `Node`; ``str(node)`` is its canonical spelling, which `mien.film.parser.parse` reads to the same node.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from ..errors import OptionError
from ..results.columns import Reason

__all__ = [
    "ALIASES",
    "COLUMNS",
    "FLAGS",
    "FRONTAL",
    "KEYWORDS",
    "OPERATORS",
    "REASONS",
    "RESERVED",
    "UNITS",
    "WORD",
    "And",
    "Because",
    "Column",
    "Compare",
    "Flag",
    "Held",
    "Label",
    "Node",
    "Not",
    "Number",
    "Operand",
    "Or",
    "QueryError",
    "Score",
    "asked",
    "misfit",
    "no_length",
    "parts",
    "spelled",
    "together",
]

FRONTAL = 0.25
"""Largest size of yaw at which a face counts as frontal: the nose lies within an eighth of the eyes' distance of the
middle. Reading stops at 0.62 (`mien.models.quality.Limits`)."""

COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "time": "when the frame is shown, seconds",
        "frame": "number of the frame in the film, from 0",
        "shot": "number of the shot, from 0",
        "track": "number of the track, from 0",
        "faces": "faces in the frame",
        "side": "size of the face, the square root of its box, pixels",
        "yaw": "how far the face is turned, to either side, [0, 2]",
        "turn": "yaw with its side, [-2, 2]; above 0 where the nose points to the right of the picture",
        "sharpness": "fine detail of the face, 0 where there is none",
        "brightness": "mean luma of the face, [0, 255]",
        "score": "score of the label on top, [0, 1]",
        "margin": "score on top less the second, [0, 1]",
        "detector_score": "the detector's score of the face, [0, 1]",
        "x1": "left edge of the box, pixels",
        "y1": "upper edge of the box, pixels",
        "x2": "right edge of the box, pixels",
        "y2": "lower edge of the box, pixels",
    }
)
"""Words that are numbers, and what each is."""

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "face": "every face",
        "alone": "it is the only face in its frame",
        "frontal": f"it looks towards the camera: yaw <= {FRONTAL}",
        "read": "its expression was read, it has scores",
        "named": "its expression was read and no score is too low to name it",
        "detected": "the detector found it in this very frame",
        "carried": "its box was carried over from a frame before",
    }
)
"""Words that are true or false of a face, and when."""

REASONS: Mapping[str, str] = MappingProxyType(
    {r.words: (r.__doc__ or "") for r in Reason if r not in {Reason.NO_FACE, Reason.UNREADABLE}}
)
"""Words that say why a face names no expression; the others are of frames without a face."""

ALIASES: Mapping[str, str] = MappingProxyType({"size": "side", "one_face": "alone"})
KEYWORDS = ("and", "or", "not", "for")
OPERATORS: Mapping[str, str] = MappingProxyType(
    {"<": "<", "<=": "<=", ">": ">", ">=": ">=", "=": "=", "!=": "!="}
    | {"==": "=", "<>": "!=", "≤": "<=", "≥": ">=", "≠": "!="}
)
"""The comparisons by their spellings."""

RESERVED = frozenset({*COLUMNS, *FLAGS, *REASONS, *ALIASES, *KEYWORDS, *(r.words for r in Reason)})
"""Words of the language; a label of that name is written in quotes."""

WORD = r"(?:[^\W\d]|(?![“”‘’−≤≥≠])[^\x00-\x7f\s])(?:\w|(?![“”‘’−≤≥≠])[^\x00-\x7f\s])*"
"""What needs no quotes: letters, digits, underscores and signs such as emoji, not beginning with a digit."""

_SHARE = (0.0, 1.0)
_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    dict.fromkeys(("score", "margin", "detector_score"), _SHARE)
    | {"yaw": (0.0, 2.0), "turn": (-2.0, 2.0), "brightness": (0.0, 255.0)}
)
UNITS: Mapping[str, str] = MappingProxyType({"time": "s"} | dict.fromkeys(("side", "x1", "y1", "x2", "y2"), "px"))
"""The columns whose numbers may be written with a unit, and which."""


class QueryError(OptionError):
    """A query that cannot be understood.

    Attributes
    ----------
    query
        The query.
    position
        Where the fault lies, in characters from 0.
    """

    def __init__(self, message: str, query: str = "", position: int = 0) -> None:
        super().__init__(message)
        self.query = query
        self.position = position


# Numbers


@dataclass(frozen=True, slots=True)
class Number:
    """A number; times are in seconds, lengths in pixels."""

    value: float

    def __str__(self) -> str:
        return spelled(self.value)


@dataclass(frozen=True, slots=True)
class Column:
    """A number that each face has, one of `COLUMNS`."""

    name: str

    def __post_init__(self) -> None:
        _known(self.name, COLUMNS, "column")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Score:
    """The score of a label."""

    label: str

    def __str__(self) -> str:
        return _quoted(self.label)


Operand = Number | Column | Score


# Conditions


@dataclass(frozen=True, slots=True)
class Flag:
    """One of `FLAGS`."""

    name: str

    def __post_init__(self) -> None:
        _known(self.name, FLAGS, "word")

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Label:
    """The label is named: it is on top, and its score is not too low."""

    name: str

    def __str__(self) -> str:
        return _quoted(self.name)


@dataclass(frozen=True, slots=True)
class Because:
    """The face has this reason, one of `REASONS`, against naming its expression."""

    reason: str

    def __post_init__(self) -> None:
        _known(self.reason, REASONS, "reason")

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison of two numbers, at least one of them of the face; false where one is missing."""

    left: Operand
    operator: str
    right: Operand

    def __post_init__(self) -> None:
        _known(self.operator, ("<", "<=", ">", ">=", "=", "!="), "comparison")
        if fault := misfit(self.left, self.right):
            which, why = fault
            msg = f"{which} {why}"
            raise OptionError(msg)

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True, slots=True)
class Held:
    """The condition holds for so many consecutive frames of a track, or for so long; true of all rows of such a run.

    ``length`` is a count of rows with the unit ``frames``, seconds with the unit ``s``.
    """

    condition: Node
    length: float
    unit: Literal["frames", "s"]

    def __post_init__(self) -> None:
        if why := no_length(self.length, self.unit):
            msg = f"{spelled(self.length)} {self.unit} {why}"
            raise OptionError(msg)

    def __str__(self) -> str:
        return f"{_within(self.condition, 3)} for {spelled(self.length)} {self.unit}"


@dataclass(frozen=True, slots=True)
class Not:
    """The condition is false, also where it is false because a number is missing."""

    condition: Node

    def __str__(self) -> str:
        return f"not {_within(self.condition, 2)}"


@dataclass(frozen=True, slots=True)
class And:
    """All conditions hold; two or more."""

    conditions: tuple[Node, ...]

    def __post_init__(self) -> None:
        _several(self.conditions)

    def __str__(self) -> str:
        return " and ".join(_within(c, 2) for c in self.conditions)


@dataclass(frozen=True, slots=True)
class Or:
    """At least one condition holds, of two or more."""

    conditions: tuple[Node, ...]

    def __post_init__(self) -> None:
        _several(self.conditions)

    def __str__(self) -> str:
        return " or ".join(_within(c, 1) for c in self.conditions)


Node = Flag | Label | Because | Compare | Held | Not | And | Or
_BINDING: Mapping[type, int] = MappingProxyType({Or: 0, And: 1, Not: 2, Held: 3})


def _within(node: Node, binding: int) -> str:
    return str(node) if _BINDING.get(type(node), 4) >= binding else f"({node})"


def spelled(value: float) -> str:
    """Return a number as it stands in a query; it reads back to the same number."""
    whole = abs(value) < 1e15 and float(value).is_integer()
    return str(int(value)) if whole else repr(float(value))


def _quoted(label: str) -> str:
    if re.fullmatch(WORD, label) and label.lower() not in RESERVED:
        return label
    return '"' + label.replace('"', '""') + '"'


def _known(name: str, names: Mapping[str, str] | tuple[str, ...], what: str) -> None:
    if name not in names:
        msg = f"unknown {what} {name!r}; choose one of: {', '.join(names)}"
        raise OptionError(msg)


def _several(conditions: tuple[Node, ...]) -> None:
    if len(conditions) < 2:
        msg = f"'and' and 'or' join two conditions or more, not {len(conditions)}"
        raise OptionError(msg)


# What fits together


def misfit(left: Operand, right: Operand) -> tuple[Operand, str] | None:
    """Return which side of a comparison is wrong and why, or None."""
    if isinstance(left, Number) and isinstance(right, Number):
        return left, "is compared with a number; name a label or a column"
    for number, other in ((left, right), (right, left)):
        if isinstance(number, Number) and not isinstance(other, Number) and (why := _unfit(number, other)):
            return number, why
    return None


def _unfit(number: Number, other: Column | Score) -> str:
    if not abs(number.value) < float("inf"):
        return "is no finite number"
    low, high = _RANGES.get(other.name, (-float("inf"), float("inf"))) if isinstance(other, Column) else _SHARE
    if low <= number.value <= high:
        return ""
    share = (low, high) == _SHARE
    hint = f"; write {spelled(number.value / 100)}" if share and 10 <= number.value <= 100 else ""
    if other == Column("yaw"):
        hint = "; to ask for one side, write turn"
    what = "scores lie" if share else f"{other} lies"
    return f"is out of range, {what} in [{spelled(low)}, {spelled(high)}]{hint}"


def no_length(length: float, unit: str) -> str:
    """Return what is wrong with the length of a run, or an empty string."""
    if unit not in {"frames", "s"}:
        return "is no length; say frames, s or ms"
    if not 0 < length < float("inf"):
        return "is no length; say how long the run is at least, above 0"
    if unit == "frames" and length != int(length):
        return "is no count; say a whole number of frames"
    return ""


# What is asked


def parts(node: Node) -> Iterator[Node]:
    """Give a node and all nodes in it, outermost first."""
    yield node
    if isinstance(node, Not | Held):
        yield from parts(node.condition)
    elif isinstance(node, And | Or):
        for condition in node.conditions:
            yield from parts(condition)


def asked(node: Node) -> tuple[str, ...]:
    """Return the labels of which a query wants the name or more of the score, in the order of the query.

    >>> asked(And((Label("happy"), Not(Label("sad")), Compare(Score("fear"), "<", Number(0.1)))))
    ('happy',)
    """
    return tuple(dict.fromkeys(_asked(node, wanted=True)))


def _asked(node: Node, *, wanted: bool) -> Iterator[str]:
    if isinstance(node, Label) and wanted:
        yield node.name
    elif isinstance(node, Compare):
        more = {">": True, ">=": True, "<": False, "<=": False, "=": True, "!=": False}[node.operator]
        if isinstance(node.left, Score) and more == wanted:
            yield node.left.label
        more = {"<": True, "<=": True}.get(node.operator, node.operator == "=")
        if isinstance(node.right, Score) and more == wanted:
            yield node.right.label
    elif isinstance(node, Not):
        yield from _asked(node.condition, wanted=not wanted)
    elif isinstance(node, Held):
        yield from _asked(node.condition, wanted=wanted)
    elif isinstance(node, And | Or):
        for condition in node.conditions:
            yield from _asked(condition, wanted=wanted)


def together(node: Node) -> Held | None:
    """Return the query that asks for a run in which all holds, where one asks it of a single condition of several.

    >>> held = Held(Label("happy"), 8, "frames")
    >>> str(together(And((held, Flag("alone")))))
    '(happy and alone) for 8 frames'
    """
    if not isinstance(node, And):
        return None
    runs = [c for c in node.conditions if isinstance(c, Held)]
    if len(runs) != 1:
        return None
    return Held(And(tuple(c.condition if c is runs[0] else c for c in node.conditions)), runs[0].length, runs[0].unit)
