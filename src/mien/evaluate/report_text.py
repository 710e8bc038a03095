"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from .judgement import Answered, Judgement, answered
from .report_tables import (
    HEADS,
    Cell,
    Number,
    Table,
    class_counts,
    headlines,
    overall,
    tables_about_data,
    tables_of_head,
)

__all__ = ["markdown"]


def markdown(judgement: Judgement) -> str:
    """Return the whole report without its pictures; they are in the HTML form."""
    return "\n".join(_lines(judgement)) + "\n"


def _lines(judgement: Judgement) -> Iterator[str]:
    report = judgement.measurement.report
    yield f"# {_plain(report.model)} on {_plain(report.data)}, {_plain(report.split)}"
    yield ""
    yield f"{report.as_given.n:,} faces, {judgement.date}. Weights {report.sha256[:12]}. Intervals are 95 %."
    yield ""
    yield "## What to know first"
    yield ""
    yield overall(judgement)
    yield ""
    for line in headlines(judgement):
        named = f" For example {', '.join(_plain(e) for e in line.examples)}." if line.examples else ""
        yield f"- **{line.state}** · {_plain(line.title)}: {_plain(line.text)}.{named}"
    yield ""
    for head in answered(judgement.measurement):
        yield from _head(judgement, head)
    for table in tables_about_data(judgement):
        yield from _table(table, "##")


def _head(judgement: Judgement, head: Answered) -> Iterator[str]:
    yield f"## {HEADS[head.part]}, {head.measured.n:,} faces"
    yield ""
    for table in tables_of_head(judgement, head):
        yield from _table(table, "###")
    labels, counts = head.measured.labels, head.measured.confusion
    totals = [max(sum(row), 1) for row in counts]
    shares = [[f"{v / total:.2f}" for v in row] for row, total in zip(counts, totals, strict=True)]
    for title, cells in (("counts", [[f"{v:,}" for v in row] for row in counts]), ("shares of the truth", shares)):
        rows = tuple((label, *row) for label, row in zip(labels, cells, strict=True))
        yield from _table(Table(title=f"Confusion, {title}", columns=("truth ↓ named →", *labels), rows=rows), "###")
    yield from _table(_balance(judgement, head), "###")


def _balance(judgement: Judgement, head: Answered) -> Table:
    counts = class_counts(judgement, head)
    rows = [(label, *(f"{int(c[i]):,}" for c in counts.values())) for i, label in enumerate(head.measured.labels)]
    return Table(title="Faces of each label", columns=("label", *counts), rows=tuple(rows))


def _table(table: Table, level: str) -> Iterator[str]:
    if not table.rows:
        return
    yield f"{level} {_plain(table.title)}"
    yield ""
    yield _row(table.columns)
    yield "|" + " --- |" + " ---: |" * (len(table.columns) - 1)
    yield from (_row(row) for row in table.rows)
    yield ""
    if table.note:
        yield _plain(table.note)
        yield ""


def _row(cells: tuple[Cell, ...]) -> str:
    return "| " + " | ".join(_cell(c) for c in cells) + " |"


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _plain(cell)
    return _number(cell)


def _number(cell: Number) -> str:
    rest = ", ".join(part for part in (cell.interval, cell.n) if part)
    return f"{cell.value} ({rest})" if rest else cell.value


def _plain(text: str) -> str:
    """Return text of the data so that it cannot become Markdown of its own."""
    flat = " ".join(text.split())
    for sign in "\\|*_`<>[]":
        flat = flat.replace(sign, "\\" + sign)
    return flat
