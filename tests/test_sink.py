from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import portrait

from mien.errors import (
    OptionError,
    OutputError,
    ResumeError,
    ShapeError,
)
from mien.labels import EIGHT, SEVEN, LabelSet
from mien.results import Faces, Reason
from mien.results.files import read_faces, write_faces
from mien.results.sink import Progress, Sink, _Growing

ENDINGS = (".csv", ".jsonl", ".parquet")
TWO = LabelSet("custom", ("up", "down"))
WALL = Faces.missing("wall.jpg", Reason.NO_FACE)


@pytest.fixture
def pair() -> Faces:
    return Faces.concat([portrait(time=1 / 3, points=np.arange(10).reshape(5, 2) / 7), WALL])


STEPS: tuple[tuple[str, int, Faces], ...] = tuple(
    (source, frame, Faces.build(max(n, 1), sources=(source,), labels=TWO, frame=frame, face=range(n) if n else -1,
                                reason=0 if n else 1, score=0.5, expression=[0.25, 0.75]))
    for source, frame, n in (("a,b.mp4", 0, 2), ("a,b.mp4", 1, 0), ("a,b.mp4", 2, 2), ("c.jpg", 0, 1), ("d.jpg", 0, 0))
)  # fmt: skip


def go(sink: Sink, steps: tuple[tuple[str, int, Faces], ...] = STEPS) -> Iterator[None]:
    """Do a run as `pipeline` does: pass over what is done, close a source after its last frame."""
    done = sink.done()
    for i, (source, frame, faces) in enumerate(steps):
        before = done.get(source, Progress())
        if not before.finished and frame > before.frame:
            sink.append(faces)
            yield
        if not before.finished and (i + 1 == len(steps) or steps[i + 1][0] != source):
            sink.close_source(source)
            yield


def complete(path: Path, steps: tuple[tuple[str, int, Faces], ...] = STEPS, **options: Any) -> bytes:
    with Sink(path, labels=TWO, **options) as sink:
        list(go(sink, steps))
        sink.finish()
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return path.read_bytes()


KINDS = [(".csv", "default"), (".csv", "film"), (".jsonl", "default"), (".parquet", "default")]


@pytest.mark.parametrize(("ending", "layout"), KINDS)
def test_a_sink_writes_what_write_faces_writes(ending: str, layout: str, tmp_path: Path) -> None:
    whole = complete(tmp_path / f"a{ending}", layout=layout)
    write_faces(tmp_path / f"a{ending}", Faces.concat(f for _, _, f in STEPS), layout=layout)
    assert (tmp_path / f"a{ending}").read_bytes() == whole


@pytest.mark.parametrize(("ending", "layout"), KINDS)
def test_a_run_cut_at_any_byte_goes_on_to_the_same_end(
    ending: str, layout: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, steps = tmp_path / f"a{ending}", (*STEPS[:2], STEPS[3])
    whole = complete(path, steps, layout=layout)
    path.unlink()
    with Sink(path, labels=TWO, layout=layout) as sink:
        list(go(sink, steps))
    rows, log = sink.part.read_bytes(), sink.progress.read_bytes()
    chance = np.random.default_rng(7)
    step = 16 if ending == ".parquet" else 1  # its rows are the very JSON Lines that are tried at each byte
    cuts = [(cut, len(log)) for cut in range(0, len(rows) + 1, step)]
    cuts += [(len(rows), cut) for cut in range(0, len(log) + 1, step)]
    cuts += chance.integers(0, (len(rows) + 1, len(log) + 1), (100, 2)).tolist()
    # What the disk does when the power fails is not what is tried here, and waiting for it takes minutes.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    for rows_there, log_there in cuts:
        sink.part.write_bytes(rows[:rows_there])
        sink.progress.write_bytes(log[:log_there])
        with Sink(path, labels=TWO, layout=layout, resume=True) as again:
            list(go(again, steps))
        assert again.part.read_bytes() == rows, (rows_there, log_there)
        if rows_there == len(rows):  # and its log is whole too
            with Sink(path, labels=TWO, layout=layout, resume=True) as third:
                assert not list(go(third, steps)), log_there
    with Sink(path, labels=TWO, layout=layout, resume=True) as again:
        list(go(again, steps))
        again.finish()
    assert path.read_bytes() == whole


def test_a_run_stopped_after_any_step_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    whole = complete(path)
    steps = len(STEPS) + 3
    for stop in range(steps + 1):
        with Sink(path, labels=TWO) as sink:
            for _ in zip(range(stop), go(sink), strict=False):
                pass
        assert path.read_bytes() == whole  # the former result stands until there is a new one
        with Sink(path, labels=TWO, resume=True) as sink:
            assert len(list(go(sink))) >= steps - stop - 1
            sink.finish()
        assert path.read_bytes() == whole


def test_progress_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with Sink(path, labels=TWO) as sink:
        assert sink.done() == {}
        for _ in zip(range(5), go(sink), strict=False):
            pass
        told = sink.done()
    assert told == {"a,b.mp4": Progress(2, finished=True), "c.jpg": Progress(0)}
    with Sink(path, labels=TWO, resume=True) as sink:
        assert sink.done() == told
        sink.close_source("broken.mp4")
    with Sink(path, labels=TWO, resume=True) as sink:
        assert sink.done() == told | {"broken.mp4": Progress(-1, finished=True)}


def test_frames_that_stand_are_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Sink(path, labels=TWO) as sink:
        for _ in zip(range(2), go(sink), strict=False):
            pass
    with Sink(path, labels=TWO, resume=True) as sink:
        for _, _, faces in STEPS:  # all of them, whatever was done
            sink.append(faces)
        sink.append(Faces.concat([STEPS[0][2], STEPS[1][2]]))
        sink.finish()
    assert read_faces(path) == Faces.concat(f for _, _, f in STEPS)


@pytest.mark.parametrize("ending", ENDINGS)
def test_ctrl_c_leaves_whole_rows_under_a_known_name(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"

    def run() -> None:
        with Sink(path, labels=TWO) as sink:
            sink.append(STEPS[0][2])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    part = tmp_path / (f"a{ending}.part.csv" if ending == ".csv" else f"a{ending}.part.jsonl")
    assert sorted(tmp_path.iterdir()) == [part, tmp_path / f"a{ending}.progress"]
    assert read_faces(part) == STEPS[0][2]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("which", [".csv.part.csv", ".csv.progress"])
def test_a_piece_that_fails_leaves_nothing(
    error: BaseException, which: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    add = _Growing.add

    def half(self: _Growing, piece: bytes) -> None:
        if self.path.name.endswith(which):
            self._file.write(piece[: len(piece) // 2])
            raise error
        add(self, piece)

    with Sink(path, labels=TWO) as sink:
        sink.append(STEPS[0][2])
        monkeypatch.setattr(_Growing, "add", half)
        with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
            sink.append(STEPS[1][2])
        monkeypatch.setattr(_Growing, "add", add)
        assert read_faces(sink.part) == STEPS[0][2]
        assert sink.done() == {"a,b.mp4": Progress(0)}
        sink.append(STEPS[1][2])
    with Sink(path, labels=TWO, resume=True) as sink:
        assert sink.done() == {"a,b.mp4": Progress(1)}
        list(go(sink))
        sink.finish()
    assert read_faces(path) == Faces.concat(f for _, _, f in STEPS)


def test_a_run_that_starts_over_leaves_no_old_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a.csv"
    with Sink(path, labels=TWO, settings={"every": 1}) as sink:
        list(go(sink))
    with monkeypatch.context() as patch:
        patch.setattr(_Growing, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            Sink(path, labels=TWO, settings={"every": 2})
    with Sink(path, labels=TWO, settings={"every": 2}, resume=True) as sink:
        assert sink.done() == {}


def test_a_killed_process_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    script = textwrap.dedent(
        """
        import itertools, sys
        from mien.labels import EIGHT
        from mien.results import Faces
        from mien.results.sink import Sink
        sink = Sink(sys.argv[1], labels=EIGHT)
        for i in itertools.count():
            sink.append(Faces.build(3, sources=("a.mp4",), frame=i, face=range(3), score=0.5))
            print(i, flush=True)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if int(line) == 20:
                process.kill()
                break
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    with Sink(path, labels=EIGHT, resume=True) as sink:
        last = sink.done()["a.mp4"].frame
        assert last >= 20
        sink.append(Faces.missing("a.mp4", Reason.NO_FACE, frame=last + 1))
        sink.finish()
    faces = read_faces(path)
    assert faces.frame.tolist() == [i for i in range(last + 1) for _ in range(3)] + [last + 1]


def test_a_run_goes_on_only_with_its_own_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    terms = {"labels": "eight", "min_score": 0.3, "only": ("happy",)}
    with Sink(path, labels=EIGHT, settings=terms) as sink:
        sink.append(portrait())
    with Sink(path, labels=EIGHT, settings=terms, resume=True) as sink:
        assert sink.done() == {"a.jpg": Progress(0)}
    with pytest.raises(ResumeError, match=r"min_score was 0\.3 and is now 0\.4, width was None and is now 8; use"):
        Sink(path, labels=EIGHT, settings=terms | {"min_score": 0.4, "width": 8}, resume=True)
    with pytest.raises(ResumeError, match="label names was"):
        Sink(path, labels=SEVEN, settings=terms, resume=True)
    with pytest.raises(ResumeError, match="layout was 'default' and is now 'film'"):
        Sink(path, labels=EIGHT, settings=terms, layout="film", resume=True)
    with Sink(path, labels=EIGHT, settings=terms, resume=True) as sink:  # the refusals changed nothing
        assert sink.done() == {"a.jpg": Progress(0)}
    with Sink(path, labels=SEVEN) as sink:  # and without resume the old rows go
        assert sink.done() == {}
    assert len(read_faces(sink.part)) == 0


@pytest.mark.parametrize("damage", [b"\0\0\0\n", b"[]\n", b"\xff\n", b'{"bytes": 99999}\n', b'{"half'])
def test_a_damaged_log_ends_at_the_damage(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Sink(path, labels=TWO) as sink:
        sink.append(STEPS[0][2])
    sink.progress.write_bytes(sink.progress.read_bytes() + damage + b'{"source": "c.jpg", "finished": true}\n')
    with Sink(path, labels=TWO, resume=True) as sink:
        assert sink.done() == {"a,b.mp4": Progress(0)}
        list(go(sink))
        sink.finish()
    assert read_faces(path) == Faces.concat(f for _, _, f in STEPS)


def test_resume_without_an_unfinished_run_starts_one(tmp_path: Path) -> None:
    whole = complete(tmp_path / "a.csv")
    assert complete(tmp_path / "a.csv", resume=True) == whole
    with Sink(tmp_path / "a.csv", labels=TWO) as sink:
        list(go(sink))
    sink.part.unlink()  # rows without which the log says nothing
    assert complete(tmp_path / "a.csv", resume=True) == whole


def test_a_sink_takes_one_label_set(tmp_path: Path) -> None:
    with (
        Sink(tmp_path / "a.csv", labels=TWO) as sink,
        pytest.raises(ShapeError, match="expected up, down, got"),
    ):
        sink.append(WALL)


def test_a_label_that_is_a_column_is_refused_before_the_run(tmp_path: Path) -> None:
    for ending in ENDINGS:
        with pytest.raises(OptionError, match="a label cannot have the name of a column: rename eyes"):
            Sink(tmp_path / f"a{ending}", labels=LabelSet("bad", ("eyes", "nose")))
    assert not list(tmp_path.iterdir())


def test_a_sink_without_rows(tmp_path: Path) -> None:
    for ending in ENDINGS:
        with Sink(tmp_path / f"a{ending}", labels=SEVEN) as sink:
            sink.append(Faces.empty(labels=SEVEN))
            sink.finish()
        assert read_faces(tmp_path / f"a{ending}", labels=SEVEN) == Faces.empty(labels=SEVEN)


def test_a_finish_that_fails_can_be_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.csv"
    whole = complete(path)
    with monkeypatch.context() as patch, Sink(path, labels=TWO) as sink:
        list(go(sink))
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OutputError, match="the disk is full; make room"):
            sink.finish()
    assert path.read_bytes() == whole
    with Sink(path, labels=TWO, resume=True) as sink:
        assert not list(go(sink))
        sink.finish()
    assert path.read_bytes() == whole
