"""Where the bytes of a model lie: in the package, in a dependency, in the cache; else they are downloaded.

Nothing here looks at the environment or the disk before `locate` is called.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import IntegrityError, ModelError
from .card import ModelCard

__all__ = ["cache_folder", "locate"]

_ROOM = Path(__file__).parent
_CHUNK = 1 << 20
_SECONDS = 30.0

_verified: set[tuple[str, int, int, str]] = set()
_lock = threading.Lock()


def cache_folder() -> Path:
    """Return the folder of downloaded models: the environment variable ``MIEN_CACHE``, else the user's cache folder."""
    if chosen := os.environ.get("MIEN_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "mien" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mien"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"


def _in_dependency(card: ModelCard, package: str, inside: str) -> Path:
    # `find_spec` of a top-level package reads where it lies and runs none of its code.
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    for folder in (spec and spec.submodule_search_locations) or ():
        if (file := Path(folder) / inside).is_file():
            return file
    found = f"{package} has no file {inside}" if spec else f"the package {package} is not installed"
    msg = f"model {card.name!r}: {found}; run: pip install --force-reinstall mien"
    raise ModelError(msg)


def _sha256(file: BinaryIO, into: BinaryIO | None = None, *, limit: int | None = None) -> str:
    """Hash a stream, copying it on the way; stop when it is longer than ``limit`` bytes."""
    digest, seen = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        if into:
            into.write(chunk)
        seen += len(chunk)
        if limit is not None and seen > limit:
            break
    return digest.hexdigest()


def _check(card: ModelCard, place: str | Path, found: str, advice: str) -> None:
    if found != card.sha256:
        msg = f"model {card.name!r}: {place} has SHA-256 {found}, its card says {card.sha256}; {advice}"
        raise IntegrityError(msg)


def _download(card: ModelCard, target: Path) -> None:
    url = card.url or ""
    if not url.startswith(("https://", "http://")):
        msg = f"model {card.name!r}: its address {url!r} is neither https nor http"
        raise ModelError(msg)
    partial: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(url, timeout=_SECONDS) as reply,  # noqa: S310  # the scheme was just checked
            tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as copy,
        ):
            partial = Path(copy.name)
            found = _sha256(reply, copy, limit=card.size or None)  # type: ignore[arg-type]  # a file but for its type
        _check(card, url, found, "the address may hold another version: tell the author of the card")
        partial.replace(target)
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        msg = (
            f"model {card.name!r}: cannot download {url} ({error}); where there is no network, put the file at {target}"
        )
        raise ModelError(msg) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def _find(card: ModelCard) -> Path:
    package, colon, inside = card.file.partition(":")
    if PurePosixPath(inside or package).is_absolute() or ".." in PurePosixPath(inside or package).parts:
        msg = f"model {card.name!r}: file {card.file!r} must be a relative path without '..'"
        raise ModelError(msg)
    if colon:
        return _in_dependency(card, package, inside)
    bundled, cached = _ROOM / card.file, cache_folder() / card.file
    if bundled.is_file():
        return bundled
    if not cached.is_file():
        if card.url is None:
            msg = f"model {card.name!r}: {card.file} is neither in the package nor at {cached}; put the file there"
            raise ModelError(msg)
        _download(card, cached)
    return cached


def locate(card: ModelCard) -> Path:
    """Return the file of a model, its SHA-256 verified.

    Looked for inside mien, inside the dependency that the card names, in the cache, and last at the card's address;
    a download gets its name only after its bytes were verified. A file is hashed once a process, and again when its
    size or time has changed.

    Raises
    ------
    ModelError
        If the file is nowhere and cannot be downloaded; the message says where to put it.
    IntegrityError
        If the file has another SHA-256 than the card; the message has both.
    """
    with _lock:
        file = _find(card)
        status = file.stat()
        key = (str(file), status.st_size, status.st_mtime_ns, card.sha256)
        if key not in _verified:
            with file.open("rb") as stream:
                _check(card, file, _sha256(stream), "delete it or install the package again")
            _verified.add(key)
    return file
