"""What a run tells of itself, and that a restart leaves nothing twice."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("tensorboard")

import lightning
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import recipe
from torch.utils.data import DataLoader, TensorDataset

from mien.train import monitor
from mien.train.monitor import Monitor
from mien.train.runs import read_run, read_table

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch", "tensorboard")
]
BATCHES = 6


class Line(lightning.LightningModule):
    """A straight line through noise: a step is nothing but a step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Linear(3, 1)

    def loss(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return ((self.net(batch[0]) - batch[1]) ** 2).mean()

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        self.log("val_loss", self.loss(batch))
        self.log("val_accuracy", (self.loss(batch) < 1).float())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Raises(Callback):
    """Breaks off after a step."""

    def __init__(self, step: int, error: BaseException) -> None:
        self.step, self.error = step, error

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise self.error


def batches() -> DataLoader:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(4 * BATCHES, 3, generator=generator)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4)


def train(folder: Path, *callbacks: Callback, epochs: int = 4, resume: Path | None = None, **options: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    saver = ModelCheckpoint(
        dirpath=folder, filename="best", monitor="val_loss", save_last=True, enable_version_counter=False
    )
    watch = Monitor(folder, recipe(epochs=epochs), {"faces": 24}, every=options.pop("every", 2))
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=options.pop("max_epochs", epochs),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[watch, saver, *callbacks],
        **options,
    )
    data = batches()
    trainer.fit(Line(), data, data, ckpt_path=str(resume) if resume else None, weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(folder)
    return folder


def test_every_epoch_has_a_row_and_every_second_step(whole: Path) -> None:
    assert (whole / "history.csv").read_text().splitlines()[0] == ("epoch,seconds,lr,train_loss,val_loss,val_accuracy")
    history, steps = read_table(whole / "history.csv"), read_table(whole / "steps.csv")
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    assert steps["step"].tolist() == list(range(2, 25, 2))
    assert steps["epoch"].tolist() == [(s - 1) // BATCHES for s in range(2, 25, 2)]
    np.testing.assert_allclose(steps["lr"], [0.05 / (1 + s) for s in range(2, 25, 2)], rtol=1e-5)


def test_the_losses_are_those_of_the_steps(tmp_path: Path) -> None:
    """Against plain torch: the same line, the same batches, every step."""
    train(tmp_path, epochs=1, every=1)
    line = Line()
    optimizer = torch.optim.SGD(line.parameters(), lr=0.05)
    losses = []
    for i, batch in enumerate(batches()):
        optimizer.param_groups[0]["lr"] = 0.05 / (1 + i)
        loss = line.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(read_table(tmp_path / "steps.csv")["loss"], losses, rtol=1e-4)
    np.testing.assert_allclose(read_table(tmp_path / "history.csv")["train_loss"], [np.mean(losses)], rtol=1e-4)


def test_the_loss_of_gathered_batches_is_not_divided(tmp_path: Path) -> None:
    train(tmp_path / "one", epochs=1, every=1, limit_train_batches=1)
    train(tmp_path / "two", epochs=1, every=1, limit_train_batches=2, accumulate_grad_batches=2)
    assert read_table(tmp_path / "two" / "steps.csv")["step"].tolist() == [1]
    second = Line().loss(list(batches())[1]).item()
    assert read_table(tmp_path / "two" / "steps.csv")["loss"][0] == pytest.approx(second, rel=1e-4)


def test_the_state_says_what_is_needed(whole: Path) -> None:
    state = json.loads((whole / "state.json").read_text())
    told = {k: state[k] for k in ("state", "epoch", "epochs", "step", "steps", "faces", "parameters", "device")}
    assert told == {
        "state": "finished",
        "epoch": 4,
        "epochs": 4,
        "step": 24,
        "steps": 24,
        "faces": 24,
        "parameters": 4,
        "device": "cpu",
    }
    assert state["pid"] == os.getpid()
    assert state["rate"] > 0
    history = read_table(whole / "history.csv")
    row = int(np.argmin(history["val_loss"]))
    assert state["best"] == {
        "epoch": row,
        "metric": "val_loss",
        "value": pytest.approx(history["val_loss"][row]),
        "mode": "min",
    }
    assert read_run(whole).state == "finished"


def test_curves_are_drawn_and_tensorboard_has_the_scores(whole: Path) -> None:
    assert (whole / "curves.png").read_bytes()[:4] == b"\x89PNG"
    board = EventAccumulator(str(whole / "tb"))
    board.Reload()
    seen = [(e.step, e.value) for e in board.Scalars("val_loss")]
    losses = read_table(whole / "history.csv")["val_loss"]
    assert [s for s, _ in seen] == [6, 12, 18, 24]
    np.testing.assert_allclose([v for _, v in seen], losses, rtol=1e-4)
    assert [e.step for e in board.Scalars("step/loss")] == list(range(2, 25, 2))


def test_nothing_temporary_is_left(whole: Path) -> None:
    assert {f.name for f in whole.iterdir()} == {
        "history.csv",
        "steps.csv",
        "state.json",
        "curves.png",
        "tb",
        "last.ckpt",
        "best.ckpt",
    }


def test_after_a_crash_in_an_epoch_nothing_stands_twice(tmp_path: Path, whole: Path) -> None:
    """The checkpoint is that of epoch 1; epoch 2 was half written, and a line of it only in part."""
    with pytest.raises(ValueError, match="out of milk"):
        train(tmp_path, Raises(17, ValueError("out of milk\nand of tea")))
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["state"], state["error"], state["epoch"]) == ("failed", "ValueError: out of milk", 2)
    assert read_table(tmp_path / "steps.csv")["step"].tolist() == list(range(2, 17, 2))
    with (tmp_path / "steps.csv").open("a") as file:
        file.write("18,2,0.")
    train(tmp_path, resume=tmp_path / "last.ckpt")
    for name, key in (("history.csv", "epoch"), ("steps.csv", "step")):
        there, straight = read_table(tmp_path / name), read_table(whole / name)
        assert there[key].tolist() == straight[key].tolist()
    np.testing.assert_allclose(
        read_table(tmp_path / "steps.csv")["loss"], read_table(whole / "steps.csv")["loss"], rtol=1e-3
    )
    again = json.loads((tmp_path / "state.json").read_text())
    assert again["state"] == "finished"
    assert "error" not in again
    assert again["started"] == state["started"]
    assert again["seconds"] >= state["seconds"]


def test_rows_after_an_older_checkpoint_are_cut_off(tmp_path: Path, whole: Path) -> None:
    train(tmp_path, max_epochs=2)
    shutil.copy(tmp_path / "last.ckpt", tmp_path / "older.ckpt")
    train(tmp_path, resume=tmp_path / "older.ckpt", max_epochs=4)
    train(tmp_path, resume=tmp_path / "older.ckpt", max_epochs=3)
    assert read_table(tmp_path / "history.csv")["epoch"].tolist() == [0, 1, 2]
    assert read_table(tmp_path / "steps.csv")["step"].tolist() == list(range(2, 19, 2))
    board = EventAccumulator(str(tmp_path / "tb"))
    board.Reload()
    # Files of one second are read in the order of their names.
    assert sorted(e.step for e in board.Scalars("val_loss")) == [6, 12, 18]


def test_a_run_that_begins_anew_forgets_the_old_rows(tmp_path: Path) -> None:
    train(tmp_path)
    train(tmp_path, max_epochs=1)
    assert read_table(tmp_path / "history.csv")["epoch"].tolist() == [0]
    assert read_table(tmp_path / "steps.csv")["step"].tolist() == [2, 4, 6]


def test_stopping_before_the_end_is_no_finish(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=2)
    assert read_run(tmp_path).state == "stopped"
    assert (read_run(tmp_path).epoch, read_run(tmp_path).epochs) == (2, 4)
    train(tmp_path, resume=tmp_path / "last.ckpt")
    assert read_run(tmp_path).state == "finished"


def test_stopping_early_is_a_finish(tmp_path: Path) -> None:
    train(tmp_path, EarlyStopping("val_loss", stopping_threshold=1e9), epochs=9)
    assert (read_run(tmp_path).state, read_run(tmp_path).epoch) == ("finished", 1)


def test_ctrl_c_is_a_stop(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        train(tmp_path, Raises(8, KeyboardInterrupt()))
    assert read_run(tmp_path).state == "stopped"
    assert "error" not in read_run(tmp_path).facts


def test_it_works_without_tensorboard_and_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "find_spec", lambda _name: None)
    train(tmp_path, epochs=1)
    names = {f.name for f in tmp_path.iterdir()}
    assert {"history.csv", "steps.csv", "state.json"} <= names
    assert names.isdisjoint({"tb", "curves.png"})


def test_rate_and_time_left_come_from_the_clock(tmp_path: Path) -> None:
    """A clock on which a batch of four faces takes a second, and nothing else takes time."""

    class Slow(Callback):
        seconds = 0.0

        def on_train_batch_start(self, *_: Any) -> None:
            self.seconds += 1.0

    slow = Slow()
    told: list[dict[str, Any]] = []

    class Notes(Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            told.append(json.loads((tmp_path / "state.json").read_text()))

    watch = Monitor(tmp_path, recipe(epochs=3), clock=lambda: slow.seconds)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[slow, watch, Notes()],
    )
    trainer.fit(Line(), batches())
    assert [t["rate"] for t in told] == [4.0] * 3
    assert [t["eta_seconds"] for t in told] == [12.0, 6.0, 0.0]
    assert read_table(tmp_path / "history.csv")["seconds"].tolist() == [6, 6, 6]
