"""The tracker: one number a face, through gaps, crossings, cuts, odd times, and a stop in the middle."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mien.errors import OptionError, ShapeError
from mien.track.tracker import Follow, Sightings, Tracked, Tracker

SIDE = 40.0
STEP = 1 / 25
NOWHERE = (-1e4, -1e4)


def seen(middles: Any, people: Any = None, *, side: float = SIDE) -> Sightings:
    """Square faces at middles (N, 2); person p looks like the p-th of eight axes, -1 like nothing known."""
    m = np.asarray(middles, np.float32).reshape(-1, 2)
    n = len(m)
    looks = np.zeros((n, 0 if people is None else 8), np.float32)
    for row, person in enumerate([] if people is None else people):
        if person >= 0:
            looks[row, person] = 1
    score = np.linspace(0.9, 0.8, n, dtype=np.float32)
    return Sightings(np.concatenate([m - side / 2, m + side / 2], 1), score, np.zeros((n, 5, 2), np.float32), looks)


def following(places: dict[int, tuple[float, float]], *, reach: float = SIDE) -> Follow:
    """A second look: at each place asked, the nearest person within reach."""

    def follow(box: np.ndarray) -> tuple[Sightings, np.ndarray]:
        middle = (box[:, :2] + box[:, 2:]) / 2
        everyone = list(places)
        where = np.array([places[p] for p in everyone] or [NOWHERE])
        away = np.linalg.norm(middle[:, None] - where[None], axis=2)
        nearest = away.argmin(1)
        there = away.min(1) < reach
        people = [everyone[i] if ok else -1 for i, ok in zip(nearest, there, strict=True)]
        return seen(np.where(there[:, None], where[nearest], middle), people), there

    return follow


def names(tracker: Tracker, found: Sightings | None, time: float, **options: Any) -> list[int]:
    return tracker.update(found, time=time, **options).track.tolist()


def test_numbers_go_by_the_order_of_appearance() -> None:
    tracker = Tracker()
    assert names(tracker, seen([(100, 100), (300, 100)], [0, 1]), 0.0) == [0, 1]
    # What is found comes in another order, and a third face with it.
    assert names(tracker, seen([(302, 100), (500, 100), (103, 100)], [1, 2, 0]), STEP) == [1, 2, 0]
    out = tracker.update(seen([(106, 100)], [0]), time=2 * STEP)
    assert (out.track.tolist(), out.source.tolist(), out.carried.tolist()) == ([0], [0], [False])


@pytest.mark.parametrize("people", [[0], None], ids=["look", "no look"])
@pytest.mark.parametrize(("gap", "same"), [(1.0, True), (2.5, False)])
def test_a_face_comes_back_within_patience(people: list[int] | None, gap: float, *, same: bool) -> None:
    tracker = Tracker(patience=2.0)
    assert names(tracker, seen([(100, 100)], people), 0.0) == [0]
    for frame in range(1, round(gap / STEP)):
        assert names(tracker, seen([], None if people is None else []), frame * STEP) == []
    assert names(tracker, seen([(105, 100)], people), gap) == [0 if same else 1]


def test_another_person_at_the_same_place_is_another_track() -> None:
    tracker = Tracker()
    names(tracker, seen([(100, 100)], [0]), 0.0)
    assert names(tracker, seen([(100, 100)], [1]), STEP) == [1]
    # The first comes back beside her, and keeps the number.
    assert names(tracker, seen([(100, 100), (150, 100)], [1, 0]), 2 * STEP) == [1, 0]


@pytest.mark.parametrize("hidden", [0, 6])
def test_two_that_cross_keep_their_numbers(hidden: int) -> None:
    tracker = Tracker()
    for frame in range(60):
        left, right = 100 + 6.0 * frame, 454 - 6.0 * frame
        people, places = [0, 1], [(left, 100.0), (right, 100.0)]
        if abs(left - right) < 6 * hidden:
            people, places = people[:1], places[:1]
        out = tracker.update(seen(places, people), time=frame * STEP)
        assert out.track.tolist() == people


def test_without_looks_motion_decides() -> None:
    tracker = Tracker()
    for frame in range(60):
        places = [(100 + 6.0 * frame, 100.0), (454 - 6.0 * frame, 118.0)]
        assert names(tracker, seen(places), frame * STEP) == [0, 1]


def test_a_cut_ends_every_track_and_numbers_go_on() -> None:
    tracker = Tracker()
    names(tracker, seen([(100, 100), (300, 100)], [0, 1]), 0.0)
    assert names(tracker, seen([(100, 100), (300, 100)], [0, 1]), STEP, cut=True) == [2, 3]
    everyone = following({0: (100, 100), 1: (300, 100)})
    assert names(tracker, None, 2 * STEP, cut=True, follow=everyone) == []


def test_what_the_detector_missed_is_looked_for_again() -> None:
    tracker = Tracker()
    for frame in range(2):
        names(tracker, seen([(100, 100), (300, 100), (500, 100)], [0, 1, 2]), frame * STEP)
    everyone = following({0: (101, 100), 1: (301, 100), 2: (501, 100)})
    out = tracker.update(seen([(301, 100)], [1]), time=2 * STEP, follow=everyone)
    assert out.track.tolist() == [1, 0, 2]
    assert out.source.tolist() == [0, -1, -1]
    assert out.carried.tolist() == [False, True, True]
    np.testing.assert_array_equal(out.sightings.box[1], seen([(101, 100)]).box[0])


def test_where_the_detector_did_not_look_all_are_followed_in_the_order_of_tracks() -> None:
    tracker = Tracker()
    places = {p: (100.0 + 100 * p, 100.0) for p in range(4)}
    names(tracker, seen([places[3], places[1], places[0]], [3, 1, 0]), 0.0)
    for frame in range(1, 30):
        places = {p: (100.0 + 100 * p + 3 * frame, 100.0) for p in range(4)}
        out = tracker.update(None, time=frame * STEP, follow=following(places))
        assert out.track.tolist() == [0, 1, 2]
        assert out.carried.all()
        np.testing.assert_array_equal(out.sightings.look.argmax(1), [3, 1, 0])
    # Nobody looks: nothing is said, and nothing is forgotten.
    assert names(tracker, None, 30 * STEP) == []
    assert names(tracker, seen([(490, 100)], [3]), 31 * STEP) == [0]


def test_a_second_look_that_finds_nothing_or_another_is_no_sighting() -> None:
    tracker = Tracker()
    for frame in range(3):
        names(tracker, seen([(100, 100), (125, 100)], [0, 0]), frame * STEP)
    # One has gone: the second look sees the other in her place, who was found already.
    out = tracker.update(seen([(102, 100)], [0]), time=3 * STEP, follow=following({0: (102, 100)}))
    assert out.track.tolist() == [0]
    # There is a face, but nobody who looks like the one that was there.
    assert names(tracker, None, 4 * STEP, follow=following({5: (102, 100)})) == []
    # She is seen again, a moment later.
    assert names(tracker, None, 5 * STEP, follow=following({0: (102, 100)})) == [0]
    assert names(tracker, None, 6 * STEP, follow=following({})) == []


def test_two_tracks_cannot_follow_one_face() -> None:
    tracker = Tracker()
    names(tracker, seen([(100, 100), (125, 100)], [0, 0]), 0.0)
    out = tracker.update(None, time=STEP, follow=following({0: (122, 100)}))
    assert out.track.tolist() == [1]


def test_a_place_that_only_the_second_look_takes_for_a_face_is_let_go() -> None:
    always = following({0: (100, 100)})
    for finds, followed in ((1, 0), (2, 1), (5, 4), (30, 12)):
        tracker = Tracker()
        for frame in range(finds):
            names(tracker, seen([(100, 100)], [0]), frame * STEP)
        rows = [len(names(tracker, seen([], []), (finds + k) * STEP, follow=always)) for k in range(40)]
        # Fewer times than it was found, and no longer than half a second.
        assert rows == [1] * followed + [0] * (40 - followed)


@pytest.mark.parametrize(
    "times",
    [
        [math.nan] * 40,
        [0.0] * 40,
        [-STEP * k for k in range(40)],
        [math.nan if k % 3 else 1e6 + k * STEP for k in range(40)],
        np.cumsum(np.random.default_rng(0).choice([1e-5, 0.001, 0.04, 0.4], 40)).tolist(),
        [math.inf] * 40,
    ],
    ids=["none", "all the same", "backwards", "some", "variable rate", "infinite"],
)
def test_odd_times_break_no_track(times: list[float]) -> None:
    tracker = Tracker()
    for frame, time in enumerate(times):
        found = seen([(100 + 2 * frame, 100), (400 - 2 * frame, 200)], [0, 1])
        assert names(tracker, found if frame % 4 else found[np.array([0])], time) == ([0, 1] if frame % 4 else [0])
        if not frame:
            # The second face is first seen in the second frame, as number 1.
            assert json.loads(json.dumps(tracker.state(), allow_nan=False))["next"] == 1


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_the_stride_changes_no_number(stride: int) -> None:
    tracker = Tracker()
    for frame in range(0, 120, stride):
        time = frame * STEP
        places = [(200 + 150 * math.sin(time), 100), (200 - 150 * math.sin(time), 100 + 90 * math.cos(time))]
        assert names(tracker, seen(places, [0, 1]), time) == [0, 1]


def test_memory_does_not_grow_with_the_film() -> None:
    rng = np.random.default_rng(1)
    tracker = Tracker()
    sizes = []
    for frame in range(900):
        # A steady face, and a false one somewhere in each frame.
        out = tracker.update(seen([(100, 100), rng.uniform(0, 5000, 2)], [0, 1 + frame % 7]), time=frame * STEP)
        assert out.track[0] == 0
        if frame % 20 == 0:
            sizes.append(len(json.dumps(tracker.state())))
    assert max(sizes[22:]) < 1.3 * max(sizes[5:22])


def drama(seed: int, frames: int = 40) -> list[tuple[Sightings | None, dict[str, Any]]]:
    """A wild film: faces walk, vanish, are found in any order or not at all; cuts, gaps in time, unknown times."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    place, speed = rng.uniform(0, 300, (n, 2)), rng.normal(0, 6, (n, 2))
    looks = rng.random() < 0.8
    time, out = 0.0, []
    for _ in range(frames):
        place = place + speed + rng.normal(0, 1, (n, 2))
        time += float(rng.choice([STEP, 0.1, 1.0], p=[0.9, 0.07, 0.03]))
        there = rng.permutation(np.flatnonzero(rng.random(n) < 0.8))
        found = seen(place[there], there.tolist() if looks else None) if rng.random() < 0.7 else None
        again = following({int(p): tuple(place[p]) for p in range(n) if rng.random() < 0.8}) if looks else None
        now = math.nan if rng.random() < 0.1 else time
        out.append((found, {"time": now, "cut": bool(rng.random() < 0.04), "follow": again}))
    return out


def same(a: Tracked, b: Tracked) -> None:
    for name in ("track", "carried", "source"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("box", "score", "points", "look"):
        assert getattr(a.sightings, name).tobytes() == getattr(b.sightings, name).tobytes()


@given(st.integers(0, 10_000), st.integers(0, 39))
@settings(max_examples=40)
def test_going_on_after_a_restore_is_never_having_stopped(seed: int, stop: int) -> None:
    film = drama(seed)
    whole, broken = Tracker(patience=1.5), Tracker(patience=1.5)
    for number, (found, options) in enumerate(film):
        if number == stop:
            broken = Tracker.restored(json.loads(json.dumps(broken.state(), allow_nan=False)))
        same(whole.update(found, **options), broken.update(found, **options))
    assert json.dumps(whole.state()) == json.dumps(broken.state())


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_whatever_comes_the_rows_are_in_order(seed: int) -> None:
    tracker, highest = Tracker(), -1
    for found, options in drama(seed):
        out = tracker.update(found, **options)
        n = 0 if found is None else len(found)
        assert out.source[:n].tolist() == list(range(n))
        assert (out.source[n:] == -1).all()
        assert out.carried.tolist() == [False] * n + [True] * (len(out.track) - n)
        if found is not None:
            np.testing.assert_array_equal(out.sightings.box[:n], found.box)
        assert (np.diff(out.track[n:]) > 0).all()
        assert len(set(out.track.tolist())) == len(out.track)
        new = [t for t in out.track.tolist() if t > highest]
        assert new == list(range(highest + 1, highest + 1 + len(new)))
        highest += len(new)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(OptionError, match="patience is -1"):
        Tracker(patience=-1)
    with pytest.raises(OptionError, match="patience is nan"):
        Tracker(patience=math.nan)
    good = seen([(1, 1)], [0])
    with pytest.raises(ShapeError, match="score"):
        Sightings(good.box, good.score[:0], good.points, good.look)
    with pytest.raises(ShapeError, match="look"):
        Sightings(good.box, good.score, good.points, good.look[0])
    with pytest.raises(ShapeError, match="finite"):
        Sightings(good.box * np.float32(math.nan), good.score, good.points, good.look)
    tracker = Tracker()
    tracker.update(good, time=0.0)
    with pytest.raises(ShapeError, match="look"):
        tracker.update(seen([(1, 1)]), time=STEP)
