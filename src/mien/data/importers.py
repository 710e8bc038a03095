"""Readers of the public forms of labelled face sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MissingExtraError, SourceNotFoundError
from ..labels import EIGHT, SEVEN

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LabelledFaces", "read_fer2013"]

# FER+ counts votes for neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not-a-face.
_FERPLUS_TO_EIGHT = (4, 5, 6, 1, 3, 2, 0, 7)
_UNSURE = (8, 9)


@dataclass(frozen=True, slots=True)
class LabelledFaces:
    """Face crops with their labels, held in memory.

    Attributes
    ----------
    images
        (N, 48, 48) uint8 grey.
    label
        (N,) int64, index into ``labels.SEVEN``; -1 where there is none.
    votes
        (N, 10) float32: votes for the eight labels of ``labels.EIGHT`` in their order, then unknown, then
        not-a-face. All zero where the set has no votes.
    split
        (N,) str: ``Training``, ``PublicTest`` or ``PrivateTest``.
    group
        (N,) int64; equal numbers mean pixel-equal pictures.
    name
        (N,) str, to find a face again.
    """

    images: NDArray[np.uint8]
    label: NDArray[np.int64]
    votes: NDArray[np.float32]
    split: NDArray[np.str_]
    group: NDArray[np.int64]
    name: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> LabelledFaces:
        return replace(self, **{f: getattr(self, f)[index] for f in self.__slots__})

    @classmethod
    def concat(cls, parts: Iterable[LabelledFaces]) -> LabelledFaces:
        """Join several sets, one after the other."""
        held = list(parts)
        return cls(**{f: np.concatenate([getattr(p, f) for p in held]) for f in cls.__slots__})

    def crowd(self) -> NDArray[np.float32]:
        """Return the taggers' vote distribution over the eight labels, (N, 8) float32; rows without votes are zero."""
        votes = self.votes[:, : len(EIGHT)]
        total = votes.sum(1, keepdims=True)
        return votes / np.maximum(total, 1)

    def crowd_weight(self) -> NDArray[np.float32]:
        """Return the share of votes that named one of the eight labels, (N,) float32 in [0, 1]."""
        total = self.votes.sum(1)
        share: NDArray[np.float32] = self.votes[:, : len(EIGHT)].sum(1) / np.maximum(total, 1)
        return share


def _decode_all(blobs: list[bytes]) -> NDArray[np.uint8]:
    out = np.empty((len(blobs), 48, 48), np.uint8)
    seen: dict[bytes, int] = {}
    for row, blob in enumerate(blobs):
        first = seen.setdefault(blob, row)
        if first != row:
            out[row] = out[first]
            continue
        picture = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_GRAYSCALE)
        if picture is None or picture.shape != (48, 48):
            msg = f"row {row}: expected a 48×48 picture, got {None if picture is None else picture.shape}"
            raise DataError(msg)
        out[row] = picture
    return out


def _pixel_groups(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(i.tobytes(), len(numbers)) for i in images], np.int64)


def _build(
    images: NDArray[np.uint8], label: NDArray[np.int64], votes: NDArray[np.float32], split: list[str], names: list[str]
) -> LabelledFaces:
    return LabelledFaces(
        images=images,
        label=label,
        votes=votes,
        split=np.array(split, np.str_),
        group=_pixel_groups(images),
        name=np.array(names, np.str_),
    )


def _read_parquet(path: Path) -> LabelledFaces:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    table = pq.read_table(path)
    missing = {"image", "label", "usage", "ferplus"} - set(table.column_names)
    if missing:
        msg = f"{path}: no column {', '.join(sorted(missing))}; it has {', '.join(table.column_names)}"
        raise DataError(msg)
    raw = np.array(table["ferplus"].to_pylist(), np.float32).reshape(-1, 10)
    return _build(
        _decode_all(table["image"].to_pylist()),
        np.array(table["label"].to_pylist(), np.int64),
        raw[:, _FERPLUS_TO_EIGHT + _UNSURE],
        table["usage"].to_pylist(),
        table["name"].to_pylist() if "name" in table.column_names else [str(i) for i in range(len(table))],
    )


def _read_votes(path: Path, n: int) -> NDArray[np.float32]:
    """Read FER+'s ``fer2013new.csv``, whose rows stand in the order of ``fer2013.csv``."""
    import csv

    votes = np.zeros((n, 10), np.float32)
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines))[1:]
    if len(rows) != n:
        msg = f"{path}: {len(rows)} rows of votes beside {n} faces; it must be FER+'s own fer2013new.csv"
        raise DataError(msg)
    for i, row in enumerate(rows):
        votes[i] = [float(v or 0) for v in row[2:12]]
    return votes[:, _FERPLUS_TO_EIGHT + _UNSURE]


def _read_csv(path: Path) -> LabelledFaces:
    import csv

    images, labels, splits = [], [], []
    with path.open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines, skipinitialspace=True)
        fields = {f.strip().lower(): f for f in reader.fieldnames or ()}
        missing = {"emotion", "pixels"} - set(fields)
        if missing:
            msg = f"{path}: no column {', '.join(sorted(missing))}; fer2013.csv has emotion, pixels, Usage"
            raise DataError(msg)
        for number, row in enumerate(reader, 2):
            pixels = np.array(row[fields["pixels"]].split(), np.int64)
            if pixels.size != 48 * 48:
                msg = f"{path}, line {number}: expected 2304 pixel values, got {pixels.size}"
                raise DataError(msg)
            images.append(pixels.astype(np.uint8).reshape(48, 48))
            labels.append(int(row[fields["emotion"]]))
            splits.append(row[fields["usage"]] if "usage" in fields else "Training")
    if not images:
        msg = f"{path}: the file holds no faces"
        raise DataError(msg)
    beside = path.with_name("fer2013new.csv")
    votes = _read_votes(beside, len(images)) if beside.is_file() else np.zeros((len(images), 10), np.float32)
    return _build(
        np.stack(images), np.array(labels, np.int64), votes, splits, [f"line {i + 2}" for i in range(len(images))]
    )


_FOLDER_SPLITS = {"train": "Training", "test": "PublicTest", "validation": "PublicTest", "val": "PublicTest"}


def _read_folders(root: Path) -> LabelledFaces:
    """Read ``root/[split/]<label>/*``: a folder a class, its name a label of FER2013 in any spelling."""
    images, labels, splits, names = [], [], [], []
    for file in sorted(root.rglob("*")):
        if not file.is_file() or file.parent.name not in SEVEN:
            continue
        picture = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        if picture is None:
            msg = f"{file}: not a picture"
            raise DataError(msg)
        images.append(cv2.resize(picture, (48, 48), interpolation=cv2.INTER_AREA))
        labels.append(SEVEN.index(file.parent.name))
        above = file.parent.parent.name
        splits.append(_FOLDER_SPLITS.get(above.lower(), above if above in {"PublicTest", "PrivateTest"} else "Training"))
        names.append(str(file.relative_to(root)))
    if not images:
        msg = f"{root}: no .parquet, no fer2013.csv, and no folders named by label ({', '.join(SEVEN.labels)})"
        raise DataError(msg)
    return _build(
        np.stack(images).astype(np.uint8),
        np.array(labels, np.int64),
        np.zeros((len(images), 10), np.float32),
        splits,
        names,
    )


def read_fer2013(path: str | Path, *, split: str | None = None) -> LabelledFaces:
    """Read FER2013 in any of its public forms.

    Parameters
    ----------
    path
        ``fer2013.csv`` or ``icml_face_data.csv`` (FER+ votes are taken from a ``fer2013new.csv`` beside it), a
        Parquet file with the columns ``image, label, usage, ferplus``, a folder with such files, or a folder with one
        folder a class, below a folder a split if there are splits.
    split
        Keep only this split: ``Training``, ``PublicTest`` or ``PrivateTest``.

    Returns
    -------
    LabelledFaces
        In the order of the files; pixel-equal pictures share a ``group``, also across splits and files.

    Raises
    ------
    SourceNotFoundError
        If there is nothing at ``path``.
    DataError
        If the form is not recognised, a row is damaged, or the split is empty; the message names the place.
    """
    root = Path(path)
    if not root.exists():
        msg = f"{root}: no such file or folder"
        raise SourceNotFoundError(msg)
    if root.is_file():
        faces = _read_parquet(root) if root.suffix == ".parquet" else _read_csv(root)
    elif parquet := sorted(root.glob("*.parquet")):
        faces = LabelledFaces.concat([_read_parquet(p) for p in parquet])
        faces = replace(faces, group=_pixel_groups(faces.images))
    else:
        tables = [p for p in (root / "fer2013.csv", root / "icml_face_data.csv") if p.is_file()]
        faces = _read_csv(tables[0]) if tables else _read_folders(root)
    if split is None:
        return faces
    chosen = faces[faces.split == split]
    if not len(chosen):
        msg = f"{root}: the split {split!r} is empty; it has {', '.join(sorted(set(faces.split.tolist())))}"
        raise DataError(msg)
    return chosen
