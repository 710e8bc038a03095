"""Films as jobs: the table that is the queue, the child process of each film, limits, crashes, and what is kept."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filmjobs import ANNA, SLOW, ended, files, jobs, portrait, script, send, small_film, until
from films import cut, make_film, numbered
from serving import settings
from skimage.data import astronaut

from mien.errors import OutputError
from mien.results.files import read_faces
from mien.serve import attempt as attempts
from mien.serve.attempt import CHILD
from mien.serve.folders import hold, made
from mien.serve.jobs import Jobs
from mien.serve.ledger import Ledger
from mien.serve.measure import Measures
from mien.serve.problem import Problem


@pytest.fixture
def film() -> bytes:
    """Two seconds with one face that does not move."""
    return small_film()


# From the film to its results


def test_a_film_becomes_tables_a_timeline_and_an_annotated_film(tmp_path: Path, film: bytes) -> None:
    heard: list[str] = []

    class Ears(Measures):
        def job(self, state: str) -> None:
            heard.append(state)

    with jobs(tmp_path, measures=Ears()) as held:
        job = send(held, film, annotate=True)
        record = ended(held, job)
        assert (record.state, record.attempts, record.frames, record.total, record.fraction) == ("done", 1, 16, 16, 1.0)
        folder = tmp_path / "films" / job
        until(lambda: files(folder) == {f"results/{name}" for name, _ in record.results})
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "jobs.sqlite").stat().st_mode) == 0o600
        tables = [read_faces(folder / "results" / f"faces.{e}") for e in ("csv", "jsonl", "parquet")]
        assert tables[0] == tables[1] == tables[2]
        assert len(tables[0]) == 16
        assert tables[0].sources == ("holiday.mp4",)
        assert (tables[0].track == 0).all()
        told = json.loads((folder / "results" / "timeline.json").read_text("utf-8"))
    assert heard == ["waiting", "running", "done"]
    track = told["tracks"][0]
    assert (told["seconds"], told["cuts"], track["rows"], len(told["colours"])) == (2.0, [], 16, 8)
    assert [len(s) for s in track["scores"]] == [8] * 16
    assert track["time"] == pytest.approx([(i + 0.5) / 8 for i in range(16)])
    assert np.allclose(np.sum(track["scores"], 1), 1, atol=1e-3)
    assert track["face"].startswith("data:image/jpeg;base64,/9j/")
    mean = np.mean(track["scores"], 0)
    assert track["label"] == told["labels"][int(mean.argmax())]
    assert sum(r["end"] - r["start"] for r in track["runs"]) == pytest.approx(2.0, abs=0.01)


def test_tracks_longest_first_and_cuts(tmp_path: Path) -> None:
    face = np.ascontiguousarray(astronaut()[:240, 100:340])
    other = np.full((240, 240, 3), (200, 20, 20), np.uint8)
    other[100:230, 100:230] = astronaut()[40:170, 160:290]
    path = make_film(tmp_path / "cut.mp4", [face] * 6 + [other] * 10, fps=8)
    with jobs(tmp_path / "state") as held:
        record = ended(held, job := send(held, path.read_bytes()))
        told = json.loads(held.result(job, ANNA, "timeline.json").read_text("utf-8"))
    assert record.state == "done"
    assert told["cuts"] == [0.75]
    assert [(t["id"], t["rows"], t["first"]) for t in told["tracks"]] == [(1, 10, 0.75), (0, 6, 0.0)]


def test_a_film_without_a_face_is_done_and_says_so(tmp_path: Path) -> None:
    path = make_film(tmp_path / "grey.mp4", numbered(6))
    with jobs(tmp_path / "state") as held:
        record = ended(held, job := send(held, path.read_bytes(), annotate=True))
        told = json.loads(held.result(job, ANNA, "timeline.json").read_text("utf-8"))
        faces = read_faces(held.result(job, ANNA, "faces.csv"))
    assert (record.state, told["tracks"]) == ("done", [])
    assert faces.reason_words == ["no_face"] * 6


def test_the_child_knows_nothing_of_the_web() -> None:
    code = (
        "import sys, mien.serve.child, mien.serve.film_work; "
        "print([m for m in ('fastapi', 'sqlalchemy', 'starlette') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


# Films that cannot be


def test_a_damaged_film_fails_once_and_the_error_names_no_place(tmp_path: Path, film: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(film)
    with jobs(tmp_path / "state") as held:
        record = ended(held, job := send(held, cut(tmp_path / "a.mp4", 0.3).read_bytes()))
        assert (record.state, record.code, record.attempts) == ("failed", "not_readable", 1)
        assert (record.message or "").startswith("holiday.mp4: ")
        assert str(tmp_path) not in (record.message or "")
        until(lambda: not (tmp_path / "state" / "films" / job).exists())


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"film_pixels": 1000}, "megapixels"),
        ({"film_frames": 15}, "film_frames"),
        ({"film_seconds": 1.5}, "film_seconds"),
    ],
)
def test_a_film_over_a_limit_fails(tmp_path: Path, film: bytes, limits: dict[str, Any], word: str) -> None:
    with jobs(tmp_path, limits=limits) as held:
        record = ended(held, send(held, film))
    assert (record.state, record.code) == ("failed", "too_large")
    assert word in (record.message or "")


def test_a_film_that_hides_its_length_is_stopped_on_the_way(tmp_path: Path) -> None:
    # Matroska written to a pipe says neither how long it is nor how many frames it has.
    path = make_film(tmp_path / "live.mkv", [portrait()] * 30, fps=10, mux={"live": "1"})
    with jobs(tmp_path / "state", limits={"film_frames": 20}) as held:
        record = ended(held, send(held, path.read_bytes()))
    assert (record.state, record.code) == ("failed", "too_large")
    assert "21 or more" in (record.message or "")


def test_a_film_that_takes_too_much_memory_is_ended(
    tmp_path: Path, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "MEMORY", 40 * 1024**2)
    with jobs(tmp_path) as held:
        record = ended(held, send(held, film))
    assert (record.state, record.code) == ("failed", "too_much_memory")


def test_work_that_takes_too_long_is_ended(tmp_path: Path, film: bytes) -> None:
    command = script(tmp_path / "slow.py", SLOW)
    with jobs(tmp_path / "state", command=command, limits={"job_seconds": 0.5}) as held:
        record = ended(held, send(held, film))
    assert (record.state, record.code, record.attempts) == ("failed", "too_long", 1)
    assert record.worked >= 0.5


def test_results_that_outgrow_the_disk_are_stopped(
    tmp_path: Path, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "_WEIGH", 0.0)
    grows = """
import json, sys
from pathlib import Path
task = json.loads(sys.stdin.readline())
Path(task["folder"], "grows").write_bytes(bytes(3_000_000))
sys.stdin.read()
"""
    with jobs(tmp_path, command=script(tmp_path / "grows.py", grows), limits={"disk_bytes": 2_000_000}) as held:
        record = ended(held, job := send(held, film))
        until(lambda: not (tmp_path / "films" / job).exists())
    assert (record.state, record.code) == ("failed", "disk")


# Children that fall over


def test_a_child_that_always_crashes_is_tried_three_times(tmp_path: Path, film: bytes) -> None:
    crash = f"""
import os, sys
sys.stdin.readline()
with open({str(tmp_path / "times")!r}, "a") as file:
    file.write("x")
os.abort()
"""
    with jobs(tmp_path / "state", command=script(tmp_path / "crash.py", crash)) as held:
        record = ended(held, job := send(held, film))
        assert (record.state, record.code, record.attempts, record.crashes) == ("failed", "crashed", 3, 3)
        assert "3 times" in (record.message or "")
        until(lambda: not (tmp_path / "state" / "films" / job).exists())
    assert (tmp_path / "times").read_text() == "xxx"


def test_a_child_that_crashes_once_does_the_film_the_second_time(tmp_path: Path, film: bytes) -> None:
    once = f"""
import os, sys
from pathlib import Path
mark = Path({str(tmp_path / "mark")!r})
if not mark.exists():
    mark.touch()
    os.kill(os.getpid(), 9)
os.execv({CHILD[0]!r}, {list(CHILD)!r})
"""
    with jobs(tmp_path / "state", command=script(tmp_path / "once.py", once)) as held:
        record = ended(held, send(held, film))
    assert (record.state, record.attempts, record.crashes) == ("done", 2, 1)


@pytest.mark.parametrize("said", ['"print(1)"', '"print({})"', "'print(chr(123))'", "'import sys; sys.exit(0)'"])
def test_a_child_that_talks_nonsense_counts_as_crashed(tmp_path: Path, film: bytes, said: str) -> None:
    with jobs(tmp_path, command=(sys.executable, "-c", said.strip("\"'"))) as held:
        record = ended(held, send(held, film))
    assert (record.state, record.code, record.attempts) == ("failed", "crashed", 3)


def test_a_command_that_does_not_exist_fails_the_job(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path, command=(str(tmp_path / "nothing"),)) as held:
        record = ended(held, send(held, film))
    assert (record.state, record.code) == ("failed", "crashed")


def test_a_child_dies_with_whoever_started_it(tmp_path: Path, film: bytes) -> None:
    with subprocess.Popen(CHILD, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        folder = made(tmp_path / "job")
        keep = hold(folder)  # so that the child waits
        assert keep is not None
        bounds = {"address": 24 << 30, "cpu": 600, "file": 1 << 30, "core": 0, "nice": 0}
        task = {"parent": os.getpid(), "folder": str(folder), "name": "a", "bounds": bounds}
        assert child.stdin is not None
        child.stdin.write(json.dumps(task).encode() + b"\n")
        child.stdin.close()
        assert child.wait(20) == 1
        keep.close()


# Going on


def test_what_ran_when_the_service_was_closed_goes_on(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path / "state", command=script(tmp_path / "slow.py", SLOW)) as held:
        job = send(held, film)
        until(lambda: held.get(job, ANNA).frames == 1)
    with jobs(tmp_path / "state", run=False) as held:
        waits = held.get(job, ANNA)
    assert (waits.state, waits.attempts, waits.crashes) == ("waiting", 1, 0)
    assert waits.worked > 0
    with jobs(tmp_path / "state") as held:
        record = ended(held, job)
    assert (record.state, record.attempts, record.crashes) == ("done", 2, 0)


def test_what_ran_when_the_service_was_killed_goes_on(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path, run=False) as held:
        job = send(held, film)
    with Ledger(tmp_path / "jobs.sqlite") as ledger:  # claimed by a process that is no more
        assert ledger.claim(0.0) is not None
    with jobs(tmp_path) as held:
        record = ended(held, job)
    assert (record.state, record.attempts, record.crashes) == ("done", 2, 0)


def test_a_job_that_is_taken_away_is_not_ended_by_who_had_it(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path, run=False) as held:
        job = send(held, film)
        with Ledger(tmp_path / "jobs.sqlite") as ledger:
            first = ledger.claim(1.0)
            assert first is not None
            assert ledger.give_back(first, crashed=False)
            second = ledger.claim(2.0)
            assert second is not None
            assert not ledger.note(first, frames=5)
            assert not ledger.end(first, "done", 3.0, 4.0, {})
            assert not ledger.give_back(first, crashed=True)
            assert ledger.end(second, "done", 3.0, 4.0, {})
            assert not ledger.end(second, "failed", 5.0, 6.0, {})
        record = held.get(job, ANNA)
    assert (record.state, record.started, record.ended, record.crashes) == ("done", 1.0, 3.0, 0)


def test_of_many_that_claim_each_job_goes_to_one(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    with Ledger(path) as ledger:
        for number in range(30):
            ledger.reserve(f"{number:040x}", "anna", 1, 0.0, fits=lambda _: None)
            ledger.submit(f"{number:040x}", name="a", size=1, options={})
    taken: list[list[int]] = []

    def take() -> None:
        with Ledger(path) as own:
            taken.append([r.number for r in iter(lambda: own.claim(0.0), None)])

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(n for each in taken for n in each) == list(range(1, 31))
    assert all(each == sorted(each) for each in taken)


def test_two_on_one_folder_and_the_second_takes_over(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path) as second_to_come:
        ended(second_to_come, send(second_to_come, film))
        with jobs(tmp_path) as standby:
            job = send(standby, film)
            assert ended(second_to_come, job).attempts == 1
            second_to_come.close()
            assert ended(standby, send(standby, film)).state == "done"


def test_another_process_works_on_what_this_one_takes_in(tmp_path: Path, film: bytes) -> None:
    code = """
import sys
from pathlib import Path
from mien.serve.jobs import Jobs
from mien.serve.settings import ServeSettings
held = Jobs(ServeSettings(state=Path(sys.argv[1]), purpose="development"))
held.start(run=True)
sys.stdin.read()
held.close()
"""
    with jobs(tmp_path, run=False) as held:
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE) as worker:
            record = ended(held, job := send(held, film))
            assert (record.state, record.attempts) == ("done", 1)
            assert held.delete(job, ANNA)
            assert worker.stdin is not None
            worker.stdin.close()
            assert worker.wait(30) == 0
        assert files(tmp_path / "films") == set()


# The table


def test_a_table_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"no table" * 200)
    with pytest.raises(OutputError, match="move it away"):
        Ledger(tmp_path / "jobs.sqlite")
    with closing(sqlite3.connect(tmp_path / "newer.sqlite")) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(OutputError, match="version 99"):
        Ledger(tmp_path / "newer.sqlite")


def test_jobs_that_are_not_open_take_nothing(tmp_path: Path) -> None:
    held = Jobs(settings(tmp_path))
    with pytest.raises(Problem) as refused:
        held.list(ANNA, limit=1)
    assert refused.value.status == 503
    assert held.stored() == {"films": 0, "results": 0, "bytes": 0, "next_deletion": None}
    held.close()
