"""Whose turn it is, and one call of the expression model for the faces of many requests."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread
from time import monotonic, perf_counter
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..pipeline.analyzer import Analyzer, Look

__all__ = ["Batch", "Read", "Turns", "Waiting"]

T = TypeVar("T")

_MOST = 64
"""Faces in one call of the network; more take no less time a face."""

Scores = NDArray[np.float32]
Read = Callable[[Scores | BaseException], None]
"""Is told the scores of a picture's faces, (N, K) float32, or why there are none."""


class Turns(Generic[T]):
    """Things that wait, each on a path of names; at every fork of the paths the branches take turns.

    >>> turns = Turns[str]()
    >>> for path, item in ((("ann", 1), "a"), (("ann", 1), "b"), (("bob", 2), "c")):
    ...     turns.add(path, item)
    >>> [turns.take() for _ in range(3)]
    ['a', 'c', 'b']
    """

    def __init__(self) -> None:
        self._here: deque[T] = deque()
        self._below: OrderedDict[Hashable, Turns[T]] = OrderedDict()
        self._count = 0

    def add(self, path: tuple[Hashable, ...], item: T) -> None:
        """Put a thing at the end of its path."""
        self._count += 1
        if path:
            self._below.setdefault(path[0], Turns()).add(path[1:], item)
        else:
            self._here.append(item)

    def take(self) -> T:
        """Take what is next.

        Raises
        ------
        IndexError
            If nothing waits.
        """
        if self._below and not self._here:
            name, below = next(iter(self._below.items()))
            item = below.take()
            self._below.move_to_end(name)
            if not below:
                del self._below[name]
        else:
            item = self._here.popleft()
        self._count -= 1
        return item

    def remove(self, path: tuple[Hashable, ...], item: T) -> bool:
        """Take a thing out before its turn; False: it does not wait any more."""
        if path:
            below = self._below.get(path[0])
            there = below is not None and below.remove(path[1:], item)
            if below is not None and not below:
                del self._below[path[0]]
        else:
            there = item in self._here
            if there:
                self._here.remove(item)
        self._count -= there
        return there

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        """Give what waits, in no order of turns."""
        yield from self._here
        for below in self._below.values():
            yield from below


@dataclass(frozen=True, slots=True)
class Waiting:
    """Faces that are to be read, and by when at the latest."""

    look: Look
    analyzer: Analyzer
    told: Read
    until: float


class Batch:
    """Calls the expression model for all faces that are there, of whatever request.

    Whoever brings the last faces makes the call, for those that others left here too. A thread makes it where the last
    ones take too long to come.

    Parameters
    ----------
    others
        How many pictures are being searched, whose faces may come any moment; with the one that is being added.
    measured
        Is told the faces and the seconds of each call.
    wait
        Seconds that the first faces wait for those of others, when others are in work; alone, nobody waits.
    """

    def __init__(
        self, others: Callable[[], int], measured: Callable[[int, float], None], *, wait: float = 0.004
    ) -> None:
        self._others, self._measured, self._wait = others, measured, wait
        self._change = Condition()
        self._pending: deque[Waiting] = deque()
        self._closed = False
        self._thread = Thread(target=self._run, name="mien-network", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Read what was added, then end; wait at most so long for that."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join(seconds)

    def add(self, look: Look, analyzer: Analyzer, told: Read) -> list[Waiting]:
        """Leave the faces of a picture to be read; ``told`` is called in some thread.

        Returns
        -------
        list of Waiting
            What whoever adds has to `call` now, being the last for the moment; else nothing.
        """
        with self._change:
            self._pending.append(Waiting(look, analyzer, told, monotonic() + self._wait))
            if self._others() <= 1 or self._faces() >= _MOST:
                return self._taken()
            self._change.notify_all()
            return []

    def stir(self) -> None:
        """Say that `others` may give another number now."""
        with self._change:
            self._change.notify_all()

    def _run(self) -> None:
        while group := self._late():
            self.call(group)

    def _late(self) -> list[Waiting]:
        """Return the faces that have waited long enough, once there are any; nothing when closed."""
        with self._change:
            while self._pending or not self._closed:
                left = self._pending[0].until - monotonic() if self._pending else None
                if left is not None and (left <= 0 or self._closed or not self._others()):
                    return self._taken()
                self._change.wait(left)
            return []

    def _taken(self) -> list[Waiting]:
        group: list[Waiting] = []
        faces = 0
        while self._pending and (not group or faces + len(self._pending[0].look.crops) <= _MOST):
            group.append(self._pending.popleft())
            faces += len(group[-1].look.crops)
        return group

    def call(self, group: list[Waiting]) -> None:
        """Call the network, once for each label set."""
        for alike in _by_labels(group):
            self._read(alike)

    def _faces(self) -> int:
        return sum(len(w.look.crops) for w in self._pending)

    def _read(self, group: list[Waiting]) -> None:
        begin = perf_counter()
        try:
            scores = group[0].analyzer.scores([w.look for w in group])
        except Exception as error:  # noqa: BLE001 - whoever asked is told, the thread goes on
            if len(group) > 1:  # one of them is at fault, not all
                for waiting in group:
                    self._read([waiting])
                return
            group[0].told(error)
            return
        if faces := sum(len(s) for s in scores):
            self._measured(faces, perf_counter() - begin)
        for waiting, own in zip(group, scores, strict=True):
            waiting.told(own)


def _by_labels(group: list[Waiting]) -> list[list[Waiting]]:
    """Part what is to be read by the label set that is wanted: scores are summed to it within the call."""
    parts: dict[Hashable, list[Waiting]] = {}
    for waiting in group:
        parts.setdefault(waiting.analyzer.labels, []).append(waiting)
    return list(parts.values())
