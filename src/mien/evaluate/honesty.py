"""Checks that a score is honest: nothing leaks from training, and a face's answer depends on that face alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces
from ..errors import ShapeError
from ..models.base import Classifier
from . import metrics, subgroup, twins

__all__ = ["CHECKS", "Finding", "check"]

State = Literal["found", "clear", "not checked"]
Scores = NDArray[np.float32]
Rows = NDArray[np.intp]

_EXAMPLES = 8
_SAMPLE = 128
_REPEATS = 4
_SUM_TOLERANCE = 1e-3
_REPEAT_TOLERANCE = 1e-6
_BATCH_TOLERANCE = 1e-3
_DRAWS = 1000


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
    rows
        All of them, as rows of ``faces.of_split(split)``, so that a score can be taken without them.
    """

    check: str
    state: State
    summary: str
    count: int = 0
    examples: tuple[str, ...] = ()
    rows: tuple[int, ...] = field(default=(), repr=False)


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


class _Scored:
    """The split that is scored, read as a whole only when a check needs it."""

    def __init__(self, classify: Classifier, faces: LabelledFaces) -> None:
        self.classify = classify
        self.faces = faces
        self._right: NDArray[np.bool_] | None = None

    def read(self, rows: Rows) -> Scores:
        """Return the scores (n, K) of some faces, read as one batch."""
        scores = np.array(self.classify(self.faces.images[rows]), np.float32)
        if scores.ndim != 2 or len(scores) != len(rows):
            raise ShapeError("scores", f"({len(rows)}, K), one row a crop", scores.shape)
        return scores

    def right(self) -> NDArray[np.bool_] | str:
        """Return which faces (N,) are named right, or why that is not known."""
        if self._right is None:
            scores, labels = self.read(np.arange(len(self.faces))), len(self.faces.labels)
            if scores.shape[1] != labels:
                return f"accuracy was not compared, since {scores.shape[1]} scores do not fit {labels} labels"
            self._right = scores.argmax(1) == self.faces.label
        return self._right

    def finding(self, check: str, rows: Rows, summary: str) -> Finding:
        """Return what was found about some rows."""
        names = tuple(str(n) for n in self.faces.name[rows[:_EXAMPLES]])
        return Finding(check, "found", summary, len(rows), names, tuple(int(r) for r in rows))


def check(classify: Classifier, faces: LabelledFaces, split: str, *, seed: int = 0) -> tuple[Finding, ...]:
    """Look for what makes a score on a split better than it deserves, or not repeatable.

    What is looked for, in this order:

    - *equal pictures*: pictures that are pixel for pixel in another split.
    - *near-equal pictures*: further ones that are near copies of a picture in another split, as `twins.near` finds
      them: re-encoded, mirrored, a little cropped, shifted or brightened. Pictures within the split are not compared.
    - *shared persons*: persons of the split who are in another split too, where ``faces.person`` is known.
    - *conflicting labels*: pixel-equal pictures of the split with different labels.
    - *random answers*: 128 faces are read four times as the same batch; a score that changes by more than 1e-6 is
      found.
    - *batch dependence*: the same faces are read in another order, eight of them alone, the dark and the bright ones
      apart, and in small batches; a score that changes by more than 1e-3, which is beyond the noise of float32, is
      found. A batch norm in training mode does that, and so does a reader that goes by the place in the batch.
    - *probabilities*: scores that are no number, lie outside 0 to 1, or do not sum to 1 within 1e-3.

    Where copies or shared persons are found, the summary says how much better they are read than the other faces. Not
    all of such a gap need be due to the leak: photographs that are often copied may be easier, too.

    Parameters
    ----------
    classify
        (N, H, W[, 3]) uint8 crops to (N, K) float32 scores. Accuracy is compared where K is the number of
        ``faces.labels``.
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
    ShapeError
        If the scores have another shape.
    """
    scored, other = _Scored(classify, faces.of_split(split)), faces[faces.split != split]
    drawn = np.sort(np.random.default_rng(seed).permutation(len(scored.faces))[:_SAMPLE])
    answers = [scored.read(drawn) for _ in range(_REPEATS)]
    repeated = _repeats(scored, drawn, answers)
    return (
        _equal(scored, other),
        _near_equal(scored, other),
        _persons(scored, other),
        _conflicts(scored),
        repeated,
        _company(scored, drawn, answers[0], repeated, seed),
        _probabilities(scored, drawn, answers[0]),
    )


def _alone(name: str) -> Finding:
    return Finding(name, "not checked", "the data has no other split")


def _equal(scored: _Scored, other: LabelledFaces) -> Finding:
    name, n = CHECKS[0], len(scored.faces)
    if not len(other):
        return _alone(name)
    rows = np.flatnonzero(np.isin(scored.faces.group, other.group))
    if not len(rows):
        return Finding(name, "clear", f"none of {n:,} pictures is in another split, pixel for pixel")
    summary = f"{len(rows):,} of {n:,} pictures ({len(rows) / n:.1%}) are in another split, pixel for pixel"
    return scored.finding(name, rows, summary + _gap(scored, rows, np.arange(n)))


def _near_equal(scored: _Scored, other: LabelledFaces) -> Finding:
    name = CHECKS[1]
    if not len(other):
        return _alone(name)
    rest = np.flatnonzero(~np.isin(scored.faces.group, other.group))
    pairs = twins.near(scored.faces.images[rest], other.images)
    rows = rest[np.unique(pairs.first)]
    if not len(rows):
        return Finding(name, "clear", f"none of {len(rest):,} pictures is a near copy of one in another split")
    straight = np.unique(pairs.first[~pairs.mirrored])
    mirrored = len(rows) - len(straight)
    summary = (
        f"{len(rows):,} of {len(rest):,} further pictures ({len(rows) / len(rest):.1%}) are near copies of one in "
        f"another split, {mirrored:,} of them mirrored"
    )
    return scored.finding(name, rows, summary + _gap(scored, rows, rest))


def _gap(scored: _Scored, rows: Rows, among: Rows) -> str:
    """Return how much better some faces are read than the others among some, as the rest of a sentence."""
    right = scored.right()
    if isinstance(right, str):
        return f"; {right}"
    labelled = scored.faces.label >= 0
    ours, theirs = (right[side[labelled[side]]] for side in (rows, np.setdiff1d(among, rows)))
    gap = subgroup.newcombe(int(ours.sum()), len(ours), int(theirs.sum()), len(theirs))
    return _sentence(ours, theirs, gap, "the others", "")


def _sentence(
    ours: NDArray[np.bool_], theirs: NDArray[np.bool_], gap: metrics.Estimate, whom: str, interval: str
) -> str:
    if not len(ours) or not len(theirs):
        return f"; there are no labelled faces of {whom} to compare with" if len(ours) else ""
    return (
        f"; accuracy {ours.mean():.1%} (n {len(ours):,}) on them, {theirs.mean():.1%} (n {len(theirs):,}) on {whom}, a "
        f"gap of {100 * gap.value:+.1f} points ({100 * gap.low:+.1f} to {100 * gap.high:+.1f}{interval})"
    )


def _persons(scored: _Scored, other: LabelledFaces) -> Finding:
    name, person = CHECKS[2], scored.faces.person
    if not len(other):
        return _alone(name)
    known = person != ""
    if not known.any() or not (other.person != "").any():
        return Finding(name, "not checked", "the data does not say who is in the pictures of both sides")
    shared = known & np.isin(person, other.person)
    people = len(np.unique(person[known]))
    nameless = int((~known).sum())
    rest = f"; {nameless:,} faces have no name" if nameless else ""
    if not shared.any():
        return Finding(name, "clear", f"none of {people:,} persons is in another split{rest}")
    both = len(np.unique(person[shared]))
    summary = f"{both:,} of {people:,} persons ({int(shared.sum()):,} faces) are in another split{rest}"
    return scored.finding(name, np.flatnonzero(shared), summary + _person_gap(scored, shared, known & ~shared))


def _person_gap(scored: _Scored, shared: NDArray[np.bool_], new: NDArray[np.bool_]) -> str:
    right = scored.right()
    if isinstance(right, str):
        return f"; {right}"
    labelled = scored.faces.label >= 0
    parts = [side & labelled for side in (shared, new)]
    ours, theirs = (right[p] for p in parts)
    gap = metrics.Estimate(float("nan"), float("nan"), float("nan"), len(ours))
    if len(ours) and len(theirs):
        # The faces of one person are no independent cases, so whole persons are drawn.
        first, second = (_resampled(right[p], scored.faces.person[p], seed) for seed, p in enumerate(parts))
        low, high = np.percentile(first - second, [2.5, 97.5])
        gap = metrics.Estimate(float(ours.mean() - theirs.mean()), float(low), float(high), len(ours))
    return _sentence(ours, theirs, gap, "new persons", ", resampling persons")


def _resampled(right: NDArray[np.bool_], person: NDArray[np.str_], seed: int) -> NDArray[np.float64]:
    """Return the accuracy (draws,) of resamples of whole persons."""
    _, index = np.unique(person, return_inverse=True)
    n, hits = np.bincount(index), np.bincount(index, right)
    drawn = np.random.default_rng(seed).integers(0, len(n), (_DRAWS, len(n)))
    found: NDArray[np.float64] = hits[drawn].sum(1) / n[drawn].sum(1)
    return found


def _conflicts(scored: _Scored) -> Finding:
    name, faces = CHECKS[3], scored.faces
    rows = np.flatnonzero(faces.label >= 0)
    if not len(rows):
        return Finding(name, "not checked", "no face of the split has a label")
    pairs = np.unique(np.stack([faces.group[rows], faces.label[rows]], 1), axis=0)
    groups, labels = np.unique(pairs[:, 0], return_counts=True)
    torn = rows[np.isin(faces.group[rows], groups[labels > 1])]
    if not len(torn):
        return Finding(name, "clear", f"none of the pictures of {len(rows):,} labelled faces has two labels")
    pictures = int((labels > 1).sum())
    shown = "1 picture that occurs" if pictures == 1 else f"{pictures:,} pictures that occur"
    summary = f"{len(torn):,} of {len(rows):,} faces show {shown} with different labels"
    return scored.finding(name, torn, summary)


def _change(first: Scores, then: Scores) -> NDArray[np.float64]:
    """Return the largest change of any score of each face, (N,); infinite where a number became none."""
    gap = np.abs(first.astype(np.float64) - then)
    none = np.isnan(first) & np.isnan(then)
    return np.asarray(np.where(none, 0, np.where(np.isnan(gap), np.inf, gap)).max(1))


def _repeats(scored: _Scored, drawn: Rows, answers: list[Scores]) -> Finding:
    name, first = CHECKS[4], answers[0]
    change = np.max([_change(first, a) for a in answers[1:]], axis=0)
    moved = change > _REPEAT_TOLERANCE
    if not moved.any():
        return Finding(name, "clear", f"{len(drawn):,} faces got the same scores each of {_REPEATS} times")
    flips = int(np.any([first.argmax(1) != a.argmax(1) for a in answers[1:]], axis=0).sum())
    summary = (
        f"{int(moved.sum()):,} of {len(drawn):,} faces got other scores when the same batch was read {_REPEATS} times, "
        f"by up to {change.max():.2g}; {flips:,} changed their label: something random is left on"
    )
    return scored.finding(name, drawn[moved], summary)


def _company(scored: _Scored, drawn: Rows, first: Scores, repeated: Finding, seed: int) -> Finding:
    name = CHECKS[5]
    if repeated.state == "found":
        return Finding(name, "not checked", "the same batch gives other scores each time")
    change, flipped = np.zeros(len(drawn)), np.zeros(len(drawn), np.bool_)
    for batch in _batches(scored.faces.images[drawn], seed):
        try:
            scores = scored.read(drawn[batch])
        except Exception as error:  # noqa: BLE001 - any failure on fewer faces is what is looked for
            cause = (str(error) or type(error).__name__).splitlines()[0]
            return scored.finding(
                name, drawn[batch], f"faces can be read {len(drawn)} at a time, but {len(batch)}: {cause}"
            )
        change[batch] = np.maximum(change[batch], _change(first[batch], scores))
        flipped[batch] |= first[batch].argmax(1) != scores.argmax(1)
    moved = change > _BATCH_TOLERANCE
    if not moved.any():
        summary = f"{len(drawn):,} faces got the same scores alone, in other batches and in another order"
        return Finding(name, "clear", f"{summary} (largest change {change.max():.1g})")
    summary = (
        f"{int(moved.sum()):,} of {len(drawn):,} faces got other scores in other company, by up to {change.max():.2g}; "
        f"{int(flipped.sum()):,} changed their label: a batch norm may be in training mode"
    )
    return scored.finding(name, drawn[moved], summary)


def _batches(crops: NDArray[np.uint8], seed: int) -> list[Rows]:
    """Return batches: all in another order, some faces alone, dark and bright ones apart, and some in small groups."""
    n = len(crops)
    mixed = np.random.default_rng([seed, 1]).permutation(n)
    by_light = np.argsort(crops.reshape(n, -1).mean(1), kind="stable")
    parts = [mixed, *mixed[:8, None], *np.array_split(by_light, 4), *np.array_split(mixed, max(1, n // 7))]
    return [p for p in parts if len(p)]


def _probabilities(scored: _Scored, drawn: Rows, scores: Scores) -> Finding:
    name = CHECKS[6]
    none = ~np.isfinite(scores).all(1)
    with np.errstate(invalid="ignore"):
        outside = (scores < 0).any(1) | (scores > 1 + _SUM_TOLERANCE).any(1)
        uneven = np.abs(scores.sum(1) - 1) > _SUM_TOLERANCE
    wrong = none | outside | uneven
    if not wrong.any():
        return Finding(name, "clear", f"the scores of {len(drawn):,} faces lie in 0 to 1 and sum to 1")
    summary = (
        f"the scores of {int(wrong.sum()):,} of {len(drawn):,} faces are no probabilities: {int(none.sum()):,} hold "
        f"what is no number, {int(outside.sum()):,} leave 0 to 1, {int(uneven.sum()):,} do not sum to 1"
    )
    return scored.finding(name, drawn[wrong], summary)
