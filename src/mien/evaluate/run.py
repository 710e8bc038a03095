"""Measure an expression model on labelled faces, as the split is given and without pixel-equal twins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces, read_labelled
from ..errors import DataError
from ..models.expression import Expression, Reading
from ..zoo.card import Head
from .crowd import CrowdScores, crowd_scores
from .scores import ClassScore, LabelScores, label_scores
from .truth import CROWD, FER2013, Truth, truth, votes_for

__all__ = [
    "ALL",
    "ClassScore",
    "CrowdScores",
    "LabelScores",
    "Measurement",
    "PartScores",
    "Report",
    "Truth",
    "as_plain",
    "evaluate",
    "measure",
    "read_all",
    "truth",
    "undo_temperature",
]

ALL = "all"
"""The name of all faces together, where no split was asked for and the data has none to test on."""

_CHUNK = 256
_NOTHING: Mapping[str, str] = MappingProxyType({})
_TEST_NAMES = ("publictest", "test", "validation", "valid", "val")

Scores = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartScores:
    """Scores of ``n`` faces; a head is None where the model does not have it or no face has a label for it.

    ``fer2013`` and ``crowd`` are the heads of that name. ``labels`` is the one head of a model with a label set of its
    own; also the crowd head where the data has labels of its set and no votes.
    """

    n: int
    fer2013: LabelScores | None = None
    crowd: CrowdScores | None = None
    labels: LabelScores | None = None

    def heads(self) -> dict[str, LabelScores]:
        """Return the scores against one label a face of each head that was measured; the crowd's by first choice."""
        first = self.crowd.first_choice if self.crowd else None
        held = {"fer2013": self.fer2013, "labels": self.labels, "crowd": first}
        return {name: scores for name, scores in held.items() if scores is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A measurement.

    Attributes
    ----------
    model, sha256
        The model's name and that of its bytes.
    data, split
        What it was measured on; the split `ALL` is the whole data.
    as_given, deduplicated
        All faces of the split, and those left when faces that are pixel for pixel in another split are dropped and
        each picture counts once.
    also_elsewhere, repeated
        Faces that were dropped for either reason.
    notes
        What limits the measurement, a sentence each.
    """

    model: str
    sha256: str
    data: str
    split: str
    as_given: PartScores
    deduplicated: PartScores
    also_elsewhere: int
    repeated: int
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: what is NaN here is None there."""
        plain: dict[str, Any] = as_plain(asdict(self))
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A report with all that it was made from.

    Attributes
    ----------
    report
        The scores.
    expression
        The model.
    faces
        All splits.
    chosen
        The mask (N,) of the faces that were measured.
    kept
        (n,) which of the measured faces are left without twins.
    reading
        What the model says about the measured faces.
    """

    report: Report
    expression: Expression
    faces: LabelledFaces
    chosen: NDArray[np.bool_]
    kept: NDArray[np.intp]
    reading: Reading

    def measured(self) -> LabelledFaces:
        """Return the faces that were measured, without twins."""
        return self.faces[self.chosen][self.kept]

    def answers(self, part: str) -> tuple[Truth, Scores]:
        """Return what a part of ``report.deduplicated`` was held against, and the scores (n, K) of those faces.

        Parameters
        ----------
        part
            ``fer2013``, ``crowd`` or ``labels``.
        """
        held, name = truth(self.measured(), self.head(part)), self.head(part).name
        return held, held.held(self.reading.scores[name][self.kept])

    def head(self, part: str) -> Head:
        """Return the head that a part of ``report.deduplicated`` was measured by."""
        faces = self.measured()
        return next(h for h in self.expression.heads if _part_of(h, faces) == part and not _reason(faces, h))


def evaluate(
    model: str | Path | Expression,
    data: str | Path | LabelledFaces,
    *,
    split: str | None = None,
    merge: Mapping[str, str] = _NOTHING,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Measure an expression model on labelled faces.

    Parameters
    ----------
    model
        A bundled model's name, the path of an ``.onnx`` with its card beside it, or an open `Expression`.
    data
        See `data.importers.read_labelled`, or faces that were read already. The pictures are ready crops: they go
        straight to `models.prepare`.
    split
        The split to measure on; the others serve to find pixel-equal pictures. None: PublicTest if there is one, else
        the first of test, validation, valid and val that there is, else all faces; ``report.split`` says which.
    merge
        Where labels of the data go that the model's first head does not have: ``{"0": "neutral"}``.
    progress
        Called with the faces read so far and their number.

    Raises
    ------
    SourceNotFoundError, DataError
        If the data is absent, damaged, has no such split, or no face of it can be held against a head of the model.
    ModelError
        If the model cannot be used.
    """
    return measure(model, data, split=split, merge=merge, progress=progress).report


def measure(
    model: str | Path | Expression,
    data: str | Path | LabelledFaces,
    *,
    split: str | None = None,
    merge: Mapping[str, str] = _NOTHING,
    progress: Callable[[int, int], None] | None = None,
) -> Measurement:
    """Measure as `evaluate` does, and keep the faces and the scores of each."""
    expression = Expression(model) if isinstance(model, str | Path) else model
    faces = data if isinstance(data, LabelledFaces) else read_labelled(data)
    if merge:
        faces = faces.relabelled(expression.heads[0].labels, merge)
    name, mask = _choose(faces, split)
    chosen, other = faces[mask], faces[~mask]
    _check_heads(chosen, expression.heads)
    reading = read_all(expression, chosen.images, progress)
    elsewhere = np.isin(chosen.group, other.group)
    first = np.zeros(len(chosen), bool)
    first[np.unique(chosen.group, return_index=True)[1]] = True
    kept = np.flatnonzero(first & ~elsewhere)
    report = Report(
        model=expression.card.name,
        sha256=expression.card.sha256,
        data="faces" if isinstance(data, LabelledFaces) else Path(data).name,
        split=name,
        as_given=_part(chosen, reading, expression),
        deduplicated=_part(chosen[kept], reading[kept], expression),
        also_elsewhere=int(elsewhere.sum()),
        repeated=int((~elsewhere & ~first).sum()),
        notes=_notes(chosen, other, name, expression, asked=split is not None),
    )
    return Measurement(report=report, expression=expression, faces=faces, chosen=mask, kept=kept, reading=reading)


def read_all(
    expression: Expression, images: NDArray[np.uint8], progress: Callable[[int, int], None] | None = None
) -> Reading:
    """Read crops in blocks and tell of the progress.

    Parameters
    ----------
    images
        (N, H, W) or (N, H, W, 3) uint8.
    progress
        Called with the crops read so far and their number.
    """
    parts = []
    for start in range(0, max(len(images), 1), _CHUNK):
        parts.append(expression.read(images[start : start + _CHUNK]))
        if progress is not None:
            progress(min(start + _CHUNK, len(images)), len(images))
    return Reading.concat(parts)


def undo_temperature(scores: Scores, temperature: float) -> NDArray[np.float64]:
    """Return the scores (N, K) that the model would give without its temperature: ``scores ** T``, summing to 1."""
    raw = np.maximum(scores.astype(np.float64), 1e-30) ** temperature
    undone: NDArray[np.float64] = raw / raw.sum(1, keepdims=True)
    return undone


def as_plain(value: Any) -> Any:
    """Return nested values as JSON takes them: what is NaN here is None there."""
    if isinstance(value, Mapping):
        return {k: as_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _choose(faces: LabelledFaces, split: str | None) -> tuple[str, NDArray[np.bool_]]:
    if split is not None:
        faces.of_split(split)
        return split, faces.split == split
    held = {str(name).lower(): str(name) for name in np.unique(faces.split)}
    name = next((held[n] for n in _TEST_NAMES if n in held), None)
    return (ALL, np.ones(len(faces), bool)) if name is None else (name, faces.split == name)


def _check_heads(chosen: LabelledFaces, heads: tuple[Head, ...]) -> None:
    reasons = [reason for head in heads if (reason := _reason(chosen, head))]
    if len(reasons) == len(heads):
        raise DataError("; ".join(dict.fromkeys(reasons)))


def _reason(faces: LabelledFaces, head: Head) -> str:
    try:
        truth(faces, head)
    except DataError as error:
        return str(error)
    return ""


def _part_of(head: Head, faces: LabelledFaces) -> str:
    """Return the field of `PartScores` that a head's scores stand in."""
    if head.name == CROWD and (faces.votes > 0).any():
        return "crowd"
    return "fer2013" if head.name == FER2013 else "labels"


def _part(faces: LabelledFaces, reading: Reading, expression: Expression) -> PartScores:
    temperatures = dict(expression.card.temperatures)
    held: dict[str, Any] = {}
    for head in expression.heads:
        if _reason(faces, head):
            continue
        found, scores = truth(faces, head), reading.scores[head.name]
        before = undo_temperature(scores, temperatures.get(head.name, 1.0))
        part = _part_of(head, faces)
        if part == "crowd":
            held.setdefault(part, crowd_scores(found, votes_for(faces, head.labels), scores, before=before))
        else:
            scores_of = label_scores(
                found.label, found.held(scores), found.labels, before=found.held(before), target=found.target
            )
            held.setdefault(part, scores_of)
    return PartScores(n=len(faces), **held)


def _notes(
    chosen: LabelledFaces, other: LabelledFaces, split: str, expression: Expression, *, asked: bool
) -> tuple[str, ...]:
    notes = []
    if split == ALL and not asked:
        notes.append("the data has no split to test on: all faces were measured, those of training among them if any")
    if not len(other):
        notes.append(f"the data has only the split {split}: twins were looked for within it alone")
    notes += [reason for head in expression.heads if (reason := _reason(chosen, head))]
    notes += [f"{len(chosen.problems):,} pictures were left out, the first: {p}" for p in chosen.problems[:1]]
    absent = [label for i, label in enumerate(chosen.labels) if not (chosen.label == i).any()]
    if absent and len(absent) < len(chosen.labels):
        notes.append(f"no face is labelled {', '.join(absent)}: its recall is not a number")
    notes += [note for head in expression.heads if (note := _carried(chosen, head))]
    if not expression.card.temperatures:
        notes.append("the card names no temperatures: calibration before and after are the same")
    return tuple(notes)


def _carried(faces: LabelledFaces, head: Head) -> str:
    if _reason(faces, head):
        return ""
    held = truth(faces, head)
    if held.carry is not None:
        return f"the {head.name} head names {len(head.labels)} labels and is measured in the data's {len(held.labels)}"
    if _part_of(head, faces) != "crowd" and (faces.label >= 0).any() and faces.labels.labels != held.labels.labels:
        return f"the data's {len(faces.labels)} labels were carried to the {len(held.labels)} of the {head.name} head"
    return ""
