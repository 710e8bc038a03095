"""Crops, sheets, lists and annotated films out of an index; what is written is read back and compared with the film."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from filmindex import in_order, one_track, write_index
from films import make_film
from hypothesis import given
from hypothesis import strategies as st

from mien.errors import OptionError, OutputError, SourceError, SourceNotFoundError
from mien.film import extract as extraction
from mien.film.annotated import annotate_film
from mien.film.crops import framing, spread
from mien.film.extract import Wanted, extract
from mien.film.index import MANIFEST, Index
from mien.film.query import find
from mien.film.tables import Frames
from mien.labels import LabelSet
from mien.media.stills import read_picture
from mien.media.video import Film
from mien.models.align import crop
from mien.models.base import Boxes
from mien.results.files import film_rows
from mien.zoo import catalog

SIZE = (320, 180)
N = 60
TOPS = ["neutral"] * 6 + ["happy"] * 12 + ["neutral"] * 5 + ["happy"] * 2 + ["sad"] * 10 + [""] * 5 + ["happy"] * 10


def scenes(count: int = N) -> list[np.ndarray]:
    """Noise behind two squares of finer noise, where the index says that faces are; no frame is like another."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 200, (SIZE[1] // 20, SIZE[0] // 20, 3)).astype(np.uint8).repeat(20, 0).repeat(20, 1)
    frames = []
    for number in range(count):
        frame = ground.copy()
        for x, y in ((100, 80), (220, 60)):
            frame[y : y + 60, x : x + 60] = rng.integers(0, 256, (15, 15, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
        frame[:, : 4 * (number % 20) + 4] //= 2
        frames.append(frame)
    return frames


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film(tmp_path_factory.mktemp("film") / "movie.mp4", scenes(), sound=True)


@pytest.fixture
def index(film: Path, tmp_path: Path) -> Index:
    faces = in_order([one_track(TOPS, track=4), one_track(["-"] * 10 + ["sad"] * 30, track=7, at=(220, 60))])
    frames = Frames.build(
        N,
        ordinal=np.arange(N),
        frame=np.arange(N),
        time=np.arange(N) / 25,
        change=0,
        faces=np.bincount(faces.frame, minlength=N)[:N],
        detected=True,
        reason=np.where(np.bincount(faces.frame, minlength=N)[:N] == 0, "no_face", ""),
    )
    return write_index(tmp_path / "movie.mien", faces, frames=frames, film=film)


def test_crops_are_the_faces_of_the_film(index: Index, film: Path, tmp_path: Path) -> None:
    found = find(index, "happy for 8 frames")
    assert [int(f) for f in found.faces().frame] == [*range(6, 18), *range(40, 50)]
    done = extract(found, Wanted(crops=tmp_path / "out", margin=0, ending=".png"))
    files = sorted((tmp_path / "out").rglob("*.*"))
    assert [str(p.relative_to(tmp_path / "out")) for p in files] == [
        f"happy/{f:06d}-t4.png" for f in (*range(6, 18), *range(40, 50))
    ]
    assert done.crops == len(files) == 22
    assert done.frames <= 45
    with Film(film) as opened:
        pictures = {f.index: f.picture for f in opened}
    for path in files:
        frame = pictures[int(path.name[:6])]
        assert frame is not None
        np.testing.assert_array_equal(read_picture(path), frame[80:140, 100:160])


def test_crops_of_several_expressions_with_a_limit(index: Index, tmp_path: Path) -> None:
    found = find(index, "face")
    extract(found, Wanted(crops=tmp_path / "out", most=3))
    held = {p.name: sorted(f.name for f in p.iterdir()) for p in (tmp_path / "out").iterdir()}
    assert set(held) == {"neutral", "happy", "sad", "unnamed"}
    assert held["neutral"] == ["000000-t4.jpg", "000005-t4.jpg", "000022-t4.jpg"]
    assert held["unnamed"] == ["000035-t4.jpg", "000037-t4.jpg", "000039-t4.jpg"]
    assert len(held["happy"]) == 3
    assert {f[7:9] for f in held["sad"]} == {"t4", "t7"}
    assert len(held["sad"]) == 6


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 6))
def test_spread_keeps_the_ends_and_no_more_than_asked(groups: list[str], most: int) -> None:
    kept = spread(groups, most)
    assert sorted(set(kept.tolist())) == kept.tolist()
    for name in set(groups):
        rows = [i for i, g in enumerate(groups) if g == name]
        chosen = [i for i in kept if groups[i] == name]
        assert len(chosen) == min(most, len(rows))
        if most > 1:
            assert {rows[0], rows[-1]} <= set(chosen)
    assert spread(groups, None).tolist() == list(range(len(groups)))


def test_aligned_crops_are_those_of_the_model(index: Index, film: Path, tmp_path: Path) -> None:
    found = find(index, "sad and track = 7")
    spec = framing({"expression": "x"}, 64)
    assert spec.template == catalog.card("expression").input.template
    assert (spec.width, spec.height) == (64, 64)
    extract(found, Wanted(crops=tmp_path / "out", aligned=True, size=64, ending=".png"))
    rows = found.faces()
    with Film(film) as opened:
        picture = next(f.picture for f in opened if f.index == 12)
    row = rows[rows.frame == 12]
    expected = crop(picture, Boxes(row.box, row.score, row.points, row.eyes), spec)[0]
    np.testing.assert_array_equal(read_picture(tmp_path / "out" / "sad" / "000012-t7.png"), expected)


def test_names_of_labels_cannot_leave_the_folder(tmp_path: Path, film: Path) -> None:
    labels = LabelSet("custom", ("../../up", "CON", "ja/nein"))
    faces = one_track(["happy"] * 3)
    scores = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]], np.float32)
    from mien.results.faces import Faces

    named = Faces.build(
        3,
        sources=("movie.mp4",),
        labels=labels,
        frame=faces.frame,
        time=faces.time,
        face=0,
        box=faces.box,
        points=faces.points,
        score=0.9,
        track=0,
        expression=scores,
    )
    index = write_index(tmp_path / "m.mien", named, film=film)
    extract(find(index, "face"), Wanted(crops=tmp_path / "deep" / "out", clips=tmp_path / "deep" / "clips"))
    assert sorted(p.name for p in (tmp_path / "deep" / "out").iterdir()) == ["CON_", "______up", "ja_nein"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deep", "m.mien"]


def test_the_csv_has_every_frame(index: Index, tmp_path: Path) -> None:
    found = find(index, "sad")
    extract(found, Wanted(csv=tmp_path / "rows.csv"))
    rows = list(csv.reader((tmp_path / "rows.csv").read_text("utf-8").splitlines()))
    assert rows[0] == ["frame", "faces", "expressions", "file", "boxes"]
    assert [int(r[0]) for r in rows[1:]] == list(range(N))
    faces = found.faces()
    for row in rows[1:]:
        here = faces[faces.frame == int(row[0])]
        assert row[1:4] == [str(len(here)), "|".join(["sad"] * len(here)), "movie.mp4"]
        if len(here):
            assert row == list(film_rows(here)[0])


def test_the_csv_of_many_frames_is_written_in_parts(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find(index, "sad or happy")
    extract(found, Wanted(csv=tmp_path / "whole.csv"))
    monkeypatch.setattr(extraction, "_PART", 7)
    extract(found, Wanted(csv=tmp_path / "parts.csv"))
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "parts.csv").read_bytes()


def test_a_sheet_shows_the_best_frame_of_each_span(index: Index, tmp_path: Path) -> None:
    found = find(index, "happy for 8 frames")
    done = extract(found, Wanted(sheet=tmp_path / "sheet.png"))
    page = read_picture(tmp_path / "sheet.png")
    assert done.files == [tmp_path / "sheet.png"]
    assert page.shape[1] == 2 * 28 + 2 * 240 + 14
    extract(found, Wanted(sheet=tmp_path / "one.png", tiles=1))
    one = read_picture(tmp_path / "one.png")
    assert one.shape[1] == 2 * 28 + 240
    assert (one[-40:] < 140).any()


def test_the_comparison_shows_what_for_leaves_out(index: Index, tmp_path: Path) -> None:
    found = find(index, "happy for 8 frames")
    extract(found, Wanted(compare=tmp_path / "cmp.png"))
    page = read_picture(tmp_path / "cmp.png")
    empty = (page == (232, 232, 230)).all(-1)
    half = page.shape[1] // 2
    # Frames 23 and 24 alone are no stretch of 8.
    assert empty[:, :half].sum() < 100
    assert empty[:, half:].sum() == pytest.approx(2 * 96 * 96, abs=100)
    with pytest.raises(OptionError, match="has none"):
        extract(find(index, "happy"), Wanted(compare=tmp_path / "cmp.png"))


def test_text_needs_no_film(index: Index, film: Path, tmp_path: Path) -> None:
    faces = index.faces()
    lost = write_index(tmp_path / "lost.mien", faces)
    found = find(lost, "happy for 8 frames")
    wanted = Wanted(srt=tmp_path / "a.srt", edl=tmp_path / "a.edl", csv=tmp_path / "a.csv", spans=tmp_path / "a.json")
    done = extract(found, wanted)
    assert sorted(p.name for p in done.files) == ["a.csv", "a.edl", "a.json", "a.srt"]
    assert done.frames == 0
    assert "00:00:00,240 --> 00:00:00,720\ntrack 4: happy 0.90" in (tmp_path / "a.srt").read_text()
    assert "001  MOVIE    V " in (tmp_path / "a.edl").read_text()
    with pytest.raises(SourceNotFoundError, match="--film"):
        extract(found, Wanted(sheet=tmp_path / "a.png"))
    other = tmp_path / "other.mp4"
    other.write_bytes(b"something else")
    with pytest.raises(SourceError, match="not the film"):
        extract(find(index, "happy"), Wanted(sheet=tmp_path / "a.png"), film=other)
    said = json.loads((index.path / MANIFEST).read_text())
    said["film"]["place"] = "nowhere.mp4"
    (index.path / MANIFEST).write_text(json.dumps(said))
    extract(find(Index.open(index.path), "happy"), Wanted(edl=tmp_path / "b.edl"))
    assert "001  MOVIE    B " in (tmp_path / "b.edl").read_text(), "the index knows of the sound, the film may be gone"


def test_others_are_covered_in_all_pictures(index: Index, film: Path, tmp_path: Path) -> None:
    found = find(index, "happy for 8 frames")
    wanted = Wanted(clips=tmp_path / "clips", anonymize="others", pad=0.2)
    extract(found, wanted)
    with Film(film) as opened:
        pictures = {f.index: f.picture for f in opened}
    (clip, _) = sorted((tmp_path / "clips").iterdir())
    with Film(clip) as opened:
        frames = list(opened)
    # The clip begins at 0.04 s: frame 1. Track 7 is there from frame 10 on, and covered from frame 2 on.
    for frame in frames:
        before = pictures[1 + frame.index]
        assert before is not None
        assert frame.picture is not None
        error = np.abs(frame.picture.astype(int) - before)
        assert error[80:140, 100:160].mean() < 16
        other = error[60:120, 220:280].mean()
        assert (other > 40) if frame.index >= 1 else (other < 16)
    extract(found, Wanted(crops=tmp_path / "all", anonymize="all", margin=0, ending=".png"))
    for path in (tmp_path / "all").rglob("*.png"):
        assert len(np.unique(read_picture(path).reshape(-1, 3), axis=0)) <= 36


def test_nothing_found_writes_nothing(index: Index, tmp_path: Path) -> None:
    done = extract(find(index, "surprise"), Wanted(clips=tmp_path / "clips", srt=tmp_path / "a.srt"))
    assert (done.faces, done.spans, done.files) == (0, 0, [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["movie.mien"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to write; name at least one of crops"),
        ({"srt": Path("a.srt"), "anonymize": "me"}, "anonymize is 'me'"),
        ({"srt": Path("a.srt"), "how": "smear"}, "how is 'smear'"),
        ({"csv": Path("a.parquet")}, "film layout is for .csv only"),
        ({"spans": Path("a.txt")}, "ends in .csv or .json"),
        ({"sheet": Path("a.pdf")}, "a sheet ends in"),
        ({"crops": Path("a"), "aligned": True, "size": 2}, "got 2"),
    ],
)
def test_wishes_that_cannot_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Wanted(**options)  # type: ignore[arg-type]  # a test's short cut


def test_impossible_numbers(index: Index, tmp_path: Path) -> None:
    found = find(index, "happy")
    for options in ({"margin": -1.0}, {"most": 0}, {"ending": ".gif"}):
        with pytest.raises(OptionError, match="crops have"):
            extract(found, Wanted(crops=tmp_path / "x", **options))  # type: ignore[arg-type]  # a test's short cut
    assert not (tmp_path / "x").exists()
    with pytest.raises(OptionError, match="at least one"):
        extract(found, Wanted(sheet=tmp_path / "a.png", tiles=0))


def test_ctrl_c_leaves_what_was_there(index: Index, tmp_path: Path) -> None:
    (tmp_path / "sheet.png").write_bytes(b"old")
    folder = tmp_path / "clips"

    class Impatient:
        def begin(self, total: int) -> None:
            assert total > 40

        def __init__(self) -> None:
            self.seen = 0

        def step(self, frames: int) -> None:
            self.seen += frames
            if self.seen > 35:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(
            find(index, "happy for 8 frames"),
            Wanted(clips=folder, sheet=tmp_path / "sheet.png", pad=0),
            listener=Impatient(),
        )
    assert (tmp_path / "sheet.png").read_bytes() == b"old"
    names = [p.name for p in folder.iterdir()]
    assert not [n for n in names if n.startswith(".") or n.endswith(".part")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clips", "movie.mien", "sheet.png"]


def test_a_folder_that_cannot_be_made(index: Index, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("crops", "clips"):
        with pytest.raises(OutputError, match="cannot make this folder"):
            extract(find(index, "happy"), Wanted(**{name: tmp_path / "file" / "out"}))  # type: ignore[arg-type]  # a test's short cut


# Annotated films


def test_an_annotated_film_has_every_frame_at_its_time(index: Index, film: Path, tmp_path: Path) -> None:
    done = annotate_film(index, tmp_path / "a.mp4")
    with Film(film) as before, Film(tmp_path / "a.mp4") as after:
        assert after.has_sound
        old, new = list(before), list(after)
    np.testing.assert_allclose([f.time for f in new], [f.time for f in old], atol=1e-4)
    assert (done.frames, done.unreadable, done.sound) == (N, 0, True)
    assert done.film_seconds == pytest.approx(N / 25)
    assert done.realtime > 0
    change = np.abs(new[10].picture.astype(int) - old[10].picture).max(-1)  # type: ignore[union-attr]  # a test's short cut
    edge = np.concatenate([change[80:140, 100], change[80:140, 159], change[139, 100:140]])
    assert (edge > 40).mean() > 0.6
    assert (change[150:, 200:] > 60).mean() < 0.02


def test_slowed_it_has_no_sound_and_lasts_longer(index: Index, tmp_path: Path) -> None:
    done = annotate_film(index, tmp_path / "a.mp4", slow=2)
    with Film(tmp_path / "a.mp4") as film:
        assert not film.has_sound
        np.testing.assert_allclose([f.time for f in film], np.arange(N) * 0.08, atol=1e-4)
    assert not done.sound


def test_an_annotated_film_covers_faces(index: Index, film: Path, tmp_path: Path) -> None:
    found = find(index, "happy for 8 frames")
    annotate_film(index, tmp_path / "a.mp4", found=found, anonymize="others")
    with Film(film) as before, Film(tmp_path / "a.mp4") as after:
        pairs = [(a.picture, b.picture) for a, b in zip(before, after, strict=True)]
    for number in (15, 30):
        old, new = pairs[number]
        change = np.abs(new.astype(int) - old)
        assert change[60:120, 220:280].mean() > 40
        assert change[100:130, 120:150].mean() < 40
    with pytest.raises(OptionError, match="nobody was asked for"):
        annotate_film(index, tmp_path / "b.mp4", anonymize="others")
    with pytest.raises(OptionError, match="slow is 0"):
        annotate_film(index, tmp_path / "b.mp4", slow=0)
