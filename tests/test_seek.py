"""Landmarks: reading on gives what an unbroken reading gives, or begins at the beginning."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import joined, make_film, number_of, numbered, spoil

from mien.media import seek
from mien.media.video import Film, Frame


def read(path: Path, **options: Any) -> list[Frame]:
    with Film(path, **options) as film:
        return list(film)


@pytest.fixture
def dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seek, "EVERY", 32)


def moving(count: int) -> list[np.ndarray]:
    """Numbered frames over a lower half that moves, with a new scene every 25."""
    random = np.random.default_rng(4)
    scenes = [random.integers(0, 256, (32, 96, 3), dtype=np.uint8) for _ in range(count // 25 + 1)]
    frames = numbered(count)
    for number, frame in enumerate(frames):
        frame[32:] = np.roll(scenes[number // 25], 2 * number, 1)
    return frames


def rows_of(frames: list[Frame]) -> list[tuple[int, float, str, bytes | None]]:
    return [(f.index, f.time, f.error, None if f.picture is None else f.picture.tobytes()) for f in frames]


def with_landmarks(path: Path) -> tuple[list[Frame], dict[int, dict[str, object]]]:
    frames, marks = [], {}
    with Film(path) as film:
        for frame in film:
            frames.append(frame)
            mark = film.landmark(frame.index)
            if mark is not None:
                assert mark["frame"] <= frame.index
                marks[mark["frame"]] = json.loads(json.dumps(mark))
    return frames, marks


JUMPS = list(np.cumsum(np.random.default_rng(2).choice([0.01, 0.04, 3.0], 130, p=[0.3, 0.65, 0.05])))
RESUMED: dict[str, dict[str, object]] = {
    "b-frames.mp4": {"gop": 12, "bframes": 3},
    "b-frames.ts": {"gop": 12, "bframes": 3, "sound": True},
    "open.mp4": {"gop": 12, "options": {"x264-params": "open-gop=1:ref=6"}},
    "open.mkv": {"gop": 12, "options": {"x264-params": "open-gop=1:ref=6"}},
    "hevc.mkv": {"codec": "libx265", "gop": 12},
    "hevc-open.mp4": {
        "codec": "libx265",
        "options": {"x265-params": "log-level=none:open-gop=1:keyint=12:min-keyint=12"},
    },
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 12},
    "mpeg2.ts": {"codec": "mpeg2video", "gop": 12, "options": {"bf": "1"}},
    "mpeg4.avi": {"gop": 12},
    "mjpeg.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "lossless.mkv": {"codec": "ffv1", "gop": 12, "pixels": "yuv422p10le"},
    "jumps.mp4": {"gop": 12, "times": JUMPS},
    "jumps.ts": {"gop": 12, "times": JUMPS},
    "interlaced.mp4": {"gop": 12, "interlaced": "tff"},
    "turned.mp4": {"gop": 12, "rotation": 90},
    "one-key.mp4": {},
}


@pytest.mark.usefixtures("dense")
@pytest.mark.parametrize("name", RESUMED)
def test_reading_on_from_a_landmark_gives_what_an_unbroken_reading_gives(tmp_path: Path, name: str) -> None:
    path = make_film(tmp_path / name, moving(130), **RESUMED[name])
    whole, marks = with_landmarks(path)
    assert set(marks) == {16, 48, 80, 112}
    for frame, mark in marks.items():
        for start in (frame + 1, frame + 9, 129):
            with Film(path, start=start, landmark=mark) as film:
                assert film.resumed
                assert rows_of(list(film)) == rows_of(whole[start:])
                assert film.landmark(129)["frame"] >= frame
                assert rows_of(list(film)) == rows_of(whole[start:])  # a second loop
    for options in ({"every": 7}, {"fps": 5.0}):
        some = [f for f in read(path, **options) if f.index >= 90]
        assert rows_of(read(path, start=90, landmark=marks[80], **options)) == rows_of(some)
    with io.BytesIO(path.read_bytes()) as memory, Film(memory, start=100, landmark=marks[80]) as film:
        assert film.resumed
        assert rows_of(list(film)) == rows_of(whole[100:])


@pytest.mark.usefixtures("dense")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("refresh.mp4", {"options": {"x264-params": "intra-refresh=1", "g": "12"}}),
        ("h264.avi", {"codec": "libx264", "gop": 12}),
        ("nothing.h264", {"gop": 12}),
        ("program.mpg", {"codec": "mpeg2video", "gop": 12}),
    ],
)
def test_where_a_landmark_may_not_hold_the_beginning_is_read(
    tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    path = make_film(tmp_path / name, moving(130), **options)
    whole, marks = with_landmarks(path)
    for mark in marks.values():
        assert rows_of(read(path, start=115, landmark=mark)) == rows_of(whole[115:])


@pytest.mark.usefixtures("dense")
@pytest.mark.parametrize(("first", "last"), [(0.0, 0.1), (0.3, 0.4), (0.55, 0.6), (0.9, 1.0)])
@pytest.mark.parametrize("bframes", [0, 2])
def test_landmarks_in_a_damaged_film(tmp_path: Path, first: float, last: float, bframes: int) -> None:
    path = spoil(make_film(tmp_path / "film.mp4", moving(200), gop=12, bframes=bframes), first=first, last=last)
    whole, marks = with_landmarks(path)
    assert marks
    for frame, mark in marks.items():
        for start in {frame + 1, min(frame + 40, 199)}:
            assert rows_of(read(path, start=start, landmark=mark)) == rows_of(whole[start:])


@pytest.mark.usefixtures("dense")
def test_a_landmark_of_another_film_or_of_nothing_is_not_believed(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mp4", moving(130), gop=12)
    whole, marks = with_landmarks(path)
    other = make_film(tmp_path / "other.mp4", moving(130)[::-1], gop=12)
    wrong: list[dict[str, object]] = [
        with_landmarks(other)[1][80],
        marks[80] | {"digest": "0" * 32},
        marks[80] | {"stamp": marks[80]["stamp"] + 1},  # type: ignore[operator]  # the stamp is a number
        marks[80] | {"place": 0},
        marks[80] | {"order": 10**30},
        marks[80] | {"size": "many"},
        {"frame": 80},
        {"frame": "eighty"},
        {},
        marks[112],  # not before the start
    ]
    for mark in wrong:
        with Film(path, start=100, landmark=mark) as film:
            assert not film.resumed
            assert rows_of(list(film)) == rows_of(whole[100:])


@pytest.mark.usefixtures("dense")
def test_the_same_film_twice_in_one_is_told_apart_by_its_place(tmp_path: Path) -> None:
    part = make_film(tmp_path / "part.ts", moving(70), gop=12)
    path = joined(tmp_path / "film.ts", part, part)
    whole, marks = with_landmarks(path)
    assert [number_of(f.picture) for f in whole[75:] if f.picture is not None] == list(range(5, 70))
    np.testing.assert_allclose([f.time for f in whole[75:]], [f.time for f in whole[5:70]])
    assert max(marks) > 75
    for frame, mark in marks.items():
        assert rows_of(read(path, start=frame + 5, landmark=mark)) == rows_of(whole[frame + 5 :])


def test_only_what_lies_behind_a_landmark_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_film(tmp_path / "film.mp4", moving(200), gop=12)
    monkeypatch.setattr(seek, "EVERY", 64)
    _, marks = with_landmarks(path)
    noted: list[int] = []
    monkeypatch.setattr(seek.Landmarks, "note", lambda _, index, raw: noted.append(index))
    read(path, start=160, landmark=marks[144])
    assert min(i for i in noted if i) == 145  # frame 0 tells the size
