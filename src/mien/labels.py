"""Label sets: the names of expressions, their one order, their other spellings, and projections between sets.

Everywhere in mien the eight labels are spelled and ordered
``angry disgust fear happy sad surprise neutral contempt``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError, UnknownLabelError

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
    OptionError
        If there are fewer than two names or one stands twice.

    Examples
    --------
    >>> moods = LabelSet("moods", ("smile", "pout", "neutral"))
    >>> moods.index("Pout"), "joy" in moods, list(moods)
    (1, False, ['smile', 'pout', 'neutral'])
    """

    name: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            msg = f"a label set needs at least two labels, {self.name!r} has {len(self.labels)}"
            raise OptionError(msg)
        if len(set(self.labels)) != len(self.labels):
            msg = f"label set {self.name!r} names a label twice: {', '.join(self.labels)}"
            raise OptionError(msg)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def _find(self, name: str) -> int | None:
        # A set that somebody else named may hold "Happiness" itself, or even "joy" beside "happy".
        if name in self.labels:
            return self.labels.index(name)
        word = canonical(name)
        return next((i for i, label in enumerate(self.labels) if canonical(label) == word), None)

    def index(self, name: str) -> int:
        """Return the position of a label, by any of its spellings.

        Raises
        ------
        UnknownLabelError
            If the set does not hold the label; the message lists what it holds.
        """
        place = self._find(name)
        if place is None:
            raise UnknownLabelError(name, self.labels)
        return place


EIGHT = LabelSet("eight", ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"))
SEVEN = LabelSet("seven", EIGHT.labels[:7])
SIX = LabelSet("six", ("angry", "fear", "happy", "sad", "surprise", "neutral"))
FIVE = LabelSet("five", ("angry", "happy", "sad", "surprise", "neutral"))
THREE = LabelSet("three", ("negative", "happy", "neutral"))

LABEL_SETS: Mapping[str, LabelSet] = MappingProxyType({s.name: s for s in (EIGHT, SEVEN, SIX, FIVE, THREE)})

# Where a label goes when the smaller set has no place of that name. Contempt and disgust go the way the field merges
# them (FER2013's tutorials put disgust into angry). A label without an entry has no place, and that is an error.
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

    Examples
    --------
    >>> projection(EIGHT, THREE).sum(0).astype(int).tolist()
    [5, 1, 2]
    """
    merges = _MERGES.get(target.name, {})
    matrix = np.zeros((len(source), len(target)), np.float32)
    for row, name in enumerate(source.labels):
        place = name if name in target else merges.get(canonical(name), name)
        if place not in target:
            raise UnknownLabelError(name, target.labels)
        matrix[row, target.index(place)] = 1
    return matrix
