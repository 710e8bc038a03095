"""Making a model, from pictures to the file that is shipped."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from mien.data.split import split_training
from mien.errors import DataError, ModelError, OutputError, ResumeError, SourceNotFoundError, UnknownModelError
from mien.labels import EIGHT
from mien.models.align import FER2013_TEMPLATE
from mien.models.expression import Expression
from mien.models.prepare import prepare
from mien.train.augment import Augment, mix
from mien.train.export import export, fit_temperature, folded, golden_crops, load_net
from mien.train.fit import fit
from mien.train.loader import INPUT, Batches
from mien.train.nets import NETS, TwoHeadResidual, build
from mien.train.recipe import Optim, Recipe, Stage
from mien.zoo.card import read_card

# Lightning warns of folders that are not empty, of few batches and of its own use of torch.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]

TEMPLATE = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
TINY = {"widths": [8, 16], "depths": [1, 1], "stem": 4}


def recipe(**changes: object) -> Recipe:
    plain = {
        "name": "tiny",
        "net_options": TINY,
        "epochs": 5,
        "batch": 16,
        "precision": "32-true",
        "validation": 0.1,
        "optim": Optim(lr=0.05, ema=0.9),
        "stages": (Stage(start=0, size=32), Stage(start=0.5, size=48)),
    }
    return Recipe(**plain | changes)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 training faces, bright mouths for happy and dark ones for sad, and 8 test faces of which one leaks."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(60, 180, (80, 48, 48), np.uint8)
    label = np.where(np.arange(80) % 2, 3, 4)
    pictures[label == 3, 30:40, 10:38] = 250
    pictures[label == 4, 30:40, 10:38] = 5
    pictures[79] = pictures[0]
    counts = np.zeros((80, 10), int)
    counts[np.arange(80), np.where(label == 3, 1, 3)] = 8
    counts[:, 0] = 2
    table = {
        "image": [cv2.imencode(".png", p)[1].tobytes() for p in pictures],
        "label": label.tolist(),
        "usage": ["Training"] * 72 + ["PublicTest"] * 8,
        "ferplus": counts.tolist(),
    }
    folder = tmp_path_factory.mktemp("faces")
    pq.write_table(pa.table(table), folder / "faces.parquet")
    return folder


@pytest.fixture(scope="module")
def run(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twenty steps."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    fit(recipe(), faces, folder, progress=False)
    return folder


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [40, 48, 33])
def test_a_net_gives_two_heads_and_an_embedding(name: str, size: int) -> None:
    crowd, fer2013, embedding = build(name).eval()(torch.zeros(2, 1, size, size))
    assert (crowd.shape, fer2013.shape) == ((2, 8), (2, 7))
    assert embedding.ndim == 2
    assert len(embedding) == 2


@pytest.mark.parametrize("name", NETS)
def test_a_net_is_at_most_five_million_parameters(name: str) -> None:
    assert sum(p.numel() for p in build(name).parameters()) <= 5_000_000


def test_the_flagships_parameters_are_what_its_layers_add_up_to() -> None:
    def conv(i: int, o: int, k: int) -> int:
        return i * o * k * k + 2 * o

    expected, i = conv(1, 24, 3), 24
    for o, depth in ((64, 1), (128, 2), (256, 3)):
        expected += conv(i, o, 3) + conv(o, o, 3) + conv(i, o, 1) + (depth - 1) * 2 * conv(o, o, 3)
        i = o
    expected += (256 + 1) * (8 + 7)
    assert sum(p.numel() for p in TwoHeadResidual().parameters()) == expected


def test_light_and_contrast_do_not_matter() -> None:
    net = TwoHeadResidual(**TINY).eval()
    x = torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(net(0.5 * x + 0.3)[2], net(x)[2], atol=5e-3, rtol=5e-3)


def test_an_unknown_net_is_named() -> None:
    with pytest.raises(UnknownModelError, match="unknown model 'vast'; choose one of: residual"):
        build("vast")


def test_folding_changes_no_answer() -> None:
    torch.manual_seed(0)
    net = TwoHeadResidual(**TINY)
    for _ in range(5):
        net.train()(torch.randn(16, 1, 48, 48))
    x = torch.randn(4, 1, 48, 48)
    plain = folded(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    with torch.inference_mode():
        for a, b in zip(plain(x), net.eval()(x), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_norm_that_cannot_be_folded_is_named() -> None:
    with pytest.raises(ModelError, match="the norm 0 does not follow a convolution"):
        folded(nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 1, 3)))


@pytest.mark.parametrize("size", [32, 48, 56])
def test_augmenting_keeps_range_and_gives_the_size(size: int) -> None:
    x = torch.rand(6, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    for seed in range(8):
        out = Augment(blur=0.5, noise=0.5)(x, torch.Generator().manual_seed(seed), size)
        assert out.shape == (6, 1, size, size)
        assert out.min() >= 0
        assert out.max() <= 1


def test_the_seed_decides_the_augmentation() -> None:
    x = torch.rand(6, 1, 48, 48, generator=torch.Generator().manual_seed(1))

    def made(seed: int) -> torch.Tensor:
        return Augment()(x, torch.Generator().manual_seed(seed), 48)

    assert torch.equal(made(3), made(3))
    assert not torch.equal(made(3), made(4))


def test_switched_off_it_is_the_picture_or_its_mirror() -> None:
    x = torch.rand(16, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    off = Augment(rotate=0, scale=0, shift=0, shear=0, gamma=0, blur=0, noise=0, erase=0)
    out = off(x, torch.Generator().manual_seed(0), 48)
    same = torch.isclose(out, x, atol=1e-4).flatten(1).all(1)
    mirrored = torch.isclose(out, x.flip(3), atol=1e-4).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert same.any()
    assert mirrored.any()


def test_erasing_takes_a_rectangle() -> None:
    x = torch.linspace(0, 1, 48 * 48).reshape(1, 1, 48, 48).repeat(32, 1, 1, 1)
    only = Augment(rotate=0, scale=0, shift=0, shear=0, gamma=0, blur=0, noise=0, erase=1)
    flat = (only(x, torch.Generator().manual_seed(0), 48) - 0.5).abs() < 1e-3
    assert 0.02 < flat.float().mean() < 0.3


def test_mixing_keeps_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    x, target = torch.rand(8, 1, 4, 4), torch.softmax(torch.randn(8, 5), 1)
    mixed, targets = mix(x, (target,), 0.4, generator)
    assert not torch.equal(mixed, x)
    torch.testing.assert_close(targets.sum(1), torch.ones(8))
    torch.testing.assert_close(targets.mean(0), target.mean(0))
    assert all(a is b for a, b in zip(mix(x, (target,), 0, generator), (x, target), strict=True))


def test_faces_of_the_test_split_are_not_trained_on(faces: Path) -> None:
    split = split_training(faces, validation=0.1, seed=1)
    assert split.dropped == 1
    assert len(split.train) + len(split.validation) == 71
    assert not np.isin(split.train.group, split.validation.group).any()


def test_the_seed_decides_who_is_held_out(faces: Path) -> None:
    held = [split_training(faces, validation=0.2, seed=s).validation.name.tolist() for s in (1, 1, 2)]
    assert held[0] == held[1] != held[2]


def test_nothing_to_train_on_is_named(tmp_path: Path, faces: Path) -> None:
    table = pq.read_table(faces / "faces.parquet")
    pq.write_table(table.filter(pa.compute.equal(table["usage"], "PublicTest")), tmp_path / "test.parquet")
    with pytest.raises(DataError, match="no face of the split 'Training'"):
        split_training(tmp_path, validation=0.1, seed=1)


def test_batches_are_prepared_as_every_crop_is(faces: Path) -> None:
    held = split_training(faces, validation=0.1, seed=1).train
    pictures, crowd, weight, label, _ = next(iter(Batches(held, batch=16, seed=1, epoch=None)))
    np.testing.assert_array_equal(pictures.numpy(), prepare(held.images[:16], INPUT))
    np.testing.assert_array_equal(crowd.numpy(), held.crowd()[:16])
    np.testing.assert_array_equal(weight.numpy(), held.crowd_weight()[:16])
    np.testing.assert_array_equal(label.numpy().argmax(1), held.label[:16])


def test_an_epoch_has_its_own_order_and_every_epoch_the_same_faces(faces: Path) -> None:
    held = split_training(faces, validation=0.1, seed=1).train

    def order(epoch: int) -> tuple[np.ndarray, set[int]]:
        batches = list(Batches(held, batch=8, seed=1, epoch=epoch))
        return np.concatenate([b[0].numpy() for b in batches]), {b[4] for b in batches}

    (first, seeds), (again, _), (second, others) = order(0), order(0), order(1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    assert not seeds & others
    assert len(first) == len(held) // 8 * 8


def test_twenty_steps_learn_something(run: Path) -> None:
    rows = (run / "history.csv").read_text(encoding="utf-8").splitlines()
    header, *epochs = [row.split(",") for row in rows]
    losses = [float(e[header.index("val_loss")]) for e in epochs]
    assert len(losses) == 5
    assert losses[-1] < losses[0]
    assert json.loads((run / "recipe.json").read_text(encoding="utf-8"))["name"] == "tiny"


def test_a_run_is_not_overwritten(run: Path, faces: Path) -> None:
    with pytest.raises(ResumeError, match="holds a run already; add --resume"):
        fit(recipe(), faces, run, progress=False)


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path, faces: Path) -> None:
    two = recipe(epochs=2)
    fit(two, faces, tmp_path / "straight", progress=False)
    fit(two, faces, tmp_path / "broken", until=1, progress=False)
    half = weights(tmp_path / "broken")
    fit(two, faces, tmp_path / "broken", resume=True, progress=False)
    straight, broken = weights(tmp_path / "straight"), weights(tmp_path / "broken")
    moved = [k for k in straight if straight[k].is_floating_point() and not torch.allclose(half[k], straight[k])]
    assert len(moved) > len(straight) / 2
    for name, value in straight.items():
        torch.testing.assert_close(broken[name], value, atol=1e-5, rtol=1e-4, msg=name)


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
