"""Class folders: one folder a label, below one folder a split if there are splits, above one folder a person."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..labels import EIGHT, canonical
from .manifest import Manifest

__all__ = ["list_folders", "split_names"]

# What cannot be read is listed all the same, so that it is named as left out.
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jxl"}

_HELD_OUT = {"validation", "valid", "val", "dev", "publictest"}
_TRAINING = {"", "train", "training"}
_TEST = {"test", "testing"}
_SPLITS = _HELD_OUT | _TEST | {"train", "training", "privatetest"}


def split_names(names: Iterable[str]) -> dict[str, str]:
    """Return what the splits of a set are called here.

    Nothing and ``train`` are ``Training``; ``validation`` is ``PublicTest``; ``test`` is ``PublicTest``, or
    ``PrivateTest`` where there is a validation split beside it. Any other name stays.

    >>> split_names(["train", "val", "test", "fold 3"])
    {'train': 'Training', 'val': 'PublicTest', 'test': 'PrivateTest', 'fold 3': 'fold 3'}
    """
    held = list(names)
    test = "PrivateTest" if {n.lower() for n in held} & _HELD_OUT else "PublicTest"
    known = dict.fromkeys(_TRAINING, "Training") | dict.fromkeys(_HELD_OUT, "PublicTest") | dict.fromkeys(_TEST, test)
    known["privatetest"] = "PrivateTest"
    return {name: known.get(name.lower(), name) for name in held}


def list_folders(root: Path) -> Manifest:
    """List the pictures of class folders.

    Parameters
    ----------
    root
        ``root/happy/x.png``; or ``root/train/happy/x.png`` where at least one folder of the first level is named as a
        split; or either with a folder of the person above the picture, where there are two or more persons. One more
        folder around all of it makes no difference. Hidden files are not looked at.

    Returns
    -------
    Manifest
        With 0 rows if there are no such folders. A picture that lies in no class folder is among the problems.
    """
    files = sorted(f.relative_to(root) for f in root.rglob("*") if f.suffix.lower() in _PICTURES and f.is_file())
    listed = [f.parts for f in files if not any(part.startswith(".") for part in f.parts)]
    outer = _around(listed)
    inner = [parts[outer:] for parts in listed]
    deep = int(any(parts[0].lower() in _SPLITS for parts in inner if len(parts) > 1))
    used = [i for i, parts in enumerate(inner) if len(parts) > deep + 1]
    loose = [root.joinpath(*listed[i]) for i, parts in enumerate(inner) if len(parts) <= deep + 1]
    return Manifest(
        path=np.array([Path(*listed[i]).as_posix() for i in used], np.str_),
        label=np.array([inner[i][deep] for i in used], np.str_),
        person=np.array(_persons([inner[i][deep + 1 : -1] for i in used]), np.str_),
        split=np.array([inner[i][0] if deep else "" for i in used], np.str_),
        root=root,
        problems=tuple(f"{file}: lies in no folder of a class" for file in loose),
    )


def _around(listed: list[tuple[str, ...]]) -> int:
    """Return how many folders stand around the splits or classes."""
    outer = 0
    while listed and all(len(parts) > outer + 2 for parts in listed):
        here, below = ({parts[i] for parts in listed} for i in (outer, outer + 1))
        if len(here) > 1 or _known(here) or not _known(below):
            break
        outer += 1
    return outer


def _known(names: set[str]) -> bool:
    return any(name.lower() in _SPLITS for name in names) or all(canonical(name) in EIGHT for name in names)


def _persons(between: list[tuple[str, ...]]) -> list[str]:
    persons = [folders[0] if folders else "" for folders in between]
    return persons if len(set(persons) - {""}) > 1 else [""] * len(persons)
