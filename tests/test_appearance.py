"""Looks: the same colours, the same look, whatever the size; two persons differ."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from skimage.data import astronaut

from mien.errors import ShapeError
from mien.media.stills import read_picture
from mien.track.appearance import WIDTH, look

COLLINS = np.array([[181.0, 60, 267, 174]])
HOPPER = np.array([[173.0, 113, 353, 336]])


@pytest.fixture(scope="module")
def portraits() -> tuple[np.ndarray, np.ndarray]:
    return astronaut(), read_picture(get_sample_data("grace_hopper.jpg", asfileobj=False))


def naive(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Point by point: 24 × 32 points, a tenth wider on each side than the face and 1.1 times its height below."""
    x1, y1, x2, y2 = box
    out = np.zeros(WIDTH)
    for row in range(32):
        for column in range(24):
            x = int(np.floor(x1 + (x2 - x1) * ((column + 0.5) / 24 * 1.2 - 0.1)))
            y = int(np.floor(y1 + (y2 - y1) * (row + 0.5) / 32 * 2.1))
            if 0 <= x < picture.shape[1] and 0 <= y < picture.shape[0]:
                hue, saturation, value = map(int, cv2.cvtColor(picture[y : y + 1, x : x + 1], cv2.COLOR_RGB2HSV)[0, 0])
                out[row // 16 * 144 + hue // 15 * 12 + saturation * 3 // 256 * 4 + value // 64] += 1
    return np.sqrt(out / max(out.sum(), 1))


def test_it_is_what_counting_point_by_point_gives() -> None:
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (60, 80, 3), np.uint8)
    box = np.array([[10.0, 5, 40, 45], [-8.3, -4, 20, 21], [60, 40, 95.5, 80], [0, 0, 80, 60]])
    got = look(picture, box)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [naive(picture, b) for b in box], atol=1e-6)


def test_its_length_is_one_and_outside_it_is_nothing() -> None:
    picture = np.full((50, 50, 3), 90, np.uint8)
    got = look(picture, np.array([[10.0, 10, 20, 20], [100, 100, 120, 120], [-50, -90, -20, -30]]))
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), [1, 0, 0], atol=1e-6)


def test_it_does_not_depend_on_the_size(portraits: tuple[np.ndarray, np.ndarray]) -> None:
    picture = portraits[0]
    twice = picture.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(look(picture, COLLINS), look(twice, 2 * COLLINS))


def test_a_person_is_nearer_to_herself_than_to_another(portraits: tuple[np.ndarray, np.ndarray]) -> None:
    collins, hopper = portraits
    moved = COLLINS + np.array([6.0, 6, 6, 6])
    darker = (collins * 0.85).astype(np.uint8)
    own = look(collins, COLLINS)[0]
    same = min(float(own @ look(collins, moved)[0]), float(own @ look(darker, COLLINS)[0]))
    other = float(own @ look(hopper, HOPPER)[0])
    assert same > 0.7
    assert other < 0.5


def test_no_faces_have_no_looks() -> None:
    assert look(np.zeros((4, 4, 3), np.uint8), np.empty((0, 4))).shape == (0, WIDTH)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match="box"):
        look(np.zeros((4, 4, 3), np.uint8), np.zeros(4))
    with pytest.raises(ShapeError, match="picture"):
        look(np.zeros((4, 4), np.uint8), np.zeros((1, 4)))
