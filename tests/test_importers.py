"""Every public form of FER2013, written small, and what is said of a damaged one."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mien.data.importers import LabelledFaces, read_fer2013, read_labelled
from mien.errors import DataError, MissingExtraError, SourceNotFoundError
from mien.labels import EIGHT, SEVEN

FERPLUS = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
SPLITS = ("Training", "PublicTest", "PrivateTest")


def pictures(n: int = 6) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, 48, 48), np.uint8)


def pixels(picture: np.ndarray) -> str:
    return " ".join(map(str, picture.ravel()))


def png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def write_csv(file: Path, faces: np.ndarray, labels: list[int], splits: list[str]) -> Path:
    rows = [f"{label},{pixels(face)},{split}" for label, face, split in zip(labels, faces, splits, strict=True)]
    file.write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n", encoding="utf-8")
    return file


def write_parquet(file: Path, **changes: object) -> Path:
    columns = {
        "image": [png(p) for p in pictures(3)],
        "label": [3, 0, 6],
        "usage": ["Training", "PublicTest", "Training"],
        "name": ["a.jpg", "b.jpg", "c.jpg"],
        "ferplus": [[0, 8, 1, 0, 0, 0, 0, 0, 1, 0], [1, 0, 0, 2, 3, 0, 0, 1, 3, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 10]],
    }
    kept = {k: v for k, v in (columns | changes).items() if v is not None}
    pq.write_table(pa.table(kept), file)
    return file


@pytest.mark.parametrize("label", range(7))
def test_fer2013_numbers_its_labels_as_we_do(tmp_path: Path, label: int) -> None:
    fer2013_order = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    faces = read_fer2013(write_csv(tmp_path / "fer2013.csv", pictures(1), [label], ["Training"]))
    assert SEVEN.labels[faces.label[0]] == fer2013_order[label]


def test_the_table_of_pixels(tmp_path: Path) -> None:
    shown = pictures()
    file = write_csv(tmp_path / "fer2013.csv", shown, [0, 1, 2, 3, 4, 6], [*SPLITS, *SPLITS])
    for path in (file, tmp_path):
        faces = read_fer2013(path)
        np.testing.assert_array_equal(faces.images, shown)
        assert faces.images.dtype == np.uint8
        assert faces.label.tolist() == [0, 1, 2, 3, 4, 6]
        assert faces.split.tolist() == [*SPLITS, *SPLITS]
        assert not faces.votes.any()
        assert faces.name[0] == "line 2"


def test_the_challenges_own_table_has_spaces_and_another_order(tmp_path: Path) -> None:
    shown = pictures(2)
    rows = [f"4, PrivateTest,{pixels(shown[0])}", f"5, Training ,{pixels(shown[1])}"]
    (tmp_path / "icml_face_data.csv").write_text("\n".join(["emotion, Usage, pixels", *rows]), encoding="utf-8")
    faces = read_fer2013(tmp_path)
    np.testing.assert_array_equal(faces.images, shown)
    assert faces.label.tolist() == [4, 5]
    assert faces.split.tolist() == ["PrivateTest", "Training"]


def test_a_table_without_usage_is_training(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(f"emotion,pixels\n3,{pixels(pictures(1)[0])}\n", encoding="utf-8")
    assert read_fer2013(tmp_path / "train.csv").split.tolist() == ["Training"]


@pytest.mark.parametrize("column", range(10))
def test_ferplus_votes_beside_the_table_come_into_our_order(tmp_path: Path, column: int) -> None:
    names = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
    write_csv(tmp_path / "fer2013.csv", pictures(1), [3], ["Training"])
    counts = [str(10 if i == column else 0) for i in range(10)]
    (tmp_path / "fer2013new.csv").write_text(f"{FERPLUS}\nTraining,a.png,{','.join(counts)}\n", encoding="utf-8")
    faces = read_fer2013(tmp_path)
    where = EIGHT.index(names[column]) if column < 8 else column
    assert faces.votes[0].tolist() == [10.0 if i == where else 0.0 for i in range(10)]


def test_the_votes_as_a_distribution(tmp_path: Path) -> None:
    faces = read_fer2013(write_parquet(tmp_path / "faces.parquet"))
    np.testing.assert_allclose(faces.crowd().sum(1), [1, 1, 0])
    assert faces.crowd()[0, EIGHT.index("happy")] == pytest.approx(8 / 9)
    np.testing.assert_allclose(faces.crowd_weight(), [0.9, 0.7, 0])


def test_parquet(tmp_path: Path) -> None:
    faces = read_fer2013(write_parquet(tmp_path / "faces.parquet"))
    np.testing.assert_array_equal(faces.images, pictures(3))
    assert faces.label.tolist() == [3, 0, 6]
    assert faces.split.tolist() == ["Training", "PublicTest", "Training"]
    assert faces.name.tolist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert read_fer2013(write_parquet(tmp_path / "nameless.PARQUET", name=None)).name.tolist() == ["0", "1", "2"]


def test_groups_hold_across_splits_and_files(tmp_path: Path) -> None:
    one, two, three = (png(p) for p in pictures(3))
    write_parquet(tmp_path / "a.parquet", image=[one, two, one])
    write_parquet(tmp_path / "b.parquet", image=[three, two, one])
    group = read_fer2013(tmp_path).group
    assert group.tolist() == [group[0], group[1], group[0], group[3], group[1], group[0]]
    assert len({group[0], group[1], group[3]}) == 3


def test_equal_pixels_in_other_bytes_are_one_group(tmp_path: Path) -> None:
    face = pictures(1)[0]
    webp = cv2.imencode(".webp", face, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    faces = read_fer2013(write_parquet(tmp_path / "a.parquet", image=[png(face), webp, png(255 - face)]))
    assert faces.group.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "Training"),
        ("test", "PublicTest"),
        ("validation", "PublicTest"),
        ("PrivateTest", "PrivateTest"),
        ("", "Training"),
    ],
)
def test_class_folders(tmp_path: Path, folder: str, split: str) -> None:
    face = pictures(1)[0]
    place = tmp_path / "data" / folder / "Happiness"
    place.mkdir(parents=True)
    (place / "x.png").write_bytes(png(face))
    (place / ".DS_Store").write_bytes(b"junk")
    faces = read_fer2013(tmp_path / "data")
    np.testing.assert_array_equal(faces.images[0], face)
    assert SEVEN.labels[faces.label[0]] == "happy"
    assert faces.split.tolist() == [split]
    assert faces.name[0].endswith("x.png")


def test_test_folders_beside_validation_folders_are_the_private_test(tmp_path: Path) -> None:
    for split, face in zip(("test", "train", "val"), pictures(3), strict=True):
        (tmp_path / split / "angry").mkdir(parents=True)
        (tmp_path / split / "angry" / "x.png").write_bytes(png(face))
    assert read_fer2013(tmp_path).split.tolist() == ["PrivateTest", "Training", "PublicTest"]


def test_pictures_of_another_size_are_brought_to_48(tmp_path: Path) -> None:
    (tmp_path / "sad").mkdir()
    (tmp_path / "sad" / "x.png").write_bytes(png(np.full((96, 60), 77, np.uint8)))
    np.testing.assert_array_equal(read_fer2013(tmp_path).images, np.full((1, 48, 48), 77))


def test_one_split(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "faces.parquet")
    faces = read_fer2013(file, split="Training")
    assert faces.name.tolist() == ["a.jpg", "c.jpg"]
    with pytest.raises(
        DataError, match=r"faces\.parquet: the split 'PrivateTest' is empty; the data has PublicTest, T"
    ):
        read_fer2013(file, split="PrivateTest")


def test_faces_are_cut_and_joined(tmp_path: Path) -> None:
    faces = read_fer2013(write_parquet(tmp_path / "faces.parquet"))
    again = LabelledFaces.concat([faces[:1], faces[np.array([1, 2])]])
    np.testing.assert_array_equal(again.images, faces.images)
    np.testing.assert_array_equal(again.group, faces.group)


def damaged_csv(text: str) -> object:
    return lambda folder: (folder / "fer2013.csv").write_text(text, encoding="utf-8")


def damaged_votes(text: str) -> object:
    def write(folder: Path) -> None:
        write_csv(folder / "fer2013.csv", pictures(1), [3], ["Training"])
        (folder / "fer2013new.csv").write_text(text, encoding="utf-8")

    return write


def damaged_folder(place: str, blob: bytes) -> object:
    def write(folder: Path) -> None:
        for name, content in {"happy/fine.png": png(pictures(1)[0]), place: blob}.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    return write


def damaged_parquet(**changes: object) -> object:
    return lambda folder: write_parquet(folder / "faces.parquet", **changes)


GOOD = pixels(pictures(1)[0])
DAMAGES = {
    "an empty folder": (lambda folder: None, r"no \.parquet, no fer2013\.csv, and no folders named by label \(angry"),
    "an empty table": (damaged_csv(""), r"fer2013\.csv: no column emotion, pixels"),
    "other columns": (damaged_csv("a,b\n1,2\n"), "no column emotion, pixels; fer2013.csv has"),
    "no rows": (damaged_csv("emotion,pixels,Usage\n"), "the file holds no faces"),
    "a cut row": (
        damaged_csv(f"emotion,pixels,Usage\n3,{GOOD}\n"),
        "line 2: 2 fields; expected 3, the file may be cut",
    ),
    "few pixels": (
        damaged_csv("emotion,pixels,Usage\n3,1 2 3,Training\n"),
        "line 2: expected 2304 pixel values, got 3",
    ),
    "words for pixels": (damaged_csv("emotion,pixels,Usage\n3,1 x 3,Training\n"), "line 2: a pixel is not a number"),
    "signs before pixels": (damaged_csv(f"emotion,pixels,Usage\n3,{'-1 ' * 2304},Training\n"), "there is '-'"),
    "no pixels": (damaged_csv("emotion,pixels,Usage\n3, ,Training\n"), "line 2: expected 2304 pixel values, got 0"),
    "too bright": (
        damaged_csv(f"emotion,pixels,Usage\n3,{'256 ' * 2304},Training\n"),
        "lie in 0 to 255, got 256 to 256",
    ),
    "a word for a label": (
        damaged_csv(f"emotion,pixels,Usage\nhappy,{GOOD},Training\n"),
        "line 2: the label is 'happy'",
    ),
    "an eighth label": (
        damaged_csv(f"emotion,pixels,Usage\n7,{GOOD},Training\n"),
        "the label is '7'; FER2013 has 0 to 6",
    ),
    "no text": (lambda f: (f / "fer2013.csv").write_bytes(b"\xff\xfe\x00\x81"), "not a CSV file"),
    "missing votes": (damaged_votes(FERPLUS + "\n"), "0 rows of votes beside 1 faces"),
    "words for votes": (
        damaged_votes(FERPLUS + "\nTraining,a," + "x," * 9 + "1\n"),
        "line 2: expected usage, name and 10",
    ),
    "few votes": (damaged_votes(FERPLUS + "\nTraining,a,1,2\n"), "line 2: expected usage, name and 10 votes, got 4"),
    "votes of another split": (
        damaged_votes(f"{FERPLUS}\nPublicTest,a{',1' * 10}\n"),
        "line 2: votes of a face of 'PublicTest' beside a face of 'Training'",
    ),
    "no picture": (damaged_folder("sad/x.jpg", b"text"), r"x\.jpg: not a picture"),
    "an empty picture": (damaged_folder("sad/x.jpg", b""), r"x\.jpg: the file is empty"),
    "an unknown folder": (damaged_folder("smirk/x.png", png(pictures(1)[0])), "its folder is no label of FER2013"),
    "no Parquet": (lambda f: (f / "faces.parquet").write_bytes(b"text"), r"faces\.parquet: not a Parquet file"),
    "no such column": (damaged_parquet(ferplus=None), "no column ferplus; it has image, label, usage, name"),
    "no faces": (damaged_parquet(image=[], label=[], usage=[], name=[], ferplus=[]), "the file holds no faces"),
    "a damaged picture": (
        damaged_parquet(image=[png(pictures(1)[0]), b"text", b""]),
        "row 1: expected a 48×48 picture, go",
    ),
    "a null picture": (damaged_parquet(image=[None, b"", b""]), "row 0: expected a 48×48 picture, got no picture"),
    "a large picture": (damaged_parquet(image=[png(np.zeros((50, 60), np.uint8))] * 3), "picture, got 60×50"),
    "a label of 9": (damaged_parquet(label=[3, 9, 0]), "row 1: the label is 9; FER2013 has 0 to 6"),
    "nine votes": (damaged_parquet(ferplus=[[1] * 10, [1] * 9, [1] * 10]), "row 1: expected 10 votes of FER"),
}


@pytest.mark.parametrize(("write", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_in_one_line(tmp_path: Path, write: object, message: str) -> None:
    write(tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        read_fer2013(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="gone: no such file or folder"):
        read_fer2013(tmp_path / "gone")


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_parquet(tmp_path / "faces.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[parquet\]'"):
        read_fer2013(file)


def test_votes_beside_a_table_without_splits_are_taken_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "fer2013.csv").write_text(f"emotion,pixels\n3,{GOOD}\n", encoding="utf-8")
    (tmp_path / "fer2013new.csv").write_text(f"{FERPLUS}\nPublicTest,a{',1' * 10}\n", encoding="utf-8")
    assert read_fer2013(tmp_path).votes.tolist() == [[1] * 10]


def test_a_folder_of_fer2013_and_another_table_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet")
    pq.write_table(pa.table({"path": ["x"], "label": ["y"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="some of its Parquet files are FER2013's, but b is not; name one file"):
        read_labelled(tmp_path)


@pytest.mark.parametrize("blank", ["", "\t", "  "])
def test_pixels_may_stand_between_any_blanks(tmp_path: Path, blank: str) -> None:
    shown = pictures(1)[0]
    text = blank + pixels(shown).replace(" ", " " + blank) + blank
    (tmp_path / "fer2013.csv").write_text(f"emotion,pixels\n3,{text}\n", encoding="utf-8")
    np.testing.assert_array_equal(read_fer2013(tmp_path).images[0], shown)


@pytest.mark.shared
def test_the_real_set_has_the_published_counts(shared: Path) -> None:
    faces = read_fer2013(shared / "fer2013")
    training, public = faces.of_split("Training"), faces.of_split("PublicTest")
    assert np.bincount(training.label).tolist() == [3995, 436, 4097, 7215, 4830, 3171, 4965]
    assert np.bincount(public.label).tolist() == [467, 56, 496, 895, 653, 415, 607]
    assert np.isin(public.group, training.group).sum() == 280
