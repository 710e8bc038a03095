"""The index of a film while it is made: what it holds, what a crash costs, what is refused."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import BlueDetector, RedReader, elsewhere, scene
from films import make_film, spoil

from mien.errors import DataError, MissingExtraError, OptionError, OutputError, ResumeError, SourceNotFoundError
from mien.film.build import SETTINGS, Built, Sampling, index_film
from mien.film.index import Index
from mien.film.sums import merit
from mien.pipeline.analyzer import Analyzer, Settings
from mien.pipeline.stream import stream
from mien.results.faces import Faces
from mien.results.files import read_faces

HERE = Path(__file__).parent
SEGMENT = 10


def pictures(count: int = 64) -> list[np.ndarray]:
    """A face that moves, grows red, is gone for a while, and is elsewhere after a cut."""
    shown = []
    for i in range(count):
        if 20 <= i < 24:
            shown.append(scene(None))
        elif i < 40:
            shown.append(scene(20 + i, red=100 + 3 * i))
        else:
            shown.append(elsewhere(70, red=220))
    return shown


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "clip.mp4", pictures(), sound=True)


def reader(**changes: Any) -> Analyzer:
    return Analyzer(replace(SETTINGS, **changes), find=BlueDetector(), read=RedReader())


def build(film: Path, out: Path, **options: Any) -> Built:
    settings = options.pop("settings", SETTINGS)
    return index_film(
        film, out, analyzer=Analyzer(settings, find=BlueDetector(), read=RedReader()), segment=SEGMENT,
        settings=settings, **options,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Stop:
    """Hears of progress and does something at a frame."""

    def __init__(self, at: int, act: Any) -> None:
        self.at, self.act, self.steps, self.begun = at, act, 0, (None, 0)

    def begin(self, total: int | None, done: int) -> None:
        self.begun = (total, done)

    def step(self, _time: float) -> None:
        self.steps += 1
        if self.steps == self.at:
            self.act()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_tables_say_what_the_film_shows(film: Path, tmp_path: Path) -> None:
    built = build(film, tmp_path / "i.mien")
    index = built.index
    faces, frames, tracks = index.faces(), index.frames(), index.tracks()
    assert len(frames) == built.frames == 64
    assert frames.frame.tolist() == frames.ordinal.tolist() == list(range(64))
    np.testing.assert_allclose(frames.time, np.arange(64) / 25, atol=1e-6)
    assert frames.shot.tolist() == [0] * 40 + [1] * 24
    assert frames.faces.tolist() == [1] * 20 + [0] * 5 + [1] * 39
    assert frames.reason.tolist() == [""] * 20 + ["no_face"] * 5 + [""] * 39
    assert frames.detected[[0, 40]].all(), "the first frame and every cut are searched"
    assert 13 <= frames.detected.sum() <= 20
    assert len(faces) == 64
    assert faces.found.sum() == 59
    assert set(faces.track[:20].tolist()) == {0}
    assert faces.track[25] == 0, "known again at the next search"
    assert set(faces.track[40:].tolist()) == {1}, "a cut ends a track"
    assert tracks.track.tolist() == [0, 1]
    assert tracks.rows.tolist() == [35, 24]
    assert tracks.first_frame.tolist() == [0, 40]
    assert tracks.last_frame.tolist() == [39, 63]
    assert tracks.start[1] == pytest.approx(1.6)
    assert built.film_seconds == pytest.approx(64 / 25, abs=0.01)
    manifest = index.manifest
    assert manifest["counts"] == {"frames": 64, "unreadable": 0, "rows": 64, "faces": 59, "tracks": 2}
    assert manifest["film"]["sha256"] == __import__("hashlib").sha256(film.read_bytes()).hexdigest()
    assert index.film() == film.resolve()


def test_the_track_table_is_a_plain_sum_of_the_rows(film: Path, tmp_path: Path) -> None:
    index = build(film, tmp_path / "i.mien").index
    faces, tracks, details = index.faces(), index.tracks(), index.details()
    quality = merit(details["side"], details["yaw"], details["sharpness"])
    for row, track in enumerate(tracks.track):
        at = np.flatnonzero(faces.track == track)
        read = at[faces.read[at]]
        assert tracks.read[row] == len(read)
        assert tracks.detected[row] == (~faces.carried[at]).sum()
        np.testing.assert_allclose(tracks.mean[row], faces.expression[read].mean(0), rtol=1e-5)
        np.testing.assert_allclose(tracks.side[row], details["side"][at].mean(), rtol=1e-5)
        assert tracks.best_frame[row] == faces.frame[read[quality[read].argmax()]]


def test_an_index_holds_what_mien_analyze_finds(film: Path, tmp_path: Path) -> None:
    index = build(film, tmp_path / "i.mien").index
    one_by_one = Analyzer(replace(SETTINGS, threads=1), find=BlueDetector(), read=RedReader())
    from mien.media.video import Film

    with Film(film) as frames:
        expected = Faces.concat(one_by_one.frames(iter(frames), source=film.name))
    assert index.faces() == expected
    assert read_faces(index.faces_file) == expected, "it is a Parquet table of faces like any other"


def test_the_same_film_gives_the_same_bytes(film: Path, tmp_path: Path) -> None:
    first = build(film, tmp_path / "a.mien").index
    second = build(film, tmp_path / "b.mien", settings=replace(SETTINGS, threads=3)).index
    assert contents(first.path) == contents(second.path)
    assert sorted(contents(first.path)) == ["faces.parquet", "frames.parquet", "manifest.json", "tracks.parquet"]


@pytest.mark.parametrize("at", [1, 9, 10, 11, 25, 39, 44, 60, 64])
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(film: Path, tmp_path: Path, at: int) -> None:
    whole = build(film, tmp_path / "whole.mien").index
    out = tmp_path / "stopped.mien"
    with pytest.raises(KeyboardInterrupt):
        build(film, out, listener=Stop(at, interrupt))
    with pytest.raises(DataError, match="unfinished"):
        Index.open(out)
    again = Stop(0, interrupt)
    built = build(film, out, listener=again)
    assert contents(out) == contents(whole.path)
    assert built.resumed + built.frames == 64
    assert again.begun == (64, built.resumed)
    assert built.resumed % SEGMENT == 0 or built.resumed == 64


KILLED = """
import os, signal, sys
sys.path[:0] = [{tests!r}]
from pathlib import Path
from test_build import Stop, build
build(Path({film!r}), Path({out!r}), listener=Stop({at}, lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""


@pytest.mark.parametrize("at", [13, 47])
def test_after_kill_9_the_index_has_the_same_bytes(film: Path, tmp_path: Path, at: int) -> None:
    whole = build(film, tmp_path / "whole.mien").index
    out = tmp_path / "killed.mien"
    code = KILLED.format(tests=str(HERE), film=str(film), out=str(out), at=at)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert done.returncode == -9, done.stderr.decode()
    build(film, out)
    assert contents(out) == contents(whole.path)


def test_what_a_crash_left_half_written_is_thrown_away(film: Path, tmp_path: Path) -> None:
    whole = build(film, tmp_path / "whole.mien").index
    out = tmp_path / "half.mien"
    with pytest.raises(KeyboardInterrupt):
        build(film, out, listener=Stop(45, interrupt))
    (out / "parts" / "000099.faces.parquet").write_bytes(b"half")
    (out / "parts" / "000001.state.json.tmp").write_text("{")
    (out / "faces.parquet.tmp").write_bytes(b"half")
    build(film, out)
    assert contents(out) == contents(whole.path)


def test_a_crash_between_the_manifest_and_the_sweep(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.mien"
    whole = contents(build(film, out).index.path)
    (out / "parts").mkdir()
    (out / "parts" / "000000.state.json").write_text("{}")
    built = build(film, out)
    assert built.frames == 0
    assert np.isnan(built.realtime)
    assert contents(out) == whole


def test_another_film_or_other_settings_are_refused(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.mien"
    build(film, out)
    with pytest.raises(ResumeError, match="min_face was 20 and is now 30"):
        build(film, out, settings=replace(SETTINGS, min_face=30))
    with pytest.raises(ResumeError, match="every was 1 and is now 2"):
        build(film, out, sampling=Sampling(every=2))
    other = make_film(tmp_path / "other.mp4", pictures(12))
    with pytest.raises(ResumeError, match=r"name was 'clip\.mp4' and is now 'other\.mp4'"):
        build(other, out)
    assert build(other, out, restart=True).frames == 12


def test_a_folder_of_other_things_is_left_alone(film: Path, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("dear")
    for restart in (False, True):
        with pytest.raises(OutputError, match=r"holds other things \(dear.txt\)"):
            build(film, tmp_path / "letters", restart=restart)
    assert contents(tmp_path / "letters") == {"dear.txt": b"dear"}
    (tmp_path / "file.mien").write_text("x")
    with pytest.raises(OutputError, match="a file of this name"):
        build(film, tmp_path / "file.mien")


def test_two_processes_do_not_share_an_index(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.mien"

    def second() -> None:
        with pytest.raises(ResumeError, match="another process"):
            build(film, out)

    stop = Stop(5, second)
    build(film, out, listener=stop)
    assert stop.steps == 64


def test_every_second_frame(film: Path, tmp_path: Path) -> None:
    index = build(film, tmp_path / "i.mien", sampling=Sampling(every=2)).index
    frames = index.frames()
    assert frames.frame.tolist() == list(range(0, 64, 2))
    assert frames.ordinal.tolist() == list(range(32))
    assert index.details()["ordinal"].tolist() == list(range(32))
    assert frames.step == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"every": 0}, "every is 0"), ({"fps": 0}, "fps is 0"), ({"every": 2, "fps": 8}, "choose one")],
)
def test_impossible_sampling(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        Sampling(**options)


def test_a_damaged_stretch_is_rows_that_say_so(tmp_path: Path) -> None:
    film = spoil(make_film(tmp_path / "hurt.mp4", pictures(), gop=8), first=0.4, last=0.5)
    index = build(film, tmp_path / "i.mien").index
    frames, faces = index.frames(), index.faces()
    lost = frames.reason == "unreadable"
    assert 0 < lost.sum() < 40
    assert all(frames.error[lost].tolist())
    assert index.manifest["counts"]["unreadable"] == lost.sum()
    assert [w for w in faces.reason_words if w == "unreadable"] == ["unreadable"] * int(lost.sum())
    assert faces.found[faces.frame > frames.frame[lost].max()].any(), "reading goes on behind it"


def test_a_film_without_a_face(tmp_path: Path) -> None:
    film = make_film(tmp_path / "wall.mp4", [scene(None)] * 12)
    index = build(film, tmp_path / "i.mien").index
    assert len(index.tracks()) == 0
    assert index.faces().reason_words == ["no_face"] * 12
    assert index.tracks().mean.shape == (0, 8)


def test_a_part_that_was_damaged_is_told(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "i.mien"
    with pytest.raises(KeyboardInterrupt):
        build(film, out, listener=Stop(45, interrupt))
    (out / "parts" / "000000.faces.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(DataError, match="--restart"):
        build(film, out)
    (out / "parts" / "000001.state.json").write_text("not json")
    (out / "parts" / "run.json").write_text("[]")
    with pytest.raises(DataError, match="--restart"):
        build(film, out)


@pytest.mark.parametrize("synced", [0, 4, 9, 11, 20])
def test_a_full_disk_is_one_line_and_what_was_done_is_kept(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: int
) -> None:
    whole = build(film, tmp_path / "whole.mien").index
    out = tmp_path / "full.mien"
    room = [synced]
    fsync = os.fsync

    def full(file: int) -> None:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] -= 1
        fsync(file)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="the disk is full; make room, then go on"):
            build(film, out)
    assert not (out / "manifest.json").exists()
    built = build(film, out)
    # The first is the run's own, then three a part: faces, frames, state.
    assert built.resumed == min(max((synced - 1) // 3, 0) * SEGMENT, 64)
    assert contents(out) == contents(whole.path)


def test_what_is_no_index_is_told(film: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no such index"):
        Index.open(tmp_path / "none.mien")
    with pytest.raises(DataError, match="not an index"):
        Index.open(tmp_path)
    index = build(film, tmp_path / "i.mien").index
    said = json.loads((index.path / "manifest.json").read_text())
    (index.path / "manifest.json").write_text(json.dumps(said | {"format": 99}))
    with pytest.raises(DataError, match="format 99"):
        Index.open(index.path)
    (index.path / "manifest.json").write_text(json.dumps(said))
    os.truncate(index.faces_file, 100)
    with pytest.raises(DataError, match=r"faces\.parquet: cannot be read"):
        Index.open(index.path).faces()
    index.tracks_file.unlink()
    with pytest.raises(DataError, match=r"lacks tracks\.parquet"):
        Index.open(index.path)


def test_the_film_is_found_again_or_asked_for(film: Path, tmp_path: Path) -> None:
    copy = tmp_path / "a" / "clip.mp4"
    copy.parent.mkdir()
    copy.write_bytes(film.read_bytes())
    index = build(copy, tmp_path / "a" / "clip.mien").index
    (tmp_path / "a").rename(tmp_path / "b")
    moved = Index.open(tmp_path / "b" / "clip.mien")
    assert moved.film() == (tmp_path / "b" / "clip.mp4").resolve(), "both were moved together"
    moved.film().unlink()
    with pytest.raises(SourceNotFoundError, match="--film"):
        moved.film()
    assert moved.film(film) == film
    with pytest.raises(Exception, match="not the film of"):
        moved.film(make_film(tmp_path / "other.mp4", pictures(8)))
    assert index.name == "clip.mp4"


def test_some_rows_by_number(film: Path, tmp_path: Path) -> None:
    index = build(film, tmp_path / "i.mien").index
    rows = np.array([63, 0, 7, 7])
    assert index.faces(rows) == index.faces()[rows]
    np.testing.assert_array_equal(index.details(rows)["side"], index.details()["side"][rows])
    assert len(index.faces(np.array([], np.int64))) == 0
    with pytest.raises(DataError, match="it has 64 rows"):
        index.faces(np.array([64]))


@pytest.mark.shared
def test_the_real_thing_gives_what_stream_gives(shared: Path, tmp_path: Path) -> None:
    clip = shared / "pictures" / "clips" / "single_face.mp4"
    built = index_film(clip, tmp_path / "i.mien", sampling=Sampling(every=6))
    tables = list(stream(clip, every=6, track=True, detect_every=5, threads=1))
    expected = Faces.concat(tables)
    found = built.index.faces()
    assert found.track.tolist() == expected.track.tolist()
    np.testing.assert_allclose(found.expression, expected.expression, atol=1e-6)
    assert found.found.any()


def test_without_pyarrow_nothing_is_begun(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[film\]'"):
        build(film, tmp_path / "i.mien")
    assert not (tmp_path / "i.mien").exists()


def test_an_analyzer_that_does_not_track_makes_no_index(film: Path, tmp_path: Path) -> None:
    without = Analyzer(Settings(), find=BlueDetector(), read=RedReader())
    with pytest.raises(OptionError, match=r"Settings\(track=True\)"):
        index_film(film, tmp_path / "i.mien", analyzer=without)
    assert not (tmp_path / "i.mien").exists()
    tracking = Analyzer(Settings(track=True, min_face=31), find=BlueDetector(), read=RedReader())
    index = index_film(film, tmp_path / "i.mien", analyzer=tracking).index
    assert index.manifest["settings"]["min_face"] == 31, "what is said is what was used"
