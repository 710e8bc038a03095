from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import face, fake_analyzer

from mien.media.stills import read_picture
from mien.media.video import Frame
from mien.serve.batch import Batch, Turns


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


def test_alone_nobody_waits_for_others() -> None:
    batch = Batch(lambda: 0, lambda faces, seconds: None, wait=3600)
    batch.start()
    reader, done = fake_analyzer(), threading.Event()
    picture = read_picture(face())
    batch.add(reader.look(Frame(picture, 0, 0.0), reader.find(picture)), reader, lambda scores: done.set())
    assert done.wait(10)
    batch.close(10)


def test_faces_wait_for_those_of_pictures_in_work_and_are_read_in_one_call() -> None:
    others, reader, told = [2], fake_analyzer(), threading.Semaphore(0)
    calls: list[int] = []
    batch = Batch(lambda: others[0], lambda faces, seconds: calls.append(faces), wait=3600)
    batch.start()
    picture = read_picture(face())
    look = reader.look(Frame(picture, 0, 0.0), reader.find(picture))
    for _ in range(3):
        batch.add(look, reader, lambda scores: told.release())
    assert not calls
    others[0] = 0
    batch.stir()
    assert all(told.acquire(timeout=10) for _ in range(3))
    batch.close(10)
    assert calls == [3]
