"""Label sets: the names of expressions, their one order, their other spellings, and projections between sets.

Everywhere in mien the eight labels are spelled and ordered
``angry disgust fear happy sad surprise neutral contempt``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from .errors import UnknownLabelError

__all__ = [
    "EIGHT",
    "FIVE",
    "LABEL_SETS",
    "SEVEN",
    "SIX",
    "THREE",
    "LabelSet",
    "canonical",
    "label_set",
    "projection",
]

_ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "anger": "angry",
        "contemptuous": "contempt",
        "disgusted": "disgust",
        "fearful": "fear",
        "scared": "fear",
        "happiness": "happy",
        "joy": "happy",
        "sadness": "sad",
        "surprised": "surprise",
        "neutrality": "neutral",
    }
)


def canonical(name: str) -> str:
    """Return mien's spelling of an expression: ``"Happiness"`` → ``"happy"``; an unknown word comes back lower-case.

    >>> canonical("Sadness"), canonical("smirk")
    ('sad', 'smirk')
    """
    word = name.strip().lower()
    return _ALIASES.get(word, word)


@dataclass(frozen=True, slots=True)
class LabelSet:
    """An ordered set of label names; the order is that of a score vector's entries.

    Parameters
    ----------
    name
        What the set is called, for example ``"eight"``.
    labels
        The names, unique, in the order of the scores.

    Raises
    ------
    ValueError
        If there are fewer than two names or one stands twice.
    """

    name: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            msg = f"a label set needs at least two labels, {self.name!r} has {len(self.labels)}"
            raise ValueError(msg)
        if len(set(self.labels)) != len(self.labels):
            msg = f"label set {self.name!r} names a label twice: {', '.join(self.labels)}"
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterable[str]:
        return iter(self.labels)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and canonical(name) in self.labels

    def index(self, name: str) -> int:
        """Return the position of a label, by any of its spellings.

        Raises
        ------
        UnknownLabelError
            If the set does not hold the label; the message lists what it holds.
        """
        try:
            return self.labels.index(canonical(name))
        except ValueError:
            raise UnknownLabelError(name, self.labels) from None


EIGHT = LabelSet("eight", ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"))
SEVEN = LabelSet("seven", EIGHT.labels[:7])
SIX = LabelSet("six", ("angry", "fear", "happy", "sad", "surprise", "neutral"))
FIVE = LabelSet("five", ("angry", "happy", "sad", "surprise", "neutral"))
THREE = LabelSet("three", ("negative", "happy", "neutral"))

LABEL_SETS: Mapping[str, LabelSet] = MappingProxyType({s.name: s for s in (EIGHT, SEVEN, SIX, FIVE, THREE)})

# Where a label goes when the smaller set has no place of that name. Contempt and disgust go the way the field merges
# them (FER2013's tutorials put disgust into angry); labels without an entry drop out of the smaller set.
_MERGES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "seven": {"contempt": "neutral"},
        "six": {"disgust": "angry", "contempt": "neutral"},
        "five": {"disgust": "angry", "contempt": "neutral", "fear": "surprise"},
        "three": dict.fromkeys(("angry", "disgust", "fear", "sad", "contempt"), "negative") | {"surprise": "neutral"},
    }
)


def label_set(name: str) -> LabelSet:
    """Return a label set by its name: ``eight``, ``seven``, ``six``, ``five`` or ``three``.

    Raises
    ------
    UnknownLabelError
        If there is no set of that name.
    """
    try:
        return LABEL_SETS[name]
    except KeyError:
        raise UnknownLabelError(name, tuple(LABEL_SETS), what="label set") from None


def projection(source: LabelSet, target: LabelSet) -> NDArray[np.float32]:
    """Return the matrix that carries scores of one set to a smaller one, probability mass kept.

    Parameters
    ----------
    source, target
        The set of K labels that the scores have, and the set of M labels that they shall have.

    Returns
    -------
    ndarray
        Shape (K, M), float32, every row with a single 1: ``scores @ projection(source, target)``.

    Raises
    ------
    UnknownLabelError
        If a label of the source has no place in the target.
    """
    merges = _MERGES.get(target.name, {})
    matrix = np.zeros((len(source), len(target)), np.float32)
    for row, name in enumerate(source.labels):
        matrix[row, target.index(name if name in target else merges.get(name, name))] = 1
    return matrix
