import importlib.util
import json
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import joblib
import numpy as np
import onnx
import pytest

from mien import geometry
from mien.errors import ModelError, OptionError, ShapeError, UnknownModelError
from mien.models import mtcnn
from mien.models.base import Boxes, Detector
from mien.models.detect import DETECTORS, Haar, Mtcnn, count_eyes, detector
from mien.zoo.catalog import card
from mien.zoo.session import open_session
from mien.zoo.store import locate


def picture(package, *path):
    folder = Path(importlib.util.find_spec(package).submodule_search_locations[0])
    return cv2.cvtColor(cv2.imread(str(folder.joinpath(*path))), cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def astronaut():
    return picture("skimage", "data", "astronaut.png")


@pytest.fixture(scope="module")
def hopper():
    return picture("matplotlib", "mpl-data", "sample_data", "grace_hopper.jpg")


# An independent reading of the published networks: plain NumPy, channels last, two softmax outputs.


def conv(x, kernel, bias):
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.einsum("nhwcab,abco->nhwo", windows, kernel) + bias


def prelu(x, slope):
    return np.where(x > 0, x, slope * x)


def pool(x, size, *, same):
    if same:
        pad = [max(0, (-(-n // 2) - 1) * 2 + size - n) for n in x.shape[1:3]]
        ends = [(0, 0), *((p // 2, p - p // 2) for p in pad), (0, 0)]
        x = np.pad(x, ends, constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::2, ::2].max((-2, -1))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


POOLINGS = {
    "mtcnn-pnet": [(2, True), None, None],
    "mtcnn-rnet": [(3, True), (3, False), None],
    "mtcnn-onet": [(3, True), (3, False), (2, True), None],
}


def by_hand(name, pictures):
    arrays = iter([a.astype(np.float64) for a in mtcnn._arrays(locate(card(name)))])
    x = (pictures.astype(np.float64) - 127.5) / 128
    for pooling in POOLINGS[name]:
        x = prelu(conv(x, next(arrays), next(arrays)), next(arrays))
        x = pool(x, pooling[0], same=pooling[1]) if pooling else x
    if name != "mtcnn-pnet":
        x = x.transpose(0, 2, 1, 3).reshape(len(x), -1)
        x = prelu(x @ next(arrays) + next(arrays), next(arrays))
    rest = list(arrays)
    heads = [x @ k.reshape(k.shape[-2:]) + b for k, b in zip(rest[::2], rest[1::2], strict=True)]
    return np.concatenate([*heads[:-1], softmax(heads[-1])[..., 1:]], -1)


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("mtcnn-pnet", 12, 12),
        ("mtcnn-pnet", 37, 52),
        ("mtcnn-pnet", 40, 31),
        ("mtcnn-rnet", 24, 24),
        ("mtcnn-onet", 48, 48),
    ],
)
def test_the_networks_compute_what_their_arrays_say(name, height, width, astronaut):
    pictures = np.stack([astronaut[y : y + height, 190 : 190 + width] for y in (20, 70, 90, 300)])
    model = mtcnn._network(name, mtcnn._arrays(locate(card(name))), mtcnn._POOLS[name])
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    found = np.array(open_session(model, threads=1).run(None, {"pictures": pictures})[0])
    found = np.moveaxis(found, 1, -1) if found.ndim == 4 else found
    found[..., -1] = mtcnn._sigmoid(found[..., -1])
    np.testing.assert_allclose(found, by_hand(name, pictures), atol=1e-4)


# Looked at, and compared with the eyes, nose and mouth that one sees: all within 2 px at these sizes.
GOLDEN = {
    "astronaut": (
        [180.9, 60.5, 267.2, 174.4],
        [[203.7, 100.0], [246.6, 102.9], [224.2, 128.9], [200.8, 138.6], [244.6, 141.6]],
    ),
    "hopper": (
        [173.4, 112.8, 352.9, 336.0],
        [[221.8, 192.3], [307.6, 187.8], [268.2, 239.1], [232.1, 278.5], [305.4, 273.3]],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_known_faces_are_where_they_are(name, request):
    box, points = GOLDEN[name]
    found = Mtcnn()(request.getfixturevalue(name))
    assert len(found) == 1
    np.testing.assert_allclose(found.box[0], box, atol=2)
    np.testing.assert_allclose(found.points[0], points, atol=2)
    assert found.score[0] > 0.99
    assert found.eyes.tolist() == [-1]


@pytest.mark.parametrize("name", DETECTORS)
class TestEveryDetector:
    def test_it_fits_the_protocol_and_finds_a_face(self, name, astronaut):
        find = detector(name)
        assert isinstance(find, Detector)
        found = find(astronaut)
        assert len(found) == 1
        assert geometry.iou(found.box, np.array([GOLDEN["astronaut"][0]], np.float32))[0, 0] > 0.5
        assert (found.box.dtype, found.score.dtype, found.points.dtype) == (np.float32,) * 3
        assert found.eyes.dtype == np.int16
        assert 0 < found.score[0] <= 1

    @pytest.mark.parametrize("shape", [(1, 1), (2, 2), (5, 400), (12, 4000), (4000, 12), (40, 40), (300, 300)])
    @pytest.mark.parametrize("colour", [0, 255])
    def test_where_there_is_nothing_it_finds_nothing(self, name, shape, colour):
        found = detector(name)(np.full((*shape, 3), colour, np.uint8))
        assert len(found) == 0
        assert isinstance(found, Boxes)
        assert found.points.shape == (0, 5, 2)

    def test_noise_costs_no_error(self, name):
        found = detector(name)(np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8))
        assert (np.diff(found.score) <= 0).all()

    def test_a_large_picture_is_searched_small_and_answered_large(self, name, astronaut):
        large = cv2.resize(astronaut, None, fx=5, fy=5, interpolation=cv2.INTER_LINEAR)
        small, big = detector(name, width=512)(astronaut), detector(name, width=512, min_face=100)(large)
        assert len(small) == len(big) == 1
        np.testing.assert_allclose(big.box / 5, small.box, atol=6)
        # A pixel's centre at p lies at 5p + 2 in the larger picture.
        np.testing.assert_allclose((big.points - 2) / 5, small.points, atol=2.5)

    def test_two_people_are_two_best_first(self, name, astronaut):
        both = np.concatenate([astronaut, astronaut[:, ::-1]], 1)
        found = detector(name, min_face=48)(both)
        assert len(found) == 2
        assert (np.diff(found.score) <= 0).all()
        assert sorted((found.box[:, 0] > 512).tolist()) == [False, True]

    def test_a_face_that_the_border_cuts_gives_numbers(self, name, astronaut):
        found = detector(name)(np.ascontiguousarray(astronaut[80:, :250]))
        assert np.isfinite(found.box).all()
        assert np.isfinite(found.score).all()

    def test_required_eyes(self, name, astronaut):
        closed = astronaut.copy()
        closed[85:118, 185:265] = astronaut[118:120, 185:265].mean((0, 1)).astype(np.uint8)
        assert detector(name, require_eyes=True)(astronaut).eyes.tolist() == [2]
        assert (detector(name, require_eyes=True)(closed).eyes > 0).all()
        assert len(detector(name, require_eyes=True)(closed)) == 0

    def test_threads_get_what_one_gets(self, name, astronaut, hopper):
        find = detector(name)
        pictures = [astronaut, hopper, astronaut[::2, ::2].copy(), hopper[:, ::-1].copy()]
        alone = [find(p) for p in pictures]
        together: dict[int, list[Boxes]] = {i: [] for i in range(4)}
        workers = [
            threading.Thread(target=lambda i=i: together[i].extend(find(pictures[i]) for _ in range(3)))
            for i in range(4)
        ]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        for i, one in enumerate(alone):
            assert len(together[i]) == 3
            for other in together[i]:
                np.testing.assert_allclose(other.box, one.box, atol=1e-3)
                np.testing.assert_allclose(other.points, one.points, atol=1e-3)

    @pytest.mark.parametrize(
        "bad",
        [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8)],
    )
    def test_what_is_no_picture_is_an_error(self, name, bad):
        with pytest.raises(ShapeError, match="picture"):
            detector(name)(bad)

    @pytest.mark.parametrize("options", [{"min_face": 0}, {"width": 3}, {"nonsense": 1}])
    def test_impossible_options_are_errors(self, name, options):
        with pytest.raises(OptionError, match=next(iter(options))):
            detector(name, **options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Mtcnn, {"thresholds": (0.5, 0.5)}, "three numbers"),
        (Mtcnn, {"thresholds": (0.5, 0.5, 1.0)}, "three numbers"),
        (Mtcnn, {"threads": -1}, "threads is -1"),
        (Haar, {"cascade": "nose"}, "default, alt2"),
        (Haar, {"scale_factor": 1.0}, "scale_factor is 1.0"),
        (Haar, {"scale_factor": float("nan")}, "scale_factor is nan"),
        (Haar, {"neighbours": 0}, "neighbours is 0"),
    ],
)
def test_impossible_values_are_named(kind, options, message):
    with pytest.raises(OptionError, match=message):
        kind(**options)


def test_an_unknown_detector_lists_the_known():
    with pytest.raises(UnknownModelError, match="mtcnn, haar, haar-alt2"):
        detector("hog")


def certain(monkeypatch, scores):
    """Let the third stage believe every box, with these scores, and leave boxes where they are."""

    def run(name, pictures, threads):
        out = np.zeros((len(pictures), 15), np.float32)
        out[:, 14] = np.log(np.array(scores) / (1 - np.array(scores)))
        return out

    monkeypatch.setattr(mtcnn, "_run", run)


@pytest.mark.parametrize(
    "other",
    [
        [20, 20, 120, 120],  # shifted by a fifth: IoU 0.47
        [62, 20, 122, 80],  # smaller, on the edge: IoU 0.20
        [-20, 15, 80, 115],  # IoU 0.52
    ],
)
def test_two_squares_on_one_person_become_one(monkeypatch, other):
    certain(monkeypatch, [0.9, 0.95])
    squares = np.array([[0, 0, 100, 100], other], np.float32)
    overlap = geometry.iou(squares[:1], squares[1:])[0, 0]
    # Plain suppression, by union or by the smaller box, keeps both.
    assert overlap < 0.7
    assert len(geometry.nms(squares, np.array([0.9, 0.95]), threshold=0.7, by="smaller")) == 2
    box, score, _ = Mtcnn()._finish([np.zeros((200, 200, 3), np.uint8)], squares)
    np.testing.assert_allclose(box, squares[1:])
    assert score.tolist() == pytest.approx([0.95])


@pytest.mark.parametrize("other", [[90, 0, 190, 100], [60, 5, 160, 105], [0, 80, 100, 180], [85, 40, 130, 85]])
def test_two_people_side_by_side_stay_two(monkeypatch, other):
    certain(monkeypatch, [0.95, 0.9])
    squares = np.array([[0, 0, 100, 100], other], np.float32)
    box, _, _ = Mtcnn()._finish([np.zeros((200, 200, 3), np.uint8)], squares)
    assert len(box) == 2


def test_crops_are_what_an_independent_resize_gives(astronaut):
    squares = np.array([[100, 50, 148, 98], [200, 60, 296, 156], [10, 10, 34, 34], [-12, -12, 36, 36]], np.float32)
    found = mtcnn._cut(mtcnn._halved(astronaut), squares, 24)
    for square, crop in zip(squares.astype(int)[:2], found, strict=False):
        part = astronaut[square[1] : square[3], square[0] : square[2]]
        expected = cv2.resize(part, (24, 24), interpolation=cv2.INTER_AREA)
        assert np.abs(crop.astype(float) - expected).mean() < 6
    np.testing.assert_array_equal(found[2], astronaut[10:34, 10:34])
    assert (found[3][:5, :5] == 0).all()
    assert found[3][8:, 8:].any()


def test_many_crops_are_cut_in_pieces_that_opencv_can_take(astronaut):
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 400, (1_500, 2)).astype(np.float32)
    squares = np.concatenate([corner, corner + 24], 1)
    found = mtcnn._cut([astronaut], squares, 24)
    for i in (0, 700, 1_332, 1_333, 1_499):
        x, y = corner[i].astype(int)
        np.testing.assert_array_equal(found[i], astronaut[y : y + 24, x : x + 24])


def test_small_faces_are_found_when_asked_for(astronaut):
    small = cv2.resize(astronaut, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
    assert len(Mtcnn(min_face=12)(small)) == 1
    assert len(Mtcnn(min_face=60)(small)) == 0


def test_a_mirrored_picture_gives_mirrored_points_in_the_same_order(astronaut):
    plain, mirrored = Mtcnn()(astronaut), Mtcnn()(np.ascontiguousarray(astronaut[:, ::-1]))
    back = mirrored.points[0][[1, 0, 2, 4, 3]] * [-1, 1] + [511, 0]
    np.testing.assert_allclose(back, plain.points[0], atol=3)
    assert (mirrored.points[0, 0, 0] < mirrored.points[0, 1, 0]).all()


def test_eyes_are_counted_once_in_either_half(astronaut, hopper):
    box = np.array([GOLDEN["astronaut"][0], [300, 300, 400, 400], [180, 60, 183, 64], [-50, -50, -10, -10]])
    assert count_eyes(astronaut, box).tolist() == [2, 0, 0, 0]
    assert count_eyes(astronaut, np.empty((0, 4))).shape == (0,)
    winking = astronaut.copy()
    winking[85:118, 185:224] = astronaut[118:120, 185:224].mean((0, 1)).astype(np.uint8)
    assert count_eyes(winking, box[:1]).tolist() == [1]
    assert count_eyes(hopper, np.array([GOLDEN["hopper"][0]])).dtype == np.int16


def test_haar_scores_only_order(astronaut):
    found = Haar(neighbours=1)(np.concatenate([astronaut, astronaut[::-1]], 1))
    assert ((found.score > 0) & (found.score < 1)).all()
    assert np.isnan(found.points).all()


def test_damaged_arrays_are_an_error_of_the_model(monkeypatch):
    arrays = mtcnn._arrays(locate(card("mtcnn-rnet")))
    monkeypatch.setattr(joblib, "load", lambda file: arrays[:5])
    with pytest.raises(ModelError, match="not the arrays of mtcnn-rnet"):
        mtcnn._open.__wrapped__("mtcnn-rnet", 1)


def test_tensorflow_is_not_needed_and_nothing_opens_at_import():
    code = (
        "import sys, json; from mien.models import mtcnn; early = mtcnn._open.cache_info().currsize;"
        "import numpy as np;"
        "mtcnn.Mtcnn()(np.zeros((64, 64, 3), np.uint8));"
        "print(json.dumps([early, [m for m in ('mtcnn', 'tensorflow', 'torch', 'onnx') if m in sys.modules]]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == [0, []]


@pytest.mark.shared
def test_a_photograph_of_a_crowd(shared):
    table = json.loads((shared / "pictures" / "crowd" / "boxes.json").read_text())
    found = wanted = right = finds = 0
    for name in list(table)[:40]:
        truth = np.array([f["box"] for f in table[name]["faces"]], np.float32).reshape(-1, 4)
        seen = Mtcnn()(cv2.cvtColor(cv2.imread(str(shared / "pictures" / "crowd" / name)), cv2.COLOR_BGR2RGB))
        overlap = geometry.iou(truth, seen.box)
        large = truth[:, 3] - truth[:, 1] >= 40
        wanted, found = wanted + large.sum(), found + (overlap[large] >= 0.4).any(1).sum()
        finds, right = finds + len(seen), right + (overlap >= 0.4).any(0).sum()
    assert wanted > 20
    assert found / wanted > 0.7
    assert right / finds > 0.85


@pytest.mark.parametrize("height", [12, 13, 27, 75, 76, 77, 140, 203])
def test_the_first_stage_in_strips_is_one_call_to_the_bit(height: int) -> None:
    picture = np.random.default_rng(height).integers(0, 256, (height, 40, 3), np.uint8)
    whole = mtcnn._run("mtcnn-pnet", picture[None], 1)[0]
    np.testing.assert_array_equal(mtcnn._run_in_strips(picture, 1), whole)


@pytest.mark.parametrize(("name", "side"), [("mtcnn-rnet", 24), ("mtcnn-onet", 48)])
def test_crops_in_parts_are_one_call_to_the_bit(name: str, side: int) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (70, side, side, 3), np.uint8)
    np.testing.assert_array_equal(mtcnn._run_in_parts(name, crops, 1), mtcnn._run(name, crops, 1))
