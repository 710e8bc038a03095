"""Runs that write the loss of every step down and are ended in one of them, here or in a process of their own.

``python killed.py DATA RUN [name=value ...] [--at STEP] [--signal NAME] [--devices N]``
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from tiny import recipe

from mien.train import monitor
from mien.train.augment import Augment
from mien.train.fit import fit
from mien.train.recipe import Optim, Recipe, recipe_of


class Watch(Callback):
    """Writes every loss down, to the bit, and ends the process, or the run, after one step."""

    def __init__(self, folder: Path, at: int | None, how: signal.Signals | Exception) -> None:
        self.folder, self.at, self.how = folder, at, how

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if trainer.global_rank == 0:
            with (self.folder / "losses.jsonl").open("a", encoding="utf-8") as out:
                out.write(json.dumps([index, trainer.global_step, float(outputs["loss"]).hex()]) + "\n")
        if trainer.global_step == self.at:
            if isinstance(self.how, Exception):
                raise self.how
            os.kill(os.getpid(), self.how)


def wanted(settings: Sequence[str] = ()) -> Recipe:
    """Three epochs of eight steps, with all that is drawn by chance."""
    plain = recipe(epochs=3, batch=8, optim=Optim(lr=0.05, ema=0.9), augment=Augment(mixup=0.3, cutmix=0.3))
    return recipe_of(json.loads(json.dumps(plain.as_dict())), settings=settings)


def train(
    data: Path,
    run: Path,
    *,
    at: int | None = None,
    how: signal.Signals | Exception = signal.SIGKILL,
    settings: Sequence[str] = (),
    devices: int = 1,
) -> None:
    """Train, going on from where the folder stands, and be ended after a step."""
    run.mkdir(parents=True, exist_ok=True)
    watch = Watch(run, at, how)
    fit(wanted(settings), data, run, resume=True, devices=devices, progress=False, callbacks=[watch])


def losses(run: Path) -> dict[tuple[int, int], set[str]]:
    """Return the losses of every batch of every step, as they were each time that it was done."""
    found: dict[tuple[int, int], set[str]] = {}
    for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines():
        index, step, value = json.loads(line)
        found.setdefault((index, step), set()).add(value)
    return found


def history(run: Path) -> list[dict[str, str]]:
    """Return the scores of every epoch, without the seconds that it took."""
    with (run / "history.csv").open(encoding="utf-8", newline="") as table:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(table)]


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    monitor.find_spec = lambda _: None  # no curves and no TensorBoard: they take longer than the training
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--at", type=int)
    parser.add_argument("--signal", default="SIGKILL")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("settings", nargs="*")
    a = parser.parse_args()
    try:
        train(a.data, a.run, at=a.at, how=signal.Signals[a.signal], settings=a.settings, devices=a.devices)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
