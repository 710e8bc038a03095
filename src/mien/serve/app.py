"""The application: data plus a factory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from ..pipeline.analyzer import Analyzer
from . import analyze, films, info, pages, policy, problem, stream
from .engine import Engine
from .guard import Guard
from .jobs import Jobs
from .measure import Measures
from .policy import Policy
from .service import Service
from .settings import ServeSettings
from .tokens import Keyring

__all__ = ["create_app"]

_ABOUT = """Reads facial expressions in pictures, films and live video: what a face shows and how people would label it,
not what somebody feels. Every error has one shape, `ProblemBody`."""


def create_app(settings: ServeSettings | None = None, *, analyzer: Analyzer | None = None, run: bool = True) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    settings
        What it is told; None: the defaults.
    analyzer
        What reads pictures, instead of one made by the settings.
    run
        Work on films in this process; with several workers only one process does.
    """
    chosen = settings or ServeSettings()
    measures = Measures()
    held = Service(
        chosen,
        Engine(chosen, measures, analyzer=analyzer),
        Jobs(chosen, measures),
        Policy(chosen),
        Keyring.load(chosen.token_file),
        measures,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        held.jobs.start(run=run)
        await held.engine.start()
        try:
            yield
        finally:
            await held.engine.close()
            held.jobs.close()

    app = FastAPI(
        title="mien",
        version=version("mien"),
        description=_ABOUT,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    app.state.service = held
    problem.install(app)
    for part in (analyze, films, stream, policy, info, pages):
        app.include_router(part.router)
    app.add_middleware(Guard, settings=chosen)
    return app
