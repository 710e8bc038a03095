"""A run that is ended in any step and resumed gives what an unbroken one gives, bit for bit."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import torch
from killed import history, losses, train, wanted
from tiny import recipe

from mien.data.importers import read_labelled
from mien.errors import ResumeError
from mien.train.fit import differences, fit

# Lightning warns of folders that are not empty, of few batches and of its own use of torch.
pytestmark = [pytest.mark.usefixtures("undrawn")] + [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]

HERE = Path(__file__).parent
EVERY = "checkpoint_every=3"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums of several threads are added in any order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def straight(faces: Path, undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    train(faces, run, settings=[EVERY])
    return run


def assert_equal_runs(one: Path, other: Path) -> None:
    first, second = losses(one), losses(other)
    assert first == second
    assert all(len(values) == 1 for values in second.values())
    assert history(one) == history(other)
    a, b = (torch.load(r / "last.ckpt", weights_only=True) for r in (one, other))
    assert a["global_step"] == b["global_step"]
    for part in ("state_dict", "current_model_state"):
        if part in a:
            assert all(torch.equal(a[part][k], b[part][k]) for k in a[part])
    moments = [s["optimizer_states"][0]["state"] for s in (a, b)]
    for left, right in zip(moments[0].values(), moments[1].values(), strict=True):
        assert all(
            torch.equal(torch.as_tensor(left[k]), torch.as_tensor(right[k])) for k in left if left[k] is not None
        )


@pytest.fixture(scope="module")
def corpses(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Runs that were killed after step 13, in the middle of an epoch, and after 8, before an epoch was judged."""
    root = tmp_path_factory.mktemp("killed")
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")])
    with ExitStack() as stack:
        started = {
            at: stack.enter_context(
                subprocess.Popen(
                    [sys.executable, HERE / "killed.py", faces, root / str(at), EVERY, "--at", str(at)],
                    env=os.environ | {"PYTHONPATH": paths},
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for at in (8, 13)
        }
        for at, process in started.items():
            _, said = process.communicate(timeout=300)
            assert process.returncode == -signal.SIGKILL, (at, said)
    return {at: root / str(at) for at in started}


@pytest.mark.parametrize("at", [8, 13])
def test_killed_and_resumed_it_is_the_same_run(faces: Path, straight: Path, corpses: dict[int, Path], at: int) -> None:
    run = corpses[at]
    assert max(step for _, step in losses(run)) == at
    assert torch.load(run / "last.ckpt", weights_only=True)["global_step"] == at // 3 * 3
    train(faces, run, settings=[EVERY])
    assert_equal_runs(straight, run)


def test_a_signal_ends_the_step_and_loses_nothing(faces: Path, straight: Path, tmp_path: Path) -> None:
    heard = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    for at, number in ((5, signal.SIGTERM), (14, signal.SIGINT), (16, signal.SIGINT)):
        with pytest.raises(KeyboardInterrupt):
            train(faces, tmp_path, at=at, how=number)
        assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == at
        assert json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))["state"] == "stopped"
    train(faces, tmp_path)
    assert_equal_runs(straight, tmp_path)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == heard


@pytest.mark.parametrize(
    "settings",
    [
        ["accumulate=2", "optim.kind='adamw'", "optim.lr=0.003"],
        ["optim.schedule='plateau'", "optim.patience=1", "optim.ema=0", "sampler='balanced'"],
        ["labels='three'", "targets='votes'", "optim.schedule='onecycle'", "precision='bf16-mixed'"],
    ],
    ids=["accumulated", "plateau", "votes"],
)
def test_whatever_the_recipe_a_break_changes_nothing(faces: Path, tmp_path: Path, settings: list[str]) -> None:
    train(faces, tmp_path / "straight", settings=settings)
    for at in (1, 11, 20):
        with pytest.raises(RuntimeError, match="the power went"):
            train(faces, tmp_path / "broken", at=at, how=RuntimeError("the power went"), settings=[*settings, EVERY])
    train(faces, tmp_path / "broken", settings=settings)
    assert_equal_runs(tmp_path / "straight", tmp_path / "broken")


def test_a_kill_while_writing_leaves_the_checkpoint_before(
    faces: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def half(held: object, path: Path) -> None:
        if held["global_step"] == 12:
            Path(path).write_bytes(b"half of a checkpoint")
            raise SystemExit(9)
        save(held, path)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(KeyboardInterrupt):
            train(faces, tmp_path, settings=[EVERY])
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 9
    (tmp_path / "last.ckpt.tmp").write_bytes(b"what a killed process leaves")
    train(faces, tmp_path, settings=[EVERY])
    assert_equal_runs(straight, tmp_path)


def test_a_run_of_another_recipe_is_not_resumed(run: Path, faces: Path) -> None:
    other = recipe(batch=8, optim=dataclasses.replace(recipe().optim, lr=0.2))
    with pytest.raises(
        ResumeError, match=r"batch was 16 and is 8; optim\.lr was 0\.05 and is 0\.2; name another folder"
    ):
        fit(other, faces, run, resume=True, progress=False)


def test_a_run_on_other_faces_is_not_resumed(run: Path, faces: Path) -> None:
    fewer = read_labelled(faces)[np.arange(60)]
    with pytest.raises(ResumeError, match="holds a run on other faces"):
        fit(recipe(), fewer, run, resume=True, progress=False)


def test_what_may_change_on_the_way() -> None:
    longer = recipe(epochs=9, patience=3, monitor="val_crowd_loss", checkpoint_every=7, card={"licence": "ours"})
    assert differences(recipe(), longer) == ()
    assert differences(recipe(), recipe(seed=2, net_options={"stem": 8})) == (
        "net_options.depths was [1, 1] and is None",
        "net_options.stem was 4 and is 8",
        "net_options.widths was [8, 16] and is None",
        "seed was 1 and is 2",
    )


def test_a_run_that_stopped_early_stays_stopped(faces: Path, tmp_path: Path) -> None:
    still = recipe(
        epochs=6, patience=2, monitor="val_crowd_accuracy", optim=dataclasses.replace(recipe().optim, lr=1e-9)
    )
    fit(still, faces, tmp_path, progress=False)
    assert len(history(tmp_path)) == 3
    fit(still, faces, tmp_path, resume=True, progress=False)
    assert len(history(tmp_path)) == 3
    assert json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))["state"] == "finished"
    fit(dataclasses.replace(still, patience=3), faces, tmp_path, resume=True, progress=False)
    assert len(history(tmp_path)) == 4


def test_the_recipe_that_is_watched_is_the_runs(straight: Path) -> None:
    assert json.loads((straight / "recipe.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(wanted([EVERY]).as_dict())
    )
