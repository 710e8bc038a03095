"""Films as jobs: the table that is the queue, the child process of each film, limits, crashes, and what is kept."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import cut, make_film, numbered
from numpy.typing import NDArray
from serving import settings
from skimage.data import astronaut

from mien.errors import OutputError
from mien.results.files import read_faces
from mien.serve import attempt as attempts
from mien.serve.attempt import CHILD
from mien.serve.folders import hold, made
from mien.serve.jobs import Jobs, Record
from mien.serve.ledger import Ledger
from mien.serve.measure import Measures
from mien.serve.problem import Problem
from mien.serve.tokens import LOCAL, Caller, Role

ANNA, BERT = Caller("anna", Role.USER), Caller("bert", Role.USER)
OPTIONS = {"every": 1, "fps": None, "labels": None, "annotate": False}


def until(holds: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until something holds, and return it."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not (found := holds()):
        assert time.monotonic() < end, "it took too long"
        pause.wait(0.02)
    return found


def portrait(side: int = 96) -> NDArray[np.uint8]:
    """A frame with one face."""
    return np.ascontiguousarray(astronaut()[:256, 96:352][:: 256 // side, :: 256 // side][:side, :side])


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Two seconds with one face that does not move."""
    face = np.ascontiguousarray(astronaut()[:240, 100:340])
    return make_film(tmp_path_factory.mktemp("films") / "a.mp4", [face] * 16, fps=8).read_bytes()


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@contextmanager
def jobs(state: Path, *, run: bool = True, command: tuple[str, ...] = CHILD, **changes: Any) -> Iterator[Jobs]:
    """Jobs of a state folder, started."""
    clock, measures = changes.pop("clock", time.time), changes.pop("measures", None)
    held = Jobs(settings(state, **changes), measures, clock=clock, command=command)
    held.start(run=run)
    try:
        yield held
    finally:
        held.close()


def send(held: Jobs, data: bytes, caller: Caller = ANNA, **options: Any) -> str:
    """Put a film into the queue, as the route does."""
    with held.place(caller, len(data)) as place:
        path = place.folder / "came"
        path.write_bytes(data)
        return place.submit(path, name="holiday.mp4", options=OPTIONS | options).id


def ended(held: Jobs, job: str, caller: Caller = ANNA) -> Record:
    """Wait until a job ends."""
    return until(lambda: (r := held.get(job, caller)).state in {"done", "failed"} and r)


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def script(path: Path, text: str) -> tuple[str, ...]:
    """A child that is not ours."""
    path.write_text(text, "utf-8")
    return sys.executable, str(path)


SLOW = """
import json, sys, time
task = json.loads(sys.stdin.readline())
print(json.dumps({"frames": 1, "total": 4, "fraction": 0.25}), flush=True)
sys.stdin.read()
"""


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


# Limits on what comes


def test_so_many_wait_and_no_more(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path, run=False, limits={"jobs_each": 2, "jobs_waiting": 3}) as held:
        first = send(held, film)
        send(held, film)
        with pytest.raises(Problem, match="jobs_each") as refused:
            send(held, film)
        assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "30")
        send(held, film, BERT)
        with pytest.raises(Problem, match="jobs_waiting"):
            send(held, film, Caller("carl", Role.USER))
        assert held.delete(first, ANNA)
        send(held, film)
        assert len(list((tmp_path / "films").iterdir())) == 3


def test_films_that_still_come_count(tmp_path: Path) -> None:
    with jobs(tmp_path, run=False, limits={"jobs_each": 1}) as held, held.place(ANNA, 10):
        assert held.stored()["films"] == 0
        assert held.list(ANNA, limit=10) == []
        with pytest.raises(Problem, match="jobs_each"), held.place(ANNA, 10):
            pytest.fail("there was no room")
    assert not any((tmp_path / "films").iterdir())


def test_the_disk_is_not_filled(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path, run=False, limits={"disk_bytes": 3 * len(film)}) as held:
        send(held, film)
        with pytest.raises(Problem, match="disk_bytes") as refused:
            send(held, film)
        assert refused.value.status == 507
        with pytest.raises(Problem) as large, held.place(ANNA, 1 << 40):
            pytest.fail("there was no room")
        assert large.value.status == 413


# What is kept, and how long


def test_nothing_kept_the_film_goes_with_the_job_and_results_after_a_while(tmp_path: Path, film: bytes) -> None:
    clock = Clock()
    with jobs(tmp_path, clock=clock, limits={"hand_over": 60.0}) as held:
        job = send(held, film)
        assert held.stored()["next_deletion"] is None
        record = ended(held, job)
        assert record.expires == clock.now + 60
        stored = until(lambda: (s := held.stored())["films"] == 0 and s)
        assert (stored["results"], stored["next_deletion"]) == (6, record.expires)
        assert stored["bytes"] == sum(size for _, size in record.results)
        clock.now += 59
        held.sweep()
        assert held.get(job, ANNA).state == "done"
        clock.now += 1
        held.sweep()
        with pytest.raises(Problem, match="no such job"):
            held.get(job, ANNA)
        assert held.stored() == {"films": 0, "results": 0, "bytes": 0, "next_deletion": None}
    assert files(tmp_path / "films") == set()


def test_what_is_kept_goes_when_its_time_is_over(tmp_path: Path, film: bytes) -> None:
    clock = Clock()
    with jobs(tmp_path, clock=clock, keep=1000.0) as held:
        job = send(held, film)
        ended(held, job)
        assert held.stored()["films"] == 1
        clock.now += 999
        held.sweep()
        assert (tmp_path / "films" / job / "film").read_bytes() == film
    clock.now += 2  # it goes also where the service was off at that moment
    with jobs(tmp_path, clock=clock, keep=1000.0) as held:
        until(lambda: held.erased(job))
    assert files(tmp_path / "films") == set()


def test_whoever_lowers_the_time_rids_itself_of_films_at_the_next_start(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path, keep=1000.0) as held:
        ended(held, job := send(held, film))
    with jobs(tmp_path) as held:
        until(lambda: not (tmp_path / "films" / job / "film").exists())
        assert held.get(job, ANNA).state == "done"


def test_a_start_removes_what_belongs_to_no_job(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path, run=False) as held:
        job = send(held, film)
        with Ledger(tmp_path / "jobs.sqlite") as ledger:  # a process that died while a film came
            ledger.reserve("1" * 40, "anna", 5, 0.0, fits=lambda _: None)
            ledger.reserve("2" * 40, "anna", 5, 0.0, fits=lambda _: None)
        for stray in ("1" * 40, "nobody's"):
            made(tmp_path / "films" / stray).joinpath("half").write_bytes(b"x")
        (tmp_path / "films" / "loose").write_bytes(b"x")
        with held.place(ANNA, 10) as coming:
            (coming.folder / "part").write_bytes(b"y")
            with jobs(tmp_path, command=(sys.executable, "-c", "import sys; sys.stdin.read()")) as other:
                until(lambda: {p.name for p in (tmp_path / "films").iterdir()} == {job, coming.job})
                until(lambda: other.counts().get("receiving") == 1)
                assert (coming.folder / "part").exists()


def test_a_name_is_not_left_in_the_table(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path, run=False) as held:
        job = send(held, film)
        assert b"holiday.mp4" in b"".join(p.read_bytes() for p in tmp_path.glob("jobs.sqlite*"))
        assert held.delete(job, ANNA)
    assert b"holiday.mp4" not in (tmp_path / "jobs.sqlite").read_bytes()
    assert not list(tmp_path.glob("jobs.sqlite-*"))


# Going before its time


def test_a_film_that_is_worked_on_is_stopped_and_erased(tmp_path: Path, film: bytes) -> None:
    slow = SLOW.replace("task =", "import os; open('pid', 'w').write(str(os.getpid()))\ntask =")
    with jobs(tmp_path / "state", command=script(tmp_path / "slow.py", slow)) as held:
        job = send(held, film)
        until(lambda: held.get(job, ANNA).frames == 1)
        process = int((tmp_path / "state" / "films" / job / "pid").read_text())
        assert not held.delete(job, ANNA)
        with pytest.raises(Problem, match="no such job"):
            held.get(job, ANNA)
        until(lambda: held.erased(job))
        assert not (tmp_path / "state" / "films" / job).exists()
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
        assert held.counts() == {}


def test_jobs_of_others_are_not_there(tmp_path: Path, film: bytes) -> None:
    with jobs(tmp_path, run=False) as held:
        job = send(held, film)
        for ask in (held.get, held.delete, lambda j, c: held.result(j, c, "faces.csv")):
            with pytest.raises(Problem, match="no such job") as refused:
                ask(job, BERT)
            assert refused.value.status == 404
        assert held.list(BERT, limit=10) == []
        assert [r.id for r in held.list(LOCAL, limit=10)] == [job]
        assert held.get(job, LOCAL).owner == "anna"
        with pytest.raises(Problem, match="no result"):
            held.result(job, ANNA, "faces.csv")
        with pytest.raises(Problem, match="no such result"):
            held.result(job, ANNA, "../film")


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
