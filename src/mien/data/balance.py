"""Against unequal classes: weights for the loss, probabilities for a sampler, the same number of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, OptionError

__all__ = ["class_counts", "class_weights", "per_class", "sampling_probability"]


def class_counts(label: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Return how many rows each class has, (K,) int64; rows of -1 have none.

    >>> class_counts(np.array([0, 2, 2, -1]), 3).tolist()
    [1, 0, 2]
    """
    return np.bincount(label[label >= 0], minlength=classes).astype(np.int64)


def class_weights(label: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """Return the weight of each class that makes all of them count alike in a loss.

    ``n / (K n_k)`` with n labelled rows, n_k of class k and K classes that occur: the ``"balanced"`` of scikit-learn,
    after King and Zeng, Logistic Regression in Rare Events Data, 2001. The mean weight of the rows is 1.

    Parameters
    ----------
    label
        (N,) int, a class or -1 for none.
    classes
        The number of classes.

    Returns
    -------
    ndarray
        (classes,) float64; 0 for a class that does not occur.

    Raises
    ------
    DataError
        If no row has a label.

    Examples
    --------
    >>> class_weights(np.array([0, 0, 0, 1]), 3).round(3).tolist()
    [0.667, 2.0, 0.0]
    """
    counts = _some(label, classes)
    occurring = counts > 0
    return np.where(occurring, counts.sum() / (occurring.sum() * np.maximum(counts, 1)), 0.0)


def sampling_probability(label: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """Return how likely a sampler has to draw each row for all classes that occur to be drawn equally often.

    Parameters
    ----------
    label, classes
        As in `class_weights`.

    Returns
    -------
    ndarray
        (N,) float64, summing to 1; 0 for a row without a label.

    Raises
    ------
    DataError
        If no row has a label.

    Examples
    --------
    >>> sampling_probability(np.array([0, 0, 1, -1]), 2).tolist()
    [0.25, 0.25, 0.5, 0.0]
    """
    counts = _some(label, classes)
    share = 1 / ((counts > 0).sum() * np.maximum(counts, 1))
    return np.where(label >= 0, share[label], 0.0)


def _some(label: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    counts = class_counts(label, classes)
    if not counts.sum():
        msg = "no face has a label, so there are no classes to balance"
        raise DataError(msg)
    return counts


def per_class(label: NDArray[np.integer], n: int, *, seed: int, names: Sequence[str]) -> NDArray[np.int64]:
    """Return the rows of ``n`` faces of each class, drawn by the seed, in the order of the rows.

    Parameters
    ----------
    label
        (N,) int, a class or -1 for none.
    n
        How many of each class.
    seed
        Which ones is decided by it alone.
    names
        The classes, for the error message; each has to have ``n`` faces.

    Returns
    -------
    ndarray
        (n · K,) int64, ascending.

    Raises
    ------
    OptionError
        If ``n`` is below 1.
    DataError
        If a class has fewer than ``n`` faces.

    Examples
    --------
    >>> per_class(np.array([0, 1, 1, 0]), 2, seed=0, names=("smile", "pout")).tolist()
    [0, 1, 2, 3]
    """
    if n < 1:
        msg = f"{n} faces of each class are asked for; at least 1 is needed"
        raise OptionError(msg)
    rng = np.random.default_rng(seed)
    chosen = []
    for k, name in enumerate(names):
        rows = np.flatnonzero(label == k)
        if len(rows) < n:
            msg = f"{n} faces of each class are asked for, but {name!r} has {len(rows)}; ask for fewer"
            raise DataError(msg)
        chosen.append(rng.choice(rows, n, replace=False))
    return np.sort(np.concatenate(chosen)).astype(np.int64)
