"""Routes about the service itself: models, health, measures."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from ..models.expression import offered
from ..zoo.card import ModelCard, read_card
from ..zoo.catalog import card, names
from . import problem
from .guard import needs
from .measure import CONTENT_TYPE
from .problem import Problem
from .service import Service, service
from .tokens import Caller, Role

__all__ = ["router"]

router = APIRouter()

_NONE = dict.fromkeys(("waiting", "running", "done", "failed", "cancelled"), 0)
"""Films by state where there are none: a measure that is there from the first day on."""


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Checks(BaseModel):
    """What has to be so before requests are taken; each of them is, or the answer is an error."""

    models: Literal[True] = Field(default=True, description="The models are loaded and have read a picture.")
    state: Literal[True] = Field(default=True, description="The folder of films and results can be written.")
    queue: Literal[True] = Field(default=True, description="There is room for a picture among those that wait.")


class Ready(BaseModel):
    """Requests are taken."""

    status: Literal["ready"] = "ready"
    checks: Checks = Checks()


class LabelsOf(BaseModel):
    """A set of labels that a model can give."""

    name: str = Field(description="As the option `labels` takes it, or the name of the model's head.")
    labels: list[str] = Field(description="In the order of the scores.")


class ScoreOf(BaseModel):
    """A measured score of a model."""

    data: str = Field(description="The data set.")
    split: str = Field(description="Which part of it.")
    n: int = Field(description="How many faces or pictures.")
    metric: str = Field(description="What was measured.")
    value: float
    low: float = Field(description="Lower end of the 95 % interval.")
    high: float = Field(description="Upper end of the 95 % interval.")
    date: str = Field(description="When it was measured.")


class Model(BaseModel):
    """The card of a model: what it does, where it comes from, who may use it, how good it is."""

    name: str
    task: str
    in_use: bool = Field(description="This service reads with it now.")
    summary: str
    labels: list[str] | None = Field(description="Its own labels, in the order of the scores; null: it gives none.")
    offers: list[str] = Field(description="The label sets that the option `labels` can ask it for.")
    heads: list[LabelsOf] = Field(description="Its answers.")
    licence: str
    origin: str = Field(description="Who made it, and how.")
    data: str = Field(description="What it was trained on.")
    sha256: str = Field(description="Of its file.")
    bytes: int = Field(description="Size of its file.")
    parameters: int | None
    scores: list[ScoreOf]
    notes: list[str] = Field(description="What to know before it is used.")


class Models(BaseModel):
    """The models of the service."""

    models: list[Model]


@router.get("/healthz", operation_id="health", tags=["service"])
async def health() -> Health:
    """Say that the process answers; for whoever restarts it when it does not. Needs no token."""
    return Health()


@router.get("/readyz", operation_id="ready", tags=["service"], responses=problem.responses(503))
def ready(request: Request) -> Ready:
    """Say whether requests are taken, for a load balancer; needs no token.

    503 while the models are being loaded, when the folder of the state cannot be written, or when no further picture
    may wait: the message says which.
    """
    missing = _missing(service(request))
    if missing:
        message = f"not ready: {'; '.join(missing)}"
        raise Problem(503, "not_ready", message, "ask again later", headers={"Retry-After": "1"})
    return Ready()


@router.get("/v1/models", operation_id="models", tags=["service"], responses=problem.responses(401, 403, 429))
def models(request: Request, caller: Annotated[Caller, Depends(needs(Role.VIEWER))]) -> Models:  # noqa: ARG001  # asked for its role
    """List the cards of all models: task, labels, licence, origin, training data, scores with their 95 % intervals.

    Those that this service reads with now come first and are marked `in_use`.
    """
    held = service(request)
    used = set(held.engine.analyzer.models()) if held.engine.ready else set()
    found = [_model(c, in_use=c.name in used) for c in _cards(held.settings.analysis.model)]
    return Models(models=sorted(found, key=lambda m: not m.in_use))


@router.get(
    "/metrics",
    operation_id="metrics",
    tags=["service"],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text form, 0.0.4"},
        **problem.responses(401, 403, 429),
    },
)
def metrics(request: Request, caller: Annotated[Caller, Depends(needs(Role.ADMIN))]) -> Response:  # noqa: ARG001  # asked for its role
    """Give the service's measures for Prometheus, summed over its processes.

    Answers by route and status with their times, what was turned away and why, pictures, faces in each call of the
    model, frames of cameras, films by state, how busy it is, memory and processor time.
    """
    held = service(request)
    load = held.engine.load()
    held.measures.pulse(waiting=load.waiting, running=load.running, streams=load.streams)
    films = _NONE | dict(held.jobs.counts() if held.jobs.open else {})
    text = held.measures.text(jobs=films, info=[("model", Path(held.settings.analysis.model).name)])
    return Response(text, media_type=None, headers={"content-type": CONTENT_TYPE})


def _missing(held: Service) -> list[str]:
    """Say what is missing before requests can be taken."""
    said = []
    if not held.engine.ready:
        said.append("the models are being loaded")
    if not held.jobs.open or not _writable(held.settings.state):
        said.append("the folder of the state cannot be written")
    if held.engine.ready and held.engine.full() is not None:
        said.append("the queue is full")
    return said


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"1")
    except OSError:
        return False
    return True


@lru_cache(maxsize=4)
def _cards(model: str) -> tuple[ModelCard, ...]:
    own = () if model in names() else (read_card(Path(model).with_suffix(".card.json")),)
    return (*own, *(card(name) for name in names()))


def _model(c: ModelCard, *, in_use: bool) -> Model:
    return Model(
        name=c.name,
        task=c.task,
        in_use=in_use,
        summary=c.summary,
        labels=list(c.labels) if c.labels else None,
        offers=list(offered(c)) if c.heads else [],
        heads=[LabelsOf(name=h.name, labels=list(h.labels)) for h in c.heads],
        licence=c.licence,
        origin=c.origin,
        data=c.data,
        sha256=c.sha256,
        bytes=c.size,
        parameters=c.parameters,
        scores=[
            ScoreOf(
                data=s.data, split=s.split, n=s.n, metric=s.metric, value=s.value, low=s.low, high=s.high, date=s.date
            )
            for s in c.scores
        ],
        notes=list(c.notes),
    )
