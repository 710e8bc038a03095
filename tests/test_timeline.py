"""Timelines: curves against a plain loop, pictures of the frames they name, pages that hold what they say."""

from __future__ import annotations

import base64
import json
import math
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from filmindex import FPS, in_order, one_track, scores_of, write_index
from films import make_film, number_of, numbered, spoil
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import OptionError, OutputError, SourceError, SourceNotFoundError
from mien.film.index import Index, write_manifest
from mien.film.tables import Frames
from mien.film.timeline import PICTURES, timeline
from mien.film.timeline_curves import READ, TICKS, Curves, Rows, curves, overview, rows_of
from mien.film.timeline_pictures import chosen, spread_evenly, take
from mien.film.timeline_rows import batches, moments
from mien.labels import EIGHT, LabelSet
from mien.results.columns import Reason
from mien.results.faces import Faces
from mien.track.smooth import Smoothing


def held(page: Path) -> dict[str, Any]:
    """What a page says it shows."""
    text = page.read_text("utf-8")
    document: dict[str, Any] = json.loads(
        text.partition('<script type="application/json" id="timeline">')[2].partition("</script>")[0]
    )
    return document


def points_of(document: dict[str, Any]) -> dict[str, np.ndarray]:
    """Undo the packing, as the script in the page does."""
    said, labels = document["curves"], len(document["labels"])
    data, count = base64.b64decode(said["data"]), said["points"]
    sizes = [("start", "<u4", 1), ("length", "<u4", 1), ("flags", "<u2", 1), ("box", "<u2", 4), ("mean", "u1", labels)]
    if said["merged"] > 1:
        sizes += [("low", "u1", labels), ("high", "u1", labels)]
    out, at = {}, 0
    for name, kind, width in sizes:
        size = np.dtype(kind).itemsize * width * count
        values = np.frombuffer(data[at : at + size], kind)
        out[name] = values.reshape(count, width) if width > 1 else values
        at += size
    assert at == len(data)
    return out


def loud(seed: int, tracks: int = 4, frames: int = 120) -> Faces:
    rng = np.random.default_rng(seed)
    parts = []
    for track in range(tracks):
        tops = [str(t) for t in rng.choice(["happy", "sad", "", "-"], frames, p=[0.5, 0.3, 0.1, 0.1])]
        faces = one_track(tops, track=track, first=int(rng.integers(0, 50)), best=float(rng.uniform(0.4, 0.9)))
        noisy = faces.expression + rng.uniform(0, 0.1, faces.expression.shape).astype(np.float32)
        parts.append(faces.with_(expression=(noisy / noisy.sum(1, keepdims=True)).astype(np.float32)))
    return in_order(parts)


def opened(path: Path, faces: Faces) -> tuple[Index, Frames, Rows]:
    index = write_index(path, faces)
    frames = index.frames()
    return index, frames, rows_of(index, frames, moments(frames), Smoothing())


def test_rows_come_as_the_index_holds_them(tmp_path: Path) -> None:
    faces = loud(0)
    _, frames, rows = opened(tmp_path / "m.mien", faces)
    order = np.lexsort((faces.frame, faces.track))
    assert rows.track.tolist() == faces.track[order].tolist()
    assert frames.frame[rows.place].tolist() == faces.frame[order].tolist()
    np.testing.assert_array_equal(rows.scores, faces.expression[order])
    np.testing.assert_array_equal(rows.box, faces.box[order])
    np.testing.assert_array_equal(rows.reason, faces.reason[order])
    np.testing.assert_allclose(rows.start, faces.time[order])
    np.testing.assert_allclose(rows.end, frames.ends[rows.place])


def test_batches_choose_rows_by_number(tmp_path: Path) -> None:
    faces = loud(0)
    index = write_index(tmp_path / "m.mien", faces, group=64)
    wanted = np.array([0, 3, 63, 64, 65, len(faces) - 1])
    parts = list(batches(index, ("track", "x1"), rows=wanted))
    assert np.concatenate([p["x1"] for p in parts]).tolist() == faces.box[wanted, 0].tolist()
    assert sum(len(p["track"]) for p in batches(index, ("track",))) == len(faces)


def test_one_point_a_row_where_there_is_room(tmp_path: Path) -> None:
    faces = loud(1)
    _, _, rows = opened(tmp_path / "m.mien", faces)
    found = curves(rows)
    assert (found.merged, len(found.start)) == (1, len(faces))
    assert found.count.tolist() == np.bincount(faces.track).tolist()
    read = found.flags & READ > 0
    np.testing.assert_array_equal(read, rows.read)
    np.testing.assert_allclose(found.mean[read], rows.scores[read], atol=1e-6)
    assert set(found.flags[~read].tolist()) == {int(Reason.BLURRED)}


def plain(rows: Rows, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean by time, lowest and highest scores of rows first…last, one by one."""
    total, seconds, low, high = np.zeros(8), 0.0, np.full(8, np.inf), np.full(8, -np.inf)
    for row in range(first, last + 1):
        if not np.isnan(rows.scores[row]).any():
            shown = rows.end[row] - rows.start[row]
            total += rows.scores[row].astype(np.float64) * shown
            seconds += shown
            low, high = np.minimum(low, rows.scores[row]), np.maximum(high, rows.scores[row])
    return total / seconds, low, high


def check_points(rows: Rows, found: Curves, lane: int) -> None:
    assert found.count.max() <= lane
    edges = np.append(found.start, np.inf)
    for t, first, count in zip(found.track, found.first, found.count, strict=True):
        own = np.flatnonzero(rows.track == t)
        assert found.start[first] == rows.start[own[0]]
        assert found.end[first + count - 1] == rows.end[own[-1]]
        for p in range(first, first + count):
            until = edges[p + 1] if p + 1 < first + count else np.inf
            mine = own[(rows.start[own] >= found.start[p] - 1e-9) & (rows.start[own] < until - 1e-9)]
            assert len(mine)
            if found.flags[p] & READ:
                for value, expected in zip(
                    (found.mean, found.low, found.high), plain(rows, mine[0], mine[-1]), strict=True
                ):
                    np.testing.assert_allclose(value[p], expected, atol=1e-5)
            else:
                assert not rows.read[mine].any()


@pytest.mark.parametrize("lane", [1, 7, 20, 60, 4000])
def test_merged_points_keep_mean_lowest_and_highest(tmp_path: Path, lane: int) -> None:
    _, _, rows = opened(tmp_path / "m.mien", loud(2))
    check_points(rows, curves(rows, lane=lane), lane)


def test_points_stay_within_the_room(tmp_path: Path) -> None:
    _, _, rows = opened(tmp_path / "m.mien", loud(3, tracks=8))
    for room in (3000, 10_000, 40_000):
        found = curves(rows, room=room)
        check_points(rows, found, 4000)
        size = 18 + 8 * (1 if found.merged == 1 else 3)
        assert len(found.start) * size <= room


def test_a_gap_is_kept_where_there_is_room_for_it(tmp_path: Path) -> None:
    tops = ["happy"] * 30 + [""] * 3 + ["happy"] * 30 + ["-"] * 5 + ["sad"] * 20
    # The second face is there in every frame, so that every frame is in the index.
    faces = in_order([one_track(tops), one_track(["sad"] * len(tops), track=1)])
    _, _, rows = opened(tmp_path / "m.mien", faces)
    found = curves(rows, lane=10)
    assert found.merged > 1
    unread = np.flatnonzero(found.flags & READ == 0)
    assert len(unread) == 1
    assert (found.start[unread[0]], found.end[unread[0]]) == pytest.approx((30 / FPS, 33 / FPS))
    own = slice(0, found.count[0])
    gap = found.start[own][1:] - found.end[own][:-1]
    assert gap[gap > 1e-9] == pytest.approx([5 / FPS])
    peak = found.high[own, EIGHT.index("sad")].max()
    assert peak == pytest.approx(rows.scores[:, EIGHT.index("sad")][rows.read].max())


@given(st.lists(st.sampled_from(["happy", "sad", "", "-"]), min_size=1, max_size=60), st.integers(1, 30))
def test_no_peak_is_lost(tmp_path_factory: pytest.TempPathFactory, tops: list[str], lane: int) -> None:
    faces = one_track([*tops, "happy"])
    _, _, rows = opened(tmp_path_factory.mktemp("p") / "m.mien", faces)
    found = curves(rows, lane=lane)
    check_points(rows, found, lane)
    read = found.flags & READ > 0
    np.testing.assert_allclose(found.high[read].max(0), rows.scores[rows.read].max(0), atol=1e-6)
    np.testing.assert_allclose(found.low[read].min(0), rows.scores[rows.read].min(0), atol=1e-6)


def test_the_overview_is_the_mean_over_all_faces(tmp_path: Path) -> None:
    faces = in_order([one_track(["happy"] * 50, best=0.9), one_track(["sad"] * 25, track=1, best=0.5)])
    _, frames, rows = opened(tmp_path / "m.mien", faces)
    said = overview(rows, 0.0, float(frames.ends[-1]), bins=2)
    mean = np.frombuffer(base64.b64decode(said["data"]), np.uint8).reshape(2, 8) / 255
    both = (scores_of(["happy"]) + scores_of(["sad"], 0.5))[0] / 2
    np.testing.assert_allclose(mean, [both, scores_of(["happy"])[0]], atol=0.003)
    assert said["faces"] == [2.0, 1.0]


def test_the_page_holds_the_numbers_of_the_index(tmp_path: Path) -> None:
    index = write_index(tmp_path / "m.mien", loud(4))
    made = timeline(index, tmp_path / "t.html", pictures=0, query="happy for 3 frames")
    document = held(made.path)
    assert document == json.loads(json.dumps(made.document))
    assert made.bytes == made.path.stat().st_size
    points, faces, tracks = points_of(document), index.faces(), index.tracks()
    for said in document["tracks"]:
        own = faces[faces.track == said["id"]]
        row = int(np.flatnonzero(tracks.track == said["id"])[0])
        assert (said["rows"], said["read"], said["top"]) == (len(own), int(own.read.sum()), tracks.top[row])
        assert said["mean"] == pytest.approx(tracks.mean[row].tolist(), abs=1e-4)
        at = slice(said["first"], said["first"] + said["count"])
        assert points["start"][at] / TICKS == pytest.approx(own.time - faces.time[0], abs=1e-4)
        read = points["flags"][at] & READ > 0
        assert read.tolist() == own.read.tolist()
        np.testing.assert_allclose(points["mean"][at][read] / 255, own.expression[own.read], atol=0.5 / 255 + 1e-6)
        np.testing.assert_allclose(points["box"][at] / 65535 * [640, 360, 640, 360], own.box, atol=0.01)
    assert [document["labels"], document["query"]] == [list(EIGHT), "happy for 3 frames"]
    from mien.film.query import find

    spans = find(index, "happy for 3 frames").spans
    assert len(spans)
    assert [m[:3] for m in document["spans"]] == [
        [int(t), round((float(a) - faces.time[0]) * TICKS), round((float(b) - faces.time[0]) * TICKS)]
        for t, a, b in zip(spans.track, spans.start, spans.end, strict=True)
    ]


def test_scores_are_smoothed_as_asked(tmp_path: Path) -> None:
    faces = one_track(["happy", "sad"] * 20)
    index = write_index(tmp_path / "m.mien", faces)
    smooth = Smoothing.parse("median:5")
    document = timeline(index, tmp_path / "t.html", smooth=smooth, pictures=0).document
    expected = smooth.apply(faces.expression, faces.time, faces.track, np.arange(40))
    np.testing.assert_allclose(points_of(document)["mean"] / 255, expected, atol=0.5 / 255 + 1e-6)
    assert document["smooth"] == "median:5"


# Pictures


def film_index(tmp_path: Path, tops: list[str], **options: Any) -> Index:
    tmp_path.mkdir(parents=True, exist_ok=True)
    film = make_film(tmp_path / "movie.mp4", numbered(len(tops), 640, 360), fps=FPS)
    return write_index(tmp_path / "m.mien", one_track(tops, side=100), film=film, **options)


def decoded(data: str) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture[..., ::-1]


def test_every_still_is_the_picture_of_its_frame(tmp_path: Path) -> None:
    index = film_index(tmp_path, ["happy"] * 40)
    told: list[tuple[int, int]] = []
    document = timeline(index, tmp_path / "t.html", pictures=12, tell=lambda *done: told.append(done)).document
    assert len(document["stills"]) == 12
    for still in document["stills"]:
        picture = decoded(still["data"])
        assert picture.shape == (180, 320, 3)
        assert number_of(picture) == still["frame"] == round(still["time"] / TICKS * FPS)
        (face,) = still["faces"]
        assert face["box"] == pytest.approx([100 / 640, 80 / 360, 200 / 640, 180 / 360], abs=1e-4)
        assert face["scores"] == pytest.approx(scores_of(["happy"])[0].tolist(), abs=1e-4)
    kept = [s["frame"] for s in document["stills"]]
    assert told[-1] == (kept[-1] - kept[0] + 1,) * 2
    assert decoded(document["tracks"][0]["face"]).shape == (56, 56, 3)


def test_the_face_of_a_track_is_cut_around_its_box(tmp_path: Path) -> None:
    film = make_film(tmp_path / "movie.mp4", numbered(3, 640, 360))
    left, right = np.array([20, 200, 80, 260], np.float32), np.array([560, 270, 620, 330], np.float32)
    faces = take(film, table(3), [], {1: [(4, left), (5, right)], 2: [(6, np.full(4, np.nan, np.float32))]}).faces
    assert sorted(faces) == [4, 5]
    assert decoded(faces[4])[..., 0].mean() > 200  # the lower left of these films is red
    assert decoded(faces[5])[..., 2].mean() > 200


def test_reading_ends_with_the_last_frame_that_is_wanted(tmp_path: Path) -> None:
    film = make_film(tmp_path / "movie.mp4", numbered(30))
    done: list[tuple[int, int]] = []
    taken = take(film, table(30), [2, 5], {}, tell=lambda *told: done.append(told))
    assert (sorted(taken.stills), done) == ([2, 5], [(1, 4), (2, 4), (3, 4), (4, 4)])
    assert take(film, table(30), [], {}).stills == {}


def test_frames_that_are_lost_are_counted(tmp_path: Path) -> None:
    film = spoil(make_film(tmp_path / "movie.mp4", numbered(60), gop=10, bframes=0))
    taken = take(film, table(60), range(60), {})
    assert taken.lost
    assert sorted([*taken.stills, *taken.lost]) == list(range(60))


def table(count: int) -> Frames:
    return Frames.build(count, ordinal=range(count), frame=range(count), time=np.arange(count) / FPS, change=0)


def test_frames_are_chosen_from_every_kind() -> None:
    frames = np.arange(1000)
    picked = chosen([10, 11, 12], [20, 21], [0, 500], frames, 60)
    assert len(picked) == 60
    assert picked == sorted(set(picked))
    assert {10, 11, 12, 20, 21, 0, 500} <= set(picked)
    assert max(np.diff([0, *picked, 999])) < 60
    assert chosen([1, 2, 3, 4000], [], [], np.arange(3), 10) == [0, 1, 2]
    assert chosen([5] * 3, [5], [5], np.array([5]), 10) == [5]
    assert chosen([], [], [], np.array([], np.int64), 10) == []
    assert chosen([1], [2], [3], frames, 0) == []


@given(st.lists(st.integers(0, 500)), st.lists(st.integers(0, 500)), st.integers(0, 40), st.integers(1, 300))
def test_no_more_frames_are_chosen_than_asked(best: list[int], peaks: list[int], limit: int, count: int) -> None:
    picked = chosen(best, peaks, [0], np.arange(count), limit)
    assert len(picked) == min(limit, count)
    assert picked == sorted(set(picked))
    assert all(0 <= f < count for f in picked)


@given(st.lists(st.integers()), st.integers(0, 20))
def test_evenly_spread_values_hold_both_ends(values: list[int], count: int) -> None:
    kept = spread_evenly(values, count)
    assert len(kept) == min(len(values), count)
    if len(values) > count > 1:
        assert (kept[0], kept[-1]) == (values[0], values[-1])


def test_peaks_of_what_was_asked_for_are_kept(tmp_path: Path) -> None:
    tops = ["neutral"] * 30 + ["happy"] * 10 + ["neutral"] * 30
    faces = one_track(tops, side=100)
    scores = faces.expression.copy()
    scores[36] = scores_of(["happy"], 0.97)
    film = make_film(tmp_path / "movie.mp4", numbered(70, 640, 360))
    index = write_index(tmp_path / "m.mien", faces.with_(expression=scores), film=film)
    document = timeline(index, tmp_path / "t.html", pictures=2, query="happy for 8 frames").document
    assert 36 in [s["frame"] for s in document["stills"]]


def test_a_film_that_is_gone_gives_a_page_that_says_so(tmp_path: Path) -> None:
    index = film_index(tmp_path, ["happy"] * 10)
    (tmp_path / "movie.mp4").unlink()
    document = timeline(index, tmp_path / "t.html").document
    assert document["stills"] == []
    assert "src" not in document["film"]
    assert any("No pictures" in note for note in document["notes"])
    with pytest.raises(SourceNotFoundError, match=r"elsewhere\.mp4"):
        timeline(index, tmp_path / "t.html", film=tmp_path / "elsewhere.mp4")
    other = make_film(tmp_path / "other.mp4", numbered(5))
    with pytest.raises(SourceError, match="not the film"):
        timeline(index, tmp_path / "t.html", film=other)
    (tmp_path / "movie.mp4").write_bytes(other.read_bytes())
    assert timeline(index, tmp_path / "t.html").document["stills"] == []


def test_the_way_to_the_film_is_that_of_the_page(tmp_path: Path) -> None:
    index = film_index(tmp_path / "a film #1", ["happy"] * 3)
    (tmp_path / "pages").mkdir()
    made = timeline(index, tmp_path / "pages" / "t.html", pictures=1)
    assert made.document["film"]["src"] == "../a%20film%20%231/movie.mp4"
    assert "src" not in timeline(index, tmp_path / "t.html", pictures=1, link=False).document["film"]


def test_a_page_without_a_face(tmp_path: Path) -> None:
    faces = Faces.missing("movie.mp4", Reason.NO_FACE, time=0.0)
    document = timeline(write_index(tmp_path / "m.mien", faces), tmp_path / "t.html").document
    assert (document["tracks"], document["curves"]["points"], document["overview"]["faces"]) == ([], 0, [0.0])
    assert any("No face was followed" in note for note in document["notes"])


def test_odd_names_stay_text(tmp_path: Path) -> None:
    labels = LabelSet("odd", ("</script><b>", "<i>&'\""))
    rows = one_track(["happy"] * 4)
    places = {"frame": rows.frame, "time": rows.time, "box": rows.box, "points": rows.points, "track": 0, "face": 0}
    faces = Faces.build(4, sources=("movie.mp4",), labels=labels, expression=[0.7, 0.3], **places)
    index = write_index(tmp_path / "m.mien", faces)
    said = dict(index.manifest) | {"film": dict(index.manifest["film"]) | {"name": "</title><b>x\n</script>"}}
    write_manifest(index.path, said)
    made = timeline(Index.open(index.path), tmp_path / "t.html", pictures=0)
    text = made.path.read_text("utf-8")
    assert "<b>" not in text
    assert "<i>&" not in text
    assert text.count("</script>") == 2
    assert held(made.path)["labels"] == list(labels)
    assert held(made.path)["film"]["name"] == "</title><b>x </script>"


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    index = film_index(tmp_path, ["happy"] * 5)
    text = timeline(index, tmp_path / "t.html", pictures=2).path.read_text("utf-8")
    script = text.rpartition("<script>")[2]
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert "<link" not in text
    assert "src=" not in text.partition("<script type=")[0]
    assert "innerHTML" not in script
    assert "eval(" not in script


def test_times_count_from_the_first_frame_and_are_shown_as_the_container_has_them(tmp_path: Path) -> None:
    faces = one_track(["happy"] * 10)
    index = write_index(tmp_path / "m.mien", faces.with_(time=faces.time + 3600))
    made = timeline(index, tmp_path / "t.html", pictures=0)
    assert made.document["film"]["origin"] == 3600
    assert made.document["tracks"][0]["start"] == 0
    assert "<td>1:00:00.00</td>" in made.path.read_text("utf-8")


@pytest.mark.parametrize(("name", "options", "word"), [("t.pdf", {}, "html"), ("t.html", {"pictures": -1}, "-1")])
def test_an_impossible_option_is_named(tmp_path: Path, name: str, options: dict[str, Any], word: str) -> None:
    index = write_index(tmp_path / "m.mien", one_track(["happy"]))
    with pytest.raises(OptionError, match=word):
        timeline(index, tmp_path / name, **options)


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    index = write_index(tmp_path / "m.mien", one_track(["happy"]))
    with pytest.raises(OutputError, match="folder"):
        timeline(index, tmp_path / "nowhere" / "t.html")


def test_two_hours_with_two_thousand_tracks_stay_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count, length = 2000, 220
    track = np.repeat(np.arange(count), length)
    frame = np.repeat(np.sort(rng.integers(0, 179_000, count)), length) + np.tile(np.arange(length), count)
    scores = rng.dirichlet(np.ones(8), len(track)).astype(np.float32)
    x = rng.uniform(0, 500, len(track)).astype(np.float32)
    rows = Rows(track, frame, frame, np.stack([x, x, x + 60, x + 60], 1), np.zeros(len(track), np.uint16), scores,
                frame / FPS, (frame + 1) / FPS)  # fmt: skip
    begun = time.perf_counter()
    found = curves(rows)
    packed = found.packed(0.0, 640, 360)
    assert time.perf_counter() - begun < 20
    assert len(packed["data"]) <= 8_000_010
    assert found.count.min() > 1
    assert math.isclose(float(found.high.max()), float(scores.max()), abs_tol=1e-6)
    assert PICTURES * 15_000 * 4 / 3 < 6_100_000
