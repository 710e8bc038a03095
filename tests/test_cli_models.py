"""`mien evaluate`, `mien train` and `mien export` from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from fakes import TEMPLATE
from networks import MOODS, SPEC, network, write
from typer.testing import CliRunner

from mien.cli import opening, train
from mien.cli.app import app
from mien.media.stills import read_picture
from mien.models.expression import Expression
from mien.results.files import read_faces


def mien(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.integers(0, 255, (30, 12, 12), np.uint8).repeat(4, 1).repeat(4, 2)


@pytest.fixture
def table(tmp_path: Path, faces: np.ndarray) -> Path:
    """fer2013.csv with thirty test faces, of which the first is also a training face, and votes beside it."""
    rows = [("Training", 0, faces[0])] + [("PublicTest", i % 7, face) for i, face in enumerate(faces)]
    lines = [f"{label},{' '.join(map(str, face.ravel()))},{usage}" for usage, label, face in rows]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    votes = [
        f"{usage},fer{i:07}.png," + ",".join("8" if k == i % 8 else "0" for k in range(10))
        for i, (usage, *_) in enumerate(rows)
    ]
    names = "neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    (tmp_path / "fer2013new.csv").write_text("\n".join([f"Usage,Image name,{names}", *votes]) + "\n")
    return tmp_path


def test_evaluate_gives_the_accuracy_that_the_model_has(table: Path, faces: np.ndarray) -> None:
    code, out, _ = mien("evaluate", "expression", table, "--split", "PublicTest", "--json")
    assert code == 0
    report = json.loads(out)
    right = Expression().read(faces).fer2013.argmax(1) == np.arange(30) % 7
    given, without = report["as_given"], report["deduplicated"]
    assert given["n"] == 30
    assert given["fer2013"]["accuracy"]["value"] == pytest.approx(right.mean())
    assert without["n"] == 29
    assert without["fer2013"]["accuracy"]["value"] == pytest.approx(right[1:].mean())
    assert without["crowd"]["first_choice"]["n"] == 29


def test_evaluate_prints_a_table_for_people(table: Path) -> None:
    code, out, _ = mien("evaluate", "expression", table)
    assert code == 0
    assert "de-duplicated, 29 faces" in out
    assert "recall disgust" in out
    assert "calibration error" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("expression", "none"), "none"),
        (("vgg", "."), "vgg"),
        (("expression", ".", "--split", "Test"), "Test"),
        (("mtcnn-pnet", "."), "mtcnn-pnet"),
    ],
)
def test_evaluate_says_in_one_line_what_is_wrong(table: Path, arguments: tuple[str, ...], words: str) -> None:
    model, data, *rest = arguments
    code, _, err = mien("evaluate", model, table / data, *rest)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "arguments", [("train", "r.toml", "--data", "d"), ("export", "run", "--to", "m.onnx", "--data", "d")]
)
def test_without_the_extra_training_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for room in (train, opening):
        monkeypatch.setattr(room, "find_spec", lambda _name: None)
    code, _, err = mien(*arguments)
    assert code == 2
    assert "pip install 'mien[train]'" in err
    assert len(err.strip().splitlines()) == 1


def test_without_pyarrow_parquet_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "a.png").write_bytes(b"")
    code, _, err = mien("analyze", tmp_path / "a.png", "--out", tmp_path / "f.parquet")
    assert code == 2
    assert "mien[parquet]" in err


@pytest.fixture(scope="module")
def moods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows smile, pout and neutral."""
    blob, _ = network((MOODS,))
    return write(
        tmp_path_factory.mktemp("model"),
        blob,
        labels=MOODS.labels,
        heads=(MOODS,),
        input=replace(SPEC, template=TEMPLATE),
    )


def test_folders_of_other_names_are_merged_into_a_models_labels(moods: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("grin", "neutral"):
        (tmp_path / label).mkdir()
        for i in range(4):
            cv2.imwrite(str(tmp_path / label / f"{i}.png"), rng.integers(0, 255, (48, 48), np.uint8))
    code, _, err = mien("evaluate", moods, tmp_path, "--no-checks", "--json")
    assert code == 2
    assert "--merge grin=smile" in err
    code, out, _ = mien("evaluate", moods, tmp_path, "--no-checks", "--json", "--merge", "grin=smile")
    assert code == 0
    counts = {c["label"]: c["n"] for c in json.loads(out)["as_given"]["labels"]["classes"]}
    assert counts == {"smile": 4, "pout": 0, "neutral": 4}


PORTRAIT = Path(skimage.__file__).parent / "data" / "astronaut.png"


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
def test_a_model_with_labels_of_its_own_goes_into_every_file(moods: Path, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"faces{ending}"
    code, _, err = mien("analyze", PORTRAIT, "--model", moods, "--out", file, "--annotate", tmp_path / "drawn", "-q")
    assert (code, err) == (0, "")
    faces = read_faces(file)
    assert faces.labels.labels == ("smile", "pout", "neutral")
    assert faces.expression.sum(1) == pytest.approx(1, abs=1e-4)
    assert faces.top[0] in faces.labels
    drawn = read_picture(next((tmp_path / "drawn").iterdir()))
    assert (drawn != read_picture(PORTRAIT)).any()


def test_labels_of_its_own_in_json_and_on_the_terminal(moods: Path) -> None:
    code, out, _ = mien("analyze", PORTRAIT, "--model", moods, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["settings"]["labels"] == "custom"
    scores = document["faces"][0]["scores"]
    assert list(scores) == ["smile", "pout", "neutral"]
    best = max(scores, key=scores.get)
    assert document["faces"][0]["top"] == best
    assert best in mien("analyze", PORTRAIT, "--model", moods)[1]
    only = json.loads(mien("analyze", PORTRAIT, "--model", moods, "--only", best.upper(), "--json")[1])
    assert len(only["faces"]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--labels", "seven"), "the model 'tiny' cannot give the label set 'seven'; it can give custom (smile, pout"),
        (("--labels", "nine"), "unknown label set 'nine'; choose one of: custom"),
        (("--only", "happy"), "unknown label 'happy'; choose one of: smile, pout, neutral"),
    ],
)
def test_what_such_a_model_cannot_give_is_one_line(moods: Path, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = mien("analyze", PORTRAIT, "--model", moods, *arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    code, _, err = mien("analyze", PORTRAIT, "--model", tmp_path)
    assert code == 2
    assert len(err.strip().splitlines()) == 1


def test_a_folder_that_has_a_bundled_models_name_does_not_stand_in_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "expression").mkdir()
    monkeypatch.chdir(tmp_path)
    assert opening.open_model("expression").card.name == "expression"
    assert not opening.is_run("expression")
    assert opening.is_run("./expression")
