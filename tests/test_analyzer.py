from __future__ import annotations

import numpy as np
import pytest
from fakes import BlueDetector, MoodReader, RedReader, boxes, elsewhere, scene

from mien.errors import OptionError, ShapeError, UnknownLabelError
from mien.labels import SEVEN, SIX
from mien.media.video import Frame
from mien.pipeline.analyzer import Analyzer, Settings
from mien.results.columns import Reason


def make(**settings: object) -> tuple[Analyzer, BlueDetector, RedReader]:
    find, read = BlueDetector(), RedReader()
    return Analyzer(Settings(**settings), find=find, read=read), find, read


def frames(*places: int | None) -> list[Frame]:
    return [Frame(scene(x), i, i / 25) for i, x in enumerate(places)]


def test_a_picture_gives_a_row_with_box_points_and_scores() -> None:
    reader, _, _ = make()
    faces = reader.picture(scene(50), source="a.png")
    assert faces.source_names.tolist() == ["a.png"]
    assert faces.box.tolist() == [[50, 30, 110, 90]]
    assert faces.top.tolist() == ["happy"]
    assert faces.second.tolist() == ["neutral"]
    assert np.isnan(faces.time).all()
    assert faces.expression.sum() == pytest.approx(1, abs=1e-6)


def test_a_picture_without_a_face_gives_a_row_with_the_reason() -> None:
    reader, _, read = make()
    faces = reader.picture(scene(None))
    assert faces.reason_words == ["no_face"]
    assert not read.batches, "nothing to read, nothing read"


@pytest.mark.parametrize("shape", [(10, 10), (10, 10, 4), (0, 5, 3)])
def test_anything_else_than_a_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="RGB"):
        make()[0].picture(np.zeros(shape, np.uint8))


def test_frames_keep_number_and_time_and_are_read_in_batches() -> None:
    reader, _, read = make()
    tables = list(reader.frames(frames(20, 30, None, 40, 50, 60, 70, 80, 90), source="f.mp4"))
    assert [int(t.frame[0]) for t in tables] == list(range(9))
    assert [float(t.time[0]) for t in tables] == [i / 25 for i in range(9)]
    assert [t.reason_words for t in tables][2] == ["no_face"]
    assert read.batches == [7, 1], "eight frames a batch, seven of them with a face"


def test_batching_changes_no_score() -> None:
    together = [t.expression for t in make()[0].frames(frames(20, 45, 70, 90), source="f")]
    alone = [make()[0].picture(scene(x)).expression for x in (20, 45, 70, 90)]
    np.testing.assert_array_equal(together, alone)


def test_an_unreadable_frame_is_a_row() -> None:
    tables = list(make()[0].frames([Frame(scene(20), 0, 0.0), Frame(None, 1, 0.04, "damaged")], source="f"))
    assert [t.reason_words for t in tables] == [[""], ["unreadable"]]


def test_boxes_are_carried_between_detections_and_a_cut_is_detected_anew() -> None:
    reader, find, _ = make(detect_every=4)
    still = frames(*[50] * 9)
    assert [bool(t.carried[0]) for t in reader.frames(still, source="f")] == [
        False,
        True,
        True,
        True,
        False,
        True,
        True,
        True,
        False,
    ]
    assert find.calls == 3
    reader, find, _ = make(detect_every=100)
    pictures = [scene(90), scene(90), elsewhere(20), elsewhere(20)]
    shots = [Frame(p, i, i / 10) for i, p in enumerate(pictures)]
    tables = list(reader.frames(shots, source="f"))
    assert [bool(t.carried[0]) for t in tables] == [False, True, False, True]


def test_min_score_names_no_label_but_keeps_the_scores() -> None:
    faces = make(min_score=0.99)[0].picture(scene(50))
    assert faces.top.tolist() == [""]
    assert faces.reason_words == ["low_score"]
    assert faces.read.all()


def test_a_face_that_cannot_be_read_gets_a_reason_and_no_score_unless_asked() -> None:
    small = scene(50, side=16)
    faces = make()[0].picture(small)
    assert faces.found.all()
    assert "too_small" in faces.reason_words[0]
    assert not faces.read.any()
    asked = make(read_all=True)[0].picture(small)
    assert asked.reason_words == faces.reason_words
    assert asked.top.tolist() == ["happy"]


def test_label_sets() -> None:
    assert make(labels="seven")[0].picture(scene(50)).labels == SEVEN
    six = make(labels="six")[0].picture(scene(50))
    assert six.labels == SIX
    assert six.top.tolist() == ["happy"]
    assert six.expression.sum() == pytest.approx(1, abs=1e-6)


def test_best_only_keeps_the_first() -> None:
    two = lambda _picture, /: boxes((0, 0, 60, 60), (80, 30, 140, 90))  # noqa: E731 - a detector in a line
    assert len(Analyzer(Settings(), find=two, read=RedReader()).picture(scene(80))) == 2
    assert len(Analyzer(Settings(best_only=True), find=two, read=RedReader()).picture(scene(80))) == 1


def test_require_eyes_drops_boxes_without_eyes() -> None:
    assert make(require_eyes=True)[0].picture(scene(50)).reason_words == ["no_face"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"detector": "yolo"}, "mtcnn"),
        ({"min_face": 3}, "12 pixels"),
        ({"width": 5}, "64 pixels"),
        ({"detect_every": 0}, "1 or more"),
        ({"min_score": 60}, "between 0 and 1"),
        ({"threads": -1}, "0 or more"),
    ],
)
def test_impossible_settings_name_the_value_and_the_range(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        Settings(**wrong)
    assert repr(next(iter(wrong.values()))) in str(caught.value)


def test_an_unknown_label_set_is_an_error() -> None:
    with pytest.raises(UnknownLabelError, match="five"):
        make(labels="nine")


def test_a_reader_with_labels_of_its_own() -> None:
    reader = Analyzer(Settings(), find=BlueDetector(), read=MoodReader())
    faces = reader.picture(scene(50))
    assert reader.labels.labels == faces.labels.labels == ("smile", "pout", "neutral")
    assert faces.top.tolist() == ["smile"]
    assert faces.expression.sum() == pytest.approx(1, abs=1e-6)
    assert reader.picture(scene(None)).labels == faces.labels
    with pytest.raises(OptionError, match=r"cannot give the label set 'seven'; it can give custom \(smile, pout"):
        Analyzer(Settings(labels="seven"), find=BlueDetector(), read=MoodReader())


def test_reasons_are_told_apart_by_hand_made_faces() -> None:
    cases = {"too_dark": 0, "too_bright": 255}
    for word, value in cases.items():
        picture = np.full((120, 160, 3), value, np.uint8)
        reader = Analyzer(Settings(), find=lambda _p, /: boxes((40, 20, 120, 100)), read=RedReader())
        assert reader.picture(picture).reason_words == [word]
    noisy = np.random.default_rng(0).integers(40, 210, (120, 160, 3), np.uint8)
    reader = Analyzer(Settings(), find=lambda _p, /: boxes((-40, 20, 40, 100)), read=RedReader())
    assert Reason.CUT & Reason(int(reader.picture(noisy).reason[0]))
