"""What schemathesis sends as files: pictures and films that can be read, the same damaged, and any bytes."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import schemathesis
from films import make_film
from hypothesis import strategies as st
from serving import face, plain


@cache
def whole() -> tuple[bytes, ...]:
    """Files that can be read."""
    from fakes import scene

    with tempfile.TemporaryDirectory() as folder:
        film = make_film(Path(folder) / "film.mp4", [scene(40), scene(44)]).read_bytes()
    return face(), face(ending=".jpg"), plain(width=40, height=30), film


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """One of these files, cut off or with bytes that are others."""
    file = bytearray(draw(st.sampled_from(whole())))
    for _ in range(draw(st.integers(0, 8))):
        file[draw(st.integers(0, len(file) - 1))] = draw(st.integers(0, 255))
    return bytes(file[: draw(st.integers(1, len(file)))])


schemathesis.openapi.format("binary", st.one_of(st.sampled_from(whole()), damaged(), st.binary(max_size=2000)))
