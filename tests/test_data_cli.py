"""`mien data`: what it counts, draws and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from mien.cli import data
from mien.data.chart import draw_balance
from mien.data.faces import LabelledFaces
from mien.data.importers import read_labelled
from mien.data.summary import summarise
from mien.errors import MissingExtraError, OptionError, OutputError

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command("data")(data.data)


def mien(*arguments: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(APP, [*map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def told(*arguments: object) -> dict[str, object]:
    code, out, _ = mien(*arguments, "--json")
    assert code == 0
    return json.loads(out)


def png(value: int) -> bytes:
    return cv2.imencode(".png", np.full((48, 48), value, np.uint8))[1].tobytes()


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Seven pictures in two splits; two are pixel-equal across, two within, one is damaged."""
    rows = [
        ("train", "happy", "Ann", 1),
        ("train", "happy", "Bob", 1),
        ("train", "disgust", "Ann", 2),
        ("train", "angry", "Cem", 3),
        ("test", "angry", "Ann", 3),
        ("test", "happy", "", 3),
        ("test", "sad", "Dot", -1),
    ]
    lines = ["path,split,label,person,source"]
    for i, (split, label, person, value) in enumerate(rows):
        (tmp_path / f"{i}.png").write_bytes(png(value) if value >= 0 else b"text")
        lines.append(f"{i}.png,{split},{label},{person},web")
    (tmp_path / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def test_it_counts(people: Path) -> None:
    document = told(people)
    assert document["labels"] == ["angry", "disgust", "happy", "sad"]
    assert document["faces"] == 6
    training, test = document["splits"]
    assert (training["name"], training["counts"]) == ("Training", {"angry": 1, "disgust": 1, "happy": 2, "sad": 0})
    assert (training["persons"], training["repeated"], training["voted"]) == (3, 1, 0)
    assert (test["name"], test["counts"]["happy"], test["without_person"], test["repeated"]) == ("PublicTest", 1, 1, 1)
    assert document["otherwise_labelled"] == 3
    assert document["overlaps"] == [
        {"of": "Training", "also_in": "PublicTest", "faces": 1, "person_faces": 2, "persons": 1},
        {"of": "PublicTest", "also_in": "Training", "faces": 2, "person_faces": 1, "persons": 1},
    ]
    assert document["columns"] == {"source": 1}
    assert [line.rpartition("/")[2] for line in document["problems"]] == [
        "6.png: not a picture (it begins with b'text')"
    ]


def test_it_shows_a_table_and_names_what_was_left_out(people: Path) -> None:
    code, out, err = mien(people)
    assert code == 0
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["happy"] == ["2", "0.500", "1", "0.500"]
    assert rows["persons"] == ["3", "1"]
    assert "2 faces of PublicTest are pixel-equal to one of Training" in out
    assert "1 persons of Training are also in PublicTest, with 2 faces" in out
    assert "3 faces have a pixel-equal twin of another label" in out
    assert "columns: source (1 values)" in out
    assert err.count("left out: ") == 1
    assert "6.png" in err


def test_many_problems_are_cut_short_but_for_json(tmp_path: Path) -> None:
    for name, n in (("pout", 1), ("smile", 25)):
        (tmp_path / name).mkdir()
        for i in range(n):
            (tmp_path / name / f"{i}.png").write_bytes(b"text" if n > 1 else png(0))
    _, _, err = mien(tmp_path)
    assert err.count("left out: ") == 21
    assert "left out: 5 more; --json lists all" in err
    assert len(told(tmp_path)["problems"]) == 25


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        (["--labels", "six"], {"angry": 2, "fear": 0, "happy": 2, "sad": 0, "surprise": 0, "neutral": 0}),
        (["--merge", "disgust=angry"], {"angry": 2, "happy": 2, "sad": 0}),
        (["--drop", "disgust,sad"], {"angry": 1, "happy": 2}),
        (["--labels", "bad,good", "--merge", "disgust=bad,angry=bad,sad=bad,happy=good"], {"bad": 2, "good": 2}),
        (["--labels", "bad,good", "--merge", "disgust=bad,angry=bad", "--merge", "sad=bad,happy=good"],
         {"bad": 2, "good": 2}),
    ],
)  # fmt: skip
def test_labels_merged_and_dropped(people: Path, options: list[str], counts: dict[str, int]) -> None:
    assert told(people, *options)["splits"][0]["counts"] == counts


def test_a_split_and_so_many_of_each(people: Path) -> None:
    assert [s["name"] for s in told(people, "--split", "PublicTest")["splits"]] == ["PublicTest"]
    document = told(people, "--drop", "sad,disgust", "--per-class", "2", "--seed", "3")
    assert document["faces"] == 4


def test_a_column_is_the_label(people: Path) -> None:
    assert told(people, "--attribute", "person")["labels"] == ["Ann", "Bob", "Cem", "Dot"]


def test_faces_without_a_label_are_a_row(people: Path) -> None:
    text = (people / "manifest.csv").read_text(encoding="utf-8")
    (people / "manifest.csv").write_text(text.replace("disgust", ""), encoding="utf-8")
    assert told(people)["splits"][0]["unlabelled"] == 1
    assert "(no label)" in mien(people)[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--labels", "seventeen"], "unknown label set 'seventeen'"),
        (["--labels", "five", "--drop", "smirk"], "unknown label 'smirk'"),
        (["--merge", "disgust"], "'disgust' is no merge; write it as disgust=angry"),
        (["--split", "Nowhere"], "the split 'Nowhere' is empty; the data has PublicTest, Training"),
        (["--per-class", "99"], "99 faces of each class are asked for, but 'angry' has 2"),
        (["--attribute", "Hat"], "no column Hat"),
        (["--chart", "c.doc"], "c.doc: a chart is written by its ending"),
    ],
)
def test_what_cannot_be_done_is_one_line(people: Path, options: list[str], words: str) -> None:
    code, out, err = mien(people, *options)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_nothing_there(tmp_path: Path) -> None:
    code, _, err = mien(tmp_path / "gone")
    assert (code, err) == (2, f"mien: {tmp_path / 'gone'}: no such file or folder\n")


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf"])
def test_a_chart_is_drawn(people: Path, tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"chart{ending}"
    assert mien(people, "--chart", file)[0] == 0
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[ending]
    assert file.read_bytes().startswith(start)
    assert not list(tmp_path.glob("*.tmp"))


def test_the_bars_of_the_chart_are_the_counts(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    drawn, bar = [], Axes.bar
    monkeypatch.setattr(
        Axes, "bar", lambda self, x, height, *a, **k: drawn.append(height) or bar(self, x, height, *a, **k)
    )
    summary = summarise(read_labelled(people))
    draw_balance(tmp_path / "c.png", summary)
    assert drawn == [(1, 1, 2, 0), (1, 0, 1, 0)]


def test_a_chart_that_cannot_be_written(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = summarise(read_labelled(people))
    with pytest.raises(OutputError, match="its folder does not exist"):
        draw_balance(tmp_path / "gone" / "c.png", summary)
    with pytest.raises(OptionError, match=r"one of: \.png, \.svg, \.pdf"):
        draw_balance(tmp_path / "c.gif", summary)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"mien\[report\]"):
        draw_balance(tmp_path / "c.png", summary)


def test_no_faces_are_no_splits() -> None:
    none = LabelledFaces(*(np.zeros(s, t) for s, t in (
        ((0, 4, 4, 3), np.uint8), (0, np.int64), ((0, 10), np.float32), (0, np.str_), (0, np.int64), (0, np.str_),
    )))  # fmt: skip
    summary = summarise(none)
    assert (summary.faces, summary.splits, summary.colour) == (0, (), "rgb")


@pytest.mark.shared
def test_the_official_counts_of_fer2013(shared: Path) -> None:
    document = told(shared / "fer2013")
    counts = {s["name"]: list(s["counts"].values()) for s in document["splits"]}
    assert counts == {
        "Training": [3995, 436, 4097, 7215, 4830, 3171, 4965],
        "PublicTest": [467, 56, 496, 895, 653, 415, 607],
    }
    assert {(o["of"], o["also_in"]): o["faces"] for o in document["overlaps"]} == {
        ("Training", "PublicTest"): 351,
        ("PublicTest", "Training"): 280,
    }
    assert document["otherwise_labelled"] == 129
