from __future__ import annotations

import csv
import errno
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from tables import MOODS, portrait, some_faces

from mien.errors import (
    DataError,
    MissingExtraError,
    OptionError,
    OutputError,
    SourceNotFoundError,
)
from mien.labels import EIGHT, SEVEN, THREE, LabelSet
from mien.results import Faces, Reason, files
from mien.results.columns import ARRAYS, flat, flat_names
from mien.results.files import FILM_NAMES, film_rows, read_faces, write_faces
from mien.results.sink import Sink
from mien.results.table import flat_columns, from_arrow, to_arrow

ENDINGS = (".csv", ".jsonl", ".parquet")
TWO = LabelSet("custom", ("up", "down"))
WALL = Faces.missing("wall.jpg", Reason.NO_FACE)


@pytest.fixture
def pair() -> Faces:
    return Faces.concat([portrait(time=1 / 3, points=np.arange(10).reshape(5, 2) / 7), WALL])


# Whole tables


@pytest.mark.parametrize("ending", ENDINGS)
def test_any_table_reads_back_the_same(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"faces{ending}"

    @settings(max_examples=50)
    @given(some_faces())
    def same(faces: Faces) -> None:
        write_faces(path, faces)
        again = read_faces(path, labels=faces.labels)
        assert again == faces
        assert set(again.sources) == set(faces.source_names.tolist())
        if len(faces):
            assert read_faces(path) == faces

    same()


@settings(max_examples=40)
@given(some_faces())
def test_arrow_reads_back_the_same(faces: Faces) -> None:
    assert from_arrow(to_arrow(faces)) == faces


@settings(max_examples=40)
@given(some_faces())
def test_flat_columns_hold_the_table(faces: Faces) -> None:
    columns = flat_columns(faces)
    assert tuple(columns) == flat_names(faces.labels.labels)
    assert all(len(v) == len(faces) for v in columns.values())
    np.testing.assert_array_equal(columns["y2"], faces.box[:, 3])
    np.testing.assert_array_equal(columns["nose_x"], faces.points[:, 2, 0])
    np.testing.assert_array_equal(columns[faces.labels.labels[1]], faces.expression[:, 1])
    assert columns["source"].tolist() == faces.source_names.tolist()
    assert columns["reason"].tolist() == faces.reason_words


def test_long_files_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    faces = Faces.concat(portrait(frame=i, time=i / 7) for i in range(11))
    monkeypatch.setattr(files, "_CHUNK", 4)
    for ending in ENDINGS:
        write_faces(tmp_path / f"faces{ending}", faces)
        assert read_faces(tmp_path / f"faces{ending}") == faces
    assert pq.ParquetFile(tmp_path / "faces.parquet").num_row_groups == 3


def test_csv_is_what_others_read(pair: Faces, tmp_path: Path) -> None:
    path = tmp_path / "faces.CSV"
    write_faces(path, pair)
    first, second = csv.DictReader(io.StringIO(path.read_text()))
    assert list(first) == list(flat_names(EIGHT.labels))
    assert (first["source"], first["happy"], first["top"], first["carried"]) == ("a.jpg", "0.91", "happy", "false")
    assert first["time"] == "0.3333333333333333"
    assert {k for k, v in second.items() if v} == {"source", "frame", "carried", "reason"}
    frame = pd.read_csv(path)
    assert frame["x2"].tolist()[0] == 50
    assert frame["face"].isna().tolist() == [False, True]
    assert frame["carried"].dtype == bool


def test_json_lines_are_json(pair: Faces, tmp_path: Path) -> None:
    path = tmp_path / "faces.jsonl"
    write_faces(path, pair)
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["scores"]["happy"] == 0.91
    assert first["points"]["nose"] == [pytest.approx(4 / 7), pytest.approx(5 / 7)]
    assert first["reason"] == []
    assert second["box"] is second["face"] is second["top"] is None
    assert second["scores"] == dict.fromkeys(EIGHT)
    assert second["reason"] == ["no_face"]


def test_parquet_says_what_its_columns_are(pair: Faces, tmp_path: Path) -> None:
    path = tmp_path / "faces.parquet"
    write_faces(path, pair)
    table: Any = pq.read_table(path)
    assert table.column_names == list(flat_names(EIGHT.labels))
    for name, column in flat(EIGHT.labels).items():
        field = table.schema.field(name)
        assert field.metadata[b"doc"].decode() == column.doc
        assert field.metadata[b"unit"].decode() == column.unit
        assert field.nullable == column.nullable
    assert json.loads(table.schema.metadata[b"mien.labels"]) == {"name": "eight", "labels": list(EIGHT)}
    assert table.column("x1").to_pylist() == [10, None]
    assert table.column("track").to_pylist() == [None, None]
    assert table.column("reason").to_pylist() == ["", "no_face"]
    assert table.schema.field("frame").type == pa.int64()
    assert table.schema.field("x1").type == pa.float32()


def test_the_label_set_is_found(tmp_path: Path) -> None:
    for labels in (THREE, SEVEN, MOODS):
        faces = Faces.missing("a", Reason.NO_FACE, labels=labels)
        for ending in ENDINGS:
            write_faces(tmp_path / f"a{ending}", faces)
            assert read_faces(tmp_path / f"a{ending}").labels == labels
    mine = LabelSet("mine", ("up", "down"))
    write_faces(tmp_path / "a.parquet", Faces.missing("a", Reason.NO_FACE, labels=mine))
    assert read_faces(tmp_path / "a.parquet").labels == mine
    write_faces(tmp_path / "a.csv", Faces.missing("a", Reason.NO_FACE, labels=mine))
    assert read_faces(tmp_path / "a.csv", labels=mine).labels == mine


def test_tables_without_rows(tmp_path: Path) -> None:
    for ending in ENDINGS:
        write_faces(tmp_path / f"a{ending}", Faces.empty(labels=SEVEN))
        assert read_faces(tmp_path / f"a{ending}", labels=SEVEN) == Faces.empty(labels=SEVEN)
    assert read_faces(tmp_path / "a.csv").labels == read_faces(tmp_path / "a.parquet").labels == SEVEN
    assert read_faces(tmp_path / "a.jsonl").labels == EIGHT


def test_further_columns_are_left_aside(pair: Faces, tmp_path: Path) -> None:
    path = tmp_path / "more.csv"
    write_faces(path, pair)
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{i or 'number'},{line}\n" for i, line in enumerate(lines)))
    assert read_faces(path) == pair
    assert from_arrow(pair.to_arrow().append_column("number", [[1, 2]]).replace_schema_metadata()) == pair


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_names_that_are_no_utf8_read_back(ending: str, tmp_path: Path) -> None:
    faces = portrait(source=os.fsdecode(b"caf\xe9.jpg"))
    write_faces(tmp_path / f"a{ending}", faces)
    assert read_faces(tmp_path / f"a{ending}") == faces


def test_arrow_spells_out_names_that_are_no_utf8() -> None:
    faces = portrait(source=os.fsdecode(b"caf\xe9.jpg"))
    assert to_arrow(faces).column("source").to_pylist() == [r"caf\udce9.jpg"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ["a\rb.jpg", "a\nb.jpg", 'a"b.jpg', "a,b.jpg", " ", "\u2028.jpg", "-1", "null"])
def test_names_that_need_care_read_back(name: str, ending: str, tmp_path: Path) -> None:
    faces = Faces.concat([portrait(source=name), WALL])
    write_faces(tmp_path / f"a{ending}", faces)
    assert read_faces(tmp_path / f"a{ending}") == faces


# What cannot be


@pytest.mark.parametrize("name", ["faces.xlsx", "faces", "faces.csv.gz"])
def test_an_unknown_ending_lists_the_three(name: str, tmp_path: Path) -> None:
    for do in (lambda p: write_faces(p, WALL), read_faces, lambda p: Sink(p, labels=EIGHT)):
        with pytest.raises(OptionError, match=r"by its ending, one of: \.csv, \.jsonl, \.parquet"):
            do(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_layouts_are_checked(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="unknown layout 'wide'; choose one of: default, film"):
        write_faces(tmp_path / "a.csv", WALL, layout="wide")
    with pytest.raises(OptionError, match=r"a\.jsonl: the film layout is for \.csv only"):
        Sink(tmp_path / "a.jsonl", labels=EIGHT, layout="film")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_file(ending: str, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no such file"):
        read_faces(tmp_path / f"a{ending}")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "lacks the columns source, frame, time"),
        ("a.csv", b"a,b\n1,2\n", "lacks the columns source"),
        ("a.csv", ",".join(FILM_NAMES).encode() + b"\n", "in the film layout"),
        ("a.jsonl", b"not json\n", "line 1: not the row of a table"),
        ("a.jsonl", b"[1]\n", "line 1: not the row of a table"),
        ("a.jsonl", b'{"source": "a"}\n', "line 1: not the row of a table"),
        ("a.jsonl", b"\xff\xfe\n", "line 1: not the row of a table"),
        ("a.jsonl", b'{"scores": {"happy": 1}}\n', "a label set needs at least two labels"),
        ("a.parquet", b"PAR1", "not a Parquet file of faces"),
    ],
)
def test_files_of_something_else(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_faces(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",0.91,", ",much,", "column happy: .*much.* is not a value of that column"),
        (",false,", ",perhaps,", "column carried: 'perhaps' is not a value of that column"),
        ("a.jpg,0,", "a.jpg,,", "column frame: .* is not a value of that column"),
        ("a.jpg,0,", f"a.jpg,{2**70},", "column frame: .* is not a value of that column"),
        ("no_face", "sleepy", "unknown reason 'sleepy'; choose one of"),
        ("no_face", "no_face,1", "does not have 34 cells"),
        ("wall.jpg", '"wall.jpg', "line 3: unexpected end of data"),
    ],
)
def test_cells_that_are_no_values(old: str, new: str, said: str, pair: Faces, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write_faces(path, pair)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=said):
        read_faces(path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"frame": 0', '"frame": null', "column frame: None is not a value of that column"),
        ('"frame": 0', '"frame": "x"', "column frame: .* is not a value of that column"),
        ("50.0, 70.0]", "50.0]", "line 1: not the row of a table"),
        ('"nose"', '"chin"', "line 1: not the row of a table"),
    ],
)
def test_rows_that_are_none(old: str, new: str, said: str, pair: Faces, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_faces(path, pair)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=said):
        read_faces(path)


@pytest.mark.parametrize(("name", "values"), [("frame", ["x", "y"]), ("x1", ["x", "y"]), ("carried", [None, True])])
def test_arrow_columns_of_something_else(name: str, values: list[Any], pair: Faces) -> None:
    table = pair.to_arrow()
    changed = table.set_column(table.column_names.index(name), name, [values])
    with pytest.raises(DataError, match=f"column {name}: .* is not a value of that column"):
        from_arrow(changed)


def test_a_row_that_was_cut_off_is_named(pair: Faces, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_faces(path, pair)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="line 2: not the row of a table"):
        read_faces(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_other_labels_than_wanted(ending: str, tmp_path: Path) -> None:
    write_faces(tmp_path / f"a{ending}", WALL)
    with pytest.raises(DataError, match=r"holds the labels angry, .*, not negative, happy, neutral"):
        read_faces(tmp_path / f"a{ending}", labels=THREE)


def test_parquet_of_another_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="lacks the columns source"):
        read_faces(tmp_path / "a.parquet")


def test_without_pyarrow_the_extra_is_named(pair: Faces, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_faces(tmp_path / "a.parquet", pair)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    read, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    ways = (
        pair.to_arrow,
        lambda: read_faces(read),
        lambda: write_faces(other, pair),
        lambda: Sink(other, labels=EIGHT),
    )
    for do in ways:
        with pytest.raises(MissingExtraError, match=r"mien\[parquet\]"):
            do()
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_unwritable_outputs(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"folder{ending}").mkdir()
    (tmp_path / "file").touch()
    cases = {
        tmp_path / "none" / f"a{ending}": "its folder does not exist; make the folder first",
        tmp_path / f"folder{ending}": "it is a folder; name a file",
        tmp_path / "file" / f"a{ending}": "a part of its path is a file",
    }
    for path, why in cases.items():
        for do in (lambda p: write_faces(p, WALL), lambda p: Sink(p, labels=EIGHT)):
            with pytest.raises(OutputError, match=why) as caught:
                do(path)
            assert str(caught.value).startswith(f"{path}: cannot be written: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", f"folder{ending}"]


@pytest.mark.parametrize(
    ("number", "why"),
    [(errno.EACCES, "no permission; choose another folder"), (errno.ENOSPC, "the disk is full"), (errno.EIO, "broken")],
)
def test_what_the_system_says(number: int, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(number, "broken")

    write_faces(tmp_path / "a.csv", WALL)
    before = (tmp_path / "a.csv").read_bytes()
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match=why):
        write_faces(tmp_path / "a.csv", portrait())
    assert (tmp_path / "a.csv").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


# The film layout


def test_film_rows_have_a_row_for_every_frame(tmp_path: Path) -> None:
    faces = Faces.concat(
        [
            portrait(source="c,1.mp4", frame=0),
            portrait("sad", source="c,1.mp4", frame=0, face=1, box=[0.5, 1, 2, 3], reason=int(Reason.LOW_SCORE)),
            Faces.missing("c,1.mp4", Reason.NO_FACE, frame=1),
            Faces.missing("c,1.mp4", Reason.UNREADABLE, frame=2),
            portrait("fear", source="c,1.mp4", frame=3, box=np.nan),
        ]
    )
    path = tmp_path / "film.csv"
    write_faces(path, faces, layout="film")
    header, *rows = csv.reader(io.StringIO(path.read_text()))
    assert header == ["frame", "faces", "expressions", "file", "boxes"] == list(FILM_NAMES)
    assert rows == [
        ["0", "2", "happy|?", "c,1.mp4", "10.0 20.0 50.0 70.0|0.5 1.0 2.0 3.0"],
        ["1", "0", "", "c,1.mp4", ""],
        ["2", "0", "", "c,1.mp4", ""],
        ["3", "1", "fear", "c,1.mp4", ""],
    ]
    assert film_rows(faces) == [tuple(row) for row in rows]


def test_every_array_is_in_the_files() -> None:
    assert {n for c in ARRAYS for n in c.names} <= set(flat_names(EIGHT.labels))
