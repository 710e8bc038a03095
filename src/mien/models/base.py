"""The roles that models play. A new detector is one card and one class that fits `Detector`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, ShapeError
from ..image import Picture, check, resize

__all__ = ["LARGEST", "Boxes", "Classifier", "Detector", "Picture", "at_least", "within"]


@dataclass(frozen=True, slots=True)
class Boxes:
    """What a detector found in one picture, best score first.

    Attributes
    ----------
    box
        (N, 4) float32, x1 y1 x2 y2, pixels; may reach over the border.
    score
        (N,) float32 in [0, 1].
    points
        (N, 5, 2) float32, pixels, in the order of `results.columns.POINTS`; NaN where a detector has none.
    eyes
        (N,) int16: eyes that an eye cascade saw; -1 where not looked for.
    """

    box: NDArray[np.float32]
    score: NDArray[np.float32]
    points: NDArray[np.float32]
    eyes: NDArray[np.int16]

    def __post_init__(self) -> None:
        n = len(self.box)
        for name, shape in {"box": (n, 4), "score": (n,), "points": (n, 5, 2), "eyes": (n,)}.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(name, str(shape), getattr(self, name).shape)

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, index: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Boxes:
        return Boxes(self.box[index], self.score[index], self.points[index], self.eyes[index])

    @classmethod
    def empty(cls) -> Boxes:
        """Return no boxes."""
        f = np.float32
        return cls(np.empty((0, 4), f), np.empty(0, f), np.empty((0, 5, 2), f), np.empty(0, np.int16))


@runtime_checkable
class Detector(Protocol):
    """Finds faces: (H, W, 3) uint8 RGB → `Boxes` in that picture's pixels, best score first, one box a face."""

    def __call__(self, picture: Picture, /) -> Boxes:
        """Find the faces of one picture."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """Reads crops: (N, H, W, 3) uint8 RGB → (N, K) float32 scores that sum to 1, in one batched call."""

    def __call__(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Score a batch of crops."""
        ...


LARGEST = 16_384
"""Longest side that is searched without being made smaller; OpenCV cannot sample from more than 32,767 pixels."""


def within(picture: Picture, width: int | None) -> tuple[Picture, NDArray[np.float32]]:
    """Return the picture that is searched, and the factor (x, y, x, y) that carries its boxes back."""
    h, w = check(picture).shape[:2]
    shrink = min(1.0, (width or LARGEST) / max(h, w))
    if shrink == 1:
        return picture, np.ones(4, np.float32)
    small = resize(picture, max(1, round(w * shrink)), max(1, round(h * shrink)))
    factor = np.array([w / small.shape[1], h / small.shape[0]], np.float32)
    return small, np.tile(factor, 2)


def at_least(name: str, value: float | None, *, least: float = 1) -> None:
    """Raise `OptionError`, naming option and value, when a given value is below the least."""
    if value is not None and not value >= least:
        msg = f"{name} is {value}; give at least {least}"
        raise OptionError(msg)
