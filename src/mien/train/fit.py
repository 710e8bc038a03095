"""Run a recipe: resumable, on whatever device there is."""

from __future__ import annotations

import csv
import json
import logging
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint

from ..errors import ResumeError
from .loader import FacesData
from .module import TwoLabelModule
from .recipe import Recipe

__all__ = ["fit"]

_log = logging.getLogger(__name__)


class _History(Callback):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """One line an epoch in ``history.csv``; the file survives a restart."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002  # Lightning names it
        """Append the epoch's scores."""
        scores = {k: round(float(v), 5) for k, v in trainer.callback_metrics.items()}
        now = time.monotonic()
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "seconds": round(now - self.started, 1)}
        self.started = now
        row |= {"lr": trainer.optimizers[0].param_groups[0]["lr"]} | dict(sorted(scores.items()))
        fresh = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, row)
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        _log.info("%s", "  ".join(f"{k} {v}" for k, v in row.items()))


def fit(
    recipe: Recipe,
    data: str | Path,
    run: str | Path,
    *,
    resume: bool = False,
    limit: int | None = None,
    until: int | None = None,
    progress: bool = True,
) -> Path:
    """Train a recipe on FER2013 and return the path of the last checkpoint.

    Parameters
    ----------
    recipe
        What to train.
    data
        FER2013 in any public form, see ``data.importers.read_fer2013``.
    run
        Folder for ``recipe.json``, ``history.csv``, ``last.ckpt`` and ``best.ckpt`` (lowest ``val_loss``).
        A checkpoint's weights are the moving average of the trained ones.
    resume
        Go on from ``last.ckpt`` if there is one.
    limit
        Use only so many faces, to try a recipe.
    until
        Stop after this many epochs of the recipe, to go on another day; the rate's schedule stays the recipe's.
    progress
        Show Lightning's progress bar.

    Raises
    ------
    ResumeError
        If the folder holds a run already and ``resume`` is false.
    """
    folder = Path(run)
    last = folder / "last.ckpt"
    if last.exists() and not resume:
        msg = f"{folder} holds a run already; add --resume to go on with it or name another folder"
        raise ResumeError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps(recipe.as_dict(), indent=1), encoding="utf-8")
    lightning.seed_everything(recipe.seed, verbose=False)
    faces = FacesData(data, recipe, limit=limit)
    _log.info(
        "%d faces to train on, %d held out, %d dropped for being in PublicTest",
        len(faces.split.train),
        len(faces.split.validation),
        faces.split.dropped,
    )
    module = TwoLabelModule(recipe, steps_an_epoch=len(faces.split.train) // recipe.batch)
    trainer = lightning.Trainer(
        default_root_dir=folder,
        max_epochs=min(recipe.epochs, until or recipe.epochs),
        precision=recipe.precision,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_progress_bar=progress,
        enable_model_summary=False,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        callbacks=[
            EMAWeightAveraging(decay=recipe.optim.ema),
            _History(folder / "history.csv"),
            ModelCheckpoint(
                dirpath=folder, filename="best", monitor="val_loss", save_last=True, enable_version_counter=False
            ),
        ],
    )
    trainer.fit(module, faces, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    return last
