"""How often labels flip, for classifiers whose flips can be worked out."""

import json

import numpy as np
import pytest
from fakes import TEMPLATE, boxes

from mien.errors import ModelError, OptionError, ShapeError
from mien.evaluate.jitter import MOVES, Flips, Moves, measure, measure_pictures
from mien.models.align import crop
from mien.models.base import Boxes
from mien.models.vote import Grid, crops_at
from mien.zoo.card import InputSpec, ModelCard

SMALL = Grid(shifts=(-0.05, 0.0, 0.05), scales=(1.0,))


class Carded:
    """`middle` with a card."""

    def __init__(self, spec: InputSpec | None = None) -> None:
        self.card = ModelCard(
            name="middle", task="expression", file="", sha256="", size=0, licence="", origin="", data="", input=spec
        )

    def __call__(self, crops: np.ndarray, /) -> np.ndarray:
        return middle(crops)


def middle(crops: np.ndarray) -> np.ndarray:
    """The second class in the measure in which the crop's middle column is bright."""
    grey = crops if crops.ndim == 3 else crops[..., 0]
    bright = grey[:, :, grey.shape[2] // 2].mean(1) / 255
    return np.stack([1 - bright, bright], 1).astype(np.float32)


def constant(crops: np.ndarray) -> np.ndarray:
    return np.tile(np.array([0.3, 0.7], np.float32), (len(crops), 1))


def noise(n: int = 30, side: int = 20) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side), np.uint8)


def edges(n: int = 40, *, at: int = 11) -> np.ndarray:
    """Crops 20 wide: black to the left of a column and white from it on."""
    crops = np.zeros((n, 20, 20), np.uint8)
    crops[:, :, at:] = 255
    return crops


def test_a_constant_answer_never_flips() -> None:
    found = measure(constant, noise(), trials=2, voted_faces=5)
    assert [m.move for m in found.moves] == list(MOVES) == ["shift", "scale", "both"]
    for m in found.moves:
        assert (m.flips.value, m.unstable.value, m.change, m.voted_change) == (0, 0, 0, 0)
        assert m.voted is not None
        assert m.saved is not None
        assert (m.voted.value, m.saved.value) == (0, 0)
    assert (found.faces, found.voted_faces, found.windows, found.context) == (30, 5, 45, "edge")


def test_the_share_of_flips_is_that_of_the_moves_that_cross() -> None:
    """The edge lies half a pixel beside the sampled column: a shift to the right of 0.5 of 20 pixels crosses it."""
    found = measure(middle, edges(200), trials=20, voted_faces=0, shift=0.1).moves[0]
    # Uniform in ±2 pixels, flipped from half a pixel on: (2 - 0.5) / 4.
    assert found.flips.value == pytest.approx(0.375, abs=0.03)
    assert found.flips.low < found.flips.value < found.flips.high
    assert found.unstable.value == 1
    assert (found.voted, found.plain_of_voted, found.saved) == (None, None, None)


def test_moves_of_one_kind_leave_the_other_alone() -> None:
    flipped = {m.move: m.flips.value for m in measure(middle, edges(50), scale=0, trials=5, voted_faces=0).moves}
    assert flipped["scale"] == 0
    assert flipped["shift"] > 0.2
    assert flipped["both"] > 0.2
    still = {m.move: m.flips.value for m in measure(middle, edges(50), shift=0, trials=5, voted_faces=0).moves}
    assert still["shift"] == 0


@pytest.mark.parametrize("kind", MOVES)
def test_the_moves_fill_their_range_and_no_more(kind: str) -> None:
    drawn = Moves(shift=0.1, scale=0.15, trials=50).draw(200, kind, 3)
    assert drawn.shape == (200, 50, 3)
    reach = np.abs(drawn - [0, 0, 1]).max((0, 1))
    bound = np.array([0.1, 0.1, 0.15]) * [kind != "scale", kind != "scale", kind != "shift"]
    assert (reach <= bound + 1e-12).all()
    assert (reach >= 0.98 * bound).all()
    np.testing.assert_allclose(drawn.mean((0, 1)), [0, 0, 1], atol=0.005)
    np.testing.assert_array_equal(Moves(shift=0.1, scale=0.15, trials=50).draw(20, kind, 3), drawn[:20])


def test_against_a_naive_loop() -> None:
    """The same moves, one face, one move and one window at a time."""
    crops = noise(12)
    found = measure(middle, crops, trials=3, faces=12, voted_faces=12, seed=4, grid=SMALL)
    order = np.random.default_rng(4).permutation(12)
    for kind, row in zip(MOVES, found.moves, strict=True):
        moves = Moves(shift=0.1, scale=0.15, trials=3).draw(12, kind, 4)
        flips, voted_flips, change = [], [], []
        for face, at in zip(crops[order], moves, strict=True):
            first = middle(face[None])[0]
            own = vote_of(face, np.array([0.0, 0, 1]))
            for move in at:
                then = middle(crops_at(face[None], move[None, None])[0])[0]
                flips.append(then.argmax() != first.argmax())
                change.append(abs(then[first.argmax()] - first.max()))
                voted_flips.append(vote_of(face, move).argmax() != own.argmax())
        assert row.voted is not None
        assert row.saved is not None
        assert row.flips.value == pytest.approx(np.mean(flips))
        assert row.change == pytest.approx(np.mean(change), rel=1e-4)
        assert row.voted.value == pytest.approx(np.mean(voted_flips))
        assert row.saved.value == pytest.approx(np.mean(flips) - np.mean(voted_flips))
        assert row.plain_of_voted == row.flips


def vote_of(face: np.ndarray, move: np.ndarray) -> np.ndarray:
    """The summed scores of the windows around a moved box, each cut from the crop by its own shift and size."""
    total = np.zeros(2)
    for x, y, scale in SMALL.moves():
        at = np.array([move[0] + move[2] * x, move[1] + move[2] * y, move[2] * scale])
        total += middle(crops_at(face[None], at[None, None])[0])[0]
    return total


def test_a_vote_saves_flips_where_windows_err_one_by_one() -> None:
    found = measure(middle, noise(60), trials=2, voted_faces=60).moves[0]
    assert found.saved is not None
    assert found.voted_change < found.change
    assert found.saved.low > 0


def test_the_same_seed_gives_the_same_report_and_another_seed_another() -> None:
    options = {"trials": 2, "faces": 10, "voted_faces": 2, "grid": SMALL}
    first, again, other = (measure(middle, noise(50), seed=seed, **options) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert (first.faces, first.moves[0].flips.n) == (10, 10)


def test_the_report_is_json() -> None:
    plain = measure(middle, noise(5), trials=1, voted_faces=0).as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["moves"][0]["voted_change"] is None
    assert set(plain["moves"][0]) == set(Flips.__slots__)


@pytest.mark.parametrize("wrong", [{"shift": -0.1}, {"scale": 1.0}, {"trials": 0}])
def test_impossible_moves_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="give shares from 0 to 1"):
        measure(constant, noise(), **wrong)


def test_no_crops_are_refused() -> None:
    with pytest.raises(ShapeError, match="at least one"):
        measure(constant, noise()[:0])


SPEC = InputSpec(width=20, height=20, template=TEMPLATE)


def test_a_picture_is_cut_anew_at_each_moved_box() -> None:
    """The middle column lies at 62 of a box from 20 to 100, the light ends at 65.5: shifts above 3.5 of 8 px flip."""
    picture = np.zeros((120, 120, 3), np.uint8)
    picture[:, :66] = 255
    table = boxes((20, 20, 100, 100))
    found = measure_pictures(Carded(SPEC), [picture, picture], [table, table], trials=40, voted_faces=0, grid=SMALL)
    assert (found.context, found.faces, found.voted_faces, found.windows) == ("picture", 2, 0, 9)
    shift, scale, both = found.moves
    assert shift.flips.value == pytest.approx(4.5 / 16, abs=0.1)
    assert scale.flips.value == 0
    assert both.flips.value > 0.15


def test_a_picture_shows_what_truly_lies_beside_the_face_and_a_ready_crop_does_not() -> None:
    picture = np.zeros((120, 120, 3), np.uint8)
    picture[20:100, 20:100] = 255

    class LeftEdge(Carded):
        def __call__(self, crops: np.ndarray, /) -> np.ndarray:
            return middle(crops[:, 5:15, :1])

    model = LeftEdge(SPEC)
    table = boxes((20, 20, 100, 100))
    ready = crop(picture, table, SPEC)
    assert ready[:, 1:-1, 1:-1].min() == 255
    assert measure(model, ready, trials=50, voted_faces=0).moves[0].flips.value == 0
    assert measure_pictures(model, [picture], [table], trials=20, voted_faces=1, grid=SMALL).moves[0].flips.value > 0.2


def test_pictures_that_do_not_fit_are_refused() -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    with pytest.raises(ShapeError, match="one table a picture"):
        measure_pictures(Carded(SPEC), [picture], [])
    with pytest.raises(ShapeError, match="with a face"):
        measure_pictures(Carded(SPEC), [picture], [Boxes.empty()])
    with pytest.raises(ModelError, match="does not say what goes in"):
        measure_pictures(Carded(), [picture], [boxes((0, 0, 30, 30))])
