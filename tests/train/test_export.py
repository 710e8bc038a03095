"""From a run to the file that is shipped."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import torch
from tiny import TEMPLATE

from mien.data.split import split_training
from mien.errors import ModelError, OutputError, SourceNotFoundError
from mien.labels import EIGHT
from mien.models.align import FER2013_TEMPLATE
from mien.models.expression import Expression
from mien.models.prepare import prepare
from mien.train.export import export, fit_temperature, golden_crops, load_net
from mien.train.loader import INPUT
from mien.zoo.card import read_card

# Lightning warns of folders that are not empty, of few batches and of its own use of torch.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]


def test_a_temperature_that_was_put_in_is_found() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 7))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    drawn = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    assert fit_temperature(2.5 * logits, np.eye(7)[drawn]) == pytest.approx(2.5, rel=0.05)
    assert fit_temperature(0.4 * logits, p) == pytest.approx(0.4, rel=1e-6)


def test_the_temperature_is_the_best_of_a_grid() -> None:
    rng = np.random.default_rng(1)
    logits, target, weight = rng.normal(0, 3, (300, 8)), rng.dirichlet(np.ones(8), 300), rng.uniform(0, 1, 300)

    def loss(t: float) -> float:
        z = logits / t
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        return float(-(weight * (target * log_p).sum(1)).sum())

    found = fit_temperature(logits, target, weight)
    assert loss(found) <= min(loss(t) for t in np.geomspace(0.05, 20, 2000)) + 1e-9
    assert fit_temperature(logits, target, np.zeros(300)) == 1


def test_golden_crops_are_drawn_the_same_every_time() -> None:
    crops = golden_crops()
    assert crops.shape == (8, 48, 48)
    assert crops.dtype == np.uint8
    np.testing.assert_array_equal(crops, golden_crops())
    assert len({c.tobytes() for c in crops}) == 8


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-4), (True, 1e-3)], ids=["float32", "float16"])
def test_the_file_answers_as_torch_does(run: Path, faces: Path, tmp_path: Path, half: bool, tolerance: float) -> None:
    file = tmp_path / "tiny.onnx"
    card = export(run, file, data=faces, template=TEMPLATE, half=half, date="2020-01-02")
    model, (_, net) = Expression(file, threads=1), load_net(run)
    crops = split_training(faces, validation=0.1, seed=1).train.images
    with torch.inference_mode():
        crowd, fer2013, embedding = net(torch.from_numpy(prepare(crops, INPUT)))
    reading, temperatures = model.read(crops), dict(card.temperatures)
    expected = torch.softmax(crowd / temperatures["crowd"], 1), torch.softmax(fer2013 / temperatures["fer2013"], 1)
    np.testing.assert_allclose(reading.crowd, expected[0].numpy(), atol=tolerance)
    np.testing.assert_allclose(reading.fer2013, expected[1].numpy(), atol=tolerance)
    np.testing.assert_allclose(reading.embedding, embedding.numpy(), atol=20 * tolerance)
    one_by_one = np.concatenate([model(crops[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(one_by_one, reading.crowd[:5], atol=1e-5)


def test_the_card_says_what_there_is_to_know(run: Path, faces: Path, tmp_path: Path) -> None:
    file = tmp_path / "new" / "tiny.onnx"
    card = export(run, file, data=faces, name="tiny", template=TEMPLATE, date="2020-01-02")
    assert read_card(file.with_suffix(".card.json")) == card
    assert sorted(f.name for f in file.parent.iterdir()) == ["tiny.card.json", "tiny.golden.npz", "tiny.onnx"]
    assert (card.name, card.task, card.file, card.date) == ("tiny", "expression", "weights/tiny.onnx", "2020-01-02")
    assert card.size == file.stat().st_size
    assert card.labels == EIGHT
    assert card.input is not None
    assert (card.input.width, card.input.height, card.input.colour, card.input.high) == (48, 48, "grey", 1)
    assert card.input.template == TEMPLATE
    assert dict(card.temperatures).keys() == {"crowd", "fer2013"}
    assert {(s.split, s.n) for s in card.scores} == {("PublicTest", 8), ("PublicTest, de-duplicated", 7)}
    assert all(s.low <= s.value <= s.high for s in card.scores)


def test_golden_vectors_lie_beside_it(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "tiny.onnx"
    card = export(run, file, data=None, template=TEMPLATE)
    assert (card.scores, dict(card.temperatures)) == ((), {"crowd": 1.0, "fer2013": 1.0})
    golden = np.load(file.with_suffix(".golden.npz"))
    reading = Expression(file).read(golden["crops"])
    np.testing.assert_allclose(reading.crowd, golden["crowd"], atol=float(golden["tolerance"]))
    np.testing.assert_allclose(reading.fer2013, golden["fer2013"], atol=float(golden["tolerance"]))


def test_an_export_is_the_same_every_time_and_names_no_place(run: Path, tmp_path: Path) -> None:
    blobs = []
    for name in ("a", "b"):
        export(run, tmp_path / name / "x.onnx", data=None, template=TEMPLATE, date="2020-01-02")
        blobs.append([(tmp_path / name / f"x{e}").read_bytes() for e in (".onnx", ".card.json", ".golden.npz")])
    assert blobs[0] == blobs[1]
    for place in (str(Path(torch.__file__).parent), str(Path(__file__).parents[2])):
        assert place.encode() not in blobs[0][0]


def test_the_template_is_that_of_the_aligner(run: Path, tmp_path: Path) -> None:
    card = export(run, tmp_path / "x.onnx", data=None)
    assert card.input is not None
    np.testing.assert_allclose(card.input.template, FER2013_TEMPLATE)


def test_float16_halves_the_file(run: Path, tmp_path: Path) -> None:
    small = export(run, tmp_path / "h.onnx", data=None, template=TEMPLATE)
    large = export(run, tmp_path / "f.onnx", data=None, template=TEMPLATE, half=False)
    assert small.size < 0.8 * large.size
    assert small.parameters == large.parameters


def test_what_cannot_be_exported_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"recipe\.json: no such recipe"):
        export(tmp_path / "gone", tmp_path / "x.onnx", data=None, template=TEMPLATE)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    table = json.loads((other / "recipe.json").read_text(encoding="utf-8"))
    table["net_options"]["stem"] = 5
    (other / "recipe.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(ModelError, match=r"last\.ckpt: does not fit") as caught:
        export(other, tmp_path / "x.onnx", data=None, template=TEMPLATE)
    assert "\n" not in str(caught.value)
    (other / "last.ckpt").unlink()
    with pytest.raises(SourceNotFoundError, match=r"last\.ckpt: no such checkpoint"):
        export(other, tmp_path / "x.onnx", data=None, template=TEMPLATE)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        export(run, tmp_path / "file" / "x.onnx", data=None, template=TEMPLATE)
    assert not (tmp_path / "x.onnx").exists()
