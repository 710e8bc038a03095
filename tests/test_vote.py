"""Windows around a face, and what they say together."""

import numpy as np
import pytest
from fakes import TEMPLATE, boxes

from mien.errors import OptionError, ShapeError
from mien.models.align import crop
from mien.models.base import Boxes
from mien.models.expression import BATCH, Expression
from mien.models.prepare import prepare
from mien.models.vote import GRID, Grid, crops_at, moved, pictures_at, vote, window_crops, windows
from mien.zoo.card import InputSpec

SPEC = InputSpec(width=48, height=48, template=TEMPLATE)
STILL = 22


class Brightness:
    """Three classes by the mean of a crop; counts its calls."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, crops: np.ndarray, /) -> np.ndarray:
        self.calls.append(len(crops))
        light = crops.mean((1, 2)) / 255
        return np.stack([light / 2, light / 2, 1 - light], 1).astype(np.float32)


def gradient(width: int = 200, height: int = 160) -> np.ndarray:
    """A picture whose red says x and whose green says y, so that a crop tells where it was cut."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 90)], 2).astype(np.uint8)


def pointless(box: Boxes) -> Boxes:
    return Boxes(box.box, box.score, np.full_like(box.points, np.nan), box.eyes)


def test_the_default_is_45_windows_with_the_face_itself_in_the_middle() -> None:
    moves = GRID.moves()
    assert moves.shape == (45, 3)
    assert len(GRID) == 45 <= BATCH
    assert len(np.unique(moves, axis=0)) == 45
    np.testing.assert_array_equal(moves[STILL], [0, 0, 1])
    np.testing.assert_allclose(moves.mean(0), [0, 0, 1], atol=1e-12)


@pytest.mark.parametrize("wrong", [{"shifts": ()}, {"scales": ()}, {"scales": (1.0, 0.0)}, {"scales": (-1.0,)}])
def test_a_grid_without_windows_is_refused(wrong: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(OptionError, match="scales above 0"):
        Grid(**wrong)


def test_the_vote_against_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (5, 45, 4, 4), np.uint8)
    scores = rng.dirichlet(np.ones(7), 225).astype(np.float32)
    found = vote(lambda c: scores, crops)
    for face in range(5):
        total = [sum(float(scores[face * 45 + w, k]) for w in range(45)) for k in range(7)]
        assert found.label[face] == total.index(max(total))
        assert found.score[face] == pytest.approx(max(total) / 45, rel=1e-6)
        np.testing.assert_allclose(found.mean[face], np.array(total) / 45, rtol=1e-6)
    np.testing.assert_allclose(found.mean.sum(1), 1, atol=1e-6)
    assert found.score.min() > 0
    assert found.score.max() <= 1


def test_the_score_is_divided_by_the_number_of_windows() -> None:
    """Unanimous windows give 1, whatever their number; the field's first program divided 45 by 17."""
    sure = np.eye(3, dtype=np.float32)[1]
    for count in (1, 17, 45):
        found = vote(lambda c: np.tile(sure, (len(c), 1)), np.zeros((2, count, 3, 3), np.uint8))
        np.testing.assert_array_equal(found.score, 1)
        np.testing.assert_array_equal(found.label, 1)


def test_all_windows_of_all_faces_are_one_call() -> None:
    model = Brightness()
    vote(model, window_crops(np.zeros((3, 12, 12), np.uint8)))
    assert model.calls == [135]


def test_no_faces_and_ties() -> None:
    none = vote(Brightness(), np.empty((0, 45, 8, 8), np.uint8))
    assert none.mean.shape == (0, 3)
    assert none.label.shape == none.score.shape == (0,)
    assert vote(Brightness(), np.full((1, 4, 8, 8), 255, np.uint8)).label[0] == 0


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 8, 8), np.uint8), np.zeros((1, 0, 8, 8), np.uint8), np.zeros((1, 2, 8, 8), np.float32)]
)
def test_windows_of_another_shape_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="windows"):
        vote(Brightness(), wrong)


def test_a_classifier_that_answers_too_little_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(4, K\)"):
        vote(lambda c: np.ones((1, 3), np.float32), np.zeros((1, 4, 8, 8), np.uint8))


@pytest.mark.parametrize("points", [True, False])
def test_the_window_in_the_middle_is_the_aligned_crop(points: bool) -> None:
    face = boxes((40, 30, 120, 110), (90, 20, 150, 95))
    face = face if points else pointless(face)
    cut = windows(gradient(), face, SPEC)
    assert cut.shape == (2, 45, 48, 48, 3)
    plain = crop(gradient(), face, SPEC)
    assert np.abs(cut[:, STILL].astype(int) - plain).max() <= 1


@pytest.mark.parametrize("points", [True, False])
def test_a_moved_window_shows_what_lies_there(points: bool) -> None:
    face = boxes((60, 40, 140, 120))
    face = face if points else pointless(face)
    at = np.array([[(0, 0, 1), (0.1, 0, 1), (0, -0.1, 1), (0, 0, 1.1), (0, 0, 0.9)]], np.float64)
    cut = pictures_at(gradient(), face, SPEC, at)[0].astype(np.float64)
    x, y = cut[..., 0].mean((1, 2)), cut[..., 1].mean((1, 2))
    width = np.ptp(cut[:, 24, :, 0], axis=1)
    np.testing.assert_allclose(x - x[0], [0, 8, 0, 0, 0], atol=0.3)
    np.testing.assert_allclose(y - y[0], [0, 0, -8, 0, 0], atol=0.3)
    np.testing.assert_allclose(width / width[0], [1, 1, 1, 1.1, 0.9], atol=0.03)


def test_windows_of_a_tilted_face_move_along_its_own_axes() -> None:
    upright = boxes((60, 40, 140, 120))
    centre, turn = np.array([99.5, 79.5]), np.array([[0.0, -1], [1, 0]])
    tilted = ((upright.points[0] - centre) @ turn.T + centre).astype(np.float32)
    face = Boxes(upright.box, upright.score, tilted[None], upright.eyes)
    at = np.array([[(0, 0, 1), (0.1, 0, 1)]], np.float64)
    cut = pictures_at(gradient(), face, SPEC, at)[0].astype(np.float64)
    change = (cut[1] - cut[0]).mean((0, 1))
    np.testing.assert_allclose(change, [0, 8, 0], atol=0.3)


def test_ready_crops_repeat_their_edge_and_stay_themselves_where_not_moved() -> None:
    crops = np.random.default_rng(1).integers(0, 256, (2, 20, 20), np.uint8)
    cut = crops_at(crops, np.tile([(0, 0, 1), (0.5, 0, 1), (0, 0.25, 1)], (2, 1, 1)).astype(float))
    np.testing.assert_array_equal(cut[:, 0], crops)
    np.testing.assert_array_equal(cut[:, 1, :, :10], crops[:, :, 10:])
    np.testing.assert_array_equal(cut[:, 1, :, 10:], np.repeat(crops[:, :, -1:], 10, axis=2))
    np.testing.assert_array_equal(cut[:, 2, :15], crops[:, 5:])
    assert window_crops(np.zeros((3, 9, 9, 3), np.uint8)).shape == (3, 45, 9, 9, 3)


def test_scaling_a_ready_crop_keeps_its_middle() -> None:
    ramp = np.tile(np.arange(0, 240, 10, np.uint8), (24, 1))[None]
    wide, close = crops_at(ramp, np.array([[(0, 0, 1.2), (0, 0, 0.8)]]))[0].astype(float)
    for cut, scale in ((wide, 1.2), (close, 0.8)):
        assert cut.mean() == pytest.approx(ramp.mean(), abs=1)
        assert np.diff(cut[12, 8:16]).mean() == pytest.approx(10 * scale, abs=0.3)


def test_moves_inside_moves() -> None:
    rng = np.random.default_rng(2)
    ramp = np.tile(np.linspace(0, 250, 60).astype(np.uint8), (60, 1))[None]
    first, then = np.array([0.05, 0, 1.1]), np.array([0.04, 0.02, 0.9])
    twice = crops_at(crops_at(ramp, first[None, None])[0], then[None, None])
    once = crops_at(ramp, moved(first, then)[None, None])
    assert np.abs(twice.astype(int) - once)[..., 15:45].max() <= 2
    still = np.array([0.0, 0, 1])
    any_move = rng.uniform(0.5, 1.5, (4, 3))
    np.testing.assert_allclose(moved(any_move, still), any_move)
    np.testing.assert_allclose(moved(still, any_move), any_move)


def test_wrong_moves_and_crops_are_refused() -> None:
    with pytest.raises(ShapeError, match="one row a face"):
        crops_at(np.zeros((2, 8, 8), np.uint8), np.zeros((1, 3, 3)))
    with pytest.raises(ShapeError, match="crops"):
        crops_at(np.zeros((2, 8, 8), np.float32), np.zeros((2, 3, 3)))
    with pytest.raises(ShapeError, match="moves"):
        pictures_at(gradient(), boxes((0, 0, 9, 9)), SPEC, np.zeros((1, 2, 2)))


def test_the_bundled_model_reads_45_windows_in_one_run_and_always_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    model, runs = Expression(threads=1), []

    def counted(crops: np.ndarray, spec: InputSpec) -> np.ndarray:
        runs.append(len(crops))
        return prepare(crops, spec)

    monkeypatch.setattr("mien.models.expression.prepare", counted)
    cut = window_crops(np.random.default_rng(3).integers(0, 256, (1, 48, 48), np.uint8))
    first, again = vote(model, cut), vote(model, cut)
    assert runs == [45, 45]
    np.testing.assert_array_equal(first.mean, again.mean)
    single = np.concatenate([model(cut[0, i : i + 1]) for i in range(45)]).mean(0)
    np.testing.assert_allclose(first.mean[0], single, atol=1e-5)
    assert first.mean.sum() == pytest.approx(1, abs=1e-5)
