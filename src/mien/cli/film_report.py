"""`mien film report`: what the faces of a film showed, per film, shot, minute, hour or day, without identities."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ..errors import OptionError
from .console import answer, errors, meter, note, table_console

if TYPE_CHECKING:
    from ..film.report import Period, Report

__all__ = ["report"]


def report(
    index: Annotated[list[Path], typer.Argument(help="Indexes that `mien film index` made.")],
    by: Annotated[str, typer.Option(help="One line for each film, shot, minute, hour or day.")] = "film",
    out: Annotated[Path | None, typer.Option(help="Write it to this file: .html, .csv or .json.")] = None,
    least: Annotated[int, typer.Option(help="Withhold numbers about fewer separate faces than this.")] = 1,
    query: Annotated[
        str, typer.Option(help="Count only faces that this query finds, as 'frontal and side >= 60'.")
    ] = "",
    date: Annotated[
        list[str] | None,
        typer.Option(help="With --by day: when the films were recorded, YYYY-MM-DD; once for all, or once for each."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Sum up what the faces of films showed, by time, without identities.

    Shares count each frame for as long as it was shown. Tracks are separate faces over time, not persons.
    """
    with errors():
        from ..film.index import Index
        from ..film.report import ENDINGS, document, write
        from ..film.report import report as made

        if out is not None and out.suffix.lower() not in ENDINGS:
            msg = f"{out}: a report is written by its ending, one of: {', '.join(ENDINGS)}"
            raise OptionError(msg)
        opened = [Index.open(path) for path in index]
        with _progress(shown=not as_json) as tell:
            found = made(opened, by=by, least=least, query=query, dates=date or (), tell=tell)
        if as_json:
            answer(document(found))
        else:
            _show(found)
        if out is not None:
            write(found, out)
            note(f"{out}")


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    started = time.monotonic()
    with meter(shown=shown, unit="rows") as (bar, task):

        def tell(done: int, total: int) -> None:
            if bar:
                rate = f"{done / max(time.monotonic() - started, 1e-6):.0f}"
                bar.update(task, description="summing", completed=done, total=total, rate=rate)

        yield tell


def _show(found: Report) -> None:
    console = table_console()
    title = f"Shares by face-seconds, {', '.join(found.films) if len(found.films) < 4 else f'{len(found.films)} films'}"
    table = Table(box=None, pad_edge=False, title=escape(title), title_justify="left")
    names = list(dict.fromkeys(name for p in found.periods for name in p.by_face))
    several = len(found.films) > 1 and found.by != "day"
    fixed = [*(["film"] if several else []), "period", "seconds", "faces", "tracks", "read"]
    for name in (*fixed, *names):
        table.add_column(escape(name), justify="left" if name in {"film", "period"} else "right")
    for period in found.periods:
        film = [escape(period.film)] if several else []
        table.add_row(*film, *_fixed(period), *(_share(period, name) for name in names))
    console.print(table)
    for line in _notes(found):
        console.print(escape(line), highlight=False)


def _fixed(period: Period) -> list[str]:
    tracks = "–" if period.tracks < 0 else str(period.tracks)
    return [period.name, f"{period.seconds:.1f}", _two(period.faces), tracks, _two(1 - period.unread)]


def _share(period: Period, name: str) -> str:
    share = period.by_face.get(name)
    return "–" if share is None else f"{share.value:.2f}"


def _two(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _notes(found: Report) -> Iterator[str]:
    if found.query:
        yield f"only faces that this query finds: {found.query}"
    if held := [p for p in found.periods if p.withheld]:
        yield f"withheld in {len(held)} of {len(found.periods)} periods, whole or in part: too few faces"
    yield "tracks are separate faces over time, not persons; intervals and further numbers: --out FILE, or --json"
