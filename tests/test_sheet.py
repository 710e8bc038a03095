"""Contact sheets, looked at by their pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import OptionError, ShapeError
from mien.render.palette import COLOURS
from mien.render.sheet import beside, sheet, tile


def plain(colour: tuple[int, int, int], width: int = 80, height: int = 60) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


COLOUR = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200)]


def test_every_picture_is_there_in_its_place() -> None:
    page = sheet([plain(c) for c in COLOUR], [f"number {i}" for i in range(5)], columns=3)
    places = []
    for colour in COLOUR:
        ys, xs = np.nonzero((page == colour).all(-1))
        assert len(ys) == 80 * 60
        places.append((ys.min(), xs.min()))
        assert (ys.max() - ys.min(), xs.max() - xs.min()) == (59, 79)
    assert len({y for y, _ in places[:3]}) == 1
    assert places[0][1] < places[1][1] < places[2][1]
    assert places[3][1] == places[0][1]
    assert places[3][0] > places[0][0] + 60


def test_captions_titles_and_stripes_are_drawn() -> None:
    bare = sheet([plain(c) for c in COLOUR[:2]], ["", ""], columns=2)
    told = sheet(
        [plain(c) for c in COLOUR[:2]], ["0:01.20\nhappy 0.9", ""], columns=2, title="happy", footer="and 3 more"
    )
    assert told.shape[0] > bare.shape[0]
    assert told.shape[1] == bare.shape[1]
    ys, xs = np.nonzero((told == COLOUR[0]).all(-1))
    below = told[ys.max() + 1 : ys.max() + 50, xs.min() : xs.max() + 1]
    assert (below < 90).all(-1).sum() > 50
    assert (told[: ys.min()] < 90).all(-1).sum() > 50
    other = told[ys.max() + 1 : ys.max() + 30, xs.max() + 10 : xs.max() + 90]
    assert (other > 200).all()
    tint = COLOURS["sad"]
    striped = sheet([plain(c) for c in COLOUR[:2]], ["", ""], columns=2, colours=[None, tint])
    assert ((striped == tint).all(-1)).sum() == 80 * 4


def test_a_place_may_stay_empty_and_a_picture_of_another_shape_is_fitted() -> None:
    page = sheet([plain(COLOUR[0]), None, plain(COLOUR[1], 20, 60)], ["", "", ""], columns=3)
    assert ((page == COLOUR[0]).all(-1)).sum() == 80 * 60
    assert ((page == COLOUR[1]).all(-1)).sum() == 20 * 60
    empty = sheet([None], ["x"], columns=1, size=(50, 40))
    assert empty.shape[1] == 50 + 2 * 28


@given(text=st.text(max_size=80), width=st.integers(8, 200))
def test_captions_never_leave_their_place(text: str, width: int) -> None:
    pictures = [plain(COLOUR[0], width, 20), plain(COLOUR[1], width, 20)]
    page = sheet(pictures, [text.replace("\n", " "), ""], columns=2)
    _, xs = np.nonzero((page == COLOUR[0]).all(-1))
    ys, _ = np.nonzero((page == COLOUR[0]).all(-1))
    paper = page[0, 0]
    below = page[ys.max() + 1 :]
    assert (below[:, : xs.min() - 1] == paper).all()
    assert (below[:, xs.max() + 2 :] == paper).all()


def test_sheets_that_cannot_be() -> None:
    for pictures, captions, columns in (([], [], 3), ([plain(COLOUR[0])], [], 3), ([plain(COLOUR[0])], ["a"], 0)):
        with pytest.raises(OptionError, match="at least one picture"):
            sheet(pictures, captions, columns=columns)
    with pytest.raises(OptionError):
        sheet([plain(COLOUR[0])], ["a"], columns=1, colours=[])


def test_side_by_side() -> None:
    left, right = plain(COLOUR[0], 40, 100), plain(COLOUR[1], 30, 60)
    page = beside(left, right)
    assert page.shape == (100, 72, 3)
    assert ((page == COLOUR[0]).all(-1)).sum() == 4000
    assert ((page == COLOUR[1]).all(-1)).sum() == 1800


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.tuples(*[st.floats(-100, 400, width=32)] * 4),
    st.sampled_from([0.3, 0.5, 1.0]),
)
def test_a_tile_always_has_its_size(width: int, height: int, box: tuple[float, ...], share: float) -> None:
    x1, y1, x2, y2 = box
    fair = np.array([min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)], np.float32)
    picture = np.zeros((height, width, 3), np.uint8)
    assert tile(picture, fair, width=64, height=48, share=share).shape == (48, 64, 3)


def test_a_tile_shows_the_face_in_its_middle_and_so_large() -> None:
    picture = np.zeros((400, 600, 3), np.uint8)
    picture[150:230, 260:340] = 255
    out = tile(picture, np.array([260.0, 150, 340, 230]), width=240, height=180, share=0.5)
    ys, xs = np.nonzero(out[..., 0] > 127)
    assert ys.max() - ys.min() + 1 == pytest.approx(90, abs=3)
    assert (ys.mean(), xs.mean()) == pytest.approx((89.5, 119.5), abs=2)
    with pytest.raises(ShapeError):
        tile(picture, np.array([0, 0, np.nan, 4.0]))
