"""How the service writes its log: one line an event on stderr, for people or as JSON; never pictures, never names."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = ["JsonLines", "Stderr", "configuration"]

_OWN = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}


class JsonLines(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, message, and what else was given with the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Write an event."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        told |= {k: v for k, v in record.__dict__.items() if k not in _OWN and not k.startswith("_")}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False, default=str)


class Stderr(logging.StreamHandler[TextIO]):
    """Writes to what is stderr at that moment, also where a program has put something else in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)  # StreamHandler's own would keep the stderr of this moment

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # it is an attribute there
        """Stderr."""
        return sys.stderr


def configuration(form: str) -> dict[str, Any]:
    """Return the configuration of the log, ``text`` or ``json``, for `logging.config.dictConfig`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "text": {"format": "%(asctime)s %(levelname)-7s %(message)s", "datefmt": "%Y-%m-%d %H:%M:%S"},
            "json": {"()": "mien.serve.logs.JsonLines"},
        },
        "handlers": {"stderr": {"class": "mien.serve.logs.Stderr", "formatter": form}},
        "loggers": {
            "mien.serve": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
            "uvicorn": {"handlers": ["stderr"], "level": "CRITICAL", "propagate": False},
        },
    }
