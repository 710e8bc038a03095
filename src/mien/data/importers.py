"""Labelled faces from whatever form they lie in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from ..errors import DataError, OptionError, SourceNotFoundError
from ..labels import SEVEN, LabelSet, canonical, named_labels
from .attributes import NAMES, is_attribute_table, list_attributes
from .balance import per_class as rows_per_class
from .faces import LabelledFaces
from .fer2013 import CSV_NAMES, PARQUET_COLUMNS, csv_rows, open_parquet, read_parquet, read_pixels
from .folders import list_folders
from .manifest import Manifest, read_manifest
from .pictures import SIDE, Colour, checked, load, resized, told

__all__ = ["LabelledFaces", "read_fer2013", "read_labelled"]

_NOTHING: Mapping[str, str] = MappingProxyType({})
_MANIFESTS = ("manifest.csv", "manifest.jsonl")


def read_labelled(
    path: str | Path,
    *,
    labels: LabelSet | None = None,
    split: str | None = None,
    merge: Mapping[str, str] = _NOTHING,
    drop: Collection[str] = (),
    attribute: str | None = None,
    per_class: int | None = None,
    seed: int = 0,
    side: int = SIDE,
    colour: Colour = "grey",
) -> LabelledFaces:
    """Read labelled faces in any form.

    Parameters
    ----------
    path
        FER2013 in the forms of `read_fer2013`; class folders of any labels, see `folders.list_folders`; a manifest, see
        `manifest.read_manifest`, or a folder with a ``manifest.csv``, a ``manifest.jsonl`` or Parquet files (a split
        that they do not name is then the file's name); a list of attributes in the form of CelebA, or a folder with
        one.
    labels
        The set that the labels and votes shall have; None: as they are. The labels of folders and manifests are found:
        ours in their order, then the others by name.
    split
        Keep only this split.
    merge, drop
        Where labels go that ``labels`` does not have, and labels whose faces are left out, see
        `LabelledFaces.relabelled`. Without ``labels``, the set becomes the labels that are left.
    attribute
        Of a list of attributes, the one that is the label; of a manifest, the column that is.
    per_class
        Keep so many faces of each class, drawn by ``seed`` before any picture is read.
    seed
        See ``per_class``.
    side, colour
        The size of the crops in pixels, and ``"grey"`` or ``"rgb"``. Pictures of any size are brought to it; EXIF
        orientation is respected.

    Returns
    -------
    LabelledFaces
        In the order of the files. A damaged or absent picture is left out and named in ``problems``; FER2013's own
        forms are strict instead. Splits are called as in `folders.split_names`.

    Raises
    ------
    SourceNotFoundError
        If there is nothing at ``path``.
    DataError
        If the form is not recognised, a row is damaged, there is one class alone, a label has no place, the split is
        empty, or not one picture can be used.
    OptionError
        If an option is impossible.
    MissingExtraError
        If the data is Parquet and pyarrow is not installed.
    """
    root = _present(path)
    checked(side, colour)

    def chosen(faces: LabelledFaces) -> LabelledFaces:
        with _named(root):
            target = labels or (_left(faces.labels, merge, drop) if merge or drop else None)
            faces = faces if target is None else faces.relabelled(target, merge, drop=drop)
            faces = faces if split is None else faces.of_split(split)
            if per_class is None:
                return faces
            return faces[rows_per_class(faces.label, per_class, seed=seed, names=faces.labels.labels)]

    manifest = _listed(root, attribute)
    if manifest is None:
        return resized(chosen(_fer2013_tables(root)), side=side, colour=colour)
    with _named(root):
        every = told(manifest)
    return load(chosen(every), manifest, side=side, colour=colour)


def read_fer2013(path: str | Path, *, split: str | None = None) -> LabelledFaces:
    """Read FER2013 in any of its public forms.

    Parameters
    ----------
    path
        ``fer2013.csv`` or ``icml_face_data.csv`` (FER+ votes are taken from a ``fer2013new.csv`` beside it), a
        Parquet file with the columns ``image, label, usage, ferplus``, a folder with such files, or a folder with one
        folder a class, below a folder a split if there are splits. A folder ``train`` is Training; ``validation`` or
        ``val`` is PublicTest; ``test`` is PublicTest, or PrivateTest where there is a validation folder beside it.
        Faces without a split are Training.
    split
        Keep only this split: ``Training``, ``PublicTest`` or ``PrivateTest``.

    Returns
    -------
    LabelledFaces
        In the order of the files, 48×48 grey, labels ``SEVEN``, votes ``EIGHT``; pixel-equal pictures share a
        ``group``, also across splits and files.

    Raises
    ------
    SourceNotFoundError
        If there is nothing at ``path``.
    DataError
        If the form is not recognised, a row or picture is damaged, or the split is empty; the message names the place.
    MissingExtraError
        If the data is Parquet and pyarrow is not installed.
    """
    root = _present(path)
    tables = root.is_file() or any(root.glob("*.parquet")) or any((root / name).is_file() for name in CSV_NAMES)
    faces = _fer2013_tables(root) if tables else _fer2013_folders(root)
    if split is None:
        return faces
    with _named(root):
        return faces.of_split(split)


def _present(path: str | Path) -> Path:
    root = Path(path)
    if not root.exists():
        msg = f"{root}: no such file or folder"
        raise SourceNotFoundError(msg)
    return root


@contextmanager
def _named(root: Path) -> Iterator[None]:
    """Put the name of the data before what is said of it."""
    try:
        yield
    except DataError as error:
        msg = f"{root}: {error}"
        raise DataError(msg) from None


def _left(labels: LabelSet, merge: Mapping[str, str], drop: Collection[str]) -> LabelSet:
    gone = {labels.index(name) for name in (*merge, *drop) if name in labels}
    kept = [name for i, name in enumerate(labels) if i not in gone]
    left = {canonical(name): name for name in kept}
    for name in merge.values():
        left.setdefault(canonical(name), name)
    return named_labels(left.values())


def _fer2013_tables(root: Path) -> LabelledFaces:
    if root.is_file():
        return read_parquet(root) if root.suffix.lower() == ".parquet" else read_pixels(root)
    if parquet := sorted(root.glob("*.parquet")):
        return LabelledFaces.concat([read_parquet(p) for p in parquet])
    return read_pixels(next(root / name for name in CSV_NAMES if (root / name).is_file()))


def _fer2013_folders(root: Path) -> LabelledFaces:
    listed = list_folders(root)
    odd = [i for i, name in enumerate(listed.label.tolist()) if name not in SEVEN]
    if len(odd) == len(listed):
        msg = f"{root}: no .parquet, no fer2013.csv, and no folders named by label ({', '.join(SEVEN.labels)})"
        raise DataError(msg)
    if odd:
        file = root / str(listed.path[odd[0]])
        msg = f"{file}: its folder is no label of FER2013 ({', '.join(SEVEN.labels)}); move it out of the data"
        raise DataError(msg)
    faces = load(told(listed, SEVEN), listed, side=SIDE, colour="grey")
    if faces.problems:
        raise DataError(faces.problems[0])
    return faces


# Which form it is


def _listed(root: Path, attribute: str | None) -> Manifest | None:
    """Return the list of pictures that ``root`` is, or None where it is one of FER2013's tables."""
    listed = _listed_file(root, attribute) if root.is_file() else _listed_folder(root, attribute)
    if listed is None and attribute is not None:
        msg = f"{root}: FER2013 has no attribute {attribute!r}; leave it out"
        raise OptionError(msg)
    return listed


def _listed_file(file: Path, attribute: str | None) -> Manifest | None:
    ending = file.suffix.lower()
    if ending == ".txt":
        return list_attributes(file, attribute)
    if ending == ".csv":
        header = {name.strip().lower() for name in next(csv_rows(file), (1, []))[1]}
        if {"emotion", "pixels"} <= header:
            return None
        if "label" not in header and is_attribute_table(file):
            return list_attributes(file, attribute)
    elif ending == ".parquet":
        if set(PARQUET_COLUMNS) <= set(open_parquet(file).schema_arrow.names):
            return None
    elif ending != ".jsonl":
        msg = f"{file}: no form of labelled faces; a file ends in .csv, .parquet, .jsonl, or .txt for attributes"
        raise DataError(msg)
    return read_manifest(file, label=attribute or "label")


def _listed_folder(root: Path, attribute: str | None) -> Manifest | None:
    if parquet := sorted(root.glob("*.parquet")):
        parts = {file.stem: _listed_file(file, attribute) for file in parquet}
        lists = {stem: part for stem, part in parts.items() if part is not None}
        if len(lists) not in {0, len(parts)}:
            msg = f"{root}: some of its Parquet files are FER2013's, but {next(iter(lists))} is not; name one file"
            raise DataError(msg)
        return _joined(lists) if lists else None
    if any((root / name).is_file() for name in CSV_NAMES):
        return None
    for name in (*_MANIFESTS, *NAMES):
        if (root / name).is_file():
            return _listed_file(root / name, attribute)
    return _class_folders(root, attribute)


def _joined(lists: Mapping[str, Manifest]) -> Manifest:
    if len(lists) == 1:
        return next(iter(lists.values()))
    # Files of one set are as a rule its splits: train.parquet, val.parquet.
    return Manifest.concat(
        [replace(part, split=np.where(part.split == "", stem, part.split)) for stem, part in lists.items()]
    )


def _class_folders(root: Path, attribute: str | None) -> Manifest:
    listed = list_folders(root)
    if not len(listed):
        forms = f"no .parquet, no {', no '.join((*CSV_NAMES, *_MANIFESTS, *NAMES[:2]))}, and no folders of pictures"
        msg = f"{root}: {forms}, one a label"
        raise DataError(msg)
    if attribute is not None:
        msg = f"{root}: class folders have no attribute {attribute!r}; leave it out"
        raise OptionError(msg)
    return listed
