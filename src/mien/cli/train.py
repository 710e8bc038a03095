"""`mien train` and `mien export`: making a model."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..errors import MissingExtraError
from .console import errors, note

__all__ = ["export", "train"]


def _needs_torch() -> None:
    for package in ("torch", "lightning"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "train")


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, for example recipes/flagship.toml.")],
    data: Annotated[Path, typer.Option(help="FER2013 in any public form, with FER+ votes.")],
    run: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/NAME.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: optim.lr=0.02")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    limit: Annotated[int | None, typer.Option(help="Use only so many faces, to try a recipe.")] = None,
) -> None:
    """Train a recipe on CPU or GPU, whichever is there; resumable."""
    with errors():
        _needs_torch()
        from ..train.fit import fit
        from ..train.recipe import read_recipe

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        plan = read_recipe(recipe, settings=settings or ())
        folder = run or Path("runs") / plan.name
        note(f"last checkpoint: {fit(plan, data, folder, resume=resume, limit=limit)}")


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    to: Annotated[Path, typer.Option(help="The .onnx file to write; its card goes beside it.")],
    data: Annotated[Path, typer.Option(help="FER2013, to calibrate on held-out faces and to score.")],
) -> None:
    """Export a run: ONNX, card with SHA-256 and scores, golden vectors."""
    with errors():
        _needs_torch()
        from ..train.export import export as write

        card = write(run, to, data=data)
        note(f"wrote {to} ({card.size / 1e6:.2f} MB, SHA-256 {card.sha256})")
