"""Clips out of a film: which frames, at which times, and how well the sound stays in step."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from films import make_film, number_of, numbered, spoil
from flashes import click_film, heard, offsets, seen
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_subtitles import spans

from mien.errors import OptionError, OutputError
from mien.film.clips import Clips, Cut, cuts, events, safe
from mien.film.reading import joined, read_frames
from mien.film.spans import Spans
from mien.film.tables import Frames
from mien.media.video import Film

FLASHES = range(7, 246, 13)
STEADY = [0.04 * i for i in range(250)]
UNEVEN = np.cumsum(np.random.default_rng(5).choice([0.02, 0.04, 0.05], 250)).round(4).tolist()


def table(film: Path, every: int = 1) -> Frames:
    with Film(film) as opened:
        frames = [(f.index, f.time, f.picture is None) for f in opened][::every]
    number, time, broken = zip(*frames, strict=True)
    return Frames.build(
        len(frames),
        ordinal=np.arange(len(frames)),
        frame=np.array(number),
        time=np.array(time),
        reason=np.where(broken, "unreadable", ""),
        change=0,
    )


def around(*ranges: tuple[float, float]) -> Spans:
    return spans(*[(a, b, i, 0.9, "happy") for i, (a, b) in enumerate(ranges)])


def cut_out(film: Path, folder: Path, *ranges: tuple[float, float], every: int = 1, pad: float = 0.0) -> list[Path]:
    folder.mkdir(exist_ok=True)
    frames = table(film, every)
    found = cuts(around(*ranges), frames, pad=pad)
    clips = Clips(folder, film, found, around(*ranges), fps=25)
    for frame in read_frames(film, frames, joined(clips.stretches), clips.wants):
        if frame.picture is not None:
            clips.take(frame)
    clips.finish()
    return clips.written


# Sound in step


@pytest.mark.parametrize("times", [STEADY, UNEVEN], ids=["steady", "uneven"])
@pytest.mark.parametrize(
    ("ending", "codecs", "kept"),
    [
        ("mp4", ("aac",), ("aac",)),
        ("ts", ("aac",), ("aac",)),
        ("mp4", ("libmp3lame",), ("mp3",)),
        ("mkv", ("libopus",), ("opus",)),
        ("mkv", ("flac",), ("flac",)),
        ("mov", ("pcm_s16le",), ("aac",)),
        ("ts", ("mp2",), ("aac",)),
        ("mkv", ("aac", "pcm_s16le"), ("aac", "aac")),
    ],
    ids=lambda v: v if isinstance(v, str) else "+".join(v),
)
def test_flash_and_click_stay_together(
    tmp_path: Path, times: list[float], ending: str, codecs: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    """Begins between key frames, of which there is one in twelve; what the source itself is off by is its own."""
    source = click_film(tmp_path / f"film.{ending}", times, list(FLASHES), codecs=codecs)
    with Film(source) as film:
        begin = next(iter(film)).time
    own = max(np.abs(offsets(source, track)).max() for track in range(len(codecs)))
    off: list[float] = []
    for start in (0.33, 3.05, 5.77):
        (clip,) = cut_out(source, tmp_path / "out", (begin + start, begin + start + 1.6))
        with av.open(str(clip)) as container:
            assert tuple(s.codec_context.codec.canonical_name for s in container.streams.audio) == kept
            picture, *sounds = [float(s.duration * s.time_base) for s in container.streams]
        assert picture == pytest.approx(1.6, abs=0.06)
        # A copied stream ends with a whole packet, of FLAC up to 96 ms.
        assert all(-0.005 < s - picture < (0.1 if kept == ("flac",) else 0.03) for s in sounds)
        for track in range(len(codecs)):
            off += offsets(clip, track).tolist()
    assert len(off) >= 5 * len(codecs)
    assert np.abs(off).max() < own + 0.002


def test_sound_that_begins_late_or_not_at_all(tmp_path: Path) -> None:
    source = click_film(tmp_path / "late.mp4", STEADY, list(FLASHES), sound_starts=4.0)
    (early,) = cut_out(source, tmp_path / "a", (1.0, 2.0))
    assert not len(heard(early))
    (across,) = cut_out(source, tmp_path / "b", (3.05, 5.6))
    clicks, flashes = heard(across), seen(across)
    assert len(clicks) == (flashes > 0.97).sum() >= 2
    np.testing.assert_allclose(clicks, flashes[flashes > 0.97], atol=0.002)
    mute = make_film(tmp_path / "mute.mp4", numbered(50))
    (clip,) = cut_out(mute, tmp_path / "c", (0.5, 1.0))
    with Film(clip) as film:
        assert not film.has_sound


def test_a_hole_in_encoded_sound_is_silence(tmp_path: Path) -> None:
    """Sound that is missing for a while does not pull what follows it forward."""
    whole = click_film(tmp_path / "whole.mkv", STEADY, list(FLASHES), codecs=("pcm_s16le",))
    holed = tmp_path / "holed.mkv"
    with av.open(str(whole)) as source, av.open(str(holed), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            at = float(packet.pts * packet.time_base) if packet.pts is not None else 0
            if packet.dts is None or (packet.stream.type == "audio" and 2.0 < at < 3.0):
                continue
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    (clip,) = cut_out(holed, tmp_path / "out", (1.0, 6.0))
    flashes, clicks = seen(clip), heard(clip)
    clicks = clicks[clicks < 4.95]
    there = flashes[(flashes < 0.95) | (flashes > 2.05)]
    np.testing.assert_allclose(clicks, there, atol=0.003)


# Which frames, and when


@pytest.mark.parametrize("times", [STEADY[:200], UNEVEN[:200]], ids=["steady", "uneven"])
@pytest.mark.parametrize("every", [1, 3])
def test_every_frame_is_there_at_its_time(tmp_path: Path, times: list[float], every: int) -> None:
    source = make_film(tmp_path / "film.mp4", numbered(200), times=times, gop=30)
    start, end = times[57], times[90]
    (clip,) = cut_out(source, tmp_path / "out", (start, end), every=every)
    with Film(clip) as film:
        frames = [(number_of(f.picture), f.time) for f in film if f.picture is not None]
        length = film.duration
    assert [n for n, _ in frames] == list(range(57, 90))
    np.testing.assert_allclose([t for _, t in frames], np.array(times[57:90]) - start, atol=2e-5)
    assert length == pytest.approx(end - start, abs=0.05)  # MP4 counts it in the order of decoding


def test_upright_odd_and_ten_bit(tmp_path: Path) -> None:
    turned = make_film(tmp_path / "turned.mp4", numbered(30), rotation=90)
    (clip,) = cut_out(turned, tmp_path / "a", (0.4, 0.8))
    with Film(turned) as before, Film(clip) as after:
        assert (after.width, after.height) == (before.width, before.height) == (64, 96)
        first = next(f for f in before if f.index == 10)
        np.testing.assert_allclose(next(iter(after)).picture, first.picture, atol=40)
    deep = tmp_path / "deep.mkv"
    with av.open(str(deep), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p10le"
        for number, picture in enumerate(numbered(30)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p10le")
            frame.pts = number
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    (clip,) = cut_out(deep, tmp_path / "b", (0.4, 0.8))
    with Film(clip) as film:
        assert [number_of(f.picture) for f in film] == list(range(10, 20))


def test_a_corrupt_stretch_leaves_the_rest_in_step(tmp_path: Path) -> None:
    source = click_film(tmp_path / "film.mp4", STEADY, list(FLASHES), gop=10)
    data = spoil(source, first=0.45, last=0.5)
    with Film(data) as film:
        lost = [f.time for f in film if f.picture is None]
    assert 3 < len(lost) < 60
    (clip,) = cut_out(data, tmp_path / "out", (lost[0] - 1, lost[-1] + 1))
    with Film(clip) as film:
        back = np.array([f.time for f in film if f.picture is not None])
    expected = np.array([t for t in STEADY if lost[0] - 1 - 1e-6 <= t < lost[-1] + 1 - 1e-6 and not _near(t, lost)])
    np.testing.assert_allclose(back, expected - expected[0], atol=1e-3)
    # Damage may leave grey or white frames; before it and behind it flash and click are one.
    assert np.abs(offsets(clip)[[0, -2, -1]]).max() < 0.002


def _near(time: float, times: list[float]) -> bool:
    return bool(np.abs(np.array(times) - time).min() < 0.01)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
def test_winding_gives_the_same_frames_as_reading_from_the_beginning(tmp_path: Path, ending: str) -> None:
    film = make_film(tmp_path / f"film.{ending}", numbered(120) * 10, gop=25)
    frames = table(film)
    decoded: list[int] = []
    wanted = {3, 4, 500, 503, 1100, 1199}
    got = list(
        read_frames(film, frames, joined([(n, n) for n in wanted]), lambda n, _: n in wanted, stepped=decoded.append)
    )
    assert [f.index for f in got] == sorted(wanted)
    assert [number_of(f.picture) for f in got] == [n % 120 for n in sorted(wanted)]
    np.testing.assert_array_equal([f.time for f in got], frames.time[sorted(wanted)])
    assert sum(decoded) < 110


def test_a_film_whose_index_has_every_third_frame_is_wound_as_well(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", numbered(120) * 10, gop=25)
    got = list(read_frames(film, table(film, every=3), [(800, 805)], lambda *_: True))
    assert [number_of(f.picture) for f in got] == [n % 120 for n in range(800, 806)]
    assert [f.index for f in got] == list(range(800, 806))


# The plan


def steps(n: int = 100) -> Frames:
    return Frames.build(n, ordinal=np.arange(n), frame=np.arange(n), time=np.arange(n) / 25, change=0)


def test_padding_stays_in_the_film() -> None:
    (cut,) = cuts(around((0.2, 3.9)), steps(), pad=0.5)
    assert (cut.start, cut.end) == (0.0, 4.0)
    (cut,) = cuts(around((1.0, 2.0)), steps(), pad=0.5)
    assert (cut.start, cut.end) == (0.5, 2.5)


def test_near_spans_become_one() -> None:
    held = around((0.4, 0.8), (1.0, 1.4), (1.2, 1.3), (2.0, 2.2))
    assert [c.spans for c in cuts(held, steps(), pad=0)] == [(0,), (1, 2), (3,)]
    assert [c.spans for c in cuts(held, steps(), pad=0, join=0.2)] == [(0, 1, 2), (3,)]
    assert [c.spans for c in cuts(held, steps(), pad=0, join=5)] == [(0, 1, 2, 3)]


@given(
    st.lists(st.tuples(st.integers(0, 90), st.integers(1, 20)), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.sampled_from([0.0, 0.08, 0.4]),
)
def test_cuts_equal_a_plain_painting(rows: list[tuple[int, int]], pad: float, join: float) -> None:
    """Frames are painted by hand, gaps of at most ``join`` filled; each cut is one painted stretch."""
    held = around(*sorted((a / 25, min(a + n, 100) / 25) for a, n in rows))
    frames = steps()
    painted = np.zeros(101, np.bool_)
    for a, b in zip(held.start, held.end, strict=True):
        painted[round(a * 25) : round(b * 25)] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], painted, [False]]).astype(int)))
    stretches = [(a, b) for a, b in edges.reshape(-1, 2).tolist()]
    merged: list[tuple[int, int]] = []
    for a, b in stretches:
        if merged and a - merged[-1][1] <= join * 25 + 1e-6:
            merged[-1] = merged[-1][0], b
        else:
            merged.append((a, b))
    got = cuts(held, frames, pad=pad, join=join + 1e-9)
    assert [(round(c.start, 6), round(c.end, 6)) for c in got] == [
        (round(max(0, a / 25 - pad), 6), round(min(4.0, b / 25 + pad), 6)) for a, b in merged
    ]
    for cut in got:
        inside = np.flatnonzero((frames.time >= cut.start - 1e-6) & (frames.time < cut.end - 1e-6))
        assert cut.stretch[0] <= inside[0] <= inside[-1] <= cut.stretch[1]


def test_events_count_from_the_first_frame() -> None:
    frames = Frames.build(3, ordinal=np.arange(3), frame=np.arange(3), time=np.array([5.0, 5.04, 5.08]), change=0)
    found = [Cut(5.04, 5.12, (0, 3), (0, 1, 2, 3))]
    (event,) = events(found, around((5.04, 5.1), (5.04, 5.1), (5.04, 5.1), (5.05, 5.1)), frames)
    assert (event.start, event.end) == pytest.approx((0.04, 0.12))
    assert event.remark == "track 0: happy 0.90, track 1: happy 0.90, track 2: happy 0.90 and 1 more"


def test_plans_that_cannot_be() -> None:
    for pad, join in ((-1.0, 0.0), (0.0, -0.5), (float("nan"), 0.0)):
        with pytest.raises(OptionError, match="pad and join"):
            cuts(around((0.0, 1.0)), steps(), pad=pad, join=join)


@given(st.text(max_size=60))
def test_names_are_safe(text: str) -> None:
    name = safe(text)
    assert name
    assert not set(name) & set('/\\:*?"<>|.\0\n ')
    assert name.lower() not in {"con", "nul", "com1"}


def test_an_error_leaves_no_half_clip(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mp4", numbered(50), sound=True)
    folder = tmp_path / "out"
    folder.mkdir()
    frames = table(source)
    held = around((0.2, 0.4), (1.0, 1.6))
    clips = Clips(folder, source, cuts(held, frames, pad=0), held, fps=25)
    for frame in read_frames(source, frames, joined(clips.stretches), clips.wants):
        if frame.picture is not None:
            clips.take(frame)
        if frame.time > 1.2:
            clips.discard(KeyboardInterrupt())
            break
    assert [p.name for p in folder.iterdir()] == ["000000-happy-t0.mp4"]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    source = make_film(tmp_path / "film.mp4", numbered(50))
    frames = table(source)
    held = around((0.2, 0.4))
    clips = Clips(tmp_path / "gone", source, cuts(held, frames), held, fps=25)
    picture: NDArray[np.uint8] = numbered(1)[0]
    from mien.media.video import Frame

    with pytest.raises(OutputError, match="cannot be written"):
        clips.take(Frame(picture, 5, 0.2))


def test_interlaced_frames_are_those_of_the_film(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (64, 96, 3)).astype(np.uint8).repeat(1, 0)
    moving = [np.roll(ground, 3 * i, 1) for i in range(400)]
    source = make_film(tmp_path / "film.mkv", moving, interlaced="tff", gop=25)
    with Film(source) as film:
        whole = {f.index: f.picture for f in film if f.index in {5, 300, 301}}
    got = list(read_frames(source, table(source), [(5, 5), (300, 301)], lambda *_: True))
    assert [f.index for f in got] == [5, 300, 301]
    for frame in got:
        np.testing.assert_array_equal(frame.picture, whole[frame.index])
