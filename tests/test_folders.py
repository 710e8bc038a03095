"""Class folders of any labels, pictures of any size, and options that hold for every form."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest

from mien import image
from mien.data.folders import list_folders, split_names
from mien.data.importers import read_fer2013, read_labelled
from mien.errors import DataError, OptionError, SourceNotFoundError
from mien.labels import EIGHT, FIVE, SEVEN, SIX, LabelSet, labels_from


def put(file: Path, value: int = 0, *, side: int = 48) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(cv2.imencode(file.suffix, np.full((side, side), value, np.uint8))[1].tobytes())


def tree(root: Path, *files: str) -> Path:
    for value, file in enumerate(files):
        put(root / file, value)
    return root


def found(root: Path) -> list[tuple[str, str, str, str]]:
    listed = list_folders(root)
    return list(zip(*(getattr(listed, f).tolist() for f in ("path", "label", "split", "person")), strict=True))


@pytest.mark.parametrize("outer", ["", "archive/"])
def test_what_folders_mean(tmp_path: Path, outer: str) -> None:
    root = tree(
        tmp_path,
        f"{outer}train/smile/a.png",
        f"{outer}train/pout/Ann/a.png",
        f"{outer}test/pout/Bob/deep/a.png",
    )
    assert found(root) == [
        (f"{outer}test/pout/Bob/deep/a.png", "pout", "test", "Bob"),
        (f"{outer}train/pout/Ann/a.png", "pout", "train", "Ann"),
        (f"{outer}train/smile/a.png", "smile", "train", ""),
    ]


def test_labels_without_splits(tmp_path: Path) -> None:
    root = tree(tmp_path, "0/a.png", "1/a.png", "10/a.png", "2/a.JPG", ".hidden/a.png", "1/.a.png")
    faces = read_labelled(root)
    assert faces.labels.labels == ("0", "1", "2", "10")
    assert faces.label.tolist() == [0, 1, 3, 2]
    assert set(faces.split.tolist()) == {"Training"}
    assert faces.vote_labels is faces.labels
    assert not faces.votes.any()


def test_one_folder_above_all_pictures_is_no_person(tmp_path: Path) -> None:
    assert {row[3] for row in found(tree(tmp_path, "pout/images/a.png", "smile/images/b.png"))} == {""}
    assert {row[3] for row in found(tree(tmp_path / "x", "pout/Ann/a.png", "smile/Bob/b.png"))} == {"Ann", "Bob"}


def test_a_wrapper_of_known_labels_is_seen_through_and_a_label_is_no_wrapper(tmp_path: Path) -> None:
    assert {row[1] for row in found(tree(tmp_path, "faces/happy/a.png", "faces/sad/a.png"))} == {"happy", "sad"}
    assert {row[1] for row in found(tree(tmp_path / "x", "happy/sad/a.png", "happy/angry/b.png"))} == {"happy"}


def test_labels_that_are_ours_come_in_our_order_and_spelling(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/Sadness/a.png", "train/anger/b.png", "val/sad/c.png", "val/smirk/d.png")
    faces = read_labelled(root)
    assert faces.labels.labels == ("angry", "sad", "smirk")
    assert [faces.labels.labels[k] for k in faces.label] == ["sad", "angry", "sad", "smirk"]
    assert faces.split.tolist() == ["Training"] * 2 + ["PublicTest"] * 2
    seven = read_labelled(tree(tmp_path / "seven", *(f"{name}/a.png" for name in SEVEN)))
    assert seven.labels is SEVEN
    assert seven.vote_labels is EIGHT


@pytest.mark.parametrize(
    ("names", "called"),
    [
        (["train", "test"], {"train": "Training", "test": "PublicTest"}),
        (["VALID", "Test", ""], {"VALID": "PublicTest", "Test": "PrivateTest", "": "Training"}),
        (["Training", "PublicTest", "PrivateTest"], {n: n for n in ("Training", "PublicTest", "PrivateTest")}),
        (["fold 1"], {"fold 1": "fold 1"}),
    ],
)
def test_what_splits_are_called(names: list[str], called: dict[str, str]) -> None:
    assert split_names(names) == called


def test_a_damaged_picture_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    tree(tmp_path, "pout/a.png", "smile/b.png", "smile/c.jpg", "loose.png")
    whole = (tmp_path / "smile" / "c.jpg").read_bytes()
    damages = {"pout/cut.jpg": whole[: len(whole) // 2], "pout/empty.png": b"", "smile/text.png": b"text"}
    for name, content in damages.items():
        (tmp_path / name).write_bytes(content)
    faces = read_labelled(tmp_path)
    assert faces.name.tolist() == ["pout/a.png", "smile/b.png", "smile/c.jpg"]
    assert [line.split(": ")[0] for line in faces.problems] == [
        str(tmp_path / n) for n in ("loose.png", "pout/cut.jpg", "pout/empty.png", "smile/text.png")
    ]
    assert all("\n" not in line and line.split(": ")[1] for line in faces.problems)


@pytest.mark.parametrize("suffix", [".heic", ".avif", ".jxl"])
def test_a_kind_that_cannot_be_read_is_named_too(tmp_path: Path, suffix: str) -> None:
    tree(tmp_path, "pout/a.png", "smile/b.png")
    (tmp_path / "pout" / f"x{suffix}").write_bytes(b"\0\0\0\x18ftypheic")
    assert f"x{suffix}" in read_labelled(tmp_path).problems[0]


def test_any_size_comes_to_the_side_and_colour(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 256, (60, 96, 3), np.uint8)
    tree(tmp_path, "pout/a.png", "smile/b.png")
    PIL.Image.fromarray(wide).save(tmp_path / "pout" / "a.png")
    rgb = read_labelled(tmp_path, side=32, colour="rgb").images
    assert rgb.shape == (2, 32, 32, 3)
    np.testing.assert_array_equal(rgb[0], image.resize(wide, 32, 32))
    grey = read_labelled(tmp_path, side=32).images
    assert grey.shape == (2, 32, 32)
    expected = PIL.Image.fromarray(image.resize(wide, 32, 32)).convert("L")
    assert np.abs(grey[0].astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_orientation_is_respected(tmp_path: Path, orientation: int, turn: int) -> None:
    upright = np.zeros((48, 48), np.uint8)
    upright[:, :24] = 255
    tree(tmp_path, "smile/b.png")
    exif = PIL.Image.Exif()
    exif[0x112] = orientation
    (tmp_path / "pout").mkdir()
    PIL.Image.fromarray(upright).save(tmp_path / "pout" / "a.jpg", exif=exif, quality=95)
    seen = read_labelled(tmp_path).images[0].astype(int)
    assert np.abs(seen - np.rot90(upright, turn)).mean() < 3


def test_a_table_of_pixels_comes_to_the_side_and_colour_too(tmp_path: Path) -> None:
    shown = np.random.default_rng(0).integers(0, 256, (2, 48, 48), np.uint8)
    rows = [f"{k},{' '.join(map(str, face.ravel()))}" for k, face in enumerate(shown)]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels", *rows]), encoding="utf-8")
    assert read_labelled(tmp_path).images.tolist() == shown.tolist()
    rgb = read_labelled(tmp_path, side=24, colour="rgb")
    assert rgb.images.shape == (2, 24, 24, 3)
    np.testing.assert_array_equal(rgb.images[1], image.resize(np.repeat(shown[1, :, :, None], 3, 2), 24, 24))
    assert rgb.group.tolist() == [0, 1]


@pytest.mark.parametrize(("change", "words"), [({"side": 0}, "side is 0"), ({"colour": "sepia"}, "colour 'sepia'")])
def test_impossible_crops_are_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        read_labelled(tmp_path, **change)


def test_labels_merge_and_drop(tmp_path: Path) -> None:
    root = tree(tmp_path, *(f"{name}/{i}.png" for i in range(2) for name in SEVEN))
    assert np.bincount(read_labelled(root, labels=SIX).label).tolist() == [4, 2, 2, 2, 2, 2]
    assert len(read_labelled(root, labels=FIVE)) == 14
    dropped = read_labelled(root, drop=("disgust", "fear"))
    assert dropped.labels is FIVE
    assert len(dropped) == 10
    moods = read_labelled(root, merge={"disgust": "bad", "angry": "bad"}).labels
    assert moods.labels == ("fear", "happy", "sad", "surprise", "neutral", "bad")
    assert read_labelled(root, merge={"disgust": "Anger"}).labels is SIX
    own = read_labelled(tree(tmp_path / "x", "0/a.png", "1/b.png"), labels=labels_from("neutral,smile"),
                        merge={"0": "neutral", "1": "smile"})  # fmt: skip
    assert own.labels == LabelSet("custom", ("neutral", "smile"))
    assert own.label.tolist() == [0, 1]


def test_so_many_of_each_class_are_drawn_before_any_is_read(tmp_path: Path) -> None:
    root = tree(tmp_path, *(f"{name}/{i}.png" for i in range(9) for name in ("pout", "smile")))
    drawn = read_labelled(root, per_class=3, seed=1)
    for name in {*(f.relative_to(root).as_posix() for f in root.rglob("*.png"))} - set(drawn.name.tolist()):
        (root / name).write_bytes(b"damaged")
    again = read_labelled(root, per_class=3, seed=1)
    assert np.bincount(again.label).tolist() == [3, 3]
    assert again.name.tolist() == drawn.name.tolist()
    assert not again.problems
    with pytest.raises(DataError, match=r"10 faces of each class are asked for, but 'pout' has 9"):
        read_labelled(root, per_class=10)


def test_one_split(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/a/1.png", "train/b/2.png", "test/a/3.png")
    assert read_labelled(root, split="PublicTest").name.tolist() == ["test/a/3.png"]
    with pytest.raises(DataError, match="the split 'Private' is empty; the data has PublicTest, Training") as caught:
        read_labelled(root, split="Private")
    assert str(root) in str(caught.value)


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        ((), {}, r"no \.parquet, no fer2013\.csv, .* and no folders of pictures, one a label"),
        (("a.png", "b.png"), {}, "no folders of pictures"),
        (("smile/a.png", "smile/b.png"), {}, "all 2 pictures are 'smile'; at least two classes are needed"),
        (("smile/a.png", "pout/b.png"), {"labels": SIX}, "unknown label 'pout'; choose one of: angry, fear"),
        (("smile/a.png", "pout/b.png"), {"drop": ("smirk",)}, "unknown label 'smirk'"),
    ],
)
def test_what_is_no_use_stops_with_one_line(
    tmp_path: Path, files: tuple[str, ...], options: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_labelled(tree(tmp_path, *files), **options)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_left_has_two_labels(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="at least two labels"):
        read_labelled(tree(tmp_path, "smile/a.png", "pout/b.png"), drop=("smile", "pout"))


def test_no_picture_at_all_can_be_used(tmp_path: Path) -> None:
    for name in ("smile", "pout"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"none of 2 pictures can be used; the first: .*pout/a\.png: not a picture"):
        read_labelled(tmp_path)


@pytest.mark.parametrize(("name", "content"), [("a.xlsx", b"x"), ("a.png", b"x")])
def test_a_file_of_no_form_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"no form of labelled faces; a file ends in \.csv"):
        read_labelled(tmp_path / name)
    with pytest.raises(SourceNotFoundError, match="gone: no such file or folder"):
        read_labelled(tmp_path / "gone")


def test_an_attribute_is_for_lists_alone(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="class folders have no attribute 'Smiling'"):
        read_labelled(tree(tmp_path / "a", "x/a.png", "y/a.png"), attribute="Smiling")
    (tmp_path / "fer2013.csv").write_text("emotion,pixels\n", encoding="utf-8")
    with pytest.raises(OptionError, match="FER2013 has no attribute 'Smiling'"):
        read_labelled(tmp_path, attribute="Smiling")


@pytest.mark.shared
def test_the_mouths(shared: Path) -> None:
    faces = read_labelled(shared / "mouth", side=60, merge={"0": "neutral", "1": "smile"})
    assert faces.labels.labels == ("neutral", "smile")
    assert np.bincount(faces.label).tolist() == [500, 500]
    assert faces.images.shape == (1000, 60, 60)
    assert faces.problems == ()


@pytest.mark.shared
def test_fer2013_reads_alike_by_both_readers(shared: Path) -> None:
    file = shared / "fer2013" / "publictest.parquet"
    one, other = read_labelled(file), read_fer2013(file)
    np.testing.assert_array_equal(one.images, other.images)
    merged = read_labelled(file, labels=SIX)
    assert np.bincount(merged.label).tolist() == [467 + 56, 496, 895, 653, 415, 607]
    np.testing.assert_allclose(merged.votes.sum(1), other.votes.sum(1))
