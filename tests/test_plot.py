"""Figures show the numbers that they are given, in both themes, the same bytes each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from mien.errors import MissingExtraError, OptionError, ShapeError
from mien.render import plot

LABELS = ("angry", "happy", "sad")
COUNTS = np.array([[5, 3, 2], [0, 1, 0], [0, 0, 0]])
VALUE, LOW, HIGH = np.array([0.5, 0.75, np.nan]), np.array([0.25, 0.5, np.nan]), np.array([0.625, 1, np.nan])

FIGURES: dict[str, Callable[..., Any]] = {
    "confusion": lambda **o: plot.confusion(COUNTS, LABELS, **o),
    "shares": lambda **o: plot.confusion(COUNTS, LABELS, shares=True, **o),
    "balance": lambda **o: plot.balance(LABELS, {"Training": COUNTS[0], "test": COUNTS[1]}, **o),
    "rates": lambda **o: plot.rates(LABELS, {"recall": (VALUE, LOW, HIGH)}, np.array([0.5, 0.25, 0.25]), **o),
    "calibration": lambda **o: plot.calibration(
        np.array([[0.2, 0.4], [0.8, 1.0]]), VALUE[:2], (VALUE[:2], LOW[:2], HIGH[:2]), np.array([3.0, 9.0]), **o
    ),
    "risk": lambda **o: plot.risk(np.array([0.5, 1]), VALUE[:2], LOW[:2], HIGH[:2], overall=0.75, **o),
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """The matplotlib figure behind an SVG."""
    monkeypatch.setattr(plot, "_svg", lambda figure: figure)
    return lambda name: FIGURES[name]()


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own figure


def words(axes: Any) -> list[str]:
    return [t.get_text().strip() for t in axes.texts]


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_an_svg_of_its_own_and_always_the_same(name: str) -> None:
    text = FIGURES[name]()
    assert parsed(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert text == FIGURES[name]()
    assert "<text" not in text  # letters are paths: no font is needed
    assert "http" not in text.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


@pytest.mark.parametrize("name", FIGURES)
def test_a_dark_page_has_dark_figures(name: str) -> None:
    light, dark = FIGURES[name](theme=plot.LIGHT), FIGURES[name](theme=plot.DARK)
    assert plot.DARK.paper in dark
    assert plot.DARK.paper not in light
    assert plot.LIGHT.paper in light


def test_confusions_are_written_as_counts_and_as_shares(drawn: Callable[[str], Any]) -> None:
    counts, shares = (words(drawn(name).axes[0]) for name in ("confusion", "shares"))
    assert counts == ["5", "3", "2", "0", "1", "0"]
    assert shares == [".50", ".30", ".20", "1"]
    axes = drawn("confusion").axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.5, 0.3, 0.2], [0, 1, 0], [0, 0, 0]])
    assert [t.get_text() for t in axes.get_yticklabels()] == list(LABELS)


def test_balance_draws_shares_and_writes_counts(drawn: Callable[[str], Any]) -> None:
    axes = drawn("balance").axes[0]
    np.testing.assert_allclose([b.get_width() for b in axes.patches], [0.5, 0.3, 0.2, 0, 1, 0])
    assert words(axes) == ["5", "3", "2", "0", "1", "0"]


def test_rates_have_their_intervals_and_chance(drawn: Callable[[str], Any]) -> None:
    axes = drawn("rates").axes[0]
    assert [b.get_width() for b in axes.patches] == [0.5, 0.75, 0]
    whiskers, chance = axes.collections
    assert [s[:, 0].tolist() for s in whiskers.get_segments()] == [[0.25, 0.625], [0.5, 1], [0, 0]]
    assert [s[0, 0] for s in chance.get_segments()] == [0.5, 0.25, 0.25]


def test_the_curve_stands_above_its_numbers(drawn: Callable[[str], Any]) -> None:
    curve, bars = drawn("calibration").axes
    assert curve.lines[1].get_xydata().tolist() == [[0.5, 0.5], [0.75, 0.75]]
    assert [b.get_height() for b in bars.patches] == [3, 9]


def test_risk_has_its_band_and_what_chance_gives(drawn: Callable[[str], Any]) -> None:
    axes = drawn("risk").axes[0]
    assert axes.lines[0].get_ydata().tolist() == [0.5, 0.75]
    assert axes.lines[1].get_ydata() == [0.75, 0.75]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0.25, 1)


def test_many_labels_get_more_room() -> None:
    many = plot.confusion(np.ones((17, 17), int), [f"label {i}" for i in range(17)])
    few = FIGURES["confusion"]()
    assert float(parsed(many).get("width")[:-2]) > float(parsed(few).get("width")[:-2])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 2\)"):
        plot.confusion(COUNTS, ("a", "b"))
    with pytest.raises(OptionError, match="3 sets of faces"):
        plot.balance(LABELS, dict.fromkeys("abc", COUNTS[0]))
    with pytest.raises(OptionError, match="0 rates"):
        plot.rates(LABELS, {}, VALUE)


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[report\]'"):
        FIGURES["risk"]()
