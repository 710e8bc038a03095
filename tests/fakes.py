"""Models that fit the protocols and need no weights: what they say can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mien.labels import EIGHT, SEVEN, LabelSet
from mien.models.base import Boxes
from mien.models.expression import Reading
from mien.zoo.card import Head, InputSpec, ModelCard

TEMPLATE = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))


def boxes(*corners: tuple[float, float, float, float], scores: tuple[float, ...] | None = None) -> Boxes:
    """Boxes with points where the template has them."""
    box = np.array(corners, np.float32).reshape(-1, 4)
    sides = (box[:, 2:] - box[:, :2])[:, None]
    points = box[:, None, :2] + np.array(TEMPLATE, np.float32) * sides
    n = len(box)
    return Boxes(box, np.array(scores or np.linspace(1, 0.9, n), np.float32), points, np.full(n, -1, np.int16))


class BlueDetector:
    """Finds the one rectangle that is pure blue plus noise in red and green; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, picture: NDArray[np.uint8], /) -> Boxes:
        self.calls += 1
        rows, cols = np.nonzero(picture[..., 2] > 240)
        if not len(rows):
            return Boxes.empty()
        return boxes((cols.min(), rows.min(), cols.max() + 1, rows.max() + 1))


class RedReader:
    """Happy in the measure in which the crop is red, neutral for the rest; remembers the batches it was given."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.card = ModelCard(
            name="red",
            task="expression",
            file="",
            sha256="",
            size=0,
            licence="",
            origin="",
            data="",
            input=InputSpec(width=48, height=48, template=TEMPLATE),
            labels=EIGHT,
            heads=(Head("crowd", EIGHT), Head("fer2013", SEVEN)),
        )

    def read(self, crops: NDArray[np.uint8], /) -> Reading:
        self.batches.append(len(crops))
        happy = crops[..., 0].mean((1, 2)) / 255
        crowd = np.zeros((len(crops), 8), np.float32)
        crowd[:, 3], crowd[:, 6] = happy, 1 - happy
        return Reading({"crowd": crowd, "fer2013": crowd[:, :7]}, np.zeros((len(crops), 4), np.float32))


class MoodReader:
    """As `RedReader`, over labels of its own: smile in the measure in which the crop is red, pout for the rest."""

    def __init__(self) -> None:
        labels = LabelSet("custom", ("smile", "pout", "neutral"))
        self.card = replace(RedReader().card, name="moods", labels=labels, heads=(Head("labels", labels),))

    def read(self, crops: NDArray[np.uint8], /) -> Reading:
        smile = crops[..., 0].mean((1, 2)) / 255
        scores = np.stack([smile, 1 - smile, 0 * smile], 1).astype(np.float32)
        return Reading({"labels": scores}, np.zeros((len(crops), 4), np.float32))


def scene(x: int | None, *, red: int = 200, width: int = 160, height: int = 120, side: int = 60) -> NDArray[np.uint8]:
    """A grey picture with a noisy, reddish-blue square at x, or none."""
    out = np.full((height, width, 3), 90, np.uint8)
    if x is not None:
        patch = np.random.default_rng(1).integers(0, 60, (side, side, 3))
        patch[..., 0] = np.clip(patch[..., 0] + red - 30, 0, 255)
        patch[..., 2] = 250
        out[30 : 30 + side, x : x + side] = patch
    return out


def elsewhere(x: int, *, red: int = 200) -> NDArray[np.uint8]:
    """The square of `scene` in another place: patches of many colours, so that going there is a cut."""
    patches = np.random.default_rng(5).integers(0, 180, (6, 8, 3), np.uint8)
    out = np.repeat(np.repeat(patches, 20, 0), 20, 1)
    out[30:90, x : x + 60] = scene(x, red=red)[30:90, x : x + 60]
    return out
