"""`mien evaluate`: how good a model is, and how far its scores can be trusted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..evaluate import report as written
from ..evaluate.crowd import CrowdScores
from ..evaluate.judgement import Judgement, judge
from ..evaluate.report_tables import Number, headlines, number, overall, tables_about_data
from ..evaluate.report_tables import Table as Content
from ..evaluate.run import PartScores, measure
from ..evaluate.scores import LabelScores
from ..labels import merges_from
from .console import answer, errors, meter, note, table_console
from .opening import open_model

__all__ = ["evaluate"]

_TITLES = {"fer2013": "FER2013 seven", "labels": "labels", "crowd": "crowd's first choice, eight"}


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundled model, an .onnx file with its card, or a training run.")],
    data: Annotated[Path, typer.Argument(help="Labelled faces in any form that training takes: a folder or a file.")],
    split: Annotated[
        str | None,
        typer.Option(help="The split to measure on; else PublicTest, test, validation or val, else all faces."),
    ] = None,
    merge: Annotated[
        list[str] | None, typer.Option(help="Where a label of the data goes that the model does not have: 0=neutral,…")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write report.html, report.md and report.json into this folder.")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Compare groups by these columns of the data, such as sex,age.")
    ] = None,
    checks: Annotated[
        bool, typer.Option("--checks/--no-checks", help="Look for leaks, for answers that vary, and move the box.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score every head of an expression model, with n, chance and 95 % intervals, and check whether that is honest.

    What the checks find stands before the scores.
    """
    with errors():
        if out is not None:
            written.prepare(out)
        found = _judged(model, data, split, merge or [], _columns(by or []), checks=checks, quiet=as_json)
        files = written.write(found, out) if out is not None else ()
        if as_json:
            answer(found.as_dict())
        else:
            _show(found)
        for file in files:
            note(f"{file}")


def _columns(texts: Sequence[str]) -> list[str]:
    return [name.strip() for text in texts for name in text.split(",") if name.strip()]


def _judged(
    model: str, data: Path, split: str | None, merge: Sequence[str], by: Sequence[str], *, checks: bool, quiet: bool
) -> Judgement:
    started = time.monotonic()
    with meter(shown=not quiet, unit="faces") as (bar, task):

        def tell(done: int, total: int) -> None:
            if bar:
                rate = f"{done / max(time.monotonic() - started, 1e-6):.0f}"
                bar.update(task, description="reading", completed=done, total=total, rate=rate)

        def say(word: str) -> None:
            if bar:
                bar.update(task, description=word)

        measured = measure(open_model(model), data, split=split, merge=merges_from(merge), progress=tell)
        return judge(measured, checks=checks, by=by, tell=say)


def _show(found: Judgement) -> None:
    report, console = found.measurement.report, table_console()
    console.print(f"{escape(report.model)} on {escape(report.data)} {escape(report.split)}", highlight=False)
    console.print(escape(overall(found)), highlight=False)
    for line in headlines(found):
        words = dict.fromkeys((line.state, line.title))
        console.print(escape(f"{': '.join(words)}: {line.text}"), highlight=False)
    for title, part in (("as given", report.as_given), ("de-duplicated", report.deduplicated)):
        console.print(_scores(title, part))
    for table in tables_about_data(found):
        _print(console, table)


def _print(console: Console, content: Content) -> None:
    table = Table(box=None, pad_edge=False, title=escape(content.title), title_justify="left")
    for i, column in enumerate(content.columns):
        table.add_column(escape(column), justify="right" if i else "left")
    for row in content.rows:
        table.add_row(*(escape(_text(cell)) for cell in row))
    console.print(table)


def _text(cell: str | Number) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell.value} ({cell.interval})" if cell.interval else cell.value


def _scores(title: str, part: PartScores) -> Table:
    table = Table(box=None, pad_edge=False, title=f"{title}, {part.n} faces", title_justify="left")
    table.add_column("score")
    for head in ("value", "95 % interval", "n", "chance"):
        table.add_column(head, justify="right")
    for name, scores in part.heads().items():
        _against(table, _TITLES[name], scores)
    if part.crowd:
        _votes(table, part.crowd)
    return table


def _against(table: Table, name: str, scores: LabelScores) -> None:
    rows = (
        ("accuracy", "accuracy"),
        ("balanced_accuracy", "balanced accuracy"),
        ("macro_f1", "macro-F1"),
        ("top2", "label among the best two"),
        ("top3", "label among the best three"),
        ("likelihood_loss", "likelihood loss, nats"),
        ("calibration_error_after", "calibration error"),
    )
    for field, words in rows:
        _row(table, f"{name}: {words}", scores, field)
    before = f"{name}: calibration error before the card's temperature"
    table.add_row(escape(before), f"{scores.calibration_error_before:.4f}", "", f"{scores.n:,}", "")
    for entry in scores.classes:
        shown = number(entry.recall, 4)
        table.add_row(
            f"  recall {escape(entry.label)}", shown.value, shown.interval, str(entry.n), f"{entry.chance:.4f}"
        )


def _votes(table: Table, crowd: CrowdScores) -> None:
    rows = (
        ("ferplus_majority", "FER+ majority, eight: accuracy"),
        ("divergence", "crowd: KL to the votes, nats"),
        ("vote_calibration_error_after", "crowd: calibration error to the votes"),
        ("vote_share", "crowd: share of the votes for what the model names"),
        ("vote_ceiling", "crowd: the same for the taggers' first choice"),
    )
    for field, words in rows:
        _row(table, words, crowd, field)


def _row(table: Table, words: str, scores: LabelScores | CrowdScores, field: str) -> None:
    estimate, chance = scores.estimate(field), scores.chance.get(field)
    shown = number(estimate, 4)
    table.add_row(
        escape(words), shown.value, shown.interval, str(estimate.n), "" if chance is None else f"{chance:.4f}"
    )
