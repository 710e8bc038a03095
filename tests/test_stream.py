"""`mien.analyze` and `mien.stream` on real pictures and films with the bundled models."""

from __future__ import annotations

import base64
from importlib.util import find_spec
from pathlib import Path
from threading import active_count

import cv2
import numpy as np
import pytest
from films import make_film

import mien
from mien.errors import DecodeError, OptionError, SourceError, SourceNotFoundError, TooLargeError
from mien.media.video import Frame
from mien.pipeline.stream import ahead

ASTRONAUT = Path(find_spec("skimage").submodule_search_locations[0]) / "data" / "astronaut.png"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    face = cv2.resize(cv2.imread(str(ASTRONAUT))[..., ::-1], (200, 200))
    blank = np.full((200, 200, 3), 80, np.uint8)
    times = [0.0, 0.04, 0.2, 0.24, 0.9]
    return make_film(tmp_path_factory.mktemp("film") / "vfr.mp4", [blank, face, face, face, blank], times=times)


def test_every_form_of_a_picture_gives_the_same_faces() -> None:
    from PIL import Image

    data = ASTRONAUT.read_bytes()
    pixels = mien.read_picture(ASTRONAUT)
    expected = mien.analyze(ASTRONAUT)
    assert expected.top.tolist() == ["happy"]
    for form in (str(ASTRONAUT), data, base64.b64encode(data).decode(), pixels, Image.open(ASTRONAUT)):
        faces = mien.analyze(form)
        assert faces.with_(sources=expected.sources) == expected


def test_a_film_gives_a_row_a_frame_with_the_containers_times(clip: Path) -> None:
    tables = list(mien.stream(clip))
    np.testing.assert_allclose([float(t.time[0]) for t in tables], [0.0, 0.04, 0.2, 0.24, 0.9], atol=1e-4)
    assert [bool(t.found.any()) for t in tables] == [False, True, True, True, False]
    assert mien.analyze(clip) == mien.Faces.concat(tables)


def test_every_second_frame_keeps_numbers_and_times(clip: Path) -> None:
    tables = list(mien.stream(clip, every=2))
    assert [int(t.frame[0]) for t in tables] == [0, 2, 4]
    np.testing.assert_allclose([float(t.time[0]) for t in tables], [0.0, 0.2, 0.9], atol=1e-4)


def test_one_face_drops_other_frames(clip: Path) -> None:
    assert len(list(mien.stream(clip, one_face=True))) == 3


def test_leaving_a_stream_leaves_no_thread(clip: Path) -> None:
    before = active_count()
    for _ in mien.stream(clip):
        break
    assert active_count() == before


def test_lists_and_folders(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(ASTRONAUT.read_bytes())
    (tmp_path / "notes.txt").write_text("not a picture")
    assert len(mien.analyze(tmp_path)) == 1
    faces = mien.analyze([tmp_path / "a.png", clip])
    assert len(faces) == 6
    assert len(faces.sources) == 2


def test_errors_are_raised_or_rows(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff" + b"0" * 100)
    with pytest.raises(DecodeError):
        mien.analyze(tmp_path / "bad.jpg")
    with pytest.raises(FileNotFoundError) as caught:
        mien.analyze(tmp_path / "none.jpg")
    assert isinstance(caught.value, SourceNotFoundError)
    faces = mien.analyze([tmp_path / "bad.jpg", tmp_path / "none.jpg", ASTRONAUT], on_error="row")
    assert faces.reason_words == ["unreadable", "unreadable", ""]


def test_a_picture_is_no_stream() -> None:
    with pytest.raises(SourceError, match="analyze"):
        next(mien.stream(ASTRONAUT))


def test_ahead_raises_the_decoders_error_in_the_readers_thread() -> None:
    def broken():
        yield Frame(None, 0, 0.0)
        message = "cut off"
        raise DecodeError(message)

    taken = ahead(broken())
    assert next(taken).index == 0
    with pytest.raises(DecodeError, match="cut off"):
        next(taken)


def test_ahead_never_holds_more_than_its_depth() -> None:
    made = []

    def source():
        for i in range(100):
            made.append(i)
            yield Frame(None, i, 0.0)

    taken = ahead(source(), depth=3)
    for i, frame in enumerate(taken):
        assert frame.index == i
        assert len(made) <= i + 6


def test_a_short_base64_string_is_a_picture_and_no_path() -> None:
    data = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    text = base64.b64encode(data).decode()
    assert len(text) < 255
    assert mien.analyze(text).reason_words == ["no_face"]


def test_what_has_no_end_is_not_collected() -> None:
    for endless in (0, "0", "rtsp://127.0.0.1:9/live"):
        with pytest.raises(SourceError, match=r"use stream\(\)"):
            mien.analyze(endless)


def test_a_missing_film_is_not_found_and_a_folder_is_no_film(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"none\.mp4"):
        next(mien.stream(str(tmp_path / "none.mp4")))
    with pytest.raises(SourceError, match="no picture or film in this folder"):
        next(mien.stream(tmp_path))
    (tmp_path / "a.png").write_bytes(ASTRONAUT.read_bytes())
    with pytest.raises(SourceError, match="use analyze"):
        next(mien.stream(tmp_path))


def test_options_that_would_do_nothing_are_refused(clip: Path) -> None:
    with pytest.raises(OptionError, match="read to its end"):
        next(mien.stream(clip, seconds=3))


def test_the_limit_on_pixels_holds_for_films(clip: Path) -> None:
    with pytest.raises(TooLargeError):
        mien.analyze(clip, max_pixels=1000)
