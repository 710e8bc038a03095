"""What a set of faces holds: how many of each class in each split, and what stands in two places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any

import numpy as np

from .balance import class_counts
from .faces import LabelledFaces

__all__ = ["Overlap", "SplitSummary", "Summary", "summarise"]

_OURS = ("Training", "PublicTest", "PrivateTest")


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One split.

    Attributes
    ----------
    name, faces
        What it is called, and how many faces it has.
    counts
        How many faces of each label, in the order of the label set.
    unlabelled
        Faces without a label.
    voted
        Faces with votes.
    persons
        Known persons.
    without_person
        Faces whose person is not known.
    repeated
        Faces whose pixels stand in this split already.
    """

    name: str
    faces: int
    counts: tuple[int, ...]
    unlabelled: int
    voted: int
    persons: int
    without_person: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many faces of the split ``of`` are pixel-equal to one in another, and whose person is also there."""

    of: str
    also_in: str
    faces: int
    person_faces: int
    persons: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What a set of faces holds; `summarise` makes it.

    Attributes
    ----------
    labels
        The label set's names, in order.
    height, width, colour
        Of the crops: pixels, and ``grey`` or ``rgb``.
    splits
        FER2013's three in their order, then others by name.
    overlaps
        Each ordered pair of splits that share pixels or persons.
    otherwise_labelled
        Faces of which a pixel-equal twin has another label.
    columns
        The further columns, and how many different values each has.
    problems
        One line for each picture that was left out.
    """

    labels: tuple[str, ...]
    faces: int
    height: int
    width: int
    colour: str
    splits: tuple[SplitSummary, ...]
    overlaps: tuple[Overlap, ...]
    otherwise_labelled: int
    columns: Mapping[str, int]
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return it as it goes into JSON; the counts of a split by the names of the labels."""
        told = asdict(self)
        for split in told["splits"]:
            split["counts"] = dict(zip(self.labels, split["counts"], strict=True))
        return told | {"labels": list(self.labels), "problems": list(self.problems)}


def summarise(faces: LabelledFaces) -> Summary:
    """Count what a set of faces holds.

    Parameters
    ----------
    faces
        All splits of the set, since what stands in two of them is looked for.
    """
    found = set(faces.split.tolist())
    names = [*(s for s in _OURS if s in found), *sorted(found - set(_OURS))]
    overlaps = [_overlap(faces, a, b) for a, b in permutations(names, 2)]
    return Summary(
        labels=faces.labels.labels,
        faces=len(faces),
        height=faces.images.shape[1],
        width=faces.images.shape[2],
        colour="grey" if faces.images.ndim == 3 else "rgb",
        splits=tuple(_split(faces[faces.split == name], name) for name in names),
        overlaps=tuple(o for o in overlaps if o.faces or o.persons),
        otherwise_labelled=_otherwise_labelled(faces),
        columns={name: len(set(column.tolist())) for name, column in faces.columns.items()},
        problems=faces.problems,
    )


def _split(faces: LabelledFaces, name: str) -> SplitSummary:
    return SplitSummary(
        name=name,
        faces=len(faces),
        counts=tuple(class_counts(faces.label, len(faces.labels)).tolist()),
        unlabelled=int((faces.label < 0).sum()),
        voted=int((faces.votes.sum(1) > 0).sum()),
        persons=len(set(faces.person.tolist()) - {""}),
        without_person=int((faces.person == "").sum()),
        repeated=len(faces) - len(np.unique(faces.group)),
    )


def _overlap(faces: LabelledFaces, of: str, also_in: str) -> Overlap:
    one, other = faces.split == of, faces.split == also_in
    known = one & (faces.person != "")
    shared = known & np.isin(faces.person, faces.person[other])
    return Overlap(
        of=of,
        also_in=also_in,
        faces=int(np.isin(faces.group[one], faces.group[other]).sum()),
        person_faces=int(shared.sum()),
        persons=len(np.unique(faces.person[shared])),
    )


def _otherwise_labelled(faces: LabelledFaces) -> int:
    labelled = faces.label >= 0
    pairs = np.unique(np.column_stack([faces.group, faces.label])[labelled], axis=0)
    groups, kinds = np.unique(pairs[:, 0], return_counts=True)
    return int((np.isin(faces.group, groups[kinds > 1]) & labelled).sum())
