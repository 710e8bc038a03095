"""A report as one page that needs nothing else: style and pictures are inside it, and it runs no script."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from html import escape
from importlib.resources import files

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces
from ..render import plot
from .judgement import Answered, Judgement, answered
from .metrics import Estimate
from .report_tables import (
    HEADS,
    Cell,
    Headline,
    Number,
    Table,
    class_counts,
    headlines,
    number,
    overall,
    tables_about_data,
    tables_of_head,
)

__all__ = ["page"]

_RANDOM, _WORST, _NAMED = 24, 24, 3
_MANY = 9

_CALIBRATION = ("Calibration: right as often as the score says?", "Calibration: as many votes as the score says?")

_WORDS = (
    ("without twins, as given", "Twins are pictures that are equal pixel for pixel. One that is also in another split "
     "was perhaps learnt by heart; the scores without twins leave it out, and count repeated pictures once."),
    ("chance", "What one and the same answer to every face reaches: the shares of the labels as scores."),
    ("95 %, n", "Percentile bootstrap over 1,000 resamples of the faces; n is the number of faces, or of those that a "
     "share is of. A share of exactly 0 or 1 has Wilson's interval."),
    ("balanced accuracy, macro-F1", "Mean over the labels of recall, and of F1: a rare label counts as much as a "
     "frequent one."),
    ("calibration error", "Mean distance of the score from the share that is right, over 15 bins. 0: a score of 0.7 is "
     "right in 70 of 100 faces."),
    ("likelihood loss, KL", "How far the scores are from the truth, or from the taggers' votes, in nats; 0 is "
     "perfect."),
    ("errors over all coverages", "Mean share of errors when the least sure 0 to 100 % of the faces are left "
     "unanswered."),
)  # fmt: skip


def page(judgement: Judgement, *, seed: int = 0) -> str:
    """Return the whole report as one HTML page.

    Parameters
    ----------
    judgement
        What is shown.
    seed
        Decides which random faces are shown.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    report, heads = judgement.measurement.report, answered(judgement.measurement)
    title = f"{report.model} on {report.data}, {report.split}"
    facts = (
        f"{report.as_given.n:,} faces, {report.deduplicated.n:,} without twins · {judgement.date} · weights "
        f"{report.sha256[:12]} · all intervals are 95 %"
    )
    style = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    body = [
        f"<header><h1>{escape(title)}</h1><p class=facts>{escape(facts)}</p></header><main>",
        _first(judgement),
        _tiles(heads),
        *(_head(judgement, head, seed) for head in heads),
        *_about_data(judgement),
        _glossary(),
        "</main><footer>Expressions are what faces show and how people would label them, not what anybody feels."
        "</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>" + "\n".join(body) + "</body></html>\n"
    )


def _first(judgement: Judgement) -> str:
    lines = headlines(judgement)
    state = "found" if any(line.state == "found" for line in lines) else "clear" if judgement.checked else "open"
    items = "".join(_headline(line) for line in lines)
    return (
        f'<section class="first {state}"><h2>What to know first</h2><div>{escape(overall(judgement))}</div>'
        f"<ul>{items}</ul></section>"
    )


def _headline(line: Headline) -> str:
    shown = ""
    if line.examples:
        names = "<br>".join(escape(name) for name in line.examples)
        shown = f"<details><summary>examples</summary>{names}</details>"
    kind = line.state.replace(" ", "-")
    title = "" if line.title == "note" else f"<b>{escape(line.title)}</b>: "
    return f'<li><span class="state {kind}">{line.state}</span><div>{title}{escape(line.text)}{shown}</div></li>'


def _tiles(heads: Iterable[Answered]) -> str:
    tiles = []
    for head in heads:
        measured = head.measured
        tiles += [
            _tile(HEADS[head.part], "accuracy", measured.accuracy, measured.chance["accuracy"]),
            _tile(
                HEADS[head.part], "balanced accuracy", measured.balanced_accuracy, measured.chance["balanced_accuracy"]
            ),
        ]
    return f"<section class=tiles>{''.join(tiles)}</section>"


def _tile(title: str, what: str, estimate: Estimate, chance: float) -> str:
    shown = number(estimate)
    return (
        f"<div class=tile><span>{escape(title)}</span><span class=what>{what}</span><b>{shown.value}</b>"
        f"<span>{shown.interval} · {shown.n}</span><span>chance {chance:.3f}</span></div>"
    )


def _head(judgement: Judgement, head: Answered, seed: int) -> str:
    scores, classes, pairs, coverage = tables_of_head(judgement, head)
    return "\n".join(
        [
            f"<section><h2>{escape(HEADS[head.part])}, {head.measured.n:,} faces</h2>",
            _table(scores),
            _figures(judgement, head),
            _table(classes),
            _table(pairs),
            _table(coverage),
            _faces(judgement, head, head.some(_RANDOM, seed=seed), f"{_RANDOM} random faces"),
            _faces(judgement, head, head.worst(_WORST), "Worst mistakes: wrong, the surest first"),
            "</section>",
        ]
    )


def _figures(judgement: Judgement, head: Answered) -> str:
    measured, labels = head.measured, head.measured.labels
    confusion = np.array(measured.confusion, np.int64)
    drawn = (
        ("Confusion, faces", lambda theme: plot.confusion(confusion, labels, theme=theme)),
        ("Confusion, shares of the truth", lambda theme: plot.confusion(confusion, labels, shares=True, theme=theme)),
        ("Recall and precision", lambda theme: _rates(head, theme)),
        ("Class balance", lambda theme: plot.balance(labels, class_counts(judgement, head), theme=theme)),
        (_CALIBRATION[head.part == "crowd"], lambda theme: _calibration(judgement, head, theme)),
        ("Abstaining: errors among the faces answered", lambda theme: _risk(head, theme)),
    )
    return (
        f"<div class=figures>{''.join(_figure(title, draw, many=len(labels) > _MANY) for title, draw in drawn)}</div>"
    )


def _figure(title: str, draw: Callable[[plot.Theme], str], *, many: bool) -> str:
    kind = " class=big" if many and title.startswith("Confusion") else ""
    light, dark = (_uri("image/svg+xml", draw(theme).encode()) for theme in (plot.LIGHT, plot.DARK))
    return (
        f"<figure{kind}><figcaption>{escape(title)}</figcaption><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(title)}; the numbers stand in the tables"></picture></figure>'
    )


def _rates(head: Answered, theme: plot.Theme) -> str:
    classes = head.measured.classes
    series = {
        "recall": _three([c.recall for c in classes]),
        "precision": _three([c.precision_estimate for c in classes]),
    }
    return plot.rates(head.measured.labels, series, np.array([c.chance for c in classes]), theme=theme)


def _calibration(judgement: Judgement, head: Answered, theme: plot.Theme) -> str:
    crowd = judgement.measurement.report.deduplicated.crowd
    bins = crowd.calibration if crowd and head.part == "crowd" else head.measured.calibration
    return plot.calibration(
        np.array([(b.low, b.high) for b in bins]),
        np.array([b.score for b in bins]),
        _three([b.right for b in bins]),
        np.array([b.right.n for b in bins], np.float64),
        what="share of the votes" if head.part == "crowd" else "share right",
        theme=theme,
    )


def _risk(head: Answered, theme: plot.Theme) -> str:
    points = head.measured.risk.points
    return plot.risk(
        np.array([p.coverage for p in points]),
        *_three([p.risk for p in points]),
        overall=1 - head.measured.accuracy.value,
        theme=theme,
    )


def _three(
    estimates: Iterable[Estimate],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    value, low, high = np.array([(e.value, e.low, e.high) for e in estimates], np.float64).T
    return value, low, high


def _faces(judgement: Judgement, head: Answered, rows: NDArray[np.intp], title: str) -> str:
    if not len(rows):
        return ""
    shown = judgement.measurement.measured()[head.truth.index[rows]]
    items = "".join(_face(shown, i, head, int(row)) for i, row in enumerate(rows))
    return f"<h3>{escape(title)}</h3><ul class=faces>{items}</ul>"


def _face(faces: LabelledFaces, place: int, head: Answered, row: int) -> str:
    labels = head.truth.labels.labels
    truth, named = labels[int(head.truth.label[row])], labels[int(head.named[row])]
    best = np.argsort(-head.scores[row], kind="stable")[:_NAMED]
    mix = " · ".join(f"{labels[i]} {head.scores[row, i]:.2f}" for i in best)
    verdict = f"<span class=right>right: {escape(named)}</span>"
    if truth != named:
        verdict = f"<span class=wrong>named {escape(named)}</span>, truth {escape(truth)}"
    picture, name = _uri("image/png", _png(faces.images[place])), escape(str(faces.name[place]))
    votes = _votes(faces.vote_labels.labels, faces.votes[place])
    shown = f'<img src="{picture}" alt="{name}" title="{name}">'
    return f"<li>{shown}{verdict}<span class=mix>{escape(mix)}</span>{votes}</li>"


def _votes(labels: tuple[str, ...], votes: NDArray[np.float32]) -> str:
    if not votes.any():
        return ""
    names = (*labels, "unknown", "no face")
    order = [i for i in np.argsort(-votes, kind="stable") if votes[i]]
    return f"<span class=votes>votes: {escape(', '.join(f'{names[i]} {votes[i]:g}' for i in order))}</span>"


def _about_data(judgement: Judgement) -> list[str]:
    tables = tables_about_data(judgement)
    return ["<section><h2>The box, persons, groups</h2>", *map(_table, tables), "</section>"] if tables else []


def _table(table: Table) -> str:
    if not table.rows:
        return ""
    head = "".join(f"<th scope=col>{escape(c)}</th>" for c in table.columns)
    rows = "".join(
        f"<tr><th scope=row>{_cell(first)}</th>{''.join(f'<td>{_cell(c)}</td>' for c in rest)}</tr>"
        for first, *rest in table.rows
    )
    note = f"<p class=note>{escape(table.note)}</p>" if table.note else ""
    return (
        f"<h3>{escape(table.title)}</h3><div class=wide><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
        f"</table></div>{note}"
    )


def _cell(cell: Cell) -> str:
    if isinstance(cell, Number):
        small = "".join(f"<small>{escape(part)}</small> " for part in (cell.interval, cell.n) if part)
        return f"{escape(cell.value)} {small}".strip()
    return escape(cell)


def _glossary() -> str:
    entries = "".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in _WORDS)
    return f"<section><h2>What the numbers mean</h2><dl>{entries}</dl></section>"


def _png(crop: NDArray[np.uint8]) -> bytes:
    picture = crop if crop.ndim == 2 else crop[..., ::-1]
    return cv2.imencode(".png", picture)[1].tobytes()


def _uri(kind: str, blob: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(blob).decode()}"
