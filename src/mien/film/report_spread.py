"""How far the shares of a period would vary with other tracks: a bootstrap whose blocks are whole tracks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from .report_sums import Cells, columns

__all__ = ["ENOUGH", "Spread", "spread", "wilson"]

ENOUGH = 5
"""Of fewer tracks, no interval is told: resamples of so few are too much alike."""

_DRAWS, _CHUNK = 1000, 2048
_Z = 1.959963984540054

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Shares of one period, (·, 3) each: value, 95 % interval or NaN; and `by_face` of the ``draws`` (draws, K + 1)."""

    by_face: Floats
    by_time: Floats
    scores: Floats
    draws: Floats

    def less(self, before: Spread) -> Floats:
        """Return by how much `by_face` is above that of another period: (K + 1, 3).

        A track that lies in both weighs the same in both. Where a share is 0 or 1, which no resample moves, the two
        intervals are joined instead (Newcombe 1998, method 10).
        """
        value = self.by_face[:, 0] - before.by_face[:, 0]
        low, high = _percentiles(self.draws - before.draws)
        fixed = _extreme(self.by_face[:, 0]) | _extreme(before.by_face[:, 0])
        (a, al, ah), (b, bl, bh) = self.by_face.T, before.by_face.T
        low = np.where(fixed, value - np.hypot(a - al, bh - b), low)
        high = np.where(fixed, value + np.hypot(ah - a, b - bl), high)
        return np.stack([value, low, high], 1)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of n.

    >>> low, high = wilson(0.0, 10)
    >>> round(low, 3), round(high, 3)
    (0.0, 0.278)
    """
    middle, room = share + _Z**2 / (2 * n), _Z * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    whole = 1 + _Z**2 / n
    # At the ends the interval ends there, whatever rounding says.
    low = 0.0 if share <= 0 else max(0.0, (middle - room) / whole)
    return low, 1.0 if share >= 1 else min(1.0, (middle + room) / whole)


def spread(cells: Cells, labels: int, *, seed: int = 0) -> Spread:
    """Return the shares of a period with their intervals; ``labels`` is K."""
    at = columns(labels)
    width = at["reasons"].start
    total = cells.sums[:, :width].sum(0, keepdims=True)
    n = cells.tracks_read
    drawn = _drawn(cells, width, seed) if n >= ENOUGH else np.full((1, width), np.nan)
    parts = (("named", "read"), ("time_named", "time"), ("scores", "read"))
    value = [_ratio(total[:, at[a]], total[:, at[b]]) for a, b in parts]
    draws = [_ratio(drawn[:, at[a]], drawn[:, at[b]]) for a, b in parts]
    by_face, by_time, scores = (_with_interval(v[0], d, n) for v, d in zip(value, draws, strict=True))
    return Spread(by_face, by_time, scores, draws[0])


def _ratio(above: Floats, below: Floats) -> Floats:
    shares: Floats = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return shares


def _with_interval(value: Floats, draws: Floats, n: int) -> Floats:
    low, high = _percentiles(draws)
    if n >= ENOUGH:
        fixed = _extreme(value)
        edges = [wilson(round(float(v)), n) if f else (0.0, 0.0) for v, f in zip(value, fixed, strict=True)]
        low = np.where(fixed, [e[0] for e in edges], low)
        high = np.where(fixed, [e[1] for e in edges], high)
    return np.stack([value, low, high], 1)


def _extreme(value: Floats) -> NDArray[np.bool_]:
    return np.asarray((value <= 1e-12) | (value >= 1 - 1e-12), np.bool_)


def _percentiles(draws: Floats) -> tuple[Floats, Floats]:
    # A resample that holds no read face says nothing.
    kept = draws[~np.isnan(draws).any(1)]
    if not len(kept):
        return np.full(draws.shape[1], np.nan), np.full(draws.shape[1], np.nan)
    low, high = np.percentile(kept, [2.5, 97.5], axis=0)
    return low, high


def _drawn(cells: Cells, width: int, seed: int) -> Floats:
    """Return the sums of resamples, (draws, width)."""
    out = np.zeros((_DRAWS, width))
    row = cells.block + 1  # what has no track comes first
    chunk = row // _CHUNK
    for number in np.unique(chunk).tolist():
        at = chunk == number
        weights = _weights(seed, number)[row[at] % _CHUNK].astype(np.float64)
        np.add(out, weights.T @ cells.sums[at, :width], out=out)
    return out


@lru_cache(maxsize=8)
def _weights(seed: int, chunk: int) -> NDArray[np.uint8]:
    """Return how often each of a chunk's tracks counts in each resample, the same whatever period it is for."""
    return np.random.default_rng([seed, chunk]).poisson(1.0, (_CHUNK, _DRAWS)).astype(np.uint8)
