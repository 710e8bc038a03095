"""How often a caller may ask, counted over all processes; and how often an address may guess at tokens."""

from __future__ import annotations

import ipaddress
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Guesses", "Rates"]

_MINUTE = 60.0
_PATIENCE = 5.0
_TABLE = "CREATE TABLE IF NOT EXISTS rates (name TEXT PRIMARY KEY, empty REAL NOT NULL) WITHOUT ROWID"


class Rates:
    """A bucket of requests for each caller, exact over all processes of a service.

    A bucket holds one minute's requests, at least one, and fills again at the caller's rate: in any stretch of ``t``
    minutes at most ``rate × (1 + t)`` requests pass. Held is one number a caller, the moment at which the bucket would
    be full again (the "virtual scheduling" of ITU-T I.371), in a small SQLite file; nothing about the requests.

    Parameters
    ----------
    path
        The file; made with its folder, readable by its owner only, when the first caller with a rate asks.
    clock
        Seconds since the epoch, since processes and restarts have to agree.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._held: sqlite3.Connection | None = None

    def take(self, name: str, rate: float) -> float:
        """Take one request out of a caller's bucket; may be called from any thread.

        Parameters
        ----------
        name
            The caller.
        rate
            Its requests a minute, above 0.

        Returns
        -------
        float
            0: it may go on. Else the seconds after which it may; nothing was taken.

        Raises
        ------
        sqlite3.Error
            If the file cannot be used.
        """
        step = _MINUTE / rate
        most = step * max(1.0, rate)
        with self._lock, closing(self._connection().cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                wait = self._take(cursor, name, step, most)
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")
        return wait

    def _take(self, cursor: sqlite3.Cursor, name: str, step: float, most: float) -> float:
        now = self._clock()
        row = cursor.execute("SELECT empty FROM rates WHERE name = ?", (name,)).fetchone()
        # A clock that was set back, or a rate that was raised, must not lock a caller out.
        full = min(max(row[0] if row else now, now), now + most)
        if (wait := full + step - most - now) > 1e-9:
            return wait
        cursor.execute(
            "INSERT INTO rates VALUES (?, ?) ON CONFLICT DO UPDATE SET empty = excluded.empty", (name, full + step)
        )
        return 0.0

    def _connection(self) -> sqlite3.Connection:
        if self._held is None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            held = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
            held.execute("PRAGMA journal_mode = WAL")
            held.execute("PRAGMA synchronous = OFF")  # what a power cut forgets is a minute of counting
            held.execute(_TABLE)
            self._held = held
        return self._held

    def close(self) -> None:
        """Close the file; the next request opens it again."""
        with self._lock:
            if self._held is not None:
                self._held.close()
                self._held = None


@dataclass(slots=True)
class _Guesser:
    left: float
    at: float
    known: set[str] = field(default_factory=set)


class Guesses:
    """Who tried tokens that do not exist: by address, of IPv6 by the /64 that one customer has; in memory only.

    The first guesses are answered later and later, then the address is turned away, with valid tokens too unless they
    were used from there before: so a guesser learns nothing, and a neighbour behind the same address is not locked out.

    Parameters
    ----------
    most
        Guesses before the address is turned away.
    seconds
        After which one more guess is forgiven.
    addresses
        How many are remembered, the latest.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        most: int = 10,
        seconds: float = 6.0,
        addresses: int = 4096,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most, self.seconds, self.addresses, self._clock = most, seconds, addresses, clock
        self._held: OrderedDict[str, _Guesser] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def wait(self, address: str, name: str | None = None) -> float:
        """Return for how many seconds an address is turned away; ``name``: the caller whose valid token it shows."""
        found = self._held.get(_prefix(address))
        if found is None or (name is not None and name in found.known):
            return 0.0
        left = self._left(found)
        return 0.0 if left >= 1 else (1 - left) * self.seconds

    def wrong(self, address: str) -> float:
        """Note a guess; return the seconds after which it should be answered."""
        found = self._entry(_prefix(address))
        found.left, found.at = max(0.0, self._left(found) - 1), self._clock()
        return float(min(1.0, 0.02 * 2 ** (self.most - found.left)))

    def right(self, address: str, name: str) -> None:
        """Note that a valid token came from an address."""
        known = self._entry(_prefix(address)).known
        if len(known) < 64:
            known.add(name)

    def _left(self, found: _Guesser) -> float:
        return min(float(self.most), found.left + (self._clock() - found.at) / self.seconds)

    def _entry(self, prefix: str) -> _Guesser:
        found = self._held.setdefault(prefix, _Guesser(self.most, self._clock()))
        self._held.move_to_end(prefix)
        while len(self._held) > self.addresses:
            self._held.popitem(last=False)
        return found


def _prefix(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(getattr(found, "ipv4_mapped", None) or found)
