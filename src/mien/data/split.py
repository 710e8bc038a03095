"""Which faces to train on, and which to hold out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, OptionError
from .importers import LabelledFaces, read_labelled

__all__ = ["Split", "Unit", "refuse_one_class", "split_share", "split_training", "units"]

Unit = Literal["group", "person", "frame"]
_WHAT: dict[Unit, str] = {"group": "groups of pixel-equal pictures", "person": "persons", "frame": "faces"}


@dataclass(frozen=True, slots=True)
class Split:
    """The faces to train on, those held out to choose and calibrate with, and how many leaked faces were dropped."""

    train: LabelledFaces
    validation: LabelledFaces
    dropped: int


def split_share(
    faces: LabelledFaces, *, held: float, seed: int, by: Unit | None = None
) -> tuple[LabelledFaces, LabelledFaces]:
    """Split a set in two with the classes in the same shares, as 9 to 1, whatever its own splits are.

    Parameters
    ----------
    faces
        The set. Faces without a label are split like a class of their own.
    held
        The share of the second part, in (0, 1).
    seed
        Who goes where is decided by it alone.
    by
        What is never divided between the two, see `split_training`.

    Returns
    -------
    tuple
        The rest and the held-out part, each in the order of ``faces``. By frame, ``round(held · N)`` of N faces are
        held out, and of a class of n less than one more or fewer than ``held · n`` (largest remainders, after
        Hamilton). By group or person no class has more than that, and as many as whole groups or persons allow:
        exactly as many where enough of them are single faces.

    Raises
    ------
    DataError
        If a part would be empty.
    OptionError
        If ``held`` or ``by`` is impossible.
    """
    if not 0 < held < 1:
        msg = f"the held-out share is {held}; it lies between 0 and 1"
        raise OptionError(msg)
    inside = _fill(faces.label + 1, units(faces, by), held, np.random.default_rng(seed))
    if inside.all() or not inside.any():
        msg = f"a share of {held} of {len(faces)} faces, held out by {by or _usual(faces)}, leaves an empty split"
        raise DataError(msg)
    return faces[~inside], faces[inside]


def _room(counts: NDArray[np.intp], share: float) -> NDArray[np.int64]:
    exact = counts * share
    room: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    room[np.argsort(room - exact, kind="stable")[: round(counts.sum() * share) - room.sum()]] += 1
    return room


def _fill(
    klass: NDArray[np.int64], unit: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Take whole units in random order as long as no class gets more than its share."""
    room = _room(np.bincount(klass), share)
    _, number = np.unique(unit, return_inverse=True)
    order = np.argsort(number, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(number[order])) + 1)
    inside = np.zeros(len(klass), bool)
    for i in rng.permutation(len(members)):
        rows = members[i]
        wanted = np.bincount(klass[rows], minlength=len(room))
        if (wanted <= room).all():
            room -= wanted
            inside[rows] = True
    return inside


def split_training(data: str | Path | LabelledFaces, *, validation: float, seed: int, by: Unit | None = None) -> Split:
    """Split Training into faces to train on and faces to choose with, without any face that is also in another split.

    Parameters
    ----------
    data
        A set, or where it lies: see `importers.read_labelled`.
    validation
        The share to hold out, in [0, 1).
    seed
        Which faces are held out is decided by it alone.
    by
        What is never divided between the two: ``"person"`` (and pixel-equal pictures with them), ``"group"`` of
        pixel-equal pictures, or ``"frame"``, every face for itself. ``"frame"`` flatters the score, since the model
        knows the held-out people; it is there to show by how much. None: by person where persons are known, else by
        group.

    Raises
    ------
    DataError
        If no labelled face of Training is left, one class alone is left, or nothing is held out.
    OptionError
        If ``validation`` or ``by`` is impossible.
    """
    faces = data if isinstance(data, LabelledFaces) else read_labelled(data)
    where = "the data" if isinstance(data, LabelledFaces) else data
    if not 0 <= validation < 1:
        msg = f"validation is {validation}; it is a share of at least 0 and below 1"
        raise OptionError(msg)
    training = faces[_trained_on(faces)]
    leaked = np.isin(training.group, faces.group[faces.split != "Training"])
    training = training[~leaked]
    if not len(training):
        msg = f"{where}: no face of the split 'Training' to train on"
        raise DataError(msg)
    refuse_one_class(training, f"{where}, split 'Training'")
    unit = units(training, by)
    numbers = np.unique(unit)
    held = np.random.default_rng(seed).permutation(numbers)[: round(validation * len(numbers))]
    if validation and not 0 < len(held) < len(numbers):
        msg = (
            f"{where}: validation {validation} of {len(numbers)} {_WHAT[by or _usual(training)]} leaves an empty split"
        )
        raise DataError(msg)
    inside = np.isin(unit, held)
    return Split(train=training[~inside], validation=training[inside], dropped=int(leaked.sum()))


def _trained_on(faces: LabelledFaces) -> NDArray[np.bool_]:
    # Votes alone are enough to learn from; where there are labels, a face without one was left out on purpose.
    told = faces.label >= 0 if (faces.label >= 0).any() else faces.crowd_weight() > 0
    chosen: NDArray[np.bool_] = (faces.split == "Training") & told
    return chosen


def refuse_one_class(faces: LabelledFaces, where: str) -> None:
    """Raise a `DataError` if the faces have labels, but only one between them."""
    found = np.unique(faces.label[faces.label >= 0])
    if len(found) == 1:
        msg = f"{where}: all {len(faces)} faces are {faces.labels.labels[found[0]]!r}; at least two classes are needed"
        raise DataError(msg)


def _usual(faces: LabelledFaces) -> Unit:
    return "person" if (faces.person != "").any() else "group"


def units(faces: LabelledFaces, by: Unit | None = None) -> NDArray[np.int64]:
    """Return what may not be divided: faces with equal numbers stay together, (N,) int64.

    Parameters
    ----------
    faces
        The set.
    by
        See `split_training`. By person, pixel-equal pictures tie persons together, and a face whose person is not
        known goes with its pixel-equal ones.

    Raises
    ------
    OptionError
        If ``by`` is none of these, or ``"person"`` where no person is known.
    """
    chosen = by or _usual(faces)
    if chosen not in _WHAT:
        msg = f"cannot split by {chosen!r}; choose one of: {', '.join(_WHAT)}"
        raise OptionError(msg)
    if chosen == "frame":
        return np.arange(len(faces))
    if chosen == "group":
        return faces.group
    if not (faces.person != "").any():
        msg = "no person is known, so the data cannot be split by person; split by group"
        raise OptionError(msg)
    return _tied(faces.group, faces.person)


def _tied(group: NDArray[np.int64], person: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the number of each face's component, faces being joined by a group or a known person."""
    parent: dict[object, object] = {}

    def root(key: object) -> object:
        while (up := parent.setdefault(key, key)) != key:
            parent[key] = key = parent[up]
        return key

    for g, p in zip(group.tolist(), person.tolist(), strict=True):
        if p:
            parent[root(g)] = root(p)
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(root(g), len(numbers)) for g in group.tolist()], np.int64)
