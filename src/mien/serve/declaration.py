"""What was declared once: the purpose of a service, in ``state/policy.json``."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from .purposes import PURPOSES, clean_note

__all__ = ["Declaration", "Record"]

_log = logging.getLogger("mien.serve")
_LARGEST = 64 * 1024
_STALE_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """A purpose as it was declared.

    Attributes
    ----------
    purpose
        A name of `purposes.PURPOSES` that is allowed.
    note
        What it is, in the words of whoever declared it; may be empty.
    time
        When, ISO 8601, UTC.
    by
        Whose token it was, as the token file calls it.
    notice_version
        Which wording was shown then, as `texts.version` gives it.
    """

    purpose: str
    note: str
    time: str
    by: str
    notice_version: str


class Record:
    """The file that holds a declaration; several processes may use it.

    Parameters
    ----------
    path
        Where it lies; its folder is made when it is first written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, ...] | None = None
        self._held: Declaration | None = None
        self._tidy()

    def _tidy(self) -> None:
        # A process that was killed while it wrote leaves its part behind; a younger one may be another's in work.
        with suppress(OSError):
            for part in self.path.parent.glob(f".{self.path.name}.*"):
                if time.time() - part.stat().st_mtime > _STALE_SECONDS:
                    part.unlink()

    def read(self) -> Declaration | None:
        """Return what is declared; read anew whenever the file has changed. None: nothing that could be understood."""
        try:
            stat = self.path.stat()
        except OSError:
            self._seen, self._held = None, None
            return None
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._seen:
            self._held = _read(self.path)
            self._seen = seen
        return self._held

    def write(self, declaration: Declaration) -> None:
        """Replace the file in one step; only its owner may read it.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp makes a file of mode 0600, and the name of a file that is replaced is never half written.
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(declaration), ensure_ascii=False, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def erase(self) -> None:
        """Remove the file.

        Raises
        ------
        OSError
            If it cannot be removed.
        """
        self.path.unlink(missing_ok=True)


def _read(path: Path) -> Declaration | None:
    try:
        with path.open("rb") as file:
            held = json.loads(file.read(_LARGEST))
        found = Declaration(**{f.name: _text(held[f.name]) for f in fields(Declaration)})
        clean_note(found.note)
        if PURPOSES[found.purpose].allowed:
            return found
    # RecursionError: brackets within brackets; whatever stands in there, the service is then without a purpose.
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        _log.warning("policy.json cannot be used (%s): no purpose is declared", type(error).__name__)
        return None
    _log.warning("policy.json names the purpose %s, which is refused: no purpose is declared", found.purpose)
    return None


def _text(value: object) -> str:
    if not isinstance(value, str):
        msg = f"{type(value).__name__} instead of text"
        raise TypeError(msg)
    return value
