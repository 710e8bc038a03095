"""The same score by any column of the data, to see for whom a model is worse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ShapeError
from . import metrics
from .metrics import Estimate

__all__ = ["FEWEST", "RARE", "UNKNOWN", "SubgroupRow", "SubgroupTable", "compare", "fisher", "holm", "newcombe"]

FEWEST = 30
"""Groups of fewer faces are too small to say anything about."""

RARE = 0.01
"""A group with a smaller share of the training faces counts as rare there."""

UNKNOWN = "not known"

_LISTED = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupRow:
    """One group.

    Attributes
    ----------
    group
        The column's value; ``not known`` for the faces that have none.
    n
        Faces in the group.
    accuracy
        Share named right, Wilson interval.
    difference
        Accuracy of the group less that of the rest, all other faces whose value is known; Newcombe interval. None for
        the row ``not known``, and where there is no rest.
    p, p_holm
        Fisher's exact test of that difference, two-sided, and after Holm's correction over the column. None where
        nothing was tested: group or rest has fewer than `FEWEST` faces.
    too_small
        Fewer than `FEWEST` faces.
    training
        Faces of the group among the training faces; None where those were not given.
    training_share
        Their share of the training faces whose value is known; None where those were not given or none is known.
    note
        What must be said about the group; empty if nothing.
    """

    group: str
    n: int
    accuracy: Estimate
    difference: Estimate | None
    p: float | None
    p_holm: float | None
    too_small: bool
    training: int | None
    training_share: float | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubgroupTable:
    """One column of the data.

    Attributes
    ----------
    column
        Its name.
    n
        Faces counted.
    accuracy
        Of all of them, Wilson interval.
    rows
        One entry a group, the largest first; the faces whose value is not known come last.
    tests
        How many differences Holm's correction is over.
    absent, rare
        Groups that are measured here and were not among the training faces, or were fewer than `RARE` of them; empty
        where the training faces were not given.
    unlisted
        Groups, the smallest ones, that have no row since there are too many.
    """

    column: str
    n: int
    accuracy: Estimate
    rows: tuple[SubgroupRow, ...]
    tests: int
    absent: tuple[str, ...]
    rare: tuple[str, ...]
    unlisted: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)


def compare(
    correct: NDArray[np.bool_],
    columns: Mapping[str, NDArray[np.str_]],
    *,
    training: Mapping[str, NDArray[np.str_]] | None = None,
) -> tuple[SubgroupTable, ...]:
    """Split a score by each column, test each group against the rest, and name groups that training lacked.

    Parameters
    ----------
    correct
        (N,) whether each face was named right.
    columns
        For each column its (N,) values; ``""`` where a value is not known. A column without any known value is left
        out.
    training
        The same columns of the M faces that the model was trained on, (M,) each; None: not known.

    Returns
    -------
    tuple of SubgroupTable
        In the order of the columns.

    Raises
    ------
    ShapeError
        If a column has another length than ``correct``, or that is no array (N,) of bool.
    DataError
        If training lacks one of the columns.
    """
    if correct.ndim != 1 or correct.dtype != np.bool_:
        raise ShapeError("correct", "(N,) bool", f"{correct.shape} {correct.dtype}")
    for name, values in columns.items():
        if values.shape != correct.shape:
            what = f"column {name!r}"
            raise ShapeError(what, str(correct.shape), values.shape)
    known = {name: values for name, values in columns.items() if (values != "").any()}
    if training is not None and (missing := sorted(known.keys() - training.keys())):
        msg = f"the training faces have no column {', '.join(missing)}; they have {', '.join(training) or 'none'}"
        raise DataError(msg)
    return tuple(_table(n, correct, v, None if training is None else training[n]) for n, v in known.items())


def newcombe(hits: int, n: int, rest_hits: int, rest_n: int) -> Estimate:
    """Return the difference of two shares with its 95 % interval from their Wilson intervals.

    Method 10 of Newcombe 1998 (Statistics in Medicine 17:873-890). NaN where either n is 0; ``n`` of the estimate is
    that of the first share.
    """
    if not n or not rest_n:
        return Estimate(math.nan, math.nan, math.nan, n)
    first, second = hits / n, rest_hits / rest_n
    (low, high), (rest_low, rest_high) = metrics.wilson(hits, n), metrics.wilson(rest_hits, rest_n)
    difference = first - second
    return Estimate(
        difference,
        difference - math.hypot(first - low, rest_high - second),
        difference + math.hypot(high - first, second - rest_low),
        n,
    )


def fisher(hits: int, n: int, rest_hits: int, rest_n: int) -> float:
    """Return the two-sided p of Fisher's exact test that two shares are one.

    The sum of the chances, with both margins fixed, of all tables that are no likelier than the one seen (Fisher
    1935; the two-sided rule of Freeman and Halton 1951). 1 where either n is 0.
    """
    total = hits + rest_hits
    seen = np.arange(max(0, total - rest_n), min(n, total) + 1)
    logs = _log_choose(n, seen) + _log_choose(rest_n, total - seen) - _log_choose(n + rest_n, np.array(total))
    # Tables that are equally likely differ by rounding.
    as_rare = logs <= logs[hits - seen[0]] + 1e-7
    return float(min(1.0, np.exp(logs[as_rare]).sum()))


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Return p values corrected for their number by the step-down rule of Holm 1979, in the order given.

    Examples
    --------
    >>> holm([0.01, 0.5, 0.03])
    (0.03, 0.5, 0.06)
    """
    order = np.argsort(p, kind="stable")
    stepped = np.asarray(p, np.float64)[order] * np.arange(len(p), 0, -1)
    out = np.empty(len(p))
    out[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return tuple(float(v) for v in out)


def _log_choose(n: int, k: NDArray[np.int64]) -> NDArray[np.float64]:
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1, dtype=np.float64)))])
    found: NDArray[np.float64] = logs[n] - logs[k] - logs[n - k]
    return found


def _table(
    column: str, correct: NDArray[np.bool_], values: NDArray[np.str_], training: NDArray[np.str_] | None
) -> SubgroupTable:
    names, counts = np.unique(values[values != ""], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    groups = [str(g) for g in names[order]]
    rows = [_row(g, correct, values, training) for g in groups[:_LISTED]]
    rows, tests = _corrected(rows, only_two=len(groups) == 2)
    if (values == "").any():
        rows.append(_row("", correct, values, training))
    lacking = [] if training is None or not (training != "").any() else [(g, _share(g, training)) for g in groups]
    return SubgroupTable(
        column=column,
        n=len(correct),
        accuracy=metrics.share(int(correct.sum()), len(correct)),
        rows=tuple(rows),
        tests=tests,
        absent=tuple(g for g, share in lacking if share == 0),
        rare=tuple(g for g, share in lacking if 0 < share < RARE),
        unlisted=max(0, len(groups) - _LISTED),
    )


def _share(group: str, training: NDArray[np.str_]) -> float:
    known = int((training != "").sum())
    return float((training == group).sum() / known) if known else math.nan


def _row(
    group: str, correct: NDArray[np.bool_], values: NDArray[np.str_], training: NDArray[np.str_] | None
) -> SubgroupRow:
    inside = values == group
    outside = ~inside & (values != "")
    n, hits = int(inside.sum()), int(correct[inside].sum())
    rest_n, rest_hits = int(outside.sum()), int(correct[outside].sum())
    compared = bool(group) and rest_n > 0
    tested = compared and min(n, rest_n) >= FEWEST
    share = None if training is None or not group else _share(group, training)
    share = None if share is None or math.isnan(share) else share
    return SubgroupRow(
        group=group or UNKNOWN,
        n=n,
        accuracy=metrics.share(hits, n),
        difference=newcombe(hits, n, rest_hits, rest_n) if compared else None,
        p=fisher(hits, n, rest_hits, rest_n) if tested else None,
        p_holm=None,
        too_small=n < FEWEST,
        training=None if training is None else int((training == group).sum()),
        training_share=share,
        note=_note(n, share),
    )


def _note(n: int, share: float | None) -> str:
    notes = [f"only {n} faces: too few to say"] if n < FEWEST else []
    if share == 0:
        notes.append("no such face in training")
    elif share is not None and share < RARE:
        notes.append(f"{share:.2%} of the training faces")
    return "; ".join(notes)


def _corrected(rows: list[SubgroupRow], *, only_two: bool) -> tuple[list[SubgroupRow], int]:
    """Fill in Holm's p. Two groups are each the other's rest: that is one test, not two."""
    p = [r.p for r in rows if r.p is not None]
    if only_two:
        return [replace(r, p_holm=r.p) for r in rows], min(1, len(p))
    corrected = iter(holm(p))
    return [replace(r, p_holm=None if r.p is None else next(corrected)) for r in rows], len(p)
