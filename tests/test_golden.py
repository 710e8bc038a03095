"""Every bundled model still says what it said when it was made."""

from __future__ import annotations

import numpy as np
import pytest

from mien.labels import EIGHT, SEVEN
from mien.models.expression import Expression
from mien.zoo.card import Head
from mien.zoo.catalog import card, names
from mien.zoo.store import locate

BUNDLED = [name for name in names() if card(name).task == "expression"]


def test_there_is_a_bundled_expression_model() -> None:
    assert "expression" in BUNDLED


@pytest.mark.parametrize("name", BUNDLED)
def test_golden_vectors(name: str) -> None:
    file = locate(card(name))
    with np.load(file.with_suffix(".golden.npz")) as golden:
        model = Expression(name)
        reading = model.read(golden["crops"])
        assert set(golden.files) == {"crops", "tolerance", *(h.name for h in model.heads)}
        for head in model.heads:
            expected = golden[head.name]
            assert expected.shape == (len(golden["crops"]), len(head.labels))
            np.testing.assert_allclose(reading.scores[head.name], expected, atol=float(golden["tolerance"]))
            assert np.ptp(expected, axis=0).max() > 0.2, "vectors that all say the same would show little"


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_heads(name: str) -> None:
    assert card(name).heads == (Head("crowd", EIGHT), Head("fer2013", SEVEN))
    assert card(name).labels == EIGHT


@pytest.mark.parametrize("name", BUNDLED)
def test_the_promises_of_size(name: str) -> None:
    bundled = card(name)
    assert bundled.size <= 10_000_000
    assert bundled.parameters is not None
    assert bundled.parameters <= 5_000_000
    assert {s.split for s in bundled.scores} == {"PublicTest", "PublicTest, de-duplicated"}
    assert all(s.low <= s.value <= s.high and s.n > 1000 for s in bundled.scores)
