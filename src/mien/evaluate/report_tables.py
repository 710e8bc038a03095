"""What a report says, as headlines and tables; `report_html` and `report_text` only give it a form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .crowd import CrowdScores
from .jitter import JitterReport
from .judgement import Answered, Judgement, PersonScores
from .metrics import Estimate
from .run import Measurement
from .scores import LabelScores
from .subgroup import SubgroupRow, SubgroupTable
from .truth import truth

__all__ = [
    "HEADS",
    "Cell",
    "Headline",
    "Number",
    "Table",
    "class_counts",
    "headlines",
    "number",
    "overall",
    "tables_about_data",
    "tables_of_head",
]

HEADS: Mapping[str, str] = MappingProxyType(
    {
        "fer2013": "Against FER2013's label",
        "crowd": "Against the taggers' votes",
        "labels": "Against the data's labels",
    }
)
"""Title of what each part of a report is held against."""

_COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)

_LABEL_ROWS = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("macro_f1", "macro-F1"),
    ("top2", "truth among the best two"),
    ("top3", "truth among the best three"),
    ("calibration_error_after", "calibration error, less is better"),
    ("likelihood_loss", "likelihood loss, nats, less is better"),
)
_CROWD_ROWS = (
    ("ferplus_majority", "agreement by the majority rule of FER+"),
    ("divergence", "KL to the votes, nats, less is better"),
    ("vote_calibration_error_after", "calibration error to the votes, less is better"),
    ("vote_share", "share of the votes for what the model names"),
    ("vote_ceiling", "the same for the taggers' own first choice"),
    ("tagger_agreement", "two taggers of a face agree"),
    ("disagreed", "faces on which the taggers disagree"),
)


@dataclass(frozen=True, slots=True)
class Number:
    """A value with its interval and n, as they are printed; empty where there is none."""

    value: str
    interval: str = ""
    n: str = ""


Cell = str | Number


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of a report; every row has a cell for every column, the first one names it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """A line of what a reader must know before the scores; ``state`` is found, clear, not checked or note."""

    state: str
    title: str
    text: str
    examples: tuple[str, ...] = ()


def number(estimate: Estimate | None, digits: int = 3) -> Number:
    """Return an estimate as it is printed."""
    if estimate is None or math.isnan(estimate.value):
        return Number("–", "", f"n {estimate.n:,}" if estimate else "")
    interval = "" if math.isnan(estimate.low) else f"{estimate.low:.{digits}f}–{estimate.high:.{digits}f}"
    return Number(f"{estimate.value:.{digits}f}", interval, f"n {estimate.n:,}")


def headlines(judgement: Judgement) -> tuple[Headline, ...]:
    """Return what stands at the top: what was found first, then what was not checked, what is clear, and notes."""
    order = ("found", "not checked", "clear", "note")
    return tuple(sorted(_headlines(judgement), key=lambda line: order.index(line.state)))


def overall(judgement: Judgement) -> str:
    """Return in one sentence how far the scores can be trusted."""
    if not judgement.checked:
        return "The honesty checks were not run (--no-checks): nothing here says that these scores can be trusted."
    lines = headlines(judgement)
    found = sum(line.state == "found" for line in lines)
    left = sum(line.state == "not checked" for line in lines)
    rest = f"; {left} could not be made" if left else ""
    if found:
        return f"{found} of the checks found something{rest}. Read this before the scores."
    return f"No check found anything{rest}."


def tables_of_head(judgement: Judgement, head: Answered) -> tuple[Table, ...]:
    """Return the scores, the classes, the most confused pairs and the errors by coverage of one head."""
    return (
        _scores(judgement.measurement, head),
        _classes(head.measured),
        _pairs(head.measured),
        _coverage(head.measured),
    )


def tables_about_data(judgement: Judgement) -> tuple[Table, ...]:
    """Return what was measured on the box, on persons and by column; only what there is."""
    found = []
    if judgement.jitter is not None:
        found.append(_jitter(judgement.jitter))
    if judgement.persons is not None:
        found.append(_persons(judgement.persons))
    return (*found, *(_subgroup(t) for t in judgement.subgroups))


def class_counts(judgement: Judgement, head: Answered) -> dict[str, NDArray[np.int64]]:
    """Return how many faces have each label: of the other splits where there are any, and of those measured."""
    measurement = judgement.measurement
    k = len(head.truth.labels)
    counts = {}
    rest = measurement.faces[~measurement.chosen]
    try:
        others = truth(rest, measurement.head(head.part)) if len(rest) else None
    except DataError:
        others = None
    if others is not None and len(others) and others.labels.labels == head.truth.labels.labels:
        counts["other splits"] = np.bincount(others.label, minlength=k)
    counts[measurement.report.split] = np.bincount(head.truth.label, minlength=k)
    return counts


def _headlines(judgement: Judgement) -> Iterator[Headline]:
    report = judgement.measurement.report
    if not judgement.checked:
        yield Headline(state="not checked", title="honesty checks", text="left out by --no-checks, the jitter gate too")
    for f in judgement.findings:
        yield Headline(state=f.state, title=f.check, text=f.summary, examples=f.examples)
    if judgement.jitter is not None:
        yield _jitter_line(judgement.jitter)
    # The check of that name says it already.
    if not judgement.findings and judgement.persons is not None and judgement.persons.seen.n:
        yield _person_line(judgement.persons)
    for table in judgement.subgroups:
        yield from _subgroup_lines(table)
    for column in judgement.missing:
        yield Headline(state="not checked", title=column, text="no measured face has a value in this column")
    dropped = report.also_elsewhere + report.repeated
    if dropped:
        text = (
            f"{report.also_elsewhere:,} faces that are pixel for pixel in another split and {report.repeated:,} that "
            f"repeat one of this split are left out of the scores: {report.deduplicated.n:,} of "
            f"{report.as_given.n:,} remain. What the split as given would say stands beside them"
        )
        yield Headline(state="note", title="pixel-equal pictures", text=text)
    for text in report.notes:
        yield Headline(state="note", title="note", text=text)


def _jitter_line(jitter: JitterReport) -> Headline:
    both = jitter.moves[-1]
    text = (
        f"the label changes in {both.flips.value:.1%} ({both.flips.low:.1%}–{both.flips.high:.1%}) of the trials when "
        f"the box moves by up to {jitter.shift:.0%} and scales by up to {jitter.scale:.0%} ({jitter.faces:,} faces)"
    )
    if both.voted and both.plain_of_voted:
        text += (
            f"; on {jitter.voted_faces:,} of them in {both.plain_of_voted.value:.1%}, and with the vote of "
            f"{jitter.windows} windows in {both.voted.value:.1%} ({both.voted.low:.1%}–{both.voted.high:.1%})"
        )
    return Headline(state="note", title="jitter gate", text=text)


def _person_line(held: PersonScores) -> Headline:
    if not held.new.n:
        return Headline(state="found", title="persons", text="every person measured is in another split too")
    text = (
        f"accuracy {held.seen.value:.3f} on persons of another split (n {held.seen.n:,}), {held.new.value:.3f} on "
        f"new ones (n {held.new.n:,}): the split flatters by {held.gap.value:+.3f} "
        f"({held.gap.low:+.3f} to {held.gap.high:+.3f})"
    )
    return Headline(state="found", title="persons", text=text)


def _subgroup_lines(table: SubgroupTable) -> Iterator[Headline]:
    if table.absent:
        text = f"not among the training faces at all: {', '.join(table.absent)}"
        yield Headline(state="found", title=table.column, text=text)
    if table.rare:
        yield Headline(state="note", title=table.column, text=f"rare among the training faces: {', '.join(table.rare)}")
    worse = [r for r in table.rows if r.p_holm is not None and r.p_holm < 0.05 and r.difference is not None]
    for row in worse:
        text = (
            f"{row.group} is read {'better' if _value(row.difference) > 0 else 'worse'} than the rest by "
            f"{abs(_value(row.difference)):.3f} (p {_p(row.p_holm)} after Holm)"
        )
        yield Headline(state="found", title=table.column, text=text)


def _value(estimate: Estimate | None) -> float:
    return math.nan if estimate is None else estimate.value


def _scores(measurement: Measurement, head: Answered) -> Table:
    report = measurement.report
    given = report.as_given.heads().get(head.part)
    rows = [_row(name, words, head.measured, given) for name, words in _LABEL_ROWS]
    area = given.risk.area if given else None
    chance = head.measured.chance.get("risk_area")
    rows.append(_cells("errors over all coverages, less is better", head.measured.risk.area, area, chance))
    if head.measured.divergence is not None:
        rows.append(
            _cells(
                "KL to the votes, nats, less is better",
                head.measured.divergence,
                given.divergence if given else None,
                None,
            )
        )
    crowds = report.deduplicated.crowd, report.as_given.crowd
    if head.part == "crowd" and crowds[0] is not None:
        rows += [_row(name, words, crowds[0], crowds[1]) for name, words in _CROWD_ROWS]
    return Table(
        title="Scores",
        columns=("score", "without twins", "as given", "chance"),
        rows=tuple(rows),
        note=_about_scores(head, crowds[0]),
    )


def _about_scores(head: Answered, crowd: CrowdScores | None) -> str:
    measured = head.measured
    words = [
        f"Guessing among {len(measured.labels)} labels would be right in {measured.chance_uniform:.3f}.",
        f"With the card's temperature undone the calibration error is {measured.calibration_error_before:.3f}.",
    ]
    if head.part == "crowd" and crowd is not None:
        words.append(
            f"{crowd.without_votes:,} faces have no votes, {crowd.left_out:,} are unknown or no face to most taggers, "
            f"{crowd.ties:,} have several first choices, of which the first in order counts. This head's scores are "
            "meant as shares of the votes: its calibration is the one to the votes; against the first choice it must "
            "look less sure than it is right."
        )
    return " ".join(words)


def _row(
    name: str, words: str, one: LabelScores | CrowdScores, other: LabelScores | CrowdScores | None
) -> tuple[Cell, ...]:
    return _cells(words, one.estimate(name), other.estimate(name) if other else None, one.chance.get(name))


def _cells(words: str, one: Estimate | None, other: Estimate | None, chance: float | None) -> tuple[Cell, ...]:
    return words, number(one), number(other), "" if chance is None else f"{chance:.3f}"


def _classes(measured: LabelScores) -> Table:
    return Table(
        title="Classes",
        columns=("label", "recall", "precision", "F1", "chance"),
        rows=tuple(
            (
                c.label,
                number(c.recall, 2),
                number(c.precision_estimate, 2),
                number(c.f1, 2),
                f"{c.chance:.2f}",
            )
            for c in measured.classes
        ),
        note="Chance: what naming at random, in the shares of the labels, gives for all three.",
    )


def _pairs(measured: LabelScores) -> Table:
    return Table(
        title="Most confused pairs",
        columns=("truth → named", "faces", "share of the label"),
        rows=tuple((f"{p.label} → {p.named}", f"{p.count:,}", number(p.share, 2)) for p in measured.pairs),
    )


def _coverage(measured: LabelScores) -> Table:
    points = [p for c in _COVERAGES for p in measured.risk.points if math.isclose(p.coverage, c)]
    at_random = f"{1 - measured.accuracy.value:.3f}"
    return Table(
        title="Errors when the least sure faces are left unanswered",
        columns=("answered", "score at least", "share of errors", "chance"),
        rows=tuple((f"{p.coverage:.2f}", f"{p.threshold:.2f}", number(p.risk), at_random) for p in points),
        note="Chance: as many faces left unanswered at random.",
    )


def _jitter(jitter: JitterReport) -> Table:
    context = "the crop's own edge stands for what lies around it" if jitter.context == "edge" else "in whole pictures"
    return Table(
        title="When the box moves",
        columns=("movement", "labels that change", "faces that change", "with the vote", "saved by the vote"),
        rows=tuple(
            (m.move, number(m.flips), number(m.unstable), number(m.voted), number(m.saved)) for m in jitter.moves
        ),
        note=(
            f"{jitter.trials} movements of each kind a face: up to {jitter.shift:.0%} of the side, up to "
            f"{jitter.scale:.0%} in scale; the vote is that of {jitter.windows} windows; {context}."
        ),
    )


def _persons(held: PersonScores) -> Table:
    return Table(
        title="By person",
        columns=("faces", "accuracy"),
        rows=(
            (f"all that say whom they show, {held.persons:,} persons", number(held.split)),
            ("the same, each person once", number(held.each_once)),
            ("of persons that another split shows too", number(held.seen)),
            ("of new persons", number(held.new)),
            ("gap", number(held.gap)),
        ),
    )


def _subgroup(table: SubgroupTable) -> Table:
    rows: list[tuple[Cell, ...]] = [("all", f"{table.n:,}", number(table.accuracy), "", "", "")]
    rows += [_group(r) for r in table.rows]
    tests = "1 test" if table.tests == 1 else f"{table.tests} tests"
    unlisted = f" {table.unlisted:,} smaller groups are not listed." if table.unlisted else ""
    return Table(
        title=f"By {table.column}",
        columns=(table.column, "faces", "accuracy", "against the rest", "p, Holm", "note"),
        rows=tuple(rows),
        note=f"Difference of accuracy to all other known groups, Fisher's exact test, Holm over {tests}.{unlisted}",
    )


def _group(row: SubgroupRow) -> tuple[Cell, ...]:
    return row.group, f"{row.n:,}", number(row.accuracy), number(row.difference), _p(row.p_holm), row.note


def _p(p: float | None) -> str:
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
