"""Pictures of many clients through few models: a bounded queue, few threads, one call of the network for many faces."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from threading import Condition, Event, Thread
from time import monotonic, perf_counter
from typing import Any

import numpy as np

from ..errors import MienError
from ..media.video import Frame
from ..models.base import Boxes
from ..pipeline.analyzer import Analyzer, Look
from .batch import Batch, Scores, Turns, Waiting
from .measure import Measures
from .picture import SEARCH_EVERY, Camera, DroppedError, Found, FrameWork, Order, PictureWork, Work
from .problem import Problem
from .settings import ServeSettings

__all__ = ["Engine", "Load"]

_BODIES = 4
"""Bodies of the largest size whose pictures may wait at once."""
_LONGEST_RETRY = 60
_REMEMBERED = 0.9
"""Weight of what was known in the mean seconds of a picture, which follows the last ten or so."""
_VARIANTS = 64


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an engine is.

    Attributes
    ----------
    waiting
        Pictures and frames that wait for a thread.
    waiting_bytes
        What they take, undecoded.
    running
        Those in a thread now; one whose client has left counts until its thread has truly ended with it.
    threads
        Threads.
    streams
        Cameras.
    rate
        Pictures a second that it manages when all threads work, measured on the last ones.
    """

    waiting: int
    waiting_bytes: int
    running: int
    threads: int
    streams: int
    rate: float


class Engine:
    """Reads pictures for all clients of one process.

    Threads take what waits in turns: first pictures and cameras take turns, then the callers, then the requests of a
    caller. So a request of sixteen pictures waits sixteen times, and whoever comes after its first picture is not
    behind its last one. At most ``limits.waiting`` pictures wait, as bytes, and at most ``threads`` are decoded.

    Parameters
    ----------
    settings
        What the service is told.
    measures
        What counts.
    analyzer
        What reads pictures, instead of one made by the settings.
    wait
        Seconds that faces wait for those of others before the expression model is called, when others are in work.
    """

    def __init__(
        self, settings: ServeSettings, measures: Measures, *, analyzer: Analyzer | None = None, wait: float = 0.004
    ) -> None:
        self.settings, self.measures = settings, measures
        self._analyzer, self._wait = analyzer, wait
        self._change = Condition()
        self._turns = Turns[Work]()
        self._running = self._bytes = self._streams = self._pictures = 0
        self._searching = 0
        self._each = 0.1
        self._closed, self._warm = True, False
        self._threads: list[Thread] = []
        self._batch = self._new_batch()
        self._numbers = itertools.count()
        self._variants: dict[Hashable, Analyzer] = {}

    # What it is

    @property
    def ready(self) -> bool:
        """The models are loaded and have read a first picture, and it is not closed."""
        return self._warm and not self._closed

    @property
    def analyzer(self) -> Analyzer:
        """What reads pictures when nothing else is asked for.

        Raises
        ------
        Problem
            503 before `start` has ended.
        """
        if self._analyzer is None:
            raise Problem(503, "starting", "the models are being loaded", headers={"Retry-After": "1"})
        return self._analyzer

    def variant(self, **changes: Any) -> Analyzer:
        """Return what reads pictures by other settings, with the same models; those used last are kept.

        Raises
        ------
        OptionError, UnknownLabelError
            If a setting has an impossible value, or the model cannot give the labels.
        """
        changes = {name: value for name, value in changes.items() if value is not None}
        if not changes:
            return self.analyzer
        key = tuple(sorted(changes.items()))
        held = self._variants.pop(key, None) or self.analyzer.with_settings(**changes)
        self._variants[key] = held
        while len(self._variants) > _VARIANTS:
            del self._variants[next(iter(self._variants))]
        return held

    def load(self) -> Load:
        """Return how busy it is."""
        with self._change:
            threads = self.settings.threads
            return Load(
                len(self._turns), self._bytes, self._running, threads, self._streams, threads / max(self._each, 1e-6)
            )

    # Starting and closing

    async def start(self) -> None:
        """Load the models, read a first picture and start the threads."""
        await asyncio.to_thread(self._prepare)
        self._closed = False
        self._batch = self._new_batch()
        self._batch.start()
        self._threads = [
            Thread(target=self._work, name=f"mien-picture-{i}", daemon=True) for i in range(self.settings.threads)
        ]
        for thread in self._threads:
            thread.start()

    async def close(self, *, seconds: float = 5.0) -> None:
        """Stop the threads; who waits is answered 503, what is in a thread is waited for at most so long."""
        with self._change:
            self._closed = True
            left = list(self._turns)
            self._turns, self._bytes, self._pictures = Turns(), 0, 0
            self._change.notify_all()
        for work in left:
            work.settle(_closing())
        until = monotonic() + seconds
        for thread in self._threads:
            await asyncio.to_thread(thread.join, max(0.0, until - monotonic()))
        if self._threads:
            await asyncio.to_thread(self._batch.close, max(0.0, until - monotonic()))
        self._threads = []

    def _new_batch(self) -> Batch:
        return Batch(lambda: self._searching, self.measures.read, wait=self._wait)

    def _prepare(self) -> None:
        if self._analyzer is None:
            self._analyzer = Analyzer(self.settings.analysis)
        noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
        box = np.array([[100, 60, 200, 160]], np.float32)
        points = np.array([[[131, 99], [169, 99], [150, 120], [135, 138], [165, 138]]], np.float32)
        boxes = Boxes(box, np.ones(1, np.float32), points, np.full(1, -1, np.int16))
        for _ in range(2):  # the second one says what a picture takes
            begin = perf_counter()
            self._analyzer.find(noise)
            self._analyzer.scores([self._analyzer.look(Frame(noise, 0, 0.0), boxes)])
            self._each = perf_counter() - begin
        self._warm = True

    # What is asked of it

    def full(self, count: int = 1, size: int = 0) -> Problem | None:
        """Return the answer to who brings so many pictures of so many bytes; None: there is room."""
        with self._change:
            return self._no_room(count, size)

    async def read(self, orders: Sequence[Order], *, caller: str = "") -> list[Found | MienError]:
        """Read pictures of one request; each gives what was found, or why it cannot be read.

        When the caller is cancelled, what waits leaves the queue, and what is in a thread ends at its next step.

        Raises
        ------
        Problem
            429 when there is no room, 413 when there never is, 504 past ``limits.seconds``, 503 when closing.
        """
        path = ("pictures", caller, next(self._numbers))
        works = [PictureWork(path, order, self.settings.limits) for order in orders]
        answers: list[Found | MienError] = []
        for result in await self._settled(works, bounded=True):
            if isinstance(result, Found):
                self.measures.picture(result.seconds)
            elif not isinstance(result, MienError):
                raise result
            answers.append(result)
        return answers

    async def follow(self, camera: Camera, data: bytes, *, index: int, time: float, caller: Hashable) -> Found:
        """Read the next frame of a camera; one frame of a camera is in work at a time.

        Parameters
        ----------
        camera
            What is known from earlier frames.
        data
            The bytes of the frame.
        index, time
            Number of the frame, and seconds on the camera's clock.
        caller
            Whose frame it is; cameras take turns.

        Raises
        ------
        MienError
            If the frame cannot be read.
        Problem
            504 past ``limits.seconds``, 503 when closing.
        """
        work = FrameWork(("cameras", caller), camera, data, index, time)
        (result,) = await self._settled([work], bounded=False)
        if isinstance(result, Found):
            return result
        raise result

    @contextmanager
    def stream(self) -> Iterator[Camera]:
        """Hold the place of a camera.

        Raises
        ------
        Problem
            429 when ``limits.streams`` are held.
        """
        with self._change:
            if self._streams >= self.settings.limits.streams:
                self.measures.refused("streams")
                msg = f"{self._streams} cameras are read already, the limit is {self.settings.limits.streams}"
                raise Problem(429, "streams", msg, "try again later", headers={"Retry-After": "10"})
            self._streams += 1
        try:
            yield Camera(self.camera_analyzer(), self.settings.limits)
        finally:
            with self._change:
                self._streams -= 1

    def camera_analyzer(self, **changes: Any) -> Analyzer:
        """Return what reads the frames of a camera: `variant` with tracks."""
        return self.variant(track=True, detect_every=SEARCH_EVERY, **changes)

    # The queue

    async def _settled(self, works: Sequence[Work], *, bounded: bool) -> list[Found | BaseException]:
        self._add(works, bounded=bounded)
        try:
            async with asyncio.timeout(self.settings.limits.seconds):
                return await asyncio.gather(*(w.answer for w in works), return_exceptions=True)
        except TimeoutError:
            self.measures.refused("timeout")
            limit = self.settings.limits.seconds
            msg = f"the answer was not ready within {limit:g} s"
            raise Problem(504, "timeout", msg, "send fewer or smaller pictures, or try again later") from None
        finally:
            self._leave(works)

    def _add(self, works: Sequence[Work], *, bounded: bool) -> None:
        with self._change:
            if self._closed:
                raise _closing()
            size = sum(w.size for w in works)
            if bounded and (problem := self._no_room(len(works), size)):
                self.measures.refused(problem.code)
                raise problem
            for work in works:
                self._turns.add(work.path, work)
                self._pictures += isinstance(work, PictureWork)
            self._bytes += size
            self._change.notify(len(works))

    def _no_room(self, count: int, size: int) -> Problem | None:
        limits, idle = self.settings.limits, max(0, self.settings.threads - self._running)
        most_bytes = _BODIES * limits.body_bytes
        if count > limits.waiting:
            msg = f"{count} pictures in one request, {limits.waiting} may wait at once"
            return Problem(413, "too_many_pictures", msg, "send fewer pictures in one request")
        late = bool(self._turns) and self._drain() > limits.seconds
        if self._pictures + count <= limits.waiting + idle and self._bytes + size <= most_bytes and not late:
            return None
        seconds = min(_LONGEST_RETRY, max(1, math.ceil(self._drain())))
        msg = f"{self._pictures} pictures wait already, the limit is {limits.waiting}"
        if late:
            msg = f"{self._pictures} pictures wait already, more than are read within {limits.seconds:g} s"
        elif self._pictures + count <= limits.waiting + idle:
            msg = f"{self._bytes} bytes of pictures wait already, the limit is {most_bytes}"
        return Problem(429, "busy", msg, f"try again in {seconds} s", headers={"Retry-After": str(seconds)})

    def _drain(self) -> float:
        """Return the seconds until what waits now has been read, as fast as the last pictures were."""
        return (len(self._turns) + self._running) * self._each / self.settings.threads

    def _leave(self, works: Sequence[Work]) -> None:
        with self._change:
            for work in works:
                work.dropped = True
                if self._turns.remove(work.path, work):
                    self._bytes -= work.size
                    self._pictures -= isinstance(work, PictureWork)

    # The threads

    def _work(self) -> None:
        while (work := self._next()) is not None:
            work.began, spent = perf_counter(), None
            try:
                self._read(work)
                spent = perf_counter() - work.began
            except DroppedError:
                pass
            except Exception as error:  # noqa: BLE001 - whoever asked is told, the thread goes on
                work.settle(error)
            del work  # and with it the picture, before the place is free
            with self._change:
                self._running -= 1
                if spent is not None:
                    self._each = _REMEMBERED * self._each + (1 - _REMEMBERED) * spent

    def _next(self) -> Work | None:
        with self._change:
            while not self._turns and not self._closed:
                self._change.wait()
            if self._closed:
                return None
            work = self._turns.take()
            self._bytes -= work.size
            self._pictures -= isinstance(work, PictureWork)
            self._running += 1
            return work

    def _read(self, work: Work) -> None:
        work.go_on()
        told = Event()
        said: list[Scores | BaseException] = []

        def keep(scores: Scores | BaseException) -> None:
            said.append(scores)
            told.set()

        due: list[Waiting] = []
        with self._search():
            look = work.look()
            work.go_on()
            if len(look.boxes):
                due = self._batch.add(look, work.analyzer, keep if work.drawn else partial(_finish, work, look))
        self._batch.call(due)
        if not len(look.boxes):
            _finish(work, look, np.empty((0, len(work.analyzer.labels)), np.float32))
        elif work.drawn:
            told.wait()
            _finish(work, look, said[0])

    @contextmanager
    def _search(self) -> Iterator[None]:
        with self._change:
            self._searching += 1
        try:
            yield
        finally:
            with self._change:
                self._searching -= 1
            self._batch.stir()


def _finish(work: Work, look: Look, scores: Scores | BaseException) -> None:
    try:
        if not work.dropped:
            work.settle(scores if isinstance(scores, BaseException) else work.found(look, scores))
    except Exception as error:  # noqa: BLE001 - whoever asked is told, the thread goes on
        work.settle(error)


def _closing() -> Problem:
    return Problem(503, "closing", "the service is closing", "try again in a moment", headers={"Retry-After": "2"})
