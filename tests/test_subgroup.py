"""Scores by group, against formulas worked out by hand and naive enumeration."""

import json
from fractions import Fraction
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import DataError, ShapeError
from mien.evaluate.subgroup import FEWEST, UNKNOWN, SubgroupTable, compare, fisher, holm, newcombe


def enumerated(a: int, n: int, b: int, m: int) -> float:
    """Fisher's p with exact fractions, over every table with these margins."""
    total = comb(n + m, a + b)
    chances = {k: Fraction(comb(n, k) * comb(m, a + b - k), total) for k in range(n + 1) if 0 <= a + b - k <= m}
    return float(sum(c for c in chances.values() if c <= chances[a]))


@given(st.integers(0, 40), st.integers(0, 40), st.data())
def test_fisher_against_enumeration(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    assert fisher(a, n, b, m) == pytest.approx(enumerated(a, n, b, m), rel=1e-6)
    assert fisher(a, n, b, m) == pytest.approx(fisher(b, m, a, n), rel=1e-9)


def test_fisher_of_the_lady_who_tasted_tea() -> None:
    assert fisher(3, 4, 1, 4) == pytest.approx(34 / 70)
    assert fisher(4, 4, 0, 4) == pytest.approx(2 / 70)
    assert fisher(0, 0, 3, 7) == 1
    assert 0 <= fisher(30_000, 50_000, 29_000, 50_000) < 1e-9


def test_newcombe_against_his_own_table() -> None:
    """The examples (a) and (b) of Newcombe 1998, table II, method 10."""
    for counts, low, high in (((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090)):
        found = newcombe(*counts)
        assert found.value == pytest.approx(counts[0] / counts[1] - counts[2] / counts[3])
        assert (found.low, found.high) == pytest.approx((low, high), abs=6e-5)
    assert np.isnan(newcombe(0, 0, 3, 5).value)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_against_its_definition(p: list[float]) -> None:
    order = sorted(range(len(p)), key=lambda i: p[i])
    expected, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, (len(p) - rank) * p[i])
        expected[i] = min(1.0, highest)
    assert holm(p) == pytest.approx(expected)


def table(groups: dict[str, tuple[int, int]], training: dict[str, int] | None = None) -> SubgroupTable:
    """A table of groups with (right, all) faces each."""
    correct = np.concatenate([np.arange(n) < hits for hits, n in groups.values()])
    values = np.concatenate([np.full(n, g, "U20") for g, (_, n) in groups.items()])
    trained = None if training is None else {"group": np.repeat(list(training), list(training.values()))}
    shuffled = np.random.default_rng(0).permutation(len(correct))
    return compare(correct[shuffled], {"group": values[shuffled]}, training=trained)[0]


def test_a_table_by_hand() -> None:
    found = table({"a": (80, 100), "b": (30, 60), "c": (20, 40), "": (1, 50)})
    assert (found.column, found.n, found.tests) == ("group", 250, 3)
    assert found.accuracy.value == 131 / 250
    a, b, c, unknown = found.rows
    assert [r.group for r in found.rows] == ["a", "b", "c", UNKNOWN]
    assert [r.n for r in found.rows] == [100, 60, 40, 50]
    # Wilson by hand: centre and half width from z = 1.96.
    z2 = 1.959963984540054**2
    centre, half = (0.8 + z2 / 200) / (1 + z2 / 100), 1.959963984540054 / (1 + z2 / 100) * sqrt(0.0016 + z2 / 40_000)
    assert (a.accuracy.low, a.accuracy.high) == pytest.approx((centre - half, centre + half))
    # The rest of a group is every other face whose value is known.
    assert a.difference == newcombe(80, 100, 50, 100)
    assert b.difference == newcombe(30, 60, 100, 140)
    p = [fisher(80, 100, 50, 100), fisher(30, 60, 100, 140), fisher(20, 40, 110, 160)]
    assert [a.p, b.p, c.p] == pytest.approx(p)
    assert [a.p_holm, b.p_holm, c.p_holm] == pytest.approx(holm(p))
    assert a.p_holm < 0.001
    assert (unknown.difference, unknown.p, unknown.training, unknown.training_share) == (None, None, None, None)


def test_two_groups_are_one_test() -> None:
    found = table({"m": (30, 60), "f": (50, 60)})
    assert found.tests == 1
    assert [r.p_holm for r in found.rows] == [found.rows[0].p] * 2
    assert found.rows[0].p == pytest.approx(found.rows[1].p) == pytest.approx(enumerated(30, 60, 50, 60))
    assert found.rows[0].difference.value == -found.rows[1].difference.value


def test_small_groups_are_too_small_to_say() -> None:
    found = table({"many": (60, 80), "enough": (10, FEWEST), "few": (0, FEWEST - 1)})
    few = found.rows[-1]
    assert few.too_small
    assert few.note == "only 29 faces: too few to say"
    assert (few.p, few.p_holm) == (None, None)
    assert few.difference is not None
    assert few.accuracy.n == 29
    assert found.tests == 2
    assert [r.too_small for r in found.rows] == [False, False, True]


def test_nothing_is_tested_against_a_small_rest() -> None:
    found = table({"many": (60, 80), "few": (1, 5)})
    assert found.tests == 0
    assert [r.p for r in found.rows] == [None, None]


def test_groups_that_training_lacks_are_named() -> None:
    groups = {"f": (60, 80), "m": (20, 40), "x": (20, 40), "": (3, 5)}
    found = table(groups, {"f": 995, "x": 5, "": 9_000})
    assert (found.absent, found.rare) == (("m",), ("x",))
    by_name = {r.group: r for r in found.rows}
    assert by_name["m"].note == "no such face in training"
    assert by_name["x"].note == "0.50% of the training faces"
    assert (by_name["f"].training, by_name["f"].training_share, by_name["f"].note) == (995, 0.995, "")
    assert by_name[UNKNOWN].training == 9_000
    unknown_there = table(groups, {"": 10})
    assert unknown_there.absent == ()
    assert unknown_there.rows[0].training_share is None
    assert table(groups).absent == ()


def test_one_group_has_no_rest() -> None:
    only = table({"f": (60, 80), "": (1, 40)}).rows[0]
    assert (only.difference, only.p) == (None, None)


def test_too_many_groups_are_cut_to_the_largest() -> None:
    found = table({f"g{i}": (i, i + 31) for i in range(50)})
    assert len(found.rows) == 40
    assert found.unlisted == 10
    assert found.rows[0].group == "g49"


def test_columns_keep_their_order_and_empty_ones_are_left_out() -> None:
    n = np.arange(80)
    columns = {"sex": np.where(n % 2, "f", "m"), "nothing": np.full(80, ""), "age": np.where(n < 40, "old", "young")}
    found = compare(n % 3 > 0, columns)
    assert [t.column for t in found] == ["sex", "age"]
    assert json.loads(json.dumps([t.as_dict() for t in found]))[0]["rows"][0]["n"] == 40
    assert compare(np.zeros(0, bool), {"sex": np.zeros(0, "U1")}) == ()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match="column 'sex'"):
        compare(np.ones(3, bool), {"sex": np.array(["f"])})
    with pytest.raises(ShapeError, match="correct"):
        compare(np.ones(3), {})
    with pytest.raises(DataError, match="no column sex; they have age"):
        compare(np.ones(1, bool), {"sex": np.array(["f"])}, training={"age": np.array(["1"])})
