"""The scores of one head against what its faces should have been named, each with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..labels import LabelSet
from . import metrics
from .metrics import BINS, Estimate
from .resample import Interval, Values, around, bin_values, binned, binned_gap, centred, mean_of, resampled, share_of

__all__ = [
    "CalibrationBin",
    "ClassScore",
    "ConfusedPair",
    "LabelScores",
    "RiskCoverage",
    "RiskPoint",
    "calibration_curve",
    "divergence",
    "label_scores",
]

Floats = NDArray[np.floating[Any]]

_COVERAGES = np.arange(1, 21) / 20
_PAIRS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One label: ``n`` faces have it, ``named`` faces are given it.

    Recall is NaN where the label does not occur, precision where it is never named, F1 where neither happens.
    ``chance`` is the label's share of the faces: what recall, precision and F1 of naming at random in the classes'
    shares come to.
    """

    label: str
    n: int
    named: int
    chance: float
    recall: Estimate
    precision: float
    precision_interval: Interval
    f1: Estimate

    @property
    def precision_estimate(self) -> Estimate:
        """Precision with its interval, over the faces that are given the label."""
        return Estimate(self.precision, *self.precision_interval, self.named)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """``count`` faces of ``label`` are named ``named``; ``share`` is theirs of all faces of the label."""

    label: str
    named: str
    count: int
    share: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Faces whose best score lies in a bin: mean score, and the share that is right (or of the votes it got)."""

    low: float
    high: float
    score: float
    right: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskPoint:
    """When only the surest ``coverage`` of the faces are answered, scores of at least ``threshold``: their errors."""

    coverage: float
    threshold: float
    risk: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskCoverage:
    """What abstaining gives: ``area`` is the mean share of errors over all coverages, 0 is perfect."""

    area: Estimate
    points: tuple[RiskPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScores:
    """Scores against one label a face. Intervals are those of `metrics.resamples`; see docs/evaluation.md.

    Attributes
    ----------
    n
        Faces counted.
    accuracy
        Share named right.
    chance_largest, chance_uniform
        What always naming the most frequent label, and what guessing, would reach.
    balanced_accuracy, macro_f1
        Over the labels that occur.
    top2, top3
        Share with the label among the two, the three best.
    calibration_error_before, calibration_error_after
        With the card's temperature undone, and as the model answers.
    likelihood_loss
        Mean negative log likelihood, nats.
    divergence
        Mean Kullback-Leibler divergence from the votes, nats, where the head was held against labels and the faces have
        votes for them; else None.
    classes
        One entry a label.
    confusion
        Counts, the truth in rows, in the labels' order.
    pairs
        The most confused pairs, the most frequent first.
    calibration
        The calibration curve, one entry a bin that holds a face.
    risk
        Errors when the least sure faces are left unanswered.
    chance
        By the name of a score, what one and the same answer to every face reaches: the classes' shares as scores.
    intervals
        Of ``calibration_error_after`` and ``likelihood_loss``, by name.
    """

    n: int
    accuracy: Estimate
    chance_largest: float
    chance_uniform: float
    balanced_accuracy: Estimate
    macro_f1: Estimate
    top2: Estimate
    top3: Estimate
    calibration_error_before: float
    calibration_error_after: float
    likelihood_loss: float
    divergence: Estimate | None
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    pairs: tuple[ConfusedPair, ...]
    calibration: tuple[CalibrationBin, ...]
    risk: RiskCoverage
    chance: dict[str, float]
    intervals: dict[str, Interval]

    def estimate(self, name: str) -> Estimate:
        """Return a score by its name, with its interval."""
        value = getattr(self, name)
        if isinstance(value, Estimate):
            return value
        return Estimate(value, *self.intervals[name], self.n)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of ``confusion``."""
        return tuple(c.label for c in self.classes)


def label_scores(
    label: NDArray[np.int64],
    scores: Floats,
    labels: LabelSet,
    *,
    before: Floats | None = None,
    target: Floats | None = None,
) -> LabelScores:
    """Score a head against one label a face.

    Parameters
    ----------
    label
        (n,) index into ``labels``.
    scores
        (n, K) probabilities over ``labels``.
    before
        (n, K) the same without temperature; None: there is none.
    target
        (n, K) shares of votes for ``divergence``; rows of zeros do not count.
    """
    n, k = len(label), len(labels)
    order = metrics.surest_first(scores)
    value, spread = resampled(_statistics(label, scores, k, order), n)
    confusion = metrics.confusion_matrix(label, scores.argmax(1), k)

    def share(name: str) -> Estimate:
        return share_of(value[name], spread[name], n)

    return LabelScores(
        n=n,
        accuracy=share("accuracy"),
        chance_largest=float(confusion.sum(1).max() / n) if n else float("nan"),
        chance_uniform=1 / k,
        balanced_accuracy=around(value["balanced_accuracy"], spread["balanced_accuracy"], n),
        macro_f1=around(value["macro_f1"], spread["macro_f1"], n),
        top2=share("top2"),
        top3=share("top3"),
        calibration_error_before=metrics.calibration_error(label, scores if before is None else before),
        calibration_error_after=metrics.calibration_error(label, scores),
        likelihood_loss=metrics.likelihood_loss(label, scores),
        divergence=None if target is None else divergence(target, scores),
        classes=_classes(labels, confusion, value, spread),
        confusion=tuple(tuple(int(v) for v in row) for row in confusion),
        pairs=_pairs(labels, confusion, value, spread),
        calibration=calibration_curve(value, spread),
        risk=_risk(scores, order, value, spread),
        chance=_chance(confusion),
        intervals={
            "calibration_error_after": centred(value["calibration_error"], spread["calibration_error"]),
            "likelihood_loss": metrics.interval(spread["likelihood_loss"]),
        },
    )


def divergence(target: Floats, scores: Floats) -> Estimate:
    """Return `metrics.divergence` over the rows of ``target`` that are no zeros, with its interval."""
    held = target.sum(1) > 0
    return mean_of(metrics.divergences(target[held], scores[held]))


def _statistics(
    label: NDArray[np.int64], scores: Floats, k: int, order: NDArray[np.intp]
) -> Callable[[NDArray[np.float64]], Values]:
    """Return what gives every statistic of weighted faces; most of it is one product of matrices."""
    n, named = len(label), scores.argmax(1)
    wrong = (named != label).astype(np.float64)
    cells = np.zeros((n, k * k))
    cells[np.arange(n), label * k + named] = 1
    bins, means = binned(scores, 1 - wrong), _means(label, scores)

    def statistics(weights: NDArray[np.float64]) -> Values:
        confusion = (weights @ cells).reshape(-1, k, k)
        sums, mean = weights @ bins, weights @ means / (n or np.nan)
        return {
            **_of_confusion(confusion),
            "top2": mean[:, 0],
            "top3": mean[:, 1],
            "likelihood_loss": mean[:, 2],
            "calibration_error": binned_gap(sums, n),
            **bin_values(sums),
            **_risks(weights[:, order], wrong[order]),
        }

    return statistics


def _means(label: NDArray[np.int64], scores: Floats) -> NDArray[np.float64]:
    best = np.argsort(-scores, axis=1, kind="stable") == label[:, None]
    return np.stack([best[:, :2].any(1), best[:, :3].any(1), metrics.likelihood_losses(label, scores)], 1)


def _of_confusion(confusion: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    recall, f1 = metrics.recall(confusion), metrics.f1(confusion)
    return {
        "accuracy": metrics.ratio(np.trace(confusion, axis1=1, axis2=2), confusion.sum((1, 2))),
        "recall": recall,
        "precision": metrics.precision(confusion),
        "f1": f1,
        "balanced_accuracy": metrics.class_mean(recall),
        "macro_f1": metrics.class_mean(f1),
        "shares": metrics.ratio(confusion, confusion.sum(2, keepdims=True)),
    }


def _risks(weights: NDArray[np.float64], wrong: NDArray[np.float64]) -> Values:
    """Return the share of errors (B, coverages) among the surest faces, and its mean over all coverages, (B,).

    Both arguments stand in the order of `metrics.surest_first`.
    """
    n = len(wrong)
    if not n:
        nothing = np.full((len(weights), len(_COVERAGES)), np.nan)
        return {"risk": nothing, "risk_area": nothing[:, 0]}
    answered = np.cumsum(weights, 1)
    risk = np.cumsum(weights * wrong, 1)
    risk /= np.maximum(answered, 1)
    wanted = np.maximum(np.rint(_COVERAGES * n), 1)
    at = [r[np.searchsorted(a, wanted)] for a, r in zip(answered, risk, strict=True)]
    return {"risk": np.stack(at), "risk_area": np.einsum("bn,bn->b", weights, risk) / n}


def _classes(labels: LabelSet, confusion: NDArray[np.int64], value: Values, spread: Values) -> tuple[ClassScore, ...]:
    counts, named, n = confusion.sum(1), confusion.sum(0), confusion.sum()

    def of(statistic: str, i: int, cases: int) -> Estimate:
        return share_of(value[statistic][i], spread[statistic][:, i], cases)

    def one(i: int, label: str) -> ClassScore:
        precision = of("precision", i, int(named[i]))
        return ClassScore(
            label=label,
            n=int(counts[i]),
            named=int(named[i]),
            chance=float(counts[i] / n) if n else float("nan"),
            recall=of("recall", i, int(counts[i])),
            precision=precision.value,
            precision_interval=(precision.low, precision.high),
            f1=of("f1", i, int(counts[i])),
        )

    return tuple(one(i, label) for i, label in enumerate(labels))


def _pairs(labels: LabelSet, confusion: NDArray[np.int64], value: Values, spread: Values) -> tuple[ConfusedPair, ...]:
    apart = confusion - np.diag(np.diagonal(confusion))
    most = np.argsort(-apart, axis=None, kind="stable")[:_PAIRS]
    places = [divmod(int(p), len(labels)) for p in most if apart.flat[p]]
    return tuple(
        ConfusedPair(
            label=labels.labels[row],
            named=labels.labels[column],
            count=int(apart[row, column]),
            share=share_of(value["shares"][row, column], spread["shares"][:, row, column], int(confusion[row].sum())),
        )
        for row, column in places
    )


def calibration_curve(value: Values, spread: Values) -> tuple[CalibrationBin, ...]:
    """Return the bins that hold a face, from the `resample.bin_values` of the faces and of all resamples."""
    return tuple(
        CalibrationBin(
            low=i / BINS,
            high=(i + 1) / BINS,
            score=float(value["bin_score"][i]),
            right=share_of(value["bin_right"][i], spread["bin_right"][:, i], int(value["bin_count"][i])),
        )
        for i in range(BINS)
        if value["bin_count"][i]
    )


def _risk(scores: Floats, order: NDArray[np.intp], value: Values, spread: Values) -> RiskCoverage:
    n = len(order)
    area = around(value["risk_area"], spread["risk_area"], n)
    if not n:
        return RiskCoverage(area=area, points=())
    answered = np.maximum(np.rint(_COVERAGES * n).astype(np.int64), 1)
    least = scores.max(1)[order][answered - 1]
    return RiskCoverage(
        area=area,
        points=tuple(
            RiskPoint(
                coverage=float(coverage),
                threshold=float(least[i]),
                risk=share_of(value["risk"][i], spread["risk"][:, i], int(answered[i])),
            )
            for i, coverage in enumerate(_COVERAGES)
        ),
    )


def _chance(confusion: NDArray[np.int64]) -> dict[str, float]:
    """Return what the classes' shares, given as scores to every face, reach."""
    counts, n = np.sort(confusion.sum(1))[::-1], confusion.sum()
    shares = counts[counts > 0] / max(n, 1)
    if not n:
        return {}
    return {
        "accuracy": float(shares[0]),
        "balanced_accuracy": 1 / len(shares),
        "macro_f1": float(2 * shares[0] / (1 + shares[0]) / len(shares)),
        "top2": float(shares[:2].sum()),
        "top3": float(shares[:3].sum()),
        "likelihood_loss": float(-(shares * np.log(shares)).sum()),
        "risk_area": float(1 - shares[0]),
    }
