"""Faces and a short run that the tests of training share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
from tiny import recipe

from mien.train import monitor
from mien.train.fit import fit


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 training faces, bright mouths for happy and dark ones for sad, and 8 test faces of which one leaks."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(60, 180, (80, 48, 48), np.uint8)
    label = np.where(np.arange(80) % 2, 3, 4)
    pictures[label == 3, 30:40, 10:38] = 250
    pictures[label == 4, 30:40, 10:38] = 5
    pictures[79] = pictures[0]
    counts = np.zeros((80, 10), int)
    counts[np.arange(80), np.where(label == 3, 1, 3)] = 8
    counts[:, 0] = 2
    table = {
        "image": [cv2.imencode(".png", p)[1].tobytes() for p in pictures],
        "label": label.tolist(),
        "usage": ["Training"] * 72 + ["PublicTest"] * 8,
        "ferplus": counts.tolist(),
    }
    folder = tmp_path_factory.mktemp("faces")
    pq.write_table(pa.table(table), folder / "faces.parquet")
    return folder


@pytest.fixture(scope="session")
def run(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twenty steps."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    fit(recipe(), faces, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """No curves and no TensorBoard: they take longer than the training of a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(monitor, "find_spec", lambda _: None)
        yield
