"""The shapes of questions and answers; what is said of a face follows from `results.columns`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from ..results.columns import ARRAYS, DERIVED, POINTS, Column, Reason, scores_column
from ..results.faces import Faces
from .picture import Found
from .problem import Problem

__all__ = [
    "HINTS",
    "INCLUDED",
    "UNDECIDED",
    "Analysis",
    "ErrorOfPicture",
    "FaceRecord",
    "ModelNamed",
    "Options",
    "PictureRead",
    "StreamFaces",
    "StreamOptions",
    "StreamReady",
    "picture_failed",
    "picture_read",
    "reasons_of",
    "records",
]

UNDECIDED = 0.5
"""Below this best score fewer than half of people would give the label."""

INCLUDED = ("annotated", "csv", "crops")
"""What an answer holds only when it is asked for."""

_KINDS: Mapping[str, type] = MappingProxyType({"f": float, "i": int, "u": int, "b": bool, "U": str})

HINTS: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.NO_FACE: (
            "No face was found. Try a picture in which the face is larger, lit from the front, seen from the front "
            "and upright, and not covered by hands, hair, a mask or dark glasses."
        ),
        Reason.UNREADABLE: "The picture could not be decoded. Save it again as JPEG or PNG.",
        Reason.TOO_SMALL: "The face is too small to be read. Come closer, or send the picture in its full size.",
        Reason.BLURRED: "The face has no fine detail. Hold still, focus on it, or send a less compressed picture.",
        Reason.TOO_DARK: "The face is nearly black. Turn it to the light.",
        Reason.TOO_BRIGHT: "The face is nearly white. Take the picture with less light, or away from the lamp.",
        Reason.TURNED_AWAY: "The face is seen from the side. Turn it to the camera.",
        Reason.CUT: "The border of the picture cuts the face. Show all of it.",
        Reason.LOW_SCORE: "No label reaches min_score: people would not agree here. The scores stand all the same.",
    }
)
"""What to try, by the reason why no expression is named."""


# What may be asked


class Options(BaseModel):
    """Options of an analysis: query parameters, fields of a form, or ``options`` of a JSON body."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: str | None = Field(
        None,
        max_length=40,
        description="Label set of the scores: eight, seven, six, five or three with the bundled model.",
        examples=["seven"],
    )
    min_score: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="Name no label when the best score is lower."
    )
    best_only: bool | None = Field(None, description="Read only the face with the best detector score.")
    include: str = Field(
        "",
        max_length=100,
        description="What the answer shall hold besides, with commas between: annotated, csv, crops.",
        examples=["annotated,crops"],
    )
    format: Literal["json", "csv", "jsonl", "parquet", "jpeg"] = Field(
        "json", description="The body of the answer; jpeg is the annotated picture, of one picture only."
    )

    @field_validator("include")
    @classmethod
    def _known(cls, value: str) -> str:
        if unknown := [w for w in _words(value) if w not in INCLUDED]:
            msg = f"unknown part {unknown[0][:40]!r}; choose of: {', '.join(INCLUDED)}"
            raise ValueError(msg)
        return value

    @property
    def parts(self) -> frozenset[str]:
        """What the answer shall hold besides."""
        return frozenset(_words(self.include))


class StreamOptions(BaseModel):
    """Options of a camera: a text message, at any time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: str | None = Field(None, max_length=40, description="Label set of the scores.")
    min_score: float | None = Field(None, ge=0, le=1, allow_inf_nan=False, description="Least score of a named label.")
    best_only: bool | None = Field(None, description="Read only the face with the best detector score.")


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]


# What is answered


class _Points(BaseModel):
    """Five points of a face, x and y in pixels; right and left are the person's own."""


def _type(column: Column) -> Any:
    kind: Any = _KINDS[np.dtype(column.dtype).kind]
    if column.name == "points":
        pair = tuple[float | None, float | None]
        kind = create_model("FacePoints", __base__=_Points, **dict.fromkeys(POINTS, (pair | None, ...)))  # type: ignore[call-overload]  # its fields are known only here
    elif column.name == "scores":
        kind = dict[str, float]
    elif column.shape:
        kind = list[kind | None]
    return kind | None if column.nullable or column.name == "scores" else kind


def _fields() -> dict[str, Any]:
    """Return the fields of a record as `Faces.records` gives them."""
    columns = [c for c in ARRAYS if c.name != "reason"]
    fields: dict[str, Any] = {}
    for c in (*columns, scores_column(("",)), *DERIVED):
        unit = f" Unit: {c.unit}." if c.unit not in {"", "1", "label"} else ""
        fields[c.key] = (_type(c), Field(description=c.doc.replace("`", "") + unit))
    fields["source"] = (str, Field(description="Name of the picture."))
    reason = next(c for c in ARRAYS if c.name == "reason")
    fields["reason"] = (list[str], Field(description=reason.doc))
    return fields


class FaceRecord(create_model("_FaceColumns", **_fields())):  # type: ignore[misc]  # its columns are declared in results.columns
    """One face."""

    undecided: bool | None = Field(
        None, description=f"The best score is below {UNDECIDED}: fewer than half of people would give that label."
    )
    crop: str | None = Field(None, description="The face as it was read, JPEG in base64, if crops were asked for.")


class ModelNamed(BaseModel):
    """Which model read the faces."""

    name: str
    sha256: str = Field(description="Of the file of its weights.")


class ErrorOfPicture(BaseModel):
    """Why one picture among several gave nothing."""

    code: str
    message: str


class PictureRead(BaseModel):
    """What came of one picture."""

    name: str = Field(description="As it was sent; a name that came before has a number behind it.")
    width: int | None = Field(description="Pixels.")
    height: int | None = Field(description="Pixels.")
    seconds: float | None = Field(description="From its turn to its faces.")
    faces: list[FaceRecord] = Field(description="Best detector score first.")
    more_faces: int = Field(0, description="Faces that were found beside these and not read: the limit is reached.")
    reasons: list[str] = Field(description="Why no expression is named, of the whole picture; empty when one is.")
    hint: str | None = Field(description="What to try when no expression is named.")
    annotated: str | None = Field(
        None, description="The picture with its faces drawn into it, as a data: address, if it was asked for."
    )
    error: ErrorOfPicture | None = Field(None, description="Why the picture could not be read.")


class Analysis(BaseModel):
    """What came of a request."""

    model: ModelNamed
    labels: list[str] = Field(description="The labels of all scores, in order.")
    pictures: list[PictureRead] = Field(description="In the order in which they were sent.")
    csv: str | None = Field(None, description="All rows as CSV, if it was asked for.")


class StreamReady(BaseModel):
    """First message of the service to a camera, and its answer to every message with options."""

    type: Literal["ready"] = "ready"
    labels: list[str]
    colours: list[str] = Field(description="Of each label, #rrggbb.")


class StreamFaces(BaseModel):
    """Answer to a frame."""

    type: Literal["faces"] = "faces"
    frame: int = Field(description="Number of the frame as it was sent, from 0.")
    dropped: int = Field(description="Frames so far in whose place newer ones were read.")
    width: int
    height: int
    milliseconds: float = Field(description="From its arrival to its faces.")
    faces: list[FaceRecord]
    more_faces: int = 0
    reasons: list[str]
    hint: str | None


def records(faces: Faces, crops: tuple[bytes, ...] = ()) -> list[dict[str, Any]]:
    """Return the faces of a picture, `FaceRecord` each."""
    found = faces[faces.found]
    best = found.expression.max(1) if len(found) else np.empty(0, np.float32)
    held: list[dict[str, Any]] = []
    for i, (record, score) in enumerate(zip(found.records(), best.tolist(), strict=True)):
        record["undecided"] = None if score != score else score < UNDECIDED  # NaN: it was not read
        record["crop"] = base64.b64encode(crops[i]).decode("ascii") if crops else None
        held.append(record)
    return held


def reasons_of(faces: Faces) -> tuple[list[str], str | None]:
    """Return why a picture names no expression, and what to try; nothing where it names one."""
    if faces.named.any():
        return [], None
    flags = Reason(int(np.bitwise_or.reduce(faces.reason, initial=0)))
    found = [r for r in Reason if r in flags]
    return [r.words for r in found], " ".join(HINTS[r] for r in found) or None


def picture_read(name: str, found: Found, *, crops: bool, annotated: bool) -> dict[str, Any]:
    """Return a `PictureRead` of what was found."""
    reasons, hint = reasons_of(found.faces)
    drawn = None
    if annotated and found.annotated is not None:
        drawn = "data:image/jpeg;base64," + base64.b64encode(found.annotated).decode("ascii")
    return {
        "name": name,
        "width": found.width,
        "height": found.height,
        "seconds": round(found.seconds, 4),
        "faces": records(found.faces, found.crops if crops else ()),
        "more_faces": found.more,
        "reasons": reasons,
        "hint": hint,
        "annotated": drawn,
        "error": None,
    }


def picture_failed(name: str, problem: Problem) -> dict[str, Any]:
    """Return a `PictureRead` of a picture that could not be read."""
    return {
        "name": name,
        "width": None,
        "height": None,
        "seconds": None,
        "faces": [],
        "more_faces": 0,
        "reasons": [Reason.UNREADABLE.words],
        "hint": problem.hint,
        "annotated": None,
        "error": {"code": problem.code, "message": problem.message},
    }
