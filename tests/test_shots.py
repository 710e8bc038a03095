"""Cuts are found, and what only looks like one is not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from films import make_film
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mien.errors import DataError, ShapeError
from mien.media.shots import Shots
from mien.media.video import Film

Picture = NDArray[np.uint8]


def place(seed: int, *, width: int = 320, height: int = 180) -> Picture:
    """A picture of a place: colours that change slowly, and darker and lighter things on them."""
    rng = np.random.default_rng(seed)
    ground = cv2.resize(rng.integers(20, 200, (4, 7, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(25):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        cv2.circle(ground, (x, y), int(rng.integers(height // 30 + 1, height // 6)), colour, -1)
    return np.asarray(ground, np.uint8)


def noisy(pictures: Iterable[NDArray[Any]], level: float = 3.0) -> list[Picture]:
    rng = np.random.default_rng(0)
    return [np.clip(p + rng.normal(0, level, p.shape), 0, 255).astype(np.uint8) for p in pictures]


def cuts(pictures: Sequence[Picture]) -> list[int]:
    shots = Shots()
    return [i for i, picture in enumerate(pictures) if shots.update(picture)[0]]


@pytest.mark.parametrize(("width", "height"), [(320, 180), (96, 64), (180, 320), (1280, 720)])
def test_every_hard_cut_is_found_at_its_frame(width: int, height: int) -> None:
    pictures = noisy(place(shot, width=width, height=height) for shot in range(5) for _ in range(6))
    assert cuts(pictures) == [6, 12, 18, 24]


def test_the_first_picture_is_no_cut() -> None:
    assert Shots().update(place(1)) == (False, 0.0)


def test_a_picture_that_stays_does_not_change() -> None:
    shots = Shots()
    assert [shots.update(place(1))[1] for _ in range(4)] == [0.0] * 4


def test_a_pan_of_a_sixteenth_a_frame_is_no_cut() -> None:
    wide = place(2, width=960)
    assert cuts(noisy(wide[:, 20 * i : 20 * i + 320] for i in range(30))) == []


def test_a_zoom_is_no_cut() -> None:
    big = place(3, width=640, height=360)
    views = [(round(640 * 0.97**i), round(360 * 0.97**i)) for i in range(25)]
    assert cuts(noisy(cv2.resize(big[:h, :w], (320, 180), interpolation=cv2.INTER_AREA) for w, h in views)) == []


@pytest.mark.parametrize("gain", [1.5, 2.5, 4.0])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_flash_is_no_cut(gain: float, frames: int) -> None:
    base = place(4)
    lit = np.clip(base * gain + 40, 0, 255)
    assert cuts(noisy([base] * 8 + [lit] * frames + [base] * 8)) == []


def test_a_white_frame_is_passed_over() -> None:
    base = place(4)
    assert cuts(noisy([base] * 5 + [np.full_like(base, 255)] + [base] * 5)) == []


@pytest.mark.parametrize("gain", [0.5, 1.8])
@pytest.mark.parametrize("frames", [1, 8])
def test_another_exposure_is_no_cut(gain: float, frames: int) -> None:
    base = place(5)
    shares = [0.0] * 6 + list(np.linspace(0, 1, frames + 1)[1:]) + [1.0] * 6
    assert cuts(noisy(np.clip(base * gain**share, 0, 255) for share in shares)) == []


def test_a_fade_to_black_and_back_to_the_place_is_no_cut_and_elsewhere_is_one() -> None:
    down, up = np.linspace(1, 0, 9), np.linspace(0, 1, 9)
    back = [place(6) * s for s in down] + [place(6) * s for s in up]
    assert cuts(noisy(back, 1)) == []
    elsewhere = [place(6) * s for s in down] + [place(7) * s for s in up]
    found = cuts(noisy(elsewhere, 1))
    assert len(found) == 1
    assert found[0] > 9


def test_a_person_who_walks_past_close_to_the_camera_is_no_cut() -> None:
    base, coat = place(8), (place(9) * 0.6)[:, :120]
    pictures = []
    for at in np.linspace(-120, 320, 14).astype(int):
        shown, (a, b) = base.astype(np.float64), (max(at, 0), min(at + 120, 320))
        shown[20:, a:b] = coat[20:, a - at : b - at]
        pictures.append(shown)
    assert cuts(noisy(pictures)) == []


def test_plain_colours_are_told_apart_but_black_and_white_are_blank() -> None:
    red, blue, black, white = (np.full((90, 160, 3), c, np.uint8) for c in ((200, 30, 30), (30, 30, 200), 0, 255))
    assert cuts([red, red, blue, blue]) == [2]
    assert cuts([black, white, black, white]) == []
    assert cuts([(red * share).astype(np.uint8) for share in np.linspace(1, 0, 8)]) == []


def test_black_before_the_first_scene_is_no_shot_of_its_own() -> None:
    assert cuts([np.zeros((90, 160, 3), np.uint8)] * 3 + [place(1)] * 3) == []


def test_a_cut_a_second_for_a_while_is_still_found() -> None:
    pictures = noisy(place(10 + shot % 3) for shot in range(12) for _ in range(4))
    assert cuts(pictures) == list(range(4, 48, 4))


def test_the_change_is_a_share_and_larger_at_a_cut() -> None:
    shots = Shots()
    change = [shots.update(p)[1] for p in noisy([place(1)] * 4 + [place(2)] * 4)]
    assert all(0 <= c <= 1 for c in change)
    assert change[4] > 0.33 > max(change[:4] + change[5:])


@settings(max_examples=15)
@given(st.integers(0, 29), st.integers(0, 1000))
def test_one_that_is_restored_goes_on_to_the_bit(at: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pictures = [place(int(rng.integers(4)), width=96, height=64) for _ in range(30)]
    whole = Shots()
    wanted = [whole.update(p) for p in pictures]
    first = Shots()
    for p in pictures[:at]:
        first.update(p)
    second = Shots.restored(json.loads(json.dumps(first.state())))
    assert [second.update(p) for p in pictures[at:]] == wanted[at:]
    assert second.state() == whole.state()


def test_what_is_remembered_does_not_grow() -> None:
    shots = Shots()
    sizes = []
    for i in range(40):
        shots.update(place(i % 5, width=96, height=64))
        sizes.append(len(json.dumps(shots.state())))
    assert max(sizes) < 30_000


@pytest.mark.parametrize("state", [{}, {"usual": 0.0, "recent": ["AAAA"]}, {"usual": 0.0, "recent": ["%"]}])
def test_a_damaged_state_is_one_line(state: dict[str, object]) -> None:
    with pytest.raises(DataError, match="begin anew"):
        Shots.restored(state)


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ShapeError):
        Shots().update(np.zeros((4, 4), np.uint8))


def test_cuts_of_a_compressed_film(tmp_path: Path) -> None:
    path = make_film(tmp_path / "a.mp4", [place(shot) for shot in range(3) for _ in range(10)])
    shots = Shots()
    found = []
    with Film(path) as film:
        for frame in film:
            assert frame.picture is not None
            if shots.update(frame.picture)[0]:
                found.append(frame.index)
    assert found == [10, 20]


@pytest.mark.shared
@pytest.mark.parametrize("every", [1, 5])
def test_the_cuts_of_a_concert_film(shared: Path, every: int) -> None:
    shots, found = Shots(), []
    with Film(shared / "pictures" / "clips" / "hamilton.mp4", every=every) as film:
        for frame in film:
            assert frame.picture is not None
            if shots.update(frame.picture)[0]:
                found.append(frame.index)
    assert found == [-(-cut // every) * every for cut in (20, 82, 211)]
