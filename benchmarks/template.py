"""Measure where the five points lie in the faces of FER2013: the framing to which mien aligns its crops.

Run: python benchmarks/template.py ../shared/data/fer2013/training.parquet [--sample 2000] [--json]

MTCNN looks for the face in each of a seeded sample of Training pictures, enlarged and surrounded by their own edge
pixels, since the faces fill the frame. Only pictures with a single, confident find count. Taggers' "not a face" and
pixel-equal twins are left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.data.importers import LabelledFaces, read_fer2013
from mien.models.detect import Mtcnn
from mien.results.columns import POINTS

SIDE, TIMES, BORDER = 48, 4, 64
CONFIDENT = 0.95
MIRROR = [1, 0, 2, 4, 3]


def sample(faces: LabelledFaces, size: int, seed: int) -> NDArray[np.uint8]:
    """Draw pictures (N, 48, 48) without twins and without what the taggers call no face."""
    _, first = np.unique(faces.group, return_index=True)
    good = first[faces.votes[first, 9] == 0]
    rng = np.random.default_rng(seed)
    chosen: NDArray[np.uint8] = faces.images[np.sort(rng.choice(good, min(size, len(good)), replace=False))]
    return chosen


def shares(picture: NDArray[np.uint8], find: Mtcnn) -> NDArray[np.float64] | None:
    """Return the points (5, 2) as shares of the picture's sides, or None where there is no single confident face."""
    large = cv2.resize(picture, (SIDE * TIMES, SIDE * TIMES), interpolation=cv2.INTER_CUBIC)
    framed = cv2.copyMakeBorder(large, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_REPLICATE)
    found = find(np.asarray(cv2.cvtColor(framed, cv2.COLOR_GRAY2RGB), np.uint8))
    if len(found) != 1 or found.score[0] < CONFIDENT:
        return None
    # A point is at a pixel's centre, a share is measured from the picture's edge.
    place: NDArray[np.float64] = (found.points[0].astype(np.float64) + 0.5 - BORDER) / (SIDE * TIMES)
    return place


def symmetric(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of points (5, 2) and their mirror image: FER2013 has no preferred side."""
    mirrored = points[MIRROR] * [-1, 1] + [1, 0]
    return (points + mirrored) / 2


def measure(path: Path, size: int, seed: int) -> dict[str, Any]:
    pictures = sample(read_fer2013(path, split="Training"), size, seed)
    find = Mtcnn(min_face=80)
    found = [p for picture in pictures if (p := shares(picture, find)) is not None]
    points = np.stack(found)
    low, middle, high = np.percentile(points, [25, 50, 75], axis=0)
    template = symmetric(middle)
    return {
        "sampled": len(pictures),
        "found": len(found),
        "share_found": round(len(found) / len(pictures), 4),
        "median": middle.round(4).tolist(),
        "quartiles": np.stack([low, high]).round(4).tolist(),
        "standard_error": (points.std(0) * 1.2533 / len(points) ** 0.5).round(4).tolist(),
        "template": template.round(4).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sample", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.data, options.sample, options.seed)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['found']} single confident faces in {result['sampled']} pictures ({result['share_found']:.1%})")
    print("point          median x, y        quartiles of x      quartiles of y      template")
    low, high = result["quartiles"]
    for i, name in enumerate(POINTS):
        (x, y), (tx, ty) = result["median"][i], result["template"][i]
        spread = f"{low[i][0]:.3f} … {high[i][0]:.3f}     {low[i][1]:.3f} … {high[i][1]:.3f}"
        print(f"{name:12}   {x:.4f}  {y:.4f}     {spread}     {tx:.4f}  {ty:.4f}")


if __name__ == "__main__":
    main()
