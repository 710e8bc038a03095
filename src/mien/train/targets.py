"""What each head shall say of each face, and how much that counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.importers import LabelledFaces
from ..errors import DataError
from ..labels import LabelSet
from .recipe import BOTH, Recipe

__all__ = ["Targets", "class_weight", "make_targets", "relabelled", "with_teacher"]


@dataclass(frozen=True, slots=True)
class Targets:
    """The distributions that a head learns and the weights of the faces: (N, K) and (N,) float32, by head.

    A face without a target of a head has the weight 0 there.
    """

    shares: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]


def relabelled(faces: LabelledFaces, recipe: Recipe) -> LabelledFaces:
    """Return the faces with the labels of the recipe.

    Raises
    ------
    DataError
        If a label of the data has no place in the recipe's, or the recipe wants both label sources and the data has
        labels that FER2013 has not.
    """
    heads = recipe.heads()
    if recipe.labels != BOTH:
        return faces.relabelled(heads["labels"], recipe.merge, drop=recipe.drop)
    if faces.labels.labels == heads["fer2013"].labels and faces.vote_labels.labels == heads["crowd"].labels:
        return faces
    try:
        votes = faces.relabelled(heads["crowd"]).votes
        return replace(faces.relabelled(heads["fer2013"]), votes=votes, vote_labels=heads["crowd"])
    except DataError as error:
        own = ",".join(faces.labels)
        msg = f"the data has the labels {own} and not FER2013's; name those to learn, for example labels = {own!r}"
        raise DataError(msg) from error


def make_targets(faces: LabelledFaces, recipe: Recipe, *, weighted: bool) -> Targets:
    """Return what a recipe wants of faces that `relabelled` gave.

    Parameters
    ----------
    faces, recipe
        N faces, and the recipe.
    weighted
        Whether ``class_weights`` count, as they do in training and not in validation.

    Raises
    ------
    DataError
        If there is nothing to learn for a head.
    """
    shares, weights = {}, {}
    for head, labels in recipe.heads().items():
        share, weight = _votes(faces) if recipe.soft(head) else _hard(faces, labels)
        if weighted and recipe.class_weights == "balanced":
            weight = weight * (share @ class_weight(share, weight))
        if not weight.any() and head != "crowd":
            source = "votes" if recipe.soft(head) else "labels"
            msg = f"the data has no {source}; set targets to {'labels' if source == 'votes' else 'votes'}"
            raise DataError(msg)
        shares[head], weights[head] = torch.from_numpy(share), torch.from_numpy(weight)
    return Targets(shares, weights)


def class_weight(share: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what each class counts, (K,) float32, for all to count alike; a class without faces counts nothing.

    As scikit-learn's ``balanced``: the faces' weight over the number of classes that there are, over the class's own.
    """
    held = weight @ share
    there = held > 0
    out: NDArray[np.float32] = np.where(there, held.sum() / (there.sum() * np.where(there, held, 1)), 0)
    return out.astype(np.float32)


def with_teacher(targets: Targets, answers: Mapping[str, NDArray[np.float32]], recipe: Recipe) -> Targets:
    """Blend a teacher's answers, (N, K) by head, into targets.

    A face without a target of its own learns from the teacher alone, and counts as much as the teacher does.
    """
    shares, weights = dict(targets.shares), dict(targets.weights)
    for head, answer in answers.items():
        part, own = recipe.teacher_share(head), targets.weights[head] > 0
        taught = torch.from_numpy(answer)
        shares[head] = torch.where(own[:, None], (1 - part) * shares[head] + part * taught, taught)
        weights[head] = torch.where(own, weights[head], torch.full_like(weights[head], part))
    return Targets(shares, weights)


def _hard(faces: LabelledFaces, labels: LabelSet) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    there = faces.label >= 0
    share = np.zeros((len(faces), len(labels)), np.float32)
    share[there, faces.label[there]] = 1
    return share, there.astype(np.float32)


def _votes(faces: LabelledFaces) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    votes = faces.votes[:, : len(faces.vote_labels)]
    named, total = votes.sum(1, keepdims=True), faces.votes.sum(1)
    share: NDArray[np.float32] = votes / np.maximum(named, 1)
    weight: NDArray[np.float32] = named[:, 0] / np.maximum(total, 1)
    return share, weight
