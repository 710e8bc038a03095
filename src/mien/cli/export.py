"""`mien export`: from a run to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import OptionError
from ..zoo.card import ModelCard
from ..zoo.catalog import names
from .console import errors, note
from .opening import needs_torch

__all__ = ["export"]


def export(
    run: Annotated[
        str, typer.Argument(help="Folder of a run or a .ckpt; with --int8 also an .onnx or a bundled model.")
    ],
    to: Annotated[Path, typer.Option(help="The .onnx file to write; card and golden vectors go beside it.")],
    data: Annotated[
        Path | None, typer.Option(help="Labelled faces: calibrate on held-out ones, score on the test split.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise to eight-bit integers; the loss is measured and told.")
    ] = False,
    checkpoint: Annotated[str, typer.Option(help="last or best.")] = "last",
    name: Annotated[str | None, typer.Option(help="Name for the card; default that of the file.")] = None,
) -> None:
    """Export a run: ONNX, card with SHA-256 and scores, golden vectors."""
    with errors():
        needs_torch()
        card = _export(run, to, data=data, int8=int8, checkpoint=checkpoint, name=name or to.stem)
        note(f"wrote {to} ({card.size / 1e6:.2f} MB, SHA-256 {card.sha256})")
        _tell(card)


def _export(run: str, to: Path, *, data: Path | None, int8: bool, checkpoint: str, name: str) -> ModelCard:
    from ..train.export import export as write
    from ..train.export import quantized

    if not run.endswith(".onnx") and run not in names():
        return write(run, to, data=data, name=name, int8=int8, checkpoint=checkpoint)
    if not int8 or data is None:
        msg = f"{run} is a model already; give --int8 and --data to quantise it, or name the folder of a run"
        raise OptionError(msg)
    return quantized(run, to, data=data, name=name)


def _tell(card: ModelCard) -> None:
    if not card.temperatures:
        note("not calibrated and not measured: name labelled faces with --data")
    for change in card.changes:
        note(f"{change.what}: {change.before:g} → {change.after:g}" + (f" (n {change.n})" if change.n else ""))
    for score in card.scores:
        note(f"{score.split}: {score.metric} {score.value:.4f} [{score.low:.4f}, {score.high:.4f}] (n {score.n})")
