"""Settings in words: from the command line and from the environment (``MIEN_…``), each option in one row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import OptionError
from ..pipeline.analyzer import Settings
from ..zoo.session import usable_cpus
from .settings import Limits, ServeSettings

__all__ = ["OPTIONS", "SELF_SIGNED", "Option", "count", "duration", "read", "size"]

SELF_SIGNED = "self-signed"

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "b": 1} | {
    f"{letter}{kind}": step**power
    for power, letter in enumerate("kmgt", 1)
    for kind, step in (("", 1000), ("b", 1000), ("ib", 1024))
}
_COUNTS = {"": 1, "k": 1000, "m": 1_000_000}
_AMOUNT = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]*)", re.ASCII)
_YES, _NO = {"1", "yes", "true", "on"}, {"0", "no", "false", "off"}


def duration(text: str) -> float:
    """Read seconds: a number, or one with ``s``, ``m``, ``h`` or ``d`` behind it.

    Raises
    ------
    OptionError
        If it is something else.

    Examples
    --------
    >>> duration("0"), duration("90s"), duration("1.5h"), duration("7d")
    (0.0, 90.0, 5400.0, 604800.0)
    """
    return _amount(text, _SECONDS, "a duration, as 90s, 15m, 24h or 7d")


def size(text: str) -> int:
    """Read bytes: a number, or one with ``kB``, ``MB``, ``GB`` (thousands) or ``KiB``, ``MiB``, ``GiB`` behind it.

    Raises
    ------
    OptionError
        If it is something else.

    Examples
    --------
    >>> size("4096"), size("32MB"), size("2 GiB")
    (4096, 32000000, 2147483648)
    """
    return int(_amount(text, _BYTES, "a size, as 500kB, 32MB or 2GiB"))


def count(text: str) -> int:
    """Read a whole number, or one with ``k`` or ``M`` behind it.

    Raises
    ------
    OptionError
        If it is something else.

    Examples
    --------
    >>> count("16"), count("40M")
    (16, 40000000)
    """
    found = _amount(text, _COUNTS, "a whole number")
    if found != int(found):
        msg = f"{text!r} is not a whole number"
        raise OptionError(msg)
    return int(found)


def _amount(text: str, units: Mapping[str, int], what: str) -> float:
    found = _AMOUNT.fullmatch(text.strip().lower().replace("_", ""))
    if found is None or found[2] not in units:
        msg = f"{text!r} is not {what}"
        raise OptionError(msg)
    return float(found[1]) * units[found[2]]


def _flag(text: str) -> bool:
    if text.lower() in _YES | _NO:
        return text.lower() in _YES
    msg = f"{text!r} is neither yes nor no"
    raise OptionError(msg)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, re.split(r"[,\s]+", text)))


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be said: how it is read, what it is called in the environment."""

    variable: str
    read: Callable[[str], Any]


_READERS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "host": str,
        "port": count,
        "workers": count,
        "token_file": Path,
        "tls": str,
        "tls_key": Path,
        "state": Path,
        "keep": duration,
        "purpose": str,
        "origin": str,
        "hosts": _names,
        "fetch": _flag,
        "proxy": _flag,
        "threads": count,
        "model": str,
        "detector": str,
        "min_face": count,
        "limits": _names,
        "log": str,
    }
)

OPTIONS: Mapping[str, Option] = MappingProxyType(
    {name: Option(f"MIEN_{name.upper()}", how) for name, how in _READERS.items()}
)
"""What `read` understands, by the name that it has on the command line."""

_ANALYSIS = ("model", "detector", "min_face")


def read(given: Mapping[str, str | None], environ: Mapping[str, str]) -> tuple[ServeSettings, str]:
    """Return the settings, and the form of the log (``text`` or ``json``).

    Parameters
    ----------
    given
        What was said on the command line, in its words; it goes before what the environment says, and that before the
        defaults. None: not said.
    environ
        The environment; an empty variable says nothing.

    Raises
    ------
    OptionError
        If something cannot be used; the message names where it was said.
    """
    said = {
        name: value for name, option in OPTIONS.items() if (value := _said(name, option, given, environ)) is not None
    }
    log = said.pop("log", "text")
    if log not in {"text", "json"}:
        msg = f"log is {log!r}, it must be text or json"
        raise OptionError(msg)
    said["tls"] = _tls(said.pop("tls", None), said.pop("tls_key", None))
    analysis = Settings(threads=1, **{name: said.pop(name) for name in _ANALYSIS if name in said})
    limits = _limits(said.pop("limits", ()))
    if "threads" not in said:
        said["threads"] = max(1, usable_cpus() // max(1, said.get("workers", 1)))
    return ServeSettings(**said, analysis=analysis, limits=limits), log


def _said(name: str, option: Option, given: Mapping[str, str | None], environ: Mapping[str, str]) -> Any:
    text, where = given.get(name), f"--{name.replace('_', '-')}"
    if text is None:
        text, where = environ.get(option.variable) or None, option.variable
    if text is None:
        return None
    try:
        return option.read(text)
    except OptionError as error:
        msg = f"{where}: {error}"
        raise OptionError(msg) from None


def _tls(certificate: str | None, key: Path | None) -> str | tuple[Path, Path] | None:
    if certificate in {None, SELF_SIGNED}:
        if key is not None:
            msg = "--tls-key needs --tls with the file of the certificate"
            raise OptionError(msg)
        return certificate
    if key is None:
        msg = f"--tls {certificate} needs --tls-key with the file of its key, or say --tls {SELF_SIGNED}"
        raise OptionError(msg)
    return Path(str(certificate)), key


def _limits(pairs: Iterable[str]) -> Limits:
    kinds = {f.name: _reader(f.name, str(f.type)) for f in fields(Limits)}
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in kinds:
            msg = f"limit {pair!r} is not name=value with a name of: {', '.join(kinds)}"
            raise OptionError(msg)
        try:
            found[name] = kinds[name](text)
        except OptionError as error:
            msg = f"limit {name}: {error}"
            raise OptionError(msg) from None
    return Limits(**found)


def _reader(name: str, kind: str) -> Callable[[str], Any]:
    if name.endswith("_bytes") or name == "least_rate":
        return size
    return count if kind == "int" else duration
