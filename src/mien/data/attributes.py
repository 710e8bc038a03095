"""Lists of yes-or-no attributes in the form of CelebA: one of them becomes a set of two labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, OptionError
from .fer2013 import csv_rows
from .manifest import PATHS, Manifest

__all__ = ["NAMES", "is_attribute_table", "list_attributes"]

NAMES = ("list_attr_celeba.txt", "list_attr_celeba.csv", "Anno/list_attr_celeba.txt")
"""What the list is called in a copy of CelebA."""

_VALUES = {"-1": 0, "0": 0, "1": 1}
_FIRST = {"image_id", "image", "name", "id", "", *PATHS}
_FOLDERS = (
    ".",
    "img_align_celeba",
    "img_align_celeba/img_align_celeba",
    "img_celeba",
    "images",
    "../Img/img_align_celeba",
    "../img_align_celeba",
)
_PARTITION = ("Training", "PublicTest", "PrivateTest")
_LOOKED_AT = 50


def is_attribute_table(path: Path) -> bool:
    """Return whether a CSV file has a picture and then only 1 and -1, or 1 and 0, in its first row."""
    rows = csv_rows(path)
    header, row = next(rows, (1, []))[1], next(rows, (2, []))[1]
    return bool(row[1:]) and header[0].strip().lower() in _FIRST and all(cell.strip() in _VALUES for cell in row[1:])


def list_attributes(path: Path, attribute: str | None) -> Manifest:
    """List the pictures of a CelebA-style attribute list.

    Parameters
    ----------
    path
        ``list_attr_celeba.txt`` (the number of pictures, a line of names, then ``000001.jpg -1 1 …``) or a CSV file
        with a header. The pictures lie beside it or in one of the folders of CelebA. ``identity_CelebA.txt`` beside it
        names the persons, ``list_eval_partition.txt`` or ``.csv`` the splits.
    attribute
        The attribute that becomes the label: ``Smiling`` gives the labels ``not_smiling`` and ``smiling``. None where
        the list has only one.

    Returns
    -------
    Manifest
        The other attributes are columns of ``yes`` and ``no``.

    Raises
    ------
    OptionError
        If the attribute is not in the list, or none is named and there are several; the message lists them.
    DataError
        If a row is damaged, rows are missing, or none of the first pictures is found.
    """
    names, files, values = _read(path)
    chosen = _column(names, attribute, path)
    label = names[chosen].lower()
    shown = [np.where(column, "yes", "no") for column in values.T]
    return Manifest(
        path=np.array(files, np.str_),
        label=np.where(values[:, chosen], label, f"not_{label}"),
        person=_beside(path, "identity_CelebA", files),
        split=_partition(path, files),
        columns={name.lower(): shown[i] for i, name in enumerate(names) if i != chosen},
        root=_folder(path, files),
    )


def _read(path: Path) -> tuple[list[str], list[str], NDArray[np.bool_]]:
    rows = _text_rows(path) if path.suffix.lower() == ".txt" else csv_rows(path)
    expected = _count(path, rows) if path.suffix.lower() == ".txt" else None
    header = next(rows, (1, []))[1]
    names = [n.strip() for n in (header if expected is not None else header[1:])]
    files, values = [], bytearray()
    for number, (file, *cells) in rows:
        if len(cells) != len(names):
            msg = f"{path}, line {number}: {len(cells)} values; there are {len(names)} attributes"
            raise DataError(msg)
        try:
            values += bytes(_VALUES[cell.strip()] for cell in cells)
        except KeyError as error:
            msg = f"{path}, line {number}: the value {error.args[0]!r}; an attribute is 1 or -1"
            raise DataError(msg) from error
        files.append(file.strip())
    if not files or len(files) != (len(files) if expected is None else expected):
        msg = f"{path}: {len(files)} rows{f', but its first line says {expected}' if expected else ''}; is it cut off?"
        raise DataError(msg)
    return names, files, np.frombuffer(values, np.uint8).reshape(len(files), len(names)) > 0


def _text_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if cells := line.split():
                    yield number, cells
    except UnicodeDecodeError as error:
        msg = f"{path}: not a list of attributes ({error})"
        raise DataError(msg) from error


def _count(path: Path, rows: Iterator[tuple[int, list[str]]]) -> int:
    first = next(rows, (1, [""]))[1]
    if len(first) != 1 or not first[0].isdecimal():
        msg = (
            f"{path}: its first line is {' '.join(first)[:40]!r}; a list of attributes begins with a number of pictures"
        )
        raise DataError(msg)
    return int(first[0])


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _column(names: list[str], attribute: str | None, path: Path) -> int:
    if attribute is None and len(names) == 1:
        return 0
    place = {_plain(name): i for i, name in enumerate(names)}
    if attribute is None or _plain(attribute) not in place:
        asked = f"no attribute {attribute!r}" if attribute else "name one attribute, as with --attribute Smiling"
        msg = f"{path}: {asked}; there are: {', '.join(names)}"
        raise OptionError(msg)
    return place[_plain(attribute)]


def _beside(path: Path, stem: str, files: list[str]) -> NDArray[np.str_]:
    """Return the second column of a list beside this one for each file; "" where there is none."""
    places = [
        folder / f"{stem}{end}" for folder in (path.parent, path.parent.parent / "Eval") for end in (".txt", ".csv")
    ]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        return np.zeros(len(files), np.str_)
    rows = _text_rows(found) if found.suffix == ".txt" else csv_rows(found)
    told = {row[0].strip(): row[1].strip() for _, row in rows if len(row) > 1}
    return np.array([told.get(file, "") for file in files], np.str_)


def _partition(path: Path, files: list[str]) -> NDArray[np.str_]:
    number = _beside(path, "list_eval_partition", files)
    if odd := set(number.tolist()) - {"", "0", "1", "2"}:
        msg = f"{path}: a split of CelebA is 0, 1 or 2, list_eval_partition has {min(odd)!r}"
        raise DataError(msg)
    return np.array([_PARTITION[int(n)] if n else "" for n in number.tolist()], np.str_)


def _folder(path: Path, files: list[str]) -> Path:
    for folder in _FOLDERS:
        if any((path.parent / folder / file).is_file() for file in files[:_LOOKED_AT]):
            return path.parent / folder
    msg = f"{path}: {files[0]} and the next pictures lie neither beside it nor in {', '.join(_FOLDERS[1:4])}"
    raise DataError(msg)
