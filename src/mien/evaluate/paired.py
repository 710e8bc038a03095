"""Two classifiers on the same cases: whether they differ, and by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from .metrics import wilson

__all__ = ["Paired", "mcnemar", "newcombe", "paired"]


@dataclass(frozen=True, slots=True)
class Paired:
    """Two classifiers on the same n cases.

    Attributes
    ----------
    only_first, only_second
        Cases that only one of them has right.
    p
        McNemar's exact two-sided p; 1 where the two never differ.
    difference, low, high
        Accuracy of the first less that of the second, with Newcombe's 95 % interval; NaN where n is 0.
    """

    only_first: int
    only_second: int
    p: float
    difference: float
    low: float
    high: float


def paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
    """Compare two classifiers by which of the same cases each has right, (N,) bool each.

    Raises
    ------
    ShapeError
        If the arrays are not of equal length.
    """
    if first.ndim != 1 or first.shape != second.shape:
        raise ShapeError("cases", "two arrays (N,) of equal length", (first.shape, second.shape))
    both, neither = _count(first & second), _count(~first & ~second)
    one, other = _count(first & ~second), _count(~first & second)
    low, high = newcombe(both, one, other, neither)
    n = len(first)
    return Paired(one, other, mcnemar(one, other), (one - other) / n if n else math.nan, low, high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return McNemar's exact two-sided p: how likely so lopsided a split is if either is as good.

    Of the cases that only one has right, the number of the first's is binomial with one half (McNemar 1947,
    Psychometrika 12:153; the exact form as in Fagerland et al. 2013, BMC Med Res Methodol 13:91).

    >>> mcnemar(1, 5)
    0.21875
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    ways: int = sum(math.comb(n, k) for k in range(fewer + 1))
    share: float = 2 * ways / 2**n
    return min(1.0, share)


def newcombe(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two accuracies on the same cases; NaN without cases.

    Method 10 of Newcombe 1998 (Stat Med 17:2635): Wilson's intervals of both, joined by a continuity-corrected
    correlation.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return math.nan, math.nan
    first, second = (both + only_first) / n, (both + only_second) / n
    (low1, high1), (low2, high2) = wilson(both + only_first, n), wilson(both + only_second, n)
    bond = _correlation(both, only_first, only_second, neither)
    down = _span(first - low1, high2 - second, bond)
    up = _span(high1 - first, second - low2, bond)
    return first - second - down, first - second + up


def _span(a: float, b: float, bond: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * bond * a * b + b * b))


def _correlation(both: int, only_first: int, only_second: int, neither: int) -> float:
    n = both + only_first + only_second + neither
    below = math.prod(((both + only_first), (only_second + neither), (both + only_second), (only_first + neither)))
    if below == 0:
        return 0.0
    product = both * neither - only_first * only_second
    return (max(product - n / 2, 0.0) if product > 0 else product) / math.sqrt(below)


def _count(cases: NDArray[Any]) -> int:
    return int(cases.sum())
