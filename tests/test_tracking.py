"""Tracking scores: counted by hand, and against loops with scipy's assignment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from mien.errors import OptionError, ShapeError
from mien.evaluate.tracking import ALPHAS, Rows, track_scores


def rows(*table: tuple[float, ...]) -> Rows:
    """Rows (frame, id, x): boxes 10 px wide and high whose left edge is at x."""
    t = np.array(table, np.float64).reshape(-1, 3)
    box = np.stack([t[:, 2], np.zeros(len(t)), t[:, 2] + 10, np.full(len(t), 10.0)], 1)
    return Rows(t[:, 0].astype(int), t[:, 1].astype(int), box)


TRUTH = rows(*[(f, i, 100 * i) for f in range(4) for i in range(2)])


def test_the_truth_itself_is_perfect() -> None:
    s = track_scores(TRUTH, TRUTH)
    assert (s.hota, s.deta, s.assa, s.mota, s.motp, s.idf1, s.idp, s.idr) == (1.0,) * 8
    assert (s.switches, s.fragments, s.false, s.missed, s.matched, s.tracks, s.truth_tracks) == (0, 0, 0, 0, 8, 2, 2)


def test_a_swap_by_hand() -> None:
    # Names change places after two frames: every box is found, half of each track is under either name.
    s = track_scores(TRUTH, rows(*[(f, i if f < 2 else 1 - i, 100 * i) for f in range(4) for i in range(2)]))
    assert (s.switches, s.fragments, s.missed, s.false) == (2, 0, 0, 0)
    assert s.mota == pytest.approx(1 - 2 / 8)
    assert s.idf1 == pytest.approx(0.5)
    # Each of the four pairs of names shares 2 of 4 + 4 - 2 rows.
    assert s.assa == pytest.approx(2 / 6)
    assert s.deta == 1
    assert s.hota == pytest.approx((2 / 6) ** 0.5)


def test_a_gap_a_false_row_and_a_shift_by_hand() -> None:
    # One face over four frames: missed in frame 1, a false row in frame 2, and in frame 3 a box 2 px aside: 8 / 12.
    truth = rows(*[(f, 7, 0) for f in range(4)])
    result = rows((0, 3, 0), (2, 3, 0), (2, 4, 500), (3, 3, 2))
    s = track_scores(truth, result)
    assert (s.switches, s.fragments, s.false, s.missed, s.matched) == (0, 1, 1, 1, 3)
    assert s.mota == pytest.approx(1 - 2 / 4)
    assert s.motp == pytest.approx((1 + 1 + 8 / 12) / 3)
    assert (s.idp, s.idr) == (pytest.approx(3 / 4), pytest.approx(3 / 4))
    low = (ALPHAS <= 8 / 12).sum() / len(ALPHAS)
    assert s.deta == pytest.approx(low * 3 / 5 + (1 - low) * 2 / 6)
    assert s.assa == pytest.approx(low * 3 / 4 + (1 - low) * 2 / 5)


def test_a_face_that_comes_back_under_another_name_is_a_switch() -> None:
    s = track_scores(rows((0, 0, 0), (5, 0, 0)), rows((0, 1, 0), (5, 2, 0)))
    assert (s.switches, s.fragments) == (1, 0)


def test_who_was_together_stays_together() -> None:
    # In frame 1 the other track fits better, but the first still fits.
    s = track_scores(rows((0, 0, 0), (1, 0, 0)), rows((0, 5, 0), (1, 5, 3), (1, 6, 0)))
    assert (s.switches, s.false) == (0, 1)


def test_frames_and_names_may_be_any_numbers_in_any_order() -> None:
    order = np.random.default_rng(0).permutation(8)
    mixed = Rows(TRUTH.frame[order] * 10**9, TRUTH.id[order] - 5, TRUTH.box[order])
    truth = Rows(TRUTH.frame * 10**9, TRUTH.id, TRUTH.box)
    assert track_scores(truth, mixed).hota == 1


def test_nothing_found_and_nothing_there() -> None:
    none = rows()
    s = track_scores(TRUTH, none)
    assert (s.mota, s.idf1, s.hota, s.missed, s.matched) == (0, 0, 0, 8, 0)
    assert np.isnan(s.motp)
    assert np.isnan(s.idp)
    s = track_scores(none, TRUTH)
    assert (s.false, s.hota) == (8, 0)
    assert np.isnan(s.mota)
    assert np.isnan(track_scores(none, none).hota)
    assert set(s.as_dict()) >= {"hota", "idf1", "mota", "switches"}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ShapeError, match="id"):
        rows((0, 1, 0), (0, 1, 50))
    with pytest.raises(ShapeError, match="box"):
        Rows(np.zeros(2, int), np.arange(2), np.zeros((3, 4)))
    with pytest.raises(OptionError, match="overlap is 0"):
        track_scores(TRUTH, TRUTH, overlap=0)


def scene(seed: int) -> tuple[Rows, Rows]:
    """Some faces that walk among each other, and a poor tracker."""
    rng = np.random.default_rng(seed)
    n, frames = int(rng.integers(1, 5)), int(rng.integers(1, 15))
    x, v, name = rng.uniform(0, 40, n), rng.normal(0, 3, n), np.arange(n)
    truth, result = [], []
    for f in range(frames):
        x = x + v
        name = rng.permutation(n) if rng.random() < 0.1 else name
        truth += [(f, i, x[i]) for i in range(n) if rng.random() < 0.9]
        result += [(f, name[i] + 50, x[i] + rng.normal(0, 2)) for i in range(n) if rng.random() < 0.8]
    return rows(*truth), rows(*result)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    wide = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    return wide / (20 - wide)


def overlaps(truth: Rows, result: Rows) -> list[np.ndarray]:
    """One table a frame, truth's tracks × the result's, 0 where either is not there."""
    a, b = (np.unique(r.id).tolist() for r in (truth, result))
    tables = {f: np.zeros((len(a), len(b))) for f in sorted({*truth.frame.tolist(), *result.frame.tolist()})}
    for f, i, p in zip(truth.frame.tolist(), truth.id.tolist(), truth.box, strict=True):
        for g, j, q in zip(result.frame.tolist(), result.id.tolist(), result.box, strict=True):
            if f == g:
                tables[f][a.index(i), b.index(j)] = overlap(p, q)
    return list(tables.values())


def by_loops(truth: Rows, result: Rows) -> dict[str, float]:
    """IDF1 and HOTA as their papers define them, pair by pair."""
    n, m = len(truth.frame), len(result.frame)
    tables = overlaps(truth, result)
    common, soft = np.zeros(tables[0].shape), np.zeros(tables[0].shape)
    for table in tables:
        common += table >= 0.5
        for i, j in zip(*np.nonzero(table), strict=True):
            soft[i, j] += table[i, j] / (table[i].sum() + table[:, j].sum() - table[i, j])
    right = common[linear_sum_assignment(-common)].sum()
    na, nb = (np.unique(r.id, return_counts=True)[1] for r in (truth, result))
    alike = soft / (na[:, None] + nb[None, :] - soft)
    hota = []
    for alpha in ALPHAS:
        pairs = np.zeros(alike.shape)
        for table in tables:
            i, j = linear_sum_assignment(-alike * table)
            for p, q in zip(i, j, strict=True):
                pairs[p, q] += table[p, q] >= alpha and table[p, q] > 0
        found = pairs.sum()
        association = (pairs * pairs / (na[:, None] + nb[None, :] - pairs)).sum() / max(found, 1)
        hota.append((found / (n + m - found) * association) ** 0.5)
    return {"idf1": 2 * right / (n + m), "hota": float(np.mean(hota))}


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_against_loops(seed: int) -> None:
    truth, result = scene(seed)
    if len(truth.frame) and len(result.frame):
        s = track_scores(truth, result).as_dict()
        for name, value in by_loops(truth, result).items():
            assert s[name] == pytest.approx(value, abs=1e-9)
        assert s["matched"] + s["missed"] == len(truth.frame)
        assert s["matched"] + s["false"] == len(result.frame)
