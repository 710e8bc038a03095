"""`mien film query`: which stretches of a film show what is asked."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import Annotated

import numpy as np
import typer
from rich.cells import cell_len
from rich.table import Table

from ..film.index import Index
from ..film.language import spelled, together
from ..film.parser import parse
from ..film.query import Found, QueryError, Spans, find
from ..film.spans import clock
from ..results.files import line_form, replacing, write_faces
from .console import INPUT_FAILED, NOTHING, answer, errors, note, table_console

__all__ = ["asked", "query"]

_SHOWN = 100
"""Rows of the table where none are asked for: more would be no answer on a screen."""

_WIDE = 100
"""How much of a query is shown around a fault."""


class Order(StrEnum):
    """What comes first in the table."""

    START = "start"
    SCORE = "score"
    LENGTH = "length"


def query(
    index: Annotated[Path, typer.Argument(help="An index, of `mien film index`.", show_default=False)],
    query: Annotated[
        str, typer.Argument(help='As "happy >= 0.7 for 8 frames and alone and frontal"; none is every face.')
    ] = "",
    sort: Annotated[Order, typer.Option(help="What comes first: the earliest, the best, the longest.")] = Order.START,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Show so many at most; 100 in the table, all in JSON if not given.")
    ] = None,
    bridge: Annotated[int, typer.Option(min=0, help="So many missing frames in a row do not end a stretch.")] = 0,
    smooth: Annotated[
        str | None, typer.Option(help="Smooth the scores first: exponential:0.5 (seconds), median:5 (frames).")
    ] = None,
    table: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the stretches, times in seconds, .csv.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the faces found, .csv, .jsonl or .parquet.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say how the query was understood, and its SQL.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Ask a film's index in which stretches which face shows an expression.

    Words: labels (happy), scores (happy >= 0.7), time frame shot track faces side yaw sharpness brightness score
    margin, alone frontal named read detected carried, too_small blurred …; and or not ( ), "… for 8 frames",
    "… for 0.5 s". They are described in docs/query.md.
    Exit code 1: nothing was found.
    """
    with errors():
        if rows is not None:
            line_form(rows, "default")
        opened = Index.open(index)
        begin = perf_counter()
        found = asked(opened, query, bridge=bridge, smooth=smooth)
        seconds = perf_counter() - begin
        shown = _first(found.spans, sort, limit or (None if as_json else _SHOWN))
        if table is not None:
            _write(table, found.spans)
        if rows is not None:
            write_faces(rows, found.faces())
            note(f"wrote {rows}")
        if as_json:
            answer(_document(found, shown, seconds, explain=explain))
        else:
            _show(found, shown, explain=explain)
        note(_summary(found, len(shown), seconds))
        for line in _shorter(found):
            note(line)
        if not len(found):
            raise typer.Exit(NOTHING)


def asked(index: Index, query: str, *, bridge: int, smooth: str | None) -> Found:
    """Return what a query finds; one that cannot be understood ends the command, with a caret under its fault."""
    try:
        return find(index, query, bridge=bridge, smooth=smooth)
    except QueryError as error:
        note(f"mien: {error}")
        for line in _pointed(error):
            note(line)
        raise typer.Exit(INPUT_FAILED) from None


def _pointed(error: QueryError) -> tuple[str, str]:
    """Return the query, or what stands around its fault, and a line with a caret under the fault."""
    start = max(0, error.position - _WIDE // 2)
    text = "".join(c if c.isprintable() else " " for c in error.query[start : start + _WIDE])
    before = "…" if start else ""
    place = cell_len(before + text[: error.position - start])
    return f"  {before}{text}", f"  {' ' * place}^"


def _first(spans: Spans, sort: Order, limit: int | None) -> Spans:
    keys = {Order.START: spans.start, Order.SCORE: -spans.score, Order.LENGTH: -spans.seconds}
    return spans[np.argsort(keys[sort], kind="stable")[:limit]]


def _show(found: Found, spans: Spans, *, explain: bool) -> None:
    console = table_console()
    if explain:
        console.print(f"query: {found.query}\n\n{found.sql}\n", markup=False, highlight=False, soft_wrap=True)
    if not len(spans):
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("start", "end", "track", "frames", "label", "score"):
        table.add_column(name, justify="left" if name == "label" else "right", no_wrap=True)
    for row in spans.records():
        score, track = row["score"], row["track"]
        table.add_row(
            clock(row["start"] if row["start"] is not None else math.nan),
            clock(row["end"] if row["end"] is not None else math.nan),
            "" if track is None else str(track),
            str(row["frames"]),
            row["label"] or "",
            "" if score is None else f"{score:.2f}",
        )
    console.print(table)


def _document(found: Found, spans: Spans, seconds: float, *, explain: bool) -> dict[str, object]:
    said = {"sql": found.sql} if explain else {}
    counts = {"faces": len(found), "spans": len(found.spans), "milliseconds": round(seconds * 1000, 1)}
    return {"query": found.query, "labels": list(found.labels_asked)} | said | counts | {"found": spans.records()}


def _summary(found: Found, shown: int, seconds: float) -> str:
    total = float(np.nansum(found.spans.seconds))
    few = f", {shown} of them shown (--limit, --csv)" if shown < len(found.spans) else ""
    spans = "1 stretch" if len(found.spans) == 1 else f"{len(found.spans)} stretches"
    faces = "1 face" if len(found) == 1 else f"{len(found)} faces"
    return f"{spans}{few}, {faces}, {clock(total)} in all; found in {seconds * 1000:.0f} ms"


def _shorter(found: Found) -> Iterator[str]:
    """Say so where stretches are shorter than what ``for`` asked of a part of the query, and how to ask it of all."""
    whole = together(parse(found.query, found.index.labels)) if found.query else None
    if whole is None:
        return
    lengths = found.spans.frames if whole.unit == "frames" else found.spans.seconds
    count = int((lengths < whole.length - 1e-6).sum())
    if count:
        what = "1 stretch is" if count == 1 else f"{count} stretches are"
        yield f"{what} shorter than {spelled(whole.length)} {whole.unit}: 'for' is asked of what stands left of it"
        yield f"where all of it is to hold that long: {whole}"


def _write(file: Path, spans: Spans) -> None:
    with replacing(file) as temporary:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(Spans.names())
        rows.writerows(record.values() for record in spans.records())
        temporary.write_text(text.getvalue(), encoding="utf-8")
    note(f"wrote {file}")
