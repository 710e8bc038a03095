"""`mien data`: what a set of labelled faces holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..data.chart import draw_balance
from ..data.importers import read_labelled
from ..data.summary import Summary, summarise
from ..labels import labels_from, merges_from
from .console import answer, errors, note, table_console

__all__ = ["data"]

_SHOWN = 20


def data(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="FER2013 in any public form, class folders, a manifest (.csv, .jsonl, .parquet) or an attribute list.",
        ),
    ],
    labels: Annotated[
        str | None, typer.Option(help="The label set: eight, seven, six, five, three, emoticons, or a,b,c of your own.")
    ] = None,
    merge: Annotated[
        list[str] | None, typer.Option(help="Where a label goes that the set does not have: disgust=angry,…")
    ] = None,
    drop: Annotated[str | None, typer.Option(help="Labels whose faces are left out: disgust,fear")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    attribute: Annotated[
        str | None, typer.Option(help="The attribute, or the column of a manifest, that is the label: Smiling")
    ] = None,
    per_class: Annotated[int | None, typer.Option(help="Only so many faces of each class, drawn by --seed.")] = None,
    seed: Annotated[int, typer.Option(help="Which faces --per-class draws.")] = 0,
    chart: Annotated[
        Path | None, typer.Option(help="Draw the balance of the classes into this .png, .svg or .pdf.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Count the faces of each class and split, persons, pixel-equal pictures, and what had to be left out."""
    with errors():
        faces = read_labelled(
            path,
            labels=labels_from(labels) if labels else None,
            split=split,
            merge=merges_from(merge or ()),
            drop=[name.strip() for name in drop.split(",")] if drop else (),
            attribute=attribute,
            per_class=per_class,
            seed=seed,
        )
        summary = summarise(faces)
        if chart:
            draw_balance(chart, summary, title=path.name)
        if as_json:
            answer({"data": str(path)} | summary.as_dict())
        else:
            _show(path, summary)


def _show(path: Path, summary: Summary) -> None:
    console = table_console()
    crops = f"{summary.width}×{summary.height} {summary.colour}"
    console.print(f"{path}: {summary.faces} faces, {crops}", highlight=False)
    console.print(_counts(summary))
    for line in _facts(summary):
        console.print(line, highlight=False, soft_wrap=True)
    for line in summary.problems[:_SHOWN]:
        note(f"left out: {line}")
    if len(summary.problems) > _SHOWN:
        note(f"left out: {len(summary.problems) - _SHOWN} more; --json lists all")


def _counts(summary: Summary) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("label")
    for split in summary.splits:
        table.add_column(split.name, justify="right")
        table.add_column("share", justify="right")
    for k, label in enumerate(summary.labels):
        table.add_row(label, *(c for s in summary.splits for c in _cells(s.counts[k], s.faces)))
    if any(s.unlabelled for s in summary.splits):
        table.add_row("(no label)", *(c for s in summary.splits for c in _cells(s.unlabelled, s.faces)))
    table.add_row("all", *(c for s in summary.splits for c in (str(s.faces), "")))
    for title, what in (("with votes", "voted"), ("persons", "persons"), ("repeated pixels", "repeated")):
        table.add_row(title, *(c for s in summary.splits for c in (str(getattr(s, what)), "")))
    return table


def _cells(n: int, of: int) -> tuple[str, str]:
    return str(n), f"{n / of:.3f}"


def _facts(summary: Summary) -> list[str]:
    facts = [f"{o.faces} faces of {o.of} are pixel-equal to one of {o.also_in}" for o in summary.overlaps if o.faces]
    facts += [
        f"{o.persons} persons of {o.of} are also in {o.also_in}, with {o.person_faces} faces"
        for o in summary.overlaps
        if o.persons
    ]
    if summary.otherwise_labelled:
        facts.append(f"{summary.otherwise_labelled} faces have a pixel-equal twin of another label")
    if summary.columns:
        facts.append("columns: " + ", ".join(f"{name} ({n} values)" for name, n in summary.columns.items()))
    return facts
