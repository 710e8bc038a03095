from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage.transform import SimilarityTransform

from mien.errors import ShapeError
from mien.geometry import apply, area, intersection, invert, iou, nms, overlap_smaller, same_face, similarity

Array = NDArray[Any]

coordinates = st.floats(-1e4, 1e4, width=32)
counts = st.integers(0, 12)


@st.composite
def some_boxes(draw: st.DrawFn, n: st.SearchStrategy[int] = counts) -> Array:
    """Boxes of any place and size, some of them empty."""
    many = draw(n)
    corner = draw(arrays(np.float32, (many, 2), elements=coordinates))
    side = draw(arrays(np.float32, (many, 2), elements=st.floats(0, 1e4, width=32)))
    return np.hstack([corner, corner + side])


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[Array, Array]:
    """Boxes on a small grid, so that overlaps and equal scores are frequent."""
    n = draw(counts)
    corner = draw(arrays(np.int64, (n, 2), elements=st.integers(0, 12)))
    side = draw(arrays(np.int64, (n, 2), elements=st.integers(0, 12)))
    scores = draw(arrays(np.int64, (n,), elements=st.integers(0, 5))) / 5
    return np.hstack([corner, corner + side]).astype(np.float32), scores.astype(np.float32)


def pixels_in_common(a: Array, b: Array) -> int:
    """Count, on a raster, what boxes of whole numbers share: slow and plainly right."""
    raster = np.zeros((2, 64, 64), bool)
    for layer, (x1, y1, x2, y2) in zip(raster, np.stack([a, b]).astype(int), strict=True):
        layer[y1:y2, x1:x2] = True
    return int((raster[0] & raster[1]).sum())


def naive_nms(boxes: Array, scores: Array, threshold: float, by: str) -> list[int]:
    """Suppress pair by pair, in exact arithmetic on whole numbers."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i)):
        for k in kept:
            common = pixels_in_common(boxes[i], boxes[k])
            own, other = pixels_in_common(boxes[i], boxes[i]), pixels_in_common(boxes[k], boxes[k])
            whole = own + other - common if by == "union" else min(own, other)
            if common > threshold * whole:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("function", [area, lambda b: intersection(b, b), lambda b: nms(b, np.ones(1), threshold=0.5)])
@pytest.mark.parametrize("shape", [(4,), (1, 5), (1, 2, 2)])
def test_boxes_of_another_shape_are_named(function: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"boxes: expected \(N, 4\) x1 y1 x2 y2, got "):
        function(np.zeros(shape))


def test_area_of_an_inverted_box_is_none() -> None:
    assert area(np.array([[0.0, 0, 2, 3], [2, 0, 0, 3], [5, 5, 5, 9]])).tolist() == [6, 0, 0]


@given(scored_boxes())
def test_intersection_and_area_against_counted_pixels(scored: tuple[Array, Array]) -> None:
    boxes = scored[0]
    counted = [[pixels_in_common(a, b) for b in boxes] for a in boxes]
    np.testing.assert_array_equal(intersection(boxes, boxes), np.reshape(counted, (len(boxes), len(boxes))))
    np.testing.assert_array_equal(area(boxes), np.diag(intersection(boxes, boxes)))


@pytest.mark.parametrize("function", [iou, overlap_smaller])
@given(a=some_boxes(), b=some_boxes())
def test_overlaps_are_shares_and_symmetric(function: Any, a: Array, b: Array) -> None:
    shares = function(a, b)
    assert shares.shape == (len(a), len(b))
    assert ((shares >= 0) & (shares <= 1)).all()
    np.testing.assert_array_equal(shares, function(b, a).T)


@given(some_boxes(st.just(1)))
def test_a_box_overlaps_itself_wholly_or_is_empty(box: Array) -> None:
    expected = float(area(box)[0] > 0)
    assert iou(box, box).item() == expected
    assert overlap_smaller(box, box).item() == expected


def test_overlap_of_whole_numbers_is_a_fraction() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2]])
    np.testing.assert_allclose(iou(boxes, boxes), [[1, 1 / 3], [1 / 3, 1]])


@pytest.mark.parametrize("by", ["union", "smaller"])
@given(scored=scored_boxes(), threshold=st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_nms_against_a_naive_loop(
    by: Literal["union", "smaller"], scored: tuple[Array, Array], threshold: float
) -> None:
    boxes, scores = scored
    assert nms(boxes, scores, threshold=threshold, by=by).tolist() == naive_nms(boxes, scores, threshold, by)


def test_nms_of_nothing_is_nothing() -> None:
    kept = nms(np.empty((0, 4)), np.empty(0), threshold=0.5)
    assert kept.dtype == np.intp
    assert len(kept) == 0


@pytest.mark.parametrize("function", [same_face, lambda b, s: nms(b, s, threshold=0.5)])
def test_one_score_a_box(function: Any) -> None:
    with pytest.raises(ShapeError, match=r"scores: expected \(2,\), one a box, got \(3,\)"):
        function(np.zeros((2, 4)), np.zeros(3))


FACE = (100.0, 100, 200, 200)


@pytest.mark.parametrize(
    ("other", "kept"),
    [
        pytest.param((100, 100, 200, 200), 1, id="the same box"),
        pytest.param((130, 130, 170, 170), 1, id="a small one in the middle"),
        pytest.param((105, 150, 195, 240), 2, id="a chin that overlaps by half"),
        pytest.param((150, 150, 210, 210), 1, id="a corner that lies in it by more than 0.6"),
        pytest.param((120, 115, 230, 225), 1, id="shifted by less than 0.3 of the side"),
        pytest.param((190, 100, 290, 200), 2, id="a head beside it that touches"),
        pytest.param((100, 180, 200, 280), 2, id="a head below it"),
        pytest.param((180, 100, 220, 140), 2, id="a child at the edge, half covered"),
        pytest.param((400, 400, 500, 500), 2, id="far away"),
    ],
)
@pytest.mark.parametrize("best", [0, 1])
def test_two_boxes_on_one_face_become_one(other: tuple[float, ...], kept: int, best: int) -> None:
    scores = np.array([0.7, 0.7])
    scores[best] = 0.9
    assert same_face(np.array([FACE, other]), scores).tolist() == [best, 1 - best][:kept]


def test_nms_alone_would_leave_two_boxes_on_one_face() -> None:
    boxes, scores = np.array([FACE, (130, 130, 170, 170)]), np.array([0.9, 0.8])
    assert len(nms(boxes, scores, threshold=0.4)) == 2
    assert len(same_face(boxes, scores)) == 1


def test_same_face_holds_its_options() -> None:
    boxes, scores = np.array([FACE, (120, 115, 230, 225)]), np.array([0.9, 0.8])
    assert len(same_face(boxes, scores, reach=0.1, cover=1.0)) == 2
    assert len(same_face(boxes, scores, reach=0.1, cover=0.5)) == 1
    assert len(same_face(np.empty((0, 4)), np.empty(0))) == 0


@given(scored_boxes())
def test_same_face_keeps_the_best_and_orders_by_score(scored: tuple[Array, Array]) -> None:
    boxes, scores = scored
    kept = same_face(boxes, scores)
    assert (len(kept) == 0) == (len(boxes) == 0)
    if len(kept):
        assert scores[kept[0]] == scores.max()
        assert all(a >= b for a, b in pairwise(scores[kept]))
        assert same_face(boxes[kept], scores[kept]).tolist() == list(range(len(kept)))


turns = st.tuples(st.floats(-np.pi, np.pi), st.floats(0.05, 20), st.floats(-500, 500), st.floats(-500, 500)).map(
    lambda t: SimilarityTransform(rotation=t[0], scale=t[1], translation=t[2:])
)


def cloud(seed: int, n: int = 5) -> Array:
    return np.random.default_rng(seed).normal(50, 20, (n, 2))


@given(turn=turns, seed=st.integers(0, 999), n=st.integers(2, 9))
def test_similarity_recovers_a_transform(turn: SimilarityTransform, seed: int, n: int) -> None:
    source = cloud(seed, n)
    matrix = similarity(source, turn(source))
    np.testing.assert_allclose(matrix, turn.params[:2], atol=1e-6 * turn.scale * 500)
    np.testing.assert_allclose(apply(matrix, source), turn(source), atol=1e-6)


@given(seed=st.integers(0, 999))
def test_similarity_is_the_least_squares_fit(seed: int) -> None:
    """Against the general solver of the same four unknowns."""
    source, target = cloud(seed), cloud(seed + 1)
    x, y, one, none = *source.T, np.ones(5), np.zeros(5)
    design = np.vstack([np.column_stack([x, -y, one, none]), np.column_stack([y, x, none, one])])
    a, b, tx, ty = np.linalg.lstsq(design, target.T.ravel(), rcond=None)[0]
    np.testing.assert_allclose(similarity(source, target), [[a, -b, tx], [b, a, ty]], atol=1e-9)


def test_similarity_of_one_repeated_point_is_a_shift() -> None:
    matrix = similarity(np.ones((3, 2)), np.array([[4.0, 5], [6, 7], [5, 6]]))
    np.testing.assert_allclose(matrix, [[1, 0, 4], [0, 1, 5]])


@pytest.mark.parametrize(
    ("source", "target"),
    [((5, 2), (4, 2)), ((5, 3), (5, 3)), ((1, 2), (1, 2)), ((10,), (10,))],
)
def test_similarity_needs_two_equal_lists_of_points(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="points: expected two arrays"):
        similarity(np.zeros(source), np.zeros(target))


@given(turn=turns, seed=st.integers(0, 999))
def test_apply_and_invert_undo_each_other(turn: SimilarityTransform, seed: int) -> None:
    matrix, points = turn.params[:2], cloud(seed, 6).reshape(2, 3, 2)
    np.testing.assert_allclose(apply(invert(matrix), apply(matrix, points)), points, atol=1e-6)
    np.testing.assert_allclose(apply(matrix, apply(invert(matrix), points)), points, atol=1e-6)


def test_what_is_squeezed_to_a_line_cannot_be_undone() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        invert(np.array([[1.0, 0, 5], [0, 0, 5]]))
