"""Pictures of any size and kind become crops of one size; a damaged one is named and left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .. import image
from ..errors import DataError, OptionError, SourceError
from ..labels import EIGHT, LabelSet
from ..media.stills import read_picture
from .faces import LabelledFaces, pixel_groups
from .folders import split_names
from .manifest import Manifest

__all__ = ["SIDE", "Colour", "checked", "load", "resized", "told"]

SIDE = 48
Colour = Literal["grey", "rgb"]


def checked(side: int, colour: str) -> None:
    """Raise an `OptionError` if crops cannot be of this side in pixels or this colour."""
    if not 1 <= side <= 4096:
        msg = f"side is {side}; a crop has 1 to 4096 pixels a side"
        raise OptionError(msg)
    if colour not in ("grey", "rgb"):
        msg = f"unknown colour {colour!r}; choose one of: grey, rgb"
        raise OptionError(msg)


def told(manifest: Manifest, labels: LabelSet | None = None) -> LabelledFaces:
    """Return what a list says of its pictures, before any is read.

    Parameters
    ----------
    manifest
        The list.
    labels
        The set that holds all its labels; None: those that are found.

    Returns
    -------
    LabelledFaces
        The pictures are black, of one pixel; ``group`` is the row in the list.

    Raises
    ------
    DataError
        If ``labels`` is None and fewer than two are found.
    """
    labels, n = labels or manifest.labels(), len(manifest)
    place = {name: labels.index(name) if name else -1 for name in set(manifest.label.tolist())}
    splits = split_names(dict.fromkeys(manifest.split.tolist()))
    vote_labels = manifest.vote_labels or _could_vote(labels)
    return LabelledFaces(
        images=np.zeros((n, 1, 1), np.uint8),
        label=np.array([place[name] for name in manifest.label.tolist()], np.int64),
        votes=manifest.votes if manifest.vote_labels else np.zeros((n, len(vote_labels) + 2), np.float32),
        split=np.array([splits[name] for name in manifest.split.tolist()], np.str_),
        group=np.arange(n),
        name=manifest.path,
        labels=labels,
        vote_labels=vote_labels,
        person=manifest.person,
        columns=manifest.columns,
        problems=manifest.problems,
    )


def _could_vote(labels: LabelSet) -> LabelSet:
    # So that such a set can be joined with FER2013, whose votes are for the eight.
    return EIGHT if set(labels) <= set(EIGHT) else labels


def load(faces: LabelledFaces, manifest: Manifest, *, side: int, colour: Colour) -> LabelledFaces:
    """Read the pictures of some rows of a list.

    Parameters
    ----------
    faces
        Rows of `told`, in any order.
    manifest
        The list.
    side
        Width and height of the crops in pixels. Pictures are stretched to a square: area averages down, linear up.
    colour
        ``"grey"``, (N, side, side), or ``"rgb"``, (N, side, side, 3). EXIF orientation is respected.

    Returns
    -------
    LabelledFaces
        The faces whose picture could be read; ``problems`` names the others.

    Raises
    ------
    DataError
        If not one picture could be read.
    """
    shape = (side, side) if colour == "grey" else (side, side, 3)
    crops, problems = np.empty((len(faces), *shape), np.uint8), list(faces.problems)
    kept: list[int] = []
    for i, row in enumerate(faces.group.tolist()):
        try:
            picture = _picture(manifest, row)
        except SourceError as error:
            problems.append(str(error))
        else:
            crops[len(kept)] = _crop(picture, side, colour)
            kept.append(i)
    if not kept:
        why = f"; the first: {problems[0]}" if problems else ""
        msg = f"{manifest.root}: none of {len(faces)} pictures can be used{why}"
        raise DataError(msg)
    images = crops[: len(kept)]
    return replace(faces[np.array(kept)], images=images, group=pixel_groups(images), problems=tuple(problems))


def _picture(manifest: Manifest, row: int) -> image.Picture:
    if not manifest.pictures:
        return read_picture(manifest.root / str(manifest.path[row]))
    try:
        return read_picture(manifest.pictures[row])
    except SourceError as error:
        msg = f"{manifest.path[row]}: {str(error).removeprefix('picture in memory: ')}"
        raise SourceError(msg) from error


def _crop(picture: image.Picture, side: int, colour: Colour) -> NDArray[np.uint8]:
    sized = picture if picture.shape[:2] == (side, side) else image.resize(picture, side, side)
    return sized if colour == "rgb" else np.rint(image.grey(sized)).astype(np.uint8)


def resized(faces: LabelledFaces, *, side: int, colour: Colour) -> LabelledFaces:
    """Return faces with their crops at another size or colour, as `load` would have read them; groups stay."""
    shape = (side, side) if colour == "grey" else (side, side, 3)
    if faces.images.shape[1:] == shape:
        return faces
    crops = np.empty((len(faces), *shape), np.uint8)
    for i, crop in enumerate(faces.images):
        crops[i] = _crop(crop if crop.ndim == 3 else np.repeat(crop[..., None], 3, 2), side, colour)
    return replace(faces, images=crops)
