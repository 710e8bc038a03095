"""What a head of a model is held against: which faces count, and what they should have been named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces
from ..errors import DataError, UnknownLabelError
from ..labels import LabelSet, projection
from ..zoo.card import Head

__all__ = ["CROWD", "FER2013", "Truth", "truth", "votes_for"]

CROWD = "crowd"
"""The head that says how taggers would share their votes."""

FER2013 = "fer2013"
"""The head that says which label FER2013 would give."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a head should say about ``n`` of N faces.

    Attributes
    ----------
    index
        (n,) int64, the faces that count, ascending.
    label
        (n,) int64 index into ``labels``.
    target
        (n, K) float32, the taggers' votes as shares over ``labels``; a row without votes is zero. None where the head
        is not held against votes.
    labels
        What the head is measured in: its own labels, or the data's where those are fewer.
    carry
        (heads' labels, K) float32 that carries the head's scores to ``labels``; None where they are its own.
    """

    index: NDArray[np.int64]
    label: NDArray[np.int64]
    target: NDArray[np.float32] | None
    labels: LabelSet
    carry: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.index)

    def held(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return a head's scores of all N faces as those (n, K) of the faces that count, over ``labels``."""
        counted = scores[self.index]
        return counted if self.carry is None else counted @ self.carry.astype(scores.dtype)


def truth(faces: LabelledFaces, head: Head) -> Truth:
    """Return what a head is held against on some faces.

    The head ``crowd`` is held against the expression with the most votes; of several, the first in order. Faces
    without votes do not count, nor those for which unknown or not-a-face got more votes than any expression. Any other
    head is held against the one label a face, and against the votes only where no face has a label. Where the head and
    the data have other labels, the larger set is carried to the smaller one (`labels.projection`).

    Raises
    ------
    DataError
        If no face can be held against the head; the message says why.
    """
    voted, labelled = bool((faces.votes > 0).any()), bool((faces.label >= 0).any())
    if head.name == CROWD and voted:
        return _by_votes(faces, head)
    # Votes can be guessed from labels only in a set that is as fine as the crowd's.
    if head.name == CROWD and not (labelled and set(head.labels) <= set(faces.labels)):
        msg = "the data has no votes: the crowd head was not measured"
        raise DataError(msg)
    if labelled:
        return _by_label(faces, head)
    if voted and head.name != FER2013:
        return _by_votes(faces, head)
    msg = f"no face has a label: the {head.name} head was not measured"
    raise DataError(msg)


def _by_votes(faces: LabelledFaces, head: Head) -> Truth:
    named = _named_votes(faces, head.labels)
    if named is None:
        msg = (
            f"the votes are for {', '.join(faces.vote_labels)}, the {head.name} head names {', '.join(head.labels)}: "
            "it was not measured"
        )
        raise DataError(msg)
    unsure = faces.votes[:, len(faces.vote_labels) :]
    counted = np.flatnonzero((faces.votes.sum(1) > 0) & (named.max(1) >= unsure.max(1)))
    held = named[counted]
    return Truth(counted, held.argmax(1), _shares(held), head.labels)


def _by_label(faces: LabelledFaces, head: Head) -> Truth:
    labels, carry, place = _meeting(head, faces.labels)
    counted = np.flatnonzero(faces.label >= 0)
    label = faces.label[counted]
    named = None if head.name == FER2013 else _named_votes(faces, labels)
    return Truth(
        counted,
        label if place is None else place.argmax(1)[label],
        None if named is None or not named[counted].any() else _shares(named[counted]),
        labels,
        carry,
    )


def _meeting(head: Head, data: LabelSet) -> tuple[LabelSet, NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Return the labels in which a head and some data meet, and what carries the scores and the labels there."""
    own = head.labels
    if own.labels == data.labels:
        return own, None, None
    if len(data) < len(own) and (carry := _carried(own, data)) is not None and carry.any(0).all():
        return data, carry, None
    if (place := _carried(data, own)) is not None:
        return own, None, place
    homeless = next((name for name in data if name not in own), data.labels[0])
    msg = (
        f"the data has the labels {', '.join(data)}, the {head.name} head names {', '.join(own)}: it was not measured; "
        f"say where they go, for example --merge {homeless}={own.labels[0]}"
    )
    raise DataError(msg)


def _carried(source: LabelSet, target: LabelSet) -> NDArray[np.float32] | None:
    try:
        return projection(source, target)
    except UnknownLabelError:
        return None


def votes_for(faces: LabelledFaces, labels: LabelSet) -> NDArray[np.float32]:
    """Return the votes (N, K + 2) for the K labels of another set, then unknown and not-a-face.

    Raises
    ------
    UnknownLabelError
        If a label that was voted for has no place in the set.
    """
    carry, k = projection(faces.vote_labels, labels), len(faces.vote_labels)
    return np.concatenate([faces.votes[:, :k] @ carry, faces.votes[:, k:]], 1)


def _named_votes(faces: LabelledFaces, labels: LabelSet) -> NDArray[np.float32] | None:
    try:
        return votes_for(faces, labels)[:, : len(labels)]
    except UnknownLabelError:
        return None


def _shares(votes: NDArray[np.float32]) -> NDArray[np.float32]:
    total = votes.sum(1, keepdims=True)
    share: NDArray[np.float32] = np.divide(votes, total, out=np.zeros_like(votes), where=total > 0)
    return share
