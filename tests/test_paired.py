"""Whether two models differ: against enumeration and scipy."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mien.errors import ShapeError
from mien.evaluate.paired import mcnemar, newcombe, paired


@pytest.mark.parametrize("split", [(0, 0), (0, 1), (3, 3), (1, 5), (7, 2), (0, 9)])
def test_mcnemar_counts_the_ways_in_which_so_lopsided_a_split_comes(split: tuple[int, int]) -> None:
    n = sum(split)
    ways = [sum(w) for w in itertools.product((0, 1), repeat=n)]
    lopsided = [k for k in ways if abs(2 * k - n) >= abs(split[0] - split[1])]
    assert mcnemar(*split) == pytest.approx(len(lopsided) / len(ways))


@pytest.mark.parametrize("split", [(380, 216), (1, 40), (1500, 1400)])
def test_mcnemar_is_scipys_binomial_test(split: tuple[int, int]) -> None:
    assert mcnemar(*split) == pytest.approx(stats.binomtest(split[0], sum(split)).pvalue, rel=1e-9)


def table_of(both: int, one: int, other: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.repeat([True, True, False, False], [both, one, other, neither])
    second = np.repeat([True, False, True, False], [both, one, other, neither])
    return first, second


@pytest.mark.parametrize(
    "cells_", [(20, 12, 2, 16), (1, 30, 25, 2), (14, 3, 0, 5), (9, 0, 0, 0), (0, 0, 0, 4), (5, 5, 5, 5)]
)
def test_newcombe_against_the_same_method_from_scipy_and_plain_vectors(cells_: tuple[int, int, int, int]) -> None:
    first, second = table_of(*cells_)
    n = len(first)
    intervals = [stats.binomtest(int(v.sum()), n).proportion_ci(0.95, "wilson") for v in (first, second)]
    (l1, u1), (l2, u2) = intervals
    p1, p2 = first.mean(), second.mean()
    varied = first.std() > 0 and second.std() > 0
    covariance = np.mean(first * second) - p1 * p2
    # The continuity correction takes half a case off a positive association, down to none.
    covariance = max(covariance - 0.5 / n, 0) if covariance > 0 else covariance
    phi = covariance / (first.std() * second.std()) if varied else 0.0
    down = math.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    up = math.sqrt((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    assert newcombe(*cells_) == pytest.approx((p1 - p2 - down, p1 - p2 + up), abs=1e-9)


@pytest.mark.parametrize("chances", [(0.6, 0.15, 0.05, 0.2), (0.4, 0.2, 0.2, 0.2), (0.7, 0.1, 0.02, 0.18)])
def test_newcombes_interval_holds_the_difference_95_times_in_100(chances: tuple[float, ...]) -> None:
    n, held = 14, 0.0
    for both, one, other in itertools.product(range(n + 1), repeat=3):
        if (neither := n - both - one - other) < 0:
            continue
        counts = (both, one, other, neither)
        ways = math.factorial(n) // math.prod(map(math.factorial, counts))
        low, high = newcombe(*counts)
        held += (
            ways
            * math.prod(p**k for p, k in zip(chances, counts, strict=True))
            * (low <= chances[1] - chances[2] <= high)
        )
    assert 0.93 < held < 0.999


def test_a_pair_of_models() -> None:
    found = paired(*table_of(20, 12, 2, 16))
    assert (found.only_first, found.only_second, found.difference) == (12, 2, pytest.approx(0.2))
    assert found.p == mcnemar(12, 2)
    assert (found.low, found.high) == newcombe(20, 12, 2, 16)
    swapped = paired(*reversed(table_of(20, 12, 2, 16)))
    assert (swapped.low, swapped.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    empty = paired(np.zeros(0, bool), np.zeros(0, bool))
    assert empty.p == 1
    assert math.isnan(empty.low)
    with pytest.raises(ShapeError, match="equal length"):
        paired(np.zeros(3, bool), np.zeros(4, bool))
