from __future__ import annotations

import cv2
import numpy as np
import pytest
from fakes import boxes

from mien.models.quality import Limits, judge, outside, sharpness
from mien.results.columns import Reason


def test_outside_is_the_share_beyond_the_border() -> None:
    got = outside(np.array([[0, 0, 10, 10], [-5, 0, 5, 10], [-20, 0, -10, 10], [5, 5, 5, 5]], np.float32), 100, 100)
    assert got.tolist() == [0, 0.5, 1, 0]


def test_sharpness_falls_with_blur_and_not_with_contrast() -> None:
    rng = np.random.default_rng(0)
    sharp = np.repeat(rng.integers(60, 190, (48, 48, 1), np.uint8), 3, 2)
    soft = [cv2.GaussianBlur(sharp, (0, 0), s) for s in (0.8, 1.6, 3.2)]
    values = sharpness(np.stack([sharp, *soft]))
    assert (np.diff(values) < 0).all()
    pale = (sharp.astype(np.float32) * 0.5 + 60).astype(np.uint8)
    assert sharpness(pale[None])[0] == pytest.approx(values[0], rel=0.1)


def test_no_face_no_reason() -> None:
    assert judge(boxes(), np.empty((0, 48, 48, 3), np.uint8), width=9, height=9, limits=Limits()).tolist() == []


def test_a_face_in_profile_is_turned_away() -> None:
    crops = np.random.default_rng(0).integers(40, 210, (2, 48, 48, 3), np.uint8)
    two = boxes((0, 0, 60, 60), (0, 0, 60, 60))
    two.points[1, 2, 0] += 30  # the nose stands beside the cheek
    got = judge(two, crops, width=200, height=200, limits=Limits())
    assert [Reason(int(r)).words for r in got] == ["", "turned_away"]
