"""What explains a reading: layers, Grad-CAM against gradients worked out by hand, occlusion against a plain loop."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from networks import network, write
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from mien.cli.explain import explain as command
from mien.errors import MissingExtraError, ModelError, OptionError, ShapeError, SourceError, UnknownLabelError
from mien.evaluate.explain import Explainer, channel_slopes, grad_cam, occlusion
from mien.evaluate.graph_cut import Graph
from mien.labels import LabelSet
from mien.media.stills import read_picture
from mien.models.expression import Expression
from mien.render.explain import Explained, draw, sheet
from mien.zoo.card import Head, InputSpec

PORTRAIT = Path(find_spec("skimage").submodule_search_locations[0]) / "data/astronaut.png"
MOODS = LabelSet("moods", ("happy", "sad", "neutral"))
HEADS = (Head("labels", MOODS), Head("three", LabelSet("other", ("up", "down", "happy"))))
SPEC = InputSpec(
    width=16, height=16, colour="grey", template=((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
)
T = 0.7


def weights(seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"w1": (4, 1, 3, 3), "w2": (4, 4, 3, 3), "to_labels": (4, 3), "to_three": (4, 3)}
    return {name: rng.normal(0, 0.5, shape).astype(np.float16) for name, shape in shapes.items()}


def graph_bytes(*, batch: int | str = "N", squash: str = "Softmax", last: str = "GlobalAveragePool") -> bytes:
    """A residual net whose weights are stored as float16, whose flattening asks the input for the batch size."""
    held = weights()
    n = helper.make_node
    nodes = [
        *(n("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT) for name in held),
        n("Conv", ["input", "w1"], ["first"], pads=[1, 1, 1, 1], strides=[2, 2]),
        n("Relu", ["first"], ["stem"]),
        n("Conv", ["stem", "w2"], ["second"], pads=[1, 1, 1, 1]),
        n("Add", ["second", "stem"], ["sum"]),
        n("Relu", ["sum"], ["top"]),
        n(last, ["top"], ["pooled"]),
        n("Shape", ["input"], ["size"], start=0, end=1),
        n("Concat", ["size", "rest"], ["wanted"], axis=0),
        n("Reshape", ["pooled", "wanted"], ["embedding"]),
    ]
    for head in ("labels", "three"):
        nodes += [
            n("MatMul", ["embedding", f"to_{head}"], [f"{head}_logits"]),
            n("Div", [f"{head}_logits", "t"], [f"{head}_cool"]),
        ]
        nodes.append(n(squash, [f"{head}_cool"], [head], **({"axis": 1} if squash == "Softmax" else {})))
    constants = [numpy_helper.from_array(v, f"{k}.half") for k, v in held.items()]
    constants += [numpy_helper.from_array(np.float32(T), "t"), numpy_helper.from_array(np.array([4]), "rest")]
    values = helper.make_tensor_value_info
    outputs = [values("labels", 1, [batch, 3]), values("three", 1, [batch, 3]), values("embedding", 1, [batch, 4])]
    graph = helper.make_graph(nodes, "net", [values("input", 1, [batch, 1, 16, 16])], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path, graph_bytes(), input=SPEC, labels=MOODS, heads=HEADS)


@pytest.fixture
def opened(file: Path) -> Explainer:
    return Explainer(Expression(file), threads=1)


@pytest.fixture
def crop() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)


def fed(crop: np.ndarray) -> np.ndarray:
    return (crop / np.float32(255)).astype(np.float32)[None, None]


def test_layers_are_named_with_their_shapes(opened: Explainer) -> None:
    told = [(x.index, x.name, x.kind, x.shape) for x in opened.layers]
    kinds = (("first", "Conv"), ("stem", "Relu"), ("second", "Conv"), ("sum", "Add"), ("top", "Relu"))
    assert told == [(i, name, kind, (4, 8, 8)) for i, (name, kind) in enumerate(kinds)]
    assert opened.graph.layer("sum") is opened.graph.layer(3) is opened.graph.layer("-2")
    assert [x.name for x in opened.graph.stages()] == ["top"]
    assert str(opened.layers[0]) == "0 first (Conv, 4 maps of 8×8)"


@pytest.mark.parametrize("wanted", ["nose", 5, "-6"])
def test_an_unknown_layer_lists_those_there_are(opened: Explainer, wanted: str | int) -> None:
    with pytest.raises(OptionError, match=r"no layer .* 0 to 4, .*first, stem, second, sum, top"):
        opened.graph.layer(wanted)


def test_the_logits_stand_before_softmax_and_temperature(opened: Explainer) -> None:
    assert opened.graph.logits("labels") == "labels_logits"
    assert opened.graph.logits("three") == "three_logits"
    assert opened.graph.logits("embedding") == "embedding"
    with pytest.raises(ModelError, match=r"no output 'crowd'; it has labels, three, embedding"):
        opened.graph.logits("crowd")


@pytest.mark.parametrize("layer", range(5))
def test_the_tail_of_a_layer_gives_the_logits_of_the_whole_net(opened: Explainer, crop: np.ndarray, layer: int) -> None:
    graph, x = opened.graph, fed(crop)
    tail = graph.tail(graph.layers[layer], "labels_logits", x)
    maps = np.repeat(graph.maps(graph.layers[layer], x), 3, axis=0)
    logits = tail(maps)
    shares = np.exp(logits / T) / np.exp(logits / T).sum(1, keepdims=True)
    scores = Expression(graph._file).read(crop[None]).scores["labels"]
    np.testing.assert_allclose(shares, np.repeat(scores, 3, axis=0), atol=1e-6)


def test_a_value_that_the_layer_does_not_lead_to_is_refused(opened: Explainer, crop: np.ndarray) -> None:
    with pytest.raises(ModelError, match="layer top does not lead to second"):
        opened.graph.tail(opened.graph.layer("top"), "second", fed(crop))


def conv(maps: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """A convolution of (C, h, w) with padding 1, by its definition."""
    _, height, width = maps.shape
    padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
    windows = np.stack([padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)], 1)
    return np.einsum("okt,kthw->ohw", kernel.reshape(*kernel.shape[:2], 9), windows)


def slopes_by_hand(maps: np.ndarray, layer: str, place: int) -> np.ndarray:
    """The spatial mean of dY/dA: through the average, the ReLU, and for ``second`` the sum; by hand."""
    held = {k: v.astype(np.float64) for k, v in weights().items()}
    out = held["to_labels"][:, place] / 64
    if layer == "top":
        return out
    total = maps["second"] + maps["stem"]
    gradient = out[:, None, None] * (total > 0)
    if layer == "second":
        return gradient.mean((1, 2))
    # Down to the stem: beside, and through the convolution, whose transpose flips its kernel.
    flipped = held["w2"][:, :, ::-1, ::-1].transpose(1, 0, 2, 3)
    return (gradient + conv(gradient, flipped)).mean((1, 2))


@pytest.mark.parametrize("layer", ["top", "second"])
@pytest.mark.parametrize("place", [0, 2])
def test_slopes_are_the_gradient_worked_out_by_hand(
    opened: Explainer, crop: np.ndarray, layer: str, place: int
) -> None:
    graph, x = opened.graph, fed(crop)
    maps = {n: graph.maps(graph.layer(n), x)[0].astype(np.float64) for n in ("stem", "second", "top")}
    found = channel_slopes(
        graph.tail(graph.layer(layer), "labels_logits", x), maps[layer][None].astype(np.float32), place
    )
    np.testing.assert_allclose(found, slopes_by_hand(maps, layer, place), rtol=0.02, atol=2e-4)


def test_beside_a_residual_block_the_other_path_keeps_its_values(opened: Explainer, crop: np.ndarray) -> None:
    graph, x = opened.graph, fed(crop)
    tail = graph.tail(graph.layer("second"), "labels_logits", x)
    stem = graph.maps(graph.layer("stem"), x)[0]
    for second in (np.zeros((1, 4, 8, 8), np.float32), np.full((1, 4, 8, 8), 0.5, np.float32)):
        by_hand = np.maximum(second[0] + stem, 0).mean((1, 2)) @ weights()["to_labels"].astype(np.float32)
        np.testing.assert_allclose(tail(second)[0], by_hand, atol=1e-5)


def test_grad_cam_is_the_positive_part_of_the_weighted_maps(opened: Explainer, crop: np.ndarray) -> None:
    graph, x = opened.graph, fed(crop)
    top = graph.maps(graph.layer("top"), x)
    cam = grad_cam(graph.tail(graph.layer("top"), "labels_logits", x), top, 1)
    by_hand = np.maximum(np.tensordot(weights()["to_labels"][:, 1].astype(float) / 64, top[0].astype(float), 1), 0)
    assert cam.shape == (8, 8)
    assert (cam >= 0).all()
    np.testing.assert_allclose(cam, by_hand, atol=1e-4)


def test_a_layer_of_zeros_has_slopes_too() -> None:
    def tail(maps: np.ndarray) -> np.ndarray:
        return maps.sum((2, 3)) * np.float32(3)

    np.testing.assert_allclose(channel_slopes(tail, np.zeros((1, 2, 2, 2), np.float32), 1), [0, 3], atol=1e-3)


def test_a_net_of_fixed_batch_is_cut_too(tmp_path: Path, crop: np.ndarray) -> None:
    (tmp_path / "one.onnx").write_bytes(graph_bytes(batch=1))
    (tmp_path / "many.onnx").write_bytes(graph_bytes())
    slopes, batches = [], []
    for name in ("one", "many"):
        graph = Graph(tmp_path / f"{name}.onnx", fed(crop))
        layer = graph.layer("second")
        tail = graph.tail(layer, "labels_logits", fed(crop))
        slopes.append(channel_slopes(tail, graph.maps(layer, fed(crop)), 0, batch=graph.batch))
        batches.append(graph.batch)
    assert batches[0] == 1 < batches[1]
    np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-4)


def test_what_is_no_network_says_so(tmp_path: Path, crop: np.ndarray) -> None:
    (tmp_path / "torn.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"torn\.onnx: not an ONNX file"):
        Graph(tmp_path / "torn.onnx", fed(crop))


def test_without_a_convolution_there_is_nothing_to_explain(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no layer gives feature maps"):
        Explainer(Expression(write(tmp_path, network()[0])))


def test_without_onnx_the_extra_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"mien\[report\]"):
        Explainer(Expression(file))


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, opened: Explainer) -> None:
    monkeypatch.setattr("mien.render.explain.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"mien\[report\]"):
        draw(explained())


def test_the_occlusion_map_against_a_plain_loop() -> None:
    rng = np.random.default_rng(5)
    crop = rng.integers(0, 255, (13, 11, 3), np.uint8)
    plane = rng.normal(0, 1e-3, (13, 11, 3))

    def classify(crops: np.ndarray) -> np.ndarray:
        return np.stack([(crops * plane).sum((1, 2, 3)), np.zeros(len(crops))], 1).astype(np.float32)

    found = occlusion(classify, crop, 0, patch=4, stride=3)
    total, times = np.zeros((13, 11)), np.zeros((13, 11))
    for y in (0, 3, 6, 9):
        for x in (0, 3, 6, 7):
            covered = crop.copy()
            covered[y : y + 4, x : x + 4] = np.round(crop.mean((0, 1)))
            fall = float((crop * plane).sum() - (covered * plane).sum())
            total[y : y + 4, x : x + 4] += fall
            times[y : y + 4, x : x + 4] += 1
    np.testing.assert_allclose(found, total / times, atol=1e-5)


def test_the_occlusion_map_points_at_what_the_classifier_reads() -> None:
    crop = np.full((32, 32), 60, np.uint8)
    crop[20:26, 8:14] = 255

    def classify(crops: np.ndarray) -> np.ndarray:
        bright = crops[:, 20:26, 8:14].mean((1, 2)) / 255
        return np.stack([bright, 1 - bright], 1).astype(np.float32)

    for place, sign in ((0, 1), (1, -1)):
        fall = occlusion(classify, crop, place, patch=6, stride=2) * sign
        y, x = np.unravel_index(fall.argmax(), fall.shape)
        assert 20 <= y < 26
        assert 8 <= x < 14
        assert np.abs(fall[:10]).max() == 0


@pytest.mark.parametrize("patch", [0, 12])
def test_a_patch_that_does_not_fit_is_refused(patch: int) -> None:
    with pytest.raises(OptionError, match=f"the patch is {patch} pixels wide"):
        occlusion(lambda c: np.ones((len(c), 2), np.float32), np.zeros((11, 20), np.uint8), 0, patch=patch)


def test_an_explanation_holds_the_whole_mixture(opened: Explainer, file: Path, crop: np.ndarray) -> None:
    found = opened.explain(crop)
    scores = Expression(file).read(crop[None]).scores
    assert list(found.scores) == ["labels", "three"]
    for name, (_, values) in found.scores.items():
        np.testing.assert_allclose(values, scores[name][0], atol=1e-6)
    assert found.label == MOODS.labels[scores["labels"][0].argmax()]
    assert found.cam.shape == found.occlusion.shape == (16, 16)
    assert found.cam.max() == pytest.approx(1) or found.cam.max() == 0
    plain = found.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert sum(plain["scores"]["labels"].values()) == pytest.approx(1, abs=1e-5)


def test_head_label_and_layers_are_the_asked_ones(opened: Explainer, crop: np.ndarray) -> None:
    found = opened.explain(crop, head="three", label="down", layers=["stem", 2])
    assert (found.head, found.label, list(found.maps), found.cam_layer) == (
        "three",
        "down",
        ["stem", "second"],
        "second",
    )
    np.testing.assert_allclose(found.maps["stem"], opened.graph.maps(opened.graph.layer(1), fed(crop))[0], atol=1e-6)


def test_a_colour_crop_is_shown_as_the_model_sees_it(opened: Explainer, crop: np.ndarray) -> None:
    found = opened.explain(np.repeat(crop[..., None], 3, 2))
    np.testing.assert_array_equal(found.crop, crop)


def test_what_cannot_be_explained_is_refused(opened: Explainer, crop: np.ndarray) -> None:
    with pytest.raises(OptionError, match="no head 'crowd'; tiny has labels, three"):
        opened.explain(crop, head="crowd")
    with pytest.raises(UnknownLabelError, match="happy, sad, neutral"):
        opened.explain(crop, label="fear")
    with pytest.raises(ShapeError, match="crop"):
        opened.explain(crop[None, None])
    with pytest.raises(SourceError, match=r"wall\.png: no face found.*--crop"):
        opened.faces(np.full((64, 64, 3), 90, np.uint8), name="wall.png")


def test_a_sheet_holds_every_map_in_its_place() -> None:
    maps = np.arange(5 * 6).reshape(5, 2, 3).astype(np.float32)
    out = sheet(maps, 3)
    assert out.shape == (5, 11)
    np.testing.assert_array_equal(out[3:, 4:7], maps[4])
    assert np.isnan(out[2]).all()
    assert np.isnan(out[3:, 8:]).all()
    assert int(np.isfinite(out).sum()) == 30


def explained(**changes: object) -> Explained:
    rng = np.random.default_rng(0)
    plain = {
        "title": "face",
        "crop": rng.integers(0, 255, (16, 16), np.uint8),
        "label": "happy",
        "scores": {"labels": {"happy": 0.7, "sad": 0.2, "neutral": 0.1}, "three": {"happy": 0.4, "up": 0.6}},
        "cam": rng.random((16, 16), np.float32),
        "cam_layer": "top",
        "occlusion": rng.normal(0, 0.1, (16, 16)).astype(np.float32),
        "patch": 3,
        "maps": {"stem": rng.random((4, 8, 8), np.float32), "top": rng.random((200, 4, 4), np.float32)},
    }
    return Explained(**plain | changes)


def picture_of(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)


def test_the_figure_is_a_picture_of_the_asked_width() -> None:
    made = picture_of(draw(explained(), width=700))
    assert made.shape[1] == 700
    # Title, panels and maps leave ink in the upper and the lower half.
    assert all((half < 100).mean() > 0.01 for half in np.array_split(made, 2))


@pytest.mark.parametrize(
    "changes",
    [
        {"cam": np.zeros((16, 16), np.float32), "occlusion": np.zeros((16, 16), np.float32)},
        {"maps": {}},
        {"maps": {"one": np.zeros((1, 5, 5), np.float32)}},
        {"picture": np.full((300, 90, 3), 70, np.uint8), "box": (60.0, 250.0, 120.0, 330.0)},
        {"picture": np.full((30, 40, 3), 70, np.uint8), "box": None, "crop": np.zeros((20, 16, 3), np.uint8)},
    ],
    ids=["nothing to see", "no maps", "one map", "face over the edge", "whole picture"],
)
def test_the_figure_of_odd_cases(changes: dict[str, object]) -> None:
    assert picture_of(draw(explained(**changes), width=500)).shape[1] == 500


def run(*arguments: object) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_explains_a_photograph(tmp_path: Path) -> None:
    out = tmp_path / "new" / "explain.png"
    code, said, told = run(
        "expression", PORTRAIT, "--out", out, "--layer", "relu_2", "--layer", 18, "--threads", 1, "--json"
    )
    assert (code, told) == (0, "")
    (face,) = json.loads(said)["faces"]
    assert face["label"] == "happy"
    assert face["scores"]["crowd"]["happy"] > 0.9
    assert list(face["maps"]) == ["relu_2", "relu_6"]
    assert face["grad_cam"]["layer"] == "relu_6"
    assert picture_of(out.read_bytes()).shape[1] == 1560


def test_the_smile_is_where_the_model_looks() -> None:
    opened = Explainer(Expression("expression", threads=1), threads=1)
    _, crops = opened.faces(read_picture(PORTRAIT))
    found = opened.explain(crops[0], label="happy")
    for map_ in (found.cam, found.occlusion):
        y, x = np.unravel_index(map_.argmax(), map_.shape)
        assert y > 26
        assert 10 < x < 38
    assert [m.shape for m in found.maps.values()] == [(64, 24, 24), (128, 12, 12)]


def test_the_command_numbers_several_faces_or_takes_one(file: Path, tmp_path: Path) -> None:
    face = cv2.imread(str(PORTRAIT))[:300, 80:380]
    both, out = tmp_path / "two.png", tmp_path / "e.png"
    cv2.imwrite(str(both), np.hstack([face, face]))
    code, _, told = run(file, both, "--out", out)
    assert code == 0
    assert told.count("wrote ") == 2
    assert {p.name for p in tmp_path.glob("e*.png")} == {"e-0.png", "e-1.png"}
    code, said, _ = run(file, both, "--out", out, "--face", 1, "--json")
    assert code == 0
    assert [f["face"] for f in json.loads(said)["faces"]] == [1]
    assert out.is_file()
    code, _, told = run(file, both, "--face", 2, "--out", out)
    assert (code, told.strip().endswith("no face 2; it has 0 to 1")) == (2, True)


def test_the_command_takes_a_ready_crop(file: Path, tmp_path: Path, crop: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "crop.png"), crop)
    code, _, told = run(file, tmp_path / "crop.png", "--crop", "--out", tmp_path / "e.png")
    assert code == 0
    assert "labels: " in told
    assert (tmp_path / "e.png").is_file()


def test_the_command_lists_the_layers(file: Path) -> None:
    code, said, _ = run(file, "--list-layers")
    assert code == 0
    assert [line.split()[1] for line in said.splitlines()[1:]] == ["first", "stem", "second", "sum", "top"]
    code, said, _ = run(file, "--list-layers", "--json")
    assert json.loads(said)["layers"][1] == {"index": 1, "name": "stem", "kind": "Relu", "shape": [4, 8, 8]}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "which picture?"),
        (("nowhere.png",), "nowhere.png"),
        ((PORTRAIT, "--layer", "nose"), "no layer 'nose'"),
        ((PORTRAIT, "--out", "/dev/null/e.png"), "cannot write the figure"),
    ],
)
def test_the_command_fails_in_one_line(file: Path, arguments: tuple[object, ...], line: str) -> None:
    code, said, told = run(file, *arguments)
    assert (code, said) == (2, "")
    assert line in told
    assert len(told.strip().splitlines()) == 1
