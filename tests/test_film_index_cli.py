"""`mien film index` as its users call it, with the real models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from films import make_film

from mien.film.index import Index


def mien(*arguments: object, **options: object) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "mien", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,  # type: ignore[call-overload]  # what subprocess takes
    )
    return done.returncode, done.stdout, done.stderr


def portraits(count: int) -> list[np.ndarray]:
    from skimage.data import astronaut

    face = np.ascontiguousarray(cv2.resize(astronaut()[:256, 96:352], (160, 160), interpolation=cv2.INTER_AREA))
    shown = []
    for i in range(count):
        picture = np.full((180, 320, 3), 90, np.uint8)
        picture[10:170, 4 + 2 * i : 164 + 2 * i] = face
        shown.append(picture)
    return shown


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "walk.mp4", portraits(24))


@pytest.fixture(scope="module")
def index(film: Path) -> Path:
    out = film.with_suffix(".mien")
    code, _, said = mien("film", "index", film)
    assert code == 0, said
    assert "× realtime" in said
    assert f"wrote {out}: 24 frames, 24 faces in 1 tracks" in said
    return out


def test_one_face_that_walks_is_one_track(index: Path) -> None:
    opened = Index.open(index)
    faces, tracks = opened.faces(), opened.tracks()
    assert tracks.rows.tolist() == [24]
    assert tracks.top.tolist() == ["happy"]
    assert faces.carried.sum() == 24 - opened.frames().detected.sum() > 12
    middle = faces.box[:, ::2].mean(1)
    np.testing.assert_allclose(np.diff(middle), 2, atol=3), "each frame has a box of its own"
    assert np.ptp(middle) == pytest.approx(46, abs=4)
    assert opened.manifest["models"].keys() == {"expression", "mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet"}


def test_called_again_it_says_that_it_is_there(film: Path, index: Path) -> None:
    before = (index / "faces.parquet").stat().st_mtime_ns
    code, _, said = mien("film", "index", film, "--out", index)
    assert code == 0
    assert "is there already" in said
    assert (index / "faces.parquet").stat().st_mtime_ns == before
    code, _, said = mien("film", "index", film, "--out", index, "--every", "2")
    assert code == 2
    assert "every was 1 and is now 2" in said
    assert said.count("\n") == 1


def test_json_says_what_came_of_it(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.mien"
    code, printed, _ = mien("film", "index", film, "--out", out, "--fps", "5", "--vote", "5", "--json")
    assert code == 0
    said = json.loads(printed)
    assert said["counts"]["frames"] == said["frames"] == 5
    assert said["realtime"] > 0
    assert Index.open(out).frames().frame.tolist() == [0, 5, 10, 15, 20]


def test_a_film_without_a_face_is_exit_code_1(tmp_path: Path) -> None:
    wall = make_film(tmp_path / "wall.mp4", [np.full((90, 160, 3), 90, np.uint8)] * 6)
    code, _, said = mien("film", "index", wall)
    assert code == 1
    assert "0 faces" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.mp4"], "nowhere.mp4: no such file"),
        (["{film}", "--every", "0"], "every is 0"),
        (["{film}", "--every", "2", "--fps", "8"], "choose one"),
        (["{film}", "--vote", "7"], "vote is 7"),
        (["{film}", "--model", "unknown"], "unknown model"),
        (["rtsp://camera/1"], "an address, and only a film in a file can be indexed"),
        (["{text}"], "not a film"),
        (["{empty}"], "empty"),
        (["{picture}"], "a picture, not a film"),
        (["{film}", "--out", "{text}"], "a file of this name"),
        (["{film}", "--max-megapixels", "0.01"], "megapixels"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(film: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    from mien.media.writer import write_picture

    (tmp_path / "text.mp4").write_text("dear film")
    (tmp_path / "empty.mp4").write_bytes(b"")
    write_picture(tmp_path / "picture.png", portraits(1)[0])
    places = {
        "film": film,
        "text": tmp_path / "text.mp4",
        "empty": tmp_path / "empty.mp4",
        "picture": tmp_path / "picture.png",
    }
    given = [a.format(**places) for a in arguments]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "i.mien")]
    code, printed, said = mien("film", "index", *given)
    assert code == 2
    assert words in said
    assert said.count("\n") == 1
    assert not printed
    assert not (tmp_path / "i.mien").exists(), "nothing is left of a film that is none"


def test_ctrl_c_keeps_what_was_read(tmp_path: Path) -> None:
    film = make_film(tmp_path / "long.mp4", portraits(60) * 20, gop=25)
    out = tmp_path / "i.mien"
    run = subprocess.Popen(
        [sys.executable, "-m", "mien", "film", "index", str(film), "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    state = out / "parts" / "000000.state.json"
    while not state.exists() and run.poll() is None:
        pass
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    assert run.returncode == 130, said
    assert "the same command goes on" in said
    code, _, said = mien("film", "index", film, "--out", out)
    assert code == 0
    assert "of an earlier run" in said
    assert Index.open(out).manifest["counts"]["frames"] == 1200
