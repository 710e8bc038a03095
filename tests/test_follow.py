"""Faces over time in `mien.stream` and `mien analyze`, and windows that vote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fakes import BlueDetector, RedReader, boxes, elsewhere, scene
from films import make_film
from numpy.typing import NDArray

from mien.errors import OptionError
from mien.media.video import Frame
from mien.models.base import Boxes
from mien.models.vote import GRIDS, windows
from mien.pipeline.analyzer import Analyzer, Settings
from mien.pipeline.follow import Follower, Following
from mien.results.faces import Faces


class BlueFollower(BlueDetector):
    """Finds the blue rectangle, and looks again where it was: how often it was asked is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.followed = 0

    def follow(self, picture: NDArray[np.uint8], box: NDArray[np.float32]) -> tuple[Boxes, NDArray[np.bool_]]:
        self.followed += 1
        there = BlueDetector()(picture)
        fitted = boxes(*(there.box[0] if len(there) else b for b in box), scores=tuple(0.7 for _ in box))
        return fitted, np.full(len(box), len(there) > 0)


def make(*, follows: bool = True, **settings: object) -> tuple[Analyzer, BlueDetector]:
    find = BlueFollower() if follows else BlueDetector()
    return Analyzer(Settings(**settings), find=find, read=RedReader()), find


def frames(*places: int | None) -> list[Frame]:
    return [Frame(scene(x), i, i / 25) for i, x in enumerate(places)]


def test_only_some_detectors_can_follow() -> None:
    assert isinstance(BlueFollower(), Following)
    assert not isinstance(BlueDetector(), Following)


def test_between_searches_a_face_is_followed_to_where_it_is() -> None:
    reader, find = make(detect_every=4, track=True)
    faces = Faces.concat(reader.frames(frames(*range(20, 60, 4)), source="f"))
    assert faces.box[:, 0].tolist() == list(range(20, 60, 4)), "in every frame its own box"
    assert faces.carried.tolist() == [i % 4 != 0 for i in range(10)]
    assert set(faces.track.tolist()) == {0}
    assert isinstance(find, BlueFollower)
    assert (find.calls, find.followed) == (3, 7)
    assert faces.score[1] == pytest.approx(0.7)


def test_a_face_that_is_gone_is_not_followed_and_comes_back_as_itself() -> None:
    reader, _ = make(detect_every=2, track=True)
    faces = Faces.concat(reader.frames(frames(20, 22, None, None, None, 30, 32, 34), source="f"))
    # Searches are at 0, 2, 4 and 6; past one that misses it, a face is not followed.
    assert faces.found.tolist() == [True, True, False, False, False, False, True, True]
    assert set(faces.track[faces.found].tolist()) == {0}
    assert set(faces.track[~faces.found].tolist()) == {-1}


def test_without_a_second_look_boxes_move_on_as_they_moved() -> None:
    reader, _ = make(follows=False, detect_every=3, track=True)
    faces = Faces.concat(reader.frames(frames(*range(20, 80, 4)), source="f"))
    assert faces.carried.sum() == 10
    assert set(faces.track.tolist()) == {0}
    assert np.abs(faces.box[9:, 0] - np.arange(56, 80, 4)).max() < 8, "once it moves, it is expected further on"
    assert np.isnan(faces.score[faces.carried]).all(), "nobody judged it there"


def test_a_cut_ends_every_track_and_is_searched() -> None:
    reader, find = make(detect_every=100, track=True)
    pictures = [scene(90), scene(90), elsewhere(20), elsewhere(20)]
    shots = [Frame(p, i, i / 25) for i, p in enumerate(pictures)]
    faces = Faces.concat(reader.frames(shots, source="f"))
    assert faces.track.tolist() == [0, 0, 1, 1]
    assert find.calls == 2


def test_tracks_are_numbers_only_when_asked_for() -> None:
    reader, _ = make(detect_every=2)
    faces = Faces.concat(reader.frames(frames(20, 22, 24), source="f"))
    assert faces.track.tolist() == [-1, -1, -1]
    assert faces.carried.tolist() == [False, True, False]


def test_best_only_keeps_one_row() -> None:
    def two(_picture: NDArray[np.uint8], /) -> Boxes:
        return boxes((10, 10, 50, 50), (90, 10, 130, 50))

    reader = Analyzer(Settings(best_only=True, track=True), find=two, read=RedReader())
    assert [len(t) for t in reader.frames(frames(20, 20), source="f")] == [1, 1]


def test_a_frame_that_cannot_be_decoded_breaks_no_track() -> None:
    shown = frames(20, 22, 24, 26)
    shown[2] = Frame(None, 2, 0.08, "damaged")
    reader, _ = make(track=True)
    faces = Faces.concat(reader.frames(shown, source="f"))
    assert faces.track.tolist() == [0, 0, -1, 0]
    assert faces.reason_words == ["", "", "unreadable", ""]


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_gone_on_with_it_says_what_it_would_have_said(stop: int) -> None:
    shown = frames(20, 24, 28, None, 36, 40, 44, 48, 52)

    def run(follower: Follower, some: list[Frame]) -> list[tuple[list[int], list[list[float]]]]:
        out = []
        for frame in some:
            glance = follower.glance(frame)
            found = find(frame.picture) if glance.search and frame.picture is not None else None
            seen = follower.take(frame, glance, found)
            out.append((seen.track.tolist(), seen.boxes.box.tolist()))
        return out

    find = BlueFollower()
    whole = run(Follower(find.follow, every=3), shown)
    first = Follower(find.follow, every=3)
    before = run(first, shown[:stop])
    said = json.loads(json.dumps([first.glanced(), first.taken()]))
    assert before + run(Follower(find.follow, every=3).restore(*said), shown[stop:]) == whole


@pytest.mark.parametrize("count", sorted(GRIDS))
def test_windows_vote_for_the_mean_of_their_answers(count: int) -> None:
    reader, _ = make(vote=count)
    picture = scene(50)
    faces = reader.picture(picture)
    found = BlueDetector()(picture)
    around = windows(picture, found, RedReader().card.input, grid=GRIDS[count])  # type: ignore[arg-type]  # it has one
    assert around.shape[:2] == (1, count)
    expected = RedReader().read(around[0]).crowd.mean(0)
    np.testing.assert_allclose(faces.expression[0], expected, atol=1e-6)
    assert faces.expression.sum() == pytest.approx(1, abs=1e-6)


def test_windows_vote_in_films_too_and_only_for_faces_that_are_read() -> None:
    reader, _ = make(vote=9, track=True)
    shown = frames(20, None, 30, 50)
    shown[2] = Frame(np.full_like(scene(None), 250), 2, 0.08)
    tables = list(reader.frames(shown, source="f"))
    alone = make(vote=9)[0].picture(scene(50))
    np.testing.assert_array_equal(tables[3].expression, alone.expression)
    assert [t.reason_words for t in tables] == [[""], ["no_face"], ["blurred"], [""]]
    assert np.isnan(tables[2].expression).all()


def test_no_other_number_of_windows() -> None:
    with pytest.raises(OptionError, match="vote is 7, it must be 0 or one of 45, 9, 5"):
        Settings(vote=7)


def test_resume_of_a_film_with_tracks_gives_the_same_rows(tmp_path: Path) -> None:
    from mien.media.source import find as sources
    from mien.pipeline.batch import Batch, Done

    film = make_film(tmp_path / "f.mp4", [scene(20 + i) for i in range(20)])

    class Rows:
        def __init__(self) -> None:
            self.tables: list[Faces] = []

        def take(self, faces: Faces) -> None:
            self.tables.append(faces)

        def close_source(self, _source: str) -> None:
            pass

    class Quiet:
        def begin(self, _source: str, _frames: int | None) -> None:
            pass

        def step(self) -> None:
            pass

    whole, rest = Rows(), Rows()
    found, _ = sources([film])
    Batch(make(track=True)[0], takers=[whole], listener=Quiet()).run(found)
    Batch(make(track=True)[0], takers=[rest], listener=Quiet(), done={str(film): Done(11)}).run(found)
    assert Faces.concat(rest.tables) == Faces.concat(whole.tables[12:])


def test_a_camera_is_answered_frame_by_frame_and_keeps_its_tracks() -> None:
    reader, _ = make(track=True, detect_every=3)
    given: list[int] = []

    def camera() -> Iterator[Frame]:
        for frame in frames(20, 24, 28, 32, 36):
            given.append(frame.index)
            yield frame

    for number, faces in enumerate(reader.frames(camera(), source="0", batch=1)):
        assert given[-1] == number, "no frame was asked for ahead"
        assert faces.track.tolist() == [0]
        assert faces.carried.tolist() == [number % 3 != 0]
