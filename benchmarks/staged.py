"""Films staged from photographs, with known cuts and with what only looks like one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

WIDTH, HEIGHT = 320, 180


@dataclass(frozen=True, slots=True)
class Shown:
    """One frame: ``cut`` where a shot begins at once, ``either`` where a cut is neither asked for nor wrong."""

    picture: Picture
    cut: bool
    either: bool
    kind: str


@dataclass(frozen=True, slots=True)
class View:
    """Where the camera looks: the middle as shares of the photograph, and the width as a share of its largest view."""

    x: float
    y: float
    size: float

    def of(self, photo: Picture) -> Picture:
        """Return what the camera sees of a photograph."""
        h, w = photo.shape[:2]
        wide = min(w, h * WIDTH / HEIGHT) * self.size
        tall = wide * HEIGHT / WIDTH
        left, top = self.x * (w - wide), self.y * (h - tall)
        scale = wide / WIDTH
        matrix = np.array([[scale, 0, left], [0, scale, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(photo, matrix, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REFLECT)


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stretch is made of: its chance, its photograph, where the camera begins, and another photograph."""

    rng: np.random.Generator
    photo: Picture
    view: View
    other: Picture

    def begin(self) -> Picture:
        """Return what the camera sees first."""
        return self.view.of(self.photo)


Stretch = Callable[[Stage], Iterator[Picture]]


def still(on: Stage) -> Iterator[Picture]:
    for _ in range(on.rng.integers(8, 30)):
        yield on.begin()


def pan(on: Stage) -> Iterator[Picture]:
    """Up to 6 % of the picture's width a frame: the whole picture in two thirds of a second."""
    angle, speed = on.rng.uniform(0, 2 * np.pi), on.rng.uniform(0.005, 0.06)
    h, w = on.photo.shape[:2]
    wide = min(w, h * WIDTH / HEIGHT) * on.view.size
    room = np.array([max(w - wide, 1), max(h - wide * HEIGHT / WIDTH, 1)])
    step = speed * wide * np.array([np.cos(angle), 0.6 * np.sin(angle)]) / room
    x, y = on.view.x, on.view.y
    for _ in range(on.rng.integers(8, 24)):
        x, y = x + step[0], y + step[1]
        yield View(x, y, on.view.size).of(on.photo)


def zoom(on: Stage) -> Iterator[Picture]:
    rate = np.exp(on.rng.choice([-1, 1]) * on.rng.uniform(0.005, 0.03))
    size = on.view.size
    for _ in range(on.rng.integers(8, 24)):
        size = float(np.clip(size * rate, 0.2, 1.0))
        yield View(on.view.x, on.view.y, size).of(on.photo)


def shake(on: Stage) -> Iterator[Picture]:
    for _ in range(on.rng.integers(8, 24)):
        dx, dy, ds = on.rng.normal(0, 0.02, 3)
        yield View(on.view.x + dx, on.view.y + dy, on.view.size * (1 + ds / 2)).of(on.photo)


def crossing(on: Stage) -> Iterator[Picture]:
    """Let somebody walk past close to the camera: as high as the picture, up to 60 % as wide, in 8 to 16 frames."""
    base = on.begin()
    wide = int(on.rng.uniform(0.3, 0.6) * WIDTH)
    coat = cv2.resize(on.other, (wide, HEIGHT), interpolation=cv2.INTER_AREA)
    coat = (coat * on.rng.uniform(0.3, 0.9)).astype(np.uint8)
    shape = np.zeros((HEIGHT, wide), np.uint8)
    cv2.ellipse(shape, (wide // 2, HEIGHT // 3), (wide // 4, HEIGHT // 3), 0, 0, 360, 255, -1)
    cv2.ellipse(shape, (wide // 2, HEIGHT), (wide // 2, HEIGHT // 2), 0, 0, 360, 255, -1)
    mask = cv2.GaussianBlur(shape, (0, 0), 2)[..., None] / 255
    steps = int(on.rng.integers(8, 17))
    places = np.linspace(-wide, WIDTH, steps).round().astype(int)
    for at in places if on.rng.random() < 0.5 else places[::-1]:
        out = base.astype(np.float64)
        a, b = max(at, 0), min(at + wide, WIDTH)
        if a < b:
            part = slice(a - at, b - at)
            out[:, a:b] = out[:, a:b] * (1 - mask[:, part]) + coat[:, part] * mask[:, part]
        yield out.astype(np.uint8)


def flash(on: Stage) -> Iterator[Picture]:
    """One frame, here and there two, lit by a flash: some times as bright, clipped."""
    base = on.begin().astype(np.float64)
    for _ in range(on.rng.integers(1, 3)):
        for _ in range(on.rng.integers(3, 8)):
            yield base.astype(np.uint8)
        lit = np.clip(base * on.rng.uniform(1.5, 4) + on.rng.uniform(10, 80), 0, 255).astype(np.uint8)
        for _ in range(1 + (on.rng.random() < 0.3)):
            yield lit
    for _ in range(4):
        yield base.astype(np.uint8)


def exposure(on: Stage) -> Iterator[Picture]:
    """Set the exposure anew, at once or within ten frames."""
    base = on.begin().astype(np.float64)
    gain = np.exp(on.rng.choice([-1, 1]) * on.rng.uniform(0.3, 0.9))
    steps = int(on.rng.choice([1, 3, 10]))
    for i in range(20):
        share = min(max(i - 4, 0) / steps, 1)
        yield np.clip(base * gain**share, 0, 255).astype(np.uint8)


def black(on: Stage) -> Iterator[Picture]:
    """To black and back to the same picture."""
    base = on.begin().astype(np.float64)
    n, dark = int(on.rng.integers(4, 15)), int(on.rng.integers(0, 6))
    for share in [*np.linspace(1, 0, n), *[0] * dark, *np.linspace(0, 1, n)]:
        yield (base * share).astype(np.uint8)


def moving(on: Stage) -> Iterator[Picture]:
    """Move a quarter of the picture about, as a head close to the camera does."""
    base, head = on.begin(), cv2.resize(on.other, (120, 120), interpolation=cv2.INTER_AREA)
    x, y = on.rng.uniform(0, WIDTH - 120), on.rng.uniform(0, HEIGHT - 120)
    for _ in range(on.rng.integers(8, 24)):
        x, y = np.clip(x + on.rng.normal(0, 8), 0, WIDTH - 120), np.clip(y + on.rng.normal(0, 5), 0, HEIGHT - 120)
        out = base.copy()
        out[int(y) : int(y) + 120, int(x) : int(x) + 120] = head
        yield out


STRETCHES: tuple[Stretch, ...] = (still, pan, zoom, shake, crossing, flash, exposure, black, moving)


def film(photos: list[Picture], *, shots: int, seed: int) -> Iterator[Shown]:
    """Stage a film: shots of one stretch each; a shot begins with a cut or, one in seven, from black.

    One cut in four stays at the place: another view of the same photograph, twice as near or far. Every frame has
    noise, and what is shown is squeezed as film is, into JPEG.
    """
    rng = np.random.default_rng(seed)
    place = int(rng.integers(len(photos)))
    view = View(0.5, 0.5, 0.8)
    for shot in range(shots):
        near = shot > 0 and rng.random() < 0.25
        if near:
            size = view.size / 2 if view.size > 0.5 else min(view.size * 2, 1.0)
            view = View(float(rng.random()), float(rng.random()), size)
        else:
            place = int((place + rng.integers(1, len(photos))) % len(photos))
            view = View(*(float(v) for v in rng.uniform(0.2, 0.8, 2)), float(rng.uniform(0.5, 1)))
        noise = rng.uniform(0.5, 5)
        opened = shot > 0 and rng.random() < 1 / 7
        first = True
        if opened:
            for share in [*[0.0] * 3, *np.linspace(0, 1, 8)]:
                yield Shown(
                    _seen(rng, view.of(photos[place]) * share, noise), cut=False, either=True, kind="from black"
                )
            first = False
        # A head that is suddenly there is no part of a shot that has begun.
        kinds = STRETCHES[:-1] if opened else STRETCHES
        stretch = kinds[rng.integers(len(kinds))]
        for picture in stretch(Stage(rng, photos[place], view, photos[rng.integers(len(photos))])):
            cut = first and shot > 0
            jump = "cut, same place" if near else "cut"
            yield Shown(_seen(rng, picture, noise), cut=cut, either=False, kind=jump if cut else stretch.__name__)
            first = False


def _seen(rng: np.random.Generator, picture: NDArray[np.generic], noise: float) -> Picture:
    grain = cv2.resize(rng.normal(0, noise, (HEIGHT, WIDTH, 3)), (WIDTH, HEIGHT))
    noisy = np.clip(picture + grain, 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def photographs(folder: Path, *, half: int) -> list[Picture]:
    """Every second photograph below a folder, RGB, at most 960 pixels wide."""
    files = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"} and "clips" not in str(p)
    )
    out = []
    for path in files[half::2]:
        bgr = cv2.imread(str(path))
        if bgr is None or min(bgr.shape[:2]) < 200:
            continue
        scale = min(1.0, 960 / bgr.shape[1])
        small = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        out.append(np.ascontiguousarray(small[..., ::-1]))
    return out
