"""Readers of the public forms of labelled face sets."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .. import image
from ..errors import DataError, MissingExtraError, SourceNotFoundError
from ..labels import SEVEN, LabelSet
from .faces import LabelledFaces, pixel_groups

__all__ = ["LabelledFaces", "read_fer2013", "read_labelled"]

SIDE = 48

# FER+ counts votes for neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not-a-face.
_FERPLUS_TO_EIGHT = (4, 5, 6, 1, 3, 2, 0, 7)
_UNSURE = (8, 9)
_CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}


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
        In the order of the files; pixel-equal pictures share a ``group``, also across splits and files.

    Raises
    ------
    SourceNotFoundError
        If there is nothing at ``path``.
    DataError
        If the form is not recognised, a row is damaged, or the split is empty; the message names the place.
    MissingExtraError
        If the data is Parquet and pyarrow is not installed.
    """
    root = Path(path)
    if not root.exists():
        msg = f"{root}: no such file or folder"
        raise SourceNotFoundError(msg)
    faces = _read_file(root) if root.is_file() else _read_folder(root)
    if split is None:
        return faces
    try:
        return faces.of_split(split)
    except DataError as error:
        msg = f"{root}: {error}"
        raise DataError(msg) from None


def read_labelled(path: str | Path, *, labels: LabelSet | None = None, split: str | None = None) -> LabelledFaces:
    """Read labelled faces in any form; ``labels`` is the set that they shall have."""
    faces = read_fer2013(path, split=split)
    return faces if labels is None else faces.relabelled(labels)


def _read_file(path: Path) -> LabelledFaces:
    return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)


def _read_folder(root: Path) -> LabelledFaces:
    if parquet := sorted(root.glob("*.parquet")):
        return LabelledFaces.concat([_read_parquet(p) for p in parquet])
    tables = [root / name for name in _CSV_NAMES if (root / name).is_file()]
    return _read_csv(tables[0]) if tables else _read_classes(root)


def _build(
    images: NDArray[np.uint8], label: NDArray[np.int64], votes: NDArray[np.float32], split: list[str], names: list[str]
) -> LabelledFaces:
    return LabelledFaces(
        images=images,
        label=label,
        votes=votes,
        split=np.array(split, np.str_),
        group=pixel_groups(images),
        name=np.array(names, np.str_),
    )


def _decoded(blob: bytes | None) -> NDArray[np.uint8] | None:
    # OpenCV raises on nothing at all and returns nothing on anything else that is no picture.
    picture = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_GRAYSCALE) if blob else None
    return None if picture is None else np.asarray(picture, np.uint8)


def _label(value: object, where: str, *, lowest: int = 0) -> int:
    try:
        label = int(str(value))
    except ValueError:
        label = lowest - 1
    if not lowest <= label < len(SEVEN):
        msg = f"{where}: the label is {value!r}; FER2013 has 0 to {len(SEVEN) - 1}"
        raise DataError(msg)
    return label


def _read_parquet(path: Path) -> LabelledFaces:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        msg = f"{path}: not a Parquet file ({str(error).splitlines()[0]})"
        raise DataError(msg) from error
    missing = {"image", "label", "usage", "ferplus"} - set(table.column_names)
    if missing:
        msg = f"{path}: no column {', '.join(sorted(missing))}; it has {', '.join(table.column_names)}"
        raise DataError(msg)
    if not len(table):
        msg = f"{path}: the file holds no faces"
        raise DataError(msg)
    labels = [_label(v, f"{path}, row {i}", lowest=-1) for i, v in enumerate(table["label"].to_pylist())]
    return _build(
        _decode_all(table["image"].to_pylist(), path),
        np.array(labels, np.int64),
        _parquet_votes(table["ferplus"].to_pylist(), path),
        [str(v).strip() for v in table["usage"].to_pylist()],
        [str(v) for v in (table["name"].to_pylist() if "name" in table.column_names else range(len(table)))],
    )


def _decode_all(blobs: list[bytes | None], path: Path) -> NDArray[np.uint8]:
    out = np.empty((len(blobs), SIDE, SIDE), np.uint8)
    seen: dict[bytes | None, int] = {}
    for row, blob in enumerate(blobs):
        first = seen.setdefault(blob, row)
        if first != row:
            out[row] = out[first]
            continue
        picture = _decoded(blob)
        if picture is None or picture.shape != (SIDE, SIDE):
            came = "no picture" if picture is None else f"{picture.shape[1]}×{picture.shape[0]}"
            msg = f"{path}, row {row}: expected a {SIDE}×{SIDE} picture, got {came}"
            raise DataError(msg)
        out[row] = picture
    return out


def _parquet_votes(rows: list[list[float] | None], path: Path) -> NDArray[np.float32]:
    wrong = [i for i, row in enumerate(rows) if row is None or len(row) != 10 or None in row]
    if wrong:
        msg = f"{path}, row {wrong[0]}: expected 10 votes of FER+, got {rows[wrong[0]]}"
        raise DataError(msg)
    return np.array(rows, np.float32)[:, _FERPLUS_TO_EIGHT + _UNSURE]


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield a CSV file's lines with their numbers; what is no text is a `DataError`."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines, skipinitialspace=True)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: not a CSV file ({error})"
        raise DataError(msg) from error


def _read_csv(path: Path) -> LabelledFaces:
    images, labels, splits, names = [], [], [], []
    rows = _rows(path)
    place = _columns(next(rows, (1, []))[1], path)
    for number, row in rows:
        where = f"{path}, line {number}"
        if len(row) <= max(place.values()):
            msg = f"{where}: {len(row)} fields; expected {max(place.values()) + 1}, the file may be cut off"
            raise DataError(msg)
        images.append(_pixels(row[place["pixels"]], where))
        labels.append(_label(row[place["emotion"]].strip(), where))
        splits.append(row[place["usage"]].strip() if "usage" in place else "Training")
        names.append(f"line {number}")
    if not images:
        msg = f"{path}: the file holds no faces"
        raise DataError(msg)
    beside = path.with_name("fer2013new.csv")
    votes = _read_votes(beside, len(images)) if beside.is_file() else np.zeros((len(images), 10), np.float32)
    return _build(np.stack(images), np.array(labels, np.int64), votes, splits, names)


def _columns(header: list[str], path: Path) -> dict[str, int]:
    place = {name.strip().lower(): i for i, name in enumerate(header)}
    missing = {"emotion", "pixels"} - set(place)
    if missing:
        msg = f"{path}: no column {', '.join(sorted(missing))}; fer2013.csv has emotion, pixels, Usage"
        raise DataError(msg)
    return {name: place[name] for name in ("emotion", "pixels", "usage") if name in place}


def _pixels(text: str, where: str) -> NDArray[np.uint8]:
    try:
        values = np.array(text.split(), np.int64)
    except ValueError as error:
        msg = f"{where}: a pixel is not a number ({error})"
        raise DataError(msg) from error
    if values.size != SIDE * SIDE:
        msg = f"{where}: expected {SIDE * SIDE} pixel values, got {values.size}"
        raise DataError(msg)
    if values.min() < 0 or values.max() > 255:
        msg = f"{where}: pixel values lie in 0 to 255, got {values.min()} to {values.max()}"
        raise DataError(msg)
    return values.astype(np.uint8).reshape(SIDE, SIDE)


def _read_votes(path: Path, n: int) -> NDArray[np.float32]:
    """Read FER+'s ``fer2013new.csv``, whose rows stand in the order of ``fer2013.csv``."""
    rows = list(_rows(path))[1:]
    if len(rows) != n:
        msg = f"{path}: {len(rows)} rows of votes beside {n} faces; it must be FER+'s own fer2013new.csv"
        raise DataError(msg)
    votes = np.zeros((n, 10), np.float32)
    for i, (number, row) in enumerate(rows):
        try:
            votes[i] = [float(v or 0) for v in row[2:12]]
        except ValueError as error:
            msg = f"{path}, line {number}: expected usage, name and 10 votes, got {len(row)} fields ({error})"
            raise DataError(msg) from error
    return votes[:, _FERPLUS_TO_EIGHT + _UNSURE]


def _read_classes(root: Path) -> LabelledFaces:
    files = sorted(f for f in root.rglob("*") if f.suffix.lower() in _PICTURES and f.is_file())
    if not any(f.parent.name in SEVEN for f in files):
        msg = f"{root}: no .parquet, no fer2013.csv, and no folders named by label ({', '.join(SEVEN.labels)})"
        raise DataError(msg)
    splits = _folder_splits({f.parent.parent.name for f in files})
    return _build(
        np.stack([_picture(f) for f in files]),
        np.array([_folder_label(f) for f in files], np.int64),
        np.zeros((len(files), 10), np.float32),
        [splits[f.parent.parent.name] for f in files],
        [str(f.relative_to(root)) for f in files],
    )


def _picture(file: Path) -> NDArray[np.uint8]:
    picture = _decoded(file.read_bytes())
    if picture is None:
        msg = f"{file}: not a picture"
        raise DataError(msg)
    return picture if picture.shape == (SIDE, SIDE) else image.resize(picture, SIDE, SIDE)


def _folder_label(file: Path) -> int:
    if file.parent.name not in SEVEN:
        msg = f"{file}: its folder is no label of FER2013 ({', '.join(SEVEN.labels)}); move it out of the data"
        raise DataError(msg)
    return SEVEN.index(file.parent.name)


def _folder_splits(names: set[str]) -> dict[str, str]:
    lower = {name.lower() for name in names}
    held_out = "PrivateTest" if lower & {"validation", "val"} else "PublicTest"
    known = {
        "train": "Training",
        "validation": "PublicTest",
        "val": "PublicTest",
        "test": held_out,
        "publictest": "PublicTest",
        "privatetest": "PrivateTest",
    }
    return {name: known.get(name.lower(), "Training") for name in names}
