"""A process of its own that trains, writes the loss of every step down, and may kill itself in a step.

``python killed.py DATA RUN [--at STEP] [--signal NAME] [--devices N] [name=value ...]``
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from tiny import recipe

from mien.train.augment import Augment
from mien.train.fit import fit
from mien.train.recipe import Optim, Recipe, recipe_of


class Watch(Callback):
    def __init__(self, folder: Path, at: int | None, number: int) -> None:
        self.folder, self.at, self.number = folder, at, number

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if trainer.global_rank == 0:
            with (self.folder / "losses.jsonl").open("a") as out:
                out.write(json.dumps([trainer.global_step, float(outputs["loss"]).hex()]) + "\n")
        if trainer.global_step == self.at:
            os.kill(os.getpid(), self.number)


def wanted(settings: list[str]) -> Recipe:
    plain = recipe(epochs=3, batch=8, optim=Optim(lr=0.05, ema=0.9), augment=Augment(mixup=0.3, cutmix=0.3))
    return recipe_of(json.loads(json.dumps(plain.as_dict())), settings=settings)


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--at", type=int)
    parser.add_argument("--signal", default="SIGKILL")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("settings", nargs="*")
    asked = parser.parse_args()
    asked.run.mkdir(parents=True, exist_ok=True)
    watch = Watch(asked.run, asked.at, signal.Signals[asked.signal])
    try:
        fit(
            wanted(asked.settings),
            asked.data,
            asked.run,
            resume=True,
            devices=asked.devices,
            progress=False,
            callbacks=[watch],
        )
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
