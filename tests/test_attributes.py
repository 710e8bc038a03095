"""Attribute lists in the form of CelebA, written small."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.data.importers import read_labelled
from mien.errors import DataError, OptionError
from mien.labels import labels_from

NAMES = ("Male", "Smiling", "Young")
ROWS = {f"{i:06}.jpg": (1 if i % 2 else -1, 1 if i % 3 else -1, -1) for i in range(1, 10)}


def pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        crop = np.full((20, 16, 3), 9 * i, np.uint8)
        (folder / name).write_bytes(cv2.imencode(".jpg", crop)[1].tobytes())


def celeba(folder: Path, *, place: str = "img_align_celeba") -> Path:
    pictures(folder / place, list(ROWS))
    lines = [str(len(ROWS)), " ".join(NAMES), *(f"{f}  " + "  ".join(map(str, v)) for f, v in ROWS.items())]
    file = folder / "list_attr_celeba.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def kaggle(folder: Path) -> Path:
    pictures(folder / "img_align_celeba" / "img_align_celeba", list(ROWS))
    lines = [",".join(("image_id", *NAMES)), *(f"{f}," + ",".join(map(str, v)) for f, v in ROWS.items())]
    file = folder / "list_attr_celeba.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("write", [celeba, kaggle])
def test_an_attribute_becomes_two_labels(tmp_path: Path, write: object) -> None:
    file = write(tmp_path)
    for path in (file, tmp_path):
        faces = read_labelled(path, attribute="smiling")
        assert faces.labels.labels == ("not_smiling", "smiling")
        assert faces.label.tolist() == [int(v[1] > 0) for v in ROWS.values()]
        assert faces.name.tolist() == list(ROWS)
        assert faces.columns["male"].tolist() == ["yes" if v[0] > 0 else "no" for v in ROWS.values()]
        assert set(faces.columns) == {"male", "young"}
        assert faces.images.shape == (9, 48, 48)
        assert abs(int(faces.images[5, 0, 0]) - 45) <= 2


@pytest.mark.parametrize("place", [".", "images", "img_align_celeba"])
def test_where_the_pictures_lie(tmp_path: Path, place: str) -> None:
    assert len(read_labelled(celeba(tmp_path, place=place), attribute="Male")) == 9


def test_celebas_own_folders(tmp_path: Path) -> None:
    (tmp_path / "Anno").mkdir()
    celeba(tmp_path / "Anno", place="../Img/img_align_celeba")
    people = "\n".join(f"{f} {i // 2}" for i, f in enumerate(ROWS))
    (tmp_path / "Anno" / "identity_CelebA.txt").write_text(people, encoding="utf-8")
    (tmp_path / "Eval").mkdir()
    splits = "\n".join(f"{f} {i % 3}" for i, f in enumerate(ROWS))
    (tmp_path / "Eval" / "list_eval_partition.txt").write_text(splits, encoding="utf-8")
    faces = read_labelled(tmp_path, attribute="Smiling")
    assert faces.person.tolist() == [str(i // 2) for i in range(9)]
    assert faces.split.tolist() == ["Training", "PublicTest", "PrivateTest"] * 3


def test_a_balanced_subset_under_names_of_ones_own(tmp_path: Path) -> None:
    faces = read_labelled(
        celeba(tmp_path),
        attribute="Smiling",
        per_class=3,
        labels=labels_from("neutral,smile"),
        merge={"not_smiling": "neutral", "smiling": "smile"},
    )
    assert np.bincount(faces.label).tolist() == [3, 3]
    assert faces.labels.labels == ("neutral", "smile")


def test_a_list_of_one_attribute_of_0_and_1_needs_no_name(tmp_path: Path) -> None:
    pictures(tmp_path, ["a.jpg", "b.jpg"])
    (tmp_path / "smile.csv").write_text("file,Smiling\na.jpg,0\nb.jpg,1\n", encoding="utf-8")
    assert read_labelled(tmp_path / "smile.csv").label.tolist() == [0, 1]


def test_a_lost_picture_is_named(tmp_path: Path) -> None:
    file = celeba(tmp_path)
    (tmp_path / "img_align_celeba" / "000004.jpg").unlink()
    faces = read_labelled(file, attribute="Smiling")
    assert len(faces) == 8
    assert [line.rpartition("/")[2] for line in faces.problems] == ["000004.jpg: no such file"]


@pytest.mark.parametrize(
    ("attribute", "words"),
    [(None, "name one attribute, as with --attribute Smiling; there are: Male, Sm"), ("Hat", "no attribute 'Hat'")],
)
def test_an_attribute_is_named(tmp_path: Path, attribute: str | None, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        read_labelled(celeba(tmp_path), attribute=attribute)


HEAD = "2\nA B\na.jpg 1 -1\n"
DAMAGES = {
    "cut off": (HEAD, "1 rows, but its first line says 2; is it cut off"),
    "a short row": (HEAD + "b.jpg 1\n", "line 4: 1 values; there are 2 attributes"),
    "a word": (HEAD + "b.jpg 1 x\n", "line 4: the value 'x'; an attribute is 1 or -1"),
    "no number": ("a.jpg 1\n", "its first line is 'a.jpg 1'; a list of attributes begins with a number"),
    "empty": ("", "its first line is ''"),
    "no text": (b"\xff\xfe", "not a list of attributes"),
    "no pictures": (
        "2\nA B\na.jpg 1 1\nb.jpg 1 -1\n",
        r"a\.jpg and the next pictures lie neither beside it nor in img",
    ),
}


@pytest.mark.parametrize(("content", "words"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_in_one_line(tmp_path: Path, content: str | bytes, words: str) -> None:
    file = tmp_path / "list.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=words) as caught:
        read_labelled(file, attribute="A")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_split_that_celeba_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "list_eval_partition.csv").write_text("image_id,partition\n000001.jpg,7\n", encoding="utf-8")
    with pytest.raises(DataError, match="a split of CelebA is 0, 1 or 2, list_eval_partition has '7'"):
        read_labelled(celeba(tmp_path), attribute="Male")


def test_everybody_smiles(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all 9 pictures are 'not_young'; at least two classes"):
        read_labelled(celeba(tmp_path), attribute="Young")
