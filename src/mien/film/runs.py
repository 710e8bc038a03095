"""What several rows of a track tell together: runs, and smoothed scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..results.table import needed_pyarrow
from ..track.smooth import Smoothing, run_numbers
from .index import Index
from .language import And, Column, Compare, Held, Label, Node, Not, Number, Operand, Or, Score
from .scan import Plan, Scanned
from .tables import Frames

__all__ = ["Rows", "Times", "bounds"]

_INSTANT = 1e-6
"""Seconds by which a run may fall short of a length: the difference of two time stamps is not exact."""

_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "=": np.equal, "!=": np.not_equal}
)


class Times:
    """When frames are shown, by ordinal: the frame table without its words, read when it is first needed."""

    def __init__(self, index: Index) -> None:
        self._path = index.frames_file
        self._columns: dict[str, NDArray[Any]] = {}

    def _column(self, name: str) -> NDArray[Any]:
        if name not in self._columns:
            with self._reading():
                table = needed_pyarrow("film").parquet.read_table(self._path, columns=[name])
                self._columns[name] = table.column(name).to_numpy()
        return self._columns[name]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError, ValueError, needed_pyarrow("film").ArrowException) as error:
            msg = f"{self._path}: cannot be read ({str(error).partition(chr(10))[0]}); index the film again"
            raise DataError(msg) from error

    @cached_property
    def _whole(self) -> int:
        """How many frames there are where each stands at the place that is its ordinal, as the file's statistics say.

        Every frame that was read has a row, so this is so unless somebody took rows away; then 0.
        """
        with self._reading():
            known = needed_pyarrow("film").parquet.read_metadata(self._path)
            column = known.schema.names.index("ordinal")
            told = [known.row_group(g).column(column).statistics for g in range(known.num_row_groups)]
        rows = int(known.num_rows)
        ends = [(t.min, t.max) for t in told if t is not None and t.has_min_max]
        return rows if ends and ends[0][0] == 0 and ends[-1][1] == rows - 1 else 0

    def places(self, ordinal: NDArray[np.int64]) -> NDArray[np.intp]:
        """Return the places of frames in the table.

        Raises
        ------
        DataError
            If it lacks one of them.
        """
        if not len(ordinal) or (self._whole and ordinal.max() < self._whole):
            return ordinal
        known = self._column("ordinal")
        place = np.searchsorted(known, ordinal)
        if place.max() >= len(known) or (known[place] != ordinal).any():
            msg = f"{self._path}: it lacks frames that the face table has; index the film again"
            raise DataError(msg)
        return place

    def of(self, name: str, place: NDArray[np.intp]) -> NDArray[Any]:
        """Return the ``frame``, ``time`` or ``shot`` of some places."""
        values: NDArray[Any] = self._column(name)[place]
        return values

    def ends(self, place: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return until when the frames at some places are shown, as `Frames.ends`, which looks at all."""
        time = self._column("time")
        own = time[place]
        following = np.where(place + 1 < len(time), time[np.minimum(place + 1, len(time) - 1)], np.nan)
        known = following > own
        return np.where(known, following, own if known.all() else own + self._step)

    @cached_property
    def _step(self) -> float:
        time = self._column("time")
        return float(Frames.build(len(time), time=time).step)


class Rows:
    """Decides a query for the rows of a scan, M of them in the order of track and frame."""

    def __init__(self, scanned: Scanned, plan: Plan, times: Times, smoothing: Smoothing, bridge: int) -> None:
        self.scanned, self.times = scanned, times
        self._plan, self._bridge = plan, bridge
        if plan.smooth:
            held = scanned.columns
            scores = np.stack([held[f"score{i}"] for i in range(len(plan.labels))], 1)
            self._scores: NDArray[np.float32] = smoothing.apply(scores, held["time"], scanned.track, scanned.ordinal)

    def holds(self, node: Node) -> NDArray[np.bool_]:
        """Return for which rows a condition holds, (M,)."""
        if node in self.scanned.truth:
            return self.scanned.truth[node]
        if isinstance(node, Held):
            return self._run(node, self.holds(node.condition))
        if isinstance(node, Not):
            return np.logical_not(self.holds(node.condition))
        if isinstance(node, And | Or):
            join = np.logical_and if isinstance(node, And) else np.logical_or
            joined: NDArray[np.bool_] = join.reduce([self.holds(c) for c in node.conditions])
            return joined
        if isinstance(node, Label):
            return np.equal(self.top(), self._plan.labels.index(node.name))
        if isinstance(node, Compare):
            return self._comparison(node)
        msg = f"{node}: the scan has not decided it"
        raise TypeError(msg)

    def top(self) -> NDArray[np.int64]:
        """Return the number of the label that each row names, (M,); -1 where none."""
        if not self._plan.smooth:
            return self.scanned.columns["top"].astype(np.int64)
        return np.where(self.scanned.columns["named"], np.nan_to_num(self._scores).argmax(1), -1)

    def score(self) -> NDArray[np.floating[Any]]:
        """Return the score of the one label asked, or of the label on top, (M,)."""
        if not self._plan.smooth:
            return self.scanned.columns["score"]
        wanted = self._plan.label
        return self._scores.max(1) if wanted is None else self._scores[:, self._plan.labels.index(wanted)]

    def _comparison(self, node: Compare) -> NDArray[np.bool_]:
        """Compare with smoothed scores, of single precision; a missing number makes it false."""
        left, right = self._side(node.left), self._side(node.right)
        holds: NDArray[np.bool_] = _OPERATORS[node.operator](left, right) & ~np.isnan(left) & ~np.isnan(right)
        return holds

    def _side(self, side: Operand) -> NDArray[Any]:
        if isinstance(side, Number):
            return np.array([side.value], np.float32)
        if isinstance(side, Score):
            return self._scores[:, self._plan.labels.index(side.label)]
        if side == Column("score"):
            highest: NDArray[np.float32] = self._scores.max(1)
            return highest
        if side == Column("margin"):
            ranked = np.sort(self._scores, 1)
            margin: NDArray[np.float32] = ranked[:, -1] - ranked[:, -2]
            return margin
        column: NDArray[Any] = self.scanned.columns[side.name]
        return column

    def runs(self, chosen: NDArray[np.intp]) -> NDArray[np.int64]:
        """Return the number of the run of each chosen row, ascending."""
        return run_numbers(self.scanned.track[chosen], self.scanned.ordinal[chosen], bridge=self._bridge)

    def _run(self, node: Held, inner: NDArray[np.bool_]) -> NDArray[np.bool_]:
        chosen = np.flatnonzero(inner)
        runs = self.runs(chosen)
        if node.unit == "frames":
            enough = np.bincount(runs) >= node.length
        else:
            first, last = bounds(runs)
            ordinal = self.scanned.ordinal[chosen]
            start, end = self.times.places(ordinal[first]), self.times.places(ordinal[last])
            enough = self.times.ends(end) - self.times.of("time", start) >= node.length - _INSTANT
        out = np.zeros(len(inner), np.bool_)
        out[chosen] = enough[runs]
        return out


def bounds(runs: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the places (S,) of the first and the last entry of each run, for ascending run numbers.

    >>> [places.tolist() for places in bounds(np.array([0, 0, 1]))]
    [[0, 2], [1, 2]]
    """
    changes = np.flatnonzero(np.diff(runs)) + 1
    begin = np.concatenate([[0], changes])[: len(runs)].astype(np.intp)
    end = np.concatenate([changes - 1, [len(runs) - 1]])[: len(runs)].astype(np.intp)
    return begin, end
