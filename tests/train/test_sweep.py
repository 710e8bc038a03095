"""A sweep: what it is to run is checked first, every point is run once, and what is broken off goes on."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")

import typer
from tiny import recipe
from typer.testing import CliRunner

from mien.cli import sweep as command
from mien.errors import OptionError, ResumeError, SourceNotFoundError
from mien.train.grid import Plan, Point, _distinct, plan, planned, setting_name
from mien.train.runs import list_runs, read_table
from mien.train.sweep import Result, sweep

SOURCE = Path(__file__).resolve().parents[2] / "src"
GRIDS = ("optim.lr=0.3,0.1,0.2", "net_options.depths=[1,1],[2,1]")

# What `mien train` leaves behind, without the training: a loss that the settings decide, a line a start.
STUB = """
import json, os, signal, socket, sys
from pathlib import Path
place, what = Path(sys.argv[1]), sys.argv[2]
recipe = json.loads((place / "recipe.json").read_text())
lr, depth = recipe["optim"]["lr"], recipe["net_options"]["depths"][0]
with (place / "starts.txt").open("a") as file:
    file.write("start\\n")
state = {"state": "running", "pid": os.getpid(), "host": socket.gethostname(), "epochs": 1, "parameters": 7}
def tell():
    (place / "state.tmp").write_text(json.dumps(state))
    (place / "state.tmp").replace(place / "state.json")
def stop(*_):
    state["state"] = "stopped"
    tell()
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
tell()
print("threads", os.environ.get("OMP_NUM_THREADS"))
if what == "wait":
    signal.pause()
if what == "fail":
    sys.exit("mien: out of milk")
if what == "die":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "raise":
    raise ValueError("out of tea")
if what == "leave":
    sys.exit(0)
(place / "history.csv").write_text(f"epoch,seconds,lr,train_loss,val_loss,val_accuracy\\n0,1,1,1,{lr * depth},0.5\\n")
state |= {"state": "finished", "epoch": 1, "best": {"epoch": 0, "metric": "val_loss", "mode": "min"}}
tell()
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(recipe(epochs=1).as_dict()))
    return file


def stub(odd: str = "", what: str = "", *, others: str = "finish") -> object:
    """Return a command that gives the stub to all points, and something else to do to one of them."""

    def made(point: Point, place: Path) -> Sequence[str]:
        return [sys.executable, "-S", "-c", STUB, str(place), what if point.name == odd else others]

    return made


def starts(folder: Path) -> dict[str, int]:
    return {f.parent.name: f.read_text().count("start") for f in folder.glob("*/starts.txt")}


def names(made: Plan) -> list[str]:
    return [p.name for p in made.points]


def test_every_combination_is_a_point_whose_name_says_it(base: Path) -> None:
    made = plan(base, GRIDS)
    assert names(made) == [f"lr={lr},depths={d}-1" for lr in (0.3, 0.1, 0.2) for d in (1, 2)]
    wanted = list(itertools.product((0.3, 0.1, 0.2), ([1, 1], [2, 1])))
    assert [tuple(p.settings.values()) for p in made.points] == wanted
    assert [(p.recipe.optim.lr, list(p.recipe.net_options["depths"])) for p in made.points] == wanted


def test_names_that_would_look_alike_or_grow_too_long_differ(base: Path) -> None:
    made = names(plan(base, ["net_options.widths=[8,16],[81,6]", 'labels=six,["a b","c"],["a","b c"],["a/b","c"]']))
    assert len(set(made)) == 8
    assert not set("".join(made)) & set("/\\ []\"'*?")
    long = [[f"{'expression' * 20}{i}", "other"] for i in (1, 2)]
    many = names(plan(base, [f"labels={json.dumps(long)[1:-1]}"]))
    assert len(set(many)) == 2
    assert max(map(len, many)) <= 120


def test_another_writing_of_a_value_is_no_other_point_and_two_of_a_name_are_refused(base: Path) -> None:
    assert names(plan(base, ["optim.lr=0.1,0.10,1e-1"])) == ["lr=0.1"]
    with pytest.raises(OptionError, match="both be called labels=a-b"):
        _distinct([Point("labels=a-b", {"labels": v}, recipe()) for v in ("a-b", ["a", "b"])])


def test_the_same_short_name_twice_is_written_in_full(base: Path) -> None:
    (name,) = names(plan(base, ["patience=3", "optim.patience=4"]))
    assert name == "patience=3,optim.patience=4"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("net", "net"),
        ("net.depth", "net_options.depth"),
        ("net_options.depth", "net_options.depth"),
        ("train.epochs", "epochs"),
        ("train.lr", "optim.lr"),
        ("train.mixup", "augment.mixup"),
        ("train.dropout", "net_options.dropout"),
        ("augment.mixup", "augment.mixup"),
    ],
)
def test_names_are_understood_as_people_write_them(given: str, meant: str) -> None:
    assert setting_name(given) == meant


@pytest.mark.parametrize(
    ("grids", "words"),
    [
        ([], "nothing to vary"),
        (["optim.lr"], "name=value,value"),
        (["optim.lr="], "name=value,value"),
        (["=1"], "name=value,value"),
        (["optim.lr=1,,2"], "name=value,value"),
        (["optim.lr=0.1", "train.lr=0.2"], "optim.lr is given twice"),
        (["optim.speed=1"], "unknown setting speed"),
        (["speed=1"], "unknown setting speed"),
        (["net.speed=1,2"], "no option 'speed'"),
        (["train.speed=1,2"], "no option 'speed'"),
        (["epochs=1,0"], "epochs cannot be 0"),
        (["optim.lr=0.1,fast"], "lr is 'fast'"),
        (["net=tiny"], "tiny"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(base: Path, grids: list[str], words: str) -> None:
    with pytest.raises((OptionError, LookupError), match=words) as caught:
        plan(base, grids)
    assert len(str(caught.value).splitlines()) == 1


def test_some_are_drawn_by_the_seed_none_twice(base: Path) -> None:
    whole = names(plan(base, GRIDS))
    drawn = [names(plan(base, GRIDS, take=4, seed=s)) for s in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({tuple(d) for d in drawn}) > 1
    for some in drawn:
        assert len(set(some)) == 4
        assert some == [n for n in whole if n in some]
    with pytest.raises(OptionError, match="7 random points"):
        plan(base, GRIDS, take=7)


@pytest.mark.parametrize("jobs", [1, 3])
def test_all_points_are_run_once_and_sorted_by_the_score(base: Path, tmp_path: Path, jobs: int) -> None:
    out, made, told = tmp_path / "out", plan(base, GRIDS), []
    found = sweep(
        made, tmp_path, out, jobs=jobs, command=stub(), tell=lambda what, r: told.append((what, r.point.name))
    )
    scores = [r.run.best.value for r in found if r.run and r.run.best]
    np.testing.assert_allclose(scores, sorted(lr * d for lr in (0.1, 0.2, 0.3) for d in (1, 2)))
    assert starts(out) == dict.fromkeys(names(made), 1)
    assert sorted(told) == sorted((w, n) for w in ("started", "finished") for n in names(made))
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["name"] for r in rows] == [r.point.name for r in found]
    assert [float(r["value"]) for r in rows] == scores
    assert [float(r["optim.lr"]) * json.loads(r["net_options.depths"])[0] for r in rows] == pytest.approx(scores)
    document = json.loads((out / "results.json").read_text())
    assert [r["val_accuracy"] for r in document] == [0.5] * 6
    assert {r["state"] for r in document} == {"finished"}
    assert sorted(r.name for r in list_runs(out)) == sorted(names(made))


def test_several_jobs_share_the_cores(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    for jobs, threads in ((1, "None"), (3, "4")):
        (point,) = (made := plan(base, ["optim.lr=0.1"])).points
        sweep(made, tmp_path, tmp_path / str(jobs), jobs=jobs, command=stub())
        assert (tmp_path / str(jobs) / point.name / "log.txt").read_text() == f"threads {threads}\n"


def test_what_is_finished_is_not_run_again_and_a_grid_may_grow(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep(plan(base, ["optim.lr=0.1,0.2"]), tmp_path, out, command=stub())
    found = sweep(plan(base, ["optim.lr=0.1,0.2,0.4"]), tmp_path, out, command=stub())
    assert starts(out) == {"lr=0.1": 1, "lr=0.2": 1, "lr=0.4": 1}
    assert [r.point.name for r in found] == ["lr=0.1", "lr=0.2", "lr=0.4"]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("fail", "out of milk"),
        ("raise", "ValueError: out of tea"),
        ("die", "killed by signal 9"),
        ("leave", "ended with code 0 and is interrupted"),
    ],
)
def test_one_that_fails_stops_no_other_and_is_tried_again(base: Path, tmp_path: Path, what: str, why: str) -> None:
    out, made = tmp_path / "out", plan(base, ["optim.lr=0.1,0.2,0.3"])
    found = sweep(made, tmp_path, out, command=stub("lr=0.1", what))
    assert [(r.point.name, r.state) for r in found] == [
        ("lr=0.2", "finished"),
        ("lr=0.3", "finished"),
        ("lr=0.1", "failed"),
    ]
    assert found[-1].error == why
    assert json.loads((out / "results.json").read_text())[-1]["error"] == why
    again = sweep(made, tmp_path, out, command=stub())
    assert {r.state for r in again} == {"finished"}
    assert starts(out) == {"lr=0.1": 2, "lr=0.2": 1, "lr=0.3": 1}


def test_a_program_that_is_missing_leaves_nothing_running(base: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sweep(plan(base, ["optim.lr=0.1"]), tmp_path, tmp_path / "out", command=lambda *_: ["/no/such/program"])


@pytest.mark.parametrize("how", ["ctrl-c", "sigterm"])
def test_stopping_stops_all_and_the_next_time_goes_on(base: Path, tmp_path: Path, how: str) -> None:
    """Two run and wait for ever when the signal comes, the third was not begun."""
    out, made = tmp_path / "out", plan(base, ["optim.lr=0.1,0.2,0.3"])
    begun: list[str] = []

    def tell(what: str, result: Result) -> None:
        begun.append(result.point.name)
        if len(begun) < 2:
            return
        for name in begun:  # they hear signals once they have told their state
            while not (out / name / "state.json").exists():
                threading.Event().wait(0.01)
        if how == "ctrl-c":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        sweep(made, tmp_path, out, jobs=2, command=stub(others="wait"), tell=tell)
    assert signal.getsignal(signal.SIGTERM) is handler
    document = {r["name"]: r["state"] for r in json.loads((out / "results.json").read_text())}
    assert document == {"lr=0.1": "stopped", "lr=0.2": "stopped", "lr=0.3": "waiting"}
    for name in begun:
        pid = json.loads((out / name / "state.json").read_text())["pid"]
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert {r.state for r in sweep(made, tmp_path, out, command=stub())} == {"finished"}
    assert starts(out) == {"lr=0.1": 2, "lr=0.2": 2, "lr=0.3": 1}


def test_a_point_that_another_process_trains_is_left_to_it(base: Path, tmp_path: Path) -> None:
    out, made = tmp_path / "out", plan(base, ["optim.lr=0.1,0.2"])
    sweep(made, tmp_path, out, command=stub())
    state = out / "lr=0.1" / "state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"state": "running", "pid": os.getpid()}))
    told: list[tuple[str, str]] = []
    sweep(made, tmp_path, out, command=stub(), tell=lambda what, r: told.append((what, r.point.name)))
    assert ("running", "lr=0.1") in told
    assert starts(out) == {"lr=0.1": 1, "lr=0.2": 1}


def test_a_copied_folder_is_carried_on_elsewhere(base: Path, tmp_path: Path) -> None:
    made = plan(base, GRIDS, settings=["batch=8"], limit=40, take=3, seed=5)
    sweep(made, tmp_path, tmp_path / "here", command=stub(names(made)[1], "fail"))
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    base.unlink()
    again = planned(tmp_path / "there")
    assert again == made
    assert {r.state for r in sweep(again, tmp_path, tmp_path / "there", command=stub())} == {"finished"}
    assert starts(tmp_path / "there") == {n: 1 + (n == names(made)[1]) for n in names(made)}


def test_another_recipe_or_limit_needs_another_folder(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sweep(plan(base, ["optim.lr=0.1"]), tmp_path, out, command=stub())
    with pytest.raises(ResumeError, match=r"batch was 16 and is 8"):
        sweep(plan(base, ["optim.lr=0.1"], settings=["batch=8"]), tmp_path, out, command=stub())
    with pytest.raises(ResumeError, match=r"--limit None, not 5"):
        sweep(plan(base, ["optim.lr=0.1"], limit=5), tmp_path, out, command=stub())
    assert starts(out) == {"lr=0.1": 1}


def test_what_is_no_sweep_or_no_data_is_said(base: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no sweep"):
        planned(tmp_path)
    with pytest.raises(SourceNotFoundError, match="no such data"):
        sweep(plan(base, ["optim.lr=0.1"]), tmp_path / "none", tmp_path / "out")
    with pytest.raises(OptionError, match="0 jobs"):
        sweep(plan(base, ["optim.lr=0.1"]), tmp_path, tmp_path / "out", jobs=0)
    for name in ("base.json", "sweep.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ResumeError, match="cannot be read"):
        planned(tmp_path)


def mien(*arguments: object) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command("sweep")(command.sweep)
    app.command("nothing")(lambda: None)
    result = CliRunner().invoke(app, ["sweep", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_command_trains_for_real_and_then_has_nothing_left_to_do(
    base: Path, tmp_path: Path, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "out"
    asked = (base, "--data", faces, "--grid", "train.lr=0.05,0.01", "--out", out, "--limit", 40)
    code, text, err = mien(*asked)
    assert code == 0, err
    assert "1/2  lr=0.05  finished, val_loss" in err
    losses = {n: read_table(out / n / "history.csv")["val_loss"].min() for n in ("lr=0.05", "lr=0.01")}
    first = text.splitlines()[1].split()
    assert f"lr={first[0]}" == min(losses, key=losses.__getitem__)
    assert first[1] == f"{min(losses.values()):.4f}"
    code, text, err = mien(out, "--data", faces, "--json")
    assert code == 0
    assert "started" not in err
    assert [r["value"] for r in json.loads(text)["results"]] == pytest.approx(sorted(losses.values()), abs=1e-5)


def test_the_command_lists_what_it_would_run(base: Path, tmp_path: Path) -> None:
    code, out, _ = mien(base, "--data", tmp_path, "--grid", GRIDS[0], "--grid", "net.depths=[1,1],[2,1]", "--list")
    assert code == 0
    assert len(out.splitlines()) == 7
    assert list(tmp_path.iterdir()) == [base]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--grid", "net.speed=1"), "no option 'speed'"),
        ((), "nothing to vary"),
        (("--grid", "optim.lr=0.1", "--random", "2"), "2 random points"),
    ],
)
def test_the_command_says_in_one_line_what_is_wrong(
    base: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    code, _, err = mien(base, "--data", tmp_path, "--out", tmp_path / "out", *arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_sweep_that_is_carried_on_takes_no_other_plan(base: Path, tmp_path: Path) -> None:
    sweep(plan(base, ["optim.lr=0.1"]), tmp_path, tmp_path / "out", command=stub())
    code, _, err = mien(tmp_path / "out", "--data", tmp_path, "--grid", "optim.lr=1")
    assert code == 2
    assert "its own plan" in err


def test_failures_are_named_at_the_end(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data are no faces, so the run fails in its own process."""
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "empty").mkdir()
    asked = (base, "--data", tmp_path / "empty", "--grid", "optim.lr=0.1", "--out", tmp_path / "out")
    code, _, err = mien(*asked)
    assert code == 2
    assert "failed: lr=0.1: " in err
    assert str(tmp_path / "empty") in err.split("failed: lr=0.1: ")[-1]
    assert "mien: 1 of 1 runs failed" in err
    assert "Traceback" not in err
