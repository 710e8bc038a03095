from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.data.faces import LabelledFaces
from mien.data.split import split_share, split_training, units
from mien.errors import DataError, OptionError


def table(path: Path, rows: list[tuple[str, int]]) -> Path:
    """fer2013.csv in which a row is a split and the number of its picture: equal numbers, equal pixels."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (max(n for _, n in rows) + 1, 48 * 48))
    lines = [f"{n % 7},{' '.join(map(str, pictures[n]))},{usage}" for usage, n in rows]
    path.write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    return path


def test_no_picture_of_publictest_is_trained_on_and_twins_stay_together(tmp_path: Path) -> None:
    rows = [("Training", n) for n in (*range(20), 3, 4, 4)] + [("PublicTest", n) for n in (5, 6, 30)]
    split = split_training(table(tmp_path / "fer2013.csv", rows), validation=0.3, seed=4)
    assert split.dropped == 2
    assert len(split.train) + len(split.validation) == 21
    assert not set(split.train.group.tolist()) & set(split.validation.group.tolist())
    assert len(np.unique(split.validation.group)) == round(0.3 * 18)
    again = split_training(tmp_path / "fer2013.csv", validation=0.3, seed=4)
    assert again.validation.name.tolist() == split.validation.name.tolist()


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Training"):
        split_training(table(tmp_path / "fer2013.csv", [("PublicTest", 0)]), validation=0.1, seed=1)


def faces(
    label: list[int], *, group: list[int] | None = None, person: list[str] | None = None, split: list[str] | None = None
) -> LabelledFaces:
    """Faces whose name is their row and whose picture is their group."""
    n = len(label)
    groups = np.array(group or range(n), np.int64)
    return LabelledFaces(
        images=groups.astype(np.uint8)[:, None, None],
        label=np.array(label, np.int64),
        votes=np.zeros((n, 10), np.float32),
        split=np.array(split or ["Training"] * n, np.str_),
        group=groups,
        name=np.arange(n).astype(np.str_),
        person=np.array(person or [""] * n, np.str_),
    )


@st.composite
def sets(draw: st.DrawFn) -> LabelledFaces:
    n = draw(st.integers(6, 40))

    def column(values: st.SearchStrategy[object]) -> list[object]:
        return draw(st.lists(values, min_size=n, max_size=n))

    label = [0, 1, *column(st.integers(0, 3))[2:]]
    group, person = column(st.integers(0, n)), column(st.sampled_from(["", "Ann", "Bob", "Cem", "Dot", "Eve"]))
    return faces(label, group=group, person=person)


def names(*parts: LabelledFaces) -> list[str]:
    return sorted((name for part in parts for name in part.name.tolist()), key=int)


def shares(what: str, one: LabelledFaces, other: LabelledFaces) -> bool:
    return bool((set(getattr(one, what).tolist()) & set(getattr(other, what).tolist())) - {""})


@settings(max_examples=60)
@given(sets(), st.sampled_from(["group", "person", "frame"]), st.floats(0.1, 0.9), st.integers(0, 5))
def test_a_split_divides_no_group_and_no_person_and_loses_nobody(
    whole: LabelledFaces, by: str, share: float, seed: int
) -> None:
    for cut in (
        lambda: split_share(whole, held=share, seed=seed, by=by),
        lambda: (lambda s: (s.train, s.validation))(split_training(whole, validation=share, seed=seed, by=by)),
    ):
        try:
            one, other = cut()
        except (DataError, OptionError) as error:
            assert "empty split" in str(error) or "no person is known" in str(error)  # noqa: PT017 - both are fine
            continue
        assert names(one, other) == names(whole)
        assert len(one)
        assert len(other)
        if by != "frame":
            assert not shares("group", one, other)
        if by == "person":
            assert not shares("person", one, other)


@settings(max_examples=60)
@given(sets(), st.sampled_from(["group", "person"]), st.floats(0.1, 0.9))
def test_no_class_has_more_than_its_share_held_out(whole: LabelledFaces, by: str, share: float) -> None:
    try:
        _, held = split_share(whole, held=share, seed=0, by=by)
    except (DataError, OptionError):
        return
    assert (np.bincount(held.label, minlength=4) < np.bincount(whole.label, minlength=4) * share + 1).all()
    assert len(held) <= round(len(whole) * share)


@settings(max_examples=60)
@given(st.lists(st.integers(-1, 5), min_size=8, max_size=80), st.floats(0.1, 0.9), st.integers(0, 9))
def test_nine_to_one_keeps_every_class_within_one(label: list[int], share: float, seed: int) -> None:
    whole = faces(label)
    rest, held = split_share(whole, held=share, seed=seed)
    for k in set(label):
        assert abs((held.label == k).sum() - share * label.count(k)) < 1
        assert (held.label == k).sum() + (rest.label == k).sum() == label.count(k)
    assert len(held) == round(share * len(label))
    assert held.name.tolist() == split_share(whole, held=share, seed=seed)[1].name.tolist()


def test_twins_do_not_keep_a_class_from_its_share() -> None:
    twins = faces([k % 3 for k in range(300)], group=[k // 2 if k < 40 else k for k in range(300)])
    _, held = split_share(twins, held=0.1, seed=1)
    assert np.bincount(held.label).tolist() == [10, 10, 10]


def test_people_are_held_out_whole_by_default_where_they_are_known() -> None:
    known = faces([0, 1] * 20, person=[f"person {i // 4}" for i in range(40)])
    split = split_training(known, validation=0.3, seed=1)
    assert len(set(split.validation.person.tolist())) == 3
    assert not shares("person", split.train, split.validation)
    by_frame = split_training(known, validation=0.3, seed=1, by="frame")
    assert shares("person", by_frame.train, by_frame.validation)


def test_pixel_equal_pictures_tie_people_together() -> None:
    tied = units(faces([0] * 6, group=[0, 1, 1, 3, 4, 4], person=["Ann", "Ann", "Bob", "Cem", "", ""]))
    assert tied.tolist() == [0, 0, 0, 1, 2, 2]


def test_faces_of_any_other_split_are_not_trained_on() -> None:
    whole = faces(
        [0, 1, 0, 1, 0, 1, 0, 1],
        group=[0, 1, 2, 3, 4, 5, 0, 1],
        split=["Training"] * 6 + ["PrivateTest", "fold 2"],
    )
    split = split_training(whole, validation=0.25, seed=0)
    assert split.dropped == 2
    assert names(split.train, split.validation) == ["2", "3", "4", "5"]


def test_votes_alone_are_enough_to_train_on() -> None:
    votes = np.zeros((6, 10), np.float32)
    votes[:4, 2], votes[4, 9] = 1, 1
    voted = faces([-1] * 6)
    told = LabelledFaces(voted.images, voted.label, votes, voted.split, voted.group, voted.name)
    split = split_training(told, validation=0.25, seed=0)
    assert names(split.train, split.validation) == ["0", "1", "2", "3"]
    with pytest.raises(DataError, match="no face of the split 'Training'"):
        split_training(voted, validation=0.25, seed=0)


@pytest.mark.parametrize(
    ("label", "options", "words"),
    [
        ([3, 3, 3], {"validation": 0.4}, "the data, split 'Training': all 3 faces are 'happy'; at least two"),
        ([0, 1, 2], {"validation": 0.1}, "validation 0.1 of 3 groups of pixel-equal pictures leaves an empty split"),
        ([0, 1, 2], {"validation": 0.9}, "leaves an empty split"),
        ([0, 1, 2], {"validation": 1.0}, "validation is 1.0; it is a share of at least 0 and below 1"),
        ([0, 1, 2], {"validation": -0.1}, "validation is -0.1"),
        ([0, 1, 2], {"validation": 0.4, "by": "hair"}, "cannot split by 'hair'; choose one of: group, person, frame"),
        ([0, 1, 2], {"validation": 0.4, "by": "person"}, "no person is known"),
    ],
)
def test_what_cannot_be_split_is_said_in_one_line(label: list[int], options: dict[str, object], words: str) -> None:
    with pytest.raises((DataError, OptionError), match=words):
        split_training(faces(label), seed=0, **options)


@pytest.mark.parametrize(("share", "words"), [(0.0, "share is 0.0"), (1.0, "share is 1.0"), (0.1, "an empty split")])
def test_what_cannot_be_shared_out_is_said(share: float, words: str) -> None:
    with pytest.raises((DataError, OptionError), match=words):
        split_share(faces([0, 1, 1]), held=share, seed=0)


def test_nothing_need_be_held_out() -> None:
    split = split_training(faces([0, 1, 2]), validation=0, seed=0)
    assert (len(split.train), len(split.validation)) == (3, 0)


@pytest.mark.shared
def test_fer2013_nine_to_one(shared: Path) -> None:
    split = split_training(shared / "fer2013", validation=0.1, seed=7)
    assert (len(split.train), len(split.validation), split.dropped) == (25523, 2835, 351)
    rest, held = split_share(split.train, held=0.1, seed=0)
    counts = np.bincount(split.train.label)
    assert np.abs(np.bincount(held.label) - counts / 10).max() <= 1
    assert not shares("group", rest, held)
