from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mien.errors import MienError, OptionError, UnknownLabelError
from mien.labels import (
    EIGHT,
    EMOTICON_SIGNS,
    EMOTICONS,
    FIVE,
    LABEL_SETS,
    SEVEN,
    SIX,
    THREE,
    LabelSet,
    canonical,
    found_labels,
    label_set,
    labels_from,
    merges_from,
    projection,
)

OURS = [s for s in LABEL_SETS.values() if s is not EMOTICONS]
PAIRS = [(a, b) for a in OURS for b in OURS if len(b) <= len(a)] + [(EMOTICONS, EMOTICONS)]


def test_the_one_order() -> None:
    assert " ".join(EIGHT.labels) == "angry disgust fear happy sad surprise neutral contempt"
    assert " ".join(SEVEN) == "angry disgust fear happy sad surprise neutral"


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Happiness", "happy"),
        (" joy ", "happy"),
        ("ANGER", "angry"),
        ("scared", "fear"),
        ("surprised", "surprise"),
        ("neutrality", "neutral"),
        ("happy", "happy"),
        ("Smirk", "smirk"),
    ],
)
def test_spellings(word: str, expected: str) -> None:
    assert canonical(word) == expected
    assert canonical(canonical(word)) == expected


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=lambda s: s.name)
def test_every_set_knows_its_own_labels(labels: LabelSet) -> None:
    assert label_set(labels.name) is labels
    assert [labels.index(name) for name in labels] == list(range(len(labels)))
    assert all(canonical(name) == name for name in labels), "our sets use our spelling"


def test_a_set_finds_other_spellings() -> None:
    assert EIGHT.index("Happiness") == EIGHT.index("happy") == 3
    assert "Joy" in EIGHT
    assert "smirk" not in EIGHT
    assert 3 not in EIGHT


def test_a_set_of_somebody_else_keeps_its_spelling() -> None:
    theirs = LabelSet("theirs", ("Anger", "Happiness", "joy", "Pout"))
    assert list(theirs) == ["Anger", "Happiness", "joy", "Pout"]
    assert theirs.index("angry") == 0
    assert theirs.index("happy") == 1
    assert theirs.index("joy") == 2
    assert theirs.index("pout") == 3


@pytest.mark.parametrize(
    ("labels", "words"),
    [((), "at least two"), (("happy",), "at least two"), (("happy", "sad", "happy"), "twice")],
)
def test_a_set_needs_two_different_labels(labels: tuple[str, ...], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        LabelSet("mine", labels)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownLabelError, match="unknown label 'smirk'; choose one of: negative, happy, neutral"):
        THREE.index("smirk")
    with pytest.raises(
        UnknownLabelError, match="unknown label set 'nine'; choose one of: eight, seven, six, five, three"
    ):
        label_set("nine")


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=lambda s: s.name)
@settings(max_examples=30)
@given(data=st.data())
def test_projections_keep_probability_mass(source: LabelSet, target: LabelSet, data: st.DataObject) -> None:
    scores = data.draw(arrays(np.float64, (3, len(source)), elements=st.floats(0, 1)))
    projected = scores @ projection(source, target)
    assert projected.shape == (3, len(target))
    assert (projected >= 0).all()
    np.testing.assert_allclose(projected.sum(1), scores.sum(1), rtol=1e-9)


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=lambda s: s.name)
def test_a_projection_to_the_same_set_changes_nothing(labels: LabelSet) -> None:
    matrix = projection(labels, labels)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix, np.eye(len(labels)))


@pytest.mark.parametrize(
    ("target", "label", "goes_to"),
    [
        (SEVEN, "contempt", "neutral"),
        (SIX, "disgust", "angry"),
        (FIVE, "fear", "surprise"),
        (THREE, "contempt", "negative"),
        (THREE, "surprise", "neutral"),
        (THREE, "happy", "happy"),
    ],
)
def test_where_labels_go(target: LabelSet, label: str, goes_to: str) -> None:
    row = projection(EIGHT, target)[EIGHT.index(label)]
    assert target.labels[int(row.argmax())] == goes_to


def test_projections_in_two_steps_are_one() -> None:
    np.testing.assert_array_equal(projection(EIGHT, SIX) @ projection(SIX, FIVE), projection(EIGHT, FIVE))


def test_a_projection_reads_other_spellings() -> None:
    theirs = LabelSet("theirs", ("Happiness", "Anger", "Neutral"))
    np.testing.assert_array_equal(projection(theirs, THREE), [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    "target",
    [
        LabelSet("moods", ("happy", "neutral")),
        # Called like one of ours, but another set: our merges name labels that it does not have.
        LabelSet("three", ("happy", "pout", "neutral")),
    ],
    ids=lambda s: s.name,
)
def test_a_label_without_a_place_is_an_error_that_names_it(target: LabelSet) -> None:
    with pytest.raises(MienError, match="unknown label 'angry'; choose one of: happy"):
        projection(EIGHT, target)


@pytest.mark.parametrize(
    ("text", "name", "labels"),
    [
        ("six", "six", SIX.labels),
        ("smile, pout,neutral", "custom", ("smile", "pout", "neutral")),
        ("angry,happy,sad,surprise,neutral", "five", FIVE.labels),
        ("happy,angry", "custom", ("happy", "angry")),
        ("emoticons", "emoticons", EMOTICONS.labels),
    ],
)
def test_a_user_names_a_label_set(text: str, name: str, labels: tuple[str, ...]) -> None:
    assert labels_from(text) == LabelSet(name, labels)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sixteen", "unknown label set 'sixteen'; choose one of: eight, .*, or name labels, with commas"),
        ("", "unknown label set ''"),
        ("smile,,pout", "a name is empty in the labels 'smile,,pout'"),
        ("smile,pout,smile", "names a label twice"),
    ],
)
def test_what_is_no_label_set_is_said(text: str, words: str) -> None:
    with pytest.raises(MienError, match=words):
        labels_from(text)


def test_seventeen_emoticons_each_with_its_sign() -> None:
    assert len(EMOTICONS) == len(set(EMOTICON_SIGNS.values())) == 17
    assert tuple(EMOTICON_SIGNS) == EMOTICONS.labels
    assert all(sign.isascii() and " " not in sign for sign in EMOTICON_SIGNS.values())


def test_found_labels_are_ours_first_then_numbers_then_words() -> None:
    found = found_labels(["pout", "10", "Contempt", "2", "anger", "Angry", "Smirk", "smirk"])
    assert found.labels == ("angry", "contempt", "2", "10", "pout", "Smirk")
    assert found_labels(["more than 70", "10-19", "3-9", "0-2"]).labels == ("0-2", "3-9", "10-19", "more than 70")
    assert found_labels(SEVEN.labels[::-1]) is SEVEN
    assert found_labels(["happiness", *SEVEN]) is SEVEN


@settings(max_examples=30)
@given(st.lists(st.sampled_from([*EIGHT, "Anger", "JOY", "3", "12", "pout", "Pout"]), min_size=2))
def test_found_labels_do_not_depend_on_the_order_and_hold_every_name(names: list[str]) -> None:
    if len({canonical(n) for n in names}) < 2:
        with pytest.raises(OptionError, match="at least two"):
            found_labels(names)
        return
    found = found_labels(names)
    assert found == found_labels(reversed(names))
    assert all(name in found for name in names)
    assert len(found) == len({canonical(n) for n in names})


def test_merges_are_read_from_text() -> None:
    assert merges_from(["disgust=angry, contempt = neutral", "fear=surprise"]) == {
        "disgust": "angry",
        "contempt": "neutral",
        "fear": "surprise",
    }
    assert merges_from([]) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("disgust", "'disgust' is no merge; write it as disgust=angry"),
        ("disgust=", "'disgust=' is no merge"),
        ("a=b,,c=d", "'' is no merge"),
        ("a=b,a=c", "'a' is merged into 'b' and into 'c'"),
    ],
)
def test_what_is_no_merge_is_said(text: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        merges_from([text])


def test_a_merge_comes_before_the_place_of_the_same_name() -> None:
    moods = LabelSet("moods", ("bad", "happy", "neutral", "sad"))
    merge = {"Anger": "bad", "disgust": "bad", "fear": "bad", "sad": "bad", "surprise": "happy"}
    assert projection(SEVEN, moods, merge).argmax(1).tolist() == [0, 0, 0, 1, 0, 1, 2]


def test_a_dropped_label_goes_nowhere() -> None:
    matrix = projection(SEVEN, FIVE, {"disgust": "angry"}, drop=("disgust", "fearful"))
    assert matrix.sum(1).tolist() == [1, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("options", [{"merge": {"smirk": "happy"}}, {"merge": {"sad": "smirk"}}, {"drop": ["smirk"]}])
def test_a_merge_or_drop_of_an_unknown_label_is_an_error(options: dict[str, object]) -> None:
    with pytest.raises(UnknownLabelError, match="'smirk'"):
        projection(SEVEN, FIVE, **options)
