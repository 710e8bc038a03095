"""A small typed client of the service: the standard library only, `Faces` out.

>>> from mien.client import Client
>>> with Client("http://127.0.0.1:8000") as service:  # doctest: +SKIP
...     faces = service.analyze("party.jpg")
"""

from __future__ import annotations

from ..errors import ServiceError
from .api import Client
from .job import Failure, Job, Progress, Result

__all__ = ["Client", "Failure", "Job", "Progress", "Result", "ServiceError"]
