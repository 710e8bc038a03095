"""The assignment against scipy and against trying every pairing."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.optimize import linear_sum_assignment

from mien.errors import OptionError, ShapeError
from mien.track.assign import assign

SMALL = arrays(
    np.float64,
    array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=5),
    elements=st.one_of(st.integers(-5, 5).map(float), st.floats(-10, 10), st.just(np.inf), st.just(np.nan)),
)


def every_way(cost: np.ndarray) -> list[list[tuple[int, int]]]:
    """All pairings, also those with fewer pairs, without forbidden ones."""
    flip = cost.shape[0] > cost.shape[1]
    table = cost.T if flip else cost
    n, m = table.shape
    ways = []
    for columns in permutations([*range(m), *[-1] * n], n):
        pairs = [(i, j) for i, j in enumerate(columns) if j >= 0]
        if all(np.isfinite(table[p]) for p in pairs):
            ways.append([(j, i) if flip else (i, j) for i, j in pairs])
    return ways


@given(SMALL.filter(lambda a: min(a.shape, default=0) <= 4), st.one_of(st.none(), st.floats(-10, 10)))
def test_no_way_is_better(cost: np.ndarray, gate: float | None) -> None:
    rows, columns = assign(cost, gate=gate)
    assert (np.diff(rows) > 0).all()
    assert len(set(columns.tolist())) == len(columns) == len(rows)
    total = cost[rows, columns]
    assert np.isfinite(total).all()
    sums = [(len(w), sum(cost[p] for p in w)) for w in every_way(cost)]
    if gate is None:
        most = max(n for n, _ in sums)
        assert len(rows) == most
        assert total.sum() == pytest.approx(min(s for n, s in sums if n == most), abs=1e-9)
    else:
        assert (total < gate).all()
        assert (total - gate).sum() == pytest.approx(min(s - n * gate for n, s in sums), abs=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (30, 30), (20, 60), (60, 20), (100, 100)])
@pytest.mark.parametrize("steps", [0, 4], ids=["real", "many ties"])
def test_the_total_is_scipys(shape: tuple[int, int], steps: int) -> None:
    rng = np.random.default_rng(hash(shape) % 1000)
    for _ in range(5):
        cost = rng.normal(size=shape) if not steps else rng.integers(0, steps, shape).astype(float)
        expected = cost[linear_sum_assignment(cost)].sum()
        rows, columns = assign(cost)
        assert len(rows) == min(shape)
        assert cost[rows, columns].sum() == pytest.approx(expected, abs=1e-9)


def test_a_gate_leaves_out_what_is_not_worth_it() -> None:
    # With a gate of 5 (costs -5 against -2) the one cheap pair beats the two that would both be possible.
    cost = np.array([[0.0, 4.0], [4.0, np.inf]])
    assert [a.tolist() for a in assign(cost)] == [[0, 1], [1, 0]]
    assert [a.tolist() for a in assign(cost, gate=5.0)] == [[0], [0]]
    assert [a.tolist() for a in assign(cost, gate=3.0)] == [[0], [0]]


def test_equal_input_gives_equal_output() -> None:
    cost = np.zeros((6, 4))
    first = assign(cost)
    for _ in range(3):
        assert all(np.array_equal(a, b) for a, b in zip(first, assign(cost.copy()), strict=True))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_pairs_with_nothing(shape: tuple[int, int]) -> None:
    assert [len(a) for a in assign(np.empty(shape))] == [0, 0]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ShapeError, match="cost"):
        assign(np.zeros(3))
    with pytest.raises(OptionError, match="gate is inf"):
        assign(np.zeros((2, 2)), gate=float("inf"))
