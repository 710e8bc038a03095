"""Faces covered: nothing of them is left, and the detector, correlation and detail say so."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from filmindex import in_order, one_track, write_index
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mien.errors import OptionError, ShapeError
from mien.film.cover import Cover, Places, frame_length, rows_between
from mien.film.index import Index
from mien.film.tables import Frames
from mien.image import grey
from mien.media.stills import read_picture
from mien.models.mtcnn import Mtcnn
from mien.models.quality import sharpness
from mien.render.anonymize import HOW, anonymize, grown

SKIMAGE = Path(find_spec("skimage").submodule_search_locations[0]) / "data"


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    return read_picture(SKIMAGE / "astronaut.png")


@pytest.fixture(scope="module")
def detect() -> Mtcnn:
    return Mtcnn(threads=1)


@pytest.mark.parametrize("how", HOW)
def test_a_covered_face_is_found_no_more_and_has_no_detail(
    portrait: NDArray[np.uint8], detect: Mtcnn, how: str
) -> None:
    before = detect(portrait)
    assert before.score[0] > 0.99
    box = before.box[:1]
    out = anonymize(portrait, box, how=how)
    after = detect(out)
    assert not [b for b in after.box if (np.abs((b[:2] + b[2:]) / 2 - (box[0, :2] + box[0, 2:]) / 2) < 40).all()]
    x1, y1, x2, y2 = box[0].astype(int)
    face, left = grey(portrait[y1:y2, x1:x2]), grey(out[y1:y2, x1:x2])
    # What tells faces apart lies in fine detail: less its own six by six averages, next to nothing agrees.
    fine, rest = _fine(face), _fine(left)
    assert fine.std() > 8
    assert abs(np.corrcoef(fine.ravel(), rest.ravel())[0, 1]) < 0.35
    if how == "blur":
        assert rest.std() < 0.35 * fine.std()
        crops = np.stack([portrait[y1:y2, x1:x2], out[y1:y2, x1:x2]])
        sharp = sharpness(crops)
        assert sharp[1] < 0.1 * sharp[0]


def _fine(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    import cv2

    return picture - cv2.GaussianBlur(picture, (0, 0), picture.shape[1] / 12)


@given(
    box=st.tuples(*[st.integers(-40, 140)] * 4),
    how=st.sampled_from(HOW),
    margin=st.sampled_from([0.0, 0.15, 0.5]),
)
def test_no_pixel_of_a_box_is_left_and_none_outside_is_touched(
    box: tuple[int, int, int, int], how: str, margin: float
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    boxes = np.array([box], np.float32)
    wide = grown(boxes, margin)[0]
    out = anonymize(picture, boxes, how=how, margin=margin)
    ys, xs = np.mgrid[:80, :100]
    inside = (xs + 1 > wide[0]) & (xs < wide[2]) & (ys + 1 > wide[1]) & (ys < wide[3])
    inside &= (wide[0] < wide[2]) & (wide[1] < wide[3])
    np.testing.assert_array_equal(out[~inside], picture[~inside])
    # Noise can be reproduced by chance only: a covered pixel has the old three values once in millions.
    same = (out == picture).all(-1) & inside
    if inside.any() and max(wide[2] - wide[0], wide[3] - wide[1]) > 30:
        assert same.sum() <= 2
    assert picture[0, 0, 0] == np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)[0, 0, 0]


def test_at_most_six_blocks_across() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
    for side in (10, 61, 200):
        out = anonymize(picture, np.array([[40.0, 40, 40 + side, 40 + side]]), margin=0)
        row = out[40 + side // 2, 40 : 40 + side].astype(int)
        assert (np.abs(np.diff(row, axis=0)).sum(1) > 0).sum() <= 5


def test_a_face_at_the_border_stays_as_coarse(portrait: NDArray[np.uint8]) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (200, 200, 3), np.uint8)
    out = anonymize(noise, np.array([[-90.0, 0, 30, 120]]), margin=0)
    assert (np.abs(np.diff(out[50, :30].astype(int), axis=0)).sum(1) > 0).sum() <= 1


def test_what_cannot_be_covered(portrait: NDArray[np.uint8]) -> None:
    with pytest.raises(OptionError, match="'smear'"):
        anonymize(portrait, np.zeros((1, 4)), how="smear")
    with pytest.raises(OptionError, match="-1"):
        anonymize(portrait, np.zeros((1, 4)), margin=-1)
    with pytest.raises(ShapeError, match="boxes"):
        anonymize(portrait, np.zeros(4))
    nothing = np.array([[np.nan, 0, 10, 10], [5, 5, 5, 9], [900, 900, 990, 990]])
    np.testing.assert_array_equal(anonymize(portrait, nothing), portrait)
    np.testing.assert_array_equal(anonymize(portrait, np.empty((0, 4))), portrait)


# Where faces are, in every frame


def _index(tmp_path: Path, parts: list[object], every: int = 1, shots: list[int] | None = None) -> Index:
    faces = in_order(parts)  # type: ignore[arg-type]  # a test's short cut
    numbers = np.arange(0, int(faces.frame.max()) + 1 + 6 * every, every)
    count = np.array([int((faces.frame == n).sum()) for n in numbers])
    frames = Frames.build(
        len(numbers),
        ordinal=np.arange(len(numbers)),
        frame=numbers,
        time=numbers / 25,
        shot=0 if shots is None else np.array([shots[n] for n in numbers]),
        faces=count,
        detected=True,
        reason=np.where(count == 0, "no_face", ""),
    )
    return write_index(tmp_path / "film.mien", faces, frames=frames, group=16)


def test_a_face_is_seen_where_its_rows_are(tmp_path: Path) -> None:
    index = _index(
        tmp_path, [one_track(["happy"] * 20, track=3), one_track(["sad"] * 10, track=5, first=4, at=(300, 80))]
    )
    faces = index.faces()
    places = Places(index)
    for frame in range(20):
        placed = places.at(frame)
        rows = np.flatnonzero(faces.frame == frame)
        seen = placed.margin == 0
        assert placed.row[seen].tolist() == rows.tolist()
        np.testing.assert_array_equal(placed.faces.box[seen], faces.box[rows])
        assert placed.drawn[seen].all()
        # A third of a second before it appears and after it is gone, track 5 is covered, wider and wider.
        early = placed.faces.track[~seen].tolist()
        assert early == ([5] if frame < 4 or 13 < frame <= 13 + 8 else [])
        assert (placed.margin[~seen] > 0.1).all()
        assert not placed.drawn[~seen].any()


def test_gaps_are_bridged_in_a_straight_line(tmp_path: Path) -> None:
    track = one_track(["happy"] * 4 + ["-"] * 30 + ["happy"] * 3)
    box = track.box.copy()
    box[4:] += np.array([200, 40, 240, 80], np.float32)
    index = _index(tmp_path, [track.with_(box=box)])
    places = Places(index)
    for frame in range(4, 34):
        placed = places.at(frame)
        share = (frame - 3) / 31
        expected = box[3] + share * (box[4] - box[3])
        np.testing.assert_allclose(placed.faces.box[0], expected, atol=1e-3)
        assert placed.margin[0] >= 0.1
        assert not placed.drawn[0]


def test_frames_that_were_not_read_have_their_faces(tmp_path: Path) -> None:
    track = one_track(["happy"] * 10, fps=25)
    moved = track.box + np.arange(10, dtype=np.float32)[:, None] * 12
    index = _index(tmp_path, [track.with_(frame=track.frame * 3, time=track.frame * 3 / 25, box=moved)], every=3)
    places = Places(index)
    for frame in range(28):
        placed = places.at(frame)
        np.testing.assert_allclose(placed.faces.box[0], track.box[0] + 4 * frame, atol=1e-3)
        assert placed.drawn[0]
        assert (placed.margin[0] == 0) == (frame % 3 == 0)
    assert places.at(29).drawn.tolist() == [True]
    assert places.at(30).drawn.tolist() == [False]


def test_a_cut_ends_the_cover(tmp_path: Path) -> None:
    shots = [0] * 10 + [1] * 40
    index = _index(tmp_path, [one_track(["happy"] * 10), one_track(["sad"] * 10, track=1, first=16)], shots=shots)
    places = Places(index)
    assert places.at(9).faces.track.tolist() == [0]
    assert places.at(10).faces.track.tolist() == [1]
    assert places.at(7).faces.track.tolist() == [0]


@given(seed=st.integers(0, 10_000))
def test_places_equal_a_plain_loop(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = np.random.default_rng(seed)
    parts = []
    for track in range(int(rng.integers(1, 4))):
        tops = rng.choice(["happy", "-"], int(rng.integers(2, 40))).tolist()
        tops[0] = "happy"
        parts.append(one_track(tops, track=track, first=int(rng.integers(0, 30)), at=tuple(rng.uniform(0, 200, 2))))
    index = _index(tmp_path_factory.mktemp("i"), parts)
    faces = index.faces()
    places = Places(index)
    for frame in range(int(faces.frame.max()) + 10):
        placed = places.at(frame)
        expected = {}
        for track in np.unique(faces.track[faces.found]).tolist():
            rows = np.flatnonzero(faces.track == track)
            numbers = faces.frame[rows]
            before, after = rows[numbers <= frame], rows[numbers > frame]
            if len(before) and (len(after) or faces.frame[before[-1]] == frame):
                a = before[-1]
                b = after[0] if len(after) else a
                gap = max(int(faces.frame[b] - faces.frame[a]), 1)
                share = (frame - int(faces.frame[a])) / gap
                expected[track] = faces.box[a] + share * (faces.box[b] - faces.box[a])
            elif len(before) and frame - faces.frame[before[-1]] <= 8:
                expected[track] = faces.box[before[-1]]
            elif len(after) and not len(before) and faces.frame[after[0]] - frame <= 8:
                expected[track] = faces.box[after[0]]
        assert sorted(placed.faces.track.tolist()) == sorted(expected)
        for track, box in zip(placed.faces.track.tolist(), placed.faces.box, strict=True):
            np.testing.assert_allclose(box, expected[track], atol=1e-2)


def test_others_are_covered_and_those_asked_for_are_not(tmp_path: Path) -> None:
    asked, other = one_track(["happy"] * 10, track=1), one_track(["sad"] * 10, track=2, at=(300, 80))
    alone = one_track(["sad"] * 10, track=-1, at=(100, 240))
    index = _index(tmp_path, [asked, other, alone])
    rows = np.flatnonzero(index.faces().track == 1)[:2]
    noise = np.random.default_rng(3).integers(0, 256, (360, 640, 3), np.uint8)
    for whom, kept in (("others", {1}), ("all", set())):
        out = Cover(index, whom, "pixelate", rows).apply(noise, 7)
        for track, (x, y) in {1: (100, 80), 2: (300, 80), -1: (100, 240)}.items():
            same = (out[y : y + 60, x : x + 60] == noise[y : y + 60, x : x + 60]).all(-1).mean()
            assert (same == 1) if track in kept else (same < 0.01)
        assert (out[300:, 500:] == noise[300:, 500:]).all()
    with pytest.raises(OptionError, match="'nobody'"):
        Cover(index, "nobody", "pixelate", rows)


def test_rows_between_frames(tmp_path: Path) -> None:
    index = _index(tmp_path, [one_track(["happy"] * 60), one_track(["sad"] * 20, track=1, first=20)])
    frame = index.faces().frame
    for first, last in ((0, 5), (15, 33), (59, 70), (80, 90)):
        assert rows_between(index, first, last).tolist() == np.flatnonzero((frame >= first) & (frame <= last)).tolist()
    assert frame_length(index.frames()) == pytest.approx(0.04)
