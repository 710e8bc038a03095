"""`mien train`: making a model."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..errors import MissingExtraError
from ..labels import merges_from
from .console import errors, fail

__all__ = ["train"]


def _needs_torch() -> None:
    for package in ("torch", "lightning"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "train")


def train(
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe, for example recipes/simple256.toml; or --net.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="FER2013 in any form, folders named by label, a Parquet file, a manifest.")
    ] = None,
    net: Annotated[str | None, typer.Option(help="A network by its name, in place of a recipe.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="both, eight, seven, six, five, three, or a list: smile,pout,neutral")
    ] = None,
    merge: Annotated[
        list[str] | None,
        typer.Option(help="Where a label goes that --labels does not have: disgust=angry,…"),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="What to begin with: expression (with --net residual), a run, a file of weights.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="How often all faces are seen.")] = None,
    batch: Annotated[int | None, typer.Option(help="Faces a step, over all devices together.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="The highest learning rate.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change any setting: optim.lr=0.02")] = None,
    no_augment: Annotated[bool, typer.Option("--no-augment", help="Train on the pictures as they are.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the run; its folder is runs/NAME.")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run, in place of runs/NAME.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    limit: Annotated[int | None, typer.Option(help="Use only so many faces, of every class its share.", min=2)] = None,
    devices: Annotated[int, typer.Option(help="Processes on this machine, each with a GPU if there are.", min=1)] = 1,
    nodes: Annotated[int, typer.Option(help="Machines; the same command runs on each.", min=1)] = 1,
) -> None:
    """Train a recipe, or a net by its name, on CPU or GPU, whichever is there; resumable at any step."""
    with errors():
        if (recipe is None) == (net is None):
            fail("name a recipe or a network: mien train RECIPE --data DIR, or mien train --net NAME --data DIR")
        if data is None:
            fail("name the faces to train on: --data DIR")
        _needs_torch()
        from ..train.fit import fit
        from ..train.recipe import plain_recipe, read_recipe

        _log_plainly()
        given = _settings(labels, merge or (), init, epochs, batch, lr, no_augment, settings or ())
        plan = read_recipe(recipe, settings=given) if recipe else plain_recipe(net or "", settings=given)
        folder = run or Path("runs") / (name or plan.name)
        fit(plan, data, folder, resume=resume, limit=limit, devices=devices, nodes=nodes)


def _settings(
    labels: str | None,
    merge: Sequence[str],
    init: str | None,
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    no_augment: bool,
    settings: Sequence[str],
) -> list[str]:
    """Return the flags as settings, those of ``--set`` last."""

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)

    places = ", ".join(f"{quoted(k)} = {quoted(v)}" for k, v in merges_from(merge).items())
    flags = {
        "labels": None if labels is None else quoted(labels),
        "merge": f"{{{places}}}" if places else None,
        "init": None if init is None else quoted(init),
        "epochs": epochs,
        "batch": batch,
        "optim.lr": lr,
        "augment.enabled": "false" if no_augment else None,
    }
    return [f"{key}={value}" for key, value in flags.items() if value is not None] + list(settings)


def _log_plainly() -> None:
    """Print what training says of itself, and of Lightning only what it warns of."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # What Lightning says of its own use of torch helps nobody who trains.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"lightning\.")
    for other in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(other).setLevel(logging.WARNING)
