"""`Faces`: what was found, one row a face, as parallel arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtraError, ShapeError
from ..labels import EIGHT, LabelSet
from .columns import ARRAYS, DERIVED, POINTS, Reason, scores_column

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["Faces"]


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """One row a face; a picture or frame without a face is a row with ``face == -1`` and a reason.

    Attributes
    ----------
    sources
        Names of the inputs; ``source`` points into them.
    labels
        The label set of ``expression``, K labels.
    source, frame, time, face, box, points, score, eyes, carried, track, reason
        Arrays of length N as `results.columns.ARRAYS` declares them.
    expression
        (N, K) float32, each in [0, 1], a row sums to 1, or NaN where the face was not read.

    Examples
    --------
    >>> faces = Faces.missing("wall.jpg", Reason.NO_FACE)
    >>> len(faces), faces.found.tolist(), faces.top.tolist()
    (1, [False], [''])
    """

    sources: tuple[str, ...]
    labels: LabelSet
    source: NDArray[np.int32]
    frame: NDArray[np.int64]
    time: NDArray[np.float64]
    face: NDArray[np.int32]
    box: NDArray[np.float32]
    points: NDArray[np.float32]
    score: NDArray[np.float32]
    eyes: NDArray[np.int16]
    carried: NDArray[np.bool_]
    track: NDArray[np.int64]
    reason: NDArray[np.uint16]
    expression: NDArray[np.float32]

    def __post_init__(self) -> None:
        n = len(self.source)
        shapes = {c.name: (n, *c.shape) for c in ARRAYS} | {"expression": (n, len(self.labels))}
        dtypes: dict[str, type[np.generic]] = {c.name: c.dtype for c in ARRAYS} | {"expression": np.float32}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtypes[name]:
                raise ShapeError(name, f"{shape} {np.dtype(dtypes[name])}", f"{array.shape} {array.dtype}")
        if n and not 0 <= int(self.source.min()) <= int(self.source.max()) < len(self.sources):
            raise ShapeError("source", f"indices below {len(self.sources)}", f"{self.source.min()}…{self.source.max()}")

    @classmethod
    def build(cls, n: int, *, sources: Sequence[str], labels: LabelSet = EIGHT, **arrays: Any) -> Faces:
        """Make a table of N rows from the arrays that are known; the others hold their declared missing value.

        A scalar, or the value of one row, is repeated; arrays are converted to the declared dtype.

        Raises
        ------
        ShapeError
            If an array does not have N rows of the declared shape, or no such column exists.
        """
        columns: dict[str, NDArray[Any]] = {}
        for c in ARRAYS:
            value = np.asarray(arrays.pop(c.name, c.missing), c.dtype)
            if value.shape in {(), c.shape}:
                value = np.array(np.broadcast_to(value, (n, *c.shape)))
            columns[c.name] = value
        scores = np.asarray(arrays.pop("expression", np.nan), np.float32)
        if scores.shape in {(), (len(labels),)}:
            scores = np.array(np.broadcast_to(scores, (n, len(labels))))
        if arrays:
            raise ShapeError("columns", ", ".join(c.name for c in ARRAYS), ", ".join(arrays))
        return cls(sources=tuple(sources), labels=labels, expression=scores, **columns)

    @classmethod
    def empty(cls, *, labels: LabelSet = EIGHT) -> Faces:
        """Return a table without rows."""
        return cls.build(0, sources=(), labels=labels)

    @classmethod
    def missing(
        cls, source: str, reason: Reason, *, frame: int = 0, time: float = float("nan"), labels: LabelSet = EIGHT
    ) -> Faces:
        """Return the one row of a picture or frame that gave no face."""
        return cls.build(1, sources=(source,), labels=labels, frame=frame, time=time, reason=int(reason))

    @classmethod
    def concat(cls, parts: Iterable[Faces]) -> Faces:
        """Join tables, one after the other; equal source names become one source.

        Raises
        ------
        ShapeError
            If the tables have different label sets.
        """
        held = list(parts)
        if not held:
            return cls.empty()
        labels = held[0].labels
        if any(p.labels != labels for p in held):
            raise ShapeError("labels", labels.name, ", ".join({p.labels.name for p in held}))
        numbers: dict[str, int] = {}
        for p in held:
            for name in p.sources:
                numbers.setdefault(name, len(numbers))
        columns = {name: np.concatenate([getattr(p, name) for p in held]) for name in _ROWS if name != "source"}
        source = [np.array([numbers[s] for s in p.sources], np.int32)[p.source] if len(p) else p.source for p in held]
        return cls(sources=tuple(numbers), labels=labels, source=np.concatenate(source), **columns)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int | slice | Sequence[int] | NDArray[np.bool_] | NDArray[np.integer[Any]]) -> Faces:
        """Return the chosen rows: a mask, indices, a slice, or one number for a table of one row."""
        chosen = np.atleast_1d(np.arange(len(self))[index])
        return replace(self, **{name: getattr(self, name)[chosen] for name in _ROWS})

    def __iter__(self) -> Iterator[Faces]:
        """Give the rows one by one, each a table of one row."""
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Equal when every row names the same source and holds the same values; NaN equals NaN."""
        if not isinstance(other, Faces):
            return NotImplemented
        return (
            len(self) == len(other)
            and self.labels == other.labels
            and self.source_names.tolist() == other.source_names.tolist()
            and all(_equal(getattr(self, name), getattr(other, name)) for name in _ROWS if name != "source")
        )

    __hash__ = None  # type: ignore[assignment]  # arrays can change

    def __repr__(self) -> str:
        named = [t for t in self.top.tolist() if t]
        words = ", ".join(f"{named.count(w)} {w}" for w in self.labels.labels if w in named)
        return f"<Faces: {len(self)} rows, {int(self.found.sum())} faces{': ' + words if words else ''}>"

    def with_(self, **columns: Any) -> Faces:
        """Return a copy with some columns replaced; shapes and dtypes are checked."""
        return replace(self, **columns)

    @property
    def found(self) -> NDArray[np.bool_]:
        """(N,) bool: the row is a face, not a note that there is none."""
        return self.face >= 0

    @property
    def read(self) -> NDArray[np.bool_]:
        """(N,) bool: the row has scores."""
        return np.asarray(~np.isnan(self.expression).any(axis=1), np.bool_)

    @property
    def named(self) -> NDArray[np.bool_]:
        """(N,) bool: the row names an expression; scores stand and are not below ``min_score``."""
        named: NDArray[np.bool_] = self.read & ((self.reason & int(Reason.LOW_SCORE)) == 0)
        return named

    @property
    def source_names(self) -> NDArray[np.str_]:
        """(N,) str: the name of each row's input."""
        return np.array(self.sources or ("",), np.str_)[self.source] if len(self) else np.array([], np.str_)

    def ranked(self, k: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Return label indices and scores (N, k), best first; equal scores in label order; NaN where not read."""
        order = np.argsort(-self.expression, axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(self.expression, order, 1)

    def _place(self, k: int) -> NDArray[np.str_]:
        names = (
            np.array(self.labels.labels, np.str_)[self.ranked(k + 1)[0][:, k]] if len(self) else np.array([], np.str_)
        )
        return np.where(self.named, names, "")

    @property
    def top(self) -> NDArray[np.str_]:
        """(N,) str: the label with the highest score, empty where none is named."""
        return self._place(0)

    @property
    def second(self) -> NDArray[np.str_]:
        """(N,) str: the label with the second score, empty where none is named."""
        return self._place(1)

    @property
    def top_score(self) -> NDArray[np.float32]:
        """(N,) float32: the highest score, NaN where not read."""
        return self.ranked(1)[1][:, 0]

    @property
    def margin(self) -> NDArray[np.float32]:
        """(N,) float32: first score less second, NaN where not read."""
        scores = self.ranked(2)[1]
        gap: NDArray[np.float32] = scores[:, 0] - scores[:, 1]
        return gap

    @property
    def reason_words(self) -> list[str]:
        """The reasons of each row as words joined by ``|``."""
        words = {r: Reason(r).words for r in set(self.reason.tolist())}
        return [words[r] for r in self.reason.tolist()]

    def records(self, *, exact: bool = False) -> list[dict[str, Any]]:
        """Return one dict a row of plain Python values, ready for JSON; what is missing is ``None``.

        Parameters
        ----------
        exact
            Keep every number to its last bit, and the labels of a face that was not read: what JSON Lines files hold.
            Otherwise numbers have six decimals, and the scores of a face that was not read are ``None``.
        """
        scores = scores_column(self.labels.labels)
        columns = {c.key: c.plain(getattr(self, c.name), exact=exact) for c in ARRAYS}
        columns["source"] = self.source_names.tolist()
        columns["points"] = [p and dict(zip(POINTS, p, strict=True)) for p in columns["points"]]
        del columns["reason"]  # it comes last
        nothing = (None,) * len(self.labels) if exact else None
        rows = [row or nothing for row in scores.plain(self.expression, exact=exact)]
        columns[scores.key] = [row and dict(zip(self.labels.labels, row, strict=True)) for row in rows]
        columns |= {c.key: c.plain(getattr(self, c.name), exact=exact) for c in DERIVED}
        columns["reason"] = [words.split("|") if words else [] for words in self.reason_words]
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_arrow(self) -> pa.Table:
        """Return a flat `pyarrow.Table`; needs the extra ``parquet``."""
        from .table import to_arrow

        return to_arrow(self)

    def to_pandas(self) -> pd.DataFrame:
        """Return a flat `pandas.DataFrame`; needs pandas."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtraError("pandas", "pandas") from error
        from .table import flat_columns

        return pd.DataFrame(flat_columns(self))


_ROWS = tuple(f.name for f in fields(Faces) if f.name not in {"sources", "labels"})


def _equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
