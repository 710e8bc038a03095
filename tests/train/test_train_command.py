"""`mien train` as it is typed."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

from lightning.pytorch.callbacks import RichProgressBar
from typer.testing import CliRunner, Result

from mien.cli.app import app
from mien.train.fit import fit
from mien.train.recipe import read_recipe

# Lightning warns of folders that are not empty, of few batches and of its own use of torch.
pytestmark = [pytest.mark.usefixtures("undrawn")] + [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]

QUICK = ("--set", "precision='32-true'", "--batch", "8", "--limit", "16")


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """The command quiets Lightning for its process."""
    loggers = [logging.getLogger(n) for n in ("lightning", "lightning.pytorch", "lightning.fabric")]
    before = [log.level for log in loggers]
    yield
    for log, level in zip(loggers, before, strict=True):
        log.setLevel(level)


def mien(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_run_from_flags_alone(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--net", "minixception", "--labels", "six", "--data", faces, "--name", "run7", "--lr", "0.002", *QUICK)
    done = mien("train", *flags, "--epochs", "1", "--no-augment")
    assert done.exit_code == 0, done.stderr
    recipe = read_recipe("runs/run7/recipe.json")
    assert (recipe.net, recipe.labels, recipe.epochs, recipe.optim.lr) == ("minixception", "six", 1, 0.002)
    assert not recipe.augment.enabled
    assert json.loads(Path("runs/run7/state.json").read_text(encoding="utf-8"))["state"] == "finished"
    again = mien("train", *flags, "--epochs", "2", "--no-augment")
    assert (again.exit_code, "add --resume to go on with it" in again.stderr) == (2, True)
    other = mien("train", *flags, "--epochs", "2", "--resume")
    assert (other.exit_code, "augment.enabled was False and is True" in other.stderr) == (2, True)
    more = mien("train", *flags, "--epochs", "2", "--no-augment", "--resume")
    assert more.exit_code == 0, more.stderr
    assert Path("runs/run7/history.csv").read_text(encoding="utf-8").count("\n") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "x"), "name a recipe or a network"),
        (("a.toml", "--net", "elu5", "--data", "x"), "name a recipe or a network"),
        (("--net", "elu5"), "name the faces to train on: --data DIR"),
        (("a.toml", "--data", "x"), "a.toml: no such recipe"),
        (("--net", "vast", "--data", "x"), "unknown model 'vast'"),
        (("--net", "elu5", "--data", "gone"), "gone: no such file or folder"),
        (("--net", "elu5", "--labels", "nine", "--data", "x"), "labels cannot be 'nine'"),
        (("--net", "elu5", "--lr", "0", "--data", "x"), "optim.lr cannot be 0"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = mien("train", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_lightning_refuses_is_said_in_a_line(faces: Path, tmp_path: Path) -> None:
    done = mien("train", "--net", "minixception", "--data", faces, "--run", tmp_path, "--set", "precision='fine'")
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "recipe minixception: cannot be run here" in done.stderr


def test_a_terminal_gets_a_bar_and_no_lines_across_it(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[object] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(RichProgressBar, "on_train_epoch_end", lambda self, trainer, module: shown.append(self))
    plan = read_recipe(_quick(tmp_path))
    with caplog.at_level(logging.INFO):
        fit(plan, faces, tmp_path / "run", limit=16)
    assert len(shown) == 1
    assert not [r for r in caplog.records if r.name == "mien.train.monitor"]
    assert [r for r in caplog.records if r.name == "mien.train.fit"]


def _quick(folder: Path) -> Path:
    file = folder / "quick.toml"
    file.write_text(
        "net = 'minixception'\nlabels = 'six'\nepochs = 1\nbatch = 8\nprecision = '32-true'\n", encoding="utf-8"
    )
    return file
