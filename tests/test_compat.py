from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from mien.errors import OptionError

ASTRONAUT = Path(find_spec("skimage").submodule_search_locations[0]) / "data" / "astronaut.png"


@pytest.mark.parametrize("mtcnn", [True, False])
def test_detect_emotions_has_the_shape_and_order_of_fer(mtcnn: bool) -> None:
    found = mien.compat.FER(mtcnn=mtcnn).detect_emotions(cv2.imread(str(ASTRONAUT)))
    assert len(found) == 1
    assert list(found[0]) == ["box", "emotions"]
    assert list(found[0]["emotions"]) == ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
    assert json.loads(json.dumps(found)) == found
    assert sum(found[0]["emotions"].values()) == pytest.approx(1, abs=1e-5)
    x, y, width, height = found[0]["box"]
    assert all(low < v < high for v, low, high in ((x, 150, 220), (y, 40, 110), (width, 70, 180), (height, 70, 180)))


def test_top_emotion() -> None:
    label, score = mien.compat.FER(mtcnn=True).top_emotion(cv2.imread(str(ASTRONAUT)))
    assert label == "happy"
    assert 0.3 < score <= 1
    assert mien.compat.FER().top_emotion(np.zeros((200, 200, 3), np.uint8)) == (None, None)


def test_arrays_are_blue_green_red_and_paths_are_read() -> None:
    reader = mien.compat.FER(mtcnn=True)
    by_path = reader.detect_emotions(str(ASTRONAUT))
    assert reader.detect_emotions(cv2.imread(str(ASTRONAUT))) == by_path


def test_an_option_without_meaning_is_refused_unless_it_is_the_default() -> None:
    mien.compat.FER(tfserving=False)
    with pytest.raises(OptionError, match="tfserving"):
        mien.compat.FER(tfserving=True)
