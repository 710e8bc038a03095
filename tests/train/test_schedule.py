"""Rates, averages, checkpoints and early stopping, on losses that are written out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import lightning
import torch
from torch import nn

from mien.train.checkpoint import Checkpoints
from mien.train.recipe import Optim
from mien.train.schedule import Average, Patience, Plateau, optimizer, share

# Lightning warns of loaders without workers and of its own use of torch.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]


def rates(optim: Optim, steps: int = 200) -> np.ndarray:
    return np.array([optim.lr * share(step / steps, optim) for step in range(steps + 1)])


def test_the_trapezoid_is_warmed_up_held_and_brought_down() -> None:
    found = rates(Optim(lr=0.1, warmup=0.1, hold=0.5))
    assert found[10] == pytest.approx(0.05)
    np.testing.assert_allclose(found[20:100], 0.1)
    assert found[150] == pytest.approx(0.05)
    assert found[-1] == pytest.approx(0.1 * 1e-4)


def test_the_cosine_is_that_of_torch_behind_its_warm_up() -> None:
    optim = Optim(lr=0.3, schedule="cosine", warmup=0.25)
    weight = nn.Parameter(torch.zeros(1))
    sgd = torch.optim.SGD([weight], lr=0.3)
    oracle = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, 150)
    expected = []
    for _ in range(150):
        expected.append(sgd.param_groups[0]["lr"])
        sgd.step()
        oracle.step()
    found = rates(optim)
    np.testing.assert_allclose(found[50:200], np.maximum(expected, 0.3e-4), rtol=1e-6)
    np.testing.assert_allclose(found[1:50], 0.3 * np.arange(1, 50) / 50)


def test_the_one_cycle_is_that_of_torch() -> None:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)
    # torch counts from the first step to the last, mien to the end of the last.
    oracle = torch.optim.lr_scheduler.OneCycleLR(
        sgd, max_lr=0.2, total_steps=101, pct_start=30.99 / 101, cycle_momentum=False
    )
    expected = []
    for _ in range(101):
        expected.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if len(expected) < 101:
            oracle.step()
    found = rates(Optim(lr=0.2, schedule="onecycle", warmup=0.2999), steps=100)
    np.testing.assert_allclose(found, np.maximum(expected, 0.2e-4), rtol=1e-3)


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_what_no_step_changes(schedule: str) -> None:
    np.testing.assert_array_equal(rates(Optim(lr=0.2, schedule=schedule)), 0.2)


def reduced(losses: Sequence[float], *, factor: float, patience: int, floor: float, lr: float) -> list[float]:
    """Keras' ReduceLROnPlateau by its documentation, in the plainest words."""
    best, waited, out = float("inf"), 0, []
    for loss in losses:
        if loss < best - 1e-4:
            best, waited = loss, 0
        else:
            waited = waited + 1
            if waited >= patience and lr > floor:
                lr, waited = max(lr * factor, floor), 0
        out.append(lr)
    return out


@pytest.mark.parametrize("seed", range(5))
def test_the_plateau_lowers_the_rate_as_keras_does(seed: int) -> None:
    losses = (1 + np.random.default_rng(seed).normal(0, 0.2, 90) * np.linspace(1, 0, 90)).tolist()
    optim = Optim(lr=1e-3, factor=0.2, patience=5, floor=1e-7)
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=optim.lr)
    plateau, found = Plateau(optim, lower=True), []
    for epoch, loss in enumerate(losses):
        if epoch == 40:  # a restart
            state = plateau.state_dict()
            plateau = Plateau(optim, lower=True)
            plateau.load_state_dict(state)
        plateau.step(loss, sgd)
        found.append(sgd.param_groups[0]["lr"])
    np.testing.assert_allclose(found, reduced(losses, factor=0.2, patience=5, floor=1e-7, lr=1e-3), rtol=1e-9)
    assert found[-1] == pytest.approx(1e-7)


def test_the_first_epoch_without_progress_is_counted() -> None:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    plateau = Plateau(Optim(factor=0.2, patience=5, floor=0.1), lower=False)
    found = []
    for accuracy in (0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6):
        plateau.step(accuracy, sgd)
        found.append(sgd.param_groups[0]["lr"])
    np.testing.assert_allclose(found, [1] * 6 + [0.2] * 5 + [0.1])


def test_a_rate_below_the_floor_is_not_raised() -> None:
    sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-3)
    plateau = Plateau(Optim(patience=1, floor=1e-2), lower=True)
    for _ in range(4):
        plateau.step(1.0, sgd)
    assert sgd.param_groups[0]["lr"] == 1e-3


@pytest.mark.parametrize(
    ("kind", "made"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_norms_and_biases_do_not_decay_and_what_is_frozen_does_not_move(kind: str, made: type) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    net[0].requires_grad_(False)
    found = optimizer(net, Optim(kind=kind, weight_decay=0.25, lr=0.5))
    assert type(found) is made
    (decayed, plain) = found.param_groups
    assert [p.shape for p in decayed["params"]] == [(2, 4)]
    assert [tuple(p.shape) for p in plain["params"]] == [(4,), (4,), (2,)]
    assert (decayed["weight_decay"], plain["weight_decay"], decayed["lr"]) == (0.25, 0.0, 0.5)


class Script(lightning.LightningModule):
    """A weight that counts steps, and an epoch's loss as it is written."""

    def __init__(self, losses: Sequence[float]) -> None:
        super().__init__()
        self.losses = losses
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        return -self.weight.sum()

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.log("val_loss", self.losses[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def play(folder: Path, losses: Sequence[float], *callbacks: lightning.Callback, steps: int = 1) -> Checkpoints:
    kept = Checkpoints(folder, monitor="val_loss", lower=True)
    trainer = lightning.Trainer(
        max_epochs=len(losses),
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[*callbacks, kept],
    )
    pictures = torch.utils.data.DataLoader(torch.zeros(steps, 1))
    trainer.fit(Script(losses), pictures, pictures)
    kept.epochs = trainer.current_epoch
    return kept


def test_the_best_checkpoint_is_the_best_and_the_last_the_last(tmp_path: Path) -> None:
    kept = play(tmp_path, [0.9, 0.5, float("nan"), 0.4, 0.4, 0.7])
    best, last = (torch.load(tmp_path / f"{n}.ckpt", weights_only=True) for n in ("best", "last"))
    assert (kept.best, kept.epoch) == (pytest.approx(0.4), 3)
    assert (best["epoch"], best["state_dict"]["weight"].item()) == (3, 4)
    assert (last["epoch"], last["state_dict"]["weight"].item()) == (5, 6)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_run_stops_when_its_patience_is_at_an_end(tmp_path: Path) -> None:
    losses = [0.9, 0.5, 0.6, 0.5, 0.55, 0.1, 0.1]
    assert play(tmp_path, losses, Patience("val_loss", patience=3, lower=True)).epochs == 5
    assert play(tmp_path, losses, Patience("val_loss", patience=4, lower=True)).epochs == 7


def test_the_average_is_warmed_up_judged_and_kept(tmp_path: Path) -> None:
    play(tmp_path, [0.5, 0.4], Average(0.6), steps=4)
    held = torch.load(tmp_path / "last.ckpt", weights_only=True)
    expected = 1.0  # the weight is 1, 2, 3 ... after the steps; the first average is the first weight
    for step in range(1, 8):
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1)
    assert held["state_dict"]["weight"].item() == pytest.approx(expected, rel=1e-5)
    assert held["current_model_state"]["weight"].item() == 8


def test_checkpoints_come_by_the_clock(tmp_path: Path) -> None:
    times = iter(range(0, 10_000, 20))
    kept = Checkpoints(tmp_path, monitor="val_loss", lower=True, clock=lambda: next(times))
    saved: list[int] = []

    class Fake:
        global_step, num_training_batches, accumulate_grad_batches = 0, 100, 1
        strategy = type("S", (), {"reduce_boolean_decision": staticmethod(lambda decision, **_: decision)})

        def save_checkpoint(self, path: Path, *, weights_only: bool) -> None:
            assert path.name == "last.ckpt"
            saved.append(self.global_step)

    trainer = Fake()
    for step in range(1, 10):
        trainer.global_step = step
        kept.on_train_batch_end(trainer, None, None, None, step - 1)
    # 20 seconds a look at the clock, and one look more at each saving: every third step.
    assert saved == [3, 6, 9]
