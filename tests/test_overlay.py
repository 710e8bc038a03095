from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab
from tables import portrait

from mien.errors import ShapeError
from mien.image import Picture
from mien.labels import EIGHT, SEVEN, THREE
from mien.render.overlay import annotate
from mien.render.palette import BLACK, COLOURS, GREY, RGB, WHITE, colours, contrast, ink, luminance
from mien.results import Faces, Reason

# Viénot, Brettel and Mollon, "Digital video colourmaps for checking the legibility of displays by dichromats" (1999):
# linear RGB to the responses of the three cones, and what is left of them where one kind of cone is missing.
CONES = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
EYES = {
    "normal": np.eye(3),
    "protanopia": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "deuteranopia": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
}


def seen(colour: RGB, eyes: str) -> NDArray[np.float64]:
    """CIELAB of a colour as these eyes see it."""
    encoded = np.array(colour) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    left = np.clip(np.linalg.inv(CONES) @ EYES[eyes] @ CONES @ linear, 0, 1)
    again = np.where(left <= 0.0031308, left * 12.92, 1.055 * left ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(again[None, None])[0, 0])


def difference(one: RGB, two: RGB, eyes: str) -> float:
    return float(deltaE_ciede2000(seen(one, eyes), seen(two, eyes)))  # type: ignore[no-untyped-call]  # scikit-image has no types


# The palette


@pytest.mark.parametrize("eyes", EYES)
def test_colours_are_told_apart(eyes: str) -> None:
    for (a, one), (b, two) in combinations({**COLOURS, "none": GREY}.items(), 2):
        assert difference(one, two, eyes) > 14, (a, b)


def test_red_and_green_are_one_to_eyes_that_lack_a_cone() -> None:
    # Shows that the simulation above can fail a palette.
    red, green = (190, 60, 40), (98, 106, 43)
    assert difference(red, green, "normal") > 30
    assert difference(red, green, "deuteranopia") < 10


def test_ink_is_read_on_every_colour() -> None:
    for colour in (*COLOURS.values(), GREY):
        assert contrast(ink(colour), colour) >= 4.5


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_ink_is_read_on_any_colour(colour: RGB) -> None:
    assert contrast(ink(colour), colour) >= 4.5


def test_contrast_of_known_colours() -> None:
    assert luminance(WHITE) == pytest.approx(1)
    assert contrast(BLACK, WHITE) == contrast(WHITE, BLACK) == pytest.approx(21)
    assert contrast((118, 118, 118), WHITE) == pytest.approx(4.54, abs=0.005)
    assert contrast((0, 0, 255), WHITE) == pytest.approx(8.59, abs=0.005)


def test_every_label_has_a_colour() -> None:
    assert tuple(COLOURS) == EIGHT.labels
    assert len({*COLOURS.values(), GREY}) == 9
    assert colours(SEVEN.labels) == {label: COLOURS[label] for label in SEVEN.labels}
    three = colours(THREE.labels)
    assert list(three) == list(THREE.labels)
    assert len(set(three.values())) == 3
    assert three["happy"] == COLOURS["happy"]
    assert colours(("Happiness", "smirk"))["Happiness"] == COLOURS["happy"]
    many = colours((*EIGHT.labels, "calm", *map(str, range(17))))
    assert len(many) == 26
    assert set(many.values()) == set(COLOURS.values())


# The picture


def ground(height: int, width: int) -> Picture:
    """A coloured ramp on which no pixel is grey or of a palette colour."""
    rows, columns = np.mgrid[:height, :width]
    return np.dstack([rows % 80 + 10, columns % 80 + 10, np.full_like(rows, 99)]).astype(np.uint8)


def crowd(n: int, *, label: str = "happy", size: float = 40, **columns: Any) -> Faces:
    """Faces in rows of ten, 60 px apart."""
    rows = []
    for i in range(n):
        x, y = 20 + 60 * (i % 10), 40 + 80 * (i // 10)
        rows.append(portrait(label, face=i, box=[x, y, x + size, y + size * 1.25], **columns))
    return Faces.concat(rows)


def changed(before: Picture, after: Picture) -> NDArray[np.bool_]:
    return np.asarray((before != after).any(2))


def share(picture: Picture, colour: RGB) -> float:
    return float((picture == np.array(colour, np.uint8)).all(2).mean())


def readable(plate: Picture, colour: RGB) -> float:
    """Share of pixels of the text lines that stand out from the plate by 4.5:1."""
    lines = plate[: int(0.8 * len(plate))]  # below are the line and the bar
    found, counts = np.unique(lines.reshape(-1, 3), axis=0, return_counts=True)
    out = [contrast((int(r), int(g), int(b)), colour) >= 4.5 * 0.99 for r, g, b in found]
    return float(counts[out].sum() / counts.sum())


@pytest.mark.parametrize(("height", "width"), [(360, 480), (720, 1280), (2160, 3840)])
@pytest.mark.parametrize("label", EIGHT.labels)
def test_a_named_face(label: str, height: int, width: int) -> None:
    picture = ground(height, width)
    box = np.array([0.4 * width, 0.4 * height, 0.6 * width, 0.8 * height]).round()
    out = annotate(picture, portrait(label, box=box))
    assert out.shape == picture.shape
    x1, y1, x2, y2 = box.astype(int)
    for x, y in ((x1, y1), (x2 - 1, y1), (x1, y2 - 1), (x2 - 1, y2 - 1), (x1, (y1 + y2) // 2)):
        assert tuple(out[y, x]) == COLOURS[label]
    touched = changed(picture, out)
    inside = np.zeros_like(touched)
    inside[y1:y2, x1:x2] = True
    rows, columns = np.nonzero(touched & ~inside)
    # The plate stands on the box, and is as wide as a line of some letters.
    assert y1 > rows.min() >= y1 - 0.12 * height
    assert rows.max() == y1 - 1
    assert columns.min() == x1
    assert columns.max() <= x1 + 0.3 * width
    plate = out[rows.min() : y1, x1 : columns.max() + 1]
    assert share(plate, COLOURS[label]) > 0.3
    assert readable(plate, COLOURS[label]) > 0.07
    middle = touched[y1 + (y2 - y1) // 3 : y2 - (y2 - y1) // 3, x1 + (x2 - x1) // 3 : x2 - (x2 - x1) // 3]
    assert not middle.any()


def test_letters_grow_with_the_picture() -> None:
    heights = []
    for width in (480, 1280, 3840):
        picture = ground(width * 9 // 16, width)
        out = annotate(picture, Faces.missing("a", Reason.NO_FACE))
        heights.append(int(np.nonzero(changed(picture, out))[0].max()) + 1)
    assert 14 <= heights[0] <= 24
    assert heights[0] < heights[1] < heights[2] <= 0.05 * 3840


def test_the_input_is_not_touched() -> None:
    picture = ground(240, 320)
    before = picture.copy()
    out = annotate(picture, portrait(), note="00:01")
    np.testing.assert_array_equal(picture, before)
    assert changed(picture, out).any()
    picture.flags.writeable = False
    np.testing.assert_array_equal(annotate(picture, portrait(), note="00:01"), out)
    turned = np.ascontiguousarray(picture[:, ::-1])[:, ::-1]  # a view that is not contiguous
    np.testing.assert_array_equal(annotate(turned, portrait(), note="00:01"), out)


def test_a_face_without_a_name_is_grey_and_says_why() -> None:
    picture = ground(360, 480)
    faces = portrait(box=[200, 100, 300, 220], expression=np.nan, reason=int(Reason.BLURRED))
    out = annotate(picture, faces)
    assert tuple(out[100, 200]) == GREY
    assert share(out[80:100, 200:280], GREY) > 0.3
    assert not any(share(out, c) for c in COLOURS.values())
    silent = annotate(picture, faces.with_(reason=np.zeros(1, np.uint16)))
    assert not changed(picture, silent)[:100].any()
    low = annotate(picture, portrait(box=[200, 100, 300, 220], reason=int(Reason.LOW_SCORE)))
    assert tuple(low[100, 200]) == GREY


@pytest.mark.parametrize("reason", [Reason.NO_FACE, Reason.UNREADABLE, Reason.NO_FACE | Reason.UNREADABLE])
def test_a_picture_without_a_face_says_so(reason: Reason) -> None:
    picture = ground(360, 480)
    out = annotate(picture, Faces.missing("a", reason))
    rows, columns = np.nonzero(changed(picture, out))
    assert (rows.min(), columns.min()) == (0, 0)
    assert rows.max() < 40
    assert columns.max() < 200
    lines = 1 + (reason == Reason.NO_FACE | Reason.UNREADABLE)
    assert 14 * lines <= rows.max() + 1 <= 20 * lines
    assert share(out[: rows.max(), : columns.max()], GREY) > 0.3


def test_a_note_stands_above_the_rest() -> None:
    picture = ground(360, 480)
    note = annotate(picture, Faces.empty(), note="00:00:01.200")
    both = annotate(picture, Faces.missing("a", Reason.NO_FACE), note="00:00:01.200")
    high, higher = (int(np.nonzero(changed(picture, p))[0].max()) for p in (note, both))
    assert higher > high + 8
    assert not changed(picture, annotate(picture, Faces.empty())).any()


def test_letters_that_opencv_lacks() -> None:
    picture = ground(360, 480)
    np.testing.assert_array_equal(
        annotate(picture, Faces.empty(), note="Zoé 🎬\n"), annotate(picture, Faces.empty(), note="Zoe ??")
    )


def test_points_are_dots() -> None:
    picture = ground(360, 480)
    points = np.array([[230, 140], [270, 140], [250, 160], [235, 190], [np.nan, 190]])
    out = annotate(picture, portrait(box=[200, 100, 300, 220], points=points))
    for x, y in points[:4].astype(int):
        assert tuple(out[y, x]) == COLOURS["happy"]
    touched = changed(picture, out)[105:215, 205:295]
    assert 4 * 9 <= touched.sum() <= 4 * 64


def test_the_bar_shows_the_share_of_every_label() -> None:
    picture = ground(720, 1280)
    scores = np.array([0.2, 0, 0, 0.5, 0, 0, 0.3, 0], np.float32)
    out = annotate(picture, portrait(box=[400, 200, 800, 600], expression=scores[None]))
    row = out[200 - 2]
    x1, x2 = np.flatnonzero(changed(picture, out)[200 - 2])[[0, -1]]
    width = x2 - x1 + 1
    for label, part in (("angry", 0.2), ("happy", 0.5), ("neutral", 0.3)):
        found = np.flatnonzero((row == COLOURS[label]).all(1))
        assert len(found) == pytest.approx(part * width, abs=1.5)
    assert (row[x1] == COLOURS["angry"]).all()
    assert (row[x2] == COLOURS["neutral"]).all()


def test_small_faces_have_small_labels() -> None:
    picture = ground(480, 640)
    areas = []
    for side in (24, 48, 160):
        out = annotate(picture, portrait(box=[300, 200, 300 + side, 200 + side]))
        touched = changed(picture, out)
        touched[200 : 200 + side, 300 : 300 + side] = False
        areas.append(int(touched.sum()))
    assert areas[0] <= areas[1] < areas[2]
    assert areas[0] < 64 * 20


def test_labels_keep_clear_of_each_other() -> None:
    picture = ground(480, 640)
    faces = crowd(50, size=44)
    together = annotate(picture, faces)
    alone = sum(int(changed(picture, annotate(picture, face)).sum()) for face in faces)
    # Were they to lie over each other, together they would cover less than one by one.
    assert changed(picture, together).sum() > 0.93 * alone
    row = Faces.concat(portrait("surprise", face=i, box=[40 + 34 * i, 200, 68 + 34 * i, 235]) for i in range(4))
    alone = sum(int(changed(picture, annotate(picture, face)).sum()) for face in row)
    assert changed(picture, annotate(picture, row)).sum() > 0.93 * alone


def test_reasons_yield_to_expressions_where_there_is_no_room() -> None:
    picture = ground(60, 80)
    named = portrait(box=[2, 20, 78, 58])
    silent = portrait(box=[30, 30, 50, 50], face=1, expression=np.nan, reason=int(Reason.TOO_SMALL | Reason.BLURRED))
    out = annotate(picture, Faces.concat([silent, named]))
    without = annotate(picture, Faces.concat([silent.with_(reason=np.zeros(1, np.uint16)), named]))
    np.testing.assert_array_equal(out, without)


@pytest.mark.parametrize("where", ["above", "below", "left", "right", "far"])
def test_faces_beyond_the_border(where: str) -> None:
    picture = ground(240, 320)
    x, y = {"above": (100, -60), "below": (100, 200), "left": (-60, 100), "right": (280, 100), "far": (5e8, -1e30)}[
        where
    ]
    out = annotate(picture, portrait(box=[x, y, x + 80, y + 80], points=np.full((5, 2), x + 40)))
    assert changed(picture, out).any() == (where != "far")
    if where != "far":
        # The label is whole: as many of its pixels as for a face in the middle.
        middle = annotate(picture, portrait(box=[100, 100, 180, 180]))
        yellow = [int((p == COLOURS["happy"]).all(2).sum()) for p in (out, middle)]
        assert yellow[0] > 0.6 * yellow[1]


@pytest.mark.parametrize(
    "box", [[np.nan] * 4, [1, 2, np.nan, 4], [50, 50, 50, 90], [90, 90, 50, 50], [np.inf, 0, 1, 1]]
)
def test_boxes_that_are_none_are_not_drawn(box: list[float]) -> None:
    picture = ground(100, 100)
    np.testing.assert_array_equal(annotate(picture, portrait(box=box)), picture)


@settings(max_examples=60)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.lists(st.lists(st.floats(-200, 200, width=32) | st.floats(width=32), min_size=4, max_size=4), max_size=4),
    st.sampled_from([0, 4, 256, 508]),
)
def test_any_size_and_any_boxes(height: int, width: int, boxes: list[list[float]], reason: int) -> None:
    picture = ground(height, width)
    parts = [portrait(face=i, box=b, points=[b[:2]] * 5, reason=reason) for i, b in enumerate(boxes)]
    out = annotate(picture, Faces.concat(parts), note="a note")
    assert out.shape == picture.shape
    assert out.dtype == np.uint8


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)]
)
def test_pictures_of_another_shape_are_refused(picture: NDArray[Any]) -> None:
    with pytest.raises(ShapeError, match="picture: expected"):
        annotate(picture, Faces.empty())


def test_the_ground_holds_no_colour_of_the_palette() -> None:
    picture = ground(720, 1280)
    assert not any(share(picture, c) for c in (*COLOURS.values(), GREY, BLACK, WHITE))
