"""Who may ask: tokens with roles and rates, held as hashes.

A token file has one line a token, and comments::

    # name  role    the token's SHA-256                  requests a minute, if bounded
    anna    user    sha256:9f86d081884c7d659a2feaa0c5…   60/min
    door    viewer  sha256:60303ae22b998861bce3b28f33…

The tokens themselves stand nowhere; who loses one gets another.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from ..errors import OptionError
from .rates import Guesses, Rates
from .settings import ServeSettings, is_loopback

__all__ = ["LOCAL", "Caller", "Keyring", "Role", "check_exposure", "make_token"]

_log = logging.getLogger("mien.serve")

_PREFIX = "mien_"
_LONGEST = 512
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")
_RATE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(?:/min)?")


class Role(IntEnum):
    """What a caller may do; each may do what those before may."""

    VIEWER = 1
    """See what models there are and what is stored."""
    USER = 2
    """Analyze pictures, films and cameras; see and delete its own jobs."""
    ADMIN = 3
    """See and delete all jobs, read the measures, declare the purpose."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    name
        As the token file calls it; owner of its jobs.
    role
        What it may do.
    rate
        Requests a minute; None: no bound.
    """

    name: str
    role: Role
    rate: float | None = None


LOCAL = Caller("local", Role.ADMIN)
"""Whoever asks a service without tokens, which listens on a loopback address only."""


class Keyring:
    """The tokens of a service, read again when their file changes.

    Attributes
    ----------
    guesses
        Who tried tokens that do not exist.
    """

    def __init__(self, path: Path | None = None, entries: Sequence[tuple[bytes, Caller]] = ()) -> None:
        self.guesses = Guesses()
        self._path, self._entries = path, tuple(entries)
        self._seen = _signature(path) if path else None
        self._rates: Rates | None = None

    @classmethod
    def load(cls, path: Path | None) -> Keyring:
        """Read a token file; None: everybody is `LOCAL`.

        Raises
        ------
        OptionError
            If the file cannot be read, others may write to it, or a line is not what it should be; the message names
            the line and says what to write.
        """
        if path is None:
            return cls()
        entries, problems = _read(path)
        if problems:
            raise OptionError(problems[0])
        if not entries:
            msg = f"{path}: no token; make one with: mien token NAME"
            raise OptionError(msg)
        return cls(path, entries)

    @property
    def open(self) -> bool:
        """Nobody is asked for a token."""
        return self._path is None

    @property
    def count(self) -> int:
        """How many tokens there are."""
        return len(self._entries)

    def caller(self, token: str | None) -> Caller | None:
        """Return who has this token; None: nobody.

        All hashes are compared, each in constant time, so that the time says nothing about any of them.
        """
        if self._path is None:
            return LOCAL
        self._refresh(self._path)
        if not token or len(token) > _LONGEST:
            return None
        asked = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = None
        for held, caller in self._entries:
            if hmac.compare_digest(held, asked):
                found = caller
        return found

    def rates(self, state: Path) -> Rates:
        """Return what counts the requests of each caller, in a service with this state folder."""
        if self._rates is None:
            self._rates = Rates(state / "rates.sqlite")
        return self._rates

    def _refresh(self, path: Path) -> None:
        if (now := _signature(path)) == self._seen:
            return
        self._seen = now
        # Line by line, unlike at the start: a slip in one line must neither bring back a token that another line no
        # longer has, nor lock everybody out.
        self._entries, problems = _read(path)
        for problem in problems:
            _log.error("token file: %s", problem)
        _log.warning("token file read again: %d tokens", len(self._entries))


def make_token(name: str, role: Role, rate: float | None = None) -> tuple[str, str]:
    """Make a token of 256 random bits.

    Parameters
    ----------
    name
        Who gets it: letters, digits, ``_``, ``.`` and ``-``, at most 40.
    role
        What it may do.
    rate
        Requests a minute; None: no bound.

    Returns
    -------
    token : str
        To be given to its owner; it is kept nowhere.
    line : str
        To be added to the token file.

    Raises
    ------
    OptionError
        If the name or the rate cannot be used.
    """
    if rate is not None and not 0 < rate < 1_000_000:
        msg = f"rate is {rate:g} a minute, it must be above 0 and below 1,000,000"
        raise OptionError(msg)
    if problem := _name_problem(name):
        raise OptionError(problem)
    token = _PREFIX + secrets.token_urlsafe(32)
    return token, _line(name, role.name.lower(), token, None if rate is None else f"{rate:.15g}/min")


def check_exposure(settings: ServeSettings) -> None:
    """Refuse a service that others can reach and that asks nobody for a token.

    Raises
    ------
    OptionError
        If there is no token file and the service listens elsewhere than on a loopback address, or behind a proxy.
    """
    if settings.token_file is not None:
        return
    how = "make a token with: mien token NAME --file tokens.txt, and start with --token-file tokens.txt"
    if not is_loopback(settings.host):
        msg = f"at {settings.host} others can reach this service, so it needs tokens; {how}"
        raise OptionError(msg)
    if settings.proxy:
        msg = f"through a proxy others can reach this service, so it needs tokens; {how}"
        raise OptionError(msg)


# The file


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> tuple[tuple[tuple[bytes, Caller], ...], list[str]]:
    """Return the good lines as (hash, caller), and what is wrong with the others."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return (), [f"{path}: the token file cannot be read ({why})"]
    if os.name == "posix" and mode & (stat.S_IWGRP | stat.S_IWOTH):
        return (), [f"{path}: others may write to the token file; run: chmod 600 {path}"]
    if os.name == "posix" and mode & stat.S_IROTH:
        _log.warning("everybody on this machine may read the token file; run chmod 600 on it")
    entries: dict[bytes, Caller] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        found = _parsed(words)
        if isinstance(found, tuple) and found[0] in entries:
            found = "another line has the same token; make a new one with: mien token NAME"
        if isinstance(found, str):
            problems.append(f"{path}, line {number}: {found}")
        else:
            entries[found[0]] = found[1]
    return tuple(entries.items()), problems


def _parsed(words: Sequence[str]) -> tuple[bytes, Caller] | str:
    """Return what a line says, or what is wrong with it and what to write."""
    form = "write: name role sha256:HASH [rate/min]"
    if not 3 <= len(words) <= 4:
        return f"{len(words)} words; {form}"
    name, role, held, *rest = words
    if problem := _name_problem(name):
        return problem
    if role.upper() not in Role.__members__:
        return f"unknown role {role!r}; choose one of: {', '.join(r.name.lower() for r in Role)}"
    rate = _RATE.fullmatch(rest[0]) if rest else None
    if rest and (rate is None or float(rate[1]) == 0):
        return f"rate {rest[0]!r} is not a number of requests a minute, as 60/min"
    hashed = _HASH.fullmatch(held)
    if hashed is None and held.lower().startswith("sha256:"):
        return f"the hash has {len(held) - 7} characters, not 64 hexadecimal digits; {form}"
    if hashed is None:
        # Said with the line to write, since whoever wrote a token here wants to keep it.
        return f"this is a token itself, not its hash; write instead: {_line(name, role, held, *rest)}"
    return bytes.fromhex(hashed[1]), Caller(name, Role[role.upper()], float(rate[1]) if rate else None)


def _line(name: str, role: str, token: str, rate: str | None = None) -> str:
    hashed = hashlib.sha256(token.encode()).hexdigest()
    return " ".join([name, role, f"sha256:{hashed}", *([rate] if rate else [])])


def _name_problem(name: str) -> str | None:
    if name == LOCAL.name:
        return f"the name {name!r} is that of whoever asks a service without tokens; take another"
    if not _NAME.fullmatch(name):
        return f"name {name[:60]!a} is not 1 to 40 letters, digits, _ . or -"
    return None
