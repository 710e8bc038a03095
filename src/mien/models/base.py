"""The roles that models play. A new detector is one card and one class that fits `Detector`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


from ..errors import ShapeError
from ..image import Picture

__all__ = ["Boxes", "Classifier", "Detector", "Picture"]



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
