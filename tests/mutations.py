"""Damaged pictures and films, each told by a number: the same seed and number give the same bytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from films import make_film
from numpy.typing import NDArray
from PIL import Image

Rng = np.random.Generator
Change = Callable[[bytes, Rng, Sequence[bytes]], bytes]


@dataclass(frozen=True)
class Part:
    """A stretch of a file that its own structure names; ``at``: where its length is written, ``form``: how."""

    start: int
    end: int
    at: int
    form: str


@dataclass(frozen=True)
class Case:
    """One damaged file: its number, the file that it was, what was done to it, its bytes."""

    number: int
    seed: str
    done: tuple[str, ...]
    data: bytes


# Seeds


def picture_seeds(picture: NDArray[np.uint8]) -> dict[str, bytes]:
    """Return a picture (H, W, 3) uint8 RGB as files of every kind that a decoder treats in its own way."""
    rgb = Image.fromarray(picture)
    alpha = rgb.copy()
    alpha.putalpha(
        Image.fromarray(np.tile(np.linspace(0, 255, picture.shape[1]).astype(np.uint8), (picture.shape[0], 1)))
    )
    grey, palette, bits = rgb.convert("L"), rgb.quantize(64), rgb.convert("1")
    deep = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    other = Image.fromarray(picture[::-1].copy())
    exif = Image.Exif()
    exif[0x112] = 6
    many = {"save_all": True, "append_images": [other, rgb]}
    kinds: dict[str, tuple[Image.Image, dict[str, object]]] = {
        "baseline.jpg": (rgb, {"quality": 80}),
        "progressive.jpg": (rgb, {"quality": 80, "progressive": True}),
        "full-colour.jpg": (rgb, {"quality": 95, "subsampling": 0}),
        "grey.jpg": (grey, {}),
        "cmyk.jpg": (rgb.convert("CMYK"), {}),
        "turned.jpg": (rgb, {"exif": exif}),
        "restarts.jpg": (rgb, {"restart_marker_blocks": 4}),
        "rgb.png": (rgb, {}),
        "alpha.png": (alpha, {}),
        "deep.png": (deep, {}),
        "palette.png": (palette, {"transparency": 3}),
        "bits.png": (bits, {}),
        "moving.png": (rgb, many),
        "lossy.webp": (rgb, {"quality": 70}),
        "lossless.webp": (rgb, {"lossless": True}),
        "alpha.webp": (alpha, {"quality": 70}),
        "moving.webp": (rgb, many),
        "rgb.bmp": (rgb, {}),
        "alpha.bmp": (alpha, {}),
        "palette.bmp": (palette, {}),
        "bits.bmp": (bits, {}),
        "raw.tif": (rgb, {}),
        "big.tif": (rgb, {"big_tiff": True}),
        "lzw.tif": (rgb, {"compression": "tiff_lzw"}),
        "deflate.tif": (alpha, {"compression": "tiff_adobe_deflate"}),
        "jpeg.tif": (rgb, {"compression": "jpeg"}),
        "packbits.tif": (palette, {"compression": "packbits"}),
        "fax.tif": (bits, {"compression": "group4"}),
        "deep.tif": (deep, {}),
        "cmyk.tif": (rgb.convert("CMYK"), {}),
        "pages.tif": (rgb, many),
        "palette.gif": (palette, {}),
        "moving.gif": (rgb, many | {"duration": 40, "loop": 0}),
        "clear.gif": (palette, {"transparency": 3}),
    }
    made = {"interlaced.png": _interlaced(picture)}
    for name, (image, options) in kinds.items():
        out = io.BytesIO()
        ending = {"jpg": "JPEG", "tif": "TIFF"}.get(name.rpartition(".")[2], name.rpartition(".")[2].upper())
        image.save(out, ending, **options)
        made[name] = out.getvalue()
    return dict(sorted(made.items()))


def _interlaced(picture: NDArray[np.uint8]) -> bytes:
    rows = []
    for y, x, down, across in (
        (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1),
    ):  # fmt: skip
        rows += [b"\0" + row.tobytes() for row in picture[y::down, x::across]]
    head = struct.pack(">IIBBBBB", picture.shape[1], picture.shape[0], 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def film_seeds(frames: Sequence[NDArray[np.uint8]], folder: Path) -> dict[str, bytes]:
    """Return a film of these frames in every container and with decoders of several kinds."""
    kinds: dict[str, dict[str, object]] = {
        "h264.mp4": {"gop": 8},
        "fragments.mp4": {"gop": 8, "mux": {"movflags": "frag_keyframe+empty_moov"}},
        "turned-sound.mp4": {"rotation": 90, "sound": True},
        "mjpeg.mp4": {"codec": "mjpeg", "pixels": "yuvj420p"},
        "h264.mkv": {"gop": 8, "sound": True},
        "hevc.mkv": {"codec": "libx265"},
        "ffv1.mkv": {"codec": "ffv1"},
        "vp9.webm": {"codec": "libvpx-vp9"},
        "mpeg4.avi": {},
        "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
        "h264.ts": {"gop": 8, "sound": True},
        "mpeg2.ts": {"codec": "mpeg2video", "interlaced": "tff"},
    }
    return {
        name: make_film(folder / name, frames, **options).read_bytes()  # type: ignore[arg-type]  # they are its own
        for name, options in sorted(kinds.items())
    }


# The structure of files


def _png(data: bytes) -> list[Part]:
    found, at = [], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            break
        found.append(Part(at, end, at, ">I"))
        at = end
    return found


def _jpeg(data: bytes) -> list[Part]:
    found, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:  # the coded picture goes with the head of its scan
            while end + 1 < len(data) and not (data[end] == 0xFF and data[end + 1] not in {0, *range(0xD0, 0xD8)}):
                end += 1
        found.append(Part(at, min(end, len(data)), at + 2, ">H"))
        at = end
    return found


def _riff(data: bytes, start: int = 12, end: int | None = None) -> list[Part]:
    found, at, end = [], start, min(len(data), end or len(data))
    while at + 8 <= end:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        stop = min(at + 8 + size + size % 2, end)
        found.append(Part(at, stop, at + 4, "<I"))
        if data[at : at + 4] == b"LIST":
            found += _riff(data, at + 12, stop)
        at = stop
    return found


def _boxes(data: bytes, start: int = 0, end: int | None = None) -> list[Part]:
    found, at, end = [], start, min(len(data), end or len(data))
    while at + 8 <= end:
        size = int.from_bytes(data[at : at + 4], "big")
        if size < 8:
            break
        stop = min(at + size, end)
        found.append(Part(at, stop, at, ">I"))
        if data[at + 4 : at + 8] in {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf", b"mvex"}:
            found += _boxes(data, at + 8, stop)
        at = stop
    return found


def _tiff(data: bytes) -> list[Part]:
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in {b"+\0", b"\0+"}
    at = int(struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0])
    if at + 8 > len(data):
        return []
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    first, step = at + (8 if big else 2), 20 if big else 12
    ends = range(first, min(first + min(count, 99) * step, len(data) - step), step)
    return [Part(a, a + step, a + 4, order + ("Q" if big else "I")) for a in ends]


def _packets(data: bytes) -> list[Part]:
    return [Part(a, a + 188, a + 4, ">B") for a in range(0, len(data) - 187, 188)]


def _ebml(data: bytes, start: int = 0, end: int | None = None) -> list[Part]:
    found, at, end = [], start, min(len(data), end or len(data))
    while at + 2 <= end and data[at]:
        name = 9 - data[at].bit_length()
        if at + name >= end or not data[at + name]:
            break
        wide = 9 - data[at + name].bit_length()
        size = int.from_bytes(data[at + name : at + name + wide], "big") & ~(1 << 7 * wide)
        body = at + name + wide
        stop = min(body + size, end)
        found.append(Part(at, stop, at + name, ">B"))
        # Segment, Cluster, Tracks, TrackEntry, Video, Cues
        if data[at : at + name] in {
            b"\x18\x53\x80\x67",
            b"\x1f\x43\xb6\x75",
            b"\x16\x54\xae\x6b",
            b"\xae",
            b"\xe0",
            b"\x1c\x53\xbb\x6b",
        }:
            found += _ebml(data, body, stop)
        at = stop
    return found


_STRUCTURES: Mapping[bytes, Callable[[bytes], list[Part]]] = {
    b"\x89PNG": _png,
    b"\xff\xd8": _jpeg,
    b"RIFF": _riff,
    b"II": _tiff,
    b"MM": _tiff,
    b"\x1a\x45\xdf\xa3": _ebml,
    b"G@": _packets,
}


def parts(data: bytes) -> list[Part]:
    """Return the stretches that a file's own structure names; none where it has none or lost it."""
    if data[4:8] in {b"ftyp", b"moov", b"mdat", b"free", b"moof"}:
        return _boxes(data)
    return next((read(data) for start, read in _STRUCTURES.items() if data.startswith(start)), [])


# What is done to them


def _at(rng: Rng, size: int) -> int:
    # Headers are where decoders are led astray, so half of all places are near the beginning.
    return int(rng.integers(0, max(1, min(size, 256) if rng.random() < 0.5 else size)))


def _flip(data: bytes, rng: Rng, _: Sequence[bytes]) -> bytes:
    out = bytearray(data)
    for _bit in range(int(rng.integers(1, 17))):
        out[_at(rng, len(out))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def _overwrite(data: bytes, rng: Rng, _: Sequence[bytes]) -> bytes:
    at, size = _at(rng, len(data)), int(rng.integers(1, 64))
    value = (rng.bytes(size), b"\0" * size, b"\xff" * size)[int(rng.integers(3))]
    return data[:at] + value + data[at + size :]


def _numbers(data: bytes, rng: Rng, _: Sequence[bytes]) -> bytes:
    values = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
    value = struct.pack(
        ("<I", ">I", "<H", ">H")[form := int(rng.integers(4))],
        values[int(rng.integers(10))] & (0xFFFFFFFF if form < 2 else 0xFFFF),
    )
    at = _at(rng, len(data))
    return data[:at] + value + data[at + len(value) :]


def _truncate(data: bytes, rng: Rng, _: Sequence[bytes]) -> bytes:
    return data[: _at(rng, len(data))] if rng.random() < 0.5 else data[: -int(rng.integers(1, 33))]


def _append(data: bytes, rng: Rng, others: Sequence[bytes]) -> bytes:
    return data + (
        rng.bytes(int(rng.integers(1, 4096))) if rng.random() < 0.5 else others[int(rng.integers(len(others)))]
    )


def _insert(data: bytes, rng: Rng, _: Sequence[bytes]) -> bytes:
    at = _at(rng, len(data))
    return data[:at] + rng.bytes(int(rng.integers(1, 33))) + data[at:]


def _remove(data: bytes, rng: Rng, _: Sequence[bytes]) -> bytes:
    at = _at(rng, len(data))
    return data[:at] + data[at + int(rng.integers(1, 257)) :]


def _repeat(data: bytes, rng: Rng, _: Sequence[bytes]) -> bytes:
    at = _at(rng, len(data))
    return data[:at] + data[at : at + int(rng.integers(1, 513))] * int(rng.integers(2, 9)) + data[at:]


def _splice(data: bytes, rng: Rng, others: Sequence[bytes]) -> bytes:
    other = others[int(rng.integers(len(others)))]
    head = int(rng.integers(4, 600))
    return data[:head] + other[min(head, len(other) // 2) :] if rng.random() < 0.5 else other[:head] + data[head:]


def _lengths(data: bytes, rng: Rng, _: Sequence[bytes]) -> bytes:
    found = parts(data)
    if not found:
        return _numbers(data, rng, _)
    part = found[int(rng.integers(len(found)))]
    size = struct.calcsize(part.form)
    top = 256**size
    if part.at + size > len(data):
        return data
    now = int(struct.unpack_from(part.form, data, part.at)[0])
    value = (0, 1, now - 1, now + 1, now * 2, top - 1, top // 2, int(rng.integers(0, min(top, 2**63))))[
        int(rng.integers(8))
    ]
    return data[: part.at] + struct.pack(part.form, value % top) + data[part.at + size :]


def _parts(data: bytes, rng: Rng, others: Sequence[bytes]) -> bytes:
    found = parts(data)
    if not found:
        return _repeat(data, rng, others)
    part, other = (found[int(rng.integers(len(found)))] for _ in range(2))
    piece = data[part.start : part.end]
    way = int(rng.integers(4))
    if way == 0:  # gone
        return data[: part.start] + data[part.end :]
    if way == 1:  # again
        return data[: part.end] + piece * int(rng.integers(1, 20)) + data[part.end :]
    if way == 2:  # elsewhere
        return data[: other.start] + piece + data[other.start :]
    near = [o for o in others if o[:2] == data[:2]] or [data]  # one of another file of the kind
    donor = near[int(rng.integers(len(near)))]
    theirs = parts(donor) or [Part(0, 0, 0, ">B")]
    taken = theirs[int(rng.integers(len(theirs)))]
    return data[: part.start] + donor[taken.start : taken.end] + data[part.end :]


def _sides(data: bytes, rng: Rng, _: Sequence[bytes]) -> bytes:
    """Write another width and height where the format has them."""
    sides = [int(v) for v in rng.choice([0, 1, 2, 3, 255, 4000, 6000, 16383, 65_535, 100_000, 2**31 - 1], 2)]
    out = bytearray(data)
    if data.startswith(b"\x89PNG"):
        struct.pack_into(">II", out, 16, *sides)
    elif data.startswith(b"GIF"):
        struct.pack_into("<HH", out, 6, *(s & 0xFFFF for s in sides))
    elif data.startswith(b"BM"):
        struct.pack_into("<ii", out, 18, sides[0], -sides[1] if rng.random() < 0.3 else sides[1])
    elif data.startswith(b"\xff\xd8"):
        for part in _jpeg(data):
            if data[part.start + 1] in {0xC0, 0xC1, 0xC2} and part.start + 9 <= len(out):
                struct.pack_into(">HH", out, part.start + 5, *(s & 0xFFFF for s in sides))
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        at = {b"VP8X": 24, b"VP8L": 21}.get(data[12:16], 26)
        out[at : at + 4] = struct.pack("<HH", *(s & 0xFFFF for s in sides))
    elif data[:2] in {b"II", b"MM"}:
        for part in _tiff(data)[:2]:
            struct.pack_into("<I" if data[:1] == b"I" else ">I", out, part.end - 4, sides[0])
    else:
        return _numbers(data, rng, _)
    return bytes(out)


CHANGES: Mapping[str, Change] = {
    "flip": _flip,
    "overwrite": _overwrite,
    "numbers": _numbers,
    "truncate": _truncate,
    "append": _append,
    "insert": _insert,
    "remove": _remove,
    "repeat": _repeat,
    "splice": _splice,
    "lengths": _lengths,
    "parts": _parts,
    "sides": _sides,
}


def _checked(data: bytes) -> bytes:
    """Return a PNG with the checksums that its chunks should have: what is wrong is then found further in."""
    out = bytearray(data)
    for part in _png(data):
        struct.pack_into(">I", out, part.end - 4, zlib.crc32(out[part.start + 4 : part.end - 4]))
    return bytes(out)


def case(number: int, seeds: Mapping[str, bytes], *, seed: int = 0) -> Case:
    """Return the damaged file of a number: one of the seeds, changed one to three times."""
    rng = np.random.default_rng([seed, number])
    names = list(seeds)
    name = names[int(rng.integers(len(names)))]
    data, others = seeds[name], list(seeds.values())
    done = tuple(str(c) for c in rng.choice(list(CHANGES), int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))))
    for change in done:
        if len(data) > 4:
            data = CHANGES[change](data, rng, others)
    if data.startswith(b"\x89PNG") and rng.random() < 0.7:
        data = _checked(data)
    return Case(number, name, done, data)
