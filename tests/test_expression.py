"""The expression model, on small networks that are made here."""

from pathlib import Path

import numpy as np
import pytest
from networks import HEADS, MOODS, SPEC, network, write

from mien.errors import IntegrityError, ModelError, OptionError, ShapeError, UnknownLabelError, UnknownModelError
from mien.labels import EIGHT, FIVE, SEVEN, SIX, THREE, LabelSet
from mien.models.base import Classifier
from mien.models.expression import BATCH, Expression, Reading, View, offered, view
from mien.models.prepare import prepare
from mien.zoo import catalog
from mien.zoo.card import Head, ModelCard


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
        Expression(write(tmp_path, network(outputs=("crowd", "fer2013"))[0]))


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


def test_a_model_with_labels_of_its_own(tmp_path: Path) -> None:
    blob, weights = network((MOODS,))
    model = Expression(write(tmp_path, blob, labels=MOODS.labels, heads=(MOODS,)), threads=1)
    faces = crops(4)
    reading = model.read(faces)
    expected = softmax((prepare(faces, SPEC).reshape(4, -1) @ weights["embed"]) @ weights["to_labels"])
    assert model.heads == (MOODS,)
    assert list(reading.scores) == ["labels"]
    np.testing.assert_allclose(reading.scores["labels"], expected, atol=1e-4)
    np.testing.assert_array_equal(model(faces), reading.scores["labels"])
    with pytest.raises(ModelError, match="this model has no head 'crowd'; it has labels"):
        _ = reading.crowd


def test_readings_are_indexed_and_joined(model: Expression) -> None:
    reading = model.read(crops(6))
    index = np.array([4, 0, 5])
    picked = reading[index]
    assert len(picked) == 3
    np.testing.assert_array_equal(picked.fer2013, reading.fer2013[[4, 0, 5]])
    joined = Reading.concat([reading[:2], reading[2:]])
    for name in ("crowd", "fer2013"):
        np.testing.assert_array_equal(joined.scores[name], reading.scores[name])
    np.testing.assert_array_equal(joined.embedding, reading.embedding)
    assert len(reading[np.zeros(6, bool)]) == 0


def test_a_card_that_does_not_fit_the_network_is_refused(tmp_path: Path) -> None:
    wrong = (Head("crowd", SEVEN), Head("fer2013", SEVEN))
    with pytest.raises(ModelError, match="the head crowd gives 8 scores, its card names 7 labels"):
        Expression(write(tmp_path, network()[0], heads=wrong))
    with pytest.raises(ModelError, match="'tiny': its card names no heads; export the model again"):
        Expression(write(tmp_path, network()[0], heads=()))
    with pytest.raises(ModelError, match="no output labels; by its card it has labels, embedding"):
        Expression(write(tmp_path, network()[0], heads=(MOODS,)))


def card(*heads: Head) -> ModelCard:
    return ModelCard(
        name="tiny", task="expression", file="", sha256="", size=0, licence="", origin="", data="", input=SPEC,
        labels=heads[0].labels if heads else None, heads=heads,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "head", "labels"),
    [(None, "crowd", EIGHT), ("eight", "crowd", EIGHT), ("seven", "fer2013", SEVEN), ("five", "crowd", FIVE)],
)
def test_a_label_set_is_read_from_the_head_that_has_it(name: str | None, head: str, labels: LabelSet) -> None:
    found = view(card(*HEADS), name)
    assert (found.head.name, found.labels) == (head, labels)


def test_scores_are_summed_to_the_labels_that_were_asked_for() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(8), 5).astype(np.float32)
    reading = Reading({"crowd": scores}, np.zeros((5, 2), np.float32))
    three = view(card(HEADS[0]), "three")(reading)
    i = EIGHT.index
    negative = sum(scores[:, i(n)] for n in ("angry", "disgust", "fear", "sad", "contempt"))
    np.testing.assert_allclose(three[:, THREE.index("negative")], negative, atol=1e-6)
    np.testing.assert_allclose(three.sum(1), 1, atol=1e-6)
    assert view(card(HEADS[0]), None)(reading) is scores


def test_what_a_model_can_give() -> None:
    assert offered(card(*HEADS)) == ("eight", "seven", "six", "five", "three")
    assert offered(card(MOODS)) == ("custom",)
    # Five labels sum to three; nothing would ever be called disgust, so they are no seven.
    assert offered(card(Head("labels", FIVE))) == ("five", "three")
    assert offered(card(Head("labels", SIX))) == ("six", "five", "three")
    other = Head("second", LabelSet("custom", ("yes", "no")))
    assert offered(card(MOODS, other)) == ("custom", "second")
    assert view(card(MOODS, other), "second") == View(other, other.labels)


def test_what_a_model_cannot_give_is_one_line() -> None:
    with pytest.raises(
        OptionError, match=r"'tiny' cannot give the label set 'seven'; it can give custom \(smile, pout, n"
    ):
        view(card(MOODS), "seven")
    with pytest.raises(UnknownLabelError, match="unknown label set 'nine'; choose one of: eight, seven"):
        view(card(*HEADS), "nine")
    with pytest.raises(ModelError, match="names no heads"):
        view(card())
