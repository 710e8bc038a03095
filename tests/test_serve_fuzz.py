"""Damaged pictures and films: whatever comes, the answer is faces or a plain refusal."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from fakes import scene
from mutations import CHANGES, case, film_seeds, parts, picture_seeds
from numpy.typing import NDArray
from serving import client

from mien.errors import MienError
from mien.labels import EIGHT
from mien.media.source import sniff
from mien.media.stills import read_picture
from mien.media.video import Film
from mien.media.writer import FilmWriter
from mien.serve import film_timeline

PICTURES = picture_seeds(scene(50))
CASES = 400
FILMS = 48


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return film_seeds([scene(x) for x in range(10, 90, 8)], tmp_path_factory.mktemp("films"))


def test_a_case_is_told_by_its_number() -> None:
    assert case(7, PICTURES) == case(7, PICTURES)
    assert case(7, PICTURES) != case(7, PICTURES, seed=1)
    made = [case(n, PICTURES) for n in range(CASES)]
    assert {c.seed for c in made} == set(PICTURES)
    assert {change for c in made for change in c.done} == set(CHANGES)
    assert sum(c.data != PICTURES[c.seed] for c in made) > 0.95 * CASES


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_is_good_before_it_is_damaged(name: str) -> None:
    assert read_picture(PICTURES[name]).shape in {(120, 160, 3), (160, 120, 3)}
    if name.partition(".")[2] not in {"gif", "bmp"}:
        assert parts(PICTURES[name]), "its structure is known"


def test_damaged_pictures_are_read_or_refused(tmp_path: Path) -> None:
    answers: Counter[int] = Counter()
    with client(tmp_path, limits={"pixels": 4_000_000}) as asked:
        for number in range(CASES):
            one = case(number, PICTURES)
            body = asked.post("/v1/analyze", content=one.data, headers={"Content-Type": "application/octet-stream"})
            answers[body.status_code] += 1
            told = body.json()
            if body.status_code == 200:
                assert len(told["pictures"]) == 1, one
            else:
                assert body.status_code in {413, 415, 422}, (number, one.seed, one.done, told)
                assert told["error"]["message"]
                assert str(tmp_path) not in body.text
    assert answers[200] > CASES // 10
    assert answers[415] > CASES // 10
    assert answers[413] > 0


def test_damaged_films_are_read_or_refused(films: dict[str, bytes], tmp_path: Path) -> None:
    assert all(sniff(data[:4096]) for data in films.values())
    ended: Counter[str] = Counter()
    for number in range(FILMS):
        one = case(number, films)
        path = tmp_path / f"{number}-{one.seed}"
        path.write_bytes(one.data)
        try:
            with Film(path) as film:
                ended["read"] += any(f.picture is not None for f in film)
        except MienError:
            ended["refused"] += 1
    assert min(ended["read"], ended["refused"]) > FILMS // 10, ended


def test_a_track_that_was_never_read_has_no_stretches() -> None:
    nothing = np.empty(0)
    mean, named = np.empty((0, 8), np.float32), np.empty(0, np.bool_)
    assert film_timeline._runs(nothing, nothing, mean, named, list(EIGHT), gap=0.1) == []


@pytest.mark.parametrize(("dtype", "most"), [(np.uint8, 2.4), (np.uint16, 2.2)])
def test_a_large_clear_picture_takes_little_more_than_its_pixels(dtype: type, most: float) -> None:
    full = np.iinfo(dtype).max
    ramp: NDArray[np.unsignedinteger] = np.linspace(0, full, 1200).astype(dtype)
    clear = np.stack(np.broadcast_arrays(ramp, ramp[:, None], full - ramp, ramp[::-1, None]), -1)
    data = cv2.imencode(".png", clear)[1].tobytes()
    tracemalloc.start()
    try:
        picture = read_picture(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most * clear.nbytes + len(data)
    colour, alpha = clear[..., 2::-1] / full, clear[..., 3:] / full
    assert np.abs(picture - 255 * (colour * alpha + 1 - alpha)).max() < 1.6


def written(source: Path, target: Path) -> int:
    """Write a film anew with its sound; return the frames of what was written."""
    with (
        Film(source) as film,
        FilmWriter(target, width=film.width, height=film.height, fps=film.fps, sound_from=source) as out,
    ):
        for frame in film:
            if frame.picture is not None:
                out.write(frame.picture, frame.time)
    with Film(target) as again:
        return sum(f.picture is not None for f in again)


def packets_of_sound(path: Path, data: bytes) -> list[int]:
    """The places of a transport stream's packets that carry its sound."""
    path.write_bytes(data)
    with av.open(str(path)) as source:
        number = source.streams.audio[0].id
    return [a for a in range(0, len(data), 188) if int.from_bytes(data[a + 1 : a + 3], "big") & 0x1FFF == number]


def test_damaged_sound_does_not_keep_a_film_from_being_written(films: dict[str, bytes], tmp_path: Path) -> None:
    path, data = tmp_path / "film.ts", bytearray(films["h264.ts"])
    places = packets_of_sound(path, bytes(data))
    for at in places[len(places) // 2 :]:  # the heads of AAC's frames, of which the first ones stay
        data[at : at + 188] = data[at : at + 188].replace(b"\xff\xf1", b"\0\0")
    path.write_bytes(data)
    assert written(path, tmp_path / "out.mp4") == 10


def test_sound_of_which_nothing_is_known_does_not_keep_a_film_from_being_written(
    films: dict[str, bytes], tmp_path: Path
) -> None:
    path, data = tmp_path / "film.ts", films["h264.ts"]
    places = set(packets_of_sound(path, data))
    path.write_bytes(b"".join(data[a : a + 188] for a in range(0, len(data), 188) if a not in places))
    with av.open(str(path)) as source:
        assert [s.codec_context.sample_rate for s in source.streams.audio] == [0]
    assert written(path, tmp_path / "out.mp4") == 10
