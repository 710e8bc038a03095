"""A recipe that trains in a second, and how its runs are read."""

from pathlib import Path

import torch

from mien.train.recipe import Optim, Recipe, Stage

TEMPLATE = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
TINY = {"widths": [8, 16], "depths": [1, 1], "stem": 4}


def recipe(**changes: object) -> Recipe:
    plain = {
        "name": "tiny",
        "net_options": TINY,
        "epochs": 5,
        "batch": 16,
        "precision": "32-true",
        "validation": 0.1,
        "optim": Optim(lr=0.05, ema=0.9),
        "stages": (Stage(start=0, size=32), Stage(start=0.5, size=48)),
    }
    return Recipe(**plain | changes)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
