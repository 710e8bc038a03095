"""Weights and probabilities against scikit-learn and against counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight

from mien.data.balance import class_counts, class_weights, per_class, sampling_probability
from mien.errors import DataError, OptionError

LABELS = st.lists(st.integers(-1, 4), min_size=1, max_size=40).filter(lambda v: max(v) >= 0).map(np.array)


@settings(max_examples=30)
@given(LABELS)
def test_class_weights_are_those_of_scikit_learn(label: np.ndarray) -> None:
    held = label[label >= 0]
    found = np.unique(held)
    weights = class_weights(label, 5)
    np.testing.assert_allclose(weights[found], compute_class_weight("balanced", classes=found, y=held))
    assert (np.delete(weights, found) == 0).all()
    np.testing.assert_allclose(weights[held].mean(), 1)


@settings(max_examples=30)
@given(LABELS)
def test_the_sampler_draws_every_class_alike(label: np.ndarray) -> None:
    probability = sampling_probability(label, 5)
    held = label >= 0
    expected = compute_sample_weight("balanced", label[held])
    np.testing.assert_allclose(probability[held], expected / expected.sum())
    assert (probability[~held] == 0).all()
    np.testing.assert_allclose(probability.sum(), 1)


def test_counts_leave_out_what_has_no_label() -> None:
    assert class_counts(np.array([-1, 2, 2, 0]), 4).tolist() == [1, 0, 2, 0]


@pytest.mark.parametrize("function", [class_weights, sampling_probability])
def test_without_labels_there_is_nothing_to_balance(function: object) -> None:
    with pytest.raises(DataError, match="no face has a label"):
        function(np.array([-1, -1]), 3)


@settings(max_examples=30)
@given(LABELS, st.integers(1, 4), st.integers(0, 9))
def test_so_many_of_each_class(label: np.ndarray, n: int, seed: int) -> None:
    names = [f"class {k}" for k in range(5)]
    counts = class_counts(label, 5)
    if counts.min() < n:
        with pytest.raises(DataError, match=f"{n} faces of each class are asked for, but 'class"):
            per_class(label, n, seed=seed, names=names)
        return
    rows = per_class(label, n, seed=seed, names=names)
    assert class_counts(label[rows], 5).tolist() == [n] * 5
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() == per_class(label, n, seed=seed, names=names).tolist()


def test_the_seed_decides_who_is_drawn() -> None:
    label = np.zeros(100, int)
    drawn = {tuple(per_class(label, 5, seed=s, names=["a"])) for s in range(5)}
    assert len(drawn) == 5


def test_none_of_each_class_is_refused() -> None:
    with pytest.raises(OptionError, match="0 faces of each class"):
        per_class(np.array([0, 1]), 0, seed=0, names=("a", "b"))
