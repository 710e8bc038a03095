"""`mien film timeline` and `mien film report`, and the examples of the page on films."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from filmindex import in_order, one_track, write_index
from films import make_film, numbered
from typer.testing import CliRunner

from mien.cli.app import app
from mien.film.index import Index
from mien.film.tables import FACE_COLUMNS, FRAME_COLUMNS, TRACK_COLUMNS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "film.md"
TOPS = ["happy"] * 30 + [""] * 5 + ["sad"] * 15


def mien(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["film", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def index(tmp_path: Path) -> Index:
    film = make_film(tmp_path / "movie.mp4", numbered(50))
    faces = in_order([one_track(TOPS, side=20, at=(10, 10)), one_track(["happy"] * 40, track=1, side=20, at=(50, 10))])
    return write_index(tmp_path / "movie.mien", faces, film=film)


def test_timeline_writes_a_page(index: Index, tmp_path: Path) -> None:
    out = tmp_path / "t.html"
    code, said, notes = mien("timeline", index.path, "--out", out, "--pictures", 5, "--query", "happy for 8 frames")
    assert (code, notes) == (0, "")
    assert said.startswith(f"{out}: 2 tracks, 5 stills, 2 spans, ")
    assert out.read_text("utf-8").startswith("<!doctype html>")


def test_timeline_answers_in_json(index: Index, tmp_path: Path) -> None:
    (tmp_path / "movie.mp4").unlink()
    out = tmp_path / "t.html"
    code, said, _ = mien("timeline", index.path, "--out", out, "--json", "--smooth", "exponential:0.3")
    told = json.loads(said)
    assert (code, told["bytes"], told["stills"]) == (0, out.stat().st_size, 0)
    assert "No pictures" in told["notes"][0]


def test_timeline_says_when_the_film_is_gone(index: Index, tmp_path: Path) -> None:
    (tmp_path / "movie.mp4").unlink()
    code, said, notes = mien("timeline", index.path, "--out", tmp_path / "t.html", "--quiet")
    assert (code, said) == (0, "")
    assert notes.startswith("No pictures")
    code, _, notes = mien("timeline", index.path, "--out", tmp_path / "t.html", "--film", tmp_path / "no.mp4")
    assert (code, notes.count("\n")) == (2, 1)
    assert "no.mp4" in notes


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--smooth", "much"], "exponential"),
        (["--query", "hapy"], "hapy"),
        (["--pictures", "-3"], "-3"),
        (["--out", "t.txt"], "html"),
        (["--out", "nowhere/t.html"], "folder"),
    ],
)
def test_timeline_refuses_in_one_line(index: Index, tmp_path: Path, arguments: list[str], word: str) -> None:
    code, said, notes = mien("timeline", index.path, "--out", tmp_path / "t.html", *arguments)
    assert (code, said, notes.count("\n")) == (2, "", 1)
    assert word in notes
    assert not (tmp_path / "t.html").exists()


def test_an_interrupted_timeline_leaves_nothing(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mien.film.timeline.take", interrupted)
    code, _, notes = mien("timeline", index.path, "--out", tmp_path / "t.html")
    assert (code, notes) == (130, "mien: stopped\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["movie.mien", "movie.mp4"]


def test_report_prints_a_table(index: Index) -> None:
    code, said, notes = mien("report", index.path, "--by", "shot")
    head, row, *_ = said.splitlines()[1:]
    assert (code, notes) == (0, "")
    assert head.split()[:5] == ["period", "seconds", "faces", "tracks", "read"]
    assert row.split()[:6] == ["shot", "0", "2.0", "1.80", "2", "0.94"]
    assert dict(zip(head.split()[5:], row.split()[6:], strict=False))["happy"] == "0.82"
    assert "not persons" in said


def test_report_answers_in_json_and_in_files(index: Index, tmp_path: Path) -> None:
    code, said, _ = mien("report", index.path, "--json", "--query", "happy")
    told = json.loads(said)
    assert (code, told["query"], told["periods"][0]["face_seconds"]) == (0, "happy", 2.8)
    for ending in ("html", "csv", "json"):
        out = tmp_path / f"r.{ending}"
        code, said, notes = mien("report", index.path, "--out", out)
        assert (code, notes) == (0, f"{out}\n")
    assert json.loads((tmp_path / "r.json").read_text("utf-8"))["periods"][0]["face_seconds"] == 3.6
    (row,) = csv.DictReader((tmp_path / "r.csv").read_text("utf-8").splitlines())
    assert (row["face_seconds"], row["unread_blurred"]) == ("3.6", "0.055556")


def test_report_of_several_films_names_them(index: Index, tmp_path: Path) -> None:
    other = write_index(tmp_path / "b.mien", one_track(["sad"] * 10))
    code, said, _ = mien("report", index.path, other.path, "--date", "2024-05-01", "--by", "day")
    assert code == 0
    assert "2024-05-01" in said
    code, said, _ = mien("report", index.path, other.path, "--least", 2)
    assert code == 0
    assert said.count("movie.mp4") == 4  # twice in the title, once a row
    assert "withheld in 1 of 2 periods" in said


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--by", "week"], "minute"),
        (["--by", "day"], "--date YYYY-MM-DD"),
        (["--by", "day", "--date", "soon"], "soon"),
        (["--least", "0"], "least"),
        (["--query", "hapy"], "hapy"),
        (["--out", "report.txt"], ".csv"),
    ],
)
def test_report_refuses_in_one_line(index: Index, arguments: list[str], word: str) -> None:
    code, said, notes = mien("report", index.path, *arguments)
    assert (code, said, notes.count("\n")) == (2, "", 1)
    assert word in notes


def test_what_is_no_index_is_said(tmp_path: Path) -> None:
    for command in ("timeline", "report"):
        code, _, notes = mien(command, tmp_path / "no.mien", "--out", tmp_path / "x.html")
        assert (code, notes.count("\n")) == (2, 1)
        assert "mien film index" in notes


# The example above that heading makes the index, with the models.
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8").partition("\n## The folder\n")[2], re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page_runs(index: Index, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.chdir(index.path.parent)
    names: dict[str, Any] = {}
    exec(compile(EXAMPLES[number], f"docs/film.md, example {number}", "exec"), names)  # noqa: S102 - our own page
    expected: dict[str, Any] = {
        "longest": 0,
        "frames_of_top": {"happy": 40, "sad": 15, None: 5},
        "together": [(frame, round(frame / 25, 2), 2) for frame in range(30)],
        "reasons": [(0, "blurred", 5)],
    }
    for name in expected.keys() & names.keys():
        value = names[name]
        if name == "frames_of_top":
            value = {None if top != top or top is None else top: n for top, n in value.items()}
        if name == "together":
            value = [(frame, round(time, 2), happy) for frame, time, happy in value]
        assert value == expected[name]
    if "long" in names:
        assert names["long"]["track"].to_list() == [1, 0]
    if "found" in names:
        assert names["found"].periods[0].seconds == pytest.approx(2)
    if "made" in names:
        assert names["made"].path.is_file()


def test_the_page_names_every_column_of_the_tables() -> None:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    rows = {line.split("|")[1].strip(): set(re.findall(r"`(\w+)`", line)) for line in lines}
    assert rows["faces"] == {c.name for c in FACE_COLUMNS}
    assert rows["frames"] == {c.name for c in FRAME_COLUMNS}
    assert rows["tracks"] == {c.name for c in TRACK_COLUMNS}
