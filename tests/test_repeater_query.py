"""What holds steady is the same for the repeater and for a query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from filmindex import one_track, write_index

from mien.film.query import find
from mien.track.smooth import Repeater


def test_seconds_of_a_repeater_are_those_of_a_query(tmp_path: Path) -> None:
    tops = ["happy"] * 3 + ["sad"] * 2 + ["happy"] * 5 + ["neutral"]
    index = write_index(tmp_path / "i.mien", one_track(tops))
    faces, ordinal = index.faces(), index.details()["ordinal"]
    until = index.frames().ends[ordinal]
    for seconds in (0.08, 0.12, 0.16, 0.2, 0.24):
        kept = Repeater(seconds=seconds).keep(faces.top, faces.track, ordinal, faces.time, until=until)
        kept &= faces.top == "happy"
        assert np.flatnonzero(kept).tolist() == find(index, f"happy for {seconds} s").rows.tolist()
