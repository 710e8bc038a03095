"""Lists of pictures: written and read again in every form, and what is said of a damaged one."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.data.importers import read_labelled
from mien.data.manifest import FORMS, Manifest, read_manifest, write_manifest
from mien.errors import DataError, MissingExtraError, OptionError, OutputError, ShapeError, SourceNotFoundError
from mien.labels import EIGHT, LabelSet

MOODS = LabelSet("custom", ("happy", "smirk", "two, words"))
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8).map(str.strip)
VOTES = st.floats(0, 100, width=32)


def text(*words: str) -> np.ndarray:
    return np.array(words, np.str_)


def png(value: int, side: int = 48) -> bytes:
    return cv2.imencode(".png", np.full((side, side), value, np.uint8))[1].tobytes()


def two(folder: Path, **changes: object) -> Manifest:
    plain = {"path": text("a.png", "b.png"), "label": text("smile", "pout"), "person": text("Ann", ""), "root": folder}
    return Manifest(**plain | {"split": text("train", "")} | changes)


def same(one: Manifest, other: Manifest) -> None:
    for what in ("path", "label", "person", "split", "votes"):
        np.testing.assert_array_equal(getattr(one, what), getattr(other, what))
    assert {k: v.tolist() for k, v in one.columns.items()} == {k: v.tolist() for k, v in other.columns.items()}
    assert one.pictures == other.pictures
    assert (one.vote_labels and one.vote_labels.labels) == (other.vote_labels and other.vote_labels.labels)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    n = draw(st.integers(1, 4))

    def column() -> np.ndarray:
        return text(*draw(st.lists(WORDS, min_size=n, max_size=n)))

    voted = draw(st.booleans())
    votes = [draw(st.lists(VOTES, min_size=5, max_size=5)) for _ in range(n)] if voted else []
    names = draw(st.lists(st.sampled_from(["source", "licence", "age band", "ü,"]), unique=True))
    return Manifest(
        path=text(*(f"folder {i}/ä,{i}.png" for i in range(n))),
        label=column(),
        person=column(),
        split=column(),
        columns={name: column() for name in names},
        **({"votes": np.array(votes, np.float32), "vote_labels": MOODS} if voted else {}),
    )


@pytest.mark.parametrize("ending", FORMS)
@settings(max_examples=30)
@given(manifest=manifests())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, ending: str, manifest: Manifest) -> None:
    folder = tmp_path_factory.mktemp("lists")
    kept = replace(manifest, root=folder)
    write_manifest(folder / f"list{ending}", kept)
    again = read_manifest(folder / f"list{ending}")
    same(again, kept)
    assert again.root == folder


def test_paths_are_relative_to_the_list(tmp_path: Path) -> None:
    far = str(tmp_path / "far.png")
    manifest = two(tmp_path / "pictures", path=text("a.png", far))
    (tmp_path / "lists").mkdir()
    write_manifest(tmp_path / "lists" / "mine.csv", manifest)
    again = read_manifest(tmp_path / "lists" / "mine.csv")
    assert again.path.tolist() == ["../pictures/a.png", far]


def test_pictures_inside_the_list(tmp_path: Path) -> None:
    manifest = two(tmp_path, pictures=(png(10), png(200)))
    write_manifest(tmp_path / "mine.parquet", manifest)
    same(read_manifest(tmp_path / "mine.parquet"), manifest)
    faces = read_labelled(tmp_path)
    assert faces.images[:, 0, 0].tolist() == [10, 200]
    assert faces.labels.labels == ("pout", "smile")
    with pytest.raises(OptionError, match=r"holds its pictures is written as \.parquet"):
        write_manifest(tmp_path / "mine.csv", manifest)


def test_a_damaged_picture_inside_the_list_is_named(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", two(tmp_path, pictures=(png(10), b"text")))
    faces = read_labelled(tmp_path / "m.parquet")
    assert faces.name.tolist() == ["a.png"]
    assert faces.problems == ("b.png: not a picture (it begins with b'text')",)


def test_a_list_becomes_faces(tmp_path: Path) -> None:
    for i, name in enumerate(("a", "b", "c")):
        (tmp_path / f"{name}.png").write_bytes(png(50 * i, side=30 + 9 * i))
    rows = ["path,label,person,split,source,votes.happy,votes.sad,votes.unknown"]
    rows += ["a.png,Happiness,Ann,train,web,8,1,1", "b.png,sad,Bob,test,,0,2.5,", "c.png,,Ann,val,film,0,0,0"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    faces = read_labelled(tmp_path)
    assert faces.images.shape == (3, 48, 48)
    assert faces.images[:, 0, 0].tolist() == [0, 50, 100]
    assert faces.labels.labels == faces.vote_labels.labels == ("happy", "sad")
    assert faces.label.tolist() == [0, 1, -1]
    assert faces.votes.tolist() == [[8, 1, 1, 0], [0, 2.5, 0, 0], [0, 0, 0, 0]]
    assert faces.split.tolist() == ["Training", "PrivateTest", "PublicTest"]
    assert faces.person.tolist() == ["Ann", "Bob", "Ann"]
    assert {k: v.tolist() for k, v in faces.columns.items()} == {"source": ["web", "", "film"]}
    assert faces.name.tolist() == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize("ending", FORMS)
def test_votes_as_objects(tmp_path: Path, ending: str) -> None:
    told = [{"happy": 3, "Anger": 1, "not_a_face": 2}, None, {"contempt": 1}]
    file = tmp_path / f"m{ending}"
    if ending == ".parquet":
        pq.write_table(pa.table({"file": ["a", "b", "c"], "votes": told}), file)
    elif ending == ".jsonl":
        rows = [{"file": f} | ({"votes": v} if v else {}) for f, v in zip("abc", told, strict=True)]
        file.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    else:
        with file.open("w", newline="", encoding="utf-8") as lines:
            csv.writer(lines).writerows(
                [("file", "votes"), *((f, json.dumps(v) if v else "") for f, v in zip("abc", told, strict=True))]
            )
    manifest = read_manifest(file)
    assert manifest.vote_labels == LabelSet("custom", ("angry", "happy", "contempt"))
    assert manifest.labels() is manifest.vote_labels
    assert manifest.votes.tolist() == [[1, 3, 0, 0, 2], [0] * 5, [0, 0, 1, 0, 0]]


def test_votes_for_the_eight_are_our_set(tmp_path: Path) -> None:
    head = ",".join(["path", *(f"votes.{name}" for name in sorted(EIGHT))])
    (tmp_path / "m.csv").write_text(f"{head}\nx.png{',1' * 8}\n", encoding="utf-8")
    assert read_manifest(tmp_path / "m.csv").vote_labels is EIGHT


def test_another_column_may_be_the_label(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("path,label,age\na.png,x,30\nb.png,x,40\n", encoding="utf-8")
    manifest = read_manifest(tmp_path / "m.csv", label="age")
    assert manifest.label.tolist() == ["30", "40"]
    assert manifest.columns["label_column"].tolist() == ["x", "x"]


def test_numbers_of_a_data_frame_are_labels(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a", "b", "c"], "label": [1.0, None, float("nan")]}), tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet").label.tolist() == ["1", "", ""]


def test_files_of_one_set_are_its_splits(tmp_path: Path) -> None:
    for stem, first in (("train", 0), ("val", 100)):
        table = {"image": [png(first), png(first + 1)], "gender": ["f", "m"], stem: ["1", "2"]}
        pq.write_table(pa.table(table), tmp_path / f"{stem}.parquet")
    faces = read_labelled(tmp_path, attribute="gender")
    assert faces.split.tolist() == ["Training"] * 2 + ["PublicTest"] * 2
    assert faces.images[:, 0, 0].tolist() == [0, 1, 100, 101]
    assert faces.columns["val"].tolist() == ["", "", "1", "2"]


def test_joined_lists_start_from_their_own_folders(tmp_path: Path) -> None:
    both = Manifest.concat([two(tmp_path / "x"), two(tmp_path / "y")])
    assert [str(both.root / p) for p in both.path] == [str(tmp_path / f / p) for f in "xy" for p in ("a.png", "b.png")]
    with pytest.raises(DataError, match="2 lists cannot be joined"):
        Manifest.concat([two(tmp_path), two(tmp_path, votes=np.ones((2, 5), np.float32), vote_labels=MOODS)])


LINE = "path,label\na.png,x\n"
DAMAGES = {
    "no path": ("m.csv", "label\nx\n", "no column path; it has label"),
    "no label": ("m.csv", "path,age\na,1\n", "no column label and no votes; it has path, age"),
    "no such label": ("m.jsonl", '{"path": "a"}', "no column label"),
    "nothing": ("m.csv", "path,label\n", "the file lists no pictures"),
    "no header": ("m.csv", "", "the file lists no pictures"),
    "no lines": ("m.jsonl", "\n\n", "the file lists no pictures"),
    "a short row": ("m.csv", LINE + "b.png\n", "line 3: 1 fields; the header has 2"),
    "a long row": ("m.csv", LINE + "b.png,x,y\n", "line 3: 3 fields; the header has 2"),
    "a column twice": ("m.csv", "path,label,label\na,b,c\n", "the column 'label' stands there twice"),
    "no object": ("m.jsonl", '{"path": "a", "label": "x"}\n[1]\n', "line 2: not a JSON object"),
    "no JSON": ("m.jsonl", '{"path": "a"\n', "line 1: not a JSON object"),
    "no text": ("m.jsonl", b"\xff\xfe", "line 1: not a JSON object"),
    "no table": ("m.csv", b"path,label\n\xff,\xfe\n", "not a CSV file"),
    "no Parquet": ("m.parquet", b"text", "not a Parquet file"),
    "negative votes": ("m.csv", "path,votes.a,votes.b\nx,1,2\ny,-1,2\n", "line 3: the votes for 'a' are '-1'"),
    "no votes": ("m.csv", "path,votes.a,votes.b\nx,nan,2\n", "line 2: the votes for 'a' are 'nan'; a number of at le"),
    "words for votes": ("m.csv", "path,votes.a,votes.b\nx,y,2\n", "the votes for 'a' are 'y'"),
    "votes in both forms": ("m.csv", "path,votes,votes.a\nx,,2\n", r"a column votes and columns votes\.…"),
    "votes as a list": ("m.jsonl", '{"path": "a", "votes": [1, 2]}', r"line 1: votes are an object .*got \[1, 2\]"),
}


@pytest.mark.parametrize(("name", "content", "words"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_in_one_line(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=words) as caught:
        read_manifest(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("path,label\na.png,x\nb.png,x\n", "all 2 pictures are 'x'; at least two classes"),
        ("path,label\na.png,happy\nb.png,Joy\n", "at least two classes"),
        ("path,label\na.png,\n", "no picture has a label; at least two classes"),
        ("path,label,votes.a,votes.b\na.png,smirk,1,2\n", r"'smirk' is none of those that are voted for \(a, b\)"),
        ("path,label\na.png,x\nb.png,y\n", r"none of 2 pictures can be used; the first: .*a\.png: no such file"),
    ],
)
def test_what_is_no_use_stops_with_one_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "m.csv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=words) as caught:
        read_labelled(tmp_path / "m.csv")
    assert "\n" not in str(caught.value)


def test_no_such_list(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"gone\.csv: no such file"):
        read_manifest(tmp_path / "gone.csv")
    for act in (lambda: read_manifest(tmp_path / "m.xlsx"), lambda: write_manifest(tmp_path / "m.xlsx", two(tmp_path))):
        with pytest.raises(OptionError, match=r"known by its ending, one of: \.csv, \.jsonl, \.parquet"):
            act()


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "m.csv"
    file.write_text(LINE, encoding="utf-8")
    with pytest.raises(DataError, match="is no UTF-8; rename it"):
        write_manifest(file, two(tmp_path, path=text("a.png", "\udcff.png")))
    assert file.read_text(encoding="utf-8") == LINE
    assert [f.name for f in tmp_path.iterdir()] == ["m.csv"]
    with pytest.raises(OutputError, match="its folder does not exist"):
        write_manifest(tmp_path / "gone" / "m.csv", two(tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": text("x")}, "label: expected 2 rows"),
        ({"columns": {"age": text("x")}}, "age: expected 2 rows"),
        ({"vote_labels": MOODS}, r"votes: expected \(2, 5\)"),
    ],
)
def test_shapes_are_checked(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        two(tmp_path, **change)


@pytest.mark.parametrize("name", ["path", "label", "votes", "votes.happy", "image"])
def test_a_further_column_has_a_name_of_its_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=f"cannot be called '{name}'"):
        two(tmp_path, columns={name: text("x", "y")})


def test_rows_of_a_list(tmp_path: Path) -> None:
    manifest = two(tmp_path, columns={"age": text("30", "40")}, pictures=(b"x", b"y"))
    second = manifest[np.array([False, True])]
    assert (second.path.tolist(), second.columns["age"].tolist(), second.pictures) == (["b.png"], ["40"], (b"y",))


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[parquet\]'"):
        write_manifest(tmp_path / "m.parquet", two(tmp_path))
