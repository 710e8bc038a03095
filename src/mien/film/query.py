"""Asking an index: which faces, and in which stretches of the film, show what a query or keywords say.

>>> from mien.film.index import Index  # doctest: +SKIP
>>> find(Index.open("movie.mien"), "happy >= 0.7 for 8 frames and alone and frontal").spans.records()  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..labels import LabelSet
from ..results.faces import Faces
from ..track.smooth import Smoothing
from .index import Index
from .language import (
    And,
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
    asked,
    parts,
)
from .parser import parse
from .runs import Rows, Times, bounds
from .scan import Plan, scan
from .spans import Spans

__all__ = ["Found", "QueryError", "Spans", "find", "parse", "question"]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The faces of an index that a query found.

    Attributes
    ----------
    index
        Where they were found.
    query
        The query in its canonical spelling, keywords included.
    labels_asked
        The labels of which it wants the name or more of the score.
    rows
        (R,) int64: their numbers in the face table, ascending.
    span
        (R,) int64: which of ``spans`` each row belongs to.
    spans
        The stretches that they form.
    sql
        What DuckDB was asked.
    """

    index: Index
    query: str
    labels_asked: tuple[str, ...]
    rows: NDArray[np.int64]
    span: NDArray[np.int64]
    spans: Spans
    sql: str

    def __len__(self) -> int:
        return len(self.rows)

    def faces(self) -> Faces:
        """Return the faces, in the order of showing."""
        return self.index.faces(self.rows)

    def __repr__(self) -> str:
        return f"<Found: {self.query!r}, {len(self.rows)} faces in {len(self.spans)} spans>"


def find(
    index: Index,
    query: str | Node = "",
    *,
    label: str | Sequence[str] | None = None,
    min_score: float | None = None,
    frames: int | None = None,
    seconds: float | None = None,
    alone: bool | None = None,
    frontal: bool | None = None,
    min_size: float | None = None,
    min_sharpness: float | None = None,
    tracks: int | Iterable[int] | None = None,
    shots: int | Iterable[int] | None = None,
    start: float | None = None,
    end: float | None = None,
    bridge: int = 0,
    smooth: str | Smoothing | None = None,
) -> Found:
    """Find the faces for which a query and all keywords hold, and the stretches of consecutive frames that they form.

    Parameters
    ----------
    index
        The index of a film.
    query
        As ``docs/query.md`` describes, or its tree; an empty one is every face.
    label
        This label is named; of several, one of them.
    min_score
        The label's score at least, [0, 1]; without a label, that of the label on top.
    frames, seconds
        For so many consecutive frames, or so long, ``query``, ``label`` and ``min_score`` hold at least. The keywords
        below then leave out rows of such runs.
    alone, frontal
        It is the only face in its frame; it looks towards the camera. ``False`` asks for the others.
    min_size
        Size of the face at least, the square root of its box, pixels.
    min_sharpness
        Sharpness at least.
    tracks, shots
        In one of these; of none, nothing is found.
    start, end
        Frames from ``start`` on and before ``end``, seconds.
    bridge
        So many frames in a row, in which the face is not seen or the condition does not hold, do not end a run. They
        are not found, and do not count as frames of it.
    smooth
        Scores are smoothed along each track before they are looked at: ``"exponential:0.5"``, ``"median:5"``. That
        reads the scores of all faces, whatever is asked.

    Returns
    -------
    Found
        Rows and spans.

    Raises
    ------
    QueryError
        If the query cannot be understood; it points at the word.
    UnknownLabelError, OptionError
        If a keyword has a value that it cannot have.
    DataError
        If the index cannot be read.
    MissingExtraError
        If pyarrow or DuckDB is not installed: ``pip install 'mien[film]'``.
    """
    if bridge < 0:
        msg = f"bridge is {bridge}; give the frames that may be missing, at least 0"
        raise OptionError(msg)
    node = question(
        index.labels,
        query,
        label=label,
        min_score=min_score,
        frames=frames,
        seconds=seconds,
        alone=alone,
        frontal=frontal,
        min_size=min_size,
        min_sharpness=min_sharpness,
        tracks=tracks,
        shots=shots,
        start=start,
        end=end,
    )
    smoothing = Smoothing.parse(smooth) if isinstance(smooth, str) else smooth or Smoothing()
    names = asked(node)
    one = names[0] if len(names) == 1 else None
    plan = Plan(node, index.labels, one, smooth=smoothing.kind != "none")
    scanned, sql = scan(index, plan)
    rows = Rows(scanned, plan, Times(index), smoothing, bridge)
    return _found(index, node, names, rows, sql)


def question(
    labels: LabelSet,
    query: str | Node = "",
    *,
    label: str | Sequence[str] | None = None,
    min_score: float | None = None,
    frames: int | None = None,
    seconds: float | None = None,
    alone: bool | None = None,
    frontal: bool | None = None,
    min_size: float | None = None,
    min_sharpness: float | None = None,
    tracks: int | Iterable[int] | None = None,
    shots: int | Iterable[int] | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Node:
    """Return the one tree of a query and of keywords, which mean what they mean in `find`.

    >>> from mien.labels import EIGHT
    >>> str(question(EIGHT, label="joy", min_score=0.7, frames=8, alone=True))
    '(happy and happy >= 0.7) for 8 frames and alone'
    """
    node = parse(query, labels) if isinstance(query, str) else query
    for part in parts(node):
        _known_labels(part, labels)
    held = [] if node == Flag("face") else [node]
    named = [label] if isinstance(label, str) else None if label is None else list(label)
    names = [labels.labels[labels.index(name)] for name in named or []]
    if named is not None:
        held.append(_any(Label(name) for name in names))
    if min_score is not None:
        scores: list[Operand] = [Score(names[0]) if len(names) == 1 else Column("score")]
        held.append(Compare(scores[0], ">=", Number(min_score)))
    core = _all(held)
    if frames is not None:
        core = Held(core, frames, "frames")
    if seconds is not None:
        core = Held(core, seconds, "s")
    flags = [
        Flag(n) if wanted else Not(Flag(n))
        for n, wanted in (("alone", alone), ("frontal", frontal))
        if wanted is not None
    ]
    least = {"side": min_size, "sharpness": min_sharpness, "time": start}
    further: list[Node] = [*flags]
    further += [Compare(Column(name), ">=", Number(value)) for name, value in least.items() if value is not None]
    if end is not None:
        further.append(Compare(Column("time"), "<", Number(end)))
    for name, wanted in (("track", tracks), ("shot", shots)):
        if wanted is not None:
            numbers = [wanted] if isinstance(wanted, int | np.integer) else wanted
            further.append(_any(Compare(Column(name), "=", Number(n)) for n in numbers))
    return _all([n for n in (core, *further) if n != Flag("face")])


def _known_labels(node: Node, labels: LabelSet) -> None:
    sides = (node.left, node.right) if isinstance(node, Compare) else (node,)
    for side in sides:
        name = side.name if isinstance(side, Label) else side.label if isinstance(side, Score) else None
        if name is not None and name not in labels.labels:
            labels.index(f"{name}")
            msg = f"label {name!r} is spelled {labels.labels[labels.index(name)]!r} in this index"
            raise OptionError(msg)


def _all(nodes: Sequence[Node]) -> Node:
    return And(tuple(nodes)) if len(nodes) > 1 else nodes[0] if nodes else Flag("face")


def _any(nodes: Iterable[Node]) -> Node:
    held = tuple(nodes)
    return Or(held) if len(held) > 1 else held[0] if held else Not(Flag("face"))


# What is found


def _found(index: Index, node: Node, names: tuple[str, ...], rows: Rows, sql: str) -> Found:
    chosen = np.flatnonzero(rows.holds(node))
    runs = rows.runs(chosen)
    spans = _spans(rows, chosen, runs, index.labels, names[0] if len(names) == 1 else None)
    order = np.lexsort((spans.track, spans.start))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    numbers = rows.scanned.row[chosen]
    shown = np.argsort(numbers)
    return Found(index, str(node), names, numbers[shown], place[runs][shown], spans[order], sql)


def _spans(rows: Rows, chosen: NDArray[np.intp], runs: NDArray[np.int64], labels: LabelSet, one: str | None) -> Spans:
    first, last = bounds(runs)
    scanned, times = rows.scanned, rows.times
    start, end = (times.places(scanned.ordinal[chosen[place]]) for place in (first, last))
    score = rows.score()[chosen].astype(np.float64)
    known = ~np.isnan(score)
    total = np.bincount(runs, np.where(known, score, 0), len(first))
    count = np.bincount(runs, known, len(first))
    return Spans(
        track=scanned.track[chosen[first]],
        shot=times.of("shot", start).astype(np.int64),
        first_frame=times.of("frame", start),
        last_frame=times.of("frame", end),
        start=times.of("time", start),
        end=times.ends(end),
        frames=np.bincount(runs, minlength=len(first)).astype(np.int64),
        score=np.divide(total, count, out=np.full(len(first), np.nan), where=count > 0),
        label=_most_frequent(rows.top()[chosen], runs, len(first), labels) if one is None else np.full(len(first), one),
    )


def _most_frequent(top: NDArray[np.int64], runs: NDArray[np.int64], spans: int, labels: LabelSet) -> NDArray[np.str_]:
    counts = np.bincount(runs * (len(labels) + 1) + top + 1, minlength=spans * (len(labels) + 1))
    of_labels = counts.reshape(spans, len(labels) + 1)[:, 1:]
    names = np.array(labels.labels, np.str_)[of_labels.argmax(1)]
    return np.where(of_labels.any(1), names, "")
