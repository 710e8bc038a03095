"""From a run to the file that is shipped."""

import gc
import json
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import torch
from tiny import TEMPLATE, recipe
from torch import nn

from mien.data.split import split_training
from mien.errors import DataError, ModelError, OptionError, OutputError, SourceNotFoundError
from mien.labels import EIGHT, SEVEN
from mien.models.align import FER2013_TEMPLATE
from mien.models.expression import Expression
from mien.models.prepare import prepare
from mien.train.answer import Answer, answers, rounded
from mien.train.export import export, fit_temperature, folded, golden_crops, load_net, open_run
from mien.train.loader import INPUT
from mien.train.nets import describe
from mien.train.recipe import Recipe
from mien.train.trained import new_net
from mien.zoo.card import Head, read_card

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
    assert card.heads == (Head("crowd", EIGHT), Head("fer2013", SEVEN))
    assert card.input is not None
    assert (card.input.width, card.input.height, card.input.colour, card.input.high) == (48, 48, "grey", 1)
    assert card.input.template == TEMPLATE
    assert dict(card.temperatures).keys() == {"crowd", "fer2013"}
    assert {(s.split, s.n) for s in card.scores} == {("PublicTest", 8), ("PublicTest, de-duplicated", 7)}
    assert all(s.low <= s.value <= s.high for s in card.scores)


def test_golden_vectors_lie_beside_it(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "tiny.onnx"
    card = export(run, file, data=None, template=TEMPLATE)
    assert (card.scores, card.temperatures) == ((), ())
    assert card.notes[-1] == "Not calibrated and not measured: it was exported without data."
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


def made(folder: Path, plan: Recipe, *, rename: dict[str, str] | None = None) -> Path:
    """A run that was never trained: norms of some data, weights of the seed, names of the checkpoint as given."""
    torch.manual_seed(0)
    net = new_net(plan).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    state = {f"net.{k}": v for k, v in net.state_dict().items()}
    for old, new in (rename or {}).items():
        state = {k.replace(old, new): v for k, v in state.items()}
    folder.mkdir(parents=True)
    torch.save({"state_dict": state}, folder / "last.ckpt")
    (folder / "recipe.json").write_text(json.dumps(plan.as_dict()), encoding="utf-8")
    return folder


OWN = {"labels": ("happy", "sad"), "drop": ("angry", "disgust", "fear", "surprise", "neutral", "contempt")}


def test_a_run_with_labels_of_its_own(faces: Path, tmp_path: Path) -> None:
    plan = recipe(**OWN, name="mine")
    run = made(tmp_path / "run", plan)
    card = export(run, tmp_path / "x.onnx", data=faces, name="mine", date="2020-01-02")
    model = Expression(tmp_path / "x.onnx")
    assert read_card(tmp_path / "x.card.json") == card == model.card
    assert card.summary == "Expression of a face: happy, sad"
    assert [(h.name, h.labels.labels) for h in model.heads] == [("labels", ("happy", "sad"))]
    assert [t for t, _ in card.temperatures] == ["labels"]
    held = split_training(faces, validation=plan.validation, seed=plan.seed, by=plan.split_by).validation
    _, net = load_net(run)
    logits = answers(rounded(net), ("labels",), held.images).scores["labels"]
    expected = fit_temperature(logits, np.eye(2)[(held.label == SEVEN.index("sad")).astype(int)])
    assert dict(card.temperatures)["labels"] == pytest.approx(expected)
    assert {(s.data, s.split, s.n) for s in card.scores} == {
        (faces.name, "PublicTest", 8),
        (faces.name, "PublicTest, de-duplicated", 7),
    }
    assert card.scores[0].metric == "accuracy of the labels head, 2 labels"
    golden = np.load(tmp_path / "x.golden.npz")
    np.testing.assert_allclose(model.read(golden["crops"]).scores["labels"], golden["labels"], atol=1e-3)


def test_data_with_other_labels_is_named(faces: Path, tmp_path: Path) -> None:
    run = made(tmp_path / "run", recipe(labels=("smile", "pout")))
    with pytest.raises(DataError, match="angry"):
        export(run, tmp_path / "x.onnx", data=faces)
    assert not list(tmp_path.glob("x.*"))


# The larger ones take long to write, and are made of the layers of these.
SMALL = [d.name for d in describe() if d.parameters < 2_000_000]


@pytest.mark.parametrize("name", [*SMALL, "elu5", "plain"])
def test_every_net_is_exported_as_torch_answers(name: str, tmp_path: Path) -> None:
    options = {"widths": [8, 16], "depths": [1, 2]} if name == "plain" else {}
    plan = Recipe(name=name, net=name, net_options=options, labels=("smile", "pout", "neutral"))
    run = made(tmp_path / "run", plan)
    card = export(run, tmp_path / "x.onnx", half=False)
    recipe_, net = load_net(run)
    crops = np.random.default_rng(0).integers(0, 256, (5, 60, 50, 3), np.uint8)
    reading, expected = Expression(tmp_path / "x.onnx").read(crops), answers(net, ("labels",), crops)
    assert card.input is not None
    assert (card.input.width, card.input.colour) == (net.input.width, net.input.colour)
    scores = torch.softmax(torch.from_numpy(expected.scores["labels"]), 1).numpy()
    np.testing.assert_allclose(reading.scores["labels"], scores, atol=1e-4)
    assert tuple(recipe_.heads()["labels"]) == ("smile", "pout", "neutral")


def test_branches_are_joined_and_norms_that_cannot_be_folded_stay(tmp_path: Path) -> None:
    torch.manual_seed(0)
    odd = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten())
    dense = nn.Sequential(odd, nn.Linear(4 * 6 * 6, 5), nn.BatchNorm1d(5))
    for _ in range(3):
        dense.train()(torch.randn(16, 3, 8, 8))
    plain = folded(dense)
    x = torch.randn(4, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(plain(x), dense.eval()(x), atol=1e-5, rtol=1e-5)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules()) == 2
    assert not any(isinstance(m, nn.BatchNorm1d) for m in plain.modules())
    _, net = load_net(made(tmp_path / "run", Recipe(name="plain", net="plain")))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def test_a_checkpoint_of_old_loads(tmp_path: Path) -> None:
    plan = recipe()
    new = made(tmp_path / "new", plan)
    old = made(tmp_path / "old", plan, rename={"net.heads.": "net."})
    assert "net.crowd.weight" in torch.load(old / "last.ckpt", weights_only=True)["state_dict"]
    crops = golden_crops()
    both = [answers(load_net(r)[1], ("crowd", "fer2013"), crops) for r in (new, old)]
    for head in ("crowd", "fer2013"):
        np.testing.assert_array_equal(both[0].scores[head], both[1].scores[head])


def test_the_best_checkpoint_is_exported_on_demand(tmp_path: Path) -> None:
    run = made(tmp_path / "run", recipe())
    held = torch.load(run / "last.ckpt", weights_only=True)
    held["state_dict"]["net.heads.crowd.bias"] += torch.arange(8)
    torch.save(held, run / "best.ckpt")
    last = export(run, tmp_path / "l.onnx")
    best = export(run, tmp_path / "b.onnx", checkpoint="best")
    by_file = export(run / "best.ckpt", tmp_path / "f.onnx")
    assert last.sha256 != best.sha256 == by_file.sha256
    with pytest.raises(OptionError, match="checkpoint is 'first'; a run has last and best"):
        export(run, tmp_path / "x.onnx", checkpoint="first")


def test_a_run_is_opened_without_leaving_a_file(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = open_run(run, threads=1)
    assert gettempdir() == str(tmp_path)
    assert model.file.is_relative_to(tmp_path)
    assert (model.card.name, model.card.temperatures) == (run.name, ())
    _, net = load_net(run)
    expected = torch.softmax(torch.from_numpy(answers(net, ("crowd", "fer2013"), golden_crops()).crowd), 1)
    np.testing.assert_allclose(model.read(golden_crops()).crowd, expected.numpy(), atol=1e-4)
    del model
    gc.collect()
    assert not list(tmp_path.iterdir())
    with pytest.raises(SourceNotFoundError, match=r"last\.ckpt: no such checkpoint"):
        open_run(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_answer_divides_by_its_temperatures(tmp_path: Path) -> None:
    _, net = load_net(made(tmp_path / "run", recipe()))
    crops = golden_crops()
    logits = answers(net, ("crowd", "fer2013"), crops)
    shipped = answers(Answer(net, {"crowd": 2.0, "fer2013": 0.5}), ("crowd", "fer2013"), crops)
    for head, t in (("crowd", 2.0), ("fer2013", 0.5)):
        expected = torch.softmax(torch.from_numpy(logits.scores[head]) / t, 1).numpy()
        np.testing.assert_allclose(shipped.scores[head], expected, atol=1e-6)


def test_weights_beyond_float16_are_named(tmp_path: Path) -> None:
    run = made(tmp_path / "run", recipe())
    held = torch.load(run / "last.ckpt", weights_only=True)
    held["state_dict"]["net.heads.crowd.weight"][0, 0] = 1e6
    torch.save(held, run / "last.ckpt")
    with pytest.raises(ModelError, match=r"heads\.crowd\.weight reach 1e\+06, beyond float16; export with half=False"):
        export(run, tmp_path / "x.onnx")


def test_what_cannot_be_exported_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"gone: no such checkpoint"):
        export(tmp_path / "gone", tmp_path / "x.onnx", template=TEMPLATE)
    old = made(tmp_path / "other", recipe())
    table = json.loads((old / "recipe.json").read_text(encoding="utf-8"))
    table["net_options"]["stem"] = 5
    (old / "recipe.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(ModelError, match=r"last\.ckpt: does not fit") as caught:
        export(old, tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
    (old / "last.ckpt").unlink()
    with pytest.raises(SourceNotFoundError, match=r"last\.ckpt: no such checkpoint"):
        export(old, tmp_path / "x.onnx")
    with pytest.raises(OptionError, match="int8 is calibrated on training faces"):
        export(run, tmp_path / "x.onnx", int8=True)
    with pytest.raises(OptionError, match=r"x\.bin: a model is written as \.onnx"):
        export(run, tmp_path / "x.bin")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        export(run, tmp_path / "file" / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()
