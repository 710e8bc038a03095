"""Models on the same faces, scored as scikit-learn scores them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from networks import network, write
from peers import FER, foreign_net, python_with
from scipy import stats
from sklearn import metrics as oracle
from typer.testing import CliRunner

from mien.cli.compare import compare as command
from mien.data.importers import LabelledFaces
from mien.errors import DataError, ModelError, OptionError
from mien.evaluate import compare as comparing
from mien.evaluate.compare import Entrant, compare, foreign, ours, peer
from mien.evaluate.comparison import MEASURES, Comparison, cells, markdown, notes
from mien.labels import EIGHT, FIVE, SEVEN, LabelSet
from mien.models.expression import Expression

QUICK = {"rounds": 1, "seconds": 0.01, "timeout": 120.0}


def faces_of(n: int = 90, seed: int = 4) -> LabelledFaces:
    """Faces of two splits; two of the tested ones are also in Training, and one stands there twice."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (n, 48, 48), np.uint8)
    label = rng.integers(0, 7, n)
    images[label == 3] = images[label == 3] // 2 + 127
    images[[10, 11]] = images[[n - 1, n - 2]]
    images[13], label[13] = images[12], label[12]
    votes = np.concatenate([rng.multinomial(10, rng.dirichlet(np.ones(8)), n), np.zeros((n, 2))], 1).astype(np.float32)
    votes[20:24] = 0
    split = np.where(np.arange(n) < n - 10, "PublicTest", "Training")
    images[n - 2], images[n - 1] = images[11], images[10]
    _, group = np.unique(images.reshape(n, -1), axis=0, return_inverse=True)
    return LabelledFaces(images, label, votes, split, group.astype(np.int64), np.arange(n).astype(str))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    write(folder, network()[0])
    return folder


@pytest.fixture(scope="module")
def found(room: Path) -> Comparison:
    python = python_with(room, {"fer/fer.py": FER})
    entrants = [
        ours("mine", Expression(room / "tiny.onnx"), SEVEN),
        peer(f"fer={python}"),
        Entrant("gone", "deepface", room / "nowhere"),
    ]
    return compare(entrants, faces_of(), data="made", split="PublicTest", labels=SEVEN, **QUICK)


def test_all_models_are_scored_on_the_same_distinct_faces(found: Comparison, room: Path) -> None:
    assert (found.n, found.also_elsewhere, found.repeated) == (77, 2, 1)
    assert [r.name for r in found.rows] == ["mine", "fer"]
    faces = faces_of()
    kept = np.setdiff1d(np.arange(80), [10, 11, 13])
    truth, images = faces.label[kept], faces.images[kept]
    mine = Expression(room / "tiny.onnx").read(images).scores["fer2013"]
    happy = images.mean((1, 2)) / 255
    theirs = np.tile(((1 - happy) / 6)[:, None], (1, 7))
    theirs[:, 3] = happy
    for row, scores in zip(found.rows, (mine, theirs), strict=True):
        named = scores.argmax(1)
        assert row.accuracy.value == pytest.approx(oracle.accuracy_score(truth, named))
        assert row.macro_f1.value == pytest.approx(oracle.f1_score(truth, named, average="macro"))
        assert row.balanced_accuracy.value == pytest.approx(oracle.balanced_accuracy_score(truth, named))
        assert row.accuracy.low < row.accuracy.value < row.accuracy.high
        assert row.macro_f1.low < row.macro_f1.value < row.macro_f1.high
    first, second = (s.argmax(1) == truth for s in (mine, theirs))
    pair = found.rows[1].against_first
    assert (pair.only_first, pair.only_second) == ((first & ~second).sum(), (second & ~first).sum())
    assert pair.p == pytest.approx(stats.binomtest(pair.only_first, pair.only_first + pair.only_second).pvalue)
    assert found.rows[0].against_first is None
    assert found.chance_largest == pytest.approx(np.bincount(truth).max() / 77)
    assert found.chance_uniform == pytest.approx(1 / 7)


def test_divergence_is_over_the_faces_that_have_votes(found: Comparison, room: Path) -> None:
    faces = faces_of()
    kept = np.setdiff1d(np.arange(80), [10, 11, 13, 20, 21, 22, 23])
    votes = faces.votes[kept, :8].astype(float)
    votes[:, 6] += votes[:, 7]  # contempt goes to neutral, as everywhere
    shares = votes[:, :7] / votes[:, :7].sum(1, keepdims=True)
    scores = Expression(room / "tiny.onnx").read(faces.images[kept]).scores["fer2013"]
    assert found.votes == len(kept)
    assert found.rows[0].divergence == pytest.approx(stats.entropy(shares, scores, axis=1).mean(), rel=1e-4)


def test_speed_memory_and_size_are_measured(found: Comparison) -> None:
    for row in found.rows:
        assert set(row.milliseconds) == {1, 64}
        for timing in row.milliseconds.values():
            assert 0 < timing.fastest <= timing.median <= timing.slowest
            assert timing.processor > 0
        assert row.start_seconds > 0
        assert row.peak_megabytes > 10
        assert row.environment_megabytes > 1


def test_a_model_that_cannot_take_part_is_told_and_the_others_go_on(found: Comparison) -> None:
    (line,) = found.problems
    assert line.startswith("gone: cannot start")


def test_the_page_and_the_json(found: Comparison) -> None:
    plain = found.as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["rows"][1]["against_first"]["p"] == found.rows[1].against_first.p
    page = markdown(found)
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(MEASURES)
    assert {line.count("|") for line in lines} == {4}
    assert lines[2].split("|")[2].strip() == f"{found.rows[0].accuracy.value:.4f}"
    assert "left out: gone: cannot start" in page
    assert len(cells(found.rows[0])) == len(MEASURES)
    assert notes(found)[0] == (
        "77 faces of made PublicTest; dropped: 2 whose pixels are also in another split, 1 repeated"
    )


def test_labels_that_a_model_lacks_are_left_out_for_all(room: Path) -> None:
    file = foreign_net(room, name="three", side=8)
    entrants = [
        ours("mine", Expression(room / "tiny.onnx"), FIVE),
        foreign(f"{file}:labels=happy,sad,smirk;range=0..1;output=soft"),
    ]
    faces = faces_of()
    held = compare(entrants, faces, data="made", split="PublicTest", labels=FIVE, **QUICK)
    assert held.labels == ("happy", "sad")
    kept = np.setdiff1d(np.arange(80), [10, 11, 13])
    kept = kept[np.isin(faces.label[kept], [3, 4])]
    assert held.n == len(kept)
    mine = Expression(room / "tiny.onnx").read(faces.images[kept]).scores["crowd"]
    assert held.rows[0].accuracy.value == pytest.approx((mine[:, [3, 4]].argmax(1) == faces.label[kept] - 3).mean())
    said = " ".join(held.remarks)
    assert "three.onnx has no angry, surprise, neutral: left out for all" in said
    assert "three.onnx also names smirk" in said
    assert "faces whose label was left out do not count" in said


def test_eight_labels_are_held_against_the_votes(room: Path) -> None:
    entrants = [ours("mine", Expression(room / "tiny.onnx"), EIGHT)]
    assert entrants[0].options["head"] == "crowd"
    faces = faces_of()
    held = compare(entrants, faces, data="made", split="PublicTest", labels=EIGHT, **QUICK)
    kept = np.setdiff1d(np.arange(80), [10, 11, 13, 20, 21, 22, 23])
    named = Expression(room / "tiny.onnx").read(faces.images[kept]).scores["crowd"].argmax(1)
    assert held.n == len(kept)
    assert held.rows[0].accuracy.value == pytest.approx((named == faces.votes[kept, :8].argmax(1)).mean())
    assert "the expression with the most votes" in held.remarks[0]


def test_what_cannot_be_compared(room: Path) -> None:
    mine = ours("mine", Expression(room / "tiny.onnx"), SEVEN)
    options = {"data": "made", "split": "PublicTest", "labels": SEVEN} | QUICK
    for entrants, changes, kind, line in (
        ([], {}, OptionError, "no model to compare"),
        ([mine, mine], {}, OptionError, "the model mine stands there twice"),
        ([mine], {"rounds": 0}, OptionError, "rounds is 0"),
        ([mine], {"seconds": 0.0}, OptionError, "seconds is 0"),
        ([mine], {"split": "Night"}, DataError, "the split 'Night' is empty"),
        ([Entrant("gone", "fer", room / "nowhere"), mine], {}, ModelError, "gone: cannot start"),
    ):
        with pytest.raises(kind, match=line):
            compare(entrants, faces_of(), **options | changes)
    other = foreign(f"{foreign_net(room, name='other')}:labels=smirk,grin,leer;range=0..1;output=soft")
    with pytest.raises(DataError, match="the models and the data share no label; choose other --labels"):
        compare([other], faces_of(), **options)


@pytest.mark.parametrize(
    ("text", "line"),
    [("rmn=/usr/bin/python3", "unknown peer 'rmn'"), ("fer", "runs in its own Python"), ("fer=", "name it")],
)
def test_a_peer_is_named_with_its_python(text: str, line: str) -> None:
    with pytest.raises(OptionError, match=line):
        peer(text)


def test_the_head_that_answers_is_the_nearest(room: Path) -> None:
    model = Expression(room / "tiny.onnx")
    heads = {
        labels.name: ours("m", model, labels).options["head"]
        for labels in (SEVEN, EIGHT, FIVE, LabelSet("two", ("happy", "sad")))
    }
    assert heads == {"seven": "fer2013", "eight": "crowd", "five": "crowd", "two": "crowd"}
    assert ours("m", model, SEVEN).file_bytes == (room / "tiny.onnx").stat().st_size
    assert ours("m", model, SEVEN).model is model  # a run's temporary file goes when its model does
    assert ours("m", Expression("expression"), SEVEN).options["model"] == "expression"
    assert ours("m", Expression("expression"), SEVEN).file_bytes == 0


def test_a_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "usable_cpus", lambda: 2)
    assert comparing._busy(2.1, 7) == ()
    assert "13.4 wanted to run on 2 processors" in comparing._busy(13.4, 7)[0]


def run(*arguments: object) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def data(room: Path) -> Path:
    faces = faces_of()
    order = (6, 3, 5, 4, 0, 1, 2, 7, 8, 9)
    table = {
        "image": [cv2.imencode(".png", p)[1].tobytes() for p in faces.images],
        "label": faces.label.tolist(),
        "usage": faces.split.tolist(),
        "ferplus": faces.votes[:, order].astype(int).tolist(),
    }
    (room / "data").mkdir()
    pq.write_table(pa.table(table), room / "data" / "faces.parquet")
    return room / "data"


def test_the_command(room: Path, data: Path, found: Comparison) -> None:
    python = python_with(room, {"fer/fer.py": FER})
    quick = ("--rounds", 1, "--seconds", 0.01, "--out", room / "new" / "c.md")
    twin = room / "twin"
    twin.mkdir()
    write(twin, network()[0])
    code, said, told = run(room / "tiny.onnx", twin / "tiny.onnx", data, "--peer", f"fer={python}", *quick)
    assert code == 0
    assert str(twin / "tiny.onnx") in (room / "new" / "c.md").read_text()
    assert "McNemar's exact p" in said
    assert f"{found.rows[0].accuracy.value:.4f}" in said
    assert f"{found.rows[1].accuracy.value:.4f}" in said
    assert told.strip().endswith("c.md")
    assert (room / "new" / "c.md").read_text().startswith("# ")


def test_the_command_goes_on_without_a_peer_and_ends_with_2(room: Path, data: Path) -> None:
    quick = ("--rounds", 1, "--seconds", 0.01, "--json")
    code, said, told = run(
        room / "tiny.onnx", data, "--peer", f"fer={room}/nowhere", "--labels", "happy,sad,neutral", *quick
    )
    assert code == 2
    assert told.startswith("mien: fer: cannot start")
    plain = json.loads(said)
    assert len(plain["rows"]) == 1
    assert plain["labels"] == ["happy", "sad", "neutral"]
    kept = np.setdiff1d(np.arange(80), [10, 11, 13])
    assert plain["n"] == int(np.isin(faces_of().label[kept], [3, 4, 6]).sum())
    assert any("labelled angry, disgust, fear, surprise do not count" in line for line in plain["remarks"])


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("data",), "data is the data, so there is no model"),
        (("expression", "nowhere"), "nowhere"),
        (("nonesuch", "{data}"), "unknown model 'nonesuch'"),
        (("expression", "{data}", "--peer", "rmn=x"), "unknown peer 'rmn'"),
        (("expression", "{data}", "--labels", "ninety"), "ninety"),
        (("gone.onnx:labels=a,b", "{data}"), "gone.onnx: no such model file"),
    ],
)
def test_the_command_fails_in_one_line(data: Path, arguments: tuple[str, ...], line: str) -> None:
    code, said, told = run(*(a.replace("{data}", str(data)) for a in arguments))
    assert (code, said) == (2, "")
    assert line in told
    assert len(told.strip().splitlines()) == 1
