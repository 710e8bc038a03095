"""Measure an expression model on labelled faces, as the split is given and without pixel-equal twins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces, read_fer2013
from ..labels import EIGHT, SEVEN, LabelSet
from ..models.expression import Expression, Reading
from . import metrics
from .metrics import Estimate

__all__ = ["ClassScore", "CrowdScores", "LabelScores", "PartScores", "Report", "evaluate", "undo_temperature"]

_CHUNK = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One label: ``n`` faces have it; recall and precision are NaN where it does not occur or is never named."""

    label: str
    n: int
    recall: Estimate
    precision: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScores:
    """Scores against one label a face.

    Attributes
    ----------
    n
        Faces counted.
    accuracy
        Share named right, Wilson interval.
    chance_largest, chance_uniform
        What always naming the most frequent label, and what guessing, would reach.
    balanced_accuracy, macro_f1
        Over the labels that occur, bootstrap interval.
    top2
        Share with the label among the two best, Wilson interval.
    calibration_error_before, calibration_error_after
        With the card's temperature undone, and as the model answers.
    likelihood_loss
        Mean negative log likelihood, nats.
    classes
        One entry a label.
    confusion
        Counts, the truth in rows, in the labels' order.
    """

    n: int
    accuracy: Estimate
    chance_largest: float
    chance_uniform: float
    balanced_accuracy: Estimate
    macro_f1: Estimate
    top2: Estimate
    calibration_error_before: float
    calibration_error_after: float
    likelihood_loss: float
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdScores:
    """Scores against the taggers' votes.

    Attributes
    ----------
    first_choice
        Against the expression with the most votes among the eight; of several, the first in the order of
        ``labels.EIGHT``. Left out: faces without votes, and those for which unknown or not-a-face got more votes
        than any expression.
    without_votes, left_out
        How many faces of either kind were left out.
    ties
        How many of the counted faces have two or more first choices.
    ferplus_majority
        Agreement by the majority rule of FER+ (Barsoum et al. 2016, arXiv 1608.01041, and its published reader):
        single votes are dropped, and a face counts only where one expression has more than half of what is left.
    divergence
        Mean Kullback-Leibler divergence of the scores from the votes for the eight, nats, on the faces of
        ``first_choice``.
    vote_calibration_error_before, vote_calibration_error_after
        Calibration error against the share of votes that the named expression got.
    """

    first_choice: LabelScores
    without_votes: int
    left_out: int
    ties: int
    ferplus_majority: Estimate
    divergence: float
    vote_calibration_error_before: float
    vote_calibration_error_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartScores:
    """Scores of ``n`` faces; a head is None where no face has a label for it."""

    n: int
    fer2013: LabelScores | None
    crowd: CrowdScores | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A measurement.

    Attributes
    ----------
    model, sha256
        The model's name and that of its bytes.
    data, split
        What it was measured on.
    as_given, deduplicated
        All faces of the split, and those left when faces that are pixel for pixel in another split are dropped and
        each picture counts once.
    also_elsewhere, repeated
        Faces that were dropped for either reason.
    notes
        What limits the measurement, a sentence each.
    """

    model: str
    sha256: str
    data: str
    split: str
    as_given: PartScores
    deduplicated: PartScores
    also_elsewhere: int
    repeated: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: what is NaN here is None there."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def evaluate(
    model: str | Path | Expression,
    data: str | Path,
    *,
    split: str = "PublicTest",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure an expression model on FER2013, or on anything in one of its public forms.

    Parameters
    ----------
    model
        A bundled model's name, the path of an ``.onnx`` with its card beside it, or an open `Expression`.
    data
        See `data.importers.read_fer2013`. The pictures are ready crops: they go straight to `models.prepare`.
    split
        The split to measure on. The others serve to find pixel-equal pictures.
    progress
        Called with the faces read so far and their number.

    Raises
    ------
    SourceNotFoundError, DataError
        If the data is absent, damaged, or has no such split.
    ModelError
        If the model cannot be used.
    """
    faces = read_fer2013(data)
    chosen = faces.of_split(split)
    other = faces[faces.split != split]
    expression = Expression(model) if isinstance(model, str | Path) else model
    reading = _read(expression, chosen.images, progress)
    elsewhere = np.isin(chosen.group, other.group)
    first = np.zeros(len(chosen), bool)
    first[np.unique(chosen.group, return_index=True)[1]] = True
    kept = np.flatnonzero(first & ~elsewhere)
    temperatures = dict(expression.card.temperatures)
    return Report(
        model=expression.card.name,
        sha256=expression.card.sha256,
        data=Path(data).name,
        split=split,
        as_given=_part(chosen, reading, temperatures),
        deduplicated=_part(chosen[kept], _pick(reading, kept), temperatures),
        also_elsewhere=int(elsewhere.sum()),
        repeated=int((~elsewhere & ~first).sum()),
        notes=_notes(chosen, other, split, temperatures),
    )


def undo_temperature(scores: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Return the scores (N, K) that the model would give without its temperature: ``scores ** T``, summing to 1."""
    raw = np.maximum(scores.astype(np.float64), 1e-30) ** temperature
    undone: NDArray[np.float64] = raw / raw.sum(1, keepdims=True)
    return undone


def _read(model: Expression, crops: NDArray[np.uint8], progress: Callable[[int, int], None] | None) -> Reading:
    parts = []
    for start in range(0, len(crops), _CHUNK):
        parts.append(model.read(crops[start : start + _CHUNK]))
        if progress is not None:
            progress(min(start + _CHUNK, len(crops)), len(crops))
    return Reading.concat(parts)


def _pick(reading: Reading, index: NDArray[np.intp]) -> Reading:
    return reading[index]


def _notes(chosen: LabelledFaces, other: LabelledFaces, split: str, temperatures: dict[str, float]) -> tuple[str, ...]:
    notes = []
    if not len(other):
        notes.append(f"the data has only the split {split}: twins were looked for within it alone")
    if not (chosen.votes.sum(1) > 0).any():
        notes.append("the data has no votes: the crowd head was not measured")
    absent = [label for i, label in enumerate(SEVEN.labels) if not (chosen.label == i).any()]
    if absent and len(absent) < len(SEVEN):
        notes.append(f"no face is labelled {', '.join(absent)}: its recall is not a number")
    if not temperatures:
        notes.append("the card names no temperatures: calibration before and after are the same")
    return tuple(notes)


def _part(faces: LabelledFaces, reading: Reading, temperatures: dict[str, float]) -> PartScores:
    labelled = faces.label >= 0
    voted = faces.votes.sum(1) > 0
    fer2013 = None
    if labelled.any():
        truth, scores = faces.label[labelled], reading.fer2013[labelled]
        fer2013 = _against_labels(truth, scores, SEVEN, temperatures.get("fer2013", 1.0))
    crowd = _against_votes(faces.votes, reading.crowd, temperatures.get("crowd", 1.0)) if voted.any() else None
    return PartScores(n=len(faces), fer2013=fer2013, crowd=crowd)


def _against_labels(
    truth: NDArray[np.int64], scores: NDArray[np.float32], labels: LabelSet, temperature: float
) -> LabelScores:
    k, n = len(labels), len(truth)
    predicted = scores.argmax(1)
    confusion = metrics.confusion_matrix(truth, predicted, k)
    counts = confusion.sum(1)

    def over_resamples(statistic: Callable[[NDArray[np.int64]], float]) -> Estimate:
        low, high = metrics.bootstrap(lambda i: statistic(metrics.confusion_matrix(truth[i], predicted[i], k)), n)
        return Estimate(statistic(confusion), low, high, n)

    named = metrics.precision(confusion)
    return LabelScores(
        n=n,
        accuracy=metrics.accuracy(truth, predicted),
        chance_largest=float(counts.max() / n) if n else math.nan,
        chance_uniform=1 / k,
        balanced_accuracy=over_resamples(metrics.balanced_accuracy),
        macro_f1=over_resamples(metrics.macro_f1),
        top2=metrics.top_k(truth, scores, 2),
        calibration_error_before=metrics.calibration_error(truth, undo_temperature(scores, temperature)),
        calibration_error_after=metrics.calibration_error(truth, scores),
        likelihood_loss=metrics.likelihood_loss(truth, scores),
        classes=tuple(
            ClassScore(
                label=label,
                n=int(counts[i]),
                recall=metrics.share(int(confusion[i, i]), int(counts[i])),
                precision=float(named[i]),
            )
            for i, label in enumerate(labels.labels)
        ),
        confusion=tuple(tuple(int(v) for v in row) for row in confusion),
    )


def _against_votes(votes: NDArray[np.float32], scores: NDArray[np.float32], temperature: float) -> CrowdScores:
    named, unsure = votes[:, : len(EIGHT)], votes[:, len(EIGHT) :]
    voted = votes.sum(1) > 0
    counted = voted & (named.max(1) >= unsure.max(1))
    held, said = named[counted], scores[counted]
    target = held / held.sum(1, keepdims=True)
    before = undo_temperature(said, temperature)
    return CrowdScores(
        first_choice=_against_labels(held.argmax(1), said, EIGHT, temperature),
        without_votes=int((~voted).sum()),
        left_out=int((voted & ~counted).sum()),
        ties=int(((held == held.max(1, keepdims=True)).sum(1) > 1).sum()),
        ferplus_majority=_majority(votes, scores),
        divergence=metrics.divergence(target, said),
        vote_calibration_error_before=metrics.vote_calibration_error(target, before),
        vote_calibration_error_after=metrics.vote_calibration_error(target, said),
    )


def _majority(votes: NDArray[np.float32], scores: NDArray[np.float32]) -> Estimate:
    held = np.where(votes > 1, votes, 0)
    clear = held.max(1) > held.sum(1) / 2
    counted = clear & (held.argmax(1) < len(EIGHT))
    return metrics.accuracy(held[counted].argmax(1), scores[counted].argmax(1))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
