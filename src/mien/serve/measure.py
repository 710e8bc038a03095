"""What the service counts of itself, as Prometheus reads it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from .workers import SHARED

__all__ = ["CONTENT_TYPE", "Measures"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text form of Prometheus."""

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "WEBSOCKET"}
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_FACES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class _Told(Collector):
    """Measures that are asked for when they are read, as films by state, which all processes see alike."""

    def __init__(self, jobs: Mapping[str, int], info: Mapping[str, str]) -> None:
        self._jobs, self._info = jobs, info

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("mien", "What answers", dict(self._info))
        films = GaugeMetricFamily("mien_jobs", "Films by state", labels=["state"])
        for state, number in self._jobs.items():
            films.add_metric([state], number)
        yield films


class Measures:
    """Counters and times of one process, or, in a worker, of all of them."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has it so
        own = CollectorRegistry()
        self._registry = own
        self._answers = Counter(
            "mien_requests", "Answers by route, method and status", ["route", "method", "status"], registry=own
        )
        self._answer_seconds = Histogram(
            "mien_request_seconds", "From a request to its answer", ["route", "method"], buckets=_SECONDS, registry=own
        )
        self._refused = Counter(
            "mien_refused", "Requests turned away, by the code of the error", ["code"], registry=own
        )
        self._pictures = Histogram("mien_picture_seconds", "A picture's turn", buckets=_SECONDS, registry=own)
        self._calls = Histogram("mien_call_seconds", "A call of the expression model", buckets=_SECONDS, registry=own)
        self._faces = Histogram(
            "mien_call_faces", "Faces in a call of the expression model", buckets=_FACES, registry=own
        )
        self._frames = Counter("mien_frames", "Frames of cameras that were read", registry=own)
        self._dropped = Counter("mien_frames_dropped", "Frames that newer ones took the place of", registry=own)
        self._jobs = Counter("mien_jobs_entered", "Films that came into a state", ["state"], registry=own)
        self._load = {
            name: Gauge(f"mien_{name}", text, multiprocess_mode="livesum", registry=own)
            for name, text in (
                ("waiting", "Pictures and frames that wait for a thread"),
                ("running", "Pictures and frames in a thread"),
                ("streams", "Cameras"),
            )
        }
        self._memory = Gauge(
            "process_resident_memory_bytes", "Memory in use, on Linux", multiprocess_mode="livesum", registry=own
        )
        self._cpu = Counter("process_cpu_seconds", "Processor time", registry=own)
        self._spent = 0.0
        began = Gauge(
            "process_start_time_seconds", "Start, seconds since 1970", multiprocess_mode="livemin", registry=own
        )
        began.set(time.time())

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer: the route as it is written in the application, never the path that was asked for."""
        known = method if method in _METHODS else "other"
        self._answers.labels(route, known, str(status)).inc()
        self._answer_seconds.labels(route, known).observe(seconds)

    def refused(self, why: str) -> None:
        """Count a request that was turned away: a code of `problem.Problem`."""
        self._refused.labels(why).inc()

    def read(self, faces: int, seconds: float) -> None:
        """Count one call of the expression model."""
        self._faces.observe(faces)
        self._calls.observe(seconds)

    def picture(self, seconds: float) -> None:
        """Count one picture, from its turn to its faces."""
        self._pictures.observe(seconds)

    def frame(self, *, dropped: int = 0) -> None:
        """Count a frame of a camera, and those that newer ones took the place of."""
        self._frames.inc()
        self._dropped.inc(dropped)

    def job(self, state: str) -> None:
        """Count a film that came into a state."""
        self._jobs.labels(state).inc()

    def pulse(self, *, waiting: int, running: int, streams: int) -> None:
        """Note the present state of the process: how busy it is, its memory, its processor time."""
        for name, value in (("waiting", waiting), ("running", running), ("streams", streams)):
            self._load[name].set(value)
        self._memory.set(_resident())
        spent = time.process_time()
        self._cpu.inc(max(0.0, spent - self._spent))
        self._spent = spent

    def text(self, *, jobs: Mapping[str, int] | None = None, info: Iterable[tuple[str, str]] = ()) -> bytes:
        """Return all of it in Prometheus' text form.

        Parameters
        ----------
        jobs
            Films by state.
        info
            What is said of the service besides its version.
        """
        registry = CollectorRegistry()
        if folder := os.environ.get(SHARED):
            MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]  # the library has it so
        else:
            registry.register(self._registry)
        registry.register(_Told(jobs or {}, {"version": version("mien"), **dict(info)}))
        return generate_latest(registry)


def _resident() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError):  # only Linux has it
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
