"""Routes of the page: its one document, its parts, the notice sheet, the QR code."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from .notice import notice_of
from .problem import Problem
from .qr import address_of, svg
from .service import service
from .sheet import html_of
from .texts import Language, preferred

__all__ = ["router"]

router = APIRouter(include_in_schema=False)

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
# Every part of a path: no separator of any system, no dot in front, so neither ".." nor a hidden file.
_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
_MOST_PARTS = 6


@router.api_route("/", methods=["GET", "HEAD"])
def page(request: Request) -> Response:
    """Give the page; it holds no data, so it needs no token."""
    return _static(request, "index.html")


@router.api_route("/web/{path:path}", methods=["GET", "HEAD"])
def part(request: Request, path: str) -> Response:
    """Give a part of the page: a style, a script, a text."""
    return _static(request, path)


@router.api_route("/favicon.svg", methods=["GET", "HEAD"])
def icon(request: Request) -> Response:
    """Give the sign of the page."""
    return _static(request, "favicon.svg")


@router.api_route("/robots.txt", methods=["GET", "HEAD"])
def robots() -> Response:
    """Ask search engines to stay away."""
    return PlainTextResponse("User-agent: *\nDisallow: /\n")


@router.api_route("/notice", methods=["GET", "HEAD"])
def sheet(request: Request, lang: Language | None = None) -> Response:
    """Give the notice as a sheet to print; whoever is seen may read it, so it needs no token."""
    held = service(request)
    language = lang or preferred(request.headers.get("accept-language", ""))
    notice = notice_of(held.settings, held.policy.declaration, held.policy.sheet, language)
    headers = {"Cache-Control": "no-store", "Vary": "Accept-Language", "Content-Language": language}
    return HTMLResponse(html_of(notice, address_of(request)), headers=headers)


@router.api_route("/qr.svg", methods=["GET", "HEAD"])
def code(request: Request) -> Response:
    """Give the QR code of the page's own address; it draws no other text."""
    return Response(svg(address_of(request)), media_type="image/svg+xml", headers={"Cache-Control": "no-store"})


def _web() -> Path:
    return Path(str(files(__package__) / "web")).resolve()


def _static(request: Request, path: str) -> Response:
    """Return a file of the page, or say that the browser has it already.

    Raises
    ------
    Problem
        404 for everything that is not a file of the page.
    """
    file = _file(path)
    try:
        stat = file.stat()
        data, tag = _content(file, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise _missing() from error
    # The files change with the program and are small: a browser asks each time, and mostly hears that nothing changed.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if _known(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=_TYPES[file.suffix], headers=headers)


def _file(path: str) -> Path:
    parts = path.split("/")
    if len(parts) > _MOST_PARTS or not all(_PART.fullmatch(p) for p in parts):
        raise _missing()
    web = _web()
    file = web.joinpath(*parts).resolve()
    if file.suffix not in _TYPES or not file.is_relative_to(web) or not file.is_file():
        raise _missing()
    return file


@lru_cache(maxsize=256)
def _content(file: Path, _mtime: int, _size: int) -> tuple[bytes, str]:
    data = file.read_bytes()
    return data, f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def _known(header: str, tag: str) -> bool:
    return any(t.strip().removeprefix("W/") in {tag, "*"} for t in header.split(","))


def _missing() -> Problem:
    return Problem(404, "not_found", "there is no such page")
