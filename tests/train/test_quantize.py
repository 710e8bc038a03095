"""Eight-bit models: what they may lose, what they must keep, and what their cards say."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import cv2
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from tiny import TEMPLATE
from typer.testing import CliRunner

from mien.cli.export import export as command
from mien.data.split import Split, split_training
from mien.errors import DataError, ModelError
from mien.models.expression import Expression
from mien.train.export import export
from mien.train.quantize import METHODS, quantize
from mien.zoo.card import read_card

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]


@pytest.fixture(scope="module")
def plain(run: Path, faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The float model of the tiny run."""
    file = tmp_path_factory.mktemp("plain") / "tiny.onnx"
    export(run, file, data=faces, name="tiny", template=TEMPLATE, date="2020-01-02")
    return file


@pytest.fixture(scope="module")
def split(faces: Path) -> Split:
    return split_training(faces, validation=0.2, seed=1)


@pytest.fixture(scope="module")
def small(plain: Path, split: Split, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in eight bits."""
    file = tmp_path_factory.mktemp("small") / "tiny8.onnx"
    quantize(plain, file, split)
    return file


def test_it_computes_in_integers_and_answers_nearly_alike(plain: Path, small: Path, split: Split) -> None:
    graph = onnx.load(small).graph
    kinds = {i.name: i.data_type for i in graph.initializer}
    weights = [i for i in graph.initializer if len(i.dims) == 4]
    assert weights
    assert sum(kinds[i.name] == onnx.TensorProto.INT8 for i in weights) >= len(weights) - 1
    before, after = (Expression(f, threads=1).read(split.validation.images) for f in (plain, small))
    for head in ("crowd", "fer2013"):
        gap = np.abs(before.scores[head] - after.scores[head])
        assert 0 < gap.max() < 0.15
        assert gap.mean() < 0.02


def test_weights_leave_a_bit_free_so_that_no_processor_saturates(small: Path) -> None:
    for tensor in onnx.load(small).graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 4:
            assert np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() <= 64


def test_the_card_says_what_it_cost(plain: Path, small: Path, split: Split) -> None:
    card, old = read_card(small.with_suffix(".card.json")), read_card(plain.with_suffix(".card.json"))
    assert (card.name, card.file) == ("tiny-int8", "weights/tiny8.onnx")
    assert (card.heads, card.temperatures, card.input, card.parameters) == (
        old.heads,
        old.temperatures,
        old.input,
        old.parameters,
    )
    assert card.scores == ()
    changes = {c.what: c for c in card.changes}
    size = changes["size of the file, bytes"]
    assert (size.before, size.after) == (plain.stat().st_size, small.stat().st_size) == (old.size, card.size)
    accuracy = changes["accuracy of the fer2013 head, held-out faces of Training"]
    loss = changes["likelihood loss of the fer2013 head, held-out faces of Training, nats"]
    held = split.validation
    for file, right, mean in ((plain, accuracy.before, loss.before), (small, accuracy.after, loss.after)):
        scores = Expression(file).read(held.images).fer2013
        assert right == pytest.approx((scores.argmax(1) == held.label).mean(), abs=1e-4)
        assert mean == pytest.approx(-np.log(scores[np.arange(len(held)), held.label]).mean(), abs=2e-3)
    assert accuracy.n == len(held)
    pace = changes["milliseconds a face, one thread, batches of 32"]
    assert pace.before > 0
    assert pace.after > 0
    assert any(method in card.notes[-1] for method in METHODS)


def test_its_golden_vectors_have_a_tolerance_of_their_own(small: Path) -> None:
    golden = np.load(small.with_suffix(".golden.npz"))
    assert 1e-3 < float(golden["tolerance"]) <= 0.02
    reading = Expression(small).read(golden["crops"])
    for head in ("crowd", "fer2013"):
        np.testing.assert_allclose(reading.scores[head], golden[head], atol=float(golden["tolerance"]))


def test_the_same_faces_give_the_same_bytes(plain: Path, small: Path, split: Split, tmp_path: Path) -> None:
    again = quantize(plain, tmp_path / "tiny8.onnx", split)
    assert again.sha256 == read_card(small.with_suffix(".card.json")).sha256
    for ending in (".onnx", ".golden.npz"):
        assert (tmp_path / "tiny8.onnx").with_suffix(ending).read_bytes() == small.with_suffix(ending).read_bytes()
    assert str(tmp_path).encode() not in small.read_bytes()


def test_a_run_is_quantised_and_scored_and_test_faces_decide_nothing(run: Path, faces: Path, tmp_path: Path) -> None:
    card = export(run, tmp_path / "x.onnx", data=faces, name="mine", int8=True, template=TEMPLATE)
    assert card == read_card(tmp_path / "x.card.json")
    assert card.name == "mine"
    assert {(s.split, s.n) for s in card.scores} == {("PublicTest", 8), ("PublicTest, de-duplicated", 7)}
    assert len(card.changes) == 6
    assert sorted(f.name for f in tmp_path.iterdir()) == ["x.card.json", "x.golden.npz", "x.onnx"]
    table = pq.read_table(faces / "faces.parquet")
    pictures, usage = table["image"].to_pylist(), table["usage"].to_pylist()
    blank = cv2.imencode(".png", np.zeros((48, 48), np.uint8))[1].tobytes()
    # The last test face is a twin of a training face, which keeps that one out of training.
    last = len(usage) - 1
    changed = [
        blank if u == "PublicTest" and i != last else p for i, (p, u) in enumerate(zip(pictures, usage, strict=True))
    ]
    pq.write_table(table.set_column(0, "image", pa.array(changed)), tmp_path / "other.parquet")
    other = export(run, tmp_path / "y.onnx", data=tmp_path / "other.parquet", int8=True, template=TEMPLATE)
    assert other.sha256 == card.sha256


def mien(*arguments: object) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


def test_the_command_quantises_a_model_and_says_what_it_cost(plain: Path, faces: Path, tmp_path: Path) -> None:
    code, err = mien(plain, "--to", tmp_path / "m8.onnx", "--data", faces, "--int8")
    assert code == 0
    card = read_card(tmp_path / "m8.card.json")
    assert card.name == "m8"
    assert f"SHA-256 {card.sha256}" in err
    assert "accuracy of the crowd head, held-out faces of Training: " in err
    assert "PublicTest, de-duplicated" in err
    assert Expression(tmp_path / "m8.onnx").card == card


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ((), "is a model already; give --int8 and --data"),
        (("--int8",), "is a model already; give --int8 and --data"),
        (("--int8", "--data", "gone"), "gone: no such"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    plain: Path, tmp_path: Path, extra: tuple[str, ...], words: str
) -> None:
    code, err = mien(plain, "--to", tmp_path / "m8.onnx", *extra)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_the_command_exports_a_run_without_data(run: Path, tmp_path: Path) -> None:
    code, err = mien(run, "--to", tmp_path / "m.onnx", "--name", "plain")
    assert code == 0
    assert "not calibrated and not measured" in err
    assert read_card(tmp_path / "m.card.json").name == "plain"
    code, err = mien(run, "--to", tmp_path / "n.onnx", "--checkpoint", "first")
    assert (code, "a run has last and best" in err) == (2, True)


def test_what_cannot_be_quantised_is_named(plain: Path, split: Split, tmp_path: Path) -> None:
    none = split.train[:0]
    with pytest.raises(DataError, match="no face to calibrate with"):
        quantize(plain, tmp_path / "x.onnx", Split(none, split.validation, 0))
    with pytest.raises(ModelError, match="no such model file"):
        quantize(tmp_path / "gone.onnx", tmp_path / "x.onnx", split)
    assert not list(tmp_path.iterdir())
