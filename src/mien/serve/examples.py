"""What the OpenAPI document says of pictures: examples and shapes, made by what reads and answers them."""

from __future__ import annotations

from typing import Any

from ..labels import EIGHT
from ..results.faces import Faces
from .picture import Found
from .problem import Problem
from .shapes import Options, picture_failed, picture_read

__all__ = ["ANALYSIS", "PARAMETERS", "PICTURES_BODY"]


def _analysis() -> dict[str, Any]:
    faces = Faces.build(
        1,
        sources=("party.jpg",),
        labels=EIGHT,
        face=0,
        box=(180.5, 72.25, 284.0, 205.5),
        points=((206, 124), (254, 123), (231, 152), (211, 175), (251, 174)),
        score=0.9985,
        expression=(0.005, 0.01, 0.005, 0.86, 0.01, 0.03, 0.07, 0.01),
    )
    shown = picture_read("party.jpg", Found(faces, 572, 562, 0.0312), crops=False, annotated=False)
    broken = picture_failed("notes.txt", Problem(415, "not_a_picture", "the file is not a picture, by its content"))
    return {
        "model": {"name": "expression", "sha256": "0" * 64},
        "labels": list(EIGHT),
        "pictures": [shown, broken],
        "csv": None,
    }


ANALYSIS = _analysis()
"""An answer to two pictures, of which one could not be read."""

_FILE = {"type": "string", "format": "binary"}


def _options() -> dict[str, Any]:
    """Return the schema of each option as text or JSON gives it: what is left out is not null."""
    properties = Options.model_json_schema()["properties"]
    for schema in properties.values():
        for kind in schema.pop("anyOf", ()):
            if kind != {"type": "null"}:
                schema |= kind
        if schema.get("default", "") is None:
            del schema["default"]
    return dict(properties)


def _parameters() -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "query", "required": False, "schema": schema, "description": schema["description"]}
        for name, schema in _options().items()
    ]


PARAMETERS = _parameters()
"""The options as query parameters."""


def _body() -> dict[str, Any]:
    options = _options()
    inline = {
        "type": "object",
        "required": ["pictures"],
        "additionalProperties": False,
        "properties": {
            "pictures": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "oneOf": [{"required": ["data"]}, {"required": ["url"]}],
                    "properties": {
                        "name": {"type": "string", "description": "For showing only."},
                        "data": {"type": "string", "contentEncoding": "base64", "description": "The file in base64."},
                        "url": {"type": "string", "format": "uri", "description": "Only where the service fetches."},
                    },
                },
            },
            "options": {"type": "object", "additionalProperties": False, "properties": options},
        },
    }
    form = {
        "type": "object",
        "properties": {"pictures": {"type": "array", "items": _FILE, "description": "Any number of files."}} | options,
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "image/*": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
            "application/json": {
                "schema": inline,
                "example": {"pictures": [{"name": "party.jpg", "data": "/9j/4AAQ…"}], "options": {"labels": "seven"}},
            },
        },
    }


PICTURES_BODY = _body()
"""What the body of a request with pictures may be."""
