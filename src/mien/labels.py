"""Label sets: the names of expressions, their one order, their other spellings, and projections between sets.

Everywhere in mien the eight labels are spelled and ordered
``angry disgust fear happy sad surprise neutral contempt``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from .errors import OptionError, UnknownLabelError

__all__ = [
    "EIGHT",
    "EMOTICONS",
    "EMOTICON_SIGNS",
    "FIVE",
    "LABEL_SETS",
    "SEVEN",
    "SIX",
    "THREE",
    "LabelSet",
    "canonical",
    "found_labels",
    "label_set",
    "labels_from",
    "merges_from",
    "named_labels",
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

EMOTICON_SIGNS: Mapping[str, str] = MappingProxyType(
    {
        "neutral": ":-|",
        "smile": ":-)",
        "grin": ":-D",
        "laugh": "XD",
        "wink": ";-)",
        "kiss": ":-*",
        "tongue": ":-P",
        "smirk": ":-J",
        "puzzled": ":-/",
        "gasp": ":-O",
        "shout": ">:-O",
        "frown": ":-(",
        "scowl": ">:-(",
        "pout": ":-[",
        "squint": ">_<",
        "asleep": "-_-",
        "cry": ":'-(",
    }
)
"""Seventeen faces as a caricaturist draws them, each with its emoticon: what a face does, not what is felt."""
EMOTICONS = LabelSet("emoticons", tuple(EMOTICON_SIGNS))

LABEL_SETS: Mapping[str, LabelSet] = MappingProxyType({s.name: s for s in (EIGHT, SEVEN, SIX, FIVE, THREE, EMOTICONS)})

_NO_MERGE: Mapping[str, str] = MappingProxyType({})

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
    """Return a label set by its name: ``eight``, ``seven``, ``six``, ``five``, ``three`` or ``emoticons``.

    Raises
    ------
    UnknownLabelError
        If there is no set of that name.
    """
    try:
        return LABEL_SETS[name]
    except KeyError:
        raise UnknownLabelError(name, tuple(LABEL_SETS), what="label set") from None


def labels_from(text: str) -> LabelSet:
    """Return the label set that a user names: a set of ours, or labels of their own with commas between them.

    Parameters
    ----------
    text
        ``"six"``, or ``"smile,pout,neutral"``; the order is that of the scores. A list of ours is our set; any other is
        called ``"custom"``.

    Raises
    ------
    UnknownLabelError
        If it is one word and no set of ours.
    OptionError
        If a name is empty or stands twice, or there are fewer than two.

    Examples
    --------
    >>> labels_from("six").name, labels_from("smile, pout,neutral").labels
    ('six', ('smile', 'pout', 'neutral'))
    """
    names = tuple(name.strip() for name in text.split(","))
    if len(names) == 1:
        if names[0] in LABEL_SETS:
            return LABEL_SETS[names[0]]
        raise UnknownLabelError(text, (*LABEL_SETS, "or name labels, with commas between them"), what="label set")
    if not all(names):
        msg = f"a name is empty in the labels {text!r}; write them as smile,pout,neutral"
        raise OptionError(msg)
    return named_labels(names)


def merges_from(texts: Iterable[str]) -> dict[str, str]:
    """Return where labels go, of texts such as ``"disgust=angry,contempt=neutral"``.

    Raises
    ------
    OptionError
        If a part is not of that form, or one label goes to two places.

    Examples
    --------
    >>> merges_from(["disgust=angry,contempt=neutral", "fear=surprise"])
    {'disgust': 'angry', 'contempt': 'neutral', 'fear': 'surprise'}
    """
    merge: dict[str, str] = {}
    for part in (part for text in texts for part in text.split(",")):
        name, equals, place = (word.strip() for word in part.partition("="))
        if not (name and equals and place):
            msg = f"{part!r} is no merge; write it as disgust=angry"
            raise OptionError(msg)
        if merge.setdefault(name, place) != place:
            msg = f"{name!r} is merged into {merge[name]!r} and into {place!r}; choose one"
            raise OptionError(msg)
    return merge


def found_labels(names: Iterable[str]) -> LabelSet:
    """Return the set of the labels that some data was found to have.

    Another spelling of one of the eight becomes ours; two spellings of any other word, by case, are one label, spelled
    as the first. The eight come first in their order, then what begins with a number by its value, then the others.

    Raises
    ------
    OptionError
        If there are fewer than two.

    Examples
    --------
    >>> found_labels(["pout", "Happiness", "10", "9", "angry"]).labels
    ('angry', 'happy', '9', '10', 'pout')
    """
    spelled: dict[str, str] = {}
    for name in sorted(set(names)):
        word = canonical(name)
        spelled.setdefault(word, word if word in EIGHT.labels else name.strip())
    return named_labels(spelled[word] for word in sorted(spelled, key=_rank))


def _rank(word: str) -> tuple[int, int, str]:
    if word in EIGHT.labels:
        return 0, EIGHT.labels.index(word), ""
    number = re.match(r"\d+", word)
    return (1, int(number[0]), word) if number else (2, 0, word)


def named_labels(names: Iterable[str]) -> LabelSet:
    """Return the set of these labels in this order: ours if it is one of ours, else one that is called ``"custom"``.

    Raises
    ------
    OptionError
        If there are fewer than two, or one stands twice.
    """
    labels = tuple(names)
    return next((s for s in LABEL_SETS.values() if s.labels == labels), None) or LabelSet("custom", labels)


def projection(
    source: LabelSet, target: LabelSet, merge: Mapping[str, str] = _NO_MERGE, *, drop: Collection[str] = ()
) -> NDArray[np.float32]:
    """Return the matrix that carries scores of one set to a smaller one, probability mass kept.

    Parameters
    ----------
    source, target
        The set of K labels that the scores have, and the set of M labels that they shall have.
    merge
        Where labels of the source go, by any of their spellings: ``{"disgust": "angry"}``. It comes before the place of
        the same name and before the merges that our own sets bring (six: disgust into angry).
    drop
        Labels of the source that go nowhere; it comes before all others.

    Returns
    -------
    ndarray
        Shape (K, M), float32, every row with a single 1, or none where the label is dropped:
        ``scores @ projection(source, target)``.

    Raises
    ------
    UnknownLabelError
        If a label of the source has no place in the target, or ``merge`` or ``drop`` name a label that is not there.

    Examples
    --------
    >>> projection(EIGHT, THREE).sum(0).astype(int).tolist()
    [5, 1, 2]
    >>> projection(SEVEN, FIVE, drop=("disgust", "fear")).sum(1).astype(int).tolist()
    [1, 0, 0, 1, 1, 1, 1]
    """
    asked = {source.index(name): target.index(place) for name, place in merge.items()}
    dropped = {source.index(name) for name in drop}
    ours = _MERGES.get(target.name, {})
    matrix = np.zeros((len(source), len(target)), np.float32)
    for row, name in enumerate(source.labels):
        if row in dropped:
            continue
        place = name if name in target else ours.get(canonical(name), name)
        if row not in asked and place not in target:
            raise UnknownLabelError(name, target.labels)
        matrix[row, asked[row] if row in asked else target.index(place)] = 1
    return matrix
