from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from filmindex import in_order, one_track, write_index
from typer.testing import CliRunner

from mien.cli.app import app
from mien.film.index import FACES, Index
from mien.film.query import find
from mien.results.files import read_faces


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """Two happy stretches: a long one, and a short one with a higher score."""
    long = one_track(["neutral"] * 2 + ["happy"] * 12 + ["neutral"] * 100, best=0.8)
    short = one_track(["happy"] * 3, track=1, first=100, best=0.95)
    return write_index(tmp_path_factory.mktemp("film") / "movie.mien", in_order([long, short]))


def ask(*arguments: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["film", "query", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_table_of_stretches(index: Index) -> None:
    code, out, err = ask(index.path, "happy")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["start", "end", "track", "frames", "label", "score"],
        ["0:00:00.080", "0:00:00.560", "0", "12", "happy", "0.80"],
        ["0:00:04.000", "0:00:04.120", "1", "3", "happy", "0.95"],
    ]
    assert err.startswith("2 stretches, 15 faces, 0:00:00.600 in all; found in ")
    assert err.endswith(" ms\n")


@pytest.mark.parametrize(
    ("sort", "first"), [("start", "0:00:00.080"), ("score", "0:00:04.000"), ("length", "0:00:00.080")]
)
def test_the_order_and_how_many(index: Index, sort: str, first: str) -> None:
    code, out, err = ask(index.path, "happy", "--sort", sort, "--limit", "1")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["start", first]
    assert "2 stretches, 1 of them shown (--limit, --csv), 15 faces" in err


def test_a_long_answer_is_cut_in_the_table_and_nowhere_else(tmp_path: Path) -> None:
    index = write_index(tmp_path / "i", one_track(["happy", "sad"] * 120))
    out, err = ask(index.path, "happy")[1:]
    assert len(out.splitlines()) == 101
    assert "120 stretches, 100 of them shown" in err
    assert len(json.loads(ask(index.path, "happy", "--json")[1])["found"]) == 120


def test_json_is_what_python_finds(index: Index) -> None:
    code, out, _ = ask(index.path, "joy for 8 frames", "--json")
    said, found = json.loads(out), find(index, "happy for 8 frames")
    assert code == 0
    assert said.pop("milliseconds") > 0
    assert said == {
        "query": "happy for 8 frames",
        "labels": ["happy"],
        "faces": 12,
        "spans": 1,
        "found": found.spans.records(),
    }


def test_files_of_stretches_and_of_faces(index: Index, tmp_path: Path) -> None:
    table = tmp_path / "spans.csv"
    for ending in ("csv", "jsonl", "parquet"):
        rows = tmp_path / f"faces.{ending}"
        code, _, err = ask(index.path, "happy and not frontal or happy", "--csv", table, "--rows", rows)
        assert code == 0
        assert f"wrote {table}" in err
        assert f"wrote {rows}" in err
        assert read_faces(rows) == find(index, "happy").faces()
    written = list(csv.DictReader(io.StringIO(table.read_text("utf-8"))))
    records = find(index, "happy").spans.records()
    assert [{k: str(v) for k, v in r.items()} for r in records] == written


def test_nothing_found_is_exit_code_1_and_files_without_rows(index: Index, tmp_path: Path) -> None:
    table, rows = tmp_path / "spans.csv", tmp_path / "faces.csv"
    code, out, err = ask(index.path, "happy for 2 min", "--csv", table, "--rows", rows)
    assert (code, out) == (1, "")
    assert "0 stretches, 0 faces, 0:00:00.000 in all" in err
    assert len(table.read_text("utf-8").splitlines()) == 1
    assert len(read_faces(rows)) == 0
    assert ask(index.path, "disgust", "--json")[0] == 1


def test_a_query_that_is_not_understood_is_pointed_at(index: Index) -> None:
    code, out, err = ask(index.path, "happy and frontl")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "mien: unknown word 'frontl' at 11; did you mean 'frontal'?",
        "  happy and frontl",
        "            ^",
    ]


def test_the_caret_stands_under_the_word_whatever_comes_before(index: Index) -> None:
    lines = ask(index.path, "'顔' or hapy")[2].splitlines()
    assert lines[0].startswith("mien: no label \"'顔'\" at 1")
    wide = ask(index.path, "happy\nor 顔")[2].splitlines()
    assert wide[1:] == ["  happy or 顔", "           ^"]
    long = ask(index.path, "happy or " * 60 + "hapy")[2].splitlines()
    assert long[0].startswith("mien: unknown word 'hapy' at 541;")
    assert len(long[1]) < 110
    assert long[1][long[2].index("^") :] == "hapy"
    # A sign that is two columns wide moves the caret by two.
    both = ask(index.path, "happy and 顔 顔")[2].splitlines()
    assert both[2].index("^") == 12


def test_explain_says_the_canonical_query_and_the_sql(index: Index) -> None:
    out = ask(index.path, "JOY>=.7 and (size > 20px)", "--explain")[1]
    assert out.startswith("query: happy >= 0.7 and side > 20\n\nSELECT file_row_number")
    assert "sql" in json.loads(ask(index.path, "happy", "--explain", "--json")[1])


def test_bridge_and_smooth(tmp_path: Path) -> None:
    index = write_index(tmp_path / "i", one_track(["happy"] * 4 + ["sad"] + ["happy"] * 4))
    assert ask(index.path, "happy for 8 frames")[0] == 1
    assert ask(index.path, "happy for 8 frames", "--bridge", "1")[0] == 0
    assert ask(index.path, "happy for 9 frames", "--smooth", "median:3")[0] == 0
    code, _, err = ask(index.path, "happy", "--smooth", "often")
    assert (code, err.count("\n")) == (2, 1)
    assert "exponential:SECONDS" in err


@pytest.mark.parametrize("ending", ["txt", "csv/x.csv"])
def test_files_that_cannot_be_written_are_one_line(index: Index, tmp_path: Path, ending: str) -> None:
    code, _, err = ask(index.path, "happy", "--rows", tmp_path / f"rows.{ending}")
    assert code == 2
    assert err.startswith("mien: ")


def test_what_is_no_index_is_one_line(tmp_path: Path, index: Index) -> None:
    for path in (tmp_path / "none.mien", tmp_path):
        code, out, err = ask(path, "happy")
        assert (code, out, err.count("\n")) == (2, "", 1)
    content = (index.path / FACES).read_bytes()
    broken = write_index(tmp_path / "broken", one_track(["happy"]))
    (broken.path / FACES).write_bytes(content[: len(content) // 2])
    code, out, err = ask(broken.path, "happy")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "index the film again" in err


def test_stretches_shorter_than_asked_are_explained(index: Index) -> None:
    code, _, err = ask(index.path, "happy for 8 frames and time < 0.2")
    assert code == 0
    assert "1 stretch is shorter than 8 frames: 'for' is asked of what stands left of it" in err
    better = err.splitlines()[-1].partition(": ")[2]
    assert better == "(happy and time < 0.2) for 8 frames"
    assert len(find(index, better)) == 0
    assert len(find(index, "happy for 8 frames and time < 0.2")) == 3
    for query in (
        "happy for 8 frames and alone",
        "(happy and alone) for 8 frames",
        "happy",
        "happy for 0.4 s and alone",
    ):
        assert "shorter" not in ask(index.path, query)[2]
    assert "shorter than 0.4 s" in ask(index.path, "happy for 0.4 s and time < 0.2")[2]
