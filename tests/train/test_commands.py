"""Train, export, judge and use a model from the command line alone."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import cv2
from typer.testing import CliRunner

from mien.cli.app import app

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]

RECIPE = """
name = "tiny"
epochs = 2
batch = 8
precision = "32-true"
validation = 0.2
[net_options]
widths = [8, 16]
depths = [1, 1]
stem = 4
[card]
licence = "ours"
"""


def mien(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_from_a_recipe_to_an_analysis(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 3)):
        for label in ("angry", "happy", "neutral"):
            for i in range(count):
                file = tmp_path / "faces" / split / label / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), rng.integers(0, 255, (48, 48), np.uint8))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    run, model = tmp_path / "run", tmp_path / "my.onnx"
    mien("train", tmp_path / "tiny.toml", "--data", tmp_path / "faces", "--run", run)
    assert (run / "history.csv").read_text().count("\n") == 3
    mien("export", run, "--to", model, "--data", tmp_path / "faces")
    card = json.loads(model.with_suffix(".card.json").read_text())
    assert card["licence"] == "ours"
    assert len(card["sha256"]) == 64
    report = json.loads(mien("evaluate", model, tmp_path / "faces", "--json"))
    assert report["as_given"]["n"] == 9
    picture = Path(__import__("skimage").__file__).parent / "data" / "astronaut.png"
    faces = json.loads(mien("analyze", picture, "--model", model, "--json"))["faces"]
    assert len(faces) == 1
    assert sum(faces[0]["scores"].values()) == pytest.approx(1, abs=1e-4)


def test_labels_of_ones_own_from_folders_to_an_annotated_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 3)):
        for label in ("smile", "pout", "neutral"):
            for i in range(count):
                file = tmp_path / "faces" / split / label / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), rng.integers(0, 255, (48, 48), np.uint8))
    (tmp_path / "tiny.toml").write_text('labels = ["smile", "pout", "neutral"]\n' + RECIPE)
    run, model = tmp_path / "run", tmp_path / "my.onnx"
    mien("train", tmp_path / "tiny.toml", "--data", tmp_path / "faces", "--run", run)
    mien("export", run, "--to", model, "--data", tmp_path / "faces", "--name", "mine", "--checkpoint", "best")
    card = json.loads(model.with_suffix(".card.json").read_text())
    assert card["name"] == "mine"
    assert card["heads"][0]["labels"]["labels"] == ["smile", "pout", "neutral"]
    assert {s["n"] for s in card["scores"]} == {9}
    picture = Path(__import__("skimage").__file__).parent / "data" / "astronaut.png"
    for named in (model, run, run / "best.ckpt"):
        faces = json.loads(mien("analyze", picture, "--model", named, "--json"))["faces"]
        assert list(faces[0]["scores"]) == ["smile", "pout", "neutral"]
        assert sum(faces[0]["scores"].values()) == pytest.approx(1, abs=1e-4)
    mien("analyze", picture, "--model", model, "--annotate", tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").iterdir())) == 1
