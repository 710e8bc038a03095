"""Many statistics over the same resamples of the same faces, each with its 95 % interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .metrics import BINS, Estimate

__all__ = [
    "Interval",
    "Statistics",
    "Values",
    "around",
    "bin_values",
    "binned",
    "binned_gap",
    "centred",
    "mean_of",
    "means_of",
    "resampled",
    "share_of",
]

Floats = NDArray[np.floating[Any]]
Interval = tuple[float, float]
Values = Mapping[str, NDArray[np.float64]]
Statistics = Callable[[NDArray[np.float64]], Values]
"""Takes how often each face counts, (B, n), and gives (B, ...) for each statistic by its name."""


def resampled(statistics: Statistics, n: int) -> tuple[Values, Values]:
    """Return statistics of the n faces themselves, without the first axis, and of all resamples, (draws, ...) each."""
    value = {name: v[0] for name, v in statistics(np.ones((1, n))).items()}
    if n == 0:
        return value, {name: v[None] for name, v in value.items()}
    blocks = [statistics(weights) for weights in metrics.resamples(n)]
    return value, {name: np.concatenate([b[name] for b in blocks]) for name in value}


def around(value: NDArray[np.float64], spread: NDArray[np.float64], n: int) -> Estimate:
    """Return a statistic with the percentile interval of its resamples (draws,)."""
    return Estimate(float(value), *metrics.interval(spread), n)


def share_of(value: NDArray[np.float64], spread: NDArray[np.float64], n: int) -> Estimate:
    """Return a share of n faces with the percentile interval of its resamples (draws,).

    One that is 0 or 1 in the sample is so in every resample; the interval is then that of `metrics.wilson`.
    """
    if n and float(value) in {0.0, 1.0}:
        return Estimate(float(value), *metrics.wilson(round(float(value) * n), n), n)
    return around(value, spread, n)


def centred(value: NDArray[np.float64], spread: NDArray[np.float64]) -> Interval:
    """Return the percentile interval of a distance ≥ 0, moved so that the resamples' mean lies on the value.

    A resample adds its own noise to each bin, and a distance counts noise as distance: without the move the interval
    would lie above the value.
    """
    low, high = metrics.interval(spread - np.mean(spread) + value)
    return max(low, 0.0), max(high, 0.0)


def mean_of(values: Floats) -> Estimate:
    """Return the mean of values (n,) in [0, ∞); one of 0 or 1 is taken for a share, see `share_of`."""
    return means_of({"mean": values})["mean"]


def means_of(values: Mapping[str, Floats]) -> dict[str, Estimate]:
    """Return `mean_of` for several values (n,) of the same n faces, over the same resamples."""
    table = np.stack([np.asarray(v, np.float64) for v in values.values()], 1)
    n = len(table)
    mean, spread = resampled(lambda weights: {"mean": weights @ table / (n or np.nan)}, n)
    return {name: share_of(mean["mean"][i], spread["mean"][:, i], n) for i, name in enumerate(values)}


def binned(scores: Floats, right: Floats) -> NDArray[np.float64]:
    """Return, for each face, its count, best score and rightness in the column of its bin: (n, 3 × bins)."""
    out = np.zeros((len(scores), 3, BINS))
    rows, place = np.arange(len(scores)), metrics.bin_of(scores)
    out[rows, 0, place] = 1
    out[rows, 1, place] = scores.max(1)
    out[rows, 2, place] = right
    return out.reshape(len(scores), 3 * BINS)


def bin_values(sums: NDArray[np.float64]) -> Values:
    """Return count, mean best score and rightness (B, bins) of the sums (B, 3 × bins) of `binned` columns."""
    count, said, right = np.moveaxis(sums.reshape(len(sums), 3, BINS), 1, 0)
    return {"bin_count": count, "bin_score": metrics.ratio(said, count), "bin_right": metrics.ratio(right, count)}


def binned_gap(sums: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the calibration error (B,) of the sums (B, 3 × bins) of `binned` columns."""
    _, said, right = np.moveaxis(sums.reshape(len(sums), 3, BINS), 1, 0)
    gap: NDArray[np.float64] = np.abs(right - said).sum(-1) / (n or np.nan)
    return gap
