"""Features that are computed once, and heads that are trained on them."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import torch
import typer
from tiny import TINY
from typer.testing import CliRunner

from mien.cli.features import features as command
from mien.data.importers import LabelledFaces, read_labelled
from mien.data.split import split_training
from mien.errors import DataError, OptionError, OutputError
from mien.evaluate.metrics import wilson
from mien.labels import SEVEN
from mien.models.expression import Expression
from mien.models.prepare import prepare
from mien.train.features import Features, extract, read_features, train_head
from mien.train.nets import Net, build, load_trunk, swap_heads


def net(seed: int = 0, **options: object) -> Net:
    torch.manual_seed(seed)
    made = build("residual", {"labels": 7}, **TINY | options)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return made


@pytest.fixture(scope="module")
def labelled(faces: Path) -> LabelledFaces:
    return read_labelled(faces)


def app() -> typer.Typer:
    made = typer.Typer()
    made.command("features")(command)
    return made


def test_features_are_what_the_trunk_gives(labelled: LabelledFaces) -> None:
    model = net()
    found = extract(model, labelled)
    with torch.inference_mode():
        expected = model.eval()(torch.from_numpy(prepare(labelled.images, model.input)))[-1]
    np.testing.assert_allclose(found.values, expected.numpy(), atol=1e-5)
    np.testing.assert_array_equal(found.label, labelled.label)
    np.testing.assert_array_equal(found.group, labelled.group)
    np.testing.assert_array_equal(found.split, labelled.split)
    assert found.labels == SEVEN


@pytest.mark.parametrize("training", [True, False])
def test_a_net_is_left_as_it_was(labelled: LabelledFaces, training: bool) -> None:
    model = net().train(training)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    extract(model, labelled[:8])
    assert model.training is training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_bundled_models_embedding(labelled: LabelledFaces) -> None:
    model = Expression(threads=1)
    found = extract(model, labelled[:6])
    np.testing.assert_allclose(found.values, model.read(labelled.images[:6]).embedding, atol=1e-5)
    assert found.weights == model.card.sha256


def counted(model: Net, labelled: LabelledFaces, cache: Path) -> tuple[Features, int]:
    told: list[int] = []
    return extract(model, labelled, cache=cache, progress=lambda done, total: told.append(done)), len(told)


def test_the_trunk_runs_once(labelled: LabelledFaces, tmp_path: Path) -> None:
    file = tmp_path / "sub" / "f.npz"
    first, steps = counted(net(), labelled, file)
    assert steps == 2
    stamp = file.stat().st_mtime_ns
    again, steps = counted(net(), labelled, file)
    assert steps == 0
    assert file.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(first.values, again.values)
    assert [f.name for f in file.parent.iterdir()] == ["f.npz"]


def test_other_weights_or_pictures_run_it_again(labelled: LabelledFaces, tmp_path: Path) -> None:
    file = tmp_path / "f.npz"
    first, _ = counted(net(), labelled, file)
    other, steps = counted(net(seed=1), labelled, file)
    assert steps == 2
    assert not np.array_equal(first.values, other.values)
    fewer, steps = counted(net(seed=1), labelled[1:], file)
    assert (len(fewer), steps) == (len(labelled) - 1, 2)
    np.testing.assert_array_equal(read_features(file).values, fewer.values)


def test_other_labels_are_kept_without_running_it_again(labelled: LabelledFaces, tmp_path: Path) -> None:
    from mien.labels import SIX

    file = tmp_path / "f.npz"
    counted(net(), labelled, file)
    six, steps = counted(net(), labelled.relabelled(SIX), file)
    assert (six.labels, steps) == (SIX, 0)
    assert read_features(file).labels == SIX


def test_a_swapped_head_runs_it_no_more(labelled: LabelledFaces, tmp_path: Path) -> None:
    counted(net(), labelled, tmp_path / "f.npz")
    _, steps = counted(swap_heads(net(), {"mood": 3}), labelled, tmp_path / "f.npz")
    assert steps == 0


def test_zeros_are_counted() -> None:
    values = np.array([[0, 1, 0], [0, 0, 2], [0, 3, 4], [0, 5, 6]], np.float32)
    four = np.arange(4)
    found = Features(values, four, four, np.array(["Training"] * 4), SEVEN, "w", "p")
    assert found.zero_share.tolist() == [1, 0.25, 0.25]
    assert (found.zeros, found.dead) == (0.5, 1)


def test_a_file_gives_back_what_was_saved(labelled: LabelledFaces, tmp_path: Path) -> None:
    found = extract(net(), labelled)
    found.save(tmp_path / "f.npz")
    held = read_features(tmp_path / "f.npz")
    for name in ("values", "label", "group", "split"):
        np.testing.assert_array_equal(getattr(held, name), getattr(found, name))
    assert (held.labels, held.weights, held.pictures) == (found.labels, found.weights, found.pictures)


def test_what_is_no_file_of_features_is_named_and_kept(labelled: LabelledFaces, tmp_path: Path) -> None:
    file = tmp_path / "notes.npz"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(DataError, match=r"notes\.npz: not a file of features"):
        extract(net(), labelled, cache=file)
    assert file.read_text(encoding="utf-8") == "mine"
    np.savez(tmp_path / "other.npz", values=np.zeros(3))
    with pytest.raises(DataError, match="not a file of features"):
        read_features(tmp_path / "other.npz")
    found = extract(net(), labelled)
    Features(found.values[:3], *(getattr(found, n) for n in found.__slots__[1:])).save(tmp_path / "short.npz")
    with pytest.raises(DataError, match="not a file of features"):
        read_features(tmp_path / "short.npz")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        found.save(tmp_path / "file" / "f.npz")


def clouds(n: int = 400, *, dead: int = 2) -> tuple[Features, LabelledFaces]:
    """Return features of three classes around three far points, and faces to them."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % 3
    points = rng.normal(0, 1, (3, 10)) * 4 + 50
    values = (points[label] + rng.normal(0, 1, (n, 10))).astype(np.float32) * np.float32(0.01)
    values[:, :dead] = 0
    images = rng.integers(0, 255, (n, 8, 8), np.uint8)
    votes, split = np.zeros((n, 10), np.float32), np.array(["Training"] * (n - 40) + ["PublicTest"] * 40)
    faces = LabelledFaces(images, label, votes, split, np.arange(n), np.arange(n).astype(str))
    return Features(values, label, faces.group, split, SEVEN, "w", "p"), faces


@pytest.mark.parametrize("hidden", [0, 16])
def test_a_head_learns_and_is_scored_on_faces_it_has_not_seen(hidden: int) -> None:
    found, faces = clouds()
    trained = train_head(found, faces, hidden=hidden)
    split = split_training(faces, validation=0.1, seed=0)
    assert (trained.held_out.n, trained.trained_on.n) == (len(split.validation), len(split.train)) == (36, 324)
    assert trained.held_out.value > 0.95
    named = trained(found.values).argmax(1)
    held = np.isin(found.group, split.validation.group)
    hits = int((named[held] == found.label[held]).sum())
    assert trained.held_out.value == hits / 36
    assert (trained.held_out.low, trained.held_out.high) == wilson(hits, 36)
    np.testing.assert_allclose(trained(found.values).sum(1), 1, atol=1e-5)
    common = np.bincount(split.train.label).argmax()
    assert trained.chance.value == (split.validation.label == common).mean()
    again = train_head(found, faces, hidden=hidden)
    np.testing.assert_array_equal(trained(found.values), again(found.values))


def test_a_head_is_scored_on_another_split() -> None:
    found, faces = clouds()
    trained, usual = train_head(found, faces, on="PublicTest", epochs=5), train_head(found, faces, epochs=5)
    test = found.split == "PublicTest"
    np.testing.assert_array_equal(trained(found.values), usual(found.values))
    assert trained.held_out.n == 40
    assert trained.held_out.value == (trained(found.values[test]).argmax(1) == found.label[test]).mean()
    with pytest.raises(DataError, match="and 0 to score it on"):
        train_head(found, faces, on="PrivateTest")


def test_noise_is_not_learnt() -> None:
    found, faces = clouds()
    values = np.random.default_rng(5).normal(0, 1, found.values.shape).astype(np.float32)
    noise = Features(values, *(getattr(found, n) for n in found.__slots__[1:]))
    assert train_head(noise, faces).held_out.low < 1 / 3


def test_a_linear_head_fits_into_the_net(labelled: LabelledFaces) -> None:
    model = net().eval()
    found = extract(model, labelled)
    trained = train_head(found, labelled, epochs=2)
    model.heads["labels"].load_state_dict(trained.head[0].state_dict())
    with torch.inference_mode():
        logits = model(torch.from_numpy(prepare(labelled.images, model.input)))[0]
    np.testing.assert_allclose(logits.softmax(1).numpy(), trained(found.values), atol=1e-4)


def test_what_cannot_be_trained_is_named(labelled: LabelledFaces) -> None:
    found, faces = clouds()
    for wrong in ({"hidden": -1}, {"epochs": 0}, {"validation": 1.0}):
        with pytest.raises(OptionError, match="at least 0, at least 1, between 0 and 1"):
            train_head(found, faces, **wrong)
    with pytest.raises(DataError, match="split 'Training'"):
        train_head(found, faces[faces.split == "PublicTest"])
    with pytest.raises(DataError, match="there are no faces"):
        extract(net(), labelled[:0])


def test_the_command(faces: Path, tmp_path: Path) -> None:
    out, weights = tmp_path / "f.npz", tmp_path / "w.pt"
    torch.manual_seed(0)
    torch.save(build("residual-s").state_dict(), weights)
    arguments = ["residual-s", str(faces), "--weights", str(weights), "--out", str(out), "--head"]
    done = CliRunner().invoke(app(), arguments)
    assert done.exit_code == 0, done.output
    assert "80 faces, 128 features" in done.output
    assert "of all numbers" in done.output
    assert "held out: accuracy" in done.output
    said = json.loads(CliRunner().invoke(app(), [*arguments, "--json"]).stdout)
    found = read_features(out)
    model = load_trunk(build("residual-s"), weights)
    np.testing.assert_allclose(found.values, extract(model, read_labelled(faces)).values, atol=1e-5)
    assert (said["zeros"], said["dead"]) == (found.zeros, found.dead)
    assert len(said["zero_share"]) == said["features"] == 128
    assert said["head"]["held_out"]["n"] == 7
    assert "the head has not seen the held-out faces" in done.stderr
    public = CliRunner().invoke(app(), [*arguments, "--on", "PublicTest"])
    assert "PublicTest: accuracy" in public.stdout
    assert "n 8" in public.stdout
    assert "flatters" not in public.stderr
    bare = CliRunner().invoke(app(), ["residual-s", str(faces), "--out", str(out)])
    assert (bare.exit_code, "a network without weights" in bare.stderr) == (2, True)
    wrong = CliRunner().invoke(app(), ["vast", str(faces), "--weights", str(weights), "--out", str(out)])
    assert wrong.exit_code == 2
    assert "unknown model 'vast'" in wrong.stderr


@pytest.mark.shared
def test_the_bundled_trunk_tells_faces_apart(shared: Path, tmp_path: Path) -> None:
    every = read_labelled(shared / "fer2013" / "training.parquet")
    faces = every[np.random.default_rng(0).permutation(len(every))[:600]]
    found = extract(Expression(threads=1), faces, cache=tmp_path / "f.npz")
    trained = train_head(found, faces, validation=0.3)
    assert trained.held_out.low > trained.chance.value
