from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import face, fake_analyzer

from mien.media.stills import read_picture
from mien.media.video import Frame
from mien.serve.batch import Batch, Turns, Waiting


def test_turns_go_round_callers_and_within_a_caller_round_its_requests() -> None:
    turns = Turns[str]()
    for path, item in (
        (("ann", 1), "a1"),
        (("ann", 1), "a2"),
        (("ann", 2), "b1"),
        (("bob", 3), "c1"),
        (("bob", 3), "c2"),
    ):
        turns.add(path, item)
    assert [turns.take() for _ in range(len(turns))] == ["a1", "c1", "b1", "c2", "a2"]
    with pytest.raises(IndexError):
        turns.take()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans())))
def test_turns_lose_nothing_and_no_caller_waits_longer_than_all_others_once(steps: list[tuple[int, int, bool]]) -> None:
    turns, held, last = Turns[tuple[int, int, int]](), set[tuple[int, int, int]](), dict[int, int]()
    taken = 0
    for number, (caller, request, take) in enumerate(steps):
        if take and held:
            item = turns.take()
            held.remove(item)
            last[item[0]] = taken = taken + 1
        else:
            item = caller, request, number
            turns.add((caller, request), item)
            held.add(item)
        assert len(turns) == len(held)
        assert set(turns) == held
    waiting = {caller for caller, _, _ in held}
    first = [turns.take()[0] for _ in range(len(waiting))]
    assert set(first) == waiting


def test_what_is_removed_before_its_turn_is_not_given() -> None:
    turns = Turns[str]()
    turns.add(("ann", 1), "a")
    turns.add(("bob", 2), "b")
    assert turns.remove(("ann", 1), "a")
    assert not turns.remove(("ann", 1), "a")
    assert not turns.remove(("bob", 2), "a")
    assert (len(turns), list(turns), turns.take(), len(turns)) == (1, ["b"], "b", 0)


class Shared:
    """A batch, the faces of its calls, and how many pictures are searched."""

    def __init__(self, *, wait: float) -> None:
        self.others, self.calls, self.told = 1, list[int](), threading.Semaphore(0)
        self.batch = Batch(lambda: self.others, lambda faces, seconds: self.calls.append(faces), wait=wait)
        self.batch.start()
        self.reader = fake_analyzer()
        picture = read_picture(face())
        self.look = self.reader.look(Frame(picture, 0, 0.0), self.reader.find(picture))

    def add(self, *, labels: str | None = None) -> list[Waiting]:
        reader = self.reader.with_settings(labels=labels)
        return self.batch.add(self.look, reader, lambda scores: self.told.release())

    def close(self) -> None:
        self.batch.close(10)


def test_alone_nobody_waits_for_others() -> None:
    shared = Shared(wait=3600)
    shared.batch.call(shared.add())
    assert shared.told.acquire(blocking=False)
    assert shared.calls == [1]
    shared.close()


def test_who_brings_the_last_faces_has_all_of_them_read_in_one_call() -> None:
    shared = Shared(wait=3600)
    shared.others = 3
    assert [shared.add(), shared.add()] == [[], []]
    assert not shared.calls
    shared.others = 1
    shared.batch.call(shared.add())
    assert all(shared.told.acquire(blocking=False) for _ in range(3))
    assert shared.calls == [3]
    shared.close()


def test_each_label_set_has_a_call_of_its_own() -> None:
    shared = Shared(wait=3600)
    shared.others = 2
    assert [shared.add(labels=name) for name in ("three", None, "three")] == [[], [], []]
    shared.others = 1
    shared.batch.call(shared.add())
    assert sorted(shared.calls) == [2, 2]
    shared.close()


def test_faces_wait_no_longer_than_they_have_to() -> None:
    shared = Shared(wait=0.01)
    shared.others = 2  # and never fewer
    assert shared.add() == []
    assert shared.told.acquire(timeout=10)
    shared.close()


def test_when_the_others_bring_nothing_the_faces_that_wait_are_read() -> None:
    shared = Shared(wait=3600)
    shared.others = 2
    assert shared.add() == []
    shared.others = 0
    shared.batch.stir()
    assert shared.told.acquire(timeout=10)
    shared.close()


def test_a_full_call_does_not_wait() -> None:
    shared = Shared(wait=3600)
    shared.others = 200
    due = [shared.add() for _ in range(64)]
    assert [len(d) for d in due] == [0] * 63 + [64]
    shared.close()


def test_closing_reads_what_was_left() -> None:
    shared = Shared(wait=3600)
    shared.others = 2
    assert shared.add() == []
    shared.close()
    assert shared.calls == [1]
