"""The face table laid flat: one column a number or word, as arrays or as an Arrow table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MissingExtraError
from ..labels import LABEL_SETS, LabelSet
from .columns import ARRAYS, DERIVED, Column, Reason, flat, flat_names, scores_column
from .faces import Faces

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "as_array",
    "flat_columns",
    "from_arrow",
    "from_flat",
    "known_set",
    "labels_in",
    "needed_pyarrow",
    "schema",
    "to_arrow",
]

_LABELS_KEY = b"mien.labels"


def flat_columns(faces: Faces) -> dict[str, NDArray[Any]]:
    """Return the flat table as arrays (N,), by name, in the order of `results.columns.flat_names`.

    Sources are names, reasons are words joined by ``|``, boxes and points are split into numbers; missing numbers are
    what `results.columns` declares (NaN, −1), missing labels are empty strings.
    """
    values: dict[str, NDArray[Any]] = {}
    for c in (*ARRAYS, scores_column(faces.labels.labels), *DERIVED):
        array = faces.expression if c.name == "scores" else getattr(faces, c.name)
        values |= dict(zip(c.names, array.reshape(len(faces), len(c.names)).T, strict=True))
    values["source"] = faces.source_names
    values["reason"] = np.array(faces.reason_words, np.str_)
    return {name: values[name] for name in flat_names(faces.labels.labels)}


def from_flat(columns: Mapping[str, NDArray[Any]], labels: LabelSet) -> Faces:
    """Undo `flat_columns`; what is derived is left aside."""
    names = columns["source"].tolist()
    numbers = {name: i for i, name in enumerate(dict.fromkeys(names))}
    reasons = {words: int(Reason.parse(words)) for words in set(columns["reason"].tolist())}
    arrays: dict[str, Any] = {
        "source": np.array([numbers[n] for n in names], np.int32),
        "reason": np.array([reasons[w] for w in columns["reason"].tolist()], np.uint16),
    }
    for c in (*ARRAYS, scores_column(labels.labels)):
        if c.name not in arrays:
            parts = [columns[name] for name in c.names]
            arrays[c.name] = np.stack(parts, 1).reshape(len(names), *c.shape)
    return Faces.build(len(names), sources=tuple(numbers), labels=labels, expression=arrays.pop("scores"), **arrays)


def as_array(values: Sequence[Any], column: Column, parse: Callable[[Any], Any] = lambda value: value) -> NDArray[Any]:
    """Return plain values, ``None`` where missing, as the array of a flat column."""
    with _column(column.name):
        if not column.nullable and None in values:
            raise KeyError(None)
        return np.array([column.missing if v is None else parse(v) for v in values], column.dtype)


@contextmanager
def _column(name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, OverflowError, NotImplementedError) as error:
        msg = f"column {name}: {error} is not a value of that column"
        raise DataError(msg) from error


def labels_in(names: Sequence[str], wanted: LabelSet | None, *, called: str | None = None) -> LabelSet:
    """Find the label set of a header: the labels stand between the fixed columns."""
    fixed = flat_names(())
    before, after = fixed[: fixed.index(DERIVED[0].name)], DERIVED[0].name
    lacking = [n for n in fixed if n not in names]
    if lacking:
        msg = f"not a table of faces, it lacks the columns {', '.join(lacking)}"
        raise DataError(msg)
    return known_set(tuple(names[names.index(before[-1]) + 1 : names.index(after)]), wanted, called=called)


def known_set(labels: tuple[str, ...], wanted: LabelSet | None, *, called: str | None = None) -> LabelSet:
    """Return the label set of these labels: the wanted one, one that mien knows, or a set of its own."""
    if wanted is not None:
        if wanted.labels != labels:
            msg = f"holds the labels {', '.join(labels)}, not {', '.join(wanted.labels)}"
            raise DataError(msg)
        return wanted
    known = next((s for s in LABEL_SETS.values() if s.labels == labels), None)
    return LabelSet(called, labels) if called else known or LabelSet("custom", labels)


# Arrow


def needed_pyarrow(extra: str = "parquet") -> Any:
    """Return pyarrow, or say that ``extra`` brings it."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra) from error
    return pyarrow


def schema(labels: LabelSet) -> pa.Schema:
    """Return the Arrow schema of a label set: types, units and docs from the declared columns."""
    arrow = needed_pyarrow()
    fields = [
        arrow.field(
            c.name,
            arrow.string() if c.dtype is np.str_ else arrow.from_numpy_dtype(c.dtype),
            nullable=c.nullable,
            metadata={"unit": c.unit, "doc": c.doc},
        )
        for c in flat(labels.labels).values()
    ]
    schema: pa.Schema = arrow.schema(fields, {_LABELS_KEY: json.dumps({"name": labels.name, "labels": labels.labels})})
    return schema


def to_arrow(faces: Faces) -> pa.Table:
    """Return a flat Arrow table: fields with unit and doc, the label set in the schema's metadata, null where missing.

    Arrow holds UTF-8 only, so the odd bytes of a file name that is something else are written out as escapes.

    Raises
    ------
    MissingExtraError
        If pyarrow is not installed.
    """
    arrow = needed_pyarrow()
    form = schema(faces.labels)
    columns = flat_columns(faces)
    columns["source"] = np.array([_utf8(n) for n in columns["source"].tolist()], np.str_)
    arrays = [
        arrow.array(values, form.field(name).type, mask=flat(faces.labels.labels)[name].lacks(values))
        for name, values in columns.items()
    ]
    table: pa.Table = arrow.Table.from_arrays(arrays, schema=form)
    return table


def _utf8(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def from_arrow(table: pa.Table, *, labels: LabelSet | None = None) -> Faces:
    """Return the faces of a flat Arrow table; further columns are left aside.

    Parameters
    ----------
    labels
        The label set that the table must have; without it, it is found from the table.

    Raises
    ------
    DataError
        If columns are missing, hold something else, or have other labels.
    """
    held = json.loads((table.schema.metadata or {}).get(_LABELS_KEY, b"{}"))
    found = labels_in(table.column_names, labels, called=held.get("name"))
    columns = {name: _from_column(table.column(name), c) for name, c in flat(found.labels).items()}
    return from_flat(columns, found)


def _from_column(values: pa.ChunkedArray[Any], column: Column) -> NDArray[Any]:
    if column.dtype is np.str_ or (values.null_count and not column.nullable):
        return as_array(values.to_pylist(), column)
    with _column(column.name):
        filled = values.fill_null(np.asarray(column.missing, column.dtype).item())
        out: NDArray[Any] = filled.to_numpy().astype(column.dtype)
        return out
