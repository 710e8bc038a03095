"""From the text of a query to its tree, or to an error that points at a word."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Literal, NoReturn

from ..labels import LabelSet
from ..results.columns import Reason
from .language import (
    ALIASES,
    COLUMNS,
    FLAGS,
    KEYWORDS,
    OPERATORS,
    REASONS,
    RESERVED,
    UNITS,
    WORD,
    And,
    Because,
    Column,
    Compare,
    Flag,
    Held,
    Label,
    Node,
    Not,
    Number,
    Operand,
    Or,
    QueryError,
    Score,
    misfit,
    no_length,
)

__all__ = ["parse"]

_DEEPEST = 60
"""Conditions within conditions; more is no question that anybody asks, and Python's own stack ends somewhere."""

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<clock>[0-9]+:[0-9]+(?::[0-9]+)?(?:\.[0-9]+)?)"
    r"|(?P<number>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)"
    r"""|(?P<quoted>"(?:[^"]|"")*"|'(?:[^']|'')*')"""
    rf"|(?P<word>{WORD})"
    r"|(?P<operator><=|>=|==|!=|<>|[<>=≤≥≠])"
    r"|(?P<bracket>[()])"
)

_UNITS: Mapping[str, tuple[str, float]] = MappingProxyType(
    dict.fromkeys(("frames", "frame"), ("frames", 1.0))
    | dict.fromkeys(("s", "sec", "second", "seconds"), ("s", 1.0))
    | dict.fromkeys(("ms", "millisecond", "milliseconds"), ("s", 1e-3))
    | dict.fromkeys(("min", "minute", "minutes"), ("s", 60.0))
    | {"px": ("px", 1.0)}
)

_ADVICE: Mapping[str, str] = MappingProxyType(
    {"&": "write 'and'", "|": "write 'or'", "!": "write 'not'", "%": "scores lie in [0, 1], write 0.7 for 70 %"}
    | dict.fromkeys("\"'“”‘’", "quotes are \"…\" or '…', and both are needed")
    | {"−": "write the minus as -"}
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        return self.text.lower() if self.kind == "word" else ""

    @property
    def name(self) -> str:
        return f"{self.text!r} at {self.at + 1}"


def parse(text: str, labels: LabelSet) -> Node:
    """Read a query.

    Parameters
    ----------
    text
        The query; an empty one means every face.
    labels
        The labels of the index.

    Raises
    ------
    QueryError
        If it cannot be understood; the message says what is wrong at which character, from 1.

    Examples
    --------
    >>> from mien.labels import EIGHT
    >>> str(parse("(Joy >= .7 for 8 frames) AND size>100px", EIGHT))
    'happy >= 0.7 for 8 frames and side > 100'
    >>> parse("hapy for 8 frames", EIGHT)
    Traceback (most recent call last):
    ...
    mien.film.language.QueryError: unknown word 'hapy' at 1; did you mean 'happy'?
    """
    return _Parser(text, labels).query()


class _Parser:
    def __init__(self, text: str, labels: LabelSet) -> None:
        self._text = text
        self._labels = labels
        self._tokens = list(self._read())
        self._next = 0
        self._depth = 0

    def query(self) -> Node:
        if self._token.kind == "end":
            return Flag("face")
        node = self._or()
        token = self._token
        if token.text == ")":
            self._fail(token, f"{token.name} closes nothing; leave it out")
        if token.kind == "operator":
            self._fail(token, f"{token.name} has no number before it; write two comparisons with 'and'")
        if token.kind != "end":
            self._fail(token, f"{token.name} follows without 'and' or 'or'; write one of them before it")
        return node

    # Tokens

    def _read(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._text):
            found = _TOKEN.match(self._text, at)
            if not found or not found.lastgroup:
                sign = self._text[at]
                advice = f"; {_ADVICE[sign]}" if sign in _ADVICE else ""
                self._fail(_Token("", sign, at), f"unexpected {sign!r} at {at + 1}{advice}")
            if found.lastgroup != "space":
                yield _Token(found.lastgroup, found[0], at)
            at = found.end()
        yield _Token("end", "", len(self._text))

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _fail(self, token: _Token, message: str) -> NoReturn:
        raise QueryError(message, self._text, token.at)

    def _deeper(self, token: _Token) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._fail(token, f"{token.name} is the {_DEEPEST + 1}th condition within another; ask more simply")

    # Conditions, loosest first

    def _or(self) -> Node:
        return self._joined("or", self._and, Or)

    def _and(self) -> Node:
        return self._joined("and", self._not, And)

    def _joined(self, word: str, inner: Callable[[], Node], kind: type[And | Or]) -> Node:
        nodes = [inner()]
        while self._token.word == word:
            self._take()
            nodes.append(inner())
        return nodes[0] if len(nodes) == 1 else kind(tuple(nodes))

    def _not(self) -> Node:
        if self._token.word != "not":
            return self._held()
        self._deeper(self._take())
        node = Not(self._not())
        self._depth -= 1
        return node

    def _held(self) -> Node:
        node, depth = self._condition(), self._depth
        while self._token.word == "for":
            self._deeper(self._take())
            node = Held(node, *self._length())
        self._depth = depth
        return node

    def _length(self) -> tuple[float, Literal["frames", "s"]]:
        token = self._token
        if token.kind not in {"number", "clock"}:
            self._missing("how long is missing", "write for 8 frames or for 0.5 s")
        number, unit = self._number()
        if not unit:
            self._fail(token, f"{token.name} has no unit; say frames, s or ms")
        if why := no_length(number.value, unit):
            self._fail(token, f"{token.name} {why}")
        return number.value, "frames" if unit == "frames" else "s"

    def _condition(self) -> Node:
        token = self._token
        if token.text == "(":
            return self._bracketed()
        if token.kind in {"number", "clock", "quoted", "word"} and token.word not in KEYWORDS:
            return self._named()
        return self._missing("a condition is missing")

    def _bracketed(self) -> Node:
        opening = self._take()
        self._deeper(opening)
        node = self._or()
        closing = self._token
        if closing.kind == "end":
            self._fail(opening, f"{opening.name} is not closed; write the ')'")
        if closing.text != ")":
            self._fail(closing, f"{closing.name} follows without 'and' or 'or'; write one of them before it")
        self._take()
        self._depth -= 1
        return node

    def _missing(self, what: str, advice: str = "") -> NoReturn:
        token, before = self._token, self._tokens[self._next - 1] if self._next else None
        place = f"before {token.name}" if token.kind != "end" else f"after {before.name}" if before else ""
        self._fail(token, f"{what} {place}" + (f"; {advice}" if advice else ""))

    # Words and numbers

    def _named(self) -> Node:
        start = self._token
        left, unit = self._value()
        if self._token.kind == "operator":
            return self._comparison(start, left, unit)
        if isinstance(left, Score):
            return Label(left.label)
        if isinstance(left, Flag | Because):
            return left
        example = f"{left} >= 1" if isinstance(left, Column) else f"{self._labels.labels[0]} >= 0.7"
        return self._fail(start, f"{start.name} is a number, no condition; compare it, as in {example}")

    def _comparison(self, start: _Token, left: Operand | Flag | Because, left_unit: str) -> Node:
        operator = self._take()
        second = self._token
        if second.kind not in {"number", "clock", "quoted", "word"} or second.word in KEYWORDS:
            self._missing("a number, label or column is missing")
        right, right_unit = self._value()
        left, right = self._number_of(start, left), self._number_of(second, right)
        self._unit_fits(start, left_unit, right)
        self._unit_fits(second, right_unit, left)
        if fault := misfit(left, right):
            token = start if fault[0] is left else second
            self._fail(token, f"{token.name} {fault[1]}")
        return Compare(left, OPERATORS[operator.text], right)

    def _number_of(self, token: _Token, value: Operand | Flag | Because) -> Operand:
        if isinstance(value, Flag | Because):
            self._fail(token, f"{token.name} is true or false and is not compared; write it alone, or with 'not'")
        return value

    def _unit_fits(self, token: _Token, unit: str, other: Operand) -> None:
        if not unit or isinstance(other, Number):
            return
        wanted = UNITS.get(other.name, "") if isinstance(other, Column) else ""
        if unit != wanted:
            advice = f"it is in {wanted}" if wanted else "leave the unit out"
            self._fail(token, f"{token.name} is in {unit}, which {other} is not; {advice}")

    def _value(self) -> tuple[Operand | Flag | Because, str]:
        if self._token.kind in {"number", "clock"}:
            return self._number()
        token = self._take()
        if token.kind == "quoted":
            name = token.text[1:-1].replace(token.text[0] * 2, token.text[0])
            if name not in self._labels:
                self._fail(token, f"no label {token.name}; the labels are: {', '.join(self._labels)}")
            return Score(self._labels.labels[self._labels.index(name)]), ""
        return self._word(token), ""

    def _word(self, token: _Token) -> Operand | Flag | Because:
        word = ALIASES.get(token.word, token.word)
        if word in COLUMNS:
            return Column(word)
        if word in FLAGS:
            return Flag(word)
        if word in REASONS:
            return Because(word)
        if word in {r.words for r in Reason}:
            self._fail(token, f"{token.name} is said of frames without a face; a query finds faces")
        if token.text in self._labels:
            return Score(self._labels.labels[self._labels.index(token.text)])
        names = {name.lower(): name for name in (*sorted(RESERVED), *self._labels)}
        near = get_close_matches(token.word, names, 1, 0.7)
        hint = f"did you mean {names[near[0]]!r}?" if near else f"the labels are: {', '.join(self._labels)}"
        return self._fail(token, f"unknown word {token.name}; {hint}")

    def _number(self) -> tuple[Number, str]:
        token = self._take()
        if token.kind == "clock":
            return Number(self._clock(token)), "s"
        value = float(token.text)
        if self._token.kind != "word" or self._token.word in KEYWORDS:
            return Number(value), ""
        unit = self._take()
        if unit.word not in _UNITS:
            self._fail(unit, f"{unit.name} is no unit; say frames, s, ms, min or px")
        name, factor = _UNITS[unit.word]
        return Number(value * factor if factor >= 1 else value / round(1 / factor)), name

    def _clock(self, token: _Token) -> float:
        *above, seconds = token.text.split(":")
        if float(seconds) >= 60 or (len(above) == 2 and int(above[1]) >= 60):
            self._fail(token, f"{token.name} is no time; write h:mm:ss or mm:ss, with minutes and seconds below 60")
        whole = 0
        for part in above:
            whole = whole * 60 + int(part)
        return whole * 60 + float(seconds)
