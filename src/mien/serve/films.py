"""Routes of films: send one in, watch it, fetch what came of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast, get_args

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from ..film.build import Sampling
from .film_work import NAMES
from .guard import needs
from .jobs import ENDED, Jobs, Record
from .policy import declared
from .problem import Problem, responses
from .service import service
from .tokens import Caller, Role
from .uploads import receive_film

__all__ = ["FilmOptions", "Job", "JobError", "JobList", "JobProgress", "JobResult", "router"]

router = APIRouter(prefix="/v1", tags=["films"])

_LOOK, _BEAT = 0.5, 15.0
"""Seconds between looks at a job that is watched, and of silence after which its watcher is told that all is well."""
_WATCHERS = 200
_GOING = 5.0
_TYPES: Mapping[str, str] = MappingProxyType(
    {
        ".csv": "text/csv; charset=utf-8",
        ".jsonl": "application/jsonl",
        ".json": "application/json",
        ".parquet": "application/vnd.apache.parquet",
        ".mp4": "video/mp4",
    }
)
_State = Literal["waiting", "running", "done", "failed", "cancelled"]
_User = Annotated[Caller, Depends(needs(Role.USER))]
_Id = Annotated[str, Path(description="The id of the job.", pattern=r"^[0-9a-f]{40}$", min_length=40, max_length=40)]


class FilmOptions(BaseModel):
    """What is done with a film; in the query or as fields of the form, which count more."""

    every: int = Field(1, ge=1, le=100_000, description="Read each n-th frame.")
    fps: float | None = Field(
        None, gt=0, le=1000, allow_inf_nan=False, description="Read at most so many frames a second; `every` is then 1."
    )
    labels: Literal["eight", "seven", "six", "five", "three"] | None = Field(
        None, description="The label set of the scores; by default the service's own."
    )
    annotate: bool = Field(
        default=True, description="Make `annotated.mp4`, the film with boxes and expressions drawn in."
    )


class JobProgress(BaseModel):
    """How far a job is."""

    frames: int = Field(description="Frames read.")
    total: int | None = Field(description="Of how many; null while the film does not say.")
    fraction: float | None = Field(description="Share of all work, also of drawing, in [0, 1].")
    frames_per_second: float | None = Field(description="Frames read a second of work.")
    eta_seconds: float | None = Field(description="Seconds to the end, by the pace so far.")


class JobError(BaseModel):
    """Why a job failed."""

    code: str = Field(description="One word for programs.")
    message: str = Field(description="What was wrong, and what to do.")


class JobResult(BaseModel):
    """One file that came of a film."""

    name: str
    url: str = Field(description="Where it is, from the root of the service.")
    media_type: str
    bytes: int


class Job(BaseModel):
    """One film, on its way from the upload to its results. Times are ISO 8601 in UTC."""

    id: str = Field(description="A secret: whoever may ask and knows it can fetch the results.")
    state: _State
    name: str = Field(description="What the client called the film, for showing.")
    created: str
    started: str | None
    ended: str | None
    progress: JobProgress
    error: JobError | None
    results: list[JobResult] = Field(description="Empty until the job is done.")
    expires: str | None = Field(description="When all of it is deleted; null while it is not done.")
    attempts: int = Field(description="How often the work was begun; more than once where it was interrupted.")


class JobList(BaseModel):
    """Jobs, the newest first."""

    jobs: list[Job]


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _job(record: Record, state: str | None = None) -> Job:
    """Return a job as clients see it."""
    where = f"/v1/jobs/{record.id}/results"
    return Job(
        id=record.id,
        state=cast(_State, state or record.state),
        name=record.name,
        created=_time(record.created) or "",
        started=_time(record.started),
        ended=_time(record.ended),
        progress=JobProgress(
            frames=record.frames,
            total=record.total,
            fraction=record.fraction,
            frames_per_second=record.rate,
            eta_seconds=record.eta,
        ),
        error=JobError(code=record.code or "failed", message=record.message or "")
        if record.state == "failed"
        else None,
        results=[
            JobResult(name=name, url=f"{where}/{name}", media_type=_type(name), bytes=size)
            for name, size in record.results
        ],
        expires=_time(record.expires),
        attempts=record.attempts,
    )


def _type(name: str) -> str:
    return _TYPES[f".{name.rpartition('.')[2]}"]


# Sending one in

_BINARY = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "One film: a form with one file, and options as fields; or its bytes.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": _BINARY,
                        "every": {"type": "integer", "minimum": 1},
                        "fps": {"type": "number", "exclusiveMinimum": 0, "maximum": 1000},
                        "labels": {"type": "string", "enum": ["eight", "seven", "six", "five", "three"]},
                        "annotate": {"type": "boolean"},
                    },
                }
            },
            "video/*": {"schema": _BINARY},
            "application/octet-stream": {"schema": _BINARY},
        },
    }
}


@router.post(
    "/films",
    operation_id="submitFilm",
    summary="Send in a film",
    status_code=202,
    response_model=Job,
    dependencies=[Depends(declared)],
    responses=responses(400, 401, 403, 408, 413, 415, 421, 422, 429, 503, 507)
    | {202: {"headers": {"Location": {"description": "Address of the job.", "schema": {"type": "string"}}}}},
    openapi_extra=_BODY,
)
async def submit(request: Request, response: Response, caller: _User, query: Annotated[FilmOptions, Query()]) -> Job:
    """Send in one film, as a form with one file or as the raw body; it becomes a job.

    The film is stored under a random name, worked on when its turn comes, and deleted when its job ends, unless the
    service is set to keep films. Ask `GET /v1/jobs/{id}` or listen to `GET /v1/jobs/{id}/events` for its progress.
    429 says after how many seconds to try again.
    """
    held = service(request)
    _options(query, {})
    length = request.headers.get("content-length", "")
    size = int(length) if length.isascii() and length.isdigit() and len(length) < 16 else None
    room = held.jobs.place(caller, size)
    place = await run_in_threadpool(room.__enter__)
    try:
        received = await receive_film(request, held.settings, place.folder)
        upload = received.uploads[0]
        if upload.path is None:
            raise Problem(422, "nothing", "no film came")
        options = _options(query, received.fields)
        record = await run_in_threadpool(place.submit, upload.path, name=upload.name, options=options.model_dump())
    except BaseException as error:
        # Also where the client went away; nothing of it is left.
        await asyncio.shield(run_in_threadpool(room.__exit__, type(error), error, error.__traceback__))
        raise
    await run_in_threadpool(room.__exit__, None, None, None)
    response.headers["Location"] = f"/v1/jobs/{record.id}"
    return _job(record)


def _options(query: FilmOptions, form: Mapping[str, str]) -> FilmOptions:
    """Return the options; what the form says counts more.

    Raises
    ------
    Problem, OptionError
        422 if one cannot be.
    """
    said = {name: text for name, text in form.items() if name in FilmOptions.model_fields and text != ""}
    try:
        options = FilmOptions.model_validate(query.model_dump(exclude_unset=True) | said)
    except ValidationError as error:
        first = error.errors()[0]
        raise Problem(422, "invalid", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    Sampling(every=options.every, fps=options.fps)
    return options


# Asking


@router.get(
    "/jobs",
    operation_id="listJobs",
    summary="List jobs",
    response_model=JobList,
    responses=responses(401, 403, 421, 422, 429, 503),
)
def jobs(
    request: Request,
    caller: _User,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
) -> JobList:
    """List your jobs, the newest first; an administrator sees those of all."""
    return JobList(jobs=[_job(record) for record in service(request).jobs.list(caller, limit=limit)])


@router.get(
    "/jobs/{id}",
    operation_id="getJob",
    summary="Ask for a job",
    response_model=Job,
    responses=responses(401, 403, 404, 421, 422, 429, 503),
)
def job(request: Request, caller: _User, id: _Id) -> Job:  # noqa: A002  # its name in the address
    """Tell how far a job is, why it failed, or where its results are."""
    return _job(service(request).jobs.get(id, caller))


@router.delete(
    "/jobs/{id}",
    operation_id="deleteJob",
    summary="Cancel and erase a job",
    status_code=204,
    responses=responses(401, 403, 404, 421, 422, 429, 503),
)
async def delete(request: Request, caller: _User, id: _Id) -> Response:  # noqa: A002  # its name in the address
    """Stop a job if it waits or runs, and erase its film, its results and its name.

    The job cannot be asked for any more from then on. Work that runs is ended, and its files are erased, before this
    answers, or within seconds where the service is busy.
    """
    held = service(request).jobs
    if not await run_in_threadpool(held.delete, id, caller):
        until = asyncio.get_running_loop().time() + _GOING
        while asyncio.get_running_loop().time() < until and not await run_in_threadpool(held.erased, id):
            await asyncio.sleep(0.05)
    return Response(status_code=204)


# Watching

_watchers = 0
_EVENT: Mapping[str, Any] = MappingProxyType(
    {
        "description": "One event; its data is a `Job`.",
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"enum": ["progress", "end"]},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": "#/components/schemas/Job"},
            },
        },
    }
)


@router.get(
    "/jobs/{id}/events",
    operation_id="watchJob",
    summary="Watch a job",
    response_class=StreamingResponse,
    responses=responses(401, 403, 404, 421, 422, 429, 503)
    | {
        200: {
            "description": "Server-sent events: `progress` whenever something changes, then one `end`; the data of "
            "each is the job as JSON. Lines that begin with a colon only keep the connection open.",
            "content": {"text/event-stream": {"schema": dict(_EVENT)}},
        }
    },
)
async def watch(request: Request, caller: _User, id: _Id) -> StreamingResponse:  # noqa: A002  # its name in the address
    """Listen to a job until it ends.

    Events are `progress` and, last, `end`. A connection that broke is simply opened again: the first event tells how
    the job stands.
    """
    held = service(request).jobs
    record = await run_in_threadpool(held.get, id, caller)
    if _watchers >= _WATCHERS:
        raise Problem(429, "watchers", f"{_watchers} jobs are being watched", headers={"Retry-After": "10"})
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(held, record), media_type="text/event-stream", headers=headers)


async def _events(held: Jobs, record: Record) -> AsyncIterator[str]:
    global _watchers  # of this process
    _watchers += 1
    try:
        loop = asyncio.get_running_loop()
        told, spoken = "", loop.time()
        while True:
            text = _job(record).model_dump_json()
            if record.state in ENDED:
                yield _event("end", text)
                return
            if text != told:
                yield _event("progress", text)
                told, spoken = text, loop.time()
            elif loop.time() - spoken > _BEAT:
                yield ":\n\n"
                spoken = loop.time()
            await asyncio.sleep(_LOOK)
            if not held.open:
                return
            now = await run_in_threadpool(held.look, record.id)
            if now is None:
                yield _event("end", _job(record, "cancelled").model_dump_json())
                return
            record = now
    finally:
        _watchers -= 1


def _event(kind: str, data: str) -> str:
    return f"event: {kind}\ndata: {data}\n\n"


# Fetching

_Name = Literal[
    "faces.csv", "faces.jsonl", "faces.parquet", "frames.parquet", "tracks.parquet", "timeline.json", "annotated.mp4"
]
_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        }
        | {kind: {"schema": _BINARY} for kind in ("application/jsonl", _type("faces.parquet"), "video/mp4")},
    },
    206: {"description": "The part of it that `Range` asked for."},
}


@router.get(
    "/jobs/{id}/results/{name}",
    operation_id="getResult",
    summary="Fetch a result",
    response_class=FileResponse,
    responses=responses(401, 403, 404, 416, 421, 422, 429, 503) | _FILES,
)
def result(
    request: Request,
    caller: _User,
    id: _Id,  # noqa: A002  # its name in the address
    name: Annotated[_Name, Path(description="Which file.")],
) -> FileResponse:
    """Fetch a file that came of a film; `Range` with one range of bytes is answered with that part.

    `faces.csv` and `faces.jsonl` hold one row a face and one for each frame without a face; `faces.parquet` the same
    with measures of each face. `timeline.json` is what the page draws.
    """
    path = service(request).jobs.result(id, caller, name)
    try:
        stat = path.stat()
    except OSError as error:
        raise Problem(404, "no_result", "the result has just been deleted") from error
    _check_range(request, stat.st_size)
    return FileResponse(path, media_type=_type(name), filename=name, stat_result=stat)


_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def _check_range(request: Request, size: int) -> None:
    """Let a range through that can be answered; one that is not understood counts as none (RFC 9110, 14.2)."""
    said = request.headers.get("range")
    if said is None:
        return
    match = _RANGE.fullmatch(said.strip())
    first, last = match.groups() if match else ("", "")
    if not (first or last) or (first and last and int(last) < int(first)):
        request.scope["headers"] = [h for h in request.scope["headers"] if h[0].lower() != b"range"]
    elif (first and int(first) >= size) or (not first and int(last) == 0):
        raise Problem(416, "range", f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}"})


if set(get_args(_Name)) != set(NAMES):
    msg = "the routes and the work on a film disagree about its results"
    raise RuntimeError(msg)
