"""Where reading stops being honest: agreement with the taggers as faces get small, blurred, dark or bright.

Held-out faces of FER2013's Training are made worse step by step, and read. Prints, for each step, the agreement with
the taggers' first choice and the measure that `models.quality` sees, so that the limits can be chosen from it; no
test split is touched. ``python benchmarks/limits.py ../shared/data/fer2013 --model MODEL``
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scene import about

from mien.data.importers import LabelledFaces
from mien.data.split import split_training
from mien.models.expression import Expression
from mien.models.quality import sharpness


def held_out(path: str) -> LabelledFaces:
    """Return the faces that the flagship's recipe holds out and that most taggers call a face with an expression."""
    chosen = split_training(path, validation=0.05, seed=1).validation
    return chosen[chosen.votes[:, :8].max(1) > chosen.votes[:, 8:].max(1)]


def smaller(side: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    def change(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
        small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(small, (48, 48), interpolation=cv2.INTER_LINEAR), np.uint8)

    return change


def softer(sigma: float) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    return lambda face: np.asarray(cv2.GaussianBlur(face, (0, 0), sigma), np.uint8)


def darker(share: float, offset: float = 0.0) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    return lambda face: np.clip(np.rint(face * share + offset), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--model", default="expression")
    chosen = parser.parse_args()
    print(about())
    faces = held_out(chosen.data)
    model = Expression(chosen.model)
    truth = faces.crowd().argmax(1)
    steps: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {"as it is": lambda f: f}
    # A crop holds more than the detector's box: the box is about 48 / 1.15 pixels of it.
    steps |= {f"crop {s} px": smaller(s) for s in (36, 28, 24, 20, 16, 12, 10, 8)}
    steps |= {f"blur sigma {s}": softer(s) for s in (0.7, 1, 1.5, 2, 2.5, 3, 4)}
    steps |= {f"light × {s}": darker(s) for s in (0.5, 0.25, 0.12, 0.06, 0.03)}
    steps |= {f"light × {s} + {o}": darker(s, o) for s, o in ((0.5, 128), (0.2, 204), (0.1, 230), (0.05, 243))}
    print(f"{len(faces)} held-out faces\n{'change':20} agreement  sharpness 5 % / 50 %   luma 5 % / 50 % / 95 %")
    for name, change in steps.items():
        images = np.stack([change(f) for f in faces.images])
        agreement = float((model(images).argmax(1) == truth).mean())
        sharp = np.quantile(sharpness(np.repeat(images[..., None], 3, 3)), (0.05, 0.5))
        luma = np.quantile(images.mean((1, 2)), (0.05, 0.5, 0.95))
        measures = "   ".join(" ".join(f"{v:8.4g}" for v in values) for values in (sharp, luma))
        print(f"{name:20} {agreement:8.3f}   {measures}")


if __name__ == "__main__":
    main()
