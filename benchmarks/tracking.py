"""How well faces keep their number: HOTA, IDF1, MOTA on films with known faces, and frame sheets of real clips.

Run: python benchmarks/tracking.py [--faces 1 2 4 6] [--seeds 1 2 3] [--size 640x360] [--seconds 20] [--patience 2]
     python benchmarks/tracking.py --clip hamilton.mp4 --out sheet.jpg [--every 5] [--tiles 24]

Each film of `moving.py` is searched once in every frame; the tracker then gets these faces in each frame or in each
fifth, with looks or without, and with a second look (`Mtcnn.follow`) or without, when boxes go on as they moved
between searches. Cuts come from `media.shots`. A row on a face of which less than half is seen, and on no other, is
no fault and left out.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from moving import Truth, moving_film
from numpy.typing import NDArray
from scene import about

from mien.evaluate.tracking import Rows, TrackScores, track_scores
from mien.geometry import iou
from mien.image import Picture, resize
from mien.media.shots import Shots
from mien.media.video import Film
from mien.media.writer import write_picture
from mien.models.base import Boxes
from mien.models.mtcnn import Mtcnn
from mien.track.appearance import look
from mien.track.tracker import Follow, Sightings, Tracked, Tracker


@dataclass(frozen=True)
class Way:
    """A variation of what the tracker gets."""

    every: int = 1
    looks: bool = True
    again: bool = True

    def __str__(self) -> str:
        return f"every {self.every}, look {'yes' if self.looks else 'no ':3}, follow {'yes' if self.again else 'no'}"


WAYS = tuple(Way(every, looks, again) for every in (1, 5) for looks in (True, False) for again in (True, False))


@dataclass
class Search:
    """The faces of a film's frames, found once: times, boxes, cuts."""

    times: list[float] = field(default_factory=list)
    found: list[Boxes] = field(default_factory=list)
    cuts: list[bool] = field(default_factory=list)


def searched(path: Path, find: Mtcnn) -> Search:
    out, shots = Search(), Shots()
    for frame in pictures(path):
        out.times.append(frame[0])
        out.found.append(find(frame[1]))
        out.cuts.append(bool(shots.update(frame[1])[0]))
    return out


def pictures(path: Path) -> Iterator[tuple[float, Picture]]:
    with Film(path, threads=1) as film:
        for frame in film:
            assert frame.picture is not None, f"{path}: frame {frame.index} is {frame.error}"
            yield frame.time, frame.picture


def sightings(picture: Picture, boxes: Boxes, way: Way) -> Sightings:
    looks = look(picture, boxes.box) if way.looks else np.empty((len(boxes), 0), np.float32)
    return Sightings(boxes.box, boxes.score, boxes.points, looks)


class Timed:
    """Counts the seconds that a second look takes, which are not the tracker's."""

    def __init__(self, call: Follow) -> None:
        self._call, self.seconds, self.faces = call, 0.0, 0

    def __call__(self, box: NDArray[np.float32]) -> tuple[Sightings, NDArray[np.bool_]]:
        """Look again, and count."""
        start = perf_counter()
        out = self._call(box)
        self.seconds += perf_counter() - start
        self.faces += len(box)
        return out


def again(picture: Picture, find: Mtcnn, way: Way, *, search: bool) -> Timed | None:
    if way.again:

        def fitted(box: NDArray[np.float32]) -> tuple[Sightings, NDArray[np.bool_]]:
            boxes, there = find.follow(picture, box)
            return sightings(picture, boxes, way), there

        return Timed(fitted)
    if search:
        return None

    def moved(box: NDArray[np.float32]) -> tuple[Sightings, NDArray[np.bool_]]:
        n = len(box)
        unknown = Boxes(box, np.ones(n, np.float32), np.full((n, 5, 2), np.nan, np.float32), np.full(n, -1, np.int16))
        return sightings(picture, unknown, way), np.ones(n, np.bool_)

    return Timed(moved)


def tracked(
    path: Path, known: Search, find: Mtcnn, way: Way, *, patience: float
) -> Iterator[tuple[Picture, Tracked, float, int]]:
    """Give each frame's picture, its tracks, the seconds spent in the tracker and the faces looked at again."""
    tracker, age = Tracker(patience=patience), way.every
    for (time, picture), boxes, cut in zip(pictures(path), known.found, known.cuts, strict=True):
        age += 1
        search = cut or age >= way.every
        age = 0 if search else age
        found = sightings(picture, boxes, way) if search else None
        follow = again(picture, find, way, search=search)
        start = perf_counter()
        out = tracker.update(found, time=time, cut=cut, follow=follow)
        spent = perf_counter() - start
        yield picture, out, spent - (follow.seconds if follow else 0), follow.faces if follow else 0


def scored(
    path: Path, known: Search, truth: Truth, find: Mtcnn, way: Way, patience: float
) -> tuple[TrackScores, float]:
    """Return the scores of a film and the tracker's milliseconds a frame."""
    frames, names, boxes, seconds = [], [], [np.empty((0, 4), np.float32)], 0.0
    for number, (_, out, spent, _) in enumerate(tracked(path, known, find, way, patience=patience)):
        kept = sure(truth, number, out.sightings.box)
        frames.append(np.full(int(kept.sum()), number))
        names.append(out.track[kept])
        boxes.append(out.sightings.box[kept])
        seconds += spent
    result = Rows(np.concatenate(frames), np.concatenate(names), np.concatenate(boxes))
    return track_scores(Rows(truth.frame, truth.id, truth.box), result), 1000 * seconds / len(frames)


def sure(truth: Truth, frame: int, box: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which boxes do not lie on a face that is mostly hidden."""
    hidden, shown = truth.unsure_box[truth.unsure_frame == frame], truth.box[truth.frame == frame]
    on_hidden = iou(box, hidden).max(1, initial=0.0)
    on_shown = iou(box, shown).max(1, initial=0.0)
    return np.asarray((on_hidden < 0.5) | (on_shown >= 0.5), np.bool_)


def films(o: argparse.Namespace, find: Mtcnn) -> None:
    width, height = map(int, o.size.split("x"))
    for faces in o.faces:
        results: dict[Way, list[tuple[TrackScores, float]]] = {way: [] for way in WAYS}
        cuts = [0, 0, 0]
        for seed in o.seeds:
            path = o.folder / f"moving-{o.size}-{o.seconds:g}s-{faces}-{seed}.mp4"
            truth = moving_film(path, width=width, height=height, seconds=o.seconds, faces=faces, seed=seed)
            known = searched(path, find)
            right = set(np.flatnonzero(known.cuts).tolist()) & set(truth.cuts.tolist())
            cuts = [a + b for a, b in zip(cuts, (len(right), sum(known.cuts), len(truth.cuts)), strict=True)]
            for way in WAYS:
                results[way].append(scored(path, known, truth, find, way, o.patience))
        print(
            f"\n{faces} face(s), {o.size}, seeds {o.seeds}; cuts: {cuts[0]} of {cuts[2]}, and {cuts[1] - cuts[0]} false"
        )
        print(f"{'':32}  HOTA   DetA   AssA   IDF1   MOTA   MOTP  sw  frag  false missed   rows tracks   ms")
        for way, rows in results.items():
            print(f"{way!s:32}" + line([s for s, _ in rows], float(np.mean([ms for _, ms in rows]))))


def line(scores: list[TrackScores], ms: float) -> str:
    """Return means of the shares and sums of the counts."""
    means = "".join(f" {np.mean([getattr(s, n) for s in scores]):6.3f}" for n in SHARES)
    total = {n: sum(getattr(s, n) for s in scores) for n in COUNTS}
    counts = f" {total['switches']:3} {total['fragments']:5} {total['false']:6} {total['missed']:6}"
    rows = total["matched"] + total["missed"]
    return f"{means}{counts} {rows:6} {total['tracks']:3}/{total['truth_tracks']:<3} {ms:4.2f}"


SHARES = ("hota", "deta", "assa", "idf1", "mota", "motp")
COUNTS = ("switches", "fragments", "false", "missed", "matched", "tracks", "truth_tracks")


def sheet(o: argparse.Namespace, find: Mtcnn) -> None:
    """Draw frames of a clip with their tracks, and list the tracks."""
    known = searched(o.clip, find)
    chosen = set(np.linspace(0, len(known.found) - 1, o.tiles).round().astype(int).tolist())
    tiles, seen, seconds = [], {}, 0.0
    for number, (picture, out, spent, _) in enumerate(
        tracked(o.clip, known, find, Way(every=o.every), patience=o.patience)
    ):
        seconds += spent
        for name, carried in zip(out.track.tolist(), out.carried.tolist(), strict=True):
            first, _, rows, followed = seen.get(name, (number, number, 0, 0))
            seen[name] = first, number, rows + 1, followed + carried
        if number in chosen:
            tiles.append(tile(picture, out, f"{number}"))
    print(f"{o.clip.name}: {len(known.found)} frames, cuts at {np.flatnonzero(known.cuts).tolist()}")
    print(f"searched every {o.every}: {len(seen)} tracks, {1000 * seconds / len(known.found):.2f} ms a frame")
    for name, (first, last, rows, followed) in sorted(seen.items()):
        print(f"  track {name}: frames {first} to {last}, {rows} rows, {followed} of them followed")
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % o.columns)
    rows_of_tiles = [np.hstack(tiles[i : i + o.columns]) for i in range(0, len(tiles), o.columns)]
    write_picture(o.out, np.ascontiguousarray(np.vstack(rows_of_tiles)))


COLOURS = ((255, 90, 60), (80, 220, 90), (90, 150, 255), (255, 220, 60), (230, 90, 230), (80, 230, 230))


def tile(picture: Picture, out: Tracked, caption: str) -> Picture:
    small = resize(picture, 320, round(320 * picture.shape[0] / picture.shape[1]))
    factor = small.shape[1] / picture.shape[1]
    for name, box, carried in zip(out.track.tolist(), out.sightings.box * factor, out.carried.tolist(), strict=True):
        x1, y1, x2, y2 = box.round().astype(int).tolist()
        colour = COLOURS[name % len(COLOURS)]
        cv2.rectangle(small, (x1, y1), (x2, y2), colour, 1 if carried else 2)
        cv2.putText(small, str(name), (x1, max(12, y1 - 3)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 2)
    cv2.putText(small, caption, (4, small.shape[0] - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    return small


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faces", type=int, nargs="+", default=[1, 2, 4, 6])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--patience", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mien-bench")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("sheet.jpg"))
    parser.add_argument("--tiles", type=int, default=24)
    parser.add_argument("--columns", type=int, default=4)
    o = parser.parse_args()
    o.folder.mkdir(exist_ok=True)
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    cv2.setNumThreads(threads)
    find = Mtcnn(threads=threads)
    print(about())
    (sheet if o.clip else films)(o, find)


if __name__ == "__main__":
    main()
