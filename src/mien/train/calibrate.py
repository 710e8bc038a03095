"""The temperature of a head: how far its scores must be softened to be honest."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces
from ..models.expression import Reading
from .recipe import Recipe
from .targets import make_targets

__all__ = ["fit_temperature", "temperatures"]


def temperatures(logits: Reading, faces: LabelledFaces, recipe: Recipe) -> dict[str, float]:
    """Return the temperature of each head of a recipe.

    Parameters
    ----------
    logits
        What the net says about the faces, before any softmax.
    faces
        Faces that it was not trained on, with the recipe's labels.
    recipe
        Says what each head is held against: votes or labels.
    """
    targets = make_targets(faces, recipe, weighted=False)
    return {
        head: fit_temperature(z, targets.shares[head].numpy(), targets.weights[head].numpy())
        for head, z in logits.scores.items()
    }


def fit_temperature(logits: NDArray[Any], target: NDArray[Any], weight: NDArray[Any] | None = None) -> float:
    """Return the temperature T that minimises the cross entropy of ``softmax(logits / T)`` (Guo et al. 2017).

    Parameters
    ----------
    logits, target
        (N, K) each; a row of ``target`` is a distribution.
    weight
        (N,) weight of each row; None: all alike.

    Returns
    -------
    float
        In [0.05, 20]; 1 where there is nothing to fit to.
    """
    z, t = logits.astype(np.float64), target.astype(np.float64)
    w = np.ones(len(z)) if weight is None else weight.astype(np.float64)
    if not w.sum():
        return 1.0

    def slope(scale: float) -> float:
        # The loss is convex in 1/T, so its derivative changes sign once.
        p = np.exp(scale * (z - z.max(1, keepdims=True)))
        p /= p.sum(1, keepdims=True)
        return float((w * ((p - t) * z).sum(1)).sum())

    low, high = 0.05, 20.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / float(np.sqrt(low * high))
