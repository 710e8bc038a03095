"""Films and pictures written, then read back."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from films import make_film, number_of, numbered

from mien.errors import OptionError, OutputError, ShapeError, SourceError
from mien.media.stills import read_picture
from mien.media.video import Film
from mien.media.writer import FilmWriter, write_picture

UNEVEN = [0.5, 0.51, 0.9, 1.7, 1.75, 2.0, 2.04, 3.5, 3.501, 4.0]


def copy(source: Path, target: Path) -> None:
    with (
        Film(source) as film,
        FilmWriter(target, width=film.width, height=film.height, fps=film.fps, sound_from=source) as out,
    ):
        for frame in film:
            assert frame.picture is not None
            out.write(frame.picture, frame.time)


def sound_of(path: Path) -> tuple[str, float, float]:
    """Codec, and the seconds at which the tone begins and ends, by the samples themselves."""
    with av.open(str(path)) as container:
        audio = container.streams.audio[0]
        loud = []
        for frame in container.decode(audio):
            samples = frame.to_ndarray().astype(float)
            samples = samples[0] if samples.shape[0] == 2 else samples[0, ::2]
            samples = samples / (32768 if frame.format.name.startswith("s16") else 1)
            at = np.flatnonzero(np.abs(samples) > 0.1)
            if at.size:
                loud += [float(frame.time) + at[0] / frame.sample_rate, float(frame.time) + at[-1] / frame.sample_rate]
        return audio.codec_context.name, loud[0], loud[-1]


def test_uneven_times_come_back(tmp_path: Path) -> None:
    frames = numbered(10)
    with FilmWriter(tmp_path / "out.mp4", width=96, height=64, fps=None) as out:
        for picture, time in zip(frames, UNEVEN, strict=True):
            out.write(picture, time)
    with Film(tmp_path / "out.mp4") as film:
        back = list(film)
    np.testing.assert_allclose([f.time for f in back], UNEVEN, atol=1e-5)
    for frame, picture in zip(back, frames, strict=True):
        assert frame.picture is not None
        assert number_of(frame.picture) == frame.index
        assert np.abs(frame.picture.astype(int) - picture).mean() < 6
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert "mp4" in container.format.name
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")  # a browser can begin before it has all


def test_the_last_frame_stays_as_long_as_the_others(tmp_path: Path) -> None:
    with FilmWriter(tmp_path / "out.mp4", width=96, height=64, fps=10) as out:
        for number, picture in enumerate(numbered(5)):
            out.write(picture, number / 10)
    with Film(tmp_path / "out.mp4") as film:
        assert film.duration == pytest.approx(0.5, abs=1e-3)
        assert film.fps == pytest.approx(10)


@pytest.mark.parametrize("size", [(95, 64), (96, 63), (1, 1)])
def test_odd_sides_are_filled_up_by_a_pixel(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    picture = np.full((height, width, 3), (200, 100, 50), np.uint8)
    with FilmWriter(tmp_path / "out.mp4", width=width, height=height, fps=25) as out:
        out.write(picture, 0)
    with Film(tmp_path / "out.mp4") as film:
        (frame,) = film
    assert frame.picture is not None
    assert frame.picture.shape == (height + height % 2, width + width % 2, 3)
    np.testing.assert_allclose(frame.picture.astype(int), np.broadcast_to([200, 100, 50], frame.picture.shape), atol=4)


@pytest.mark.parametrize(
    ("ending", "codec", "kept"),
    [("mp4", "aac", "aac"), ("mkv", "libopus", "opus"), ("mkv", "pcm_s16le", "aac"), ("ts", "aac", "aac")],
)
@pytest.mark.parametrize("start", [0.0, 0.5])
def test_the_sound_stays_in_step(tmp_path: Path, ending: str, codec: str, kept: str, start: float) -> None:
    times = [start + 0.04 * i + (0.2 if i > 9 else 0) for i in range(30)]
    source = make_film(tmp_path / f"film.{ending}", numbered(30), times=times, sound=codec)
    target = tmp_path / "out.mp4"
    copy(source, target)
    with Film(source) as film, Film(target) as out:
        before, after = [f.time for f in film], [f.time for f in out]
    np.testing.assert_allclose(np.diff(after), np.diff(before), atol=1e-4)
    if ending != "ts":  # there the clock begins anywhere, and the copy's at 0
        np.testing.assert_allclose(after, before, atol=1e-4)
    _, first, last = sound_of(source)
    name, first_after, last_after = sound_of(target)
    assert name == kept
    assert first_after - after[0] == pytest.approx(first - before[0], abs=0.03)
    assert last_after - after[0] == pytest.approx(last - before[0], abs=0.03)


def test_every_audio_stream_goes_along_and_a_mute_film_stays_mute(tmp_path: Path) -> None:
    source = tmp_path / "two.mkv"
    with av.open(str(source), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        tracks = [out.add_stream("aac", rate=48000, layout="mono") for _ in range(2)]
        for number, picture in enumerate(numbered(10)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for track in tracks:
            for number in range(18):
                sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                sound.sample_rate, sound.pts = 48000, number * 1024
                out.mux(track.encode(sound))
            out.mux(track.encode(None))
    copy(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams.audio) == 2
    copy(make_film(tmp_path / "mute.mp4", numbered(3)), tmp_path / "out.mp4")
    with Film(tmp_path / "out.mp4") as film:
        assert not film.has_sound


def test_times_that_are_missing_or_go_back(tmp_path: Path) -> None:
    with FilmWriter(tmp_path / "out.mp4", width=96, height=64, fps=10) as out:
        for picture, time in zip(numbered(5), [float("nan"), float("nan"), 0.05, 0.5, float("nan")], strict=True):
            out.write(picture, time)
    with Film(tmp_path / "out.mp4") as film:
        back = list(film)
    assert [number_of(f.picture) for f in back if f.picture is not None] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose([f.time for f in back], [0, 0.1, 0.1, 0.5, 0.6], atol=1e-3)


def _interrupted(out: FilmWriter) -> None:
    out.write(numbered(1)[0], 0)
    raise KeyboardInterrupt


def test_an_error_leaves_nothing_behind_and_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    target.write_bytes(b"old")
    out = FilmWriter(target, width=96, height=64, fps=25)
    with pytest.raises(KeyboardInterrupt), out:
        _interrupted(out)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_film_without_frames(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"out\.mp4: not written"),
        FilmWriter(tmp_path / "out.mp4", width=96, height=64, fps=25),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"out\.mp4: cannot be written \(No such file or directory\)") as caught:
        FilmWriter(tmp_path / "gone" / "out.mp4", width=96, height=64, fps=25)
    assert "\n" not in str(caught.value)
    with pytest.raises(OptionError, match="0 × 64"):
        FilmWriter(tmp_path / "out.mp4", width=0, height=64, fps=25)
    with pytest.raises(OptionError, match="52"):
        FilmWriter(tmp_path / "out.mp4", width=96, height=64, fps=25, crf=52)
    with pytest.raises(SourceError, match=r"gone\.mp4"):
        FilmWriter(tmp_path / "out.mp4", width=96, height=64, fps=25, sound_from=tmp_path / "gone.mp4")
    with pytest.raises(ShapeError), FilmWriter(tmp_path / "out.mp4", width=96, height=64, fps=25) as out:
        out.write(np.zeros((64, 98, 3), np.uint8), 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("span", [(1.0, 1.0), (2.0, 1.0), (0.0, float("inf")), (float("nan"), 1.0)])
def test_stretches_that_cannot_be(tmp_path: Path, span: tuple[float, float]) -> None:
    with pytest.raises(OptionError, match="span"):
        FilmWriter(tmp_path / "out.mp4", width=96, height=64, fps=25, span=span)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_a_stretch_begins_at_0_and_its_sound_ends_with_it(tmp_path: Path, codec: str) -> None:
    source = make_film(tmp_path / "film.mkv", numbered(100), sound=codec)
    target = tmp_path / "out.mp4"
    with FilmWriter(target, width=96, height=64, fps=25, sound_from=source, span=(1.0, 2.0)) as out:
        assert out.has_sound
        assert out.size == (64, 96)
        for number, picture in enumerate(numbered(50)[25:]):
            out.write(picture, 1 + number / 25)
    with Film(target) as film:
        assert [number_of(f.picture) for f in film if f.picture is not None] == list(range(25, 50))
        assert film.duration == pytest.approx(1.0, abs=1e-3)
    _, first, last = sound_of(target)
    assert first == pytest.approx(0, abs=0.003)
    assert last == pytest.approx(1.0, abs=0.025)


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    with (
        pytest.raises(OutputError, match="cannot be written"),
        FilmWriter(tmp_path / "out.mp4", width=96, height=64, fps=25) as out,
    ):
        out.write(numbered(1)[0], 0)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(("ending", "tolerance"), [(".png", 0), (".jpg", 6), (".JPEG", 6), (".webp", 6)])
def test_pictures_come_back(tmp_path: Path, ending: str, tolerance: float) -> None:
    y, x = np.mgrid[0:255:64j, 0:255:96j]
    picture = np.stack([x, y, 255 - x], -1).astype(np.uint8)
    path = tmp_path / f"out{ending}"
    write_picture(path, picture)
    assert np.abs(read_picture(path).astype(int) - picture).mean() <= tolerance
    assert list(tmp_path.iterdir()) == [path]


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(OutputError, match=r"'\.xyz'; use \.jpg, \.jpeg, \.png, \.webp"):
        write_picture(tmp_path / "out.xyz", picture)
    with pytest.raises(OutputError, match="cannot be written"):
        write_picture(tmp_path / "gone" / "out.png", picture)
    (tmp_path / "out.png").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_picture(tmp_path / "out.png", picture)
    with pytest.raises(ShapeError):
        write_picture(tmp_path / "grey.png", picture[..., 0])
    with pytest.raises(OutputError, match=r"cannot be written|cannot encode"):
        write_picture(tmp_path / "wide.webp", np.zeros((1, 20_000, 3), np.uint8))
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    assert cv2.utils.logging.getLogLevel() > 0
