"""The cheapest way to pair the rows of a table with its columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, ShapeError

__all__ = ["assign"]


def assign(cost: NDArray[np.floating[Any]], *, gate: float | None = None) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pair rows with columns, each at most once, at the lowest total cost.

    Parameters
    ----------
    cost
        (N, M), what each pair costs, of any sign; a pair that is not finite is forbidden.
    gate
        What it costs to leave a pair out: the sum of ``cost - gate`` over the pairs is made lowest, so no pair costs
        ``gate`` or more. None: as many pairs as can be, and of those ways the cheapest.

    Returns
    -------
    tuple of ndarray
        Rows (K,), ascending, and their columns (K,).

    Raises
    ------
    ShapeError
        If ``cost`` is no table.
    OptionError
        If ``gate`` is not finite.

    Notes
    -----
    Shortest augmenting paths, O(N² M) for N ≤ M: Crouse (2016), "On implementing 2D rectangular assignment algorithms",
    IEEE Transactions on Aerospace and Electronic Systems 52 (4). Equal input gives equal output, also among equally
    cheap ways.

    >>> [a.tolist() for a in assign(np.array([[1.0, 2.0, 9.0], [1.0, 9.0, 9.0]]))]
    [[0, 1], [1, 0]]
    >>> [a.tolist() for a in assign(np.array([[1.0, 2.0], [1.0, 9.0]]), gate=1.5)]
    [[0], [0]]
    """
    table = np.asarray(cost, np.float64)
    if table.ndim != 2:
        raise ShapeError("cost", "(N, M)", table.shape)
    if gate is not None and not np.isfinite(gate):
        msg = f"gate is {gate}; give a finite number, or None for as many pairs as can be"
        raise OptionError(msg)
    allowed = np.isfinite(table)
    none = np.empty(0, np.intp)
    if not allowed.any():
        return none, none
    if gate is None:
        known = table[allowed]
        # Leaving one pair out must cost more than all that could be saved elsewhere.
        gate = float(known.max() + (min(table.shape) + 1) * max(np.ptp(known), 1.0))
    gain = np.where(allowed, np.minimum(np.where(allowed, table, gate) - gate, 0.0), 0.0)
    flip = table.shape[0] > table.shape[1]
    column = _solve(gain.T if flip else gain)
    row = np.arange(len(column))
    row, column = (column, row) if flip else (row, column)
    kept = gain[row, column] < 0
    order = np.argsort(row[kept], kind="stable")
    return row[kept][order], column[kept][order]


def _solve(cost: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the column of each row of a table (N, M), N ≤ M, at the lowest sum."""
    n, m = cost.shape
    row_price, column_price = cost.min(1), np.zeros(m)
    row_of, column_of = np.full(m, -1), np.full(n, -1)
    # Where each row's cheapest column is free, nothing needs to be searched.
    for row, column in enumerate(cost.argmin(1)):
        if row_of[column] < 0:
            row_of[column], column_of[row] = row, column
    for start in np.flatnonzero(column_of < 0):
        _augment(cost, int(start), row_price, column_price, row_of, column_of)
    return column_of


def _augment(
    cost: NDArray[np.float64],
    start: int,
    row_price: NDArray[np.float64],
    column_price: NDArray[np.float64],
    row_of: NDArray[np.intp],
    column_of: NDArray[np.intp],
) -> None:
    """Give one more row a column by the shortest path over reduced costs; prices and pairs change in place."""
    m = cost.shape[1]
    shortest, via = np.full(m, np.inf), np.full(m, -1)
    done = np.zeros(m, np.bool_)
    row, low, passed = start, 0.0, []
    while True:
        reached = low + cost[row] - row_price[row] - column_price
        better = ~done & (reached < shortest)
        shortest[better], via[better] = reached[better], row
        column = int(np.where(done, np.inf, shortest).argmin())
        low = float(shortest[column])
        done[column] = True
        if row_of[column] < 0:
            break
        row = int(row_of[column])
        passed.append(row)
    row_price[start] += low
    row_price[passed] += low - shortest[column_of[passed]]
    column_price[done] -= low - shortest[done]
    while True:
        row = int(via[column])
        row_of[column] = row
        column, column_of[row] = int(column_of[row]), column
        if row == start:
            return
