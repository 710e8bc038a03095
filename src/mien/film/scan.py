"""One scan of an index's face table for a query: DuckDB reads the rows that can matter and answers what one row tells.

What only several rows can tell, runs and smoothed scores, is left to `mien.film.query`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MienError, MissingExtraError
from ..labels import LabelSet
from ..results.table import needed_pyarrow
from .index import Index
from .language import (
    FRONTAL,
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
    Score,
    asked,
    parts,
)
from .tables import face_columns

__all__ = ["Plan", "Scanned", "needs_scores", "scan"]

_MEMORY = "2GB"
_SINGLE = frozenset(
    {"side", "yaw", "turn", "sharpness", "brightness", "score", "margin", "detector_score"}
) | frozenset({"x1", "y1", "x2", "y2"})
"""Columns of single precision; a number is compared with them in single precision, so that 0.7 is what 0.7 was."""

_OPPOSITE: Mapping[str, str] = MappingProxyType({"=": "=", "!=": "<>"})


def needs_scores(node: Node) -> bool:
    """Return whether a comparison or label looks at scores, which smoothing changes."""
    if isinstance(node, Label):
        return True
    sides = (node.left, node.right) if isinstance(node, Compare) else ()
    return any(isinstance(s, Score) or s in {Column("score"), Column("margin")} for s in sides)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one scan answers for a query.

    Attributes
    ----------
    node
        The query.
    labels
        The labels of the index.
    label
        The one label whose score is wanted of each row; without it, the label on top and its score.
    smooth
        Scores are smoothed before they are looked at, so the scan brings all of them and decides nothing by them.
    """

    node: Node
    labels: LabelSet
    label: str | None
    smooth: bool

    @property
    def leaves(self) -> tuple[Node, ...]:
        """The largest parts of the query that one row alone decides, in order."""
        return tuple(dict.fromkeys(self._leaves(self.node)))

    def _leaves(self, node: Node) -> Iterator[Node]:
        if self._pure(node):
            yield node
        elif isinstance(node, Not | Held):
            yield from self._leaves(node.condition)
        elif isinstance(node, And | Or):
            for condition in node.conditions:
                yield from self._leaves(condition)

    def _pure(self, node: Node) -> bool:
        return not any(isinstance(p, Held) or (self.smooth and needs_scores(p)) for p in parts(node))

    @property
    def operands(self) -> tuple[Column, ...]:
        """The columns without scores that are compared with smoothed scores."""
        found = [p for p in parts(self.node) if isinstance(p, Compare) and self.smooth and needs_scores(p)]
        sides = [s for p in found for s in (p.left, p.right) if isinstance(s, Column)]
        return tuple(dict.fromkeys(s for s in sides if s.name not in {"score", "margin"}))

    def sql(self, name: Mapping[str, str]) -> str:
        """Return the statement; ``name`` gives the quoted name of each column in the file."""
        write = _Writer(self.labels, name, asked(self.node))
        chosen = {
            "row": "file_row_number",
            "track": f"coalesce({name['track']}, -1)",
            "ordinal": name["ordinal"],
        }
        chosen |= {f"is{i}": f"coalesce({write.condition(leaf)}, false)" for i, leaf in enumerate(self.leaves)}
        if self.smooth:
            chosen |= {"time": f"coalesce({name['time']}, 'nan'::DOUBLE)", "named": write.condition(Flag("named"))}
            chosen |= {f"score{i}": f"coalesce({write.name[x]}, 'nan'::FLOAT)" for i, x in enumerate(self.labels)}
            chosen |= {c.name: f"coalesce({write.operand(c)}::DOUBLE, 'nan'::DOUBLE)" for c in self.operands}
        elif self.label is not None:
            chosen["score"] = f"coalesce({name[self.label]}, 'nan'::FLOAT)"
        else:
            # Rows that can only be part of a run need none.
            score = f"CASE WHEN {write.condition(self._necessary(self.node))} THEN {write.operand(Column('score'))} END"
            chosen["score"] = f"coalesce({score}, 'nan'::FLOAT)"
            chosen["top"] = f"coalesce(list_position({write.list}, {name['top']}) - 1, -1)::SMALLINT"
        columns = ",\n       ".join(f"{what} AS {_quoted(alias)}" for alias, what in chosen.items())
        source = "read_parquet($file, file_row_number = true, hive_partitioning = false)"
        where = f"{write.condition(Flag('face'))} AND ({self._rows(write)})"
        return f"SELECT {columns}\nFROM {source}\nWHERE {where}"

    def _rows(self, write: _Writer) -> str:
        """Return which rows can matter: those that can be found, and those that a run of them is made of."""
        if self.smooth:
            return "true"
        root = self._necessary(self.node)
        whole = [self._necessary(p.condition) for p in parts(self.node) if isinstance(p, Held)]
        # What is found lies in the runs of a query such as "X for 8 frames and Y", so its rows need no second mention.
        held = [c for c in _joined(self.node) if isinstance(c, Held)]
        needed = dict.fromkeys(whole if held else [root, *whole])
        if Flag("face") in needed:
            return "true"
        return " OR ".join(f"({write.condition(n)})" for n in needed)

    def _necessary(self, node: Node) -> Node:
        """Return a condition that one row decides and without which ``node`` is false."""
        if self._pure(node):
            return node
        if isinstance(node, Held):
            return self._necessary(node.condition)
        every = Flag("face")
        if isinstance(node, And):
            kept = tuple(n for n in map(self._necessary, node.conditions) if n != every)
            return And(kept) if len(kept) > 1 else kept[0] if kept else every
        if isinstance(node, Or):
            kept = tuple(map(self._necessary, node.conditions))
            return every if every in kept else Or(kept)
        return every


def _joined(node: Node) -> tuple[Node, ...]:
    return node.conditions if isinstance(node, And) else (node,)


class _Writer:
    """Writes conditions as SQL. A condition on a missing number is NULL, which counts as false wherever it stands."""

    def __init__(self, labels: LabelSet, name: Mapping[str, str], likely: tuple[str, ...]) -> None:
        self.name = name
        self.list = "[" + ", ".join(map(_text, labels)) + "]"
        # The label on top says whose score is highest, which saves reading the others where it is one of the likely.
        named = " ".join(f"WHEN {name['top']} = {_text(label)} THEN {name[label]}" for label in likely)
        highest = f"list_max([{', '.join(name[label] for label in labels)}])"
        self._columns = {
            "yaw": f"abs({name['yaw']})",
            "turn": name["yaw"],
            "score": f"CASE {named} ELSE {highest} END" if named else highest,
        }
        self._flags = {
            "face": f"{name['face']} >= 0",
            "alone": f"{name['faces']} = 1",
            "frontal": f"abs({name['yaw']}) <= {_single(FRONTAL)}",
            "read": f"{name['margin']} IS NOT NULL",
            "named": f"{name['top']} IS NOT NULL",
            "detected": f"NOT {name['carried']}",
            "carried": name["carried"],
        }

    def condition(self, node: Node) -> str:
        if isinstance(node, Flag):
            return self._flags[node.name]
        if isinstance(node, Label):
            return f"{self.name['top']} = {_text(node.name)}"
        if isinstance(node, Because):
            return f"contains('|' || {self.name['reason']} || '|', {_text(f'|{node.reason}|')})"
        if isinstance(node, Compare):
            return self._comparison(node)
        if isinstance(node, Not):
            return f"NOT coalesce({self.condition(node.condition)}, false)"
        if isinstance(node, And | Or):
            word = " AND " if isinstance(node, And) else " OR "
            return word.join(f"({self.condition(c)})" for c in node.conditions)
        msg = f"{node}: a run is not decided by one row"
        raise TypeError(msg)

    def operand(self, column: Column | Score) -> str:
        name = column.label if isinstance(column, Score) else column.name
        if isinstance(column, Column) and name in self._columns:
            return self._columns[name]
        return self.name[name]

    def _comparison(self, node: Compare) -> str:
        kinds = {_kind(s) for s in (node.left, node.right) if not isinstance(s, Number)}
        kind = kinds.pop() if len(kinds) == 1 else "double"
        left, right = (self._side(side, kind) for side in (node.left, node.right))
        return f"{left} {_OPPOSITE.get(node.operator, node.operator)} {right}"

    def _side(self, side: Operand, kind: str) -> str:
        if isinstance(side, Number):
            return _number(side.value, kind)
        written = self.operand(side)
        return written if kind == _kind(side) else f"{written}::DOUBLE"


def _kind(side: Column | Score) -> str:
    if isinstance(side, Score) or side.name in _SINGLE:
        return "single"
    return "double" if side.name == "time" else "whole"


def _number(value: float, kind: str) -> str:
    if kind == "single":
        return _single(value)
    if kind == "whole" and abs(value) < 2**53 and float(value).is_integer():
        return str(int(value))
    return f"'{float(value)!r}'::DOUBLE"


def _single(value: float) -> str:
    with np.errstate(over="ignore"):
        return f"'{np.float32(value)!s}'::FLOAT"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# The scan


@dataclass(frozen=True, slots=True, eq=False)
class Scanned:
    """The rows that can matter, M of them in the order of track and frame.

    Attributes
    ----------
    row, track, ordinal
        (M,) int64: number in the face table, track (-1: none), number of the frame among those that were read.
    truth
        (M,) bool for each of the plan's leaves.
    columns
        The plan's further columns by name, (M,).
    """

    row: NDArray[np.int64]
    track: NDArray[np.int64]
    ordinal: NDArray[np.int64]
    truth: Mapping[Node, NDArray[np.bool_]]
    columns: Mapping[str, NDArray[Any]]


def scan(index: Index, plan: Plan) -> tuple[Scanned, str]:
    """Scan the face table; return what was found and the statement that did it.

    Raises
    ------
    MissingExtraError
        If DuckDB is not installed.
    DataError
        If the table cannot be read.
    """
    duckdb = _needed_duckdb()
    with _connected(duckdb, index) as (connection, place):
        sql = plan.sql(_names(index, connection, place))
        found: dict[str, NDArray[Any]] = connection.execute(sql, {"file": place}).fetchnumpy()
    order = _by_track(found["row"], found["track"])
    found = {name: np.asarray(values)[order] for name, values in found.items()}
    truth = {leaf: found.pop(f"is{i}") for i, leaf in enumerate(plan.leaves)}
    return Scanned(found.pop("row"), found.pop("track"), found.pop("ordinal"), truth, found), sql


def _needed_duckdb() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("duckdb", "film") from error
    return duckdb


@contextmanager
def _connected(duckdb: Any, index: Index) -> Iterator[tuple[Any, str]]:
    """Give a database in memory that reaches for nothing but the file, and how the file is called in it."""
    try:
        with tempfile.TemporaryDirectory(prefix="mien-query-") as spill:
            settings = {
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "memory_limit": _MEMORY,
                "temp_directory": spill,
                "python_enable_replacements": "false",
            }
            with duckdb.connect(":memory:", config=settings) as connection:
                connection.execute("SET enable_progress_bar = false")
                # A path may hold what would be a pattern.
                yield connection, re.sub(r"([*?\[])", r"[\1]", str(index.faces_file.resolve()))
    except MienError:
        raise
    except (duckdb.Error, UnicodeError) as error:
        msg = f"{index.faces_file}: cannot be read ({str(error).partition(chr(10))[0]}); index the film again"
        raise DataError(msg) from error


def _names(index: Index, connection: Any, place: str) -> dict[str, str]:
    """Return the quoted name of each column: DuckDB renames those that differ from another by case alone."""
    declared = list(face_columns(index.labels))
    if len({name.lower() for name in declared}) == len(declared):
        return {name: _quoted(name) for name in declared}
    described = connection.execute(
        "DESCRIBE SELECT * FROM read_parquet($file, hive_partitioning = false)", {"file": place}
    )
    theirs = [row[0] for row in described.fetchall()]
    ours = needed_pyarrow("film").parquet.read_schema(index.faces_file).names
    return {name: _quoted(their) for name, their in zip(ours, theirs, strict=True)}


def _by_track(row: NDArray[np.int64], track: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the places of the rows in the order of track, then row: a radix sort, as rows come in their order."""
    order = np.arange(len(row)) if (np.diff(row) > 0).all() else np.argsort(row)
    if not len(row):
        return order
    key = track - track.min()
    for shift in range(0, int(key.max()).bit_length(), 16):
        digit = (key[order] >> shift & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digit, kind="stable")]
    return order
