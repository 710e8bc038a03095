import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mien.errors import ShapeError
from mien.models.prepare import prepare
from mien.zoo.card import InputSpec

GREY = InputSpec(width=48, height=48, colour="grey")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, shape, np.uint8)


def test_a_grey_crop_of_the_right_size_is_only_scaled() -> None:
    crops = noise(3, 48, 48)
    out = prepare(crops, GREY)
    assert out.shape == (3, 1, 48, 48)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[:, 0], crops / 255, atol=1e-6)


@given(low=st.floats(-3, 3), width=st.floats(0.1, 300))
def test_black_and_white_go_where_the_card_says(low: float, width: float) -> None:
    spec = InputSpec(width=2, height=1, colour="grey", low=low, high=low + width)
    out = prepare(np.array([[[0, 255]]], np.uint8), spec)
    np.testing.assert_allclose(out.ravel(), [low, low + width], atol=1e-4)


@pytest.mark.parametrize("size", [(48, 48), (96, 96), (100, 80), (20, 30), (48, 49)])
@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_grey_given_as_rgb_gives_the_same_numbers(size: tuple[int, int], colour: str) -> None:
    crops = noise(2, *size)
    spec = InputSpec(width=48, height=48, colour=colour)
    as_rgb = prepare(np.repeat(crops[..., None], 3, axis=3), spec)
    np.testing.assert_allclose(prepare(crops, spec), as_rgb, atol=1e-6)


def test_grey_is_the_luma_that_pillow_makes() -> None:
    crop = noise(48, 48, 3)
    expected = np.asarray(Image.fromarray(crop).convert("L"), np.float32) / 255
    np.testing.assert_allclose(prepare(crop[None], GREY)[0, 0], expected, atol=1.01 / 255)


def test_halving_averages_areas() -> None:
    crops = noise(1, 96, 96)
    means = crops.reshape(1, 48, 2, 48, 2).mean((2, 4)) / 255
    np.testing.assert_allclose(prepare(crops, GREY)[:, 0], means, atol=0.51 / 255)


def test_rgb_keeps_the_order_of_its_channels() -> None:
    crop = np.zeros((1, 4, 4, 3), np.uint8)
    crop[..., 0] = 255
    out = prepare(crop, InputSpec(width=4, height=4, low=-1, high=1))
    assert out.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(out[0, :, 0, 0], [1, -1, -1], atol=1e-6)


def test_width_and_height_are_not_swapped() -> None:
    spec = InputSpec(width=20, height=10, colour="grey")
    assert prepare(noise(1, 40, 40), spec).shape == (1, 1, 10, 20)


@pytest.mark.parametrize("shape", [(0, 48, 48), (0, 60, 60, 3)])
def test_no_crops_give_no_rows(shape: tuple[int, ...]) -> None:
    assert prepare(np.empty(shape, np.uint8), GREY).shape == (0, 1, 48, 48)


@pytest.mark.parametrize(
    "crops",
    [
        np.zeros((48, 48), np.uint8),
        np.zeros((1, 48, 48, 4), np.uint8),
        np.zeros((1, 48, 48)),
        np.zeros((1, 0, 5), np.uint8),
    ],
    ids=["one crop", "alpha", "float", "no pixel"],
)
def test_other_shapes_are_named(crops: np.ndarray) -> None:
    with pytest.raises(ShapeError, match=r"crops: expected \(N, H, W, 3\) or \(N, H, W\) uint8, got \("):
        prepare(crops, GREY)
