"""What a run tells of itself while it trains: scores of every epoch and step, its state, its curves."""

from __future__ import annotations

import csv
import datetime
import io
import json
import logging
import math
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from ..results.files import replacing
from .recipe import Recipe
from .runs import HISTORY, STATE, STEPS, best_of, higher_is_better, read_run, read_table

__all__ = ["Monitor"]

_log = logging.getLogger(__name__)

_FIRST = ("epoch", "seconds", "lr", "train_loss", "val_loss")
_STEP_COLUMNS = ("step", "epoch", "loss", "lr")
_PAUSE = 2.0
"""Seconds between two writings of ``state.json`` within an epoch."""


class Monitor(Callback):  # type: ignore[misc, unused-ignore]  # lightning may be absent
    """Writes ``history.csv``, ``steps.csv``, ``state.json``, ``curves.png`` and ``tb/`` into the folder of a run.

    All of it survives a restart: what an interrupted session wrote after the checkpoint that training goes on from is
    cut off first, so that no epoch and no step stands twice. Only the first process of several writes. A file that is
    replaced as a whole is written under a temporary name first, and ``steps.csv`` grows by whole lines, so a reader
    never sees half of anything. ``tb/`` needs tensorboard and ``curves.png`` matplotlib; they are left out without.

    Parameters
    ----------
    folder
        Of the run; it exists.
    recipe
        Of the run; its ``epochs`` say when it is finished.
    facts
        What else ``state.json`` shall say, ready for JSON: numbers of faces, parameters, the label set. The parameters
        of the net are counted where no fact names them.
    every
        Steps between two rows of ``steps.csv``.
    clock
        Seconds that only go forward; for the times and the rate.
    """

    def __init__(
        self,
        folder: str | Path,
        recipe: Recipe,
        facts: Mapping[str, object] | None = None,
        *,
        every: int = 10,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = Path(folder)
        self.recipe = recipe
        self.facts = dict(facts or {})
        self.every = every
        self._clock = clock
        self._state: dict[str, Any] = {}
        self._marks: deque[tuple[float, int, int]] = deque(maxlen=2)
        self._faces = 0
        self._told = -math.inf
        self._before = 0.0
        self._began = clock()
        self._step = 0
        self._board: Any = None

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say that it is running, before the data is looked at."""
        if not trainer.is_global_zero:
            return
        before = read_run(self.folder).facts
        self._before = float(before.get("seconds") or 0.0)
        self._began = self._clock()
        net = getattr(pl_module, "net", pl_module)
        self._state = {
            "state": "running",
            "started": before.get("started") or _now(),
            "updated": _now(),
            "epoch": 0,
            "epochs": self.recipe.epochs,
            "step": 0,
            "steps": before.get("steps"),
            "seconds": self._before,
            "rate": None,
            "eta_seconds": None,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "device": _device(trainer),
            "best": None,
            "parameters": sum(p.numel() for p in net.parameters()),
        } | self.facts
        self._write_state()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002  # Lightning names it
        """Cut off what an interrupted session wrote after the checkpoint that training goes on from."""
        if not trainer.is_global_zero:
            return
        self._step = trainer.global_step
        if not self._step:
            self._before, self._state["started"] = 0.0, _now()
        _cut(self.folder / HISTORY, "epoch", trainer.current_epoch - 1)
        _cut(self.folder / STEPS, "step", trainer.global_step)
        self._marks.append((self._clock(), trainer.global_step, 0))
        self._board = _board(self.folder / "tb", trainer.global_step)
        steps = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches) * self.recipe.epochs
        self._state["steps"] = min(steps, trainer.max_steps) if trainer.max_steps > 0 else steps
        self._tell(trainer)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002  # Lightning names it
        outputs: Any,
        batch: Any,
        batch_idx: int,  # noqa: ARG002  # Lightning names it
    ) -> None:
        """Write every tenth step, and the state every other second."""
        if not trainer.is_global_zero:
            return
        self._faces += _length(batch, self.recipe.batch) * trainer.world_size
        if trainer.global_step != self._step and trainer.global_step % self.every == 0:
            self._write_step(trainer, outputs)
        self._step = trainer.global_step
        if self._clock() - self._told >= _PAUSE:
            self._tell(trainer)

    def on_validation_batch_end(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        """Write the state every other second while faces are held against it, too."""
        if trainer.is_global_zero and self._state and self._clock() - self._told >= _PAUSE:
            self._tell(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002  # Lightning names it
        """Write the epoch's scores and its curves."""
        if not trainer.is_global_zero:
            return
        now = self._clock()
        scores = {k: float(v) for k, v in sorted(trainer.callback_metrics.items())}
        row = {
            "epoch": float(trainer.current_epoch),
            "seconds": round(now - self._marks[-1][0], 2),
            "lr": _rate(trainer),
        }
        _add(self.folder / HISTORY, row | scores)
        self._marks.append((now, trainer.global_step, self._faces))
        if self._board is not None:
            for name, value in scores.items():
                self._board.add_scalar(name, value, trainer.global_step)
            self._board.flush()
        self._tell(trainer, done=trainer.current_epoch + 1)
        self._draw()
        _log.info("%s", "  ".join(f"{k} {v:.5g}" for k, v in (row | scores).items()))

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002  # Lightning names it
        """Say whether the recipe is finished or was stopped before its end."""
        if not trainer.is_global_zero:
            return
        whole = trainer.current_epoch >= self.recipe.epochs or trainer.should_stop
        whole = whole or 0 < trainer.max_steps <= trainer.global_step
        self._end(trainer, "finished" if whole else "stopped")

    def on_exception(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,  # noqa: ARG002  # Lightning names it
        exception: BaseException,
    ) -> None:
        """Say that it failed, and of what, or that it was stopped by Ctrl-C or SIGTERM."""
        if not trainer.is_global_zero or not self._state:
            return
        if isinstance(exception, KeyboardInterrupt | SystemExit | SIGTERMException):
            self._end(trainer, "stopped")
            return
        first = (str(exception).strip().splitlines() or [""])[0]
        self._end(trainer, "failed", error=f"{type(exception).__name__}: {first}".rstrip(": "))

    def _end(self, trainer: lightning.Trainer, state: str, *, error: str | None = None) -> None:
        self._state |= {"state": state} | ({"error": error} if error else {})
        self._tell(trainer)
        if self._board is not None:
            self._board.close()
            self._board = None

    def _write_step(self, trainer: lightning.Trainer, outputs: Any) -> None:
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        # Lightning has divided it, for the gradients of several batches to add up.
        value = float(loss) * trainer.accumulate_grad_batches if isinstance(loss, torch.Tensor) else math.nan
        row = (trainer.global_step, trainer.current_epoch, _cell(value), _cell(_rate(trainer)))
        fresh = not (self.folder / STEPS).exists()
        with (self.folder / STEPS).open("a", encoding="utf-8") as out:
            out.write((",".join(_STEP_COLUMNS) + "\n" if fresh else "") + ",".join(map(str, row)) + "\n")
        if self._board is not None:
            self._board.add_scalar("step/loss", value, trainer.global_step)
            self._board.add_scalar("step/lr", _rate(trainer), trainer.global_step)

    def _tell(self, trainer: lightning.Trainer, *, done: int | None = None) -> None:
        now, step = self._clock(), trainer.global_step
        seconds, steps, faces = _since(self._marks, now, step, self._faces)
        left = (self._state["steps"] or 0) - step
        running = self._state["state"] == "running"
        self._state |= {
            "updated": _now(),
            "epoch": max(self._state["epoch"], trainer.current_epoch if done is None else done),
            "step": step,
            "seconds": round(self._before + now - self._began, 1),
            "best": self._best(trainer),
        }
        if steps and seconds > 0:
            self._state["rate"] = round(faces / seconds, 2)
            self._state["eta_seconds"] = round(left * seconds / steps, 1)
        if not running:
            self._state["eta_seconds"] = None
        self._write_state()
        self._told = now

    def _best(self, trainer: lightning.Trainer) -> dict[str, Any] | None:
        metric, mode = _monitored(trainer)
        file = self.folder / HISTORY
        best = best_of(read_table(file), metric, mode) if file.exists() else None
        if best is None:
            return None
        return {"epoch": best.epoch, "metric": metric, "value": best.value, "mode": best.mode}

    def _write_state(self) -> None:
        with replacing(self.folder / STATE) as temporary:
            temporary.write_text(json.dumps(self._state, indent=1, ensure_ascii=False, default=str), encoding="utf-8")

    def _draw(self) -> None:
        if find_spec("matplotlib") is None:
            return
        from ..render.curves import draw

        picture = draw([read_run(self.folder).curves()])
        with replacing(self.folder / "curves.png") as temporary:
            temporary.write_bytes(picture)


def _monitored(trainer: lightning.Trainer) -> tuple[str, str]:
    """Return what the checkpoints are chosen by: metric, and ``min`` or ``max``."""
    for callback in trainer.callbacks:
        metric = getattr(callback, "monitor", None)
        if isinstance(callback, Checkpoint) and metric:
            return str(metric), str(getattr(callback, "mode", "max" if higher_is_better(metric) else "min"))
    return "val_loss", "min"


def _since(marks: deque[tuple[float, int, int]], now: float, step: int, faces: int) -> tuple[float, int, int]:
    """Return seconds, steps and faces since the last epoch but one began, so that validation is in the pace."""
    began, first, seen = marks[0] if marks else (now, step, faces)
    return now - began, step - first, faces - seen


def _cut(path: Path, column: str, last: int) -> None:
    """Keep the rows of a table up to this one."""
    if not path.exists():
        return
    text = path.read_text(encoding="utf-8")
    header, *lines = text[: text.rfind("\n") + 1].splitlines() or [""]
    place = header.split(",").index(column) if column in header.split(",") else None
    kept = [] if place is None else [line for line in lines if float(line.split(",")[place]) <= last]
    if not kept:
        path.unlink()
        return
    with replacing(path) as temporary:
        temporary.write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")


def _add(path: Path, row: Mapping[str, float]) -> None:
    """Add a row to a table that is replaced as a whole; a column that is new stays empty in the rows before."""
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as old:
            rows = list(csv.DictReader(old))
    rows.append({k: _cell(v) for k, v in row.items()})
    names = {name: None for r in rows for name in r}
    ordered = [n for n in _FIRST if n in names] + sorted(names.keys() - set(_FIRST))
    text = io.StringIO()
    writer = csv.DictWriter(text, ordered, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _cell(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _length(batch: Any, otherwise: int) -> int:
    parts = batch if isinstance(batch, list | tuple) else batch.values() if isinstance(batch, Mapping) else [batch]
    return next((len(p) for p in parts if isinstance(p, torch.Tensor) and p.ndim), otherwise)


def _rate(trainer: lightning.Trainer) -> float:
    return float(trainer.optimizers[0].param_groups[0]["lr"])


def _device(trainer: lightning.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)
    return f"{trainer.world_size} x {name}" if trainer.world_size > 1 else name


def _board(folder: Path, step: int) -> Any:
    """Return TensorBoard's writer, which hides what came after this step; None where it is not installed."""
    if find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
