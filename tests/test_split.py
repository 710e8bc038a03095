from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.data.split import split_training
from mien.errors import DataError


def table(path: Path, rows: list[tuple[str, int]]) -> Path:
    """fer2013.csv in which a row is a split and the number of its picture: equal numbers, equal pixels."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (max(n for _, n in rows) + 1, 48 * 48))
    lines = [f"{n % 7},{' '.join(map(str, pictures[n]))},{usage}" for usage, n in rows]
    path.write_text("\n".join(["emotion,pixels,Usage", *lines]) + "\n")
    return path


def test_no_picture_of_publictest_is_trained_on_and_twins_stay_together(tmp_path: Path) -> None:
    rows = [("Training", n) for n in (*range(20), 3, 4, 4)] + [("PublicTest", n) for n in (5, 6, 30)]
    split = split_training(table(tmp_path / "fer2013.csv", rows), validation=0.3, seed=4)
    assert split.dropped == 2
    assert len(split.train) + len(split.validation) == 21
    assert not set(split.train.group.tolist()) & set(split.validation.group.tolist())
    assert len(np.unique(split.validation.group)) == round(0.3 * 18)
    again = split_training(tmp_path / "fer2013.csv", validation=0.3, seed=4)
    assert again.validation.name.tolist() == split.validation.name.tolist()


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Training"):
        split_training(table(tmp_path / "fer2013.csv", [("PublicTest", 0)]), validation=0.1, seed=1)
