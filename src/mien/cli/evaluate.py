"""`mien evaluate`: how good a model is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..evaluate.metrics import Estimate
from ..evaluate.run import LabelScores, PartScores, Report
from ..evaluate.run import evaluate as judge
from .console import answer, errors, meter, table_console

__all__ = ["evaluate"]


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundled model, or an .onnx file with its card.")],
    data: Annotated[Path, typer.Argument(help="FER2013 in any public form: a folder or a file.")],
    split: Annotated[str, typer.Option(help="Training, PublicTest or PrivateTest.")] = "PublicTest",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Score both heads of an expression model, with n and 95 % intervals, duplicates dropped and not."""
    with errors():
        started = time.monotonic()
        with meter(shown=not as_json, unit="faces") as (bar, task):

            def tell(done: int, total: int) -> None:
                if bar:
                    rate = f"{done / max(time.monotonic() - started, 1e-6):.0f}"
                    bar.update(task, description=split, completed=done, total=total, rate=rate)

            report = judge(model, data, split=split, progress=tell)
        if as_json:
            answer(report.as_dict())
        else:
            _show(report)


def _show(report: Report) -> None:
    console = table_console()
    console.print(f"{report.model} on {report.data} {report.split}", highlight=False)
    for title, part in (("as given", report.as_given), ("de-duplicated", report.deduplicated)):
        console.print(_scores(title, part))
    for note in report.notes:
        console.print(f"note: {note}", highlight=False)


def _scores(title: str, part: PartScores) -> Table:
    table = Table(box=None, pad_edge=False, title=f"{title}, {part.n} faces", title_justify="left")
    table.add_column("score")
    for head in ("value", "95 % interval", "n"):
        table.add_column(head, justify="right")
    if part.fer2013:
        _against(table, "FER2013 seven", part.fer2013)
    if part.crowd:
        _against(table, "crowd's first choice, eight", part.crowd.first_choice)
        majority = part.crowd.ferplus_majority
        table.add_row("FER+ majority, eight: accuracy", *_cells(majority))
        table.add_row(
            "crowd: KL to the votes, nats", f"{part.crowd.divergence:.3f}", "", str(part.crowd.first_choice.n)
        )
        before, after = part.crowd.vote_calibration_error_before, part.crowd.vote_calibration_error_after
        table.add_row("crowd: calibration error to the votes, before → after", f"{before:.3f} → {after:.3f}")
    return table


def _cells(estimate: Estimate) -> tuple[str, str, str]:
    return f"{estimate.value:.4f}", f"{estimate.low:.4f}–{estimate.high:.4f}", str(estimate.n)


def _against(table: Table, name: str, scores: LabelScores) -> None:
    table.add_row(f"{name}: accuracy", *_cells(scores.accuracy))
    table.add_row(f"{name}: chance (largest class)", f"{scores.chance_largest:.4f}", "", str(scores.n))
    table.add_row(f"{name}: balanced accuracy", *_cells(scores.balanced_accuracy))
    table.add_row(f"{name}: macro-F1", *_cells(scores.macro_f1))
    table.add_row(f"{name}: label among the best two", *_cells(scores.top2))
    for entry in scores.classes:
        table.add_row(f"  recall {entry.label}", *_cells(entry.recall))
    before, after = scores.calibration_error_before, scores.calibration_error_after
    table.add_row(f"{name}: calibration error, before → after", f"{before:.3f} → {after:.3f}", "", str(scores.n))
