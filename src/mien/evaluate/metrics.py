"""How good scores are, in NumPy. A class that does not occur has NaN, never 0 and never 1.

Everywhere ``truth`` is (N,) integer labels, ``predicted`` is (N,) integer labels, ``scores`` is (N, K) probabilities
and ``confusion`` is (K, K) counts with the truth in rows; where it is (..., K, K), the result has the leading axes too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError

__all__ = [
    "BINS",
    "DRAWS",
    "Estimate",
    "accuracy",
    "balanced_accuracy",
    "bin_of",
    "bootstrap",
    "calibration_error",
    "class_mean",
    "confusion_matrix",
    "divergence",
    "divergences",
    "f1",
    "interval",
    "likelihood_loss",
    "likelihood_losses",
    "macro_f1",
    "precision",
    "ratio",
    "recall",
    "resamples",
    "risk_area",
    "risk_curve",
    "share",
    "surest_first",
    "top_k",
    "vote_calibration_error",
    "wilson",
]

Integers = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]

BINS = 15
"""Bins of the calibration curve, of equal width (Guo et al. 2017, arXiv 1706.04599)."""

DRAWS = 1000
"""Resamples of a bootstrap."""

_BLOCK = 1 << 20
_Z95 = 1.959963984540054
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value with its 95 % interval over ``n`` cases; all NaN where n is 0."""

    value: float
    low: float
    high: float
    n: int


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share of n cases (Wilson 1927); NaN where n is 0."""
    if n == 0:
        return float("nan"), float("nan")
    rate, z2 = hits / n, _Z95**2
    middle = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 / (1 + z2 / n) * np.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def share(hits: int, n: int) -> Estimate:
    """Return hits / n with its Wilson interval."""
    return Estimate(hits / n if n else float("nan"), *wilson(hits, n), n)


def accuracy(truth: Integers, predicted: Integers) -> Estimate:
    """Return the share of cases that are named right."""
    _same_length(truth, predicted)
    return share(int((truth == predicted).sum()), len(truth))


def confusion_matrix(truth: Integers, predicted: Integers, classes: int) -> NDArray[np.int64]:
    """Count cases by true class (rows) and named class (columns), (classes, classes) int64."""
    _same_length(truth, predicted)
    counts = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return counts.astype(np.int64).reshape(classes, classes)


def recall(confusion: Integers | Floats) -> NDArray[np.float64]:
    """Return the share of each true class that is named right, (..., K); NaN for a class without cases."""
    return ratio(_right(confusion), confusion.sum(-1))


def precision(confusion: Integers | Floats) -> NDArray[np.float64]:
    """Return the share of each named class that is right, (..., K); NaN for a class that is never named."""
    return ratio(_right(confusion), confusion.sum(-2))


def f1(confusion: Integers | Floats) -> NDArray[np.float64]:
    """Return the harmonic mean of precision and recall, (..., K); NaN for a class that neither occurs nor is named."""
    return ratio(2 * _right(confusion), confusion.sum(-2) + confusion.sum(-1))


def class_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis of what is a number, (...,) float64; NaN where nothing is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0).sum(-1), known.sum(-1))


def balanced_accuracy(confusion: Integers) -> float:
    """Return the mean recall of the classes that occur; NaN where none does."""
    return float(class_mean(recall(confusion)))


def macro_f1(confusion: Integers) -> float:
    """Return the mean F1 of the classes that occur or are named; one that is only ever missed counts 0."""
    return float(class_mean(f1(confusion)))


def top_k(truth: Integers, scores: Floats, k: int) -> Estimate:
    """Return the share of cases whose true class is among the k best scores; the earlier class wins a tie."""
    _scores_of(truth, scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return share(int((order == truth[:, None]).any(1).sum()), len(truth))


def bin_of(scores: Floats, *, bins: int = BINS) -> NDArray[np.int64]:
    """Return the equal-width bin of each case's best score, (N,) in 0 to bins - 1."""
    place: NDArray[np.int64] = np.clip((scores.max(1).astype(np.float64) * bins).astype(np.int64), 0, bins - 1)
    return place


def calibration_error(truth: Integers, scores: Floats, *, bins: int = BINS) -> float:
    """Return the expected calibration error of the best score, in [0, 1]; NaN without cases.

    Mean distance between score and accuracy over equal-width bins, weighted by their cases (Naeini et al. 2015; the
    15 bins are those of Guo et al. 2017, arXiv 1706.04599).
    """
    _scores_of(truth, scores)
    return _gap(scores, (scores.argmax(1) == truth).astype(np.float64), bins)


def vote_calibration_error(target: Floats, scores: Floats, *, bins: int = BINS) -> float:
    """Return `calibration_error` with the share of votes (N, K) that the best label got in place of right or wrong."""
    _same_shape(target, scores)
    return _gap(scores, target[np.arange(len(target)), scores.argmax(1)].astype(np.float64), bins)


def divergence(target: Floats, scores: Floats) -> float:
    """Return the mean Kullback-Leibler divergence of scores (N, K) from a distribution (N, K), in nats."""
    return _mean(divergences(target, scores))


def divergences(target: Floats, scores: Floats) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence of each case's scores from its distribution, (N,) nats."""
    _same_shape(target, scores)
    p, q = target.astype(np.float64), np.maximum(scores.astype(np.float64), _TINY)
    apart: NDArray[np.float64] = (p * np.log(np.maximum(p, _TINY) / q)).sum(1)
    return apart


def likelihood_loss(truth: Integers, scores: Floats) -> float:
    """Return the mean negative log likelihood of the true class, in nats."""
    return _mean(likelihood_losses(truth, scores))


def likelihood_losses(truth: Integers, scores: Floats) -> NDArray[np.float64]:
    """Return the negative log likelihood of each case's true class, (N,) nats."""
    _scores_of(truth, scores)
    held = scores[np.arange(len(truth)), truth].astype(np.float64)
    losses: NDArray[np.float64] = -np.log(np.maximum(held, _TINY))
    return losses


def surest_first(scores: Floats) -> NDArray[np.intp]:
    """Return the cases (N,) from the highest best score to the lowest; of equal ones the earlier comes first."""
    return np.argsort(-scores.max(1), kind="stable")


def risk_curve(wrong: Floats, order: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the share of errors among the 1, 2, … N surest cases, (N,) (El-Yaniv and Wiener 2010).

    Parameters
    ----------
    wrong
        (N,) 1 where a case is named wrong, 0 where it is right.
    order
        (N,) as `surest_first` gives it.
    """
    return np.cumsum(wrong[order], dtype=np.float64) / np.arange(1, len(order) + 1)


def ratio(above: Any, below: Any) -> NDArray[np.float64]:
    """Return above / below, NaN where below is 0; both broadcast."""
    above, below = np.broadcast_arrays(above, below)
    out = np.full(above.shape, np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out


def risk_area(wrong: Floats, order: NDArray[np.intp]) -> float:
    """Return the area under `risk_curve`: the mean share of errors over all coverages; NaN without cases.

    0 is perfect; an order that says nothing about errors gives the share of errors (Geifman and El-Yaniv 2017, arXiv
    1705.08500).
    """
    return _mean(risk_curve(wrong, order))


def resamples(n: int, *, draws: int = DRAWS, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """Yield how often each of n cases is drawn in each resample, in blocks (B, n) that hold ``draws`` rows together.

    The draws are those of `bootstrap` with the same seed. Any statistic that is linear in the cases is then one matrix
    product a block.
    """
    rng = np.random.default_rng(seed)
    rows = max(_BLOCK // max(n, 1), 1)
    for done in range(0, draws, rows):
        size = min(rows, draws - done)
        drawn = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of a statistic's resamples (Efron 1979); NaN ones are left out."""
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float], n: int, *, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic over n cases (Efron 1979).

    Parameters
    ----------
    statistic
        Takes the indices (n,) of a resample, drawn with replacement, and returns a number; NaN ones are left out.
    n
        Number of cases.
    draws, seed
        Number of resamples, and what decides them.
    """
    if n == 0:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    return interval(np.array([statistic(rng.integers(0, n, n)) for _ in range(draws)]))


def _gap(scores: Floats, right: NDArray[np.float64], bins: int) -> float:
    if not len(scores):
        return float("nan")
    place = bin_of(scores, bins=bins)
    gap = np.bincount(place, right, bins) - np.bincount(place, scores.max(1).astype(np.float64), bins)
    return float(np.abs(gap).sum() / len(scores))


def _right(confusion: Integers | Floats) -> Any:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _same_length(truth: Integers, predicted: Integers) -> None:
    if truth.ndim != 1 or truth.shape != predicted.shape:
        raise ShapeError("labels", "two arrays (N,) of equal length", (truth.shape, predicted.shape))


def _same_shape(target: Floats, scores: Floats) -> None:
    if target.ndim != 2 or target.shape != scores.shape:
        raise ShapeError("distributions", "two arrays (N, K) of equal shape", (target.shape, scores.shape))


def _scores_of(truth: Integers, scores: Floats) -> None:
    if truth.ndim != 1 or scores.ndim != 2 or len(scores) != len(truth):
        raise ShapeError("scores", "(N,) and (N, K)", (truth.shape, scores.shape))
