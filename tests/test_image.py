from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage.data import astronaut
from skimage.transform import AffineTransform
from skimage.transform import warp as skimage_warp

from mien.errors import ShapeError
from mien.geometry import apply, invert
from mien.image import check, grey, resize, warp

Array = NDArray[Any]


def ramp(width: int, height: int, *, dx: float, dy: float, at: float) -> Array:
    """A grey picture that rises evenly from left to right and from top to bottom."""
    y, x = np.mgrid[:height, :width]
    rise = np.rint(at + dx * x + dy * y).clip(0, 255).astype(np.uint8)
    return np.repeat(rise[..., None], 3, axis=2)


def about(centre: tuple[float, float], scale: float, degrees: float, size: int) -> Array:
    """The matrix that turns and scales about a point and brings it to the middle of a square crop."""
    a, b = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    turn = np.array([[a, -b], [b, a]])
    return np.column_stack([turn, (size - 1) / 2 - turn @ np.array(centre)])


def sources(matrix: Array, size: int) -> Array:
    """Where each pixel centre of a square crop comes from, (size, size, 2)."""
    y, x = np.mgrid[:size, :size]
    return apply(invert(matrix), np.stack([x, y], -1).astype(float))


def test_a_picture_passes_as_it_is() -> None:
    picture = astronaut()
    assert check(picture) is picture


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=lambda a: f"{a.shape} {a.dtype}",
)
def test_anything_else_is_named(wrong: Array) -> None:
    with pytest.raises(ShapeError) as caught:
        check(wrong)
    assert str(caught.value) == f"picture: expected (H, W, 3) uint8 RGB, got {wrong.shape} {wrong.dtype}"


def test_grey_is_that_of_pil() -> None:
    luma = grey(astronaut())
    assert luma.dtype == np.float32
    assert luma.shape == astronaut().shape[:2]
    theirs = np.asarray(Image.fromarray(astronaut()).convert("L"), np.float32)
    assert np.abs(luma - theirs).max() < 1


def test_grey_takes_a_batch_and_keeps_the_ends() -> None:
    batch = np.stack([np.zeros((2, 5, 3), np.uint8), np.full((2, 5, 3), 255, np.uint8)])
    assert grey(batch).shape == (2, 2, 5)
    np.testing.assert_allclose(grey(batch)[1], 255, atol=1e-3)
    assert not grey(batch)[0].any()


def test_resize_down_is_the_mean_of_the_pixels() -> None:
    picture = astronaut()
    means = picture.reshape(128, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(resize(picture, 128, 128) - means).max() <= 0.51


def test_resize_up_is_that_of_pil() -> None:
    picture = astronaut()[:40, :60]
    theirs = np.asarray(Image.fromarray(picture).resize((180, 100), Image.Resampling.BILINEAR), float)
    assert resize(picture, 180, 100).shape == (100, 180, 3)
    assert np.abs(resize(picture, 180, 100) - theirs).max() <= 1.5


@pytest.mark.parametrize("scale", [0.05, 0.12, 0.3, 0.37, 0.49, 0.5, 0.8, 1.0, 2.5])
@pytest.mark.parametrize("degrees", [0, 20, -35, 90])
def test_warp_of_a_ramp_is_the_ramp_without_a_shift(scale: float, degrees: float) -> None:
    """The mean of an even rise over any symmetric area is its value at the middle, so the truth is known exactly.

    The rise is 6 levels a pixel of the crop: half a pixel of shift shows as 3 levels, and half a pixel of the picture
    that is made smaller first as 1.5. Twelve places between pixels average the rounding out.
    """
    faults, rng = [], np.random.default_rng(1)
    for centre in rng.uniform((345, 245), (355, 255), (12, 2)):
        dx, dy = 5.93 * scale, -2.17 * scale
        at = 128 - dx * centre[0] - dy * centre[1]
        matrix = about(tuple(centre), scale, degrees, 16)
        place = sources(matrix, 16)
        inside = ((place > 1.5 / scale) & (place < np.array([700, 500]) - 1 - 1.5 / scale)).all(-1)
        truth = at + dx * place[..., 0] + dy * place[..., 1]
        crop = warp(ramp(700, 500, dx=dx, dy=dy, at=at), matrix, 16, 16)
        faults.append((crop[..., 0] - truth)[inside])
        assert inside.sum() >= 60
    assert np.abs(np.concatenate(faults)).max() <= 1.4
    assert abs(np.mean([f.mean() for f in faults])) <= 0.2


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_warp_against_scikit_image(scale: float) -> None:
    picture, matrix = astronaut(), about((240.2, 110.9), scale, 25, 64)
    theirs = skimage_warp(
        picture, AffineTransform(matrix=np.vstack([invert(matrix), [0, 0, 1]])), output_shape=(64, 64), order=1
    )
    # OpenCV rounds places to 1/32 pixel: up to 4 levels of 255 at the sharpest edges.
    fault = warp(picture, matrix, 64, 64) - 255 * theirs
    assert np.abs(fault).max() <= 5
    assert abs(fault.mean()) <= 0.1


def test_a_small_warp_is_an_average_not_a_sample() -> None:
    """A fine chessboard has no grey pixel; made eight times smaller it has nothing else."""
    board = np.repeat((np.indices((400, 400)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    small = warp(board, about((200, 200), 0.125, 0, 32), 32, 32)
    assert np.abs(small.astype(float) - 127.5).max() <= 2


def test_the_part_that_is_seen_is_enough() -> None:
    """Pixels far from the crop change nothing; those in it do."""
    picture = astronaut()
    matrix = about((250, 120), 0.3, 10, 32)
    changed = picture.copy()
    changed[300:] = 0
    np.testing.assert_array_equal(warp(picture, matrix, 32, 32), warp(changed, matrix, 32, 32))
    changed[:300] = 0
    assert not warp(changed, matrix, 32, 32).any()


def test_outside_is_black() -> None:
    white = np.full((50, 50, 3), 255, np.uint8)
    half = warp(white, np.array([[1.0, 0, 20], [0, 1.0, 0]]), 50, 50)
    assert not half[:, :20].any()
    assert (half[:, 20:] == 255).all()
    assert not warp(white, np.array([[1.0, 0, 500], [0, 1.0, 0]]), 30, 20).any()
    assert warp(white, np.array([[1.0, 0, 0], [0, 1.0, -500]]), 30, 20).shape == (20, 30, 3)


@pytest.mark.parametrize("shape", [(8, 40_000, 3), (40_000, 8, 3)])
def test_a_very_long_picture_can_be_warped(shape: tuple[int, ...]) -> None:
    """OpenCV alone refuses sides of 32,767 pixels and more."""
    picture = np.full(shape, 90, np.uint8)
    middle = shape[1] / 2, shape[0] / 2
    assert (warp(picture, about(middle, 1, 0, 4), 4, 4) == 90).all()


@pytest.mark.parametrize(
    "matrix", [np.zeros((2, 3)), np.array([[1.0, 2, 0], [2, 4, 0]]), np.array([[np.nan, 0, 0], [0, 1, 0]])]
)
def test_a_matrix_that_cannot_be_undone_is_refused(matrix: Array) -> None:
    with pytest.raises(ShapeError, match="matrix: expected"):
        warp(astronaut(), matrix, 8, 8)
