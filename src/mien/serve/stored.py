"""What is stored, as the settings and the disk say it now; no path of this machine, nothing left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from . import problem
from .guard import needs
from .notice import duration
from .service import Service, service
from .texts import Language, texts_in
from .tokens import Role

__all__ = ["Stored", "router", "stored_items"]

router = APIRouter()


class StoredItem(BaseModel):
    """One kind of thing that the service could hold."""

    id: str = Field(description="Its name for programs.")
    title: str = Field(description="What it is.")
    stored: bool = Field(description="Written to a disk by this service as it is set up, or held between requests.")
    what: str = Field(description="What is held.")
    where: str = Field(description="Where, in words.")
    how_long: str | None = Field(description="When it goes; null: there is nothing.")
    who: str = Field(description="Who can erase it.")
    count: int | None = Field(description="How many there are now; null: not counted.")


class Stored(BaseModel):
    """What the service stores."""

    items: list[StoredItem] = Field(description="Every kind of thing, also those that are never stored.")
    bytes: int = Field(description="What films and results take on the disk now.")
    next_deletion: str | None = Field(description="When the next film or result is deleted, ISO 8601, UTC; null: none.")
    keep_seconds: float = Field(description="How long films and results are kept after a job; 0: not set.")
    hand_over_seconds: float = Field(description="How long results wait to be fetched where nothing is kept.")


@dataclass(frozen=True, slots=True)
class _Row:
    """One item in keys of the texts."""

    name: str
    where: str
    who: str = "nobody"
    stored: bool = True
    what: str = "what"
    how_long: str | None = "long"
    count: int | None = None


def stored_items(held: Service, language: Language) -> Stored:
    """Return what a service stores.

    Parameters
    ----------
    held
        The service.
    language
        Of the texts.
    """
    on_disk = held.jobs.stored()
    settings, soonest = held.settings, on_disk["next_deletion"]
    rows = _rows(held, int(on_disk["films"] or 0), int(on_disk["results"] or 0))
    return Stored(
        items=[_item(row, held, language) for row in rows],
        bytes=int(on_disk["bytes"] or 0),
        next_deletion=None if soonest is None else _when(soonest),
        keep_seconds=settings.keep,
        hand_over_seconds=settings.limits.hand_over,
    )


def _rows(held: Service, films: int, results: int) -> Iterator[_Row]:
    kept = "some" if held.settings.keep else "none"
    yield _Row("pictures", "memory", stored=False)
    if held.settings.fetch:
        yield _Row("fetched", "memory", stored=False)
    yield _Row("frames", "memory", stored=False)
    yield _Row("films", "state", "owner", how_long=kept, count=films)
    yield _Row("results", "state", "owner", how_long=kept, count=results)
    yield _Row("jobs", "state", "owner", count=sum(held.jobs.counts().values()))
    yield _Row("temporary", "state", "operator")
    yield _policy_row(held)
    if held.keys.open:
        yield _Row("tokens", "token_file", stored=False, what="none", how_long=None)
    else:
        yield _Row("tokens", "token_file", "operator")
        yield _Row("addresses", "memory", "operator")
        yield _Row("rates", "state", "operator")
    if held.settings.tls == "self-signed":
        yield _Row("certificate", "state", "operator")
    yield _Row("log", "log", "operator")
    # Several processes sum them up in files.
    yield _Row("measures", "state" if held.settings.workers > 1 else "memory", "operator")
    yield _Row("browser", "browser", "you")


def _policy_row(held: Service) -> _Row:
    if held.policy.fixed:
        return _Row("policy", "memory", stored=False, what="fixed", how_long=None)
    if held.policy.declaration is None:
        return _Row("policy", "memory", stored=False, what="undeclared", how_long=None)
    return _Row("policy", "state", "admin", count=1)


def _item(row: _Row, held: Service, language: Language) -> StoredItem:
    texts, name = texts_in(language), row.name
    settings = held.settings
    long = None if row.how_long is None else texts[f"stored.{_timed(name)}.{row.how_long}"]
    hand_over = duration(settings.limits.hand_over, language)
    return StoredItem(
        id=name,
        title=texts[f"stored.{name}.title"],
        stored=row.stored,
        what=texts[f"stored.{name}.{row.what}"],
        where=texts[f"stored.where.{row.where}"],
        how_long=long and long.format(keep=duration(settings.keep, language), hand_over=hand_over),
        who=texts[f"stored.who.{row.who}"],
        count=row.count,
    )


def _timed(name: str) -> str:
    # What is fetched is treated like what was sent.
    return "pictures" if name == "fetched" else name


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@router.get(
    "/v1/stored",
    operation_id="getStored",
    tags=["policy"],
    summary="What is stored",
    dependencies=[Depends(needs(Role.VIEWER))],
    responses=problem.responses(400, 401, 403, 421, 422, 429, 503),
)
def show_stored(
    request: Request,
    lang: Annotated[Language, Query(description="Language of the texts.")] = "en",
) -> Stored:
    """Say what the service stores, where, how long and who can erase it, as its settings and its disk say it now.

    Things that are never stored are listed, too. It says how many films there are, not whose or which.
    """
    return stored_items(service(request), lang)
