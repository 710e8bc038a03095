import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.data.importers import read_fer2013
from mien.errors import OptionError, ShapeError
from mien.geometry import apply
from mien.models.align import FER2013_TEMPLATE, crop, yaw
from mien.models.base import Boxes
from mien.models.detect import Mtcnn
from mien.zoo.card import InputSpec

SPEC = InputSpec(width=48, height=48, template=FER2013_TEMPLATE)


def one(box, points=None):
    made = np.full((1, 5, 2), np.nan) if points is None else np.asarray(points)[None]
    return Boxes(np.array([box], np.float32), np.ones(1, np.float32), made.astype(np.float32), np.full(1, -1, np.int16))


def smooth(height, width):
    """A picture whose colours say where they are: red grows to the right, green downwards."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / width, y * 255 / height, np.full_like(x, 90)], 2).astype(np.uint8)


def turn(degrees, scale, shift):
    a, b = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[a, -b, shift[0]], [b, a, shift[1]]])


@given(
    st.floats(-180, 180),
    st.floats(0.8, 6),
    st.tuples(st.floats(150, 250), st.floats(150, 250)),
    st.sampled_from([48, 64]),
)
def test_the_points_land_on_the_template(degrees, scale, shift, size):
    spec = InputSpec(width=size, height=size, template=FER2013_TEMPLATE)
    template = np.array(FER2013_TEMPLATE) * size - 0.5
    matrix = turn(degrees, scale, shift)
    picture = smooth(900, 900)
    cut = crop(picture, one([0, 0, 9, 9], apply(matrix, template)), spec)[0].astype(float)
    # What stands at a pixel of the crop is what stands where the matrix carries it, as far as that is in the picture.
    y, x = np.mgrid[4 : size - 4 : 5, 4 : size - 4 : 5]
    at = apply(matrix, np.stack([x, y], -1).reshape(-1, 2).astype(float))
    inside = ((at > 12) & (at < 887)).all(1)
    seen = cut[y.ravel(), x.ravel()][inside]
    np.testing.assert_allclose(seen[:, :2], at[inside] * 255 / 900, atol=2.5)


def test_a_crop_at_its_own_place_is_the_picture_itself():
    picture = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    template = np.array(FER2013_TEMPLATE) * 48 - 0.5
    found = crop(picture, one([0, 0, 9, 9], template + np.array([30, 20])), SPEC)
    np.testing.assert_array_equal(found[0], picture[20:68, 30:78])


def test_outside_the_picture_is_black():
    picture = np.full((40, 40, 3), 200, np.uint8)
    template = np.array(FER2013_TEMPLATE) * 48 - 0.5
    found = crop(picture, one([0, 0, 9, 9], template - 24), SPEC)[0]
    assert (found[:22, :22] == 0).all()
    assert (found[26:, 26:] == 200).all()
    assert (crop(picture, one([0, 0, 9, 9], template + 500), SPEC) == 0).all()


def test_a_box_without_points_is_cut_out_upright_with_its_own_framing():
    picture = smooth(400, 400)
    found = crop(picture, one([100, 120, 200, 220]), SPEC)[0].astype(float)
    # 0.98 of the side, 0.02 of the side higher: edges at x from 101 to 199, y from 119 to 217. The value of a pixel is
    # that of its centre, half a pixel after its edge, and was cut off to a whole number.
    step = (np.arange(48) + 0.5) * 98 / 48 - 0.5
    np.testing.assert_allclose(found[24, :, 0] + 0.5, (101 + step) * 255 / 400, atol=1.1)
    np.testing.assert_allclose(found[:, 24, 1] + 0.5, (119 + step) * 255 / 400, atol=1.1)


def test_points_in_one_place_fall_back_to_the_box():
    picture, box = smooth(200, 200), [50, 50, 120, 120]
    same = crop(picture, one(box, np.full((5, 2), 80.0)), SPEC)
    np.testing.assert_array_equal(same, crop(picture, one(box), SPEC))


@pytest.mark.parametrize("box", [[0, 0, 0, 0], [-5, -5, 1, 1], [9, 9, 5, 5], [900, 900, 990, 990]])
def test_odd_boxes_give_a_crop_all_the_same(box):
    assert crop(smooth(50, 60), one(box), SPEC).shape == (1, 48, 48, 3)


def test_no_faces_give_no_crops():
    assert crop(smooth(5, 5), Boxes.empty(), SPEC).shape == (0, 48, 48, 3)


def test_what_cannot_be_aligned_is_an_error():
    with pytest.raises(OptionError, match="no crop template"):
        crop(smooth(5, 5), Boxes.empty(), InputSpec(width=48, height=48))
    with pytest.raises(ShapeError, match="template"):
        crop(smooth(5, 5), Boxes.empty(), InputSpec(width=48, height=48, template=((0.1, 0.1),)))
    with pytest.raises(ShapeError, match="picture"):
        crop(np.zeros((5, 5), np.uint8), Boxes.empty(), SPEC)


def test_the_template_is_symmetric_and_ordered():
    points = np.array(FER2013_TEMPLATE)
    np.testing.assert_allclose(points[[1, 0, 2, 4, 3]] * [-1, 1] + [1, 0], points, atol=1e-9)
    assert points[0, 1] < points[2, 1] < points[3, 1]


# A head in units of the distance of the eyes, x to the right of the picture, y down, z towards the camera.
HEAD = np.array([[-0.5, 0, 0], [0.5, 0, 0], [0, 0.6, 0.4], [-0.4, 1.1, 0.02], [0.4, 1.1, 0.02]])


def seen(degrees, roll=0.0, scale=50.0, shift=(100.0, 90.0)):
    a = np.radians(degrees)
    turned = HEAD @ np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]]).T
    return apply(turn(roll, scale, shift), turned[:, :2])


def test_yaw_grows_with_the_angle_and_has_its_sign():
    found = yaw(np.stack([seen(d) for d in range(-60, 61, 10)]))
    assert found.dtype == np.float32
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(found, -found[::-1], atol=1e-6)
    assert found[6] == pytest.approx(0, abs=1e-6)
    assert 0.3 < found[9] < 0.62 < found[-1]


@given(st.floats(-60, 60), st.floats(-180, 180), st.floats(1, 500))
def test_yaw_does_not_depend_on_tilt_size_or_place(degrees, roll, scale):
    plain, moved = yaw(np.stack([seen(degrees), seen(degrees, roll, scale, (-40.0, 700.0))]))
    assert moved == pytest.approx(plain, abs=1e-4)


def test_yaw_of_missing_and_of_odd_points():
    assert np.isnan(yaw(np.full((2, 5, 2), np.nan, np.float32))).all()
    assert yaw(np.empty((0, 5, 2), np.float32)).shape == (0,)
    profile = seen(30)
    profile[1] = profile[0]
    assert abs(yaw(profile[None])[0]) <= 2
    with pytest.raises(ShapeError, match="points"):
        yaw(np.zeros((5, 2)))


@pytest.mark.shared
def test_the_template_is_where_another_split_of_fer2013_has_the_points(shared):
    faces = read_fer2013(shared / "fer2013" / "publictest.parquet")
    find, found = Mtcnn(min_face=80), []
    for face in faces.images[:400]:
        framed = cv2.copyMakeBorder(cv2.resize(face, (192, 192)), 64, 64, 64, 64, cv2.BORDER_REPLICATE)
        boxes = find(cv2.cvtColor(framed, cv2.COLOR_GRAY2RGB))
        if len(boxes) == 1:
            found.append((boxes.points[0] + 0.5 - 64) / 192)
    assert len(found) > 280
    middle = np.median(found, axis=0)
    both = (middle + (middle[[1, 0, 2, 4, 3]] * [-1, 1] + [1, 0])) / 2
    np.testing.assert_allclose(both, FER2013_TEMPLATE, atol=0.015)
