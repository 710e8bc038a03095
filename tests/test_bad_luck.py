"""Films of every awkward kind, each made here: what is read from them, and what is said of what cannot be read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from films import combed, cut, joined, make_film, number_of, numbered, spoil
from numpy.typing import NDArray

from mien.errors import DecodeError, SourceError, TooLargeError
from mien.media.container import recorded_at
from mien.media.video import Film, Frame

COUNT = 20
RED, BLUE = (230, 20, 20), (20, 20, 230)
JUMPING = [0.5, 0.51, 0.9, 1.7, 1.75, 2.0, 2.04, 3.5, 3.501, 9.0, *(10 + i / 25 for i in range(10))]

KINDS: dict[str, dict[str, Any]] = {
    "ten-bits.mp4": {"pixels": "yuv420p10le"},
    "ten-bits-hevc.mkv": {"pixels": "yuv420p10le", "codec": "libx265"},
    "half-colour.mp4": {"pixels": "yuv422p"},
    "full-colour.mp4": {"pixels": "yuv444p"},
    "prores.mov": {"pixels": "yuv422p10le", "codec": "prores_ks"},
    "601-limited.mp4": {"colour": (5, 1)},
    "601-full.mp4": {"colour": (5, 2)},
    "709-limited.mkv": {"colour": (1, 1)},
    "709-full.mp4": {"colour": (1, 2)},
    "2020.mp4": {"colour": (9, 1), "pixels": "yuv420p10le"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "av1.mkv": {"codec": "libsvtav1"},
    "hevc.mp4": {"codec": "libx265"},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "program.mpg": {"codec": "mpeg2video"},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "lossless.mkv": {"codec": "ffv1"},
    "raw.avi": {"codec": "rawvideo"},
    "pictures.mov": {"codec": "png", "pixels": "rgb24"},
    "flash.flv": {},
    "windows.wmv": {"codec": "mpeg4"},
    "fragments.mp4": {"mux": {"movflags": "frag_keyframe+empty_moov"}, "gop": 5},
    "open-group.mp4": {"gop": 5, "options": {"x264-params": "open-gop=1"}},
    "gaps.mp4": {"times": JUMPING},
    "gaps.ts": {"times": JUMPING},
    "late.mp4": {"times": [3 + i / 25 for i in range(COUNT)]},
    "two-hours-in.ts": {"times": [7200 + i / 25 for i in range(COUNT)], "sound": True},
    "two-tracks.mp4": {"sound": True, "tracks": 2},
}


def read(path: Path | io.BytesIO, **options: Any) -> list[Frame]:
    with Film(path, **options) as film:
        return list(film)


def pictures(frames: list[Frame]) -> list[NDArray[np.uint8]]:
    assert all(f.picture is not None for f in frames)
    return [f.picture for f in frames if f.picture is not None]


def stamps(path: Path) -> list[float]:
    """Times by the packets alone, without a decoder."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.video
        packets = [p.pts if p.pts is not None else p.dts for p in container.demux(stream) if p.size]
        return sorted(float(p * stream.time_base) for p in packets)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_gives_all_frames_in_their_colours_at_their_times(name: str, tmp_path: Path) -> None:
    path = make_film(tmp_path / name, numbered(COUNT), **KINDS[name])
    frames = read(path)
    assert [f.index for f in frames] == list(range(COUNT))
    assert [number_of(p) for p in pictures(frames)] == list(range(COUNT))
    first = pictures(frames)[0]
    for middle, colour in ((24, RED), (72, BLUE)):
        patch = first[44:52, middle - 4 : middle + 4].reshape(-1, 3)
        np.testing.assert_allclose(patch.mean(0), colour, atol=5)
    times = [f.time for f in frames]
    np.testing.assert_allclose(times, stamps(path), atol=1e-9)
    asked = KINDS[name].get("times", [i / 25 for i in range(COUNT)])
    np.testing.assert_allclose(np.diff(times), np.diff(asked), atol=1.1e-3)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("a.mp4", {"pixels": "yuv420p10le"}, {"bits": 10, "codec": "h264", "pixel_format": "yuv420p10le"}),
        ("b.mkv", {"colour": (9, 1)}, {"matrix": "bt2020", "range": "limited", "curve": "sdr", "bits": 8}),
        ("c.mp4", {"rotation": 90}, {"rotation": 90, "width": 64, "height": 96, "rate": "25"}),
        ("d.mp4", {"rotation": 270, "sound": True, "tracks": 2}, {"rotation": 270, "sound_tracks": 2}),
        (
            "e.ts",
            {"times": [7200 + i / 25 for i in range(COUNT)]},
            {"start": 7200.0, "sound_tracks": 0, "codec": "h264"},
        ),
        ("f.mp4", {"interlaced": "bff"}, {"interlaced": True}),
        ("g.mp4", {}, {"interlaced": False, "rotation": 0, "frames": 3, "recorded": None, "matrix": None}),
    ],
)
def test_what_a_film_says_of_itself(name: str, options: dict[str, Any], told: dict[str, Any], tmp_path: Path) -> None:
    count = len(options.get("times", range(3)))
    with Film(make_film(tmp_path / name, numbered(count), **options)) as film:
        facts = film.facts()
        assert facts == json.loads(json.dumps(facts))
        assert {key: facts[key] for key in told} == told
        list(film)
        assert film.facts() == facts


@pytest.mark.parametrize(
    ("said", "read_as"),
    [
        ("2023-05-01T12:30:00.000000Z", "2023-05-01T12:30:00Z"),
        ("2023-05-01T12:30:00+02:00", "2023-05-01T10:30:00Z"),
        ("1970-01-01T00:00:00Z", None),
    ],
)
def test_when_it_was_recorded(said: str, read_as: str | None, tmp_path: Path) -> None:
    with Film(make_film(tmp_path / "film.mp4", numbered(3), recorded=said)) as film:
        assert film.recorded == read_as
        assert film.facts()["recorded"] == read_as


def test_a_telephone_says_its_zone_and_words_are_no_date() -> None:
    def told(of_film: dict[str, str], of_stream: dict[str, str]) -> str | None:
        return recorded_at(SimpleNamespace(metadata=of_film), SimpleNamespace(metadata=of_stream))  # type: ignore[arg-type]  # nothing else is read

    both = {
        "creation_time": "2023-05-01T10:30:00.000000Z",
        "com.apple.quicktime.creationdate": "2023-05-01T12:30:00+0200",
    }
    assert told(both, {}) == "2023-05-01T12:30:00+02:00"
    assert told({"creation_time": "last summer"}, {"creation_time": "2020-02-02 10:00:00"}) == "2020-02-02T10:00:00Z"
    assert told({"creation_time": "1904-01-01T00:00:00Z"}, {}) is None


# Sizes and lengths


@pytest.mark.parametrize(
    ("name", "size", "options"),
    [
        ("tiny.mp4", (2, 2), {}),
        ("odd.mkv", (97, 65), {"codec": "ffv1"}),
        ("odd.webm", (97, 65), {"codec": "libvpx-vp9"}),
        ("odd.mp4", (95, 63), {"pixels": "yuv444p"}),
        ("thin.mp4", (2, 64), {"interlaced": "tff"}),
    ],
)
def test_unusual_sizes(name: str, size: tuple[int, int], options: dict[str, Any], tmp_path: Path) -> None:
    width, height = size
    shown = [np.full((height, width, 3), 40 + 60 * i, np.uint8) for i in range(3)]
    frames = pictures(read(make_film(tmp_path / name, shown, **options)))
    assert [f.shape for f in frames] == [(height, width, 3)] * 3
    np.testing.assert_allclose([f.mean() for f in frames], [40, 100, 160], atol=3)


def test_a_size_that_changes_on_the_way(tmp_path: Path) -> None:
    path = joined(
        tmp_path / "film.ts",
        make_film(tmp_path / "a.ts", numbered(10)),
        make_film(tmp_path / "b.ts", numbered(10, width=128, height=96), times=[1 + i / 25 for i in range(10)]),
    )
    frames = read(path)
    assert [f.index for f in frames] == list(range(20))
    # The counters of the second part do not follow those of the first, so a packet at the seam is said to be damaged.
    shown = {f.index: f.picture for f in frames if f.picture is not None}
    assert len(shown) >= 19
    assert [p.shape[:2] for p in shown.values()] == [(64, 96) if i < 10 else (96, 128) for i in shown]
    assert [number_of(p) for p in shown.values()] == [i % 10 for i in shown]
    with pytest.raises(TooLargeError, match="128 × 96"):
        read(path, max_pixels=100 * 100)


def test_still_pictures_as_films(tmp_path: Path) -> None:
    assert len(read(make_film(tmp_path / "one.mp4", numbered(1)))) == 1
    still = make_film(tmp_path / "still.mkv", numbered(2), times=[0, 300])
    frames = read(still)
    assert [(f.index, f.time) for f in frames] == [(0, 0.0), (1, 300.0)]
    assert [f.index for f in read(still, fps=8)] == [0, 1]
    for name, codec, pixels in (("a.gif", "gif", "rgb8"), ("a.png", "apng", "rgb24"), ("a.webp", "libwebp_anim", None)):
        mux = {"f": "apng"} if codec == "apng" else {}
        with av.open(str(tmp_path / name), "w", format=mux.get("f")) as out:
            video = out.add_stream(codec, rate=10)
            video.width, video.height, video.pix_fmt = 96, 64, pixels or "yuv420p"
            for number, array in enumerate(numbered(3)):
                frame = av.VideoFrame.from_ndarray(array, format="rgb24")
                frame.pts = number
                out.mux(video.encode(frame))
            out.mux(video.encode(None))
        with pytest.raises(DecodeError, match="a picture, not a film"):
            Film(tmp_path / name)


def test_sound_that_goes_on_and_a_cover_are_no_frames(tmp_path: Path) -> None:
    path = make_film(tmp_path / "long.mp4", numbered(5), sound=True, sound_seconds=2.0)
    with Film(path) as film:
        assert film.has_sound
        assert len(list(film)) == 5
        assert film.frames == 5
    covered = make_film(tmp_path / "cover.mp4", numbered(5), cover=True)
    with av.open(str(covered)) as container:
        assert len(container.streams.video) == 2
    assert [number_of(p) for p in pictures(read(covered))] == list(range(5))


def test_frames_before_the_first_edit_are_not_shown(tmp_path: Path) -> None:
    frames = read(make_film(tmp_path / "film.mp4", numbered(COUNT), times=[i / 25 - 0.2 for i in range(COUNT)]))
    assert [number_of(p) for p in pictures(frames)] == list(range(5, COUNT))
    assert [f.index for f in frames] == list(range(COUNT - 5))
    np.testing.assert_allclose([f.time for f in frames], np.arange(COUNT - 5) / 25, atol=1e-4)


def test_stamps_that_run_backwards_give_way_to_those_of_decoding(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.avi", numbered(COUNT), codec="libx264", bframes=2)
    with av.open(str(path)) as container:
        told = [f.pts for f in container.decode(video=0)]
    assert told != sorted(told)  # AVI knows no time of showing
    frames = read(path)
    assert [number_of(p) for p in pictures(frames)] == list(range(COUNT))
    times = [f.time for f in frames]
    assert times == sorted(times)


def test_a_stream_without_any_times(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.h264", numbered(COUNT), bframes=0)
    frames = read(path)
    assert [number_of(p) for p in pictures(frames)] == list(range(COUNT))
    assert np.isnan([f.time for f in frames]).all()
    with Film(path, fps=5) as film:
        assert film.fps == 25
        assert [f.index for f in film] == [0, 5, 10, 15]
    with Film(path, fps=5) as film:
        film.fps = None
        with pytest.raises(DecodeError, match=r"film\.h264: frame 0 has no time and the film no rate"):
            list(film)


# Interlaced


def comb(picture: NDArray[np.uint8]) -> float:
    """How much each row differs from the mean of its neighbours."""
    rows = picture.astype(float).mean(2)
    return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())


def first_fields(count: int, step: int) -> list[NDArray[np.uint8]]:
    """What `combed` shows at the moment of each frame's first field, without a comb."""
    shown = []
    for number in range(count):
        frame = np.full((64, 96, 3), 70, np.uint8)
        at = 8 + step * 2 * number % (96 - 24)
        frame[:, at : at + 12] = 220
        shown.append(frame)
    return shown


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("film.mp4", {}),
        ("film.ts", {"codec": "mpeg2video", "options": {"qmax": "2"}}),
        ("film.mkv", {"pixels": "yuv422p10le"}),
    ],
)
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_interlaced_frames_lose_their_comb_and_stay_as_many(
    name: str, options: dict[str, Any], order: str, tmp_path: Path
) -> None:
    path = make_film(tmp_path / name, combed(16, step=3, lower_first=order == "bff"), interlaced=order, **options)
    with av.open(str(path)) as container:
        woven = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    frames = read(path)
    assert [f.index for f in frames] == list(range(16))
    np.testing.assert_allclose([f.time for f in frames], stamps(path))
    for raw, picture, truth in zip(woven, pictures(frames), first_fields(16, 3), strict=True):
        assert comb(raw) > 5
        assert comb(picture) < 0.1 * comb(raw)
        assert np.abs(picture - truth.astype(float)).mean() < 0.4 * np.abs(raw - truth.astype(float)).mean()


def test_an_interlaced_frame_is_the_same_wherever_reading_begins(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", combed(24), interlaced="tff", gop=6)
    whole = pictures(read(path))
    for options in ({"every": 3}, {"start": 7}, {"start": 23}, {"every": 5, "start": 6}, {"fps": 5.0}):
        some = read(path, **options)
        assert some
        for frame in some:
            np.testing.assert_array_equal(frame.picture, whole[frame.index])


def test_progressive_frames_are_left_alone(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", combed(8))  # combed by its maker, but it does not say so
    with av.open(str(path)) as container:
        for frame, decoded in zip(read(path), container.decode(video=0), strict=True):
            np.testing.assert_array_equal(frame.picture, decoded.to_ndarray(format="rgb24"))


def test_interlaced_and_turned(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", combed(8), interlaced="tff", rotation=90)
    flat = make_film(tmp_path / "flat.mp4", combed(8), interlaced="tff")
    for turned, straight in zip(pictures(read(path)), pictures(read(flat)), strict=True):
        assert turned.shape == (96, 64, 3)
        np.testing.assert_array_equal(turned, np.rot90(straight, -1))


def test_damage_in_an_interlaced_film(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", combed(60), interlaced="tff", gop=6)
    whole = read(path)
    frames = read(spoil(path))
    assert [(f.index, f.time) for f in frames] == [(f.index, f.time) for f in whole]
    lost = [f.index for f in frames if f.picture is None]
    assert lost
    for frame, before in zip(frames[: min(lost) - 12], whole, strict=False):
        np.testing.assert_array_equal(frame.picture, before.picture)


# Damage


@pytest.mark.parametrize(("first", "last"), [(0, 0.1), (0.45, 0.5), (0.9, 1)])
@pytest.mark.parametrize("name", ["film.mp4", "film.mov"])
@pytest.mark.parametrize("threads", [1, 3])
def test_damage_anywhere_leaves_as_many_rows_in_order(
    name: str, first: float, last: float, threads: int, tmp_path: Path
) -> None:
    path = make_film(tmp_path / name, numbered(120), gop=12)
    times = stamps(path)
    frames = read(spoil(path, first=first, last=last), threads=threads)
    assert [f.index for f in frames] == list(range(120))
    np.testing.assert_allclose([f.time for f in frames], times)
    lost = [f.index for f in frames if f.picture is None]
    assert lost
    assert all(frames[i].error for i in lost)
    # Behind the next key frame everything is what it was.
    for frame in frames:
        if not first * 120 - 14 < frame.index < last * 120 + 26:
            assert frame.picture is not None
            assert number_of(frame.picture) == frame.index


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_a_lost_frame_is_counted_once_by_any_number_of_threads(threads: int, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    scene = [random.integers(0, 256, (32, 96, 3), dtype=np.uint8) for _ in range(4)]
    moving = numbered(160)
    for number, frame in enumerate(moving):
        frame[32:] = np.roll(scene[number // 40], number, 1)
    path = spoil(make_film(tmp_path / "film.mp4", moving, gop=12), first=0.2, last=0.3)
    frames = read(path, threads=threads)
    assert len(frames) == 160
    times = [f.time for f in frames]
    assert times == sorted(times)
    assert [number_of(f.picture) for f in frames[80:] if f.picture is not None] == list(range(80, 160))


def test_damage_in_streams_that_resynchronise(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.ts", numbered(120), gop=12, bframes=0)
    data = bytearray(path.read_bytes())
    at = len(data) // 2 // 188 * 188
    data[at : at + 188 * 20] = np.random.default_rng(1).bytes(188 * 20)
    path.write_bytes(data)
    frames = read(path)
    assert any(f.error for f in frames)
    good = [f for f in frames if f.picture is not None]
    wrong = [f for f in good if abs(number_of(f.picture) / 25 - (f.time - good[0].time)) > 1e-3]
    assert len(wrong) <= 12  # at most up to the next key frame
    assert number_of(good[-1].picture) == 119


@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.99])
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts", "film.avi"])
def test_a_film_that_is_cut_off_is_read_as_far_as_it_goes_or_refused_in_one_line(
    name: str, share: float, tmp_path: Path
) -> None:
    path = cut(make_film(tmp_path / name, numbered(120), gop=12), share)
    if name == "film.mp4" or share < (0.5 if name == "film.avi" else 0.1 if name == "film.mkv" else 0.0):
        with pytest.raises(SourceError, match=name) as caught:
            read(path)
        assert "\n" not in str(caught.value)
        return
    frames = read(path)
    assert frames
    assert len(frames) <= 120
    good = [number_of(f.picture) for f in frames if f.picture is not None]
    assert good[:-2] == list(range(len(good)))[:-2]  # the last may be decoded from half its bytes


def test_random_bytes_behind_a_true_beginning(tmp_path: Path) -> None:
    for name in ("film.mp4", "film.mkv", "film.ts", "film.avi"):
        head = make_film(tmp_path / name, numbered(3)).read_bytes()[:300]
        (tmp_path / name).write_bytes(head + np.random.default_rng(0).bytes(50_000))
        with pytest.raises(SourceError, match=name) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_huge_declared_size_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mkv", numbered(3), codec="rawvideo")
    data = path.read_bytes()
    # Matroska: PixelWidth (B0) and PixelHeight (BA), one byte each here.
    small = b"\xb0\x81" + bytes([96]) + b"\xba\x81" + bytes([64])
    assert small in data
    path.write_bytes(data.replace(small, b"\xb0\x82\xff\xff\xba\x81" + bytes([64])))
    with pytest.raises(SourceError, match=r"film\.mkv") as caught:
        read(path, max_pixels=1_000_000)
    assert "\n" not in str(caught.value)
