"""Checkpoints that no kill can spoil, and the end that a signal asks for."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..errors import OutputError
from ..results.files import replacing

__all__ = ["BEST", "LAST", "Atomic", "Checkpoints", "Stopped", "signals"]

LAST, BEST = "last.ckpt", "best.ckpt"
_SECONDS = 45.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(SIGTERMException):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """Ctrl-C or SIGTERM came, and the checkpoint is written."""


class Atomic(TorchCheckpointIO):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """Writes a checkpoint beside its place and moves it there when it is whole, so that there always is a whole one.

    (Lightning's own writes to the system's folder for temporary files, which may be another disk.)
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write it.

        Raises
        ------
        OutputError
            If it cannot be written; the checkpoint before it stays.
        """
        del storage_options
        with replacing(Path(path)) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # what torch makes of a disk that is full
                msg = f"{path}: the checkpoint cannot be written, the disk may be full; make room and add --resume"
                raise OutputError(msg) from error


class Checkpoints(Checkpoint):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """Writes ``last.ckpt`` every so often and after every epoch, and ``best.ckpt`` after the best one.

    Parameters
    ----------
    folder
        Of the run.
    monitor, lower
        The value that decides what is best, and whether that is the lowest.
    every
        Steps from one checkpoint to the next within an epoch; 0: the next that comes 45 seconds later.
    clock
        Seconds that only go forward.

    Attributes
    ----------
    best, epoch
        The best value, and the epoch that had it; None before the first.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        monitor: str,
        lower: bool,
        every: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = Path(folder)
        self.monitor, self.lower, self.every = monitor, lower, every
        self.mode = "min" if lower else "max"
        self.best: float | None = None
        self.epoch: int | None = None
        self.asked: int | None = None
        self._clock = clock
        self._saved = clock()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002  # Lightning names it
        """Let the first Ctrl-C or SIGTERM end the step, and the second one the process."""
        self._saved = self._clock()
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._ask)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        self.asked = number
        for other in _SIGNALS:
            signal.signal(other, signal.default_int_handler)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002  # Lightning names it
        outputs: Any,  # noqa: ARG002  # Lightning names it
        batch: Any,  # noqa: ARG002  # Lightning names it
        batch_idx: int,
    ) -> None:
        """Write ``last.ckpt`` when it is due or a signal came; after the last step the epoch's end does."""
        done = batch_idx + 1
        if done >= trainer.num_training_batches or done % trainer.accumulate_grad_batches:
            return
        due = not trainer.global_step % self.every if self.every else self._clock() - self._saved >= _SECONDS
        # All processes write together or none does.
        asked = trainer.strategy.reduce_boolean_decision(self.asked is not None, all=False)
        if trainer.strategy.reduce_boolean_decision(due, all=False) or asked:
            self._save(trainer, LAST)
        if asked:
            raise Stopped

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002  # Lightning names it
        """Write ``best.ckpt`` if the epoch was the best, then ``last.ckpt``."""
        value = float(trainer.callback_metrics[self.monitor])
        if self._better(value):
            self.best, self.epoch = value, trainer.current_epoch
            self._save(trainer, BEST)
        self._save(trainer, LAST)
        last = trainer.current_epoch + 1 >= (trainer.max_epochs or math.inf)
        if trainer.strategy.reduce_boolean_decision(self.asked is not None, all=False) and not last:
            raise Stopped

    def _better(self, value: float) -> bool:
        if math.isnan(value) or self.best is None:
            return not math.isnan(value)
        return value < self.best if self.lower else value > self.best

    def _save(self, trainer: lightning.Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / name, weights_only=False)
        self._saved = self._clock()

    def state_dict(self) -> dict[str, Any]:
        """Return what is best so far."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint; a run of an older version has its best one judged anew."""
        self.best, self.epoch = state_dict.get("best"), state_dict.get("epoch")


@contextmanager
def signals() -> Iterator[None]:
    """Put back at the end whoever hears Ctrl-C and SIGTERM now."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
