"""Films generated with known times, turns and damage, read back frame by frame."""

from __future__ import annotations

import gc
import io
import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from films import cut, make_film, number_of, numbered, spoil

from mien.errors import DecodeError, OptionError, SourceError, SourceNotFoundError, TooLargeError
from mien.media.video import Film, Frame, raw_frames, video_stream

FFPROBE = shutil.which("ffprobe")
UNEVEN = [0.5, 0.51, 0.9, 1.7, 1.75, 2.0, 2.04, 3.5, 3.501, 4.0]


def frames_of(path: Path | io.BytesIO, **options: Any) -> list[Frame]:
    with Film(path, **options) as film:
        return list(film)


def pictures(frames: list[Frame]) -> list[np.ndarray]:
    assert all(f.picture is not None for f in frames)
    return [f.picture for f in frames if f.picture is not None]


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi"])
@pytest.mark.parametrize("threads", [0, 1])
def test_every_frame_in_order_with_its_time(tmp_path: Path, ending: str, threads: int) -> None:
    path = make_film(tmp_path / f"film.{ending}", numbered(20), fps=25)
    frames = frames_of(path, threads=threads)
    assert [f.index for f in frames] == list(range(20))
    assert [number_of(p) for p in pictures(frames)] == list(range(20))
    np.testing.assert_allclose([f.time for f in frames], np.arange(20) / 25, atol=1e-3)


@pytest.mark.parametrize("bframes", [0, 3])
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_uneven_times_are_those_of_the_container(tmp_path: Path, ending: str, bframes: int) -> None:
    path = make_film(tmp_path / f"film.{ending}", numbered(10), times=UNEVEN, bframes=bframes)
    with av.open(str(path)) as container:
        order = [p.pts for p in container.demux(video=0) if p.pts is not None]
    assert (order != sorted(order)) == (bframes > 0)  # the film really is stored out of order
    frames = frames_of(path)
    assert [number_of(p) for p in pictures(frames)] == list(range(10))
    np.testing.assert_allclose([f.time for f in frames], UNEVEN, atol=1e-3 if ending == "mkv" else 1e-5)


def test_a_transport_stream_keeps_the_steps_of_its_clock(tmp_path: Path) -> None:
    frames = frames_of(make_film(tmp_path / "film.ts", numbered(10), times=UNEVEN, bframes=2))
    assert [number_of(p) for p in pictures(frames)] == list(range(10))
    np.testing.assert_allclose(np.diff([f.time for f in frames]), np.diff(UNEVEN), atol=1e-4)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_film_is_turned_as_its_matrix_says(tmp_path: Path, rotation: int) -> None:
    path = make_film(tmp_path / "film.mp4", numbered(3), rotation=rotation)
    # The matrix in the track header carries (x, y) to (ax + cy, bx + dy), then shifted into view.
    data = path.read_bytes()
    at = data.find(b"tkhd") + 4 + 40
    a, b, _, c, d = (v // 65536 for v in struct.unpack_from(">5i", data, at))
    stored = numbered(1)[0]
    height, width = stored.shape[:2]
    y, x = np.mgrid[:height, :width]
    to_x, to_y = a * x + c * y, b * x + d * y
    shown = np.zeros((int(np.ptp(to_y)) + 1, int(np.ptp(to_x)) + 1, 3), np.uint8)
    shown[to_y - to_y.min(), to_x - to_x.min()] = stored
    with Film(path) as film:
        assert (film.width, film.height) == (shown.shape[1], shown.shape[0])
        first = next(iter(film)).picture
    assert first is not None
    assert first.shape == shown.shape
    assert first.flags.c_contiguous
    assert np.abs(first.astype(int) - shown).mean() < 4


def test_what_a_film_says_of_itself(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", numbered(25), fps=12.5, sound=True)
    with Film(path) as film:
        assert (film.name, film.width, film.height, film.frames) == (str(path), 96, 64, 25)
        assert film.duration == pytest.approx(2.0, abs=0.01)
        assert film.fps == pytest.approx(12.5)
        assert film.has_sound
    with Film(make_film(tmp_path / "mute.mkv", numbered(25))) as film:
        assert not film.has_sound
        assert film.frames == pytest.approx(25, abs=2)


def test_every_and_start_keep_numbers_and_times(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", numbered(10), times=UNEVEN)
    some = frames_of(path, every=3, start=4)
    assert [f.index for f in some] == [6, 9]
    assert [number_of(p) for p in pictures(some)] == [6, 9]
    np.testing.assert_allclose([f.time for f in some], [UNEVEN[6], UNEVEN[9]], atol=1e-5)
    assert [f.index for f in frames_of(path, every=4)] == [0, 4, 8]
    assert frames_of(path, start=10) == []


def test_frames_that_are_not_given_are_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.media import video

    converted: list[int] = []
    convert = video.to_picture
    monkeypatch.setattr(video, "to_picture", lambda frame: converted.append(frame.pts) or convert(frame))
    frames_of(make_film(tmp_path / "film.mp4", numbered(20)), every=5, start=6)
    assert len(converted) == 2


@pytest.mark.parametrize("options", [{"every": 0}, {"start": -1}, {"threads": -1}])
def test_impossible_options(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(OptionError, match="every must be at least 1"):
        Film(tmp_path / "film.mp4", **options)


def test_a_second_loop_and_a_film_in_memory(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", numbered(5))
    for source in (path, io.BytesIO(path.read_bytes())):
        with Film(source) as film:
            first, second = list(film), list(film)
        assert [f.time for f in first] == [f.time for f in second]
        assert len(second) == 5
        assert np.array_equal(pictures(first), pictures(second))
    with Film(io.BytesIO(path.read_bytes())) as film:
        assert film.name == "film in memory"


def test_colours_of_high_definition_are_right(tmp_path: Path) -> None:
    path = tmp_path / "hd.mp4"
    colours = np.array([[230, 20, 20], [20, 200, 40], [20, 20, 230], [128, 128, 128]], np.uint8)
    picture = np.repeat(np.repeat(colours[None], 32, 1), 64, 0)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "1"})
        video.width, video.height, video.pix_fmt = 128, 64, "yuv420p"
        video.codec_context.colorspace = 1
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        out.mux(video.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        out.mux(video.encode(None))
    (frame_read,) = pictures(frames_of(path))
    np.testing.assert_allclose(frame_read[32, 16::32].astype(int), colours.astype(int), atol=6)


# Damage


@pytest.mark.parametrize("threads", [1, 2, 0])
def test_a_damaged_stretch_costs_its_own_frames_only(tmp_path: Path, threads: int) -> None:
    path = make_film(tmp_path / "film.mp4", numbered(60), gop=6, bframes=2)
    whole = frames_of(path)
    spoil(path, first=0.4, last=0.6)
    frames = frames_of(path, threads=threads)
    assert [f.index for f in frames] == list(range(60))
    np.testing.assert_allclose([f.time for f in frames], [f.time for f in whole])
    lost = [f for f in frames if f.picture is None]
    assert 6 <= len(lost) <= 24
    assert all(f.error and "\n" not in f.error for f in lost)
    assert 15 < lost[0].index < lost[-1].index < 45
    for frame in frames[:15] + frames[45:]:
        assert frame.picture is not None
        assert number_of(frame.picture) == frame.index


def test_resuming_behind_the_damage_counts_alike(tmp_path: Path) -> None:
    path = spoil(make_film(tmp_path / "film.mp4", numbered(60), gop=6))
    whole, rest = frames_of(path), frames_of(path, start=40)
    assert [(f.index, f.time, f.error) for f in rest] == [(f.index, f.time, f.error) for f in whole[40:]]


def test_a_film_whose_frames_are_all_lost_says_so_for_each(tmp_path: Path) -> None:
    path = spoil(make_film(tmp_path / "film.mp4", numbered(12)), first=0, last=1)
    frames = frames_of(path)
    assert len(frames) == 12
    assert {f.picture is None for f in frames} == {True}


def test_an_early_end_behind_a_whole_index(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mkv", numbered(60), gop=6)
    frames = frames_of(cut(path, 0.5))
    assert 20 < len(frames) < 40
    assert [number_of(f.picture) for f in frames[:20] if f.picture is not None] == list(range(20))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_film_without_its_index(tmp_path: Path, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    path = cut(make_film(tmp_path / "film.mp4", numbered(30)), share)
    with pytest.raises(DecodeError, match=r"film\.mp4: the film .*cut off") as caught:
        Film(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_damage_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    frames_of(spoil(make_film(tmp_path / "film.mp4", numbered(30), gop=6)))
    assert capfd.readouterr() == ("", "")


def sound_only(path: Path, *, video: bool) -> Path:
    with av.open(str(path), "w") as out:
        audio = out.add_stream("aac", rate=48000, layout="mono")
        if video:
            stream = out.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, number * 1024
            out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    return path


def test_no_frames_no_video_no_film_no_file(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"none\.mp4: it has no video stream"):
        Film(make_film(tmp_path / "none.mp4", []))
    with pytest.raises(DecodeError, match=r"none\.mkv: the film ends before its first frame"):
        Film(make_film(tmp_path / "none.mkv", []))
    with pytest.raises(DecodeError, match=r"sound\.mkv: the film has no frames"):
        Film(sound_only(tmp_path / "sound.mkv", video=True))
    with pytest.raises(DecodeError, match=r"song\.mp4: it has no video stream"):
        Film(sound_only(tmp_path / "song.mp4", video=False))
    for name, data, why in (
        ("empty.mp4", b"", "the file is empty"),
        ("notes.txt", b"hello world\n" * 100, r"not a film \(it begins with b'hello w'\)"),
        ("picture.mp4", b"\xff\xd8\xff\xe0" + bytes(60), "a picture, not a film"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DecodeError, match=why):
            Film(tmp_path / name)
    with pytest.raises(SourceNotFoundError, match=r"gone\.mp4: no such file"):
        Film(tmp_path / "gone.mp4")
    with pytest.raises(SourceError, match="cannot be read"):
        Film(tmp_path)


def test_frames_that_are_too_large(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", numbered(2))
    with pytest.raises(TooLargeError, match=r"frames of 96 × 64 .*--max-megapixels"):
        Film(path, max_pixels=96 * 64 - 1)
    assert len(frames_of(path, max_pixels=96 * 64)) == 2


def test_raw_frames_check_every_frame_since_a_stream_may_grow(tmp_path: Path) -> None:
    with av.open(str(make_film(tmp_path / "film.mp4", numbered(2)))) as container:
        stream = video_stream(container, "film")
        with pytest.raises(TooLargeError):
            list(raw_frames(container, stream, "film", max_pixels=100))


def test_memory_does_not_hold_the_film(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", numbered(60, width=320, height=240))

    def arrays() -> int:
        gc.collect()
        return sum(isinstance(o, Frame) for o in gc.get_objects())

    with Film(path) as film:
        held = [arrays() for frame in film if frame.index % 20 == 0]
    assert max(held) <= 2


# Beside ffprobe, where there is one


@pytest.mark.shared
@pytest.mark.parametrize("name", ["hamilton.mp4", "single_face.mp4", "two_scenes.mp4", "no_face.mp4"])
def test_times_of_real_clips(name: str, shared: Path) -> None:
    clip = shared / "pictures" / "clips" / name
    frames = frames_of(clip, every=7)
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert stream.time_base is not None
        # The container's index, without a decoder: what is in the file, in the order of showing.
        packets = [p for p in container.demux(stream) if p.pts is not None and not p.is_discard]
        expected = sorted(float(p.pts * stream.time_base) for p in packets)
    np.testing.assert_allclose([f.time for f in frames], expected[::7])
    assert all(f.picture is not None for f in frames)
    if FFPROBE:
        probe = [FFPROBE, "-v", "0", "-select_streams", "v:0", "-show_entries", "frame=pts_time", "-of", "json"]
        told = json.loads(subprocess.run([*probe, str(clip)], capture_output=True, check=True).stdout)
        np.testing.assert_allclose(
            [f.time for f in frames], [float(f["pts_time"]) for f in told["frames"]][::7], atol=1e-6
        )


def test_a_film_whose_remarks_are_not_utf8_is_read(tmp_path: Path) -> None:
    path = make_film(tmp_path / "a.mp4", [np.full((32, 32, 3), 90, np.uint8)] * 3)
    data = path.read_bytes()
    assert b"VideoHandler" in data
    path.write_bytes(data.replace(b"VideoHandler", b"Vid\xe9oHandler"))
    with Film(path) as film:
        assert [f.index for f in film] == [0, 1, 2]


# At a rate


def ticks_by_hand(times: list[float], fps: float) -> list[int]:
    """The first frame, and each that is the first at or behind a tick, by going through the ticks one after another."""
    given, tick = [0], 0
    while tick / fps <= times[0] + 0.0005:
        tick += 1
    for number, time in enumerate(times[1:], 1):
        if time + 0.0005 >= tick / fps:
            given.append(number)
            while tick / fps <= time + 0.0005:
                tick += 1
    return given


@pytest.mark.parametrize("fps", [0.3, 1.0, 7.3, 8.0, 24.0, 30.0, 1000.0])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_frames_at_a_rate_are_those_that_reach_the_next_tick(tmp_path: Path, fps: float, ending: str) -> None:
    path = make_film(tmp_path / f"film.{ending}", numbered(10), times=UNEVEN)
    times = [f.time for f in frames_of(path)]
    some = frames_of(path, fps=fps)
    assert [f.index for f in some] == ticks_by_hand(times, fps)
    assert [number_of(p) for p in pictures(some)] == [f.index for f in some]


@pytest.mark.parametrize("rate", [24, 25, 30, 60])
def test_a_film_at_its_own_rate_gives_every_frame_even_where_times_are_rounded(tmp_path: Path, rate: int) -> None:
    path = make_film(tmp_path / "film.mkv", numbered(100), fps=rate)  # Matroska counts in milliseconds
    assert [f.index for f in frames_of(path, fps=float(rate))] == list(range(100))
    assert [f.index for f in frames_of(path, fps=rate / 2)] == list(range(0, 100, 2))


@pytest.mark.parametrize("start", [0, 1, 4, 9, 17, 30])
def test_the_choice_does_not_depend_on_where_reading_begins(tmp_path: Path, start: int) -> None:
    path = make_film(tmp_path / "film.mp4", numbered(30), fps=29.97)
    whole = frames_of(path, fps=8)
    assert [f.index for f in frames_of(path, fps=8, start=start)] == [f.index for f in whole if f.index >= start]


@pytest.mark.parametrize("options", [{"fps": 0}, {"fps": -1.0}, {"fps": float("nan")}, {"fps": 8, "every": 2}])
def test_impossible_rates(tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="fps must be a number above 0, and every 1 beside it"):
        Film(tmp_path / "film.mp4", **options)
