"""The expression model, on small networks that are made here."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.errors import IntegrityError, ModelError, ShapeError, UnknownModelError
from mien.labels import EIGHT, SEVEN
from mien.models.base import Classifier
from mien.models.expression import BATCH, Expression
from mien.models.prepare import prepare
from mien.zoo import catalog
from mien.zoo.card import Head, InputSpec, ModelCard

SPEC = InputSpec(width=48, height=48, colour="grey", template=((0.3, 0.4),) * 5)
HEADS = (Head("crowd", EIGHT), Head("fer2013", SEVEN))


def network(outputs: tuple[str, ...] = ("crowd", "fer2013", "embedding")) -> tuple[bytes, dict[str, np.ndarray]]:
    """Two softmax heads on a linear embedding of the pixels."""
    rng = np.random.default_rng(1)
    weights = {
        "embed": rng.normal(0, 0.05, (2304, 16)),
        "to_crowd": rng.normal(0, 1, (16, 8)),
        "to_fer2013": rng.normal(0, 1, (16, 7)),
    }
    weights = {k: v.astype(np.float32) for k, v in weights.items()}
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "embed"], ["embedding"]),
        *(
            node
            for head in ("crowd", "fer2013")
            for node in (
                helper.make_node("MatMul", ["embedding", f"to_{head}"], [f"{head}_logits"]),
                helper.make_node("Softmax", [f"{head}_logits"], [head], axis=1),
            )
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 48, 48])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["N", None]) for o in outputs],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString(), weights


def write(folder: Path, blob: bytes, **changes: object) -> Path:
    file = folder / "tiny.onnx"
    file.write_bytes(blob)
    card = ModelCard(
        name="tiny",
        task="expression",
        file="weights/tiny.onnx",
        sha256=hashlib.sha256(blob).hexdigest(),
        size=len(blob),
        licence="MIT",
        origin="made by this test",
        data="none",
        input=SPEC,
        labels=EIGHT,
        heads=HEADS,
    )
    (folder / "tiny.card.json").write_text(json.dumps(replace(card, **changes).as_dict()), encoding="utf-8")
    return file


@pytest.fixture
def model(tmp_path: Path) -> Expression:
    return Expression(write(tmp_path, network()[0]), threads=1)


def crops(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 48, 48), np.uint8)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_the_numbers_are_those_of_the_network(model: Expression) -> None:
    weights = network()[1]
    faces = crops(5)
    embedding = prepare(faces, SPEC).reshape(5, -1) @ weights["embed"]
    reading = model.read(faces)
    assert len(reading) == 5
    assert {a.dtype for a in (reading.crowd, reading.fer2013, reading.embedding)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(reading.embedding, embedding, atol=1e-4)
    np.testing.assert_allclose(reading.crowd, softmax(embedding @ weights["to_crowd"]), atol=1e-4)
    np.testing.assert_allclose(reading.fer2013, softmax(embedding @ weights["to_fer2013"]), atol=1e-4)


def test_it_is_a_classifier_over_the_eight(model: Expression) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (3, 90, 70, 3), np.uint8)
    assert isinstance(model, Classifier)
    assert model.card.labels == EIGHT
    scores = model(faces)
    assert scores.shape == (3, 8)
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(scores, model.read(faces).crowd)


def test_a_reading_does_not_depend_on_the_other_crops(model: Expression) -> None:
    faces = crops(2 * BATCH + 3)
    together = model.read(faces)
    alone = [model.read(faces[i : i + 1]) for i in (0, BATCH - 1, BATCH, 2 * BATCH + 2)]
    for one, i in zip(alone, (0, BATCH - 1, BATCH, 2 * BATCH + 2), strict=True):
        np.testing.assert_allclose(one.crowd[0], together.crowd[i], atol=1e-5)
        np.testing.assert_allclose(one.embedding[0], together.embedding[i], atol=1e-5)
    turned = model.read(faces[::-1])
    np.testing.assert_allclose(turned.fer2013[::-1], together.fer2013, atol=1e-5)


def test_no_call_of_the_network_is_larger_than_a_batch(model: Expression, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda c: seen.append(len(c)) or run(c))
    model.read(crops(2 * BATCH + 1))
    assert seen == [BATCH, BATCH, 1]


@pytest.mark.parametrize("shape", [(0, 48, 48), (0, 48, 48, 3), (0, 10, 20)])
def test_no_crops_give_an_empty_reading(model: Expression, shape: tuple[int, ...]) -> None:
    reading = model.read(np.empty(shape, np.uint8))
    assert (reading.crowd.shape, reading.fer2013.shape, reading.embedding.shape) == ((0, 8), (0, 7), (0, 16))


def test_wrong_crops_are_named(model: Expression) -> None:
    with pytest.raises(ShapeError, match="crops: expected"):
        model.read(np.zeros((48, 48), np.float32))


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    assert Expression(str(write(tmp_path, network()[0]))).card.name == "tiny"


def test_another_file_than_the_card_names_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, network()[0])
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match=r"tiny\.onnx: its SHA-256 is [0-9a-f]{12}…, its card names"):
        Expression(file)


def test_a_model_without_a_card_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, network()[0])
    (tmp_path / "tiny.card.json").unlink()
    with pytest.raises(ModelError, match=r"tiny\.onnx: no card beside it; expected tiny\.card\.json"):
        Expression(file)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: no such model file"):
        Expression(tmp_path / "gone.onnx")
    with pytest.raises(UnknownModelError, match="unknown model 'gone'"):
        Expression("gone")


def test_a_model_for_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="'tiny' is for the task 'age'"):
        Expression(write(tmp_path, network()[0], task="age"))
    with pytest.raises(ModelError, match="declares that task and its input"):
        Expression(write(tmp_path, network()[0], input=None))


def test_a_network_without_a_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no output embedding; by its card it has crowd, fer2013, embedding"):
        Expression(write(tmp_path, network(("crowd", "fer2013"))[0]))


def test_bytes_that_are_no_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny\.onnx"):
        Expression(write(tmp_path, b"no network"))


def test_a_bundled_model_is_opened_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, network()[0])
    (tmp_path / "weights").mkdir()
    (tmp_path / "tiny.card.json").rename(tmp_path / "weights" / "tiny.card.json")
    monkeypatch.setattr(catalog, "_WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr("mien.zoo.store._ROOM", tmp_path)
    file.rename(tmp_path / "weights" / "tiny.onnx")
    assert Expression("tiny").read(crops(2)).crowd.shape == (2, 8)
