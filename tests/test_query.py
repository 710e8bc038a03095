from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from filmindex import in_order, one_track, scores_of, write_index
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from queries import ODD, Naive, nodes, random_index

from mien.errors import DataError, MissingExtraError, OptionError, UnknownLabelError
from mien.film import scan as scanning
from mien.film.index import FACES, FRAMES, Index
from mien.film.language import FRONTAL, Compare, Flag, Held, Label, Node, Number, Score, asked
from mien.film.query import Found, find, parse, question
from mien.film.spans import Spans, clock
from mien.labels import EIGHT, LabelSet
from mien.results import Faces, Reason


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> list[Index]:
    """Indexes with rough scores, in which many are equal, with fine ones, and with strange labels."""
    folder = tmp_path_factory.mktemp("indexes")
    made = [random_index(folder / f"rough{n}", n, coarse=True) for n in range(3)]
    made += [random_index(folder / f"fine{n}", 10 + n) for n in range(3)]
    return made + [random_index(folder / f"odd{n}", 20 + n, labels=ODD) for n in range(2)]


@cache
def tables(folder: Path, smooth: str) -> Naive:
    return Naive(Index.open(folder), smooth=smooth)


def naive(index: Index, *, bridge: int = 0, smooth: str = "none") -> Naive:
    plain = tables(index.path, smooth)
    plain.bridge = bridge
    return plain


def check(index: Index, node: Node, **settings: Any) -> None:
    found = find(index, str(node), **settings)
    plain = naive(index, **settings)
    rows, names = plain.rows(node), asked(node)
    assert found.query == str(node)
    assert found.labels_asked == names
    assert found.rows.tolist() == rows
    spans = plain.spans(node, names[0] if len(names) == 1 else None)
    assert len(found.spans) == len(spans)
    for name in spans[0] if spans else ():
        ours, theirs = getattr(found.spans, name), np.array([s[name] for s in spans])
        if ours.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        else:
            assert ours.tolist() == theirs.tolist(), name
    assert np.bincount(found.span, minlength=len(spans)).tolist() == [s["frames"] for s in spans]
    assert found.spans.track[found.span].tolist() == plain.faces.track[rows].tolist()


PLENTY = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=PLENTY)
@given(st.data())
def test_what_is_found_is_what_a_plain_loop_finds(indexes: list[Index], data: st.DataObject) -> None:
    index = data.draw(st.sampled_from(indexes))
    check(index, data.draw(nodes(index.labels)), bridge=data.draw(st.sampled_from([0, 0, 1, 3])))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=PLENTY)
@given(st.data())
def test_smoothed_scores_are_asked_as_a_plain_loop_asks_them(indexes: list[Index], data: st.DataObject) -> None:
    # Rough scores, once smoothed, lie within an error of rounding of the rough numbers they are compared with.
    index = data.draw(st.sampled_from(indexes[3:]))
    smooth = data.draw(st.sampled_from(["exponential:0.1", "median:5"]))
    check(index, data.draw(nodes(index.labels)), smooth=smooth, bridge=data.draw(st.sampled_from([0, 1])))


def happy_for(frames: int, *, gap: int = 3, track: int = 0, first: int = 0, **place: Any) -> Faces:
    """So many happy frames between neutral ones."""
    tops = ["neutral"] * gap + ["happy"] * frames + ["neutral"] * gap
    return one_track(tops, track=track, first=first, **place)


def test_eight_frames_are_enough_and_seven_are_not(tmp_path: Path) -> None:
    index = write_index(tmp_path / "i", in_order([happy_for(8, track=0), happy_for(7, track=1)]))
    found = find(index, "happy >= 0.7 for 8 frames")
    assert found.spans.records() == [
        {
            "track": 0,
            "shot": 0,
            "first_frame": 3,
            "last_frame": 10,
            "start": 0.12,
            "end": 0.44,
            "frames": 8,
            "score": 0.9,
            "label": "happy",
        }
    ]
    assert found.faces() == index.faces()[found.rows]
    assert set(found.faces().track.tolist()) == {0}
    assert found.faces().frame.tolist() == list(range(3, 11))


def test_alone_cuts_a_run_that_was_long_enough_before(tmp_path: Path) -> None:
    """The run counts as a whole; of its frames, those are found in which the face is alone."""
    other = one_track(["neutral"] * 3, track=1, first=6)
    index = write_index(tmp_path / "i", in_order([happy_for(8), other]))
    spans = find(index, "happy for 8 frames and alone").spans
    assert list(zip(spans.first_frame.tolist(), spans.last_frame.tolist(), strict=True)) == [(3, 5), (9, 10)]
    assert len(find(index, "(happy and alone) for 8 frames")) == 0
    assert len(find(index, "(happy and alone) for 3 frames")) == 3


def test_a_time_counts_until_the_last_frame_ends(tmp_path: Path) -> None:
    """Eight frames at 25 a second last 0.32 s, although the last begins 0.28 s after the first."""
    index = write_index(tmp_path / "i", happy_for(8))
    assert len(find(index, "happy for 0.32 s")) == 8
    assert len(find(index, "happy for 320 ms")) == 8
    assert len(find(index, "happy for 0.321 s")) == 0
    last = write_index(tmp_path / "last", one_track(["happy"] * 4))
    assert find(last, "happy for 0.16 s").spans.end.tolist() == [pytest.approx(0.16)]


def test_a_gap_ends_a_run_unless_it_is_bridged(tmp_path: Path) -> None:
    tops = ["happy"] * 4 + ["-", "-"] + ["happy"] * 3 + ["", "happy"]
    index = write_index(tmp_path / "i", in_order([one_track(tops), one_track(["sad"] * 11, track=1)]))
    assert len(find(index, "happy for 5 frames")) == 0
    assert len(find(index, "happy for 7 frames", bridge=1)) == 0
    bridged = find(index, "happy for 8 frames", bridge=2)
    assert bridged.spans.frames.tolist() == [8]
    assert bridged.spans.last_frame.tolist() == [10]
    assert len(find(index, "happy for 9 frames", bridge=2)) == 0
    with pytest.raises(OptionError, match="bridge is -1"):
        find(index, "happy", bridge=-1)


def test_frames_that_were_left_out_when_indexing_are_no_gap(tmp_path: Path) -> None:
    """With --every 2 the frames 0, 2, 4 … follow each other."""
    faces = one_track(["happy"] * 8)
    faces = faces.with_(frame=faces.frame * 2, time=faces.time * 2)
    spans = find(write_index(tmp_path / "i", faces), "happy for 8 frames").spans
    assert (spans.first_frame.tolist(), spans.last_frame.tolist(), spans.end.tolist()) == ([0], [14], [0.64])


def test_smoothing_forgives_a_stray_frame(tmp_path: Path) -> None:
    index = write_index(tmp_path / "i", one_track(["happy"] * 5 + ["sad"] + ["happy"] * 5))
    assert len(find(index, "happy for 8 frames")) == 0
    found = find(index, "happy for 8 frames", smooth="median:3")
    assert found.spans.frames.tolist() == [11]
    assert found.spans.score.tolist() == [pytest.approx(0.9, abs=0.02)]
    with pytest.raises(OptionError, match="exponential:SECONDS"):
        find(index, "happy", smooth="often")


def test_every_face_is_what_an_empty_query_finds(indexes: list[Index]) -> None:
    found = find(indexes[0])
    assert found.query == "face"
    assert found.rows.tolist() == np.flatnonzero(indexes[0].faces().found).tolist()
    assert found.labels_asked == ()
    assert len(find(indexes[0], "not face")) == 0
    assert repr(find(indexes[0], "not face")) == "<Found: 'not face', 0 faces in 0 spans>"


def test_an_index_without_a_face_is_asked_like_any_other(tmp_path: Path) -> None:
    none = Faces.missing("movie.mp4", Reason.NO_FACE, time=0.0)
    empty = write_index(tmp_path / "none", none)
    for query in ("", "happy", "not happy", "happy for 2 s", "not alone for 3 frames"):
        assert len(find(empty, query)) == 0
        assert len(find(empty, query, smooth="median:3").spans) == 0
    nothing = write_index(tmp_path / "nothing", Faces.build(0, sources=("movie.mp4",)))
    assert len(find(nothing, "happy for 2 s or time > 1")) == 0


KEYWORDS: list[tuple[dict[str, Any], str]] = [
    ({}, "face"),
    ({"label": "joy"}, "happy"),
    ({"label": ["happy", "sad"]}, "happy or sad"),
    ({"label": []}, "not face"),
    ({"min_score": 0.7}, "score >= 0.7"),
    ({"label": "happy", "min_score": 0.7}, "happy and happy >= 0.7"),
    ({"label": ["happy", "sad"], "min_score": 0.5}, "(happy or sad) and score >= 0.5"),
    ({"frames": 8}, "face for 8 frames"),
    ({"label": "happy", "frames": 8, "seconds": 0.5}, "happy for 8 frames for 0.5 s"),
    ({"label": "happy", "min_score": 0.7, "frames": 8}, "(happy and happy >= 0.7) for 8 frames"),
    (
        {"query": "happy >= 0.7", "frames": 8, "alone": True, "frontal": True},
        "happy >= 0.7 for 8 frames and alone and frontal",
    ),
    ({"query": "happy or sad", "alone": False}, "(happy or sad) and not alone"),
    ({"min_size": 60, "min_sharpness": 0.1}, "side >= 60 and sharpness >= 0.1"),
    ({"start": 1.5, "end": 90}, "time >= 1.5 and time < 90"),
    ({"tracks": 3, "shots": [1, 2]}, "track = 3 and (shot = 1 or shot = 2)"),
    ({"tracks": np.arange(2)}, "track = 0 or track = 1"),
    ({"tracks": ()}, "not face"),
]


@pytest.mark.parametrize(("keywords", "query"), KEYWORDS, ids=[q for _, q in KEYWORDS])
def test_keywords_are_the_language(indexes: list[Index], keywords: dict[str, Any], query: str) -> None:
    found = find(indexes[3], **keywords)
    assert found.query == query
    assert found.rows.tolist() == find(indexes[3], query).rows.tolist()
    assert question(EIGHT, **keywords) == parse(query, EIGHT)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"min_score": 70}, "70 is out of range, scores lie in [0, 1]; write 0.7"),
        ({"frames": 0}, "0 frames is no length"),
        ({"frames": 2.5}, "2.5 frames is no count"),
        ({"seconds": float("nan")}, "nan s is no length"),
        ({"label": "smirk"}, "unknown label 'smirk'"),
        ({"start": float("inf")}, "inf is no finite number"),
        ({"query": Label("smirk")}, "unknown label 'smirk'"),
        ({"query": Compare(Score("Joy"), ">", Number(0.5))}, "label 'Joy' is spelled 'happy' in this index"),
    ],
)
def test_keywords_that_make_no_sense_say_so(indexes: list[Index], keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((OptionError, UnknownLabelError)) as caught:
        find(indexes[0], **keywords)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tree_is_asked_as_its_text_is(indexes: list[Index]) -> None:
    node = Held(Label("happy"), 2, "frames")
    assert find(indexes[0], node).rows.tolist() == find(indexes[0], str(node)).rows.tolist()


def test_frontal_is_a_size_of_yaw(tmp_path: Path) -> None:
    faces = one_track(["happy"] * 4)
    yaw = np.array([-FRONTAL, FRONTAL, FRONTAL + 0.01, np.nan])
    index = write_index(tmp_path / "i", faces, details={"yaw": yaw})
    assert find(index, "frontal").rows.tolist() == [0, 1]
    assert find(index, "not frontal").rows.tolist() == [2, 3]
    assert find(index, "yaw > 0.25").rows.tolist() == [2]
    assert find(index, "turn < 0").rows.tolist() == [0]


def test_a_number_is_compared_as_it_is_stored(tmp_path: Path) -> None:
    """A score of 0.7 in single precision is below 0.7 in double precision, and yet it is 0.7."""
    index = write_index(tmp_path / "i", one_track(["happy"] * 3, best=0.7))
    assert len(find(index, "happy >= 0.7")) == len(find(index, "happy = 0.7")) == 3
    assert len(find(index, "happy > 0.7")) == len(find(index, "side >= 1e300")) == 0
    assert len(find(index, "frame >= 0.5")) == 2
    assert len(find(index, "time < 1e300 and frame < 1e30")) == 3


def test_faces_without_a_track_stand_alone(tmp_path: Path) -> None:
    index = write_index(tmp_path / "i", one_track(["happy"] * 3, track=-1))
    found = find(index, "happy")
    assert found.spans.frames.tolist() == [1, 1, 1]
    assert found.spans.records()[0]["track"] is None
    assert len(find(index, "happy for 2 frames")) == len(find(index, "track >= 0")) == 0


def named(labels: LabelSet, tops: list[int]) -> Faces:
    """One face whose frames name these labels of a set, by number."""
    scores = scores_of([labels.labels[i] for i in tops], 0.9, labels)
    plain = one_track(["happy"] * len(tops))
    arrays = {name: getattr(plain, name) for name in ("frame", "time", "face", "box", "points", "score", "track")}
    return Faces.build(len(tops), sources=plain.sources, labels=labels, expression=scores, **arrays)


def test_names_that_mean_something_to_a_database_are_names(tmp_path: Path) -> None:
    labels = LabelSet("odd", ("x' OR 1=1 --", '"; DROP TABLE faces', "file", "row"))
    folder = tmp_path / "it's [odd]*? a=b%.mien"
    index = write_index(folder, named(labels, [i % 4 for i in range(8)]))
    for i, name in enumerate(labels):
        text = name.replace('"', '""')
        assert find(index, f'"{text}" >= 0.5').rows.tolist() == find(index, label=name).rows.tolist() == [i, i + 4]
    assert find(index, "score > 0.5", smooth="median:1").rows.tolist() == list(range(8))


def test_tables_that_are_broken_are_one_line(tmp_path: Path) -> None:
    index = write_index(tmp_path / "i", one_track(["happy"] * 8))
    whole = (index.path / FRAMES).read_bytes()
    frames = pq.read_table(index.path / FRAMES)
    spans = find(index, "happy and frame >= 3").spans.records()
    pq.write_table(frames.slice(2), index.path / FRAMES)
    assert find(index, "happy and frame >= 3").spans.records() == spans
    pq.write_table(frames.slice(0, 5), index.path / FRAMES)
    with pytest.raises(DataError, match="lacks frames"):
        find(index, "happy for 8 frames")
    pq.write_table(frames.drop_columns("time"), index.path / FRAMES)
    with pytest.raises(DataError, match="index the film again") as caught:
        find(index, "happy for 1 s")
    assert "\n" not in str(caught.value)
    (index.path / FRAMES).write_bytes(whole)
    for content in (b"", b"PAR1" + os.urandom(99) + b"PAR1"):
        (index.path / FACES).write_bytes(content)
        with pytest.raises(DataError, match=r"faces\.parquet: cannot be read") as caught:
            find(index, "happy")
        assert "\n" not in str(caught.value)


def test_without_duckdb_the_extra_is_named(indexes: list[Index], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mien\[film\]'"):
        find(indexes[0], "happy")


def test_the_database_reaches_for_nothing_and_leaves_nothing(
    indexes: list[Index], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with scanning._connected(duckdb, indexes[0]) as (connection, _):
        asked_for = "autoinstall_known_extensions", "autoload_known_extensions", "enable_progress_bar"
        for name in asked_for:
            assert connection.execute("SELECT current_setting($1)", [name]).fetchone() == (False,)
        spill = Path(connection.execute("SELECT current_setting('temp_directory')").fetchone()[0])
        assert spill.is_dir()
    with pytest.raises(duckdb.ConnectionException):
        connection.execute("SELECT 1")
    assert not spill.exists()
    assert list(tmp_path.iterdir()) == []


def test_only_the_rows_that_matter_are_read(indexes: list[Index]) -> None:
    """A run needs its own rows, not those that only the rest of the query wants."""
    where = find(indexes[0], "happy >= 0.7 for 8 frames and alone").sql.partition("WHERE")[2]
    assert "happy" in where
    assert '"faces"' not in where
    assert "true" in find(indexes[0], "not (happy for 8 frames)").sql.partition("WHERE")[2]


@pytest.mark.parametrize("most", [3, 1 << 16, 1 << 40])
def test_rows_are_sorted_by_track_however_many_there_are(most: int) -> None:
    rng = np.random.default_rng(most)
    row, track = np.arange(5000) * 2, rng.integers(-1, most, 5000)
    for mixed in (np.arange(5000), rng.permutation(5000)):
        order = scanning._by_track(row[mixed], track[mixed])
        assert order.tolist() == np.lexsort((row[mixed], track[mixed])).tolist()


def test_spans_are_checked_and_chosen(indexes: list[Index]) -> None:
    spans = find(indexes[3], "named").spans
    assert len(spans[:1]) == 1
    assert spans[spans.frames > 2].frames.min() > 2
    assert spans.seconds.tolist() == (spans.end - spans.start).tolist()
    with pytest.raises(ValueError, match="score"):
        Spans(*(getattr(spans, n) for n in Spans.names() if n not in {"score", "label"}), spans.frames, spans.label)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00.000"), (3723.5, "1:02:03.500"), (59.9996, "0:01:00.000"), (-1.25, "-0:00:01.250"), (np.nan, "")],
)
def test_times_read_as_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_found_says_what_it_holds(indexes: list[Index]) -> None:
    found = find(indexes[0], "happy")
    assert isinstance(found, Found)
    assert repr(found) == f"<Found: 'happy', {len(found)} faces in {len(found.spans)} spans>"
    assert question(EIGHT) == Flag("face")
