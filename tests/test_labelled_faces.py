"""The set of labelled faces in memory: its shapes, its joining, its relabelling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.data.faces import LabelledFaces, pixel_groups
from mien.errors import DataError, ShapeError
from mien.labels import EIGHT, FIVE, SEVEN, SIX, THREE, LabelSet, projection


def some(n: int, *, seed: int = 0, **changes: object) -> LabelledFaces:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 3, (n, 2, 1), np.uint8)
    plain = {
        "images": images,
        "label": rng.integers(-1, 7, n),
        "votes": rng.integers(0, 4, (n, 10)).astype(np.float32),
        "split": rng.choice(["Training", "PublicTest"], n),
        "group": pixel_groups(images),
        "name": np.array([f"face {i}" for i in range(n)], np.str_),
        "person": rng.choice(["", "Ann", "Bob"], n),
        "columns": {"source": rng.choice(["web", ""], n)},
    }
    return LabelledFaces(**plain | changes)


def rows(faces: LabelledFaces) -> set[tuple[object, ...]]:
    columns = (faces.images, faces.label, faces.votes, faces.split, faces.name, faces.person, faces.columns["source"])
    return {tuple(np.asarray(v).tobytes() for v in row) for row in zip(*columns, strict=True)}


def test_what_is_not_told_is_unknown() -> None:
    plain = {"label": np.zeros(2, int), "votes": np.zeros((2, 10), np.float32), "split": np.array(["a", "b"])}
    faces = LabelledFaces(np.zeros((2, 4, 4), np.uint8), group=np.arange(2), name=np.array(["x", "y"]), **plain)
    assert faces.person.tolist() == ["", ""]
    assert (faces.labels, faces.vote_labels, dict(faces.columns), faces.problems) == (SEVEN, EIGHT, {}, ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": np.array(["x"])}, "name: expected 3 rows"),
        ({"person": np.array(["x", "y"])}, "person: expected 3 rows"),
        ({"columns": {"age": np.array(["x"])}}, "age: expected 3 rows"),
        ({"votes": np.zeros((3, 9), np.float32)}, r"votes: expected \(3, 10\): 8 labels, unknown, not-a-face"),
        ({"vote_labels": SIX}, r"votes: expected \(3, 8\)"),
        ({"label": np.array([0, 7, 1])}, "label: expected -1 to 6, got 0 to 7"),
        ({"label": np.array([0, -2, 1])}, "label: expected -1 to 6, got -2 to 1"),
    ],
)
def test_shapes_are_checked_at_the_border(change: dict[str, object], words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        some(3, **change)


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(0, 5), st.data())
def test_parts_that_are_joined_are_the_whole(n: int, seed: int, data: st.DataObject) -> None:
    whole = some(n, seed=seed)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    again = LabelledFaces.concat([whole[mask], whole[~mask]])
    assert rows(again) == rows(whole)
    assert len(again) == n
    back = np.concatenate([np.flatnonzero(mask), np.flatnonzero(~mask)])
    same = whole.group[back][:, None] == whole.group[back][None]
    np.testing.assert_array_equal(again.group[:, None] == again.group[None], same)


def test_joined_sets_keep_columns_and_problems_of_each() -> None:
    one = some(2, problems=("a.png: damaged",))
    two = some(1, columns={"age": np.array(["30"])}, problems=("a.png: damaged", "b.png: gone"))
    both = LabelledFaces.concat([one, two])
    assert both.columns["age"].tolist() == ["", "", "30"]
    assert both.columns["source"].tolist() == [*one.columns["source"], ""]
    assert both.problems == ("a.png: damaged", "b.png: gone")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"labels": LabelSet("mine", tuple("abcdefg"))}, "sets of other labels cannot be joined"),
        ({"vote_labels": LabelSet("mine", tuple("abcdefgh"))}, "angry,.*contempt and a,b,c"),
        ({"images": np.zeros((2, 3, 3), np.uint8)}, r"other picture sizes cannot be joined: \(2, 1\) and \(3, 3\)"),
    ],
)
def test_what_is_not_alike_is_not_joined(other: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        LabelledFaces.concat([some(2), some(2, **other)])


def test_nothing_is_not_joined() -> None:
    with pytest.raises(DataError, match="no set of faces"):
        LabelledFaces.concat([])


@pytest.mark.parametrize("target", [EIGHT, SEVEN, SIX, FIVE, THREE], ids=lambda s: s.name)
@settings(max_examples=30)
@given(seed=st.integers(0, 20))
def test_relabelled_faces_keep_their_votes_mass(target: LabelSet, seed: int) -> None:
    faces = some(9, seed=seed)
    moved = faces.relabelled(target)
    assert moved.labels is moved.vote_labels is target
    np.testing.assert_allclose(moved.votes.sum(1), faces.votes.sum(1))
    np.testing.assert_allclose(moved.crowd_weight(), faces.crowd_weight(), rtol=1e-6)
    np.testing.assert_array_equal(moved.votes[:, -2:], faces.votes[:, -2:])
    for before, after in zip(faces.label, moved.label, strict=True):
        if before < 0:
            assert after == -1
        else:
            assert projection(SEVEN, target)[before, after] == 1


def test_to_drop_is_not_to_merge() -> None:
    faces = some(200)
    merged, dropped = faces.relabelled(FIVE), faces.relabelled(FIVE, drop=("disgust", "fear"))
    gone = np.isin(faces.label, [SEVEN.index("disgust"), SEVEN.index("fear")])
    assert len(merged) == 200
    assert dropped.name.tolist() == faces.name[~gone].tolist()
    kept = faces.votes[~gone]
    unknown = kept[:, 8] + kept[:, EIGHT.index("disgust")] + kept[:, EIGHT.index("fear")]
    np.testing.assert_allclose(dropped.votes[:, 5], unknown)
    np.testing.assert_allclose(dropped.votes.sum(1), kept.sum(1))
    neutral = kept[:, EIGHT.index("neutral")] + kept[:, EIGHT.index("contempt")]
    np.testing.assert_allclose(dropped.votes[:, FIVE.index("neutral")], neutral)


def test_a_label_without_a_place_is_named_until_a_merge_or_drop_says_where() -> None:
    faces, moods = some(30), LabelSet("moods", ("smile", "other"))
    with pytest.raises(DataError, match=r"'angry'; choose one of: smile, other; or give the label a place by a merge"):
        faces.relabelled(moods)
    merge = dict.fromkeys(("angry", "disgust", "fear", "sad", "surprise", "neutral"), "other") | {"happy": "smile"}
    with pytest.raises(DataError, match="'contempt'"):
        faces.relabelled(moods, merge)
    moved = faces.relabelled(moods, merge, drop=("contempt",))
    assert len(moved) == 30
    assert (moved.label == 0).sum() == (faces.label == SEVEN.index("happy")).sum()
    unvoted = some(30, votes=np.zeros((30, 10), np.float32))
    assert unvoted.relabelled(moods, merge).votes.shape == (30, 4)


@pytest.mark.parametrize("options", [{"merge": {"smirk": "angry"}}, {"drop": ["smirk"]}])
def test_a_merge_of_what_is_not_there_is_an_error(options: dict[str, object]) -> None:
    with pytest.raises(DataError, match="unknown label 'smirk'; choose one of: angry"):
        some(3).relabelled(SIX, **options)


def test_fractions_of_votes_are_shares_too() -> None:
    faces = some(2, votes=np.array([[0.25, 0.25] + [0.0] * 8, [0.0] * 10], np.float32))
    assert faces.crowd()[0, :2].tolist() == [0.5, 0.5]
    assert faces.crowd_weight().tolist() == [1, 0]
    assert faces.crowd().dtype == faces.crowd_weight().dtype == np.float32
