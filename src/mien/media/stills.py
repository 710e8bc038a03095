"""Still pictures: any common file, bytes, text, array or PIL image becomes (H, W, 3) uint8 RGB.

OpenCV decodes. Before it does, the file's own header is read, so that a picture that is too large or cut off is refused
in one clear line, and so that transparency is known, which OpenCV drops.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DecodeError, ShapeError, SourceError, SourceNotFoundError, TooLargeError
from ..image import Picture
from .source import Kind, refusal, sniff

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["DEFAULT_MAX_PIXELS", "quiet", "read_picture"]

DEFAULT_MAX_PIXELS = 64_000_000
"""Width times height above which a picture or a film's frame is refused; 64 MP take 192 MB as RGB."""

_HEAD = 4096
_BAND = 1 << 16
"""Pixels that are laid over white at once."""
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]+={0,2}\s*")
_ORIENTATION = 0x112

Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
# What the EXIF orientation asks for (CIPA DC-008, 4.6.4): where row 0 and column 0 of the file shall be seen.
_TURNS: Mapping[int, Turn] = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


def read_picture(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | NDArray[Any] | PIL.Image.Image,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
) -> Picture:
    """Read a picture from wherever it is.

    EXIF orientation is applied, transparency is laid over white, 16 bits become 8, grey and CMYK become RGB, and of a
    GIF the first frame is taken.

    Parameters
    ----------
    source
        A path; the bytes of a JPEG, PNG, WebP, BMP, TIFF or GIF file; these bytes as base64, plain or as a ``data:``
        address; a PIL image; or an array: (H, W) or (H, W, 1) grey, (H, W, 3) RGB or (H, W, 4) RGBA, of uint8, uint16
        (0 to 65,535) or float (0 to 1).
    max_pixels
        The limit on width times height. A file or PIL image above it is refused before it is decoded.

    Returns
    -------
    ndarray
        (H, W, 3) uint8 RGB, contiguous. An array that is this already comes back itself, not a copy.

    Raises
    ------
    SourceNotFoundError
        If there is no such file.
    DecodeError
        If the bytes are not a picture, or a damaged one.
    TooLargeError
        If the picture has more pixels than ``max_pixels``.
    ShapeError
        If an array has another shape, dtype or range.

    Examples
    --------
    >>> import numpy as np
    >>> read_picture(np.full((1, 1), 0.5)).tolist()
    [[[128, 128, 128]]]
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(bytes(source), "picture in memory", max_pixels)
    if isinstance(source, str):
        return _from_text(source, max_pixels)
    if isinstance(source, os.PathLike):
        return _from_file(Path(source), str(source), max_pixels)
    if hasattr(source, "convert") and hasattr(source, "getexif"):
        return _from_pil(source, max_pixels)
    raise ShapeError("picture", "a path, bytes, base64 text, an array or a PIL image", type(source).__name__)


def _from_text(text: str, max_pixels: int) -> Picture:
    if text.startswith("data:"):
        return _decode(_unbase64(text.partition(",")[2], "data: address"), "data: address", max_pixels)
    if "\0" not in text and os.path.lexists(text):
        return _from_file(Path(text), text, max_pixels)
    # Only what decodes to a picture is base64: "holiday" is base64 letter by letter, but its bytes are none.
    if len(text) >= 24 and _BASE64.fullmatch(text):
        head = _try_base64("".join(text[:8192].split())[:4096])
        if head and sniff(head) is Kind.PICTURE:
            return _decode(_unbase64(text, "base64 text"), "base64 text", max_pixels)
    shown = text if len(text) <= 120 else f"{text[:60]}… ({len(text)} characters)"
    msg = f"{shown}: no such file, nor the base64 of a picture"
    raise SourceNotFoundError(msg)


def _try_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text[: len(text) // 4 * 4], altchars=b"-_" if set(text) & {"-", "_"} else None)
    except binascii.Error:
        return b""


def _unbase64(text: str, name: str) -> bytes:
    plain = "".join(text.split())
    try:
        padded = plain + "=" * (-len(plain) % 4)
        return base64.b64decode(padded, altchars=b"-_" if set(plain) & {"-", "_"} else None, validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"{name}: not valid base64 ({error})"
        raise DecodeError(msg) from error


def _from_file(path: Path, name: str, max_pixels: int) -> Picture:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            # Looked at first, so that a film of many gigabytes is not read into memory to be refused.
            data = head + file.read() if sniff(head) is Kind.PICTURE else head
    except FileNotFoundError as error:
        msg = f"{name}: no such file"
        raise SourceNotFoundError(msg) from error
    except OSError as error:
        msg = f"{name}: cannot be read ({error.strerror})"
        raise SourceError(msg) from error
    return _decode(data, name, max_pixels)


def _from_array(array: NDArray[Any]) -> Picture:
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not fits or array.size == 0:
        raise ShapeError("picture", "(H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA", array.shape)
    return _rgb(_eight_bit(array))


def _eight_bit(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # also where either is NaN
            expected = "floats in [0, 1]"
            raise ShapeError("picture", expected, f"{low:g}…{high:g}")
        return (array * 255 + 0.5).astype(np.uint8)
    raise ShapeError("picture", "uint8, uint16 or float", array.dtype)


def _rgb(array: NDArray[np.uint8]) -> Picture:
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[2] == 4:
        return _over_white(array)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _over_white(rgba: NDArray[np.uint8], *, premultiplied: bool = False) -> Picture:
    colour, alpha = rgba[..., :3].astype(np.uint16), rgba[..., 3:].astype(np.uint16)
    if premultiplied:
        over = np.minimum(colour + (255 - alpha), 255)
    else:
        over = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return np.ascontiguousarray(over, np.uint8)


def _from_pil(image: Any, max_pixels: int) -> Picture:
    _check_size(image.width, image.height, "PIL image", max_pixels)
    if image.mode in {"I", "F"}:
        modes = "a mode with a known range, as L, RGB, RGBA or I;16"
        raise ShapeError("picture", modes, image.mode)
    try:
        if image.mode.startswith("I;16"):
            array = _from_array(np.asarray(image, np.uint16))
        else:
            clear = image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info
            array = _rgb(np.asarray(image.convert("RGBA" if clear else "RGB")))
        return _turned(array, int(image.getexif().get(_ORIENTATION, 1)))
    except (OSError, SyntaxError) as error:  # PIL reads late, so a damaged file shows only here
        msg = f"PIL image: cannot be decoded ({error})"
        raise DecodeError(msg) from error


def _turned(array: NDArray[np.uint8], orientation: int) -> Picture:
    turn = _TURNS.get(orientation)
    return np.ascontiguousarray(turn(array)) if turn else array


# Decoding


def _decode(data: bytes, name: str, max_pixels: int) -> Picture:
    if sniff(data[:_HEAD]) is not Kind.PICTURE:
        raise DecodeError(refusal(name, data[:_HEAD], "a picture"))
    try:
        header = _header(data)
        _check_size(header.width, header.height, name, max_pixels)
        picture = _with_alpha(data, header) if header.alpha else _opaque(data)
    except (struct.error, IndexError, _DamagedError, cv2.error) as error:
        why = str(error) if isinstance(error, _DamagedError) else "the file is damaged or cut off"
        msg = f"{name}: the picture cannot be decoded, {why}"
        raise DecodeError(msg) from error
    return picture


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        msg = (
            f"{name}: {width} × {height} is {width * height / 1e6:.1f} megapixels, over the limit of "
            f"{max_pixels / 1e6:g}; make it smaller or raise max_pixels / --max-megapixels"
        )
        raise TooLargeError(msg)


def _opaque(data: bytes) -> Picture:
    with quiet():
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    return np.asarray(_whole(array), np.uint8)


def _with_alpha(data: bytes, header: _Header) -> Picture:
    with quiet():
        array, kinds, blobs = cv2.imdecodeWithMetadata(np.frombuffer(data, np.uint8), flags=cv2.IMREAD_UNCHANGED)
    array = _whole(array)
    if array.ndim == 2 or array.shape[2] != 4:  # one transparent grey, or a GIF without a transparent colour
        return _opaque(data)
    premultiplied = header.premultiplied and array.dtype == np.uint8
    picture = _flattened(array, premultiplied=premultiplied)
    # Unchanged pixels come unturned, but those of a TIFF, whose own reader turns them.
    blob = next((bytes(b) for k, b in zip(kinds, blobs, strict=True) if k == cv2.IMAGE_METADATA_EXIF), b"")
    return picture if header.turned else _turned(picture, _orientation(blob))


def _flattened(bgra: NDArray[Any], *, premultiplied: bool) -> Picture:
    """Lay (H, W, 4) over white, few rows at a time: the numbers between take several times the memory of the pixels."""
    out = np.empty((*bgra.shape[:2], 3), np.uint8)
    rows = max(1, _BAND // bgra.shape[1])
    for top in range(0, len(bgra), rows):
        band = _eight_bit(bgra[top : top + rows])
        out[top : top + rows] = _over_white(band[..., [2, 1, 0, 3]], premultiplied=premultiplied)
    return out


def _whole(array: Any) -> NDArray[Any]:
    if array is None:
        raise _DamagedError
    return np.asarray(array)


class _DamagedError(Exception):
    """The file is not what its own structure says."""

    def __init__(self, why: str = "the file is damaged or cut off") -> None:
        super().__init__(why)


_quiet_lock = threading.Lock()
_quiet_state = {"users": 0, "level": 0}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep OpenCV's own log lines off stderr meanwhile; the level is put back after the last one."""
    with _quiet_lock:
        if _quiet_state["users"] == 0:
            _quiet_state["level"] = cv2.utils.logging.setLogLevel(0)
        _quiet_state["users"] += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_state["users"] -= 1
            if _quiet_state["users"] == 0:
                cv2.utils.logging.setLogLevel(_quiet_state["level"])


# Headers: one small reader a format


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    alpha: bool = False
    premultiplied: bool = False
    turned: bool = False


def _header(data: bytes) -> _Header:
    reader = next(read for start, read in _READERS.items() if data.startswith(start))
    header = reader(data)
    if header.width <= 0 or header.height <= 0:
        why = f"its header says {header.width} × {header.height} pixels"
        raise _DamagedError(why)
    return header


def _jpeg(data: bytes) -> _Header:
    at = 2
    while True:
        while data[at] == 0xFF:
            at += 1
        marker, at = data[at], at + 1
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return _Header(width, height)
        if marker == 0xD9:
            raise _DamagedError
        at += struct.unpack_from(">H", data, at)[0]
        if data[at] != 0xFF:
            raise _DamagedError


def _png(data: bytes) -> _Header:
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    clear = colour in {4, 6}
    at, name = 8, b""
    # libpng prints its complaints to stderr, past every switch; so a file that it would complain about is found here.
    while name != b"IEND":
        (size,), name = struct.unpack_from(">I", data, at), data[at + 4 : at + 8]
        end = at + 8 + size
        if end + 4 > len(data):
            raise _DamagedError
        if name[:1].isupper() and zlib.crc32(memoryview(data)[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            text = name.decode("latin-1")
            text = text if text.isascii() and text.isprintable() else ascii(text)
            why = f"the checksum of its {text} chunk is wrong"
            raise _DamagedError(why)
        clear |= name == b"tRNS"
        at = end + 4
    return _Header(width, height, clear)


def _gif(data: bytes) -> _Header:
    width, height = struct.unpack_from("<HH", data, 6)
    return _Header(width, height, alpha=True)


def _bmp(data: bytes) -> _Header:
    old = struct.unpack_from("<I", data, 14)[0] == 12
    width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
    return _Header(width, abs(height))  # a negative height means rows from the top


def _webp(data: bytes) -> _Header:
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (24, 27))
        return _Header(width, height, bool(data[20] & 0x10))
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return _Header((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1))
    width, height = struct.unpack_from("<HH", data, 26)
    return _Header(width & 0x3FFF, height & 0x3FFF)


def _tiff(data: bytes) -> _Header:
    tags = _tiff_tags(data)
    if 256 not in tags or 257 not in tags:
        raise _DamagedError
    # Extra sample 1 or 2 is transparency; the fourth channel of a CMYK file is no extra sample. libtiff hands 8-bit
    # colours on multiplied by their alpha, whichever way the file has them.
    return _Header(tags[256], tags[257], alpha=tags.get(338) in {1, 2}, premultiplied=True, turned=True)


def _tiff_tags(data: bytes) -> dict[int, int]:
    """Read the first directory of a TIFF or of EXIF: number of the tag → its first whole number."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    if start > len(data):  # 64 bits hold more than an index does
        raise _DamagedError
    count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
    first, step = start + (8 if big else 2), 20 if big else 12
    tags: dict[int, int] = {}
    for at in range(first, min(first + count * step, len(data) - step + 1), step):
        number, kind = struct.unpack_from(order + "HH", data, at)
        form = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind)
        if form:
            tags[number] = struct.unpack_from(order + form, data, at + (12 if big else 8))[0]
    return tags


def _orientation(exif: bytes) -> int:
    try:
        return _tiff_tags(exif.removeprefix(b"Exif\0\0")).get(_ORIENTATION, 1)
    except (struct.error, _DamagedError):
        return 1


_READERS: Mapping[bytes, Callable[[bytes], _Header]] = {
    b"\xff\xd8": _jpeg,
    b"\x89PNG": _png,
    b"GIF": _gif,
    b"BM": _bmp,
    b"RIFF": _webp,
    b"II": _tiff,
    b"MM": _tiff,
}
