"""Curves of runs: what is drawn where, and in the terminal."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from mien.errors import MissingExtraError, OptionError
from mien.render import curves
from mien.render.curves import Curves, dots, draw

BLUE, ORANGE = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)


def run(name: str = "run", epochs: int = 12, best: int | None = 9, **more: np.ndarray) -> Curves:
    epoch = np.arange(float(epochs))
    history = {
        "epoch": epoch,
        "lr": 0.1 / (1 + epoch),
        "train_loss": 2 / (1 + epoch),
        "val_loss": 2.2 / (1 + epoch),
        "val_accuracy": 1 - 1 / (1.5 + epoch),
    }
    return Curves(name=name, history=history | more, best=best)


def picture(png: bytes) -> np.ndarray:
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def pixels(png: bytes, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a colour is, within a step or two."""
    return np.argwhere((np.abs(picture(png).astype(int) - colour) < 8).all(2))


@pytest.mark.parametrize("width", [400, 800, 1600])
def test_the_picture_is_as_wide_as_was_asked_and_light(width: int) -> None:
    drawn = picture(draw([run()], width=width))
    assert drawn.shape[1] == width
    assert drawn.shape[0] < width * 1.3
    assert (drawn == 255).all(2).mean() > 0.7


def test_a_picture_is_the_same_each_time() -> None:
    assert draw([run()]) == draw([run()])


def test_each_run_has_its_colour_and_its_line_in_the_legend() -> None:
    other = run("other", val_loss=np.full(12, 1.0))
    one, both = draw([run()]), draw([run(), other])
    assert len(pixels(both, BLUE)) > 100
    assert len(pixels(both, ORANGE)) > 100
    assert len(pixels(one, ORANGE)) == 0
    assert picture(both).shape[0] > picture(one).shape[0]


def test_a_curve_goes_where_its_values_are() -> None:
    """A loss that falls to its lowest value in the middle has its lowest dot there."""
    epoch = np.arange(11.0)
    history = {"epoch": epoch, "val_loss": (epoch - 5) ** 2}
    there = pixels(draw([Curves(name="", history=history)]), BLUE)
    half = picture(draw([Curves(name="", history=history)])).shape[0] * 0.7
    loss = there[there[:, 0] < half]
    lowest = loss[loss[:, 0] == loss[:, 0].max()][:, 1].mean()
    assert lowest == pytest.approx((loss[:, 1].min() + loss[:, 1].max()) / 2, abs=12)


def test_missing_values_are_gaps_and_lone_ones_dots() -> None:
    whole = np.full(12, 1.0)
    holes = whole.copy()
    holes[3:9] = math.nan
    lone = np.full(12, math.inf)
    lone[5] = 1.0

    def columns(values: np.ndarray) -> set[int]:
        history = {"epoch": np.arange(12.0), "val_loss": values}
        return {int(x) for _, x in pixels(draw([Curves(name="", history=history)]), BLUE)}

    left, right = min(columns(whole)), max(columns(whole))
    middle = range(left + (right - left) * 3 // 11, left + (right - left) * 8 // 11)
    assert set(middle) <= columns(whole)
    assert columns(holes).isdisjoint(middle)
    assert columns(holes)
    assert 2 <= len(columns(lone)) < 12


def test_the_best_epoch_is_ringed() -> None:
    assert draw([run(best=9)]) != draw([run(best=4)]) != draw([run(best=None)])


def test_steps_stand_behind_the_epochs() -> None:
    step = np.arange(10.0, 130, 10)
    noisy = Curves(
        name="run",
        history=run().history,
        steps={"step": step, "loss": 2 + np.sin(step), "lr": np.full(12, 0.1)},
        steps_an_epoch=10,
        best=9,
    )
    x, y = noisy.over_steps("loss")
    np.testing.assert_array_equal(x, np.arange(12.0))
    np.testing.assert_array_equal(y, 2 + np.sin(step))
    assert draw([noisy]) != draw([run()])


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_run_that_has_hardly_begun_can_be_drawn(epochs: int) -> None:
    assert picture(draw([run(epochs=epochs, best=None), Curves(name="empty", history={})])).shape[1] == 800


def test_thirty_runs_and_long_names_can_be_drawn() -> None:
    found = [run(f"lr={i}," + "depth=3," * 30, val_crowd_accuracy=np.linspace(0, 1, 12)) for i in range(30)]
    assert picture(draw(found)).shape[1] == 800


@pytest.mark.parametrize(("found", "width"), [([], 800), ([run()], 399)])
def test_what_cannot_be_drawn_is_said(found: list[Curves], width: int) -> None:
    with pytest.raises(OptionError, match="name one run or more"):
        draw(found, width=width)


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"mien\[report\]"):
        draw([run()])


def naive(x: np.ndarray, y: np.ndarray, width: int, height: int) -> set[tuple[int, int]]:
    """The dots of points that lie on the grid, one by one: (column, row from the top)."""
    left, right, low, high = x.min(), x.max(), y.min(), y.max()
    return {
        (round((a - left) / (right - left) * (2 * width - 1)), round((high - b) / (high - low) * (4 * height - 1)))
        for a, b in zip(x, y, strict=True)
    }


def lit(rows: list[list[tuple[str, int]]]) -> set[tuple[int, int]]:
    """The dots of Braille characters, by the table of their bits in the standard."""
    order = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]
    return {
        (2 * column + dx, 4 * row + dy)
        for row, cells in enumerate(rows)
        for column, (character, _) in enumerate(cells)
        for bit, (dx, dy) in enumerate(order)
        if (ord(character) - 0x2800) >> bit & 1
    }


def test_the_dots_are_where_the_points_are() -> None:
    x = np.arange(24.0)
    y = np.random.default_rng(1).integers(0, 12, 24).astype(float)
    y[:2] = 0, 11
    found, points = lit(dots([(x, y)], width=12, height=3)), naive(x, y, 12, 3)
    assert points <= found
    rows = dict(points)
    for column, row in found - points:  # what joins them is on the way to a neighbour
        ways = [sorted((rows[column], rows[n])) for n in (column - 1, column + 1) if n in rows]
        assert any(low <= row <= high for low, high in ways)


def test_a_steep_line_has_no_hole() -> None:
    x = np.arange(20.0)
    found = lit(dots([(x, np.where(x < 10, 0.0, 1.0))], width=10, height=5))
    assert {row for _, row in found} == set(range(20))
    assert len(found) == 20 + 18


def test_many_points_are_averaged_and_few_are_joined() -> None:
    x = np.linspace(0, 1, 4000)
    waving = np.where(np.arange(4000) % 2, 0.0, 1.0)
    ends = (np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    rows = dots([ends, (x, waving)], width=10, height=4)
    assert {row for column, row in lit(rows) if 2 < column < 6} <= {7, 8, 9, 10, 11, 12, 13}
    straight = lit(dots([ends], width=10, height=4))
    assert {column for column, _ in straight} == set(range(20))


def test_a_missing_value_parts_a_line_of_dots() -> None:
    x = np.arange(20.0)
    y = np.where((x > 7) & (x < 13), np.nan, x)
    assert {column for column, _ in lit(dots([(x, y)], width=10, height=2))} == {*range(8), *range(13, 20)}


def test_a_cell_belongs_to_the_line_that_was_drawn_last() -> None:
    x = np.arange(4.0)
    rows = dots([(x, x), (x, np.zeros(4))], width=2, height=2)
    assert [[owner for _, owner in row] for row in rows] == [[-1, 0], [1, 1]]


@pytest.mark.parametrize("line", [(np.empty(0), np.empty(0)), (np.arange(3.0), np.full(3, np.nan))])
def test_nothing_to_plot_is_empty(line: tuple[np.ndarray, np.ndarray]) -> None:
    assert lit(dots([line], width=5, height=2)) == set()
