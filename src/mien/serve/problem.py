"""The one shape of every error that the service gives; no traceback inside.

::

    {"error": {"code": "too_many_pixels", "message": "what was wrong, with the value", "hint": "what to do",
               "request": "the id that the log has too"}}
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ..errors import (
    DecodeError,
    MienError,
    MissingExtraError,
    OptionError,
    ShapeError,
    SourceError,
    TooLargeError,
    UnknownLabelError,
)

__all__ = ["Problem", "ProblemBody", "answer", "install", "problem_of", "responses"]

_log = logging.getLogger("mien.serve")


class ProblemDetail(BaseModel):
    """What went wrong."""

    code: str = Field(description="One word for programs; it does not change between versions.")
    message: str = Field(description="What was wrong, with the value.")
    hint: str | None = Field(None, description="What to do.")
    request: str | None = Field(None, description="The id of the request, as in the log and in X-Request-Id.")


class ProblemBody(BaseModel):
    """The body of every error."""

    error: ProblemDetail


class Problem(Exception):  # noqa: N818  # it is an answer
    """An answer that is an error.

    Parameters
    ----------
    status
        HTTP status, 400 to 599.
    code
        One word for programs.
    message
        What was wrong, with the value, in one line.
    hint
        What to do.
    headers
        Headers of the answer, as ``Retry-After``.
    """

    def __init__(
        self, status: int, code: str, message: str, hint: str | None = None, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint
        self.headers = dict(headers or {})


_STATUS: tuple[tuple[type[MienError], int, str], ...] = (
    (TooLargeError, 413, "too_many_pixels"),
    (DecodeError, 415, "not_readable"),
    (SourceError, 422, "source"),
    (OptionError, 422, "option"),
    (UnknownLabelError, 422, "unknown_label"),
    (ShapeError, 422, "shape"),
    (MissingExtraError, 501, "not_installed"),
)


_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


def problem_of(error: MienError) -> Problem:
    """Return the answer to an error of mien."""
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            return Problem(status, code, str(error))
    return Problem(500, "failed", "the service could not do this", "look into the log of the service")


def body(problem: Problem, request_id: str | None) -> dict[str, Any]:
    """Return the body of an answer that is an error."""
    detail = ProblemDetail(code=problem.code, message=problem.message, hint=problem.hint, request=request_id)
    return ProblemBody(error=detail).model_dump()


def answer(problem: Problem, request_id: str | None) -> JSONResponse:
    """Return the answer that is an error."""
    return JSONResponse(body(problem, request_id), problem.status, problem.headers)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI document says of the errors of a route."""
    return {s: {"model": ProblemBody, "description": HTTPStatus(s).phrase} for s in statuses}


def install(app: FastAPI) -> None:
    """Give every error of the application the one shape."""

    def id_of(request: Request) -> str | None:
        return request.scope.get("mien.request")

    @app.exception_handler(Problem)
    async def _problem(request: Request, problem: Problem) -> JSONResponse:
        return answer(problem, id_of(request))

    @app.exception_handler(MienError)
    async def _mien(request: Request, error: MienError) -> JSONResponse:
        problem = problem_of(error)
        if problem.status >= 500:
            _log.error("request %s: %s", id_of(request), type(error).__name__)
        return answer(problem, id_of(request))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return answer(Problem(422, "invalid", f"{where}: {first['msg']}"), id_of(request))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed(request))
        problem = Problem(error.status_code, code, str(error.detail), headers=headers)
        return answer(problem, id_of(request))

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
        _log.error("request %s: %s", id_of(request), type(error).__name__, exc_info=error)
        return answer(Problem(500, "failed", "the service could not do this"), id_of(request))


def _allowed(request: Request) -> list[str]:
    """Return the methods that an address has; Starlette names those of the first route that fits it only."""
    scopes = ({**request.scope, "method": method} for method in _METHODS)
    routes = request.app.router.routes
    return [s["method"] for s in scopes if any(r.matches(dict(s))[0] is Match.FULL for r in routes)]
