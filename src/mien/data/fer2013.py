"""FER2013's own forms: the tables of pixels, FER+'s votes beside them, and our Parquet. 48×48 grey, and strict."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MissingExtraError
from ..labels import SEVEN
from .faces import LabelledFaces, pixel_groups

__all__ = ["CSV_NAMES", "PARQUET_COLUMNS", "csv_rows", "open_parquet", "read_parquet", "read_pixels"]

SIDE = 48
CSV_NAMES = ("fer2013.csv", "icml_face_data.csv")
PARQUET_COLUMNS = ("image", "label", "usage", "ferplus")

# FER+ counts votes for neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not-a-face.
_FERPLUS_TO_EIGHT = (4, 5, 6, 1, 3, 2, 0, 7)
_UNSURE = (8, 9)
_NOT_DIGITS = {ord(c): None for c in "0123456789 \t"}
_CHUNK = 2048


def _label(value: object, where: str, *, lowest: int = 0) -> int:
    try:
        label = int(str(value))
    except ValueError:
        label = lowest - 1
    if not lowest <= label < len(SEVEN):
        msg = f"{where}: the label is {value!r}; FER2013 has 0 to {len(SEVEN) - 1}"
        raise DataError(msg)
    return label


def open_parquet(path: Path) -> Any:
    """Return the open ``pyarrow.parquet.ParquetFile``.

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    DataError
        If it is no Parquet file.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet") from error
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        msg = f"{path}: not a Parquet file ({str(error).splitlines()[0]})"
        raise DataError(msg) from error


def read_parquet(path: Path) -> LabelledFaces:
    """Read faces with the columns ``image, label, usage, ferplus`` and perhaps ``name``.

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    DataError
        If a column is missing or a row damaged; the message names the row.
    """
    table = open_parquet(path)
    named, n = table.schema_arrow.names, table.metadata.num_rows
    if missing := set(PARQUET_COLUMNS) - set(named):
        msg = f"{path}: no column {', '.join(sorted(missing))}; it has {', '.join(named)}"
        raise DataError(msg)
    if not n:
        msg = f"{path}: the file holds no faces"
        raise DataError(msg)
    images, votes = np.empty((n, SIDE, SIDE), np.uint8), np.empty((n, 10), np.float32)
    labels: list[int] = []
    splits: list[str] = []
    names: list[str] = []
    wanted = [*PARQUET_COLUMNS, *({"name"} & set(named))]
    for batch in table.iter_batches(_CHUNK, columns=wanted):
        first = len(labels)
        rows = slice(first, first + len(batch))
        images[rows] = _decode_all(batch["image"].to_pylist(), path, first)
        votes[rows] = _votes(batch["ferplus"].to_pylist(), path, first)
        labels += [_label(v, f"{path}, row {first + i}", lowest=-1) for i, v in enumerate(batch["label"].to_pylist())]
        splits += [str(v).strip() for v in batch["usage"].to_pylist()]
        names += [str(v) for v in (batch["name"].to_pylist() if "name" in named else range(rows.start, rows.stop))]
    return _build(images, labels, votes, splits, names)


def _build(
    images: NDArray[np.uint8], labels: list[int], votes: NDArray[np.float32], split: list[str], names: list[str]
) -> LabelledFaces:
    return LabelledFaces(
        images=images,
        label=np.array(labels, np.int64),
        votes=votes,
        split=np.array(split, np.str_),
        group=pixel_groups(images),
        name=np.array(names, np.str_),
    )


def _decode_all(blobs: list[bytes | None], path: Path, first: int) -> NDArray[np.uint8]:
    out = np.empty((len(blobs), SIDE, SIDE), np.uint8)
    for row, blob in enumerate(blobs):
        # OpenCV raises on nothing at all and returns nothing on anything else that is no picture.
        picture = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_GRAYSCALE) if blob else None
        if picture is None or picture.shape != (SIDE, SIDE):
            came = "no picture" if picture is None else f"{picture.shape[1]}×{picture.shape[0]}"
            msg = f"{path}, row {first + row}: expected a {SIDE}×{SIDE} picture, got {came}"
            raise DataError(msg)
        out[row] = picture
    return out


def _votes(rows: Sequence[list[float] | None], path: Path, first: int) -> NDArray[np.float32]:
    wrong = [i for i, row in enumerate(rows) if row is None or len(row) != 10 or None in row]
    if wrong:
        msg = f"{path}, row {first + wrong[0]}: expected 10 votes of FER+, got {rows[wrong[0]]}"
        raise DataError(msg)
    return np.array(rows, np.float32)[:, _FERPLUS_TO_EIGHT + _UNSURE]


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield a CSV file's lines that are not empty, with their numbers.

    Raises
    ------
    DataError
        If it is no text.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines, skipinitialspace=True)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: not a CSV file ({error})"
        raise DataError(msg) from error


def read_pixels(path: Path) -> LabelledFaces:
    """Read a table ``emotion, pixels, Usage``, and FER+'s votes from a ``fer2013new.csv`` beside it.

    Raises
    ------
    DataError
        If a column is missing or a row damaged, or the votes do not fit the faces; the message names the line.
    """
    pixels, labels, splits, names = bytearray(), [], [], []
    rows = csv_rows(path)
    place = _columns(next(rows, (1, []))[1], path)
    for number, row in rows:
        where = f"{path}, line {number}"
        if len(row) <= max(place.values()):
            msg = f"{where}: {len(row)} fields; expected {max(place.values()) + 1}, the file may be cut off"
            raise DataError(msg)
        pixels += _pixels(row[place["pixels"]], where)
        labels.append(_label(row[place["emotion"]].strip(), where))
        splits.append(row[place["usage"]].strip() if "usage" in place else "Training")
        names.append(f"line {number}")
    if not labels:
        msg = f"{path}: the file holds no faces"
        raise DataError(msg)
    beside, told = path.with_name("fer2013new.csv"), splits if "usage" in place else [""] * len(splits)
    votes = _read_votes(beside, told) if beside.is_file() else np.zeros((len(labels), 10), np.float32)
    return _build(np.frombuffer(pixels, np.uint8).reshape(-1, SIDE, SIDE), labels, votes, splits, names)


def _columns(header: list[str], path: Path) -> dict[str, int]:
    place = {name.strip().lower(): i for i, name in enumerate(header)}
    missing = {"emotion", "pixels"} - set(place)
    if missing:
        msg = f"{path}: no column {', '.join(sorted(missing))}; fer2013.csv has emotion, pixels, Usage"
        raise DataError(msg)
    return {name: place[name] for name in ("emotion", "pixels", "usage") if name in place}


def _pixels(text: str, where: str) -> bytes:
    if odd := text.translate(_NOT_DIGITS):
        msg = f"{where}: a pixel is not a number (there is {odd[0]!r})"
        raise DataError(msg)
    values = np.fromstring(text, np.int64, sep=" ") if text.strip() else np.zeros(0, np.int64)
    if values.size != SIDE * SIDE:
        msg = f"{where}: expected {SIDE * SIDE} pixel values, got {values.size}"
        raise DataError(msg)
    if values.max() > 255:
        msg = f"{where}: pixel values lie in 0 to 255, got {values.min()} to {values.max()}"
        raise DataError(msg)
    return values.astype(np.uint8).tobytes()


def _read_votes(path: Path, splits: list[str]) -> NDArray[np.float32]:
    """Read FER+'s ``fer2013new.csv``, whose rows stand in the order of ``fer2013.csv``."""
    rows = list(csv_rows(path))[1:]
    if len(rows) != len(splits):
        msg = f"{path}: {len(rows)} rows of votes beside {len(splits)} faces; it must be FER+'s own fer2013new.csv"
        raise DataError(msg)
    votes = np.zeros((len(rows), 10), np.float32)
    for i, ((number, row), split) in enumerate(zip(rows, splits, strict=True)):
        if split and row[0].strip() != split:
            msg = f"{path}, line {number}: votes of a face of {row[0]!r} beside a face of {split!r}; is it FER+'s own?"
            raise DataError(msg)
        try:
            votes[i] = [float(v or 0) for v in row[2:12]]
        except ValueError as error:
            msg = f"{path}, line {number}: expected usage, name and 10 votes, got {len(row)} fields ({error})"
            raise DataError(msg) from error
    return votes[:, _FERPLUS_TO_EIGHT + _UNSURE]
