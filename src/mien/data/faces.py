"""Face crops with their labels, held in memory: the one form that training, judging and cleaning take."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ShapeError, UnknownLabelError
from ..labels import EIGHT, SEVEN, LabelSet, projection

__all__ = ["LabelledFaces", "pixel_groups"]

_NOTHING: Mapping[str, str] = MappingProxyType({})
_ROWS = ("label", "votes", "split", "group", "name", "person")


def _no_text() -> NDArray[np.str_]:
    return np.zeros(0, np.str_)


def _no_columns() -> Mapping[str, NDArray[np.str_]]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LabelledFaces:
    """Face crops with their labels, held in memory.

    Attributes
    ----------
    images
        (N, H, W) uint8 grey or (N, H, W, 3) uint8 RGB.
    label
        (N,) int64, index into ``labels``; -1 where there is none.
    votes
        (N, K + 2) float32: votes for the K labels of ``vote_labels`` in their order, then unknown, then not-a-face. All
        zero where there are no votes.
    split
        (N,) str: ``Training``, ``PublicTest``, ``PrivateTest``, or another name of the set's own.
    group
        (N,) int64; equal numbers mean pixel-equal pictures.
    name
        (N,) str, to find a face again.
    labels
        What ``label`` counts in.
    vote_labels
        What ``votes`` counts in.
    person
        (N,) str; "" where it is not known.
    columns
        Further facts by their name, such as ``source``, ``licence`` or ``age``: (N,) str each; "" where not known.
    problems
        One line for each picture that could not be used and was left out.

    Raises
    ------
    ShapeError
        If the arrays do not have the same number of rows, or the votes not their labels' number of columns.
    """

    images: NDArray[np.uint8]
    label: NDArray[np.int64]
    votes: NDArray[np.float32]
    split: NDArray[np.str_]
    group: NDArray[np.int64]
    name: NDArray[np.str_]
    labels: LabelSet = SEVEN
    vote_labels: LabelSet = EIGHT
    person: NDArray[np.str_] = field(default_factory=_no_text)
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=_no_columns)
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, votes = len(self.images), len(self.vote_labels) + 2
        if not len(self.person):
            object.__setattr__(self, "person", np.zeros(n, np.str_))
        for what, rows in [(f, getattr(self, f)) for f in _ROWS] + [*self.columns.items()]:
            if len(rows) != n:
                raise ShapeError(what, f"{n} rows, one a picture", len(rows))
        if self.votes.shape != (n, votes):
            raise ShapeError("votes", f"({n}, {votes}): {votes - 2} labels, unknown, not-a-face", self.votes.shape)
        if n and not -1 <= self.label.min() <= self.label.max() < len(self.labels):
            raise ShapeError("label", f"-1 to {len(self.labels) - 1}", f"{self.label.min()} to {self.label.max()}")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.integer[Any]] | slice) -> LabelledFaces:
        rows = {f: getattr(self, f)[index] for f in ("images", *_ROWS)}
        return replace(self, **rows, columns={name: column[index] for name, column in self.columns.items()})

    @classmethod
    def concat(cls, parts: Iterable[LabelledFaces]) -> LabelledFaces:
        """Join several sets, one after the other; pixel-equal pictures of different sets share a group.

        A column that only some of the sets have is "" in the others.

        Raises
        ------
        DataError
            If there is no set, or the sets differ in their labels or in the size or colour of their pictures.
        """
        held = list(parts)
        _alike(held)
        joined: dict[str, Any] = {f: np.concatenate([getattr(p, f) for p in held]) for f in ("images", *_ROWS)}
        joined["group"] = pixel_groups(joined["images"])
        names = dict.fromkeys(name for p in held for name in p.columns)
        empty = [np.zeros(len(p), np.str_) for p in held]
        return replace(
            held[0],
            **joined,
            columns={n: np.concatenate([p.columns.get(n, e) for p, e in zip(held, empty, strict=True)]) for n in names},
            problems=tuple(dict.fromkeys(line for p in held for line in p.problems)),
        )

    def of_split(self, split: str) -> LabelledFaces:
        """Return the faces of one split.

        Raises
        ------
        DataError
            If there is none; the message lists the splits that there are.
        """
        chosen = self[self.split == split]
        if not len(chosen):
            held = ", ".join(sorted(set(self.split.tolist())))
            msg = f"the split {split!r} is empty; the data has {held or 'no faces at all'}"
            raise DataError(msg)
        return chosen

    def crowd(self) -> NDArray[np.float32]:
        """Return the taggers' vote distribution over ``vote_labels``, (N, K) float32; rows without votes are zero."""
        return _share(self.votes[:, : len(self.vote_labels)], of=self.votes[:, : len(self.vote_labels)])

    def crowd_weight(self) -> NDArray[np.float32]:
        """Return the share of votes that named one of ``vote_labels``, (N,) float32 in [0, 1]."""
        named = self.votes[:, : len(self.vote_labels)].sum(1, keepdims=True)
        return _share(named, of=self.votes)[:, 0]

    def relabelled(
        self, target: LabelSet, merge: Mapping[str, str] = _NOTHING, *, drop: Collection[str] = ()
    ) -> LabelledFaces:
        """Return the faces with the labels of another set, and their votes likewise.

        Parameters
        ----------
        target
            The set that both ``labels`` and ``vote_labels`` become.
        merge
            Where a label goes that ``target`` does not have: ``{"disgust": "angry"}``. Our own sets bring the merges of
            the field, see `labels.projection`.
        drop
            Labels whose faces are left out, which is not the same as merging them. Votes for them then count as
            unknown, so every face keeps its number of votes.

        Raises
        ------
        DataError
            If a label has no place in ``target``, or ``merge`` or ``drop`` name a label that neither the labels nor
            the votes have.

        Examples
        --------
        >>> from mien.labels import FIVE
        >>> n = np.zeros(3)
        >>> faces = LabelledFaces(np.zeros((3, 2, 2), np.uint8), np.array([0, 1, 3]), np.zeros((3, 10), np.float32),
        ...                       n.astype(str), n.astype(int), n.astype(str))
        >>> faces.relabelled(FIVE).label.tolist(), faces.relabelled(FIVE, drop=("disgust", "fear")).label.tolist()
        ([0, 0, 1], [0, 1])
        """
        _known_somewhere([*merge, *drop], self.labels, self.vote_labels)
        labels = _matrix(self.labels, target, merge, drop)
        gone = np.flatnonzero(labels.sum(1) == 0)
        kept = self[~np.isin(self.label, gone)] if len(gone) else self
        label = np.where(kept.label < 0, -1, labels.argmax(1)[kept.label])
        return replace(kept, label=label, votes=_moved(kept, target, merge, drop), labels=target, vote_labels=target)


def _share(votes: NDArray[np.float32], *, of: NDArray[np.float32]) -> NDArray[np.float32]:
    total = of.sum(1, keepdims=True)
    return np.divide(votes, np.where(total > 0, total, 1), dtype=np.float32)


def _alike(held: Sequence[LabelledFaces]) -> None:
    if not held:
        msg = "there is no set of faces to join"
        raise DataError(msg)
    first = held[0]
    for part in held[1:]:
        for what in ("labels", "vote_labels"):
            one, other = getattr(first, what), getattr(part, what)
            if one.labels != other.labels:
                msg = f"sets of other labels cannot be joined: {','.join(one)} and {','.join(other)}; relabel them"
                raise DataError(msg)
        if first.images.shape[1:] != part.images.shape[1:]:
            sizes = f"{first.images.shape[1:]} and {part.images.shape[1:]}"
            msg = f"sets of other picture sizes cannot be joined: {sizes}; read them with the same side and colour"
            raise DataError(msg)


def _known_somewhere(names: Iterable[str], labels: LabelSet, vote_labels: LabelSet) -> None:
    for name in names:
        if name not in labels and name not in vote_labels:
            raise DataError(str(UnknownLabelError(name, dict.fromkeys((*labels, *vote_labels)))))


def _matrix(source: LabelSet, target: LabelSet, merge: Mapping[str, str], drop: Collection[str]) -> NDArray[np.float32]:
    own = {name: place for name, place in merge.items() if name in source}
    try:
        return projection(source, target, own, drop=[name for name in drop if name in source])
    except UnknownLabelError as error:
        msg = f"{error}; or give the label a place by a merge, or drop its faces"
        raise DataError(msg) from error


def _moved(
    faces: LabelledFaces, target: LabelSet, merge: Mapping[str, str], drop: Collection[str]
) -> NDArray[np.float32]:
    out = np.zeros((len(faces), len(target) + 2), np.float32)
    if faces.votes.any():  # labels that nobody votes for need no place
        named, k = faces.votes[:, : len(faces.vote_labels)], len(target)
        matrix = _matrix(faces.vote_labels, target, merge, drop)
        out[:, :k], out[:, k:] = named @ matrix, faces.votes[:, -2:]
        out[:, k] += named @ (1 - matrix.sum(1))
    return out


def pixel_groups(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Give pictures numbers so that pixel-equal ones, and only they, share one; they count up by first appearance.

    Parameters
    ----------
    images
        (N, H, W) or (N, H, W, 3) uint8.

    Returns
    -------
    ndarray
        (N,) int64.
    """
    numbers: dict[bytes, int] = {}
    digests = (hashlib.blake2b(i.tobytes(), digest_size=16).digest() for i in images)
    return np.array([numbers.setdefault(d, len(numbers)) for d in digests], np.int64)
