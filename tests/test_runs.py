"""Runs are read from their folders, whatever state these are in, and shown."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from mien.cli import runs as command
from mien.errors import SourceNotFoundError
from mien.train.runs import Run, best_of, differences, list_runs, read_run, read_table, varying

RECIPE = {"name": "tiny", "net": "plain", "net_options": {"depth": 2}, "epochs": 4, "optim": {"lr": 0.1, "ema": 0.9}}
HISTORY = """epoch,seconds,lr,train_loss,val_loss,val_crowd_accuracy,val_fer2013_accuracy
0,2.5,0.1,2.0,1.9,0.5,0.4
1,2.5,0.05,1.5,1.2,0.75,0.6
2,2.5,0.01,1.1,1.4,0.7,0.7
"""
NOW = 1_800_000_000.0


def make(folder: Path, *, recipe: dict[str, Any] | None = None, history: str = HISTORY, **state: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(RECIPE | (recipe or {})))
    (folder / "history.csv").write_text(history)
    (folder / "steps.csv").write_text("step,epoch,loss,lr\n10,0,2.1,0.1\n20,1,1.6,\n")
    told = {"state": "finished", "epoch": 3, "epochs": 4, "step": 30, "steps": 40, "seconds": 7.5, "rate": 812.4}
    best = {"epoch": 1, "metric": "val_loss", "value": 1.2, "mode": "min"}
    told |= {"best": best, "parameters": 4711, "host": socket.gethostname(), "pid": os.getpid()}
    (folder / "state.json").write_text(json.dumps(told | state))
    return folder


def mien(*arguments: object) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command("runs")(command.runs)
    app.command("nothing")(lambda: None)
    result = CliRunner().invoke(app, ["runs", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def age(folder: Path, seconds: float) -> None:
    for file in folder.iterdir():
        os.utime(file, (NOW - seconds, NOW - seconds))


def test_a_run_is_read_whole(tmp_path: Path) -> None:
    run = read_run(make(tmp_path / "one"))
    assert (run.name, run.state, run.epoch, run.epochs, run.seconds) == ("one", "finished", 3, 4, 7.5)
    assert run.best is not None
    assert (run.best.epoch, run.best.metric, run.best.value, run.best.mode) == (1, "val_loss", 1.2, "min")
    assert run.accuracies() == {"crowd": 0.75, "fer2013": 0.6}
    assert run.history["train_loss"].tolist() == [2.0, 1.5, 1.1]
    np.testing.assert_array_equal(run.steps["lr"], [0.1, np.nan])
    assert run.curves().steps_an_epoch == 10
    assert run.problems == ()


def test_the_monitored_value_may_be_one_that_rises(tmp_path: Path) -> None:
    best = {"epoch": 2, "metric": "val_fer2013_accuracy", "value": 0.7, "mode": "max"}
    run = read_run(make(tmp_path / "one", best=best))
    assert run.best is not None
    assert (run.best.epoch, run.best.value) == (2, 0.7)
    assert run.accuracies() == {"crowd": 0.7, "fer2013": 0.7}


@pytest.mark.parametrize(
    ("metric", "mode", "epoch"), [("a", "min", 2), ("a", "max", 1), ("a_loss", "", 2), ("b", "", 1)]
)
def test_the_best_epoch_is_that_of_a_naive_search(metric: str, mode: str, epoch: int) -> None:
    values = np.array([np.nan, 3.0, -1.0, np.inf, -1.0])
    history = {"epoch": np.arange(5.0), "a": values, "a_loss": values, "b": values}
    best = best_of(history, metric, mode)
    assert best is not None
    assert best.epoch == epoch


def test_there_is_no_best_without_a_value() -> None:
    assert best_of({"epoch": np.arange(2.0), "a": np.full(2, np.nan)}, "a") is None
    assert best_of({"epoch": np.arange(2.0)}, "a") is None


def gone() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.mark.parametrize(
    ("state", "silence", "shown"),
    [
        ({"pid": os.getpid()}, 5, "running"),
        ({"pid": os.getpid()}, 1000, "running"),
        ({"pid": os.getpid()}, 4000, "interrupted"),
        ({"pid": None}, 5, "interrupted"),
        ({"pid": -1}, 5, "interrupted"),
        ({"host": "elsewhere", "pid": 1}, 5, "running"),
        ({"host": "elsewhere", "pid": 1}, 1000, "interrupted"),
        ({"state": "failed", "pid": None}, 5, "failed"),
    ],
)
def test_a_run_that_says_it_is_running_is_asked_for_its_process(
    tmp_path: Path, state: dict[str, Any], silence: float, shown: str
) -> None:
    folder = make(tmp_path / "one", **{"state": "running"} | state)
    age(folder, silence)
    assert read_run(folder, now=lambda: NOW).state == shown


def test_a_run_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    assert read_run(make(tmp_path / "one", state="running", pid=gone())).state == "interrupted"


def test_runs_are_listed_newest_first_those_of_a_sweep_too(tmp_path: Path) -> None:
    for i, name in enumerate(("old", "sweep/lr=0.1", "sweep/lr=0.2", "new")):
        age(make(tmp_path / name), 100 - i)
    (tmp_path / "holidays" / "beach").mkdir(parents=True)
    (tmp_path / ".cache").mkdir()
    (tmp_path / "notes.txt").write_text("")
    found = [(r.name, r.state) for r in list_runs(tmp_path)]
    assert found == [
        ("new", "finished"),
        ("sweep/lr=0.2", "finished"),
        ("sweep/lr=0.1", "finished"),
        ("old", "finished"),
        ("holidays", "foreign"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("state.json", '{"state": "run', "state.json: not JSON"),
        ("recipe.json", "[1, 2]", "recipe.json: expected settings"),
        ("history.csv", "epoch,loss\n0,a lot\n", "history.csv: not a table of numbers"),
        ("history.csv", "epoch,loss\n0,1,2\n", "line 2 has 3 cells and not 2"),
        ("history.csv", "day,loss\n0,1\n", "history.csv: has no column 'epoch'"),
        ("steps.csv", "\x00\n", "steps.csv: has no column 'step'"),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_read(tmp_path: Path, name: str, content: str, words: str) -> None:
    folder = make(tmp_path / "one")
    (folder / name).write_text(content)
    run = read_run(folder)
    assert len(run.problems) == 1
    assert words in run.problems[0]
    assert run.recipe or run.history
    code, out, err = mien(tmp_path)
    assert code == 0
    assert "one" in out
    assert words in err


def test_a_line_that_is_being_written_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("step,loss\n10,1\n20,")
    assert read_table(tmp_path / "steps.csv")["step"].tolist() == [10]


@pytest.mark.parametrize("content", ["", "epoch,val_loss\n", "epoch", "epoch,val_loss\n,1\n"])
def test_a_run_without_a_row_has_no_epoch(tmp_path: Path, content: str) -> None:
    run = read_run(make(tmp_path / "one", history=content, epoch=0, best=None))
    assert (run.epoch, run.best, run.at_best(), run.accuracies()) == (0, None, {}, {})
    assert mien(tmp_path)[0] == 0


def test_a_folder_that_is_missing_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no such run"):
        read_run(tmp_path / "none")
    with pytest.raises(SourceNotFoundError, match="no such folder of runs"):
        list_runs(tmp_path / "none")


def test_two_runs_differ_in_their_settings_and_scores(tmp_path: Path) -> None:
    first = read_run(make(tmp_path / "a"))
    second = read_run(
        make(
            tmp_path / "b", recipe={"optim": {"lr": 0.2, "ema": 0.9}, "batch": 7}, history=HISTORY.replace("1.2", "1.0")
        )
    )
    found = differences(first, second)
    assert {k: (x, y) for k, x, y in found.settings} == {"optim.lr": (0.1, 0.2), "batch": (None, 7)}
    scores = {k: (x, y) for k, x, y in found.scores}
    assert scores["val_loss"] == (1.2, 1.0)
    assert scores["val_crowd_accuracy"] == (0.75, 0.75)
    assert scores["parameters"] == (4711, 4711)
    assert varying([first, second]) == ["optim.lr"]


def test_the_list_has_what_one_asks_for(tmp_path: Path) -> None:
    make(tmp_path / "slow", state="running", eta_seconds=4321.0)
    make(tmp_path / "quick", recipe={"optim": {"lr": 0.2, "ema": 0.9}})
    code, out, _ = mien(tmp_path)
    assert code == 0
    header, *rows = out.splitlines()
    asked = "name state net epoch best accuracy parameters time faces/s left when settings"
    assert " ".join(header.split()) == asked
    slow = next(r for r in rows if r.startswith("slow"))
    for cell in ("running", "plain", "3/4", "val_loss 1.2 at 1", "crowd 0.7500", "4,711", "8 s", "812", "1 h 12 min"):
        assert cell in slow, cell
    assert "lr=0.1" in slow
    assert "lr=0.2" in next(r for r in rows if r.startswith("quick"))


def test_a_setting_can_have_its_own_column(tmp_path: Path) -> None:
    make(tmp_path / "one")
    _, out, _ = mien(tmp_path, "--show", "optim.lr", "--show", "unheard")
    assert "optim.lr" in out.splitlines()[0]
    assert re.search(r"0\.1 +– *$", out.splitlines()[1])


def test_the_list_as_json(tmp_path: Path) -> None:
    make(tmp_path / "one", history=HISTORY.replace("1.9", "nan"))
    (tmp_path / "other").mkdir()
    document = json.loads(mien(tmp_path, "--json")[1])
    assert document["not_runs"] == ["other"]
    (run,) = document["runs"]
    assert run["best"] == {"epoch": 1, "metric": "val_loss", "value": 1.2, "mode": "min"}
    assert run["settings"]["optim.lr"] == 0.1
    assert run["scores"]["val_fer2013_accuracy"] == 0.6


@pytest.mark.parametrize("form", ["named", "option"])
def test_two_runs_side_by_side(tmp_path: Path, form: str) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b", recipe={"epochs": 9}, history=HISTORY.replace("1.2", "1.0"))
    code, out, _ = mien(tmp_path, *(("a", "b") if form == "named" else ("--compare", "a", "--compare", "b")))
    assert code == 0
    rows = {line.split("  ")[0]: line.split() for line in out.splitlines() if line}
    assert rows["epochs"][1:]
    assert rows["val_loss"] == ["val_loss", "1.2", "*", "1", "-0.2"]
    document = json.loads(mien(tmp_path, "a", "b", "--json")[1])
    assert document["settings"] == {"epochs": [4, 9]}
    assert document["scores"]["val_loss"] == [1.2, 1.0]


def test_one_run_is_shown_whole(tmp_path: Path) -> None:
    make(tmp_path / "a", state="failed", error="ValueError: out of milk")
    for place in ((tmp_path, "a"), (tmp_path / "a",)):
        code, out, err = mien(*place)
        assert code == 0
        assert "net_options.depth" in out
        assert "out of milk" in err


def test_curves_of_some_runs_are_drawn(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make(tmp_path / name)
    code, _, err = mien(tmp_path, "a", "c", "--curves", tmp_path / "out.png")
    assert code == 0
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    assert "a, c" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none",), "none: no such run"),
        (("--compare", "a"), "--compare takes two runs"),
        (("--curves", "x.jpg"), ".png"),
        (("--watch", "--every", "0"), "--every 0"),
        (("empty", "--curves", "x.png"), "none of the 1 runs has an epoch"),
    ],
)
def test_what_cannot_be_shown_is_one_line(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    make(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    code, _, err = mien(tmp_path, *arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_a_folder_without_runs_says_so(tmp_path: Path) -> None:
    (tmp_path / "holidays").mkdir()
    code, out, err = mien(tmp_path)
    assert (code, out) == (0, "")
    assert "no run in" in err
    assert "holidays" in err


def test_watching_without_a_terminal_is_one_look(tmp_path: Path) -> None:
    make(tmp_path / "done")
    make(tmp_path / "slow", state="running", eta_seconds=90)
    code, out, _ = mien(tmp_path, "--watch")
    assert code == 0
    assert out.index("slow") < out.index("done")
    assert "step 30/40" in out
    assert "1 min left" in out
    assert re.search("[\u2801-\u28ff]", out)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make(tmp_path / name)
    view = command.live_view(list_runs(tmp_path), width=90, room=17)
    console = Console(width=90, file=io.StringIO())
    console.print(view)
    text = console.file.getvalue()
    assert "and 1 more: " in text
    assert len(text.splitlines()) <= 17
    assert all(len(line) <= 90 for line in text.splitlines())


def test_watching_looks_again_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """The run begins anew between two looks; the view has it."""
    folder = make(tmp_path / "a", epoch=3)
    seen: list[list[Run]] = []
    asked = iter([False, False, True])

    def wait() -> bool:
        if len(seen) == 1:
            (folder / "history.csv").unlink()
            (folder / "state.json").write_text(json.dumps({"state": "running", "epoch": 0, "pid": os.getpid()}))
        return next(asked)

    command.follow(lambda: list_runs(tmp_path), seen.append, wait)
    assert [runs[0].epoch for runs in seen] == [3, 0, 0]


def test_ctrl_c_ends_the_watch(tmp_path: Path) -> None:
    def wait() -> bool:
        raise KeyboardInterrupt

    command.follow(list, lambda _: None, wait)


def test_reading_runs_needs_no_torch() -> None:
    code = "import sys, mien.cli.runs; print(sorted({'torch', 'lightning', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
