"""Checks that a score is honest: nothing leaks from training, and a face's answer depends on that face alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces
from ..models.base import Classifier
from . import metrics, subgroup, twins

__all__ = ["CHECKS", "Finding", "check"]

State = Literal["found", "clear", "not checked"]
Scores = NDArray[np.float32]

_EXAMPLES = 8
_SAMPLE = 96
_REPEATS = 3
_SUM_TOLERANCE = 1e-3
_REPEAT_TOLERANCE = 1e-6
_BATCH_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes
    ----------
    check
        Its name, one of `CHECKS`.
    state
        ``found``: something is wrong. ``clear``: looked for and not there. ``not checked``: the summary says why.
    summary
        One sentence with figures.
    count
        How many faces are concerned.
    examples
        Names of some of them.
    """

    check: str
    state: State
    summary: str
    count: int = 0
    examples: tuple[str, ...] = ()


CHECKS = (
    "equal pictures",
    "near-equal pictures",
    "shared persons",
    "conflicting labels",
    "random answers",
    "batch dependence",
    "probabilities",
)
"""The names of the checks, in their order."""


def check(classify: Classifier, faces: LabelledFaces, split: str, *, seed: int = 0) -> tuple[Finding, ...]:
    """Look for what makes a score on a split better than it deserves, or not repeatable.

    Parameters
    ----------
    classify
        (N, H, W[, 3]) uint8 crops to (N, K) float32 scores. Where K is the number of ``faces.labels``, accuracy on
        shared persons is measured too.
    faces
        All splits of the data.
    split
        The one that is scored.
    seed
        Decides which faces are read, and in which company.

    Returns
    -------
    tuple of Finding
        One a check, in the order of `CHECKS`.

    Raises
    ------
    DataError
        If the split is empty.
    """
    chosen, other = faces.of_split(split), faces[faces.split != split]
    sample = _drawn(chosen, seed)
    answers = [_read(classify, sample.images) for _ in range(_REPEATS)]
    repeated = _repeats(answers, sample)
    return (
        _equal(chosen, other),
        _near_equal(chosen, other),
        _persons(classify, chosen, other),
        _conflicts(chosen),
        repeated,
        _company(classify, sample, answers[0], repeated, seed),
        _probabilities(answers[0], sample),
    )


def _drawn(chosen: LabelledFaces, seed: int) -> LabelledFaces:
    rows = np.random.default_rng(seed).permutation(len(chosen))[:_SAMPLE]
    return chosen[np.sort(rows)]


def _read(classify: Classifier, crops: NDArray[np.uint8]) -> Scores:
    return np.array(classify(crops), np.float32)


def _names(faces: LabelledFaces, rows: NDArray[np.intp]) -> tuple[str, ...]:
    return tuple(str(n) for n in faces.name[rows[:_EXAMPLES]])


def _alone(name: str) -> Finding:
    return Finding(name, "not checked", "the data has no other split")


def _equal(chosen: LabelledFaces, other: LabelledFaces) -> Finding:
    name = CHECKS[0]
    if not len(other):
        return _alone(name)
    rows = np.flatnonzero(np.isin(chosen.group, other.group))
    if not len(rows):
        return Finding(name, "clear", f"none of {len(chosen):,} pictures is in another split, pixel for pixel")
    share = len(rows) / len(chosen)
    summary = f"{len(rows):,} of {len(chosen):,} pictures ({share:.1%}) are in another split, pixel for pixel"
    return Finding(name, "found", summary, len(rows), _names(chosen, rows))


def _near_equal(chosen: LabelledFaces, other: LabelledFaces) -> Finding:
    name = CHECKS[1]
    if not len(other):
        return _alone(name)
    rest = chosen[~np.isin(chosen.group, other.group)]
    pairs = twins.near(rest.images, other.images)
    rows = np.unique(pairs.first)
    if not len(rows):
        return Finding(name, "clear", f"none of {len(rest):,} pictures is a near copy of one in another split")
    mirrored = len(np.unique(pairs.first[pairs.mirrored]))
    summary = (
        f"{len(rows):,} of {len(rest):,} pictures ({len(rows) / len(rest):.1%}) are near copies of one in another "
        f"split, {mirrored:,} of them mirrored"
    )
    return Finding(name, "found", summary, len(rows), _names(rest, rows))


def _persons(classify: Classifier, chosen: LabelledFaces, other: LabelledFaces) -> Finding:
    name = CHECKS[2]
    if not len(other):
        return _alone(name)
    known = chosen.person != ""
    if not known.any() or not (other.person != "").any():
        return Finding(name, "not checked", "the data does not say who is in the pictures of both sides")
    shared = known & np.isin(chosen.person, other.person)
    people = len(np.unique(chosen.person[known]))
    if not shared.any():
        unknown = int((~known).sum())
        rest = f"; {unknown:,} faces have no name" if unknown else ""
        return Finding(name, "clear", f"none of {people:,} persons is in another split{rest}")
    both = len(np.unique(chosen.person[shared]))
    summary = f"{both:,} of {people:,} persons ({int(shared.sum()):,} faces) are in another split"
    summary += _gap(classify, chosen, shared, known & ~shared)
    rows = np.flatnonzero(shared)
    return Finding(name, "found", summary, len(rows), _names(chosen, rows))


def _gap(classify: Classifier, chosen: LabelledFaces, shared: NDArray[np.bool_], new: NDArray[np.bool_]) -> str:
    """Return how much better the shared persons are read than the new ones, as the rest of a sentence."""
    labelled = chosen.label >= 0
    if not (shared & labelled).any() or not (new & labelled).any():
        return "; there are no labelled faces of other persons to compare with"
    scores = _read(classify, chosen.images)
    if scores.shape[1] != len(chosen.labels):
        return f"; accuracy was not compared, since {scores.shape[1]} scores do not fit {len(chosen.labels)} labels"
    right = scores.argmax(1) == chosen.label
    ours, theirs = right[shared & labelled], right[new & labelled]
    gap = subgroup.newcombe(int(ours.sum()), len(ours), int(theirs.sum()), len(theirs))
    own = metrics.share(int(ours.sum()), len(ours))
    others = metrics.share(int(theirs.sum()), len(theirs))
    return (
        f"; accuracy {own.value:.1%} (n {own.n:,}) on them, {others.value:.1%} (n {others.n:,}) on new persons, "
        f"a gap of {100 * gap.value:+.1f} points ({100 * gap.low:+.1f} to {100 * gap.high:+.1f})"
    )


def _conflicts(chosen: LabelledFaces) -> Finding:
    name = CHECKS[3]
    rows = np.flatnonzero(chosen.label >= 0)
    if not len(rows):
        return Finding(name, "not checked", "no face of the split has a label")
    pairs = np.unique(np.stack([chosen.group[rows], chosen.label[rows]], 1), axis=0)
    groups, labels = np.unique(pairs[:, 0], return_counts=True)
    torn = rows[np.isin(chosen.group[rows], groups[labels > 1])]
    if not len(torn):
        return Finding(name, "clear", f"no picture among {len(rows):,} labelled ones has two labels")
    pictures = int((labels > 1).sum())
    summary = f"{len(torn):,} of {len(rows):,} faces are {pictures:,} pictures that occur with different labels"
    return Finding(name, "found", summary, len(torn), _names(chosen, torn))


def _change(first: Scores, then: Scores) -> NDArray[np.float64]:
    """Return the largest change of any score of each face, (N,); infinite where a number became none."""
    gap = np.abs(first.astype(np.float64) - then)
    both_none = np.isnan(first) & np.isnan(then)
    return np.asarray(np.where(both_none, 0, np.where(np.isnan(gap), np.inf, gap)).max(1))


def _repeats(answers: list[Scores], sample: LabelledFaces) -> Finding:
    name = CHECKS[4]
    change = np.max([_change(answers[0], a) for a in answers[1:]], axis=0)
    rows = np.flatnonzero(change > _REPEAT_TOLERANCE)
    if not len(rows):
        return Finding(name, "clear", f"{len(sample):,} faces, read {_REPEATS} times, got the same scores")
    flips = int(np.any([answers[0].argmax(1) != a.argmax(1) for a in answers[1:]], axis=0).sum())
    summary = (
        f"{len(rows):,} of {len(sample):,} faces got other scores when the same batch was read {_REPEATS} times, by up "
        f"to {change.max():.2g}; {flips:,} changed their label: something random is left on"
    )
    return Finding(name, "found", summary, len(rows), _names(sample, rows))


def _company(classify: Classifier, sample: LabelledFaces, first: Scores, repeated: Finding, seed: int) -> Finding:
    name = CHECKS[5]
    if repeated.state == "found":
        return Finding(name, "not checked", "the same batch gives other scores each time")
    change, flipped = np.zeros(len(sample)), np.zeros(len(sample), np.bool_)
    for batches in _companies(sample.images, seed):
        for rows in batches:
            try:
                scores = _read(classify, sample.images[rows])
            except Exception as error:  # noqa: BLE001 - any failure on fewer faces is what is looked for
                summary = f"reading {len(rows)} of {len(sample):,} faces fails: {str(error).splitlines()[0]}"
                return Finding(name, "found", summary, len(rows), _names(sample, rows))
            change[rows] = np.maximum(change[rows], _change(first[rows], scores))
            flipped[rows] |= first[rows].argmax(1) != scores.argmax(1)
    moved = np.flatnonzero(change > _BATCH_TOLERANCE)
    if not len(moved):
        summary = f"{len(sample):,} faces got the same scores alone, in other batches and in another order"
        return Finding(name, "clear", f"{summary} (largest change {change.max():.1g})")
    summary = (
        f"{len(moved):,} of {len(sample):,} faces got other scores in other batches, by up to {change.max():.2g}; "
        f"{int(flipped.sum()):,} changed their label: a batch norm may be in training mode"
    )
    return Finding(name, "found", summary, len(moved), _names(sample, moved))


def _companies(crops: NDArray[np.uint8], seed: int) -> list[list[NDArray[np.intp]]]:
    """Return ways to divide the faces into batches: all in another order, a few alone, the dark and the bright ones."""
    n = len(crops)
    mixed = np.random.default_rng([seed, 1]).permutation(n)
    by_light = np.argsort(crops.reshape(n, -1).mean(1), kind="stable")
    return [
        [mixed],
        [np.array([i]) for i in mixed[:8]],
        [part for part in np.array_split(by_light, 4) if len(part)],
        [part for part in np.array_split(mixed, max(1, n // 7)) if len(part)],
    ]


def _probabilities(scores: Scores, sample: LabelledFaces) -> Finding:
    name = CHECKS[6]
    if scores.ndim != 2 or len(scores) != len(sample):
        return Finding(name, "found", f"{len(sample):,} faces gave scores of the shape {scores.shape}", len(sample))
    none = ~np.isfinite(scores).all(1)
    with np.errstate(invalid="ignore"):
        outside = (scores < 0).any(1) | (scores > 1 + _SUM_TOLERANCE).any(1)
        uneven = np.abs(scores.sum(1) - 1) > _SUM_TOLERANCE
    rows = np.flatnonzero(none | outside | uneven)
    if not len(rows):
        return Finding(name, "clear", f"the scores of {len(sample):,} faces lie in 0 to 1 and sum to 1")
    summary = (
        f"the scores of {len(rows):,} of {len(sample):,} faces are no probabilities: {int(none.sum()):,} hold what is "
        f"no number, {int(outside.sum()):,} leave 0 to 1, {int(uneven.sum()):,} do not sum to 1"
    )
    return Finding(name, "found", summary, len(rows), _names(sample, rows))
