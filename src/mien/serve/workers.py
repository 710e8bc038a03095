"""Several processes that answer at one port: started, started again when one dies, ended together."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from ..errors import MienError, ModelError
from .settings import ServeSettings

__all__ = ["SHARED", "Order", "Workers"]

_log = logging.getLogger("mien.serve")

SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of the folder where processes sum their measures; prometheus_client looks for it when it is imported."""

_QUICK = 10.0
"""Seconds within which a death is one at the start."""
_QUICK_DEATHS = 5
_LATEST = 20.0
"""Seconds after which a process that was told to end is killed."""
_LOOK = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a worker is told; it can be sent to another process."""

    settings: ServeSettings
    socket: socket.socket
    certificate: tuple[Path, Path] | None
    log: dict[str, Any]
    measures: Path


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    news: Connection
    began: float
    quick_deaths: int = 0


class Workers:
    """The processes of a service; the first of them also works on films.

    Parameters
    ----------
    order
        What each is told.
    number
        How many.
    """

    def __init__(self, order: Order, number: int) -> None:
        self._order, self._number = order, number
        self._workers: dict[int, _Worker] = {}
        self._signals: list[int] = []

    def answer(self, started: Callable[[], None] | None = None) -> int | None:
        """Answer until told to end; return the signal that told so.

        Parameters
        ----------
        started
            Called once all of them answer.

        Raises
        ------
        MienError
            What kept the first ones from starting; or that they die again and again.
        """
        shutil.rmtree(self._order.measures, ignore_errors=True)
        self._order.measures.mkdir(mode=0o700, parents=True)
        with self._heard_signals():
            try:
                for place in range(self._number):
                    self._workers[place] = self._new(place)
                if self._all_started() and started:
                    started()
                while not self._signals:
                    self._look()
            finally:
                self._end()
                shutil.rmtree(self._order.measures, ignore_errors=True)
        return self._signals[0] if self._signals else None

    @contextmanager
    def _heard_signals(self) -> Iterator[None]:
        def hear(number: int, _: FrameType | None) -> None:
            self._signals.append(number)

        before = {s: signal.signal(s, hear) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _new(self, place: int, *, quick_deaths: int = 0) -> _Worker:
        # A fresh interpreter: threads and loaded networks do not survive a fork.
        context = multiprocessing.get_context("spawn")
        news, theirs = context.Pipe(duplex=False)
        process = context.Process(target=work, args=(self._order, place, theirs), name=f"mien-worker-{place}")
        # Ctrl-C reaches all processes of a terminal; here only the parent hears it and tells the others.
        heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, heard)
        theirs.close()
        return _Worker(process, news, time.monotonic(), quick_deaths)

    def _all_started(self) -> bool:
        for worker in self._workers.values():
            while not self._signals and not worker.news.poll(_LOOK):
                pass
            if self._signals:
                return False
            try:
                error = worker.news.recv()
            except EOFError:
                error = ModelError("a process of the service died while it started; look into the log")
            if error is not None:
                raise error
        return True

    def _look(self) -> None:
        dead = wait([w.process.sentinel for w in self._workers.values()], timeout=_LOOK)
        for place, worker in list(self._workers.items()):
            if worker.process.sentinel in dead and not self._signals:
                self._replace(place, worker)

    def _replace(self, place: int, worker: _Worker) -> None:
        lived = time.monotonic() - worker.began
        deaths = worker.quick_deaths + 1 if lived < _QUICK else 0
        _log.error("worker %d died after %.0f s (exit code %s)", place, lived, worker.process.exitcode)
        if deaths >= _QUICK_DEATHS:
            msg = f"a process of the service died {deaths} times as soon as it started; look into the log"
            raise ModelError(msg)
        # What it has counted stays; what it said of its present state goes.
        for file in self._order.measures.glob(f"gauge_live*_{worker.process.pid}.db"):
            file.unlink(missing_ok=True)
        worker.news.close()
        self._workers[place] = self._new(place, quick_deaths=deaths)

    def _end(self) -> None:
        self._order.socket.close()
        for worker in self._workers.values():
            worker.process.terminate()
        until = time.monotonic() + _LATEST
        while any(w.process.exitcode is None for w in self._workers.values()):
            wait([w.process.sentinel for w in self._workers.values() if w.process.exitcode is None], timeout=_LOOK)
            # A second Ctrl-C waits for nothing.
            if time.monotonic() > until or self._signals.count(signal.SIGINT) > 1:
                for worker in self._workers.values():
                    worker.process.kill()
        for worker in self._workers.values():
            worker.process.join()
            worker.news.close()


def work(order: Order, place: int, news: Connection) -> None:
    """Answer requests in a process of its own, told by `Workers`."""
    threading.Thread(target=_leave_with_parent, name="mien-parent", daemon=True).start()
    os.environ[SHARED] = str(order.measures)
    # It came through exec; what this process starts, as work on a film, must not hold the port.
    order.socket.set_inheritable(False)  # it takes no keyword
    from .process import Process

    try:
        process = Process(
            order.settings,
            [order.socket],
            certificate=order.certificate,
            log=order.log,
            started=lambda: news.send(None),
            run=place == 0,
            heeds=(signal.SIGTERM,),
        )
        process.answer()
    except MienError as error:
        with suppress(OSError):
            news.send(error)
        raise SystemExit(1) from None


def _leave_with_parent() -> None:
    # Whoever ends the parent with kill -9 must find the port free: nothing may go on for it.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
