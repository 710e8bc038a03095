"""`mien compare`: several models on the same faces."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..data.importers import read_labelled
from ..errors import OptionError, OutputError
from ..evaluate.adapters.foreign import is_foreign
from ..evaluate.compare import Entrant, foreign, ours, peer
from ..evaluate.compare import compare as judge
from ..evaluate.comparison import MEASURES, Comparison, cells, markdown, notes
from ..labels import LabelSet, labels_from
from .console import INPUT_FAILED, answer, errors, note, table_console
from .opening import open_model

__all__ = ["compare"]


def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATA",
            help="Models, then the data. A model: a bundled name, an .onnx file with its card, a training run, or "
            "net.onnx:labels=angry,happy;range=0..1;size=64.",
            show_default=False,
        ),
    ],
    split: Annotated[str, typer.Option(help="The split to measure on.")] = "PublicTest",
    peers: Annotated[
        list[str] | None,
        typer.Option("--peer", help="Another package in its own Python: fer=/path/to/python, fer-keras=…, deepface=…."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="The labels to answer in: seven, six, … or a list; the data's if not given.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds of the timing.")] = 7,
    seconds: Annotated[float, typer.Option(help="How long each model reads in a round, at each batch size.")] = 0.3,
    timeout: Annotated[float, typer.Option(help="Seconds that a model may take for an answer.")] = 600.0,
    out: Annotated[Path | None, typer.Option(help="Write the table and its notes, .md.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare models on the same faces: accuracy, speed, memory, size, and whether the first differs from each.

    Exit code 2: a model could not be compared; the others were.
    """
    with errors():
        *models, data = arguments
        if not models:
            msg = f"{data} is the data, so there is no model; name one or more before it"
            raise OptionError(msg)
        faces = read_labelled(data)
        wanted = labels_from(labels) if labels else faces.labels
        entrants = [*_models(models, wanted), *(peer(p) for p in peers or ())]
        with Console(stderr=True).status("") as status:
            found = judge(
                entrants,
                faces,
                data=Path(data).name,
                split=split,
                labels=wanted,
                rounds=rounds,
                seconds=seconds,
                timeout=timeout,
                progress=lambda line: status.update(line),
            )
        if as_json:
            answer(found.as_dict())
        else:
            _show(found)
        if out is not None:
            _write(out, markdown(found))
        for line in found.problems:
            note(f"mien: {line}")
        if found.problems:
            raise typer.Exit(INPUT_FAILED)


def _models(texts: list[str], labels: LabelSet) -> list[Entrant]:
    """Return the models by their files' names, or by all that was written where two share a name."""
    names = [Path(re.sub(r"(?<=\.onnx):.*", "", text)).name for text in texts]
    return [
        _entrant(text, name if names.count(name) == 1 else text, labels)
        for text, name in zip(texts, names, strict=True)
    ]


def _entrant(text: str, name: str, labels: LabelSet) -> Entrant:
    if is_foreign(text):
        return replace(foreign(text), name=name)
    return ours(name, open_model(text, threads=1), labels)


def _show(found: Comparison) -> None:
    console = table_console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for row in found.rows:
        table.add_column(row.name, justify="right", overflow="fold")
    for entries in zip(MEASURES, *(cells(row) for row in found.rows), strict=True):
        table.add_row(*entries)
    console.print(table)
    for line in notes(found):
        console.print(f"note: {line}", highlight=False, markup=False)


def _write(file: Path, page: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        msg = f"{file}: cannot write the comparison ({error.strerror}); name another with --out"
        raise OutputError(msg) from error
    note(f"wrote {file}")
