"""Steady scores and the rule of when an expression counts, against naive loops and tables worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from filmindex import in_order, one_track
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mien.errors import DataError, OptionError, ShapeError
from mien.results.columns import Reason
from mien.track.smooth import Repeater, Smoothing, events, exponential, hysteresis, median, run_numbers, smoothed

Rows = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


@st.composite
def rows(draw: st.DrawFn, labels: int = 4) -> Rows:
    """Scores (N, K), track, ordinal and time of up to four tracks, shuffled, with gaps, unread and untracked rows."""
    seed = draw(st.integers(0, 2**32 - 1))
    size = draw(st.integers(0, 200))
    rng = np.random.default_rng(seed)
    track = rng.integers(-1, 4, size)
    ordinal = rng.permutation(max(size * 2, 1))[:size]
    for t in range(4):  # each track mostly on consecutive frames
        at = np.flatnonzero(track == t)
        ordinal[at] = rng.permutation(np.sort(rng.choice(len(at) + 6, len(at), replace=False)))
    time = 0.04 * ordinal + 0.01 * np.sin(ordinal)
    scores = rng.dirichlet(np.full(labels, 0.5), size)
    scores[rng.random(size) < 0.1] = np.nan
    return scores, track, ordinal, time


def of_track(track: NDArray[np.int64], ordinal: NDArray[np.int64]) -> list[list[int]]:
    """The rows of each track in the order of its frames."""
    return [sorted(np.flatnonzero(track == t), key=lambda i: ordinal[i]) for t in sorted(set(track.tolist()) - {-1})]


def read(scores: NDArray[np.float64], i: int) -> bool:
    return not bool(np.isnan(scores[i]).any())


# Numbers of runs


def test_a_run_ends_where_the_track_changes_or_the_face_is_gone() -> None:
    track = np.array([0, 0, 0, 0, 2, 2, -1, -1])
    ordinal = np.array([3, 4, 6, 9, 9, 10, 10, 11])
    assert run_numbers(track, ordinal).tolist() == [2, 2, 3, 4, 5, 5, 0, 1]
    assert run_numbers(track, ordinal, bridge=1).tolist() == [2, 2, 2, 3, 4, 4, 0, 1]
    assert run_numbers(track, ordinal, bridge=2).tolist() == [2, 2, 2, 2, 3, 3, 0, 1]


@given(rows(), st.integers(0, 3))
def test_runs_are_those_of_a_loop(data: Rows, bridge: int) -> None:
    _, track, ordinal, _ = data
    numbers = run_numbers(track, ordinal, bridge=bridge)
    begun: set[int] = set()
    for at in of_track(track, ordinal):
        for before, now in zip([None, *at], at, strict=False):
            new = before is None or ordinal[now] - ordinal[before] > 1 + bridge
            assert (numbers[now] not in begun) if new else (numbers[now] == numbers[before])
            begun.add(int(numbers[now]))


def test_two_rows_of_a_track_in_one_frame_are_refused() -> None:
    with pytest.raises(DataError, match="track 3 has two rows in frame 7"):
        run_numbers(np.array([3, 1, 3]), np.array([7, 7, 7]))
    assert run_numbers(np.array([-1, -1]), np.array([7, 7])).tolist() == [0, 1]


# Exponential smoothing


def naive_exponential(data: Rows, seconds: float, gap: float) -> NDArray[np.float64]:
    scores, track, _, time = data
    out = scores.copy()
    for at in of_track(track, np.argsort(np.argsort(time))):
        last = None
        for i in at:
            if not read(scores, i):
                continue
            if last is not None and time[i] - time[last] <= gap:
                a = math.exp(-(time[i] - time[last]) / seconds)
                out[i] = a * out[last] + (1 - a) * scores[i]
            last = i
    return out


@given(rows(), st.floats(0.01, 3), st.floats(0.05, 0.3))
def test_exponential_is_that_of_a_loop(data: Rows, seconds: float, gap: float) -> None:
    scores, track, _, time = data
    found = exponential(scores, time, track, seconds=seconds, gap=gap)
    np.testing.assert_allclose(found, naive_exponential(data, seconds, gap), atol=1e-12)


def test_exponential_of_long_tracks_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    n = 100_000
    track = rng.integers(0, 3, n)
    scores, time = rng.dirichlet(np.ones(2), n), rng.permutation(n) * 0.01
    found = exponential(scores, time, track, seconds=0.5)
    data = scores, track, np.argsort(np.argsort(time)), time
    np.testing.assert_allclose(found, naive_exponential(data, 0.5, 1.0), atol=1e-12)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-12)


def test_a_step_has_come_through_by_63_per_cent_after_the_time_constant_at_any_frame_rate() -> None:
    for fps in (10, 25, 240):
        time = np.arange(2 * fps) / fps
        scores = np.stack([time < 1, time >= 1], 1).astype(np.float64)
        found = exponential(scores, time, np.zeros(len(time), np.int64), seconds=0.4)
        # The step happens between two frames: it holds since the frame before it.
        at = time - (1 - 1 / fps)
        np.testing.assert_allclose(found[time >= 1, 1], 1 - np.exp(-at[time >= 1] / 0.4), atol=1e-9)


def test_exponential_begins_anew_after_a_gap_and_passes_unread_rows_by() -> None:
    nan = np.nan
    scores = np.array([[1.0, 0], [nan, nan], [0, 1], [0, 1], [1, 0]])
    time = np.array([0, 0.1, 0.2, 5.0, nan])
    found = exponential(scores, time, np.zeros(5, np.int64), seconds=0.2)
    a = math.exp(-1)
    wanted = np.array([[1, 0], [nan, nan], [a, 1 - a], [0, 1], [1, 0]], np.float64)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("options", [{"seconds": 0.0}, {"seconds": math.nan}, {"seconds": 1.0, "gap": -1.0}])
def test_impossible_times_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="above 0"):
        exponential(np.ones((1, 1)), np.zeros(1), np.zeros(1, np.int64), **options)


# The median


def naive_median(data: Rows, frames: int) -> NDArray[np.float64]:
    scores, track, ordinal, _ = data
    out = scores.copy()
    for at in of_track(track, ordinal):
        for i in at:
            if read(scores, i):
                near = [j for j in at if abs(ordinal[j] - ordinal[i]) <= frames // 2 and read(scores, j)]
                middle = np.median(scores[near], axis=0)
                out[i] = middle / middle.sum() if middle.sum() > 0 else scores[i]
    return out


@given(rows(), st.sampled_from([1, 3, 5, 9, 15, 17, 401]))
def test_median_is_that_of_a_loop(data: Rows, frames: int) -> None:
    scores, track, ordinal, _ = data
    np.testing.assert_allclose(
        median(scores, track, ordinal, frames=frames), naive_median(data, frames), rtol=1e-9, atol=1e-15
    )


def test_median_over_more_rows_than_a_block_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(1)
    n = 5000
    data = rng.dirichlet(np.ones(3), n), np.repeat([0, 1], n // 2), np.tile(np.arange(n // 2), 2), np.arange(n) / 25
    found = median(data[0], data[1], data[2], frames=5)
    part = slice(n // 2 - 40, n // 2 + 40)
    near = tuple(a[part] for a in data)
    np.testing.assert_allclose(found[part][4:-4], naive_median(near, 5)[4:-4], rtol=1e-9)  # type: ignore[arg-type]  # a tuple of four by construction


def test_a_row_whose_window_agrees_on_nothing_stays_as_it_is() -> None:
    scores = np.eye(3)
    assert median(scores, np.zeros(3, np.int64), np.arange(3), frames=5).tolist() == scores.tolist()


@pytest.mark.parametrize("frames", [0, -1, 4])
def test_an_even_window_is_refused(frames: int) -> None:
    with pytest.raises(OptionError, match="odd"):
        median(np.ones((1, 1)), np.zeros(1, np.int64), np.zeros(1, np.int64), frames=frames)


# What holds for both


WAYS: dict[str, Callable[[Rows], NDArray[np.float64]]] = {
    "exponential": lambda d: exponential(d[0], d[3], d[1], seconds=0.1),
    "median": lambda d: median(d[0], d[1], d[2], frames=5),
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@ways
@given(data=rows())
def test_rows_sum_to_one_and_unread_and_untracked_rows_stay(way: Any, data: Rows) -> None:
    found = way(data)
    blank = np.isnan(data[0]).any(1)
    np.testing.assert_allclose(found[~blank].sum(1), 1, atol=1e-9)
    stay = blank | (data[1] < 0)
    np.testing.assert_array_equal(found[stay], data[0][stay])


@ways
@given(data=rows(), seed=st.integers(0, 99))
def test_the_order_of_the_rows_does_not_matter(way: Any, data: Rows, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(data[0]))
    np.testing.assert_array_equal(way(tuple(a[order] for a in data)), way(data)[order])


@ways
@given(data=rows())
def test_nothing_leaks_from_one_track_to_another(way: Any, data: Rows) -> None:
    scores, track, ordinal, time = data
    alone = track == 1
    others = scores.copy()
    others[~alone] = np.roll(scores[~alone], 1, axis=1)
    np.testing.assert_allclose(way(data)[alone], way((others, track, ordinal, time))[alone], atol=1e-12)
    np.testing.assert_allclose(way(data)[alone], way(tuple(a[alone] for a in data)), atol=1e-12)


@ways
@given(data=rows(labels=2))
def test_with_two_labels_the_one_on_top_was_on_top_in_some_row_of_the_track(way: Any, data: Rows) -> None:
    scores, track, ordinal, _ = data
    found = way(data)
    for at in of_track(track, ordinal):
        held = [i for i in at if read(scores, i)]
        assert {int(found[i].argmax()) for i in held} <= {int(scores[i].argmax()) for i in held}


@ways
@given(data=rows())
def test_a_label_that_is_always_on_top_stays_on_top(way: Any, data: Rows) -> None:
    scores, track, ordinal, time = data
    sure = np.sort(scores, axis=1)[:, ::-1]
    found = way((sure, track, ordinal, time))
    assert (found[~np.isnan(found).any(1)].argmax(1) == 0).all()


@ways
def test_a_label_can_come_out_on_top_that_was_only_ever_second(way: Any) -> None:
    # Three rows: the first place goes to another label each time, the second always to the last label.
    scores = np.array([[0.5, 0.05, 0.05, 0.4], [0.05, 0.5, 0.05, 0.4], [0.05, 0.05, 0.5, 0.4]])
    found = way((scores, np.zeros(3, np.int64), np.arange(3), np.arange(3) * 0.1))
    assert 3 not in scores.argmax(1)
    assert found[-1].argmax() == 3


@ways
def test_single_precision_stays(way: Any) -> None:
    scores = np.full((4, 2), 0.5, np.float32)
    assert way((scores, np.zeros(4, np.int64), np.arange(4), np.arange(4) / 25)).dtype == np.float32
    assert way((scores[:0], np.zeros(0, np.int64), np.arange(0), np.arange(0) / 25)).shape == (0, 2)


# Hysteresis


@given(rows(), st.floats(0.3, 0.9), st.floats(0, 0.3), st.integers(0, 2))
def test_hysteresis_is_that_of_a_loop(data: Rows, enter: float, leave: float, bridge: int) -> None:
    scores, track, ordinal, _ = data
    score = scores[:, 0]
    found = hysteresis(score, track, ordinal, enter=enter, leave=leave, bridge=bridge)
    wanted = np.zeros(len(track), np.bool_)
    for at in of_track(track, ordinal):
        on, last = False, None
        for i in at:
            if np.isnan(score[i]):
                continue
            if last is not None and ordinal[i] - ordinal[last] > 1 + bridge:
                on = False
            on = score[i] >= enter or (on and score[i] >= leave)
            wanted[i], last = on, i
    assert found.tolist() == wanted.tolist()


def test_thresholds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(OptionError, match=r"enter is 0\.3 and leave 0\.5"):
        hysteresis(np.zeros(1), np.zeros(1, np.int64), np.zeros(1, np.int64), enter=0.3, leave=0.5)


# The repeater

H, S, N = "happy", "sad", "neutral"
TOPS = [H, H, S, "", S, S, "-", S, *[N] * 8, H, *[N] * 7, H]
r"""One face on 25 frames; "" was not read, "-" is a frame without it. Worked out by hand:

======== ========= ====== ====== ============================== ====== ======
frames   label     rows   N = 2  why                            N = 8  N = 2,
                                                                       bridge 1
======== ========= ====== ====== ============================== ====== ======
0-1      happy     2      counts two in a row                   no     counts
2        sad       1      no     frame 3 was not read           no     counts
4-5      sad       2      counts frame 6 is without the face    no     counts
7        sad       1      no     neutral follows                no     counts
8-15     neutral   8      counts eight in a row                 counts counts
16       happy     1      no     neutral follows                no     no
17-23    neutral   7      counts seven in a row                 no     counts
24       happy     1      no     the film ends                  no     no
======== ========= ====== ====== ============================== ====== ======

With one frame bridged, 2, 4-5 and 7 are one hold of four rows from frame 2 to frame 7.
"""


def columns() -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    faces = one_track(TOPS, track=4)
    return faces.top, faces.track, faces.frame, faces.time


@pytest.mark.parametrize(
    ("rule", "frames"),
    [
        (Repeater(frames=1), [0, 1, 2, 4, 5, 7, *range(8, 25)]),
        (Repeater(frames=2), [0, 1, 4, 5, *range(8, 16), *range(17, 24)]),
        (Repeater(frames=8), [*range(8, 16)]),
        (Repeater(frames=2, bridge=1), [0, 1, 2, 4, 5, 7, *range(8, 16), *range(17, 24)]),
        (Repeater(frames=4, bridge=1), [2, 4, 5, 7, *range(8, 16), *range(17, 24)]),
        (Repeater(frames=5, bridge=1), [*range(8, 16), *range(17, 24)]),
        # At 25 frames a second eight rows last 7 × 0.04 = 0.28 s from the first to the last.
        (Repeater(seconds=0.28), [*range(8, 16)]),
        (Repeater(seconds=0.29), []),
        (Repeater(seconds=0.2, bridge=1), [2, 4, 5, 7, *range(8, 16), *range(17, 24)]),
        (Repeater(seconds=0.0), [0, 1, 2, 4, 5, 7, *range(8, 25)]),
    ],
)
def test_the_rows_that_count_are_those_of_the_table(rule: Repeater, frames: list[int]) -> None:
    label, track, frame, time = columns()
    assert frame[rule.keep(label, track, frame, time)].tolist() == frames


def test_the_holds_of_the_table() -> None:
    holds = Repeater(frames=2, bridge=1).spans(*columns())
    assert holds.label.tolist() == [H, S, N, N]
    assert holds.first.tolist() == [0, 2, 8, 17]
    assert holds.last.tolist() == [1, 7, 15, 23]
    assert holds.frames.tolist() == [2, 4, 8, 7]
    np.testing.assert_allclose(holds.onset, [0, 0.08, 0.32, 0.68])
    np.testing.assert_allclose(holds.offset, [0.04, 0.28, 0.6, 0.92])
    assert holds.track.tolist() == [4] * 4
    assert len(holds) == 4


def test_two_faces_that_alternate_in_the_table_do_not_disturb_each_other() -> None:
    faces = in_order([one_track([H] * 8), one_track([S, H] * 4, track=1)])
    kept = Repeater(frames=2).keep(faces.top, faces.track, faces.frame)
    assert faces.track[kept].tolist() == [0] * 8


@given(rows(), st.integers(1, 6), st.integers(0, 2), st.booleans())
def test_rows_and_holds_are_those_of_a_loop(data: Rows, least: int, bridge: int, by_time: bool) -> None:
    scores, track, ordinal, time = data
    code = np.where(np.isnan(scores).any(1), -1, np.nan_to_num(scores).argmax(1) // 2)
    rule = Repeater(seconds=least * 0.04, bridge=bridge) if by_time else Repeater(frames=least, bridge=bridge)
    holds: list[list[int]] = []
    for at in of_track(track, ordinal):
        begun = False
        for i in at:
            if code[i] < 0:
                continue
            last = holds[-1][-1] if begun else i
            if begun and code[last] == code[i] and ordinal[i] - ordinal[last] <= 1 + bridge:
                holds[-1].append(i)
            else:
                holds.append([i])
            begun = True
    long = [h for h in holds if (time[h[-1]] - time[h[0]] >= least * 0.04 - 1e-9 if by_time else len(h) >= least)]
    assert set(np.flatnonzero(rule.keep(code, track, ordinal, time)).tolist()) == {i for h in long for i in h}
    spans = rule.spans(code, track, ordinal, time)
    found = list(zip(*(a.tolist() for a in (spans.first, spans.track, spans.last, spans.frames)), strict=True))
    assert found == sorted((ordinal[h[0]], track[h[0]], ordinal[h[-1]], len(h)) for h in long)
    # Live: a row counts once its hold is long enough up to it.
    wanted = {
        i
        for h in holds
        for n, i in enumerate(h)
        if (time[i] - time[h[0]] >= least * 0.04 - 1e-9 if by_time else n + 1 >= least)
    }
    live, seen = rule.stream(), set()
    for number in range(int(ordinal.max(initial=-1)) + 1):
        at_once = np.flatnonzero((ordinal == number) & (track >= 0))
        mask = live.update(track[at_once], code[at_once], time=0.04 * number + 0.01 * math.sin(number))
        seen |= set(at_once[mask].tolist())
    assert seen == wanted


def test_live_a_hold_counts_from_its_second_frame_on() -> None:
    live = Repeater(frames=2).stream()
    one = np.array([7])
    said = [bool(live.update(one, np.array([name]))[0]) for name in (H, H, H, S, S, "")]
    assert said == [False, True, True, False, True, False]
    assert live.update(np.array([], np.int64), np.array([], np.str_)).tolist() == []
    assert live.update(np.array([-1]), np.array([H])).tolist() == [False]


def test_live_frames_come_in_order_and_faces_once() -> None:
    live = Repeater(seconds=0.1).stream()
    one, happy = np.array([0]), np.array([H])
    with pytest.raises(OptionError, match="needs the time"):
        live.update(one, happy)
    live.update(one, happy, time=0.0, ordinal=5)
    with pytest.raises(OptionError, match="frame 5 comes after frame 5"):
        live.update(one, happy, time=0.1, ordinal=5)
    with pytest.raises(DataError, match="two rows"):
        live.update(np.array([0, 0]), np.array([H, H]), time=0.2)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"frames": 2, "seconds": 1.0},
        {"frames": 0},
        {"seconds": -1.0},
        {"seconds": math.nan},
        {"frames": 2, "bridge": -1},
    ],
)
def test_impossible_rules_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="give"):
        Repeater(**options)


def test_seconds_need_times_and_arrays_one_length() -> None:
    label, track, frame, _ = columns()
    with pytest.raises(OptionError, match="needs the time"):
        Repeater(seconds=1).keep(label, track, frame)
    with pytest.raises(ShapeError, match="label"):
        Repeater(frames=1).keep(label[1:], track, frame)
    with pytest.raises(OptionError, match="bridge is -1"):
        run_numbers(track, frame, bridge=-1)


# Events


def test_onset_peak_and_offset_of_a_smile() -> None:
    happy = np.array([0.1, 0.5, 0.7, 0.9, 0.9, 0.6, 0.45, 0.3, np.nan, 0.8, 0.1])
    scores = np.stack([1 - happy, happy], 1)
    frame = np.arange(len(happy))
    found = events(scores, np.full(len(happy), 2), frame, frame / 10, enter=0.7, leave=0.4, frames=2)
    # Neutral is on at frames 0-1 (0.9, 0.5), below 0.4 from frame 2 on, on again at 7 (0.7), alone, and at 10, alone.
    assert found.label.tolist() == [0, 1]
    np.testing.assert_allclose(found.onset, [0, 0.2])
    np.testing.assert_allclose(found.peak, [0, 0.3])
    np.testing.assert_allclose(found.offset, [0.1, 0.6])
    np.testing.assert_allclose(found.peak_score, [0.9, 0.9])
    assert found.track.tolist() == [2, 2]
    assert len(events(scores, np.full(len(happy), 2), frame, frame / 10, enter=0.7, leave=0.4)) == 5


def test_a_row_that_is_off_parts_two_events_however_much_is_bridged() -> None:
    scores = np.array([[0.9], [np.nan], [0.8], [0.1], [0.9]])
    track, frame = np.zeros(5, np.int64), np.arange(5)
    found = events(scores, track, frame, frame * 1.0, enter=0.7, leave=0.5, bridge=3)
    assert list(zip(found.onset.tolist(), found.offset.tolist(), strict=True)) == [(0, 2), (4, 4)]
    assert len(events(scores[:0], track[:0], frame[:0], frame[:0] * 1.0, enter=0.7, leave=0.5)) == 0


# The option


def test_an_option_reads_back() -> None:
    texts = ["none", "exponential:0.5", "median:5"]
    assert [str(Smoothing.parse(text)) for text in texts] == texts


@pytest.mark.parametrize(
    "text",
    ["", "mean:3", "median", "median:4", "median:0", "exponential:-1", "exponential:x", "none:1", "exponential:inf"],
)
def test_a_wrong_option_is_one_line_that_says_what_it_may_be(text: str) -> None:
    with pytest.raises(OptionError, match=r"give none, exponential:SECONDS .* or median:FRAMES, odd") as caught:
        Smoothing.parse(text)
    assert "\n" not in str(caught.value)


def test_faces_that_are_smoothed_name_what_the_steady_scores_say() -> None:
    faces = one_track([H, H, S, H, H, "", H])
    assert smoothed(faces, faces.frame, Smoothing.parse("median:3")).top.tolist() == [H] * 5 + ["", H]
    assert smoothed(faces, faces.frame, Smoothing()) == faces
    late = smoothed(one_track([H, S, S, S, S]), np.arange(5), Smoothing("exponential", 0.1)).top.tolist()
    assert late == [H, H, S, S, S]
    untracked = faces.with_(track=np.full(len(faces), -1))
    assert smoothed(untracked, faces.frame, Smoothing.parse("median:3")) == untracked


def test_the_same_number_in_two_films_is_two_tracks() -> None:
    happy, sad = one_track([H] * 4), one_track([S] * 4).with_(sources=("other.mp4",))
    both = type(happy).concat([happy, sad])
    assert smoothed(both, both.frame, Smoothing.parse("median:3")) == both


def test_reasons_stand() -> None:
    faces = one_track([H, H, H]).with_(reason=np.array([0, int(Reason.LOW_SCORE), 0], np.uint16))
    assert smoothed(faces, faces.frame, Smoothing.parse("median:3")).top.tolist() == [H, "", H]
