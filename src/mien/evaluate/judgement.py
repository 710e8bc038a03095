"""The whole judgement of a model: its scores, what makes them doubtful, and the faces to look at."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..models.base import Classifier
from . import honesty, jitter, subgroup
from .honesty import Finding
from .jitter import JitterReport
from .metrics import Estimate, share
from .resample import mean_of
from .run import Measurement, as_plain
from .scores import LabelScores
from .subgroup import SubgroupTable
from .truth import Truth

__all__ = ["Answered", "Judgement", "PersonScores", "answered", "judge"]

# A voted face costs 45 windows at 7 places; few faces would not pay for it.
_JITTERED = 300
_VOTED = 32
_TRIALS = 2
_PARTS = ("fer2013", "labels", "crowd")


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonScores:
    """Accuracy where persons are known.

    Attributes
    ----------
    persons, faces
        How many persons the measured faces show, and how many of those faces say whom.
    split
        Accuracy on these faces, as the split is.
    each_once
        Mean accuracy of a person, resampled by person: faces of one person are no separate evidence.
    seen, new
        Accuracy on faces of persons that another split shows too, and of all others.
    gap
        ``seen`` less ``new`` with Newcombe's interval: what the split flatters.
    """

    persons: int
    faces: int
    split: Estimate
    each_once: Estimate
    seen: Estimate
    new: Estimate
    gap: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One head's answers to the measured faces that count, without twins.

    Attributes
    ----------
    part
        ``fer2013``, ``crowd`` or ``labels``.
    truth
        What they are held against; ``truth.index`` counts in `Measurement.measured`.
    scores
        (n, K) over ``truth.labels``.
    measured
        The scores of the head.
    """

    part: str
    truth: Truth
    scores: NDArray[np.floating[Any]]
    measured: LabelScores

    @property
    def named(self) -> NDArray[np.int64]:
        """The label that the model names, (n,)."""
        named: NDArray[np.int64] = self.scores.argmax(1)
        return named

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether it is right, (n,)."""
        right: NDArray[np.bool_] = self.named == self.truth.label
        return right

    def some(self, count: int, *, seed: int = 0) -> NDArray[np.intp]:
        """Return random rows of this, at most so many, in the order drawn."""
        return np.random.default_rng(seed).permutation(len(self.truth))[:count]

    def worst(self, count: int) -> NDArray[np.intp]:
        """Return the rows that are named wrong, the surest first, at most so many."""
        wrong = np.flatnonzero(~self.correct)
        return wrong[np.argsort(-self.scores[wrong].max(1), kind="stable")][:count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A measurement with what makes it doubtful.

    Attributes
    ----------
    measurement
        The scores, the faces and the answers.
    checked
        Whether the honesty checks and the jitter gate were run.
    findings
        One entry a check; empty if they were not run.
    jitter
        How often labels change when the box moves; None if it was not measured.
    persons
        None where the data does not say who is in the pictures.
    subgroups
        One table for each column that was asked for.
    missing
        Columns that were asked for and are known of no face.
    date
        When it was made, ISO 8601.
    """

    measurement: Measurement
    checked: bool
    findings: tuple[Finding, ...]
    jitter: JitterReport | None
    persons: PersonScores | None
    subgroups: tuple[SubgroupTable, ...]
    missing: tuple[str, ...]
    date: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: those of `run.Report`, and what was checked."""
        plain: dict[str, Any] = as_plain(
            self.measurement.report.as_dict()
            | {
                "date": self.date,
                "checked": self.checked,
                "findings": [asdict(f) for f in self.findings],
                "jitter": self.jitter.as_dict() if self.jitter else None,
                "persons": asdict(self.persons) if self.persons else None,
                "subgroups": [t.as_dict() for t in self.subgroups],
            }
        )
        return plain


def judge(
    measurement: Measurement,
    *,
    checks: bool = True,
    by: Sequence[str] = (),
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
    today: Callable[[], dt.date] = dt.date.today,
) -> Judgement:
    """Check a measurement and split it by columns of the data.

    Parameters
    ----------
    measurement
        As `run.measure` gives it.
    checks
        Run `honesty.check` and `jitter.measure`.
    by
        Columns of the data to compare groups by.
    seed
        Decides which faces the checks draw.
    tell
        Called with a word on what is done next.
    today
        The date of the judgement.

    Raises
    ------
    OptionError
        If the data has no such column; the message lists those that there are.
    """
    say = tell or (lambda _word: None)
    _check_columns(measurement, by)
    first = answered(measurement)[:1]
    classify = _classifier(measurement, first)
    findings: tuple[Finding, ...] = ()
    moved = None
    if checks:
        say("honesty checks")
        findings = _findings(measurement, classify, seed)
        say("jitter gate")
        crops = measurement.faces.images[measurement.chosen]
        voted = _VOTED if len(crops) >= _JITTERED else 0
        moved = jitter.measure(classify, crops, seed=seed, faces=_JITTERED, voted_faces=voted, trials=_TRIALS)
    tables = _subgroups(measurement, first[0], by) if first else ()
    return Judgement(
        measurement=measurement,
        checked=checks,
        findings=findings,
        jitter=moved,
        persons=_persons(measurement, first[0]) if first else None,
        subgroups=tables,
        missing=tuple(c for c in by if c not in {t.column for t in tables}),
        date=today().isoformat(),
    )


def answered(measurement: Measurement) -> tuple[Answered, ...]:
    """Return every head that was measured without twins; the one that is held against labels comes first."""
    heads = measurement.report.deduplicated.heads()
    found = []
    for part in _PARTS:
        if part in heads and heads[part].n:
            truth, scores = measurement.answers(part)
            found.append(Answered(part=part, truth=truth, scores=scores, measured=heads[part]))
    return tuple(found)


def _check_columns(measurement: Measurement, by: Sequence[str]) -> None:
    held = measurement.faces.columns
    if unknown := [c for c in by if c not in held]:
        msg = f"the data has no column {', '.join(unknown)}; it has {', '.join(held) or 'none'}"
        raise OptionError(msg)


def _classifier(measurement: Measurement, first: Sequence[Answered]) -> Classifier:
    """Return the head that comes first, in the labels that it was measured in."""
    heads = [(measurement.head(a.part), a.truth.carry) for a in first] or [(measurement.expression.heads[0], None)]
    head, carry = heads[0]

    def classify(crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        scores = measurement.expression.read(crops).scores[head.name]
        return scores if carry is None else scores @ carry

    return classify


def _findings(measurement: Measurement, classify: Classifier, seed: int) -> tuple[Finding, ...]:
    faces, split = measurement.faces, measurement.report.split
    if measurement.chosen.all():
        faces = replace(faces, split=np.full(len(faces), split))
    return honesty.check(classify, faces, split, seed=seed)


def _subgroups(measurement: Measurement, head: Answered, by: Sequence[str]) -> tuple[SubgroupTable, ...]:
    if not by:
        return ()
    faces, rest = measurement.measured()[head.truth.index], measurement.faces[~measurement.chosen]
    training = {c: rest.columns[c] for c in by} if len(rest) else None
    return subgroup.compare(head.correct, {c: faces.columns[c] for c in by}, training=training)


def _persons(measurement: Measurement, head: Answered) -> PersonScores | None:
    faces, rest = measurement.measured()[head.truth.index], measurement.faces[~measurement.chosen]
    known = faces.person != ""
    if not known.any():
        return None
    person, right = faces.person[known], head.correct[known]
    people, place = np.unique(person, return_inverse=True)
    seen = np.isin(person, rest.person)

    def of(rows: NDArray[np.bool_]) -> Estimate:
        return share(int(right[rows].sum()), int(rows.sum()))

    ours, others = right[seen], right[~seen]
    return PersonScores(
        persons=len(people),
        faces=len(person),
        split=of(np.ones(len(person), bool)),
        each_once=mean_of(np.bincount(place, right) / np.bincount(place)),
        seen=of(seen),
        new=of(~seen),
        gap=subgroup.newcombe(int(ours.sum()), len(ours), int(others.sum()), len(others)),
    )
