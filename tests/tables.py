"""Face tables of any content, for property tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mien.labels import EIGHT, SEVEN, LabelSet
from mien.results import Faces

MOODS = LabelSet("custom", ("smile", "pout", 'odd, "label"\r\n'))

# NumPy's text cannot end in a null character, and no file name holds one. Names that are no UTF-8 have their own test.
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def _whole(dtype: type[np.generic], most: int, *, least: int = -1) -> tuple[type[np.generic], Any]:
    return dtype, st.integers(least, most)


_ELEMENTS: dict[str, tuple[type[np.generic], Any, tuple[int, ...]]] = {
    "frame": (*_whole(np.int64, 2**63 - 1, least=0), ()),
    "time": (np.float64, st.floats(), ()),
    "face": (*_whole(np.int32, 2**31 - 1), ()),
    "box": (np.float32, st.floats(width=32), (4,)),
    "points": (np.float32, st.floats(width=32), (5, 2)),
    "score": (np.float32, st.floats(width=32), ()),
    "eyes": (*_whole(np.int16, 2**15 - 1), ()),
    "carried": (np.bool_, st.booleans(), ()),
    "track": (*_whole(np.int64, 2**63 - 1), ()),
    "reason": (*_whole(np.uint16, 511, least=0), ()),
}


_SCORES = st.floats(0, 1, width=32) | st.just(np.nan)


@st.composite
def some_faces(draw: st.DrawFn, *, most: int = 4, labels: LabelSet | None = None) -> Faces:
    """A table of up to ``most`` rows with any values, NaN and infinite ones among them."""
    n = draw(st.integers(0, most))
    found = labels or draw(st.sampled_from([EIGHT, SEVEN, MOODS]))
    sources = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    columns: dict[str, Any] = {
        name: draw(arrays(dtype, (n, *shape), elements=elements))
        for name, (dtype, elements, shape) in _ELEMENTS.items()
    }
    columns["source"] = draw(arrays(np.int32, n, elements=st.integers(0, len(sources) - 1)))
    columns["expression"] = draw(arrays(np.float32, (n, len(found)), elements=_SCORES))
    return Faces.build(n, sources=sources, labels=found, **columns)


def portrait(label: str = "happy", *, source: str = "a.jpg", frame: int = 0, face: int = 0, **columns: Any) -> Faces:
    """One read face."""
    scores = np.full(8, 0.01, np.float32)
    scores[EIGHT.index(label)] = 0.91
    scores[EIGHT.index("neutral" if label != "neutral" else "sad")] = 0.03
    given = {"box": [10, 20, 50, 70], "score": 0.99, "expression": scores[None], **columns}
    return Faces.build(1, sources=(source,), frame=frame, face=face, **given)
