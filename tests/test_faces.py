from __future__ import annotations

import json
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import portrait, some_faces

from mien.errors import MissingExtraError, ShapeError
from mien.labels import EIGHT, SEVEN, THREE
from mien.results import Faces, Reason
from mien.results.columns import ARRAYS


def scored(*rows: list[float]) -> Faces:
    return Faces.build(len(rows), sources=("a.jpg",), labels=THREE, face=range(len(rows)), expression=rows)


@settings(max_examples=40)
@given(some_faces(), st.data())
def test_concat_of_the_parts_is_the_whole(faces: Faces, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(faces)), max_size=4)))
    edges = [0, *cuts, len(faces)]
    assert Faces.concat(faces[a:b] for a, b in pairwise(edges)) == faces
    assert Faces.concat(list(faces) or [faces]) == faces


@settings(max_examples=40)
@given(some_faces())
def test_a_mask_chooses_rows(faces: Faces) -> None:
    mask = faces.found
    assert faces[mask] == faces[np.flatnonzero(mask).tolist()]
    assert len(faces[mask]) + len(faces[~mask]) == len(faces)
    assert faces[mask].found.all()


@settings(max_examples=40)
@given(some_faces())
def test_records_hold_json(faces: Faces) -> None:
    for exact in (False, True):
        records = faces.records(exact=exact)
        again = json.loads(json.dumps(records))
        assert len(again) == len(faces)
        assert [r["source"] for r in records] == faces.source_names.tolist()
        assert ["|".join(r["reason"]) for r in records] == faces.reason_words


@settings(max_examples=40)
@given(some_faces())
def test_top_and_second_against_a_plain_sort(faces: Faces) -> None:
    for i, row in enumerate(faces.expression.tolist()):
        ranked = sorted(range(len(row)), key=lambda k: (-row[k], k))
        named = not np.isnan(row).any() and not faces.reason[i] & Reason.LOW_SCORE
        assert faces.top[i] == (faces.labels.labels[ranked[0]] if named else "")
        assert faces.second[i] == (faces.labels.labels[ranked[1]] if named else "")


def test_scores_are_ranked() -> None:
    faces = scored([0.2, 0.5, 0.3], [np.nan] * 3, [0.4, 0.4, 0.2])
    assert faces.top.tolist() == ["happy", "", "negative"]
    assert faces.second.tolist() == ["neutral", "", "happy"]
    np.testing.assert_allclose(faces.top_score, [0.5, np.nan, 0.4])
    np.testing.assert_allclose(faces.margin, [0.2, np.nan, 0], atol=1e-7)
    assert faces.read.tolist() == [True, False, True]
    order, scores = faces.ranked(3)
    assert order[0].tolist() == [1, 2, 0]
    assert scores[0].tolist() == pytest.approx([0.5, 0.3, 0.2])


def test_a_low_score_stands_but_names_nothing() -> None:
    faces = scored([0.2, 0.5, 0.3]).with_(reason=np.array([Reason.LOW_SCORE], np.uint16))
    assert faces.top.tolist() == [""]
    assert faces.named.tolist() == [False]
    assert faces.records()[0]["scores"] == {"negative": 0.2, "happy": 0.5, "neutral": 0.3}


def test_a_record_shows_everything() -> None:
    faces = portrait(time=1 / 3, track=4, eyes=2, points=np.arange(10).reshape(5, 2), reason=int(Reason.CUT))
    (record,) = faces.records()
    scores = record.pop("scores")
    assert record == {
        "source": "a.jpg",
        "frame": 0,
        "time": 0.333333,
        "face": 0,
        "box": [10, 20, 50, 70],
        "points": {
            "right_eye": [0, 1],
            "left_eye": [2, 3],
            "nose": [4, 5],
            "mouth_right": [6, 7],
            "mouth_left": [8, 9],
        },
        "detector_score": 0.99,
        "eyes": 2,
        "carried": False,
        "track": 4,
        "top": "happy",
        "second": "neutral",
        "margin": 0.88,
        "reason": ["cut"],
    }
    assert list(scores) == list(EIGHT)
    assert scores["happy"] == 0.91
    assert faces.records(exact=True)[0]["time"] == 1 / 3


def test_a_record_without_a_face_says_so() -> None:
    faces = Faces.missing("wall.jpg", Reason.NO_FACE | Reason.BLURRED, frame=3, time=0.5)
    (record,) = faces.records()
    absent = ("face", "box", "points", "detector_score", "eyes", "track", "scores", "top", "second", "margin")
    assert {k: v for k, v in record.items() if v is None} == dict.fromkeys(absent)
    assert record["reason"] == ["no_face", "blurred"]
    assert (record["frame"], record["time"]) == (3, 0.5)
    assert faces.records(exact=True)[0]["scores"] == dict.fromkeys(EIGHT)


def test_records_share_nothing() -> None:
    first, second = Faces.concat([Faces.missing("wall.jpg", Reason.NO_FACE)] * 2).records(exact=True)
    first["reason"].append("mine")
    first["scores"]["happy"] = 1
    assert second["reason"] == ["no_face"]
    assert second["scores"]["happy"] is None


def test_empty_tables() -> None:
    faces = Faces.empty(labels=SEVEN)
    assert len(faces) == 0
    assert faces.labels is SEVEN
    assert faces.records() == []
    assert faces.reason_words == []
    assert faces.top.tolist() == faces.second.tolist() == faces.source_names.tolist() == []
    assert Faces.concat([]) == Faces.empty()
    assert Faces.concat([faces, faces]) == faces
    assert repr(faces) == "<Faces: 0 rows, 0 faces>"


def test_repr_counts_labels() -> None:
    faces = Faces.concat([portrait(), portrait("sad"), portrait(), Faces.missing("b.jpg", Reason.NO_FACE)])
    assert repr(faces) == "<Faces: 4 rows, 3 faces: 2 happy, 1 sad>"


def test_concat_joins_equal_sources() -> None:
    faces = Faces.concat([portrait(source="a"), portrait(source="b"), portrait(source="a", frame=1)])
    assert faces.sources == ("a", "b")
    assert faces.source.tolist() == [0, 1, 0]


def test_concat_refuses_other_labels() -> None:
    with pytest.raises(ShapeError, match=r"labels: expected eight, got .*seven"):
        Faces.concat([Faces.empty(), Faces.empty(labels=SEVEN)])


def test_equality_looks_at_every_column() -> None:
    faces = portrait(time=1.0)
    assert faces == portrait(time=1.0)
    assert faces != "faces"
    assert faces != faces[[0, 0]]
    assert faces != portrait(time=1.0, source="b.jpg")
    assert scored([1, 0, 0]) != scored([1, 0, 0]).with_(labels=type(THREE)("other", THREE.labels))
    for c in ARRAYS[1:]:
        changed = np.array(getattr(faces, c.name))
        changed.ravel()[0] = 1 if c.name not in {"time"} else 2
        assert (faces != faces.with_(**{c.name: changed})) or np.array_equal(changed, getattr(faces, c.name)), c.name
    with pytest.raises(TypeError, match="unhashable"):
        hash(faces)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"box": np.zeros((2, 3))}, r"box: expected \(2, 4\) float32, got \(2, 3\)"),
        ({"box": np.zeros(3)}, r"box: expected \(2, 4\) float32, got \(3,\)"),
        ({"frame": [1, 2, 3]}, r"frame: expected \(2,\) int64, got \(3,\)"),
        ({"expression": np.zeros((2, 7))}, r"expression: expected \(2, 8\) float32, got \(2, 7\)"),
        ({"source": [0, 1]}, r"source: expected indices below 1, got 0…1"),
        ({"source": [-1, 0]}, r"source: expected indices below 1, got -1…0"),
        ({"mood": 1}, r"columns: expected source, frame, .*, got mood"),
    ],
)
def test_what_does_not_fit_is_refused(columns: dict[str, Any], said: str) -> None:
    with pytest.raises(ShapeError, match=said):
        Faces.build(2, sources=("a",), **columns)


def test_with_checks_the_dtype() -> None:
    with pytest.raises(ShapeError, match=r"time: expected \(1,\) float64, got \(1,\) float32"):
        portrait().with_(time=np.zeros(1, np.float32))


def test_build_repeats_the_value_of_one_row() -> None:
    faces = Faces.build(3, sources=("a",), box=[1, 2, 3, 4], frame=7, expression=np.full(8, 0.125))
    assert faces.box.tolist() == [[1, 2, 3, 4]] * 3
    assert faces.frame.tolist() == [7] * 3
    assert faces.expression.shape == (3, 8)
    faces.box[0] = 0  # every row has its own
    assert faces.box[1].tolist() == [1, 2, 3, 4]


def test_to_arrow_and_pandas() -> None:
    faces = Faces.concat([portrait(), Faces.missing("b.jpg", Reason.NO_FACE)])
    frame = faces.to_pandas()
    assert frame["top"].tolist() == ["happy", ""]
    assert frame["x2"].tolist()[0] == 50
    assert faces.to_arrow().column("top").to_pylist() == ["happy", None]
    assert list(frame.columns) == faces.to_arrow().column_names


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"mien\[pandas\]"):
        portrait().to_pandas()
