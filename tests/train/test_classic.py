"""Oriented gradients and a support vector machine."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

import typer
from sklearn.svm import SVC, LinearSVC
from typer.testing import CliRunner

from mien.cli.features import svm as command
from mien.data.importers import LabelledFaces, read_labelled
from mien.data.split import split_training
from mien.errors import DataError, OptionError, OutputError, ShapeError
from mien.labels import SEVEN, LabelSet
from mien.train import classic
from mien.train.classic import Svm, fit_svm, hog, read_svm


def drawn(n: int = 90, *, classes: int = 3, seed: int = 0) -> LabelledFaces:
    """Draw faces of even light with a mouth whose height and width are those of its class."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % classes + 2
    slope, rows, columns = rng.uniform(0.5, 1, (n, 1, 1)), *np.mgrid[:48, :48]
    images = (70 + slope * (rows + columns)).astype(np.uint8)
    for picture, k in zip(images, label, strict=True):
        x, y = rng.integers(-2, 3, 2)
        picture[28 + y + 2 * k : 34 + y + 2 * k, 8 + x + 2 * k : 40 + x - 2 * k] = rng.integers(200, 255)
    votes, split = np.zeros((n, 10), np.float32), np.array(["Training"] * n)
    return LabelledFaces(images, label, votes, split, np.arange(n), np.arange(n).astype(str))


def naive_hog(face: np.ndarray) -> np.ndarray:
    """Compute the histograms of one 48×48 picture pixel by pixel, as Dalal and Triggs describe them."""
    padded = np.pad(face.astype(float), 1, mode="reflect")
    dx, dy = padded[1:-1, 2:] - padded[1:-1, :-2], padded[2:, 1:-1] - padded[:-2, 1:-1]
    size, place = np.hypot(dx, dy), (np.arctan2(dy, dx) % np.pi) / np.pi * 9 - 0.5
    blocks = []
    for left in range(0, 40, 8):
        for top in range(0, 40, 8):
            cells = np.zeros((2, 2, 9))
            for y, x in np.ndindex(16, 16):
                # A pixel counts by its distance to the middle, for the cells and directions that it lies between.
                weight = size[top + y, left + x] * np.exp(-((x - 8) ** 2 + (y - 8) ** 2) / (2 * 4**2))
                a = place[top + y, left + x]
                for i, j, k in np.ndindex(2, 2, 2):
                    near_x, near_y = 1 - abs((x - 3.5) / 8 - i), 1 - abs((y - 3.5) / 8 - j)
                    direction = int(np.floor(a)) + k
                    near_a = 1 - abs(a - direction)
                    cells[i, j, direction % 9] += weight * max(near_x, 0) * max(near_y, 0) * near_a
            v = cells.ravel()
            v = np.minimum(v / (np.sqrt((v**2).sum()) + 36 * 0.1), 0.2)
            blocks.append(v / (np.sqrt((v**2).sum()) + 1e-3))
    return np.concatenate(blocks)


def test_hog_against_a_naive_loop() -> None:
    faces = np.concatenate([drawn(2).images, np.random.default_rng(0).integers(0, 256, (1, 48, 48), np.uint8)])
    found = hog(faces, equalise=False)
    assert (found.shape, found.dtype) == ((3, 900), np.float32)
    assert 0 <= found.min() <= found.max() <= 1
    np.testing.assert_allclose(found, np.stack([naive_hog(f) for f in faces]), atol=1e-3)


def test_hog_takes_any_size_and_colour_and_does_not_mind_the_light() -> None:
    faces = drawn(3).images
    np.testing.assert_array_equal(hog(np.repeat(faces[..., None], 3, 3)), hog(faces))
    assert hog(np.zeros((2, 30, 20), np.uint8)).shape == (2, 900)
    assert hog(np.zeros((0, 48, 48), np.uint8)).shape == (0, 900)
    dark = (faces // 2).astype(np.uint8)
    assert np.abs(hog(dark) - hog(faces)).mean() < np.abs(hog(faces[[1, 2, 0]]) - hog(faces)).mean() / 2
    with pytest.raises(ShapeError, match="crops"):
        hog(np.zeros((48, 48), np.uint8))


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_arrays_answer_as_scikit_learn_does(kernel: str, classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    fitted = classic._calibrated
    monkeypatch.setattr(classic, "_calibrated", lambda *a, **k: held.append(fitted(*a, **k)) or held[0])
    machine = fit_svm(drawn(120, classes=classes), kernel=kernel)
    other = drawn(40, classes=classes, seed=1).images
    z = (hog(other) - machine.centre) / machine.spread
    np.testing.assert_allclose(machine(other)[:, machine.classes], held[0].predict_proba(z), atol=1e-5)
    inner = held[0].calibrated_classifiers_[0].estimator
    assert isinstance(inner, SVC if kernel == "rbf" else LinearSVC)
    decision = inner.decision_function(z)
    np.testing.assert_allclose(machine.decide(z), decision.reshape(len(z), -1), atol=1e-4)
    rest = np.setdiff1d(np.arange(7), machine.classes)
    assert not machine(other)[:, rest].any()
    np.testing.assert_allclose(machine(other).sum(1), 1, atol=1e-6)
    assert machine(other).dtype == np.float32


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_drawn_faces_are_told_apart(kernel: str) -> None:
    machine, test = fit_svm(drawn(), kernel=kernel), drawn(60, seed=1)
    found = machine.score(test)
    assert found.n == 60
    assert found.value == (machine.predict(test.images) == test.label).mean()
    assert found.low > 0.7


def test_a_face_without_a_label_counts_for_nothing() -> None:
    faces = drawn()
    label = faces.label.copy()
    label[::10] = -1
    without = LabelledFaces(faces.images, label, faces.votes, faces.split, faces.group, faces.name)
    machine = fit_svm(without)
    kept = fit_svm(without[label >= 0])
    np.testing.assert_array_equal(machine(faces.images), kept(faces.images))
    assert machine.score(without).n == int((label >= 0).sum())


def test_a_score_does_not_depend_on_the_other_faces() -> None:
    machine, faces = fit_svm(drawn()), drawn(20, seed=1).images
    np.testing.assert_allclose(machine(faces)[3:4], machine(faces[3:4]), atol=1e-5)
    assert machine(faces[:0]).shape == (0, 7)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_a_file_gives_back_the_machine(kernel: str, tmp_path: Path) -> None:
    machine, faces = fit_svm(drawn(), kernel=kernel), drawn(20, seed=1).images
    machine.save(tmp_path / "sub" / "f.npz")
    held = read_svm(tmp_path / "sub" / "f.npz")
    np.testing.assert_array_equal(held(faces), machine(faces))
    assert (held.labels, held.kernel, held.equalise) == (SEVEN, kernel, True)
    with np.load(tmp_path / "sub" / "f.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {f.name for f in fields(Svm)}
        assert all(arrays[name].dtype != object for name in arrays)
    assert [f.name for f in (tmp_path / "sub").iterdir()] == ["f.npz"]


def test_what_is_no_machine_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", values=np.zeros(3))
    (tmp_path / "b.npz").write_text("mine", encoding="utf-8")
    for name in ("a.npz", "b.npz", "gone.npz"):
        with pytest.raises(DataError, match=rf"{name}: not a support vector machine of ours"):
            read_svm(tmp_path / name)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="cannot be written"):
        fit_svm(drawn(), kernel="linear").save(tmp_path / "file" / "f.npz")


@pytest.mark.parametrize("wrong", [{"kernel": "poly"}, {"folds": 1}, {"cost": 0.0}])
def test_impossible_options_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="choose one of rbf, linear, above 0, at least 2"):
        fit_svm(drawn(), **wrong)


def test_too_few_faces_are_named() -> None:
    faces = drawn()
    with pytest.raises(DataError, match="30 labelled faces of 1 labels"):
        fit_svm(faces[faces.label == 3])
    with pytest.raises(DataError, match="sad: 2 different faces; 3 folds need at least as many"):
        fit_svm(faces[(faces.label != 4) | (np.arange(90) < 6)])


def test_labels_of_ones_own() -> None:
    faces, moods = drawn(), LabelSet("moods", ("smile", "pout", "neutral"))
    own = LabelledFaces(faces.images, faces.label - 2, faces.votes, faces.split, faces.group, faces.name, labels=moods)
    machine = fit_svm(own, kernel="linear")
    assert machine.labels == moods
    assert machine(faces.images).shape == (90, 3)


def test_the_command(faces: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command("svm")(command)
    out = tmp_path / "svm.npz"
    arguments = [str(faces), "--kernel", "linear", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "held out: accuracy" in done.output
    assert "n 7" in done.output
    said = json.loads(CliRunner().invoke(app, [*arguments, "--json", "--split", "PublicTest"]).stdout)
    every = read_labelled(faces)
    test = every.of_split("PublicTest")
    assert said["accuracy"]["value"] == read_svm(out).score(test).value
    assert said["accuracy"]["n"] == 8
    assert said["faces"] == len(split_training(every, validation=0.1, seed=0).train)
    few = json.loads(CliRunner().invoke(app, [*arguments, "--json", "--limit", "30"]).stdout)
    assert few["faces"] == 30
    wrong = CliRunner().invoke(app, [*arguments, "--limit", "0"])
    assert (wrong.exit_code, "--limit is 0" in wrong.stderr) == (2, True)


@pytest.mark.shared
def test_fer2013_is_told_better_than_by_the_commonest_label(shared: Path) -> None:
    every = read_labelled(shared / "fer2013" / "training.parquet")
    faces = every[np.random.default_rng(0).permutation(len(every))[:2000]]
    split = split_training(faces, validation=0.25, seed=0)
    machine = fit_svm(split.train)
    commonest = np.bincount(split.train.label).argmax()
    found = machine.score(split.validation)
    assert found.low > (split.validation.label == commonest).mean()
