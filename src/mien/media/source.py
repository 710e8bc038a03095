"""What is to be read: files, folders, globs, cameras and addresses become a list of sources."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..errors import DecodeError, MienError, SourceError, SourceNotFoundError

__all__ = ["Kind", "Source", "find", "is_url", "sniff"]

_HEAD = 4096
_URL = re.compile(r"(rtsps?|rtmps?|https?|udp)://", re.IGNORECASE)
_TS_PACKETS = ((0, 188), (4, 192))
# Sizes of the info header that BMP writers use; two letters alone would make a text that begins with "BM" a picture.
_BMP_HEADERS = {12, 40, 52, 56, 64, 108, 124}
_STILL_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"avif", b"avis"}


class Kind(StrEnum):
    """What a source is."""

    PICTURE = "picture"
    FILM = "film"
    STREAM = "stream"
    CAMERA = "camera"


@dataclass(frozen=True, slots=True)
class Source:
    """One input.

    Attributes
    ----------
    name
        What result tables call it: the path or address as it was given, inside a folder the folder's path and the rest.
    kind
        What it is, by its content.
    place
        Where it is: a path, an address, or the number of a camera.
    """

    name: str
    kind: Kind
    place: Path | str | int


def _riff(form: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == form


def _is_bmp(head: bytes) -> bool:
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS


def _is_mp4(head: bytes) -> bool:
    atom = head[4:8]
    if atom == b"ftyp":
        return head[8:12] not in _STILL_BRANDS
    return atom in {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}


def _is_transport_stream(head: bytes) -> bool:
    # One sync byte says nothing (0x47 is "G"), so at least three have to stand in step.
    return any(len(syncs := head[first::step]) > 2 and set(syncs) == {0x47} for first, step in _TS_PACKETS)


def _begins(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(starts)


_SIGNS: tuple[tuple[Callable[[bytes], bool], Kind], ...] = (
    (_begins(b"\xff\xd8\xff"), Kind.PICTURE),
    (_begins(b"\x89PNG\r\n\x1a\n"), Kind.PICTURE),
    (_begins(b"GIF87a", b"GIF89a"), Kind.PICTURE),
    (_begins(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), Kind.PICTURE),
    (_riff(b"WEBP"), Kind.PICTURE),
    (_is_bmp, Kind.PICTURE),
    (_is_mp4, Kind.FILM),
    (_begins(b"\x1a\x45\xdf\xa3"), Kind.FILM),  # Matroska, WebM
    (_riff(b"AVI "), Kind.FILM),
    (_begins(b"\0\0\x01\xba", b"\0\0\x01\xb3"), Kind.FILM),  # MPEG program stream, MPEG video
    (_begins(b"OggS", b"FLV\x01", b"YUV4MPEG2 ", b"DKIF"), Kind.FILM),
    (_begins(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"), Kind.FILM),  # ASF, WMV
    (_begins(b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02"), Kind.FILM),  # MXF
    (_is_transport_stream, Kind.FILM),
)


def sniff(head: bytes) -> Kind | None:
    """Tell a picture from a film by the first bytes of a file.

    Parameters
    ----------
    head
        The beginning of the file; 600 bytes are enough for every kind.

    Returns
    -------
    Kind or None
        ``PICTURE`` for JPEG, PNG, WebP, BMP, TIFF and GIF; ``FILM`` for MP4, QuickTime, Matroska, WebM, AVI, MPEG
        streams, Ogg, FLV, ASF and a few rarer ones; None for anything else.

    Examples
    --------
    >>> sniff(b"GIF89a"), sniff(b"hello world")
    (<Kind.PICTURE: 'picture'>, None)
    """
    return next((kind for fits, kind in _SIGNS if fits(head)), None)


def is_url(text: str) -> bool:
    """Tell whether a text is the address of a stream: rtsp, rtmp, http, https or udp."""
    return _URL.match(text) is not None


def find(
    inputs: Iterable[str | os.PathLike[str]], *, recursive: bool = True
) -> tuple[list[Source], list[tuple[str, MienError]]]:
    """Turn what a user named into sources.

    Parameters
    ----------
    inputs
        Files, folders, globs, addresses, and numbers of cameras. A number is a camera only where it is a str; a file of
        that name is ``./0``. What is named twice is taken once.
    recursive
        Look into folders inside folders too.

    Returns
    -------
    sources : list of Source
        In the order given; what stands in a folder or fits a glob is sorted. In folders every picture and film counts,
        told by its content, and other and hidden files are passed over.
    errors : list of (str, MienError)
        The inputs that cannot be used, with the reason; nothing is raised, so that the others can go on.
    """
    sources: dict[tuple[str, Kind], Source] = {}
    errors: list[tuple[str, MienError]] = []
    for given in inputs:
        try:
            found = _one(given, recursive=recursive)
        except MienError as error:
            errors.append((os.fspath(given), error))
            continue
        for item in found:
            if isinstance(item, Source):
                sources.setdefault((item.name, item.kind), item)
            else:
                errors.append(item)
    return list(sources.values()), errors


def _one(given: str | os.PathLike[str], *, recursive: bool) -> list[Source | tuple[str, MienError]]:
    name = os.fspath(given)
    if isinstance(given, str) and given.isascii() and given.isdigit():
        return [Source(name, Kind.CAMERA, int(given))]
    if is_url(name):
        return [Source(name, Kind.STREAM, name)]
    path = Path(name)
    try:
        exists = os.path.lexists(name)
    except ValueError:  # a null character, which no file's name can hold
        exists = False
    if not exists:
        return _glob(name, recursive=recursive)
    if path.is_dir():
        return _folder(name, recursive=recursive)
    return [Source(name, _kind(path, name), path)]


def _folder(name: str, *, recursive: bool) -> list[Source | tuple[str, MienError]]:
    found: list[Source | tuple[str, MienError]] = []
    files, refused = _files(Path(name), recursive=recursive)
    for path in files:
        try:
            kind = sniff(_head(path, str(path)))
        except SourceError as error:
            refused.append((str(path), error))
            continue
        if kind:
            found.append(Source(str(path), kind, path))
    found += refused
    if not found:
        msg = f"{name}: no picture or film in this folder"
        raise SourceError(msg)
    return found


def _files(folder: Path, *, recursive: bool) -> tuple[list[Path], list[tuple[str, MienError]]]:
    found: list[Path] = []
    refused: list[tuple[str, MienError]] = []

    def refuse(error: OSError) -> None:
        refused.append((error.filename, SourceError(f"{error.filename}: cannot be read ({error.strerror})")))

    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [f for f in folders if recursive and not f.startswith(".")]
        found += [path for f in files if not f.startswith(".") and (path := Path(here, f)).is_file()]
    return sorted(found), refused


def _glob(name: str, *, recursive: bool) -> list[Source | tuple[str, MienError]]:
    if not any(c in name for c in "*?["):
        msg = f"{_short(name) or repr(name)}: no such file or folder"
        raise SourceNotFoundError(msg)
    anchor = Path(name).anchor
    hidden = Path(name).name.startswith(".")
    try:
        matches = sorted(m for m in Path(anchor).glob(name[len(anchor) :]) if hidden or not m.name.startswith("."))
    except (OSError, ValueError, NotImplementedError) as error:
        msg = f"{_short(name)}: not a pattern that can be looked up ({error})"
        raise SourceError(msg) from error
    if not matches:
        msg = f"{name}: no file fits this pattern"
        raise SourceNotFoundError(msg)
    found: list[Source | tuple[str, MienError]] = []
    for match in matches:
        try:
            found += _one(match, recursive=recursive)
        except MienError as error:
            found.append((str(match), error))
    return found


def _head(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        msg = f"{name}: cannot be read ({error.strerror})"
        raise SourceError(msg) from error


def _kind(path: Path, name: str) -> Kind:
    if not path.exists():
        msg = f"{name}: a link that leads nowhere"
        raise SourceNotFoundError(msg)
    if not path.is_file():  # a pipe would block, a device never end
        msg = f"{name}: not a file or folder"
        raise SourceError(msg)
    head = _head(path, name)
    kind = sniff(head)
    if kind is None:
        raise DecodeError(refusal(name, head))
    return kind


def refusal(name: str, head: bytes, what: str = "a picture or a film") -> str:
    """Say in one line why these bytes are not what they should be."""
    if not head:
        return f"{name}: the file is empty"
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return f"{name}: HEIC and AVIF pictures cannot be read; save it as JPEG or PNG"
    return f"{name}: not {what} (it begins with {head[:7]!r})"


def _short(name: str) -> str:
    return name if len(name) <= 120 else f"{name[:100]}… ({len(name)} characters)"
