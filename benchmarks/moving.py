"""Films in which every face is known: two portraits walk, cross, leave and come back, grow, are hidden, and are cut.

Run: python benchmarks/moving.py film.mp4 [--size 1280x720] [--seconds 20] [--faces 2] [--fps 25] [--seed 0]

Eileen Collins (NASA, in scikit-image) and Grace Hopper (US Navy, in matplotlib) are in the public domain. Persons 0
and 1 are these two; each further person is one of them again, mirrored, in clothes of another colour. What they do in
a shot is drawn by the seed: in two shots of three, two of them cross again and again, one in front of the other; the
others leave at a side and come back, come nearer and go away, or drift. A bar passes once a shot in front of all. A
cut gives another background, other places and other sizes.

The truth has a row for every face of which at least half can be seen: behind others, behind the bar and outside the
picture is not seen; faces of which less is seen are listed beside it. Its box is the detector's on the still portrait,
carried along. A person gets a new id at a cut, and when it comes back after it was not to be seen for longer than
`AWAY` seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from scene import portrait

from mien.media.stills import read_picture
from mien.models.mtcnn import Mtcnn

__all__ = ["AWAY", "Truth", "moving_film", "moving_frames", "moving_truth"]

Floats = NDArray[np.floating[Any]]

AWAY = 2.0
"""Seconds out of sight after which a face is another track."""

SEEN, HIDDEN = 0.5, 0.05
"""Share of a face's box from which it is to be found, and up to which nothing of it can be."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is to be found in a film: one row a face and frame, by frame, then person.

    Attributes
    ----------
    frame, id, person
        (R,) int64: the frame, the track that a tracker should give, and who it is.
    box
        (R, 4) float32, as the detector draws boxes.
    visible
        (R,) float32 in [0.5, 1]: the share of the box that can be seen.
    cuts
        (C,) int64: the frames with which a shot begins, but for the first.
    unsure_frame, unsure_box
        (U,) int64 and (U, 4) float32: faces of which less than half but not nothing is seen; to find one is no fault,
        to miss it neither.
    """

    frame: NDArray[np.int64]
    id: NDArray[np.int64]
    box: Floats
    person: NDArray[np.int64]
    visible: Floats
    cuts: NDArray[np.int64]
    unsure_frame: NDArray[np.int64]
    unsure_box: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Sprite:
    """A person cut out: colours times alpha (h, w, 3), alpha (h, w) in [0, 1], and the face's box in it."""

    colour: Floats
    alpha: Floats
    box: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Shot:
    """F frames of one shot: middle x, middle y and height of each face's box (P, F, 3); left edge of the bar (F,)."""

    first: int
    place: Floats
    bar: Floats
    bar_width: float
    seed: int


# By eye: where the head is (x y of the middle, half axes) and the outline of the shoulders, down to the cut edge.
_HEAD = (((227, 98), (76, 88)), ((261, 190), (114, 172)))
_SHOULDERS = (
    ((180, 150), (272, 150), (312, 225), (365, 330), (365, 350), (45, 350), (45, 320), (100, 220)),
    ((200, 300), (330, 300), (400, 350), (480, 390), (511, 520), (25, 520), (50, 395), (150, 350)),
)
_CLOTHES = ((40, 140, 90), (200, 60, 120), (220, 200, 60), (90, 60, 200), (230, 230, 230))


@cache
def _portraits() -> tuple[tuple[NDArray[np.uint8], Floats], ...]:
    from matplotlib.cbook import get_sample_data

    hopper = read_picture(get_sample_data("grace_hopper.jpg", asfileobj=False))
    find = Mtcnn(threads=1)
    return tuple((p, find(p).box[0]) for p in (portrait(), hopper))


@cache
def _person(number: int) -> _Sprite:
    """Cut a person out of the portrait."""
    which, form = number % 2, number // 2
    picture, box = _portraits()[which]
    mask = np.zeros(picture.shape[:2], np.uint8)
    (centre, axes), outline = _HEAD[which], np.array(_SHOULDERS[which])
    cv2.fillPoly(mask, [outline], 255)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 255, -1)
    x1, y1, x2, y2 = cv2.boundingRect(mask) @ np.array([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    colour, alpha = picture[y1:y2, x1:x2].astype(np.float32), mask[y1:y2, x1:x2].astype(np.float32) / 255
    alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), (box[3] - box[1]) / 60), np.float32)
    box = box - np.array([x1, y1, x1, y1], np.float32)
    if form:
        below = round(float(box[3] + 0.05 * (box[3] - box[1])))
        tint = np.array(_CLOTHES[(form - 1) % len(_CLOTHES)], np.float32)
        colour[below:] = 0.45 * colour[below:] + 0.55 * tint
        colour, alpha = colour[:, ::-1], alpha[:, ::-1]
        box = np.array([alpha.shape[1] - box[2], box[1], alpha.shape[1] - box[0], box[3]], np.float32)
    return _Sprite(np.ascontiguousarray(colour * alpha[..., None]), np.ascontiguousarray(alpha), box)


@cache
def _sized(number: int, height: int) -> _Sprite:
    """Return a person whose face is about so many pixels high, so that a film need only shrink it a little."""
    sprite = _person(number)
    factor = min(1.0, height / float(sprite.box[3] - sprite.box[1]))
    size = (max(1, round(sprite.alpha.shape[1] * factor)), max(1, round(sprite.alpha.shape[0] * factor)))
    scale = np.tile(np.array(size, np.float32) / sprite.alpha.shape[::-1], 2)
    colour, alpha = (cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in (sprite.colour, sprite.alpha))
    return _Sprite(np.asarray(colour, np.float32), np.asarray(alpha, np.float32), sprite.box * scale)


def _shots(width: int, height: int, count: int, faces: int, fps: float, seed: int, cut_every: float) -> Iterator[_Shot]:
    per_shot = max(1, round(cut_every * fps))
    for number, first in enumerate(range(0, count, per_shot)):
        rng = np.random.default_rng((seed, number))
        t = np.arange(min(per_shot, count - first)) / fps
        size = height * min(0.3, 0.5 / faces**0.5)
        place = np.stack(_places(rng, t, width, height, faces, size, number), 0) if faces else np.empty((0, len(t), 3))
        bar_width = float(rng.uniform(0.5, 1.2) * size)
        start, speed = rng.uniform(0.2, 0.5) * cut_every, width / rng.uniform(0.8, 2.0)
        bar = (t - start) * speed - bar_width
        if rng.random() < 0.5:
            bar = width - bar_width - bar
        yield _Shot(first, place.astype(np.float32), bar.astype(np.float32), bar_width, seed * 1000 + number)


def _places(
    rng: np.random.Generator, t: Floats, width: int, height: int, faces: int, size: float, number: int
) -> list[NDArray[np.float64]]:
    """Draw what each person does in a shot: (F, 3) middle x, middle y, height of the face."""
    out: list[NDArray[np.float64]] = [np.empty(0)] * faces
    order = rng.permutation(faces)
    level = rng.uniform(0.3, 0.45) * height
    for n, person in enumerate(order):
        own = size * rng.uniform(0.7, 1.1)
        if faces > 1 and n < 2 and number % 3 < 2:
            out[person] = _crossing(rng, t, width, level + rng.uniform(-0.2, 0.2) * size, own, first=n == 0)
        else:
            out[person] = (_leaving, _nearing, _drifting)[(n + number) % 3](rng, t, width, height, own)
    return out


def _crossing(
    rng: np.random.Generator, t: Floats, width: int, level: float, size: float, *, first: bool
) -> NDArray[np.float64]:
    period = rng.uniform(2.5, 7.0)
    way = 1 - 2 * np.abs((t / period + rng.uniform(0, 0.2)) % 1 * 2 - 1)
    x = width * (0.5 + (0.33 if first else -0.33) * way)
    return np.stack([x, np.full_like(x, level), np.full_like(x, size)], 1)


def _leaving(rng: np.random.Generator, t: Floats, width: int, height: int, size: float) -> NDArray[np.float64]:
    side = int(rng.integers(2))
    stay, out = width * (0.8 if side else 0.2), width + 1.5 * size if side else -1.5 * size
    begin, walk = rng.uniform(0.8, 1.5), rng.uniform(0.5, 1.0)
    gap = float(rng.choice([0.1 * AWAY, AWAY + 0.3]))
    times = np.cumsum([0, begin, walk, gap, walk])
    x = np.interp(t, times, [stay, stay, out, out, stay])
    return np.stack([x, np.full_like(x, rng.uniform(0.3, 0.6) * height), np.full_like(x, size)], 1)


def _nearing(rng: np.random.Generator, t: Floats, width: int, height: int, size: float) -> NDArray[np.float64]:
    wave = np.sin(2 * np.pi * t / rng.uniform(2, 5) + rng.uniform(0, 6))
    x = width * rng.uniform(0.2, 0.8) + 0.05 * width * wave
    return np.stack([x, rng.uniform(0.35, 0.5) * height + 0.1 * size * wave, size * 1.4**wave], 1)


def _drifting(rng: np.random.Generator, t: Floats, width: int, height: int, size: float) -> NDArray[np.float64]:
    a, b = (np.sin(2 * np.pi * t / rng.uniform(3, 9) + rng.uniform(0, 6)) for _ in range(2))
    x, y = rng.uniform(0.2, 0.8) * width + 0.15 * width * a, rng.uniform(0.3, 0.6) * height + 0.1 * height * b
    return np.stack([x, y, np.full_like(x, size)], 1)


def _affine(sprite: _Sprite, place: Floats) -> tuple[float, Floats]:
    """Return the scale and the shift from the sprite's pixels to the picture's."""
    scale = float(place[2] / (sprite.box[3] - sprite.box[1]))
    return scale, place[:2] - scale * (sprite.box[:2] + sprite.box[2:]) / 2


def _visible(shot: _Shot, at: int, person: int, boxes: Floats, width: int, height: int) -> float:
    """Return the share of a face's box that is seen, on a grid of 16 × 16 points; later persons stand in front."""
    steps = (np.arange(16, dtype=np.float32) + 0.5) / 16
    x1, y1, x2, y2 = boxes[person]
    x, y = (g.ravel() for g in np.meshgrid(x1 + steps * (x2 - x1), y1 + steps * (y2 - y1)))
    seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    seen &= (x < shot.bar[at]) | (x >= shot.bar[at] + shot.bar_width)
    for other in range(person + 1, len(boxes)):
        sprite = _person(other)
        scale, shift = _affine(sprite, shot.place[other, at])
        column, row = ((v - s) / scale for v, s in zip((x, y), shift, strict=True))
        h, w = sprite.alpha.shape
        inside = (column >= 0) & (column < w) & (row >= 0) & (row < h)
        index = np.clip(row, 0, h - 1).astype(int), np.clip(column, 0, w - 1).astype(int)
        seen &= ~(inside & (sprite.alpha[index] > 0.5))
    return float(seen.mean())


def moving_truth(
    *, width: int, height: int, seconds: float, faces: int, fps: float = 25, seed: int = 0, cut_every: float = 5.0
) -> Truth:
    """Return the truth of a film without drawing it."""
    count = round(seconds * fps)
    shots = list(_shots(width, height, count, faces, fps, seed, cut_every))
    rows: list[tuple[int, int, int, float]] = []
    unsure: list[int] = []
    nobody = np.empty((0, 4), np.float32)
    every_box, unsure_box, next_id = [nobody], [nobody], 0
    for shot in shots:
        last: dict[int, tuple[int, int]] = {}
        for at in range(shot.place.shape[1]):
            boxes = _boxes(shot.place[:, at])
            for person in range(faces):
                seen = _visible(shot, at, person, boxes, width, height)
                if seen < SEEN:
                    if seen > HIDDEN:
                        unsure.append(shot.first + at)
                        unsure_box.append(boxes[person : person + 1])
                    continue
                then, name = last.get(person, (-1, -1))
                if name < 0 or (at - then - 1) / fps > AWAY:
                    name, next_id = next_id, next_id + 1
                last[person] = at, name
                rows.append((shot.first + at, name, person, seen))
                every_box.append(boxes[person : person + 1])
    table = np.array(rows, np.float64).reshape(-1, 4)
    whole = table[:, :3].astype(np.int64)
    cuts = np.array([s.first for s in shots[1:]], np.int64)
    return Truth(
        frame=whole[:, 0],
        id=whole[:, 1],
        box=np.concatenate(every_box).astype(np.float32),
        person=whole[:, 2],
        visible=table[:, 3].astype(np.float32),
        cuts=cuts,
        unsure_frame=np.array(unsure, np.int64),
        unsure_box=np.concatenate(unsure_box).astype(np.float32),
    )


def _boxes(places: Floats) -> Floats:
    ratio = np.array([np.divide(*np.ptp(_person(p).box.reshape(2, 2), 0)) for p in range(len(places))], np.float32)
    half = places[:, 2:] / 2 * np.stack([ratio, np.ones_like(ratio)], 1)
    return np.concatenate([places[:, :2] - half, places[:, :2] + half], 1)


def _ground(shot: _Shot, width: int, height: int) -> NDArray[np.uint8]:
    """Draw a textured background, larger than the picture so that it can move."""
    rng = np.random.default_rng(shot.seed)
    out = np.zeros((height + 64, width + 64, 3), np.float32)
    tone = rng.uniform(60, 190, 3)
    for cells, light, colour in ((4, 40, 20), (24, 25, 10), (120, 12, 4)):
        shape = cells, round(cells * 16 / 9)
        noise = rng.normal(0, light, (*shape, 1)) + rng.normal(0, colour, (*shape, 3))
        out += cv2.resize(noise.astype(np.float32), (width + 64, height + 64), interpolation=cv2.INTER_LINEAR)
    return np.clip(out + tone, 0, 255).astype(np.uint8)


def _paste(picture: NDArray[np.uint8], sprite: _Sprite, place: Floats) -> None:
    scale, (dx, dy) = _affine(sprite, place)
    h, w = sprite.alpha.shape
    x1, y1 = max(0, int(np.floor(dx))), max(0, int(np.floor(dy)))
    x2, y2 = min(picture.shape[1], int(np.ceil(dx + w * scale))), min(picture.shape[0], int(np.ceil(dy + h * scale)))
    if x1 >= x2 or y1 >= y2:
        return
    # Pixel centres: what lies at (i + 1/2) in the sprite comes to scale (i + 1/2) + shift.
    matrix = np.array([[scale, 0, dx - x1 + scale / 2 - 0.5], [0, scale, dy - y1 + scale / 2 - 0.5]])
    colour, alpha = (cv2.warpAffine(a, matrix, (x2 - x1, y2 - y1)) for a in (sprite.colour, sprite.alpha))
    part = picture[y1:y2, x1:x2]
    part[:] = (part * (1 - alpha[..., None]) + colour).astype(np.uint8)


def moving_frames(
    *, width: int, height: int, seconds: float, faces: int, fps: float = 25, seed: int = 0, cut_every: float = 5.0
) -> Iterator[NDArray[np.uint8]]:
    """Draw the frames of a film, (height, width, 3) uint8 RGB."""
    for shot in _shots(width, height, round(seconds * fps), faces, fps, seed, cut_every):
        ground = _ground(shot, width, height)
        sprites = [_sized(p, round(float(shot.place[p, :, 2].max()))) for p in range(faces)]
        for at in range(shot.place.shape[1]):
            x, y = at // 2 % 64, at // 4 % 64
            picture = ground[y : y + height, x : x + width].copy()
            for person, sprite in enumerate(sprites):
                _paste(picture, sprite, shot.place[person, at])
            left, right = (int(np.clip(shot.bar[at] + d, 0, width)) for d in (0, shot.bar_width))
            picture[:, left:right] = (70, 66, 60)
            yield picture


def moving_film(
    path: Path,
    *,
    width: int,
    height: int,
    seconds: float,
    faces: int,
    fps: int = 25,
    seed: int = 0,
    cut_every: float = 5.0,
) -> Truth:
    """Write a film as H.264, unless this very film is there already, and return its truth.

    Parameters
    ----------
    path
        Where to; the ending says the container, as ``.mp4`` or ``.mkv``.
    width, height
        Pixels, even.
    seconds, fps, cut_every
        Length, frames a second, and the length of a shot in seconds.
    faces
        How many persons.
    seed
        Another seed gives other walks and backgrounds.
    """
    settings = {"width": width, "height": height, "seconds": seconds, "faces": faces, "fps": fps, "seed": seed}
    chosen = {**settings, "cut_every": cut_every}
    comment = json.dumps({"moving": 1, **chosen})
    truth = moving_truth(
        width=width, height=height, seconds=seconds, faces=faces, fps=fps, seed=seed, cut_every=cut_every
    )
    if path.exists():
        with av.open(str(path)) as there:
            if there.metadata.get("comment") == comment:
                return truth
    with av.open(str(path), "w") as container:
        container.metadata["comment"] = comment
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "21"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        container.start_encoding()
        drawn = moving_frames(
            width=width, height=height, seconds=seconds, faces=faces, fps=fps, seed=seed, cut_every=cut_every
        )
        for number, picture in enumerate(drawn):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--faces", type=int, default=2)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cut-every", type=float, default=5)
    o = parser.parse_args()
    width, height = map(int, o.size.split("x"))
    truth = moving_film(
        o.path,
        width=width,
        height=height,
        seconds=o.seconds,
        faces=o.faces,
        fps=o.fps,
        seed=o.seed,
        cut_every=o.cut_every,
    )
    print(f"{o.path}: {len(truth.frame)} faces, {len(np.unique(truth.id))} tracks, cuts at {truth.cuts.tolist()}")


if __name__ == "__main__":
    main()
