"""Reports over a film's faces: sums against a plain loop, intervals, what is withheld, and the files."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filmindex import FPS, in_order, one_track, write_index
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.errors import DataError, OptionError, OutputError
from mien.film.index import Index, write_manifest
from mien.film.report import BY, NONE_NAMED, Period, Report, document, report, write
from mien.film.report_spread import ENOUGH, wilson
from mien.film.report_when import clock
from mien.film.tables import Frames
from mien.labels import EIGHT, LabelSet
from mien.results.columns import Reason
from mien.results.faces import Faces

NAMES = (*EIGHT, NONE_NAMED)


def some_faces(seed: int = 0, tracks: int = 9, frames: int = 200) -> Faces:
    """Tracks that come and go, some rows not read, some without a label."""
    rng = np.random.default_rng(seed)
    parts = []
    for track in range(tracks):
        first, length = int(rng.integers(0, frames - 20)), int(rng.integers(5, 60))
        tops = [str(t) for t in rng.choice(["happy", "sad", "neutral", "", "-"], length, p=[0.4, 0.2, 0.2, 0.15, 0.05])]
        parts.append(one_track(tops, track=track, first=first, best=float(rng.uniform(0.5, 0.95))))
    faces = in_order(parts)
    low = (rng.random(len(faces)) < 0.1) & faces.read
    return faces.with_(reason=np.where(low, int(Reason.LOW_SCORE), faces.reason).astype(np.uint16))


def film_of(path: Path, faces: Faces, times: np.ndarray | None = None, shots: int = 1) -> Index:
    """An index of these faces, whose frame table also holds the frames without any, at uneven times."""
    count = int(faces.frame.max()) + 1
    times = np.arange(count) / FPS if times is None else times
    seen = np.bincount(faces.frame, minlength=count)
    frames = Frames.build(
        count,
        ordinal=np.arange(count),
        frame=np.arange(count),
        time=times,
        shot=np.arange(count) * shots // count,
        faces=seen,
        change=0,
        detected=True,
        reason=np.where(seen == 0, "no_face", ""),
    )
    return write_index(path, faces.with_(time=times[faces.frame]), frames=frames)


def plain(index: Index, start: float, end: float, shot: int | None = None) -> dict[str, Any]:
    """What a period holds, row by row."""
    frames, faces, details = index.frames(), index.faces(), index.details()
    out: dict[str, Any] = defaultdict(float)
    named, by_time, scores = defaultdict(float), defaultdict(float), np.zeros(len(index.labels))
    tracks, tracks_read, reasons = set(), set(), defaultdict(float)
    for place in range(len(frames)):
        if shot is not None and frames.shot[place] != shot:
            continue
        span = min(frames.ends[place], end) - max(frames.time[place], start)
        if span <= 1e-9:
            continue
        rows = [r for r in range(len(faces)) if details["ordinal"][r] == frames.ordinal[place] and faces.found[r]]
        read = [r for r in rows if faces.read[r]]
        out["seconds"] += span
        out["with_face"] += span * bool(rows)
        out["with_read"] += span * bool(read)
        out["face_seconds"] += span * len(rows)
        out["read_seconds"] += span * len(read)
        for r in rows:
            tracks.add(int(faces.track[r]))
            if r in read:
                tracks_read.add(int(faces.track[r]))
                name = str(faces.top[r]) or NONE_NAMED
                named[name] += span
                by_time[name] += span / len(read)
                scores += span * faces.expression[r].astype(np.float64)
            else:
                for word in Reason(int(faces.reason[r])).words.split("|"):
                    reasons[word] += span
    out |= {"tracks": len(tracks), "tracks_read": len(tracks_read), "faces": out["face_seconds"] / out["seconds"]}
    if out["read_seconds"]:
        out["by_face"] = {n: named[n] / out["read_seconds"] for n in NAMES}
        out["by_time"] = {n: by_time[n] / out["with_read"] for n in NAMES}
        out["scores"] = dict(zip(index.labels, scores / out["read_seconds"], strict=True))
    if out["face_seconds"]:
        out["unread"] = 1 - out["read_seconds"] / out["face_seconds"]
        out["reasons"] = {w: s / out["face_seconds"] for w, s in reasons.items()}
    return out


def agrees(period: Period, expected: dict[str, Any]) -> None:
    for name in ("seconds", "with_face", "with_read", "face_seconds", "read_seconds", "faces", "tracks", "tracks_read"):
        assert getattr(period, name) == pytest.approx(expected[name], abs=1e-6), name
    for name in ("by_face", "by_time", "scores"):
        values = {key: share.value for key, share in getattr(period, name).items()}
        assert values == pytest.approx(expected.get(name, {}), abs=1e-6), name
    assert period.reasons == pytest.approx(expected.get("reasons", {}), abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_a_film_agrees_with_a_plain_loop(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.01, 0.3, 400))
    index = film_of(tmp_path / "m.mien", some_faces(seed), times[: int(some_faces(seed).frame.max()) + 1], shots=4)
    (whole,) = report([index]).periods
    agrees(whole, plain(index, -math.inf, math.inf))
    shots = report([index], by="shot").periods
    assert [s.name for s in shots] == ["shot 0", "shot 1", "shot 2", "shot 3"]
    for number, period in enumerate(shots):
        agrees(period, plain(index, -math.inf, math.inf, shot=number))


@pytest.mark.parametrize("by", ["minute", "hour"])
def test_a_frame_across_a_border_counts_on_both_sides(tmp_path: Path, by: str) -> None:
    faces = some_faces(5)
    length = 60 if by == "minute" else 3600
    count = int(faces.frame.max()) + 1
    # The frames in the middle are shown for more than a whole period.
    times = np.arange(count) * length / 50.3 + np.where(np.arange(count) > 60, 2.4 * length, 0)
    index = film_of(tmp_path / "m.mien", faces, times)
    found = report([index], by=by).periods
    assert [p.name for p in found][:2] == ["0:00:00", clock(length)]
    assert sum(p.seconds for p in found) == pytest.approx(float(index.frames().ends[-1]))
    for period in found:
        agrees(period, plain(index, period.start, period.end))


def test_a_film_read_at_every_third_frame_has_about_the_same_shares(tmp_path: Path) -> None:
    tops = ["happy"] * 120 + ["sad"] * 60 + [""] * 30 + ["neutral"] * 90
    faces = in_order([one_track(tops, track=0), one_track(["happy"] * 200, track=1, first=50)])
    (whole,) = report([film_of(tmp_path / "a.mien", faces)]).periods
    kept = faces[faces.frame % 3 == 0]
    (thin,) = report([write_index(tmp_path / "b.mien", kept)]).periods
    assert thin.seconds == pytest.approx(whole.seconds, abs=0.1)
    for name in NAMES:
        assert thin.by_face[name].value == pytest.approx(whole.by_face[name].value, abs=0.01)
        assert thin.by_time[name].value == pytest.approx(whole.by_time[name].value, abs=0.01)


def test_a_long_frame_weighs_as_long_as_it_is_shown(tmp_path: Path) -> None:
    index = film_of(tmp_path / "m.mien", one_track(["happy", "sad", "sad"]), np.array([0.0, 3.0, 3.5]))
    (whole,) = report([index]).periods
    step = index.frames().step
    assert whole.by_face["happy"].value == pytest.approx(3 / (3.5 + step))


def test_the_two_weightings_are_what_they_say(tmp_path: Path) -> None:
    # One second with three happy faces, three seconds with one sad face.
    crowd = [one_track(["happy"] * 25, track=t) for t in range(3)]
    index = write_index(tmp_path / "m.mien", in_order([*crowd, one_track(["sad"] * 75, track=3, first=25)]))
    (whole,) = report([index]).periods
    assert (whole.by_face["happy"].value, whole.by_time["happy"].value) == pytest.approx((0.5, 0.25))
    assert (whole.faces, whole.face_seconds, whole.tracks) == pytest.approx((1.5, 6.0, 4))


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["happy", "sad", "", "-"]), min_size=1, max_size=40), st.integers(1, 4))
def test_shares_sum_to_one_and_seconds_add_up(
    tmp_path_factory: pytest.TempPathFactory, tops: list[str], n: int
) -> None:
    parts = [one_track(tops[i:] or ["happy"], track=i, first=i) for i in range(n)]
    if not any(len(p) for p in parts):
        return
    index = write_index(tmp_path_factory.mktemp("f") / "m.mien", in_order(parts))
    for by in ("film", "shot", "minute"):
        for period in report([index], by=by).periods:
            for shares in (period.by_face, period.by_time):
                assert not shares or sum(s.value for s in shares.values()) == pytest.approx(1)
                assert all(-1e-9 <= s.value <= 1 + 1e-9 for s in shares.values())
            assert 0 <= period.with_read <= period.with_face + 1e-9 <= period.seconds + 2e-9


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Tracks of one label each, drawn with a known chance; the share of face-seconds is a mean over tracks.
    from mien.film.report_spread import spread
    from mien.film.report_sums import Cells, columns

    rng, at, held = np.random.default_rng(1), columns(2), 0
    for _ in range(300):
        sums = np.zeros((40, max(s.stop for s in at.values())))
        sums[:, at["face"]] = sums[:, at["read"]] = 1
        happy = rng.random(40) < 0.3
        sums[:, at["named"]] = np.stack([happy, ~happy, np.zeros(40)], 1)
        _, low, high = spread(Cells(np.arange(40), sums), 2).by_face[0]
        held += low <= 0.3 <= high
    assert 0.9 <= held / 300 <= 0.98


def test_intervals_hold_the_share_and_few_tracks_have_none(tmp_path: Path) -> None:
    (whole,) = report([film_of(tmp_path / "m.mien", some_faces(2, tracks=12))]).periods
    assert whole.tracks_read >= ENOUGH
    for share in (*whole.by_face.values(), *whole.by_time.values(), *whole.scores.values()):
        assert 0 <= share.low <= share.value <= share.high <= 1
    nobody = whole.by_face["angry"]
    assert (nobody.value, nobody.low, nobody.high) == pytest.approx((0.0, *wilson(0.0, whole.tracks_read)), abs=1e-9)
    (few,) = report([film_of(tmp_path / "few.mien", some_faces(2, tracks=ENOUGH - 1))]).periods
    assert all(math.isnan(s.low) and math.isnan(s.high) and not math.isnan(s.value) for s in few.by_face.values())


def test_equal_seeds_give_equal_reports(tmp_path: Path) -> None:
    index = film_of(tmp_path / "m.mien", some_faces(3, tracks=12))
    assert document(report([index])) == document(report([index]))
    assert document(report([index])) != document(report([index], seed=1))


def test_wilson_is_that_of_a_second_source() -> None:
    # The root form: the shares p with |share - p| = z √(p (1 - p) / n).
    for share, n in ((0.0, 5), (1.0, 9), (0.3, 40)):
        for edge in wilson(share, n):
            assert abs(share - edge) == pytest.approx(1.959963984540054 * math.sqrt(edge * (1 - edge) / n), abs=1e-9)


def test_a_change_is_held_against_the_period_before(tmp_path: Path) -> None:
    parts = [one_track(["happy"] * 25 + ["sad"] * 25, track=t, first=0) for t in range(6)]
    parts += [one_track(["sad"] * 25, track=9, first=0)]
    index = film_of(tmp_path / "m.mien", in_order(parts), np.arange(50) * 2.4)
    first, second = report([index], by="minute").periods
    assert first.change == {}
    for name in NAMES:
        expected = second.by_face[name].value - first.by_face[name].value
        assert second.change[name].value == pytest.approx(expected)
        assert second.change[name].low <= expected <= second.change[name].high
    assert second.change["happy"].value == pytest.approx(-6 / 7)


def test_a_change_stays_within_its_film(tmp_path: Path) -> None:
    a = write_index(tmp_path / "a.mien", one_track(["happy"] * 50))
    b = write_index(tmp_path / "b.mien", one_track(["sad"] * 50))
    assert [p.change for p in report([a, b], by="minute").periods] == [{}, {}]
    change = report([a, b]).periods[1].change
    assert (change["happy"].value, change["sad"].value) == pytest.approx((-1, 1))


def test_cells_of_few_faces_are_withheld(tmp_path: Path) -> None:
    many = [one_track(["happy"] * 25, track=t) for t in range(5)]
    blurred = [one_track([""] * 25, track=t, first=25) for t in range(5, 10)]
    faces = in_order(
        [*many, *blurred, one_track(["sad"] * 50, track=10, first=25), one_track(["sad"], track=11, first=60)]
    )
    count = int(faces.frame.max()) + 1
    frames = Frames.build(
        count, ordinal=np.arange(count), frame=np.arange(count), time=np.arange(count) / FPS, change=0, detected=True,
        shot=np.minimum(np.arange(count) // 25, 2), faces=np.bincount(faces.frame, minlength=count),
    )  # fmt: skip
    index = write_index(tmp_path / "m.mien", faces, frames=frames)
    first, second, third = report([index], by="shot", least=5).periods
    assert (first.withheld, first.tracks, first.by_face["happy"].value) == ("", 5, 1)
    assert second.withheld == "expressions: fewer than 5 faces read"
    assert (second.tracks, second.tracks_read, second.by_face, second.reasons) == (6, -1, {}, {})
    assert third.withheld == "fewer than 5 faces"
    assert (third.tracks, third.by_face, third.change) == (-1, {}, {})
    numbers = (third.faces, third.face_seconds, third.with_face, third.read_seconds, third.unread)
    assert all(math.isnan(n) for n in numbers)
    assert third.seconds == pytest.approx(1)
    assert report([index], by="shot", least=1).periods[2].withheld == ""


def test_a_period_without_a_face_says_so(tmp_path: Path) -> None:
    faces = Faces.missing("movie.mp4", Reason.NO_FACE, time=0.0)
    (whole,) = report([write_index(tmp_path / "m.mien", faces)], least=3).periods
    assert (whole.withheld, whole.tracks, whole.faces, whole.by_face, whole.reasons) == ("", 0, 0, {}, {})
    assert math.isnan(whole.unread)


def test_faces_without_a_track_count_and_are_no_track(tmp_path: Path) -> None:
    index = write_index(tmp_path / "m.mien", one_track(["happy"] * 4, track=-1))
    (whole,) = report([index]).periods
    assert (whole.tracks, whole.withheld, whole.by_face["happy"].value) == (0, "", 1)
    assert report([index], least=2).periods[0].withheld == "fewer than 2 faces"


def recorded(index: Index, when: str | None) -> Index:
    said = dict(index.manifest) | {"film": dict(index.manifest["film"]) | {"recorded": when}}
    write_manifest(index.path, said)
    return Index.open(index.path)


def test_days_begin_at_midnight_of_the_recording(tmp_path: Path) -> None:
    faces = one_track(["happy"] * 60 + ["sad"] * 60)
    index = film_of(tmp_path / "m.mien", faces, 7 + np.arange(120) * 2.0)
    index = recorded(index, "2024-02-28T23:58:00Z")
    found = report([index], by="day").periods
    assert [(p.name, p.film, round(p.seconds)) for p in found] == [("2024-02-28", "", 120), ("2024-02-29", "", 120)]
    assert [p.by_face["happy"].value for p in found] == pytest.approx([1, 0])


def test_a_day_joins_films_and_a_date_can_be_given(tmp_path: Path) -> None:
    a = write_index(tmp_path / "a.mien", one_track(["happy"] * 50))
    b = write_index(tmp_path / "b.mien", one_track(["sad"] * 150))
    with pytest.raises(OptionError, match="--date YYYY-MM-DD"):
        report([a, b], by="day")
    (day,) = report([a, b], by="day", dates=["2024-05-01"]).periods
    assert (day.name, day.tracks) == ("2024-05-01", 2)
    assert day.by_face["sad"].value == pytest.approx(0.75)
    two = report([a, b], by="day", dates=["2024-05-02", "2024-05-01T10:00"]).periods
    assert [(p.name, p.by_face["sad"].value) for p in two] == [("2024-05-01", 1), ("2024-05-02", 0)]
    for wrong in (["today"], ["2024-13-01"]):
        with pytest.raises(OptionError, match="no date"):
            report([a], by="day", dates=wrong)
    with pytest.raises(OptionError, match="3 dates for 2 films"):
        report([a, b], by="day", dates=["2024-05-01"] * 3)


@pytest.mark.parametrize(("options", "word"), [({"by": "week"}, "week"), ({"least": 0}, "least")])
def test_an_impossible_option_is_named(tmp_path: Path, options: dict[str, Any], word: str) -> None:
    index = write_index(tmp_path / "m.mien", one_track(["happy"]))
    with pytest.raises(OptionError, match=word):
        report([index], **options)


def test_films_of_other_labels_are_refused(tmp_path: Path) -> None:
    two = LabelSet("two", ("smile", "none"))
    other = Faces.build(1, sources=("movie.mp4",), labels=two, face=0, time=0, expression=[0.5, 0.5])
    with pytest.raises(DataError, match="smile"):
        report([write_index(tmp_path / "a.mien", one_track(["happy"])), write_index(tmp_path / "b.mien", other)])


def test_frames_that_cannot_be_read_and_have_no_time(tmp_path: Path) -> None:
    faces = Faces.concat([one_track(["happy"] * 3), Faces.missing("movie.mp4", Reason.UNREADABLE, frame=3)])
    why = ["", "", "", "unreadable"]
    times = [0, 0.04, 0.08, np.nan]
    frames = Frames.build(4, ordinal=range(4), frame=range(4), time=times, change=0, faces=[1, 1, 1, 0], reason=why)
    (whole,) = report([write_index(tmp_path / "m.mien", faces, frames=frames)]).periods
    assert (whole.seconds, whole.unreadable, whole.end) == pytest.approx((0.16, 0.04, 0.16))


def test_a_report_names_nobody(tmp_path: Path) -> None:
    index = film_of(tmp_path / "m.mien", some_faces(2, tracks=12), shots=3)
    fields = set(document(report([index], by="shot"))["periods"][0])
    assert fields.isdisjoint({"track", "box", "best_frame", "picture", "person", "path"})


def written(tmp_path: Path, found: Report, name: str) -> str:
    write(found, tmp_path / name)
    return (tmp_path / name).read_text("utf-8")


@pytest.mark.parametrize("by", [b for b in BY if b != "day"])
def test_every_file_holds_the_numbers_of_the_report(tmp_path: Path, by: str) -> None:
    found = report([film_of(tmp_path / "m.mien", some_faces(2, tracks=12), shots=5)], by=by, least=3)
    told = json.loads(json.dumps(document(found)))
    assert json.loads(written(tmp_path, found, "r.json")) == told
    page = written(tmp_path, found, "r.html")
    held = page.partition('<script type="application/json" id="report">')[2].partition("</script>")[0]
    assert json.loads(held) == told
    rows = list(csv.DictReader(written(tmp_path, found, "r.csv").splitlines()))
    assert len(rows) == len(found.periods)
    for row, period in zip(rows, told["periods"], strict=True):
        assert row["withheld"] == period["withheld"]
        for kind in ("by_face", "by_time", "scores", "change"):
            for name, share in period[kind].items():
                cells = [row[f"{name.replace(' ', '_')}_{kind}{end}"] for end in ("", "_low", "_high")]
                assert [float(c) if c else None for c in cells] == share


def test_odd_names_stay_text(tmp_path: Path) -> None:
    index = write_index(tmp_path / "m.mien", one_track(["happy"] * 3))
    odd = dict(index.manifest) | {"film": dict(index.manifest["film"]) | {"name": '</script><b>x\n,".mp4'}}
    write_manifest(index.path, odd)
    found = report([Index.open(index.path)])
    page = written(tmp_path, found, "r.html")
    assert "<b>x" not in page
    assert page.count("</script>") == 1
    held = page.partition('<script type="application/json" id="report">')[2].partition("</script>")[0]
    assert json.loads(held)["films"] == ['</script><b>x ,".mp4']
    assert len(list(csv.reader(written(tmp_path, found, "r.csv").splitlines()))) == 2


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    found = report([write_index(tmp_path / "m.mien", one_track(["happy"]))])
    with pytest.raises(OptionError, match=r"\.html, \.csv, \.json"):
        write(found, tmp_path / "r.pdf")
    with pytest.raises(OutputError, match="folder"):
        write(found, tmp_path / "nowhere" / "r.json")
