from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import OptionError, UnknownLabelError
from mien.labels import EIGHT
from mien.results.columns import ARRAYS, DERIVED, POINTS, Column, Reason, flat, flat_names, scores_column

HEADER = [
    "source",
    "frame",
    "time",
    "face",
    "x1",
    "y1",
    "x2",
    "y2",
    "right_eye_x",
    "right_eye_y",
    "left_eye_x",
    "left_eye_y",
    "nose_x",
    "nose_y",
    "mouth_right_x",
    "mouth_right_y",
    "mouth_left_x",
    "mouth_left_y",
    "detector_score",
    "eyes",
    "carried",
    "track",
    "angry",
    "disgust",
    "fear",
    "happy",
    "sad",
    "surprise",
    "neutral",
    "contempt",
    "top",
    "second",
    "margin",
    "reason",
]


def column(name: str) -> Column:
    return next(c for c in (*ARRAYS, *DERIVED) if c.name == name)


def test_the_header_is_public_and_does_not_drift() -> None:
    assert list(flat_names(EIGHT.labels)) == HEADER


def test_every_column_is_described() -> None:
    assert len(set(POINTS)) == 5
    for c in (*ARRAYS, *DERIVED, scores_column(EIGHT.labels)):
        assert c.doc.endswith("."), c.name
        assert len(c.names) == int(np.prod(c.shape)), c.name


def test_flat_columns_carry_their_declaration() -> None:
    columns = flat(("smile", "pout"))
    assert columns["y2"].doc == column("box").doc
    assert columns["y2"].shape == ()
    assert columns["smile"].dtype is np.float32
    assert columns["source"].dtype is columns["reason"].dtype is np.str_
    assert columns["frame"].dtype is np.int64


@pytest.mark.parametrize("label", ["eyes", "x1", "top", "reason", "detector_score"])
def test_a_label_named_like_a_column_is_refused(label: str) -> None:
    with pytest.raises(OptionError, match=f"rename {label}$"):
        flat((label, "happy"))


def test_what_may_be_missing() -> None:
    may = {name for name, c in flat(()).items() if c.nullable}
    assert set(flat(())) - may == {"source", "frame", "carried", "reason"}


@given(st.integers(0, 511))
def test_reasons_survive_as_words(flags: int) -> None:
    reason = Reason(flags)
    assert Reason.parse(reason.words) == reason
    assert len(list(filter(None, reason.words.split("|")))) == flags.bit_count()


def test_an_unknown_reason_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownLabelError, match="unknown reason 'sleepy'; choose one of: no_face, unreadable"):
        Reason.parse("blurred|sleepy")


def test_plain_values() -> None:
    box = np.array([[1, 2, 3, 0.1], [np.nan] * 4, [np.nan, 2, 3, 4]], np.float32)
    assert column("box").plain(box, exact=True) == [[1.0, 2.0, 3.0, 0.1], None, [None, 2.0, 3.0, 4.0]]
    assert column("box").plain(box[:1] / 3, exact=False) == [[0.333333, 0.666667, 1.0, 0.033333]]
    points = np.arange(10, dtype=np.float32).reshape(1, 5, 2)
    assert column("points").plain(points, exact=True) == [[[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]]
    assert column("track").plain(np.array([-1, 0, 7]), exact=True) == [None, 0, 7]
    assert column("carried").plain(np.array([True, False]), exact=True) == [True, False]
    assert column("top").plain(np.array(["", "sad"]), exact=True) == [None, "sad"]
    assert column("box").plain(np.empty((0, 4), np.float32), exact=True) == []


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, exclude_min=True, min_value=0))
def test_exact_floats_have_the_shortest_text(value: float) -> None:
    (plain,) = column("score").plain(np.array([value], np.float32), exact=True)
    assert np.float32(plain) == np.float32(value)
    with np.errstate(over="ignore"):  # fewer digits of the largest number are too large
        enough = next(d for d in range(1, 10) if np.float32(f"{value:.{d}g}") == np.float32(value))
    digits = repr(plain).partition("e")[0].replace(".", "").strip("0")
    assert len(digits) <= enough


@given(st.floats(allow_nan=False))
def test_exact_times_keep_every_bit(value: float) -> None:
    assert column("time").plain(np.array([value]), exact=True) == [value]
