"""Room for films, what is kept of them and how long, and what others see of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from filmjobs import ANNA, BERT, SLOW, Clock, ended, files, jobs, script, send, small_film, until

from mien.serve.folders import made
from mien.serve.ledger import Ledger
from mien.serve.problem import Problem
from mien.serve.tokens import LOCAL, Caller, Role


@pytest.fixture
def film() -> bytes:
    """Two seconds with one face that does not move."""
    return small_film()


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
        until(lambda: held.erased(job))  # not before its thread has truly ended
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
