"""A service for tests: models that need no weights, a folder of its own, small limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from fakes import BlueDetector, RedReader
from fastapi import FastAPI
from fastapi.testclient import TestClient

from mien.pipeline.analyzer import Analyzer, Settings
from mien.serve.app import create_app
from mien.serve.settings import Limits, ServeSettings


def settings(state: Path, **changes: Any) -> ServeSettings:
    """Settings of a service that a test may use: a purpose is declared, nothing lies outside ``state``."""
    limits = changes.pop("limits", {})
    return ServeSettings(**({"state": state, "purpose": "development", "limits": Limits(**limits)} | changes))


def fake_analyzer() -> Analyzer:
    """Finds the blue rectangle, reads it as happy in the measure in which it is red."""
    return Analyzer(Settings(threads=1, read_all=True), find=BlueDetector(), read=RedReader())


def app(state: Path, **changes: Any) -> FastAPI:
    """An application with fake models that works on no films."""
    run = changes.pop("run", False)
    return create_app(settings(state, **changes), analyzer=fake_analyzer(), run=run)


@contextmanager
def client(state: Path, **changes: Any) -> Iterator[TestClient]:
    """A client of such an application, started; errors inside it become answers, as they would outside."""
    with TestClient(app(state, **changes), base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as held:
        yield held


def face(*, red: int = 200, width: int = 160, height: int = 120, ending: str = ".png") -> bytes:
    """A picture file with one face that the fake models find, as happy as it is red."""
    picture = np.full((height, width, 3), 60, np.uint8)
    noise = np.random.default_rng(1).integers(0, 60, (60, 60), np.uint8)
    picture[20:80, 40:100] = np.stack([np.full_like(noise, red), noise, np.full_like(noise, 255)], -1)
    return cv2.imencode(ending, picture[..., ::-1])[1].tobytes()


def plain(*, width: int = 160, height: int = 120) -> bytes:
    """A PNG without a face."""
    return cv2.imencode(".png", np.full((height, width, 3), 90, np.uint8))[1].tobytes()
