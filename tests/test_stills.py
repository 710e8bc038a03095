"""Every kind of picture, beside what Pillow makes of the same bytes."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps, ImageSequence

from mien.errors import DecodeError, ShapeError, SourceNotFoundError, TooLargeError
from mien.media.stills import read_picture

WIDTH, HEIGHT = 40, 24


def scene(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Smooth colours without any symmetry, so that a wrong turn or channel order shows."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (np.stack([x, y, x * y], -1) * 255).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode in {"RGBA", "LA"} or "transparency" in image.info:
            white = Image.new("RGBA", image.size, "white")
            return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
        return np.asarray(image.convert("RGB"))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x112] = orientation
    return tags


def rgba() -> Image.Image:
    image = Image.fromarray(scene())
    image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))))
    return image


RGB = Image.fromarray(scene())
GREY = RGB.convert("L")
PALETTE = RGB.quantize(64)

KINDS = {
    "jpeg": (RGB, "JPEG", {}, 3),
    "progressive jpeg": (RGB, "JPEG", {"progressive": True}, 3),
    "grey jpeg": (GREY, "JPEG", {}, 2),
    "cmyk jpeg": (RGB.convert("CMYK"), "JPEG", {"quality": 95}, 4),
    "png": (RGB, "PNG", {}, 0),
    "alpha png": (rgba(), "PNG", {}, 1),
    "grey alpha png": (rgba().convert("LA"), "PNG", {}, 1),
    "grey png": (GREY, "PNG", {}, 0),
    "palette png": (PALETTE, "PNG", {}, 0),
    "clear palette png": (PALETTE, "PNG", {"transparency": bytes(range(0, 256, 4))}, 1),
    "one clear colour png": (RGB, "PNG", {"transparency": tuple(int(v) for v in scene()[3, 3])}, 0),
    "bilevel png": (GREY.convert("1"), "PNG", {}, 0),
    "webp": (RGB, "WEBP", {"lossless": True}, 0),
    "lossy webp": (RGB, "WEBP", {"quality": 95}, 4),
    "alpha webp": (rgba(), "WEBP", {"lossless": True, "exact": True}, 1),
    "bmp": (RGB, "BMP", {}, 0),
    "grey bmp": (GREY, "BMP", {}, 0),
    "tiff": (RGB, "TIFF", {}, 0),
    "lzw tiff": (RGB, "TIFF", {"compression": "tiff_lzw"}, 0),
    "cmyk tiff": (RGB.convert("CMYK"), "TIFF", {}, 2),
    "alpha tiff": (rgba(), "TIFF", {}, 2),
    "gif": (PALETTE, "GIF", {}, 0),
    "clear gif": (PALETTE, "GIF", {"transparency": 5}, 0),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_as_pillow_reads_it(kind: str, tmp_path: Path) -> None:
    image, form, options, tolerance = KINDS[kind]
    data = encoded(image, form, **options)
    path = tmp_path / "picture.bin"
    path.write_bytes(data)
    picture = read_picture(path)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous
    off = np.abs(picture.astype(int) - by_pillow(data))
    assert off.mean() <= tolerance, off.mean()
    np.testing.assert_array_equal(read_picture(data), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("clear", [False, True])
def test_exif_orientation(form: str, orientation: int, clear: bool) -> None:
    if form == "JPEG" and clear:
        clear = False
    image = rgba() if clear else RGB
    options = {"lossless": True, "exact": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else {}
    data = encoded(image, form, exif=exif(orientation), **options)
    picture, expected = read_picture(data), by_pillow(data)
    assert picture.shape == expected.shape
    assert np.abs(picture.astype(int) - expected).mean() < 3
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_allclose(read_picture(opened).astype(int), expected.astype(int), atol=1)


def test_sixteen_bits_become_eight() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = encoded(Image.fromarray(values), "PNG")
    exact = values / 257
    for picture in (read_picture(data), read_picture(values), read_picture(Image.open(io.BytesIO(data)))):
        assert np.abs(picture[..., 1] - exact).max() <= 1


def test_first_frame_of_a_gif() -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(data)) as image:
        assert len(list(ImageSequence.Iterator(image))) == 3
    assert read_picture(data)[2, 2].tolist() == [255, 0, 0]


def test_one_pixel() -> None:
    assert read_picture(encoded(Image.new("RGB", (1, 1), (9, 8, 7)), "PNG")).tolist() == [[[9, 8, 7]]]


# Damaged and hostile


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8))


CUT_KINDS = {
    "baseline": ("JPEG", {}),
    "progressive": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "gif": ("GIF", {}),
}


@pytest.mark.parametrize("kind", CUT_KINDS)
@pytest.mark.parametrize("share", [0.003, 0.3, 0.5, 0.9, 0.995])
def test_a_cut_file_is_an_error_in_one_line(kind: str, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    form, options = CUT_KINDS[kind]
    data = encoded(noise(), form, **options)
    assert read_picture(data).shape == (120, 160, 3)
    with pytest.raises(DecodeError) as caught:
        read_picture(data[: int(len(data) * share)])
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_png_is_found_by_its_checksum(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(noise(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(DecodeError, match="checksum of its IDAT chunk"):
        read_picture(bytes(data))
    assert capfd.readouterr().err == ""


def test_opencv_logs_as_before_afterwards() -> None:
    set_level = cv2.utils.logging.setLogLevel
    before = set_level(2)
    try:
        with pytest.raises(DecodeError):
            read_picture(encoded(noise(), "TIFF")[:5000])
        assert set_level(2) == 2
    finally:
        set_level(before)


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "the file is empty"), (b"hello world", r"not a picture \(it begins with b'hello w'\)")],
)
def test_no_picture_at_all(data: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.jpg"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=rf"notes\.jpg: {why}"):
        read_picture(path)
    with pytest.raises(DecodeError, match=why):
        read_picture(data)


def test_a_picture_without_pixels() -> None:
    data = bytearray(encoded(RGB, "BMP"))
    data[18:22] = bytes(4)
    with pytest.raises(DecodeError, match="0 × 24"):
        read_picture(bytes(data))


def png_bomb(side: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    # The pixels are left out: whoever decodes before looking at the size fails in another way.
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(TooLargeError, match=r"60000 × 60000 is 3600\.0 megapixels.*64.*max_pixels / --max-megapixels"):
        read_picture(png_bomb(60_000))


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_every_kind_is_known_from_its_header(kind: str) -> None:
    image, form, options, _ = KINDS[kind]
    data = encoded(image, form, **options)
    with pytest.raises(TooLargeError, match=f"{WIDTH} × {HEIGHT}"):
        read_picture(data, max_pixels=WIDTH * HEIGHT - 1)
    assert read_picture(data, max_pixels=WIDTH * HEIGHT).shape == (HEIGHT, WIDTH, 3)


def test_a_jpeg_is_as_large_as_itself_not_as_its_thumbnail() -> None:
    thumbnail = encoded(RGB.resize((8, 8)), "JPEG")
    data = encoded(noise(), "JPEG")
    body = b"Exif\0\0" + thumbnail
    inside = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    with pytest.raises(TooLargeError, match="160 × 120"):
        read_picture(inside, max_pixels=1000)


# Text, arrays, PIL


def test_base64_plain_and_as_data_address() -> None:
    data = encoded(RGB, "PNG")
    text = base64.b64encode(data).decode()
    expected = read_picture(data)
    for form in (text, f"data:image/png;base64,{text}", base64.encodebytes(data).decode(), text.rstrip("=")):
        np.testing.assert_array_equal(read_picture(form), expected)


@pytest.mark.parametrize("text", ["holiday", "no/such/picture/in/any/folder/of/this/machine", "a\0b", "x" * 5000])
def test_a_text_that_is_no_picture_is_a_missing_file(text: str) -> None:
    with pytest.raises(SourceNotFoundError, match="no such file") as caught:
        read_picture(text)
    assert str(caught.value).startswith(text[:40])
    assert len(str(caught.value)) < 200


def test_a_file_goes_before_base64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = base64.b64encode(encoded(Image.new("RGB", (1, 1)), "GIF")).decode().replace("/", "_")
    assert read_picture(text).shape == (1, 1, 3)
    (tmp_path / text).write_bytes(encoded(RGB, "PNG"))
    assert read_picture(text).shape == (HEIGHT, WIDTH, 3)


def test_broken_data_address() -> None:
    with pytest.raises(DecodeError, match="not valid base64"):
        read_picture("data:image/png;base64,%%%%")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg: no such file"):
        read_picture(tmp_path / "gone.jpg")
    with pytest.raises(ValueError, match="cannot be read"):
        read_picture(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_arrays_of_every_shape_and_dtype(dtype: type) -> None:
    base = scene()
    scale = {np.uint8: 1, np.uint16: 257}.get(dtype, 1 / 255)
    array = (base * np.float64(scale)).astype(dtype) if scale != 1 else base
    np.testing.assert_array_equal(read_picture(array), base)
    np.testing.assert_array_equal(read_picture(array[..., 0]), np.repeat(base[..., :1], 3, -1))
    np.testing.assert_array_equal(read_picture(array[..., :1]), np.repeat(base[..., :1], 3, -1))
    clear = np.concatenate([array, np.zeros_like(array[..., :1])], -1)
    assert (read_picture(clear) == 255).all()


def test_a_ready_array_is_not_copied() -> None:
    array = scene()
    assert np.shares_memory(read_picture(array), array)
    assert read_picture(array[:, ::-1]).flags.c_contiguous


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4), np.int64),
        np.zeros((4, 4), bool),
        np.full((4, 4), 255.0),
        np.full((4, 4), -0.1),
        np.full((4, 4), np.nan),
    ],
)
def test_arrays_that_are_no_picture(array: np.ndarray) -> None:
    with pytest.raises(ShapeError):
        read_picture(array)


def test_what_is_no_source_at_all() -> None:
    with pytest.raises(ShapeError, match="got list"):
        read_picture([1, 2])  # type: ignore[arg-type]  # what the test is about


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_pil_images_of_every_mode(mode: str) -> None:
    image = (rgba() if mode in {"LA", "RGBA"} else RGB).convert(mode)
    data = encoded(image, "PNG") if mode in {"LA", "RGBA"} else None
    expected = by_pillow(data) if data else np.asarray(image.convert("RGB"))
    np.testing.assert_allclose(read_picture(image).astype(int), expected.astype(int), atol=1)


def test_pil_images_that_cannot_be_used() -> None:
    with pytest.raises(ShapeError, match="mode with a known range"):
        read_picture(Image.new("F", (4, 4)))
    with pytest.raises(TooLargeError, match="PIL image: 40 × 24"):
        read_picture(RGB, max_pixels=100)
    with Image.open(io.BytesIO(encoded(noise(), "JPEG")[:3000])) as cut, pytest.raises(DecodeError, match="PIL image"):
        read_picture(cut)


def test_a_damaged_chunk_name_stays_on_one_line() -> None:
    data = bytearray(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes())
    data[15] = ord("\n")
    with pytest.raises(DecodeError) as caught:
        read_picture(bytes(data))
    assert len(str(caught.value).splitlines()) == 1


def test_a_tiff_that_points_beyond_every_index_is_damaged() -> None:
    data = b"II+\0\x08\0\0\0" + (2**64 - 1).to_bytes(8, "little") + bytes(64)
    with pytest.raises(DecodeError):
        read_picture(data)
