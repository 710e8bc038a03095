"""Run a recipe: resumable at any step, on whatever devices there are."""

from __future__ import annotations

import json
import logging
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from ..data.importers import LabelledFaces
from ..errors import OptionError, OutputError, ResumeError
from ..results.files import replacing
from .beginning import begin
from .checkpoint import LAST, Atomic, Checkpoints, Stopped, signals
from .loader import FacesData
from .module import ExpressionModule, metric_names
from .monitor import Monitor
from .nets import Net, freeze_trunk
from .recipe import Recipe, read_recipe
from .revision import revision
from .runs import flat
from .schedule import Average, Patience
from .targets import with_teacher
from .teacher import answers
from .trained import new_net

__all__ = ["differences", "fit"]

_log = logging.getLogger(__name__)
_epochs_log = logging.getLogger(Monitor.__module__)

_HARMLESS = ("name", "epochs", "monitor", "mode", "patience", "checkpoint_every", "card")
"""Settings that a run may change on its way: they decide when it ends and what of it is kept."""


def fit(
    recipe: Recipe,
    data: str | Path | LabelledFaces,
    run: str | Path,
    *,
    resume: bool = False,
    limit: int | None = None,
    until: int | None = None,
    devices: int = 1,
    nodes: int = 1,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Path:
    """Train a recipe and return the path of the last checkpoint.

    Parameters
    ----------
    recipe
        What to train.
    data
        Labelled faces, or a path that `data.importers.read_labelled` reads.
    run
        Folder for ``recipe.json``, what `monitor.Monitor` writes, ``last.ckpt`` and ``best.ckpt``. A checkpoint's
        ``state_dict`` is the moving average of the weights, where the recipe takes one.
    resume
        Go on from ``last.ckpt`` if there is one, at the very step that it was written after.
    limit
        Use only so many faces to train on and as many to validate with, of every class its share.
    until
        Stop after this many epochs of the recipe, to go on another day; the rate's schedule stays the recipe's.
    devices, nodes
        Processes a machine, each with a GPU of its own where there are any, and machines. The recipe's batch is
        divided among them. Lightning starts the processes of this machine; on others start the same command with
        ``MASTER_ADDR``, ``MASTER_PORT`` and ``NODE_RANK`` set.
    progress
        Show a progress bar where stderr is a terminal.
    callbacks
        Further callbacks for Lightning.

    Raises
    ------
    ResumeError
        If the folder holds a run already and ``resume`` is false, or holds one of another recipe or other data.
    OptionError
        If the recipe wants what cannot be, or there are not so many devices.
    KeyboardInterrupt
        If Ctrl-C or SIGTERM came; ``last.ckpt`` is that of the step in which it came.
    """
    folder = Path(run)
    last = _checked_folder(folder, recipe, resume=resume)
    lightning.seed_everything(recipe.seed, verbose=False)
    net = new_net(recipe)
    faces = FacesData(data, recipe, net.input, limit=limit)
    _check(recipe, faces, last)
    if not last.exists() and recipe.init:
        taken = begin(net, recipe.init, faces.split.train.images)
        _log.info("began with %s: the trunk%s", recipe.init, "".join(f", the head {h}" for h in taken))
    if recipe.freeze_trunk:
        freeze_trunk(net)
    if recipe.teacher:
        told = answers(recipe.teacher, faces.split.train.images, recipe.heads(), folder)
        faces.training = with_teacher(faces.training, told, recipe)
    module = ExpressionModule(recipe, net, steps=faces.steps)
    trainer = _trainer(
        recipe, folder, faces, net, until, devices=devices, nodes=nodes, progress=progress, more=callbacks
    )
    _write_recipe(folder, recipe)
    module.fingerprint = faces.fingerprint()
    _say_what_is_there(faces)
    try:
        with signals(), _one_voice(quiet=trainer.progress_bar_callback is not None):
            trainer.fit(module, faces, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    except SystemExit as error:  # what Lightning makes of Ctrl-C and SIGTERM
        if isinstance(error, Stopped):
            _tell("stopped after step %d; --resume goes on from there", trainer.global_step)
        raise KeyboardInterrupt from error
    return last


def differences(before: Recipe, now: Recipe) -> tuple[str, ...]:
    """Return the settings that a run must not change on its way, with their values before and now."""
    one, other = (flat(json.loads(json.dumps(r.as_dict()))) for r in (before, now))
    return tuple(
        f"{name} was {one.get(name)!r} and is {other.get(name)!r}"
        for name in sorted(one.keys() | other.keys())
        if name.split(".")[0] not in _HARMLESS and one.get(name) != other.get(name)
    )


def _tell(text: str, *values: object) -> None:
    if rank_zero_only.rank == 0:
        _log.info(text, *values)


def _checked_folder(folder: Path, recipe: Recipe, *, resume: bool) -> Path:
    last = folder / LAST
    if not last.exists():
        return last
    if not resume:
        msg = f"{folder} holds a run already; add --resume to go on with it or name another folder"
        raise ResumeError(msg)
    if changed := differences(read_recipe(folder / "recipe.json"), recipe):
        msg = f"{folder} holds a run of another recipe: {'; '.join(changed)}; name another folder"
        raise ResumeError(msg)
    return last


def _check(recipe: Recipe, faces: FacesData, last: Path) -> None:
    known = metric_names(tuple(recipe.heads()))
    if recipe.monitor not in known:
        msg = f"recipe {recipe.name}: monitor cannot be {recipe.monitor!r}; choose from {', '.join(known)}"
        raise OptionError(msg)
    if not last.exists():
        return
    held = torch.load(last, map_location="cpu", weights_only=True).get("mien", {}).get("faces")
    if held and held != faces.fingerprint():
        msg = f"{last.parent} holds a run on other faces; name the data that it was begun with, or another folder"
        raise ResumeError(msg)


@contextmanager
def _one_voice(*, quiet: bool) -> Iterator[None]:
    """Keep the lines of the epochs back while a progress bar shows the same; they would be written across it."""
    before = _epochs_log.level
    _epochs_log.setLevel(logging.WARNING if quiet else before)
    try:
        yield
    finally:
        _epochs_log.setLevel(before)


def _write_recipe(folder: Path, recipe: Recipe) -> None:
    if rank_zero_only.rank:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder}: the folder of the run cannot be made ({error.strerror or error}); name another by --run"
        raise OutputError(msg) from error
    with replacing(folder / "recipe.json") as temporary:
        temporary.write_text(json.dumps(recipe.as_dict(), indent=1, ensure_ascii=False), encoding="utf-8")


def _say_what_is_there(faces: FacesData) -> None:
    train, held, dropped = len(faces.split.train), len(faces.split.validation), faces.split.dropped
    _tell("%d faces to train on, %d held out, %d dropped for being in a test split too", train, held, dropped)
    for line in faces.problems[:10]:
        _tell("left out: %s", line)
    if len(faces.problems) > 10:
        _tell("left out: %d more", len(faces.problems) - 10)


def _facts(recipe: Recipe, faces: FacesData, net: Net) -> Mapping[str, object]:
    return {
        "train_faces": len(faces.split.train),
        "validation_faces": len(faces.split.validation),
        "dropped": faces.split.dropped,
        "left_out": len(faces.problems),
        "parameters": sum(p.numel() for p in net.parameters()),
        "trained_parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "labels": {head: list(labels) for head, labels in recipe.heads().items()},
        "commit": revision(),
        "versions": {"python": platform.python_version()} | {p: version(p) for p in ("torch", "lightning", "numpy")},
    }


def _trainer(
    recipe: Recipe,
    folder: Path,
    faces: FacesData,
    net: Net,
    until: int | None,
    *,
    devices: int,
    nodes: int,
    progress: bool,
    more: Sequence[Callback],
) -> lightning.Trainer:
    several = devices * nodes > 1
    bar = progress and sys.stderr.isatty()
    lower = recipe.lower_is_better()
    held: list[Callback] = [Average(recipe.optim.ema)] if recipe.optim.ema else []
    held += [Patience(recipe.monitor, patience=recipe.patience, lower=lower)] if recipe.patience else []
    held += [RichProgressBar(leave=True, console_kwargs={"stderr": True})] if bar else []
    held += [
        *more,
        Monitor(folder, recipe, _facts(recipe, faces, net)),
        Checkpoints(folder, monitor=recipe.monitor, lower=lower, every=recipe.checkpoint_every),
    ]
    try:
        return lightning.Trainer(
            default_root_dir=folder,
            max_epochs=min(recipe.epochs, until or recipe.epochs),
            precision=recipe.precision,
            accelerator="auto",
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if several else "auto",
            sync_batchnorm=several and torch.cuda.is_available(),
            use_distributed_sampler=False,
            accumulate_grad_batches=recipe.accumulate,
            logger=False,
            enable_progress_bar=bar,
            enable_model_summary=False,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            plugins=[Atomic()],
            callbacks=held,
        )
    except (MisconfigurationException, ValueError) as error:
        msg = f"recipe {recipe.name}: cannot be run here ({' '.join(str(error).split())})"
        raise OptionError(msg) from error
