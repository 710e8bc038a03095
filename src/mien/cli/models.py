"""`mien models`: every card."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from ..zoo.card import Change, ModelCard
from ..zoo.catalog import card, names
from .console import answer, errors, table_console

__all__ = ["models"]


def models(
    name: Annotated[str | None, typer.Argument(help="Show this card whole.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the cards of all models: task, size, licence, origin, data, scores."""
    with errors():
        cards = [card(name)] if name else [card(n) for n in names()]
        if as_json:
            answer({"models": [c.as_dict() for c in cards]})
        elif name:
            _whole(cards[0])
        else:
            _list(cards)


def _list(cards: list[ModelCard]) -> None:
    table = Table(box=None, pad_edge=False)
    for head in ("name", "task", "size", "licence", "scores"):
        table.add_column(head, overflow="fold", justify="right" if head == "size" else "left")
    for c in cards:
        table.add_row(c.name, c.task, f"{c.size / 1e6:.2f} MB", c.licence, "\n".join(_scores(c, brief=True)) or "–")
    console = table_console()
    console.print(table)
    console.print("\n`mien models NAME` shows origin, data and terms of one.")


def _scores(c: ModelCard, *, brief: bool = False) -> list[str]:
    """Say every score in a line; briefly, each metric once, without twins where that was measured."""
    told = {s.metric: s for s in c.scores}.values() if brief else c.scores
    return [f"{s.data} {s.split} {s.metric} {s.value:.3f} [{s.low:.3f}, {s.high:.3f}] n={s.n}" for s in told]


def _change(c: Change) -> str:
    return f"{c.what}: {c.before:g} → {c.after:g}" + (f" n={c.n}" if c.n else "")


def _whole(c: ModelCard) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = {
        "name": c.name,
        "task": c.task,
        "summary": c.summary,
        "file": c.file,
        "SHA-256": c.sha256,
        "size": f"{c.size} bytes",
        "parameters": f"{c.parameters:,}" if c.parameters else "",
        "licence": c.licence,
        "origin": c.origin,
        "data": c.data,
        "heads": "\n".join(f"{h.name}: {' '.join(h.labels)}" for h in c.heads),
        "input": f"{c.input.width}×{c.input.height} {c.input.colour}, {c.input.low:g} to {c.input.high:g}"
        if c.input
        else "",
        "temperatures": ", ".join(f"{k} {v:.3f}" for k, v in c.temperatures),
        "made": " ".join(filter(None, (c.date, c.commit))),
        "scores": "\n".join(_scores(c)),
        "quantised": "\n".join(_change(v) for v in c.changes),
        "notes": "\n".join(c.notes),
    }
    for key, value in rows.items():
        if value:
            table.add_row(key, value)
    table_console().print(table)
