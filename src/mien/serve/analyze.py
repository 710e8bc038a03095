"""Route of pictures: pictures in, faces out, nothing kept."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ValidationError

from ..errors import MienError
from ..media.source import Kind
from ..pipeline.analyzer import Analyzer
from ..results.columns import Reason
from ..results.faces import Faces
from ..results.files import line_form
from ..results.table import needed_pyarrow, to_arrow
from .examples import ANALYSIS, PARAMETERS, PICTURES_BODY
from .guard import needs
from .picture import Found, Order, problem_for
from .policy import declared
from .problem import Problem, responses
from .service import service
from .shapes import Analysis, Options, picture_failed, picture_read
from .tokens import Caller, Role
from .uploads import Received, Upload, receive_pictures, unreadable

__all__ = ["ended", "router", "unless_gone", "validated"]

router = APIRouter()

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)

Answer = Found | Problem

_FEW = 20
"""Faces whose answer is written sooner than handed to another thread, about 2 ms."""


@router.post(
    "/v1/analyze",
    operation_id="analyze",
    tags=["pictures"],
    summary="Read the faces of pictures",
    dependencies=[Depends(declared)],
    response_model=Analysis,
    responses=responses(400, 401, 403, 408, 413, 415, 421, 422, 429, 431, 500, 503, 504)
    | {
        200: {
            "description": "The faces of each picture, or the table or picture that `format` asks for.",
            "content": {
                "application/json": {"example": ANALYSIS},
                "text/csv": {"schema": {"type": "string"}},
                "application/x-ndjson": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
                "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    },
    openapi_extra={"parameters": PARAMETERS, "requestBody": PICTURES_BODY},
)
async def analyze(
    request: Request,
    caller: Annotated[Caller, Depends(needs(Role.USER))],
) -> Response:
    """Find and read the faces of one or several pictures. Nothing is kept.

    Send the pictures as files of a form, one picture as the body itself, or JSON with pictures in base64. Options are
    query parameters, fields of the form, or `options` of the JSON; where one is given twice, the body's counts.

    A face that cannot be read honestly has its reason (`too_small`, `blurred`, `turned_away`, …) instead of scores. A
    picture without a face has the reason `no_face` and a hint. One picture that cannot be decoded gives the error of
    the request when it came alone, and an `error` of its own among others.

    When more pictures wait than the service takes, the answer is 429 with the seconds to wait in `Retry-After`.
    """
    held = service(request)
    if problem := held.engine.full():  # said before the body is read
        held.measures.refused(problem.code)
        raise problem
    received = await receive_pictures(request, held.settings)
    chosen = options_of(request, received)
    return await unless_gone(request, _answered(request, received, chosen, caller))


def options_of(request: Request, received: Received) -> Options:
    """Return the options of a request: the query's, and over them the body's."""
    return validated(Options, {**request.query_params, **received.fields})


def validated(shape: type[M], values: Mapping[str, Any]) -> M:
    """Return the values in a shape.

    Raises
    ------
    Problem
        422 that says what is wrong with the first wrong value.
    """
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:40]
        known = ", ".join(shape.model_fields)
        if first["type"] == "extra_forbidden":
            raise Problem(422, "option", f"unknown option {where!r}", f"the options are {known}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise Problem(422, "option", f"{where}: {message}", f"the options are {known}") from None


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Do some work for a request whose body was read; when the client goes away, it is cancelled.

    Raises
    ------
    Problem
        499, which nobody reads, when the client went away.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Problem(499, "gone", "the client went away")
    finally:
        await ended(task, watch)


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancel what is not done, wait for its end, and let go of its errors."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _answered(request: Request, received: Received, options: Options, caller: Caller) -> Response:
    held = service(request)
    uploads, names = received.uploads, _names(received.uploads)
    if options.format == "jpeg" and len(uploads) > 1:
        raise Problem(422, "option", f"format jpeg is for one picture, {len(uploads)} came", "send one at a time")
    reader = held.engine.variant(labels=options.labels, min_score=options.min_score, best_only=options.best_only)
    answers: list[Answer] = [unreadable(u, Kind.PICTURE) or _NOT_YET for u in uploads]
    annotated = options.format == "jpeg" or "annotated" in options.parts
    orders = {
        i: Order(u.data, names[i], reader, annotated=annotated, crops="crops" in options.parts)
        for i, u in enumerate(uploads)
        if answers[i] is _NOT_YET
    }
    if orders:
        read = await held.engine.read(list(orders.values()), caller=_who(request, caller))
        for i, one in zip(orders, read, strict=True):
            answers[i] = problem_for(one) if isinstance(one, MienError) else one
    if len(answers) == 1 and isinstance(answers[0], Problem):
        raise answers[0]
    write = _FORMATS[options.format]
    if options.format == "json" and not options.parts and sum(map(_rows, answers)) <= _FEW:
        return write(reader, names, answers, options)
    return await asyncio.to_thread(write, reader, names, answers, options)


def _rows(answer: Answer) -> int:
    return 0 if isinstance(answer, Problem) else len(answer.faces)


_NOT_YET = Problem(500, "failed", "not read")


def _who(request: Request, caller: Caller) -> str:
    """Return who takes turns with others: a caller at an address."""
    return f"{caller.name} {request.client.host if request.client else ''}"


def _names(uploads: Sequence[Upload]) -> list[str]:
    """Return a name for each picture, none twice."""
    names: list[str] = []
    for upload in uploads:
        name, number = upload.name, 1
        while name in names:
            number += 1
            name = f"{upload.name} ({number})"
        names.append(name)
    return names


# The bodies


def _json(reader: Analyzer, names: Sequence[str], answers: Sequence[Answer], options: Options) -> Response:
    name, sha256 = next(iter(reader.models().items()))
    crops, annotated = "crops" in options.parts, "annotated" in options.parts
    body = {
        "model": {"name": name, "sha256": sha256},
        "labels": list(reader.labels),
        "pictures": [
            picture_failed(n, a) if isinstance(a, Problem) else picture_read(n, a, crops=crops, annotated=annotated)
            for n, a in zip(names, answers, strict=True)
        ],
        "csv": _lines(".csv", _table(reader, names, answers)).decode() if "csv" in options.parts else None,
    }
    return _sent(json.dumps(body, ensure_ascii=False, allow_nan=False).encode(), "application/json")


def _text(ending: str, kind: str) -> Callable[..., Response]:
    def write(reader: Analyzer, names: Sequence[str], answers: Sequence[Answer], options: Options) -> Response:  # noqa: ARG001  # all formats are asked alike
        return _sent(_lines(ending, _table(reader, names, answers)), kind, f"faces{ending}")

    return write


def _parquet(reader: Analyzer, names: Sequence[str], answers: Sequence[Answer], options: Options) -> Response:  # noqa: ARG001  # all formats are asked alike
    out = io.BytesIO()
    needed_pyarrow("serve").parquet.write_table(to_arrow(_table(reader, names, answers)), out)
    return _sent(out.getvalue(), "application/vnd.apache.parquet", "faces.parquet")


def _jpeg(reader: Analyzer, names: Sequence[str], answers: Sequence[Answer], options: Options) -> Response:  # noqa: ARG001  # all formats are asked alike
    (answer,) = answers
    if isinstance(answer, Problem) or answer.annotated is None:
        raise Problem(500, "failed", "the picture could not be drawn")
    return _sent(answer.annotated, "image/jpeg", "faces.jpg")


_FORMATS: Mapping[str, Callable[..., Response]] = {
    "json": _json,
    "csv": _text(".csv", "text/csv; charset=utf-8"),
    "jsonl": _text(".jsonl", "application/x-ndjson"),
    "parquet": _parquet,
    "jpeg": _jpeg,
}


def _table(reader: Analyzer, names: Sequence[str], answers: Sequence[Answer]) -> Faces:
    """Return the rows of all pictures; one that could not be read has the row that says so."""
    parts = [
        Faces.missing(n, Reason.UNREADABLE, labels=reader.labels) if isinstance(a, Problem) else a.faces
        for n, a in zip(names, answers, strict=True)
    ]
    return Faces.concat(parts)


def _lines(ending: str, faces: Faces) -> bytes:
    form = line_form(Path(f"faces{ending}"), "default")
    return form.encode(form.head(faces.labels) + form.rows(faces))


def _sent(body: bytes, kind: str, name: str | None = None) -> Response:
    headers = {"Cache-Control": "no-store"}
    if name:
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Response(body, media_type=kind, headers=headers)
