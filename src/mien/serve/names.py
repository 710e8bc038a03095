"""Names that clients give their files: for showing only, never a path."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["shown"]

_LONGEST = 100
_PARTS = re.compile(r"[/\\]")
# A table program takes a cell that begins with one of these for a formula.
_FORMULA = "=+-@"


def shown(name: bytes | str, otherwise: str) -> str:
    r"""Return a client's name for a file as it may be shown.

    The last part of a path, in one line, without control characters, without those that turn the direction of writing
    and without the beginning of a formula; at most 100 characters.

    Parameters
    ----------
    name
        As it came; bytes are UTF-8.
    otherwise
        What it is called when nothing is left.

    Examples
    --------
    >>> shown(b"../../etc/passwd", "picture"), shown("C:\\me\\cv\u202egnp.exe", "picture"), shown(b"..", "picture")
    ('passwd', 'cvgnp.exe', 'picture')
    """
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    last = _PARTS.split(text)[-1]
    clean = "".join(c for c in unicodedata.normalize("NFC", last[: 4 * _LONGEST]) if c.isprintable())
    clean = clean.strip().lstrip(_FORMULA).strip()
    if not clean.strip("."):
        return otherwise
    return clean if len(clean) <= _LONGEST else f"{clean[: _LONGEST - 1]}…"
