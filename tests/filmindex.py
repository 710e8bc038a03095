"""Film indexes made by hand: every row known, no model run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mien.film.index import (
    FACES,
    FORMAT,
    FRAMES,
    TRACKS,
    Index,
    face_table,
    fingerprint,
    frame_table,
    track_table,
    write_manifest,
)
from mien.film.tables import FACE_COLUMNS, Frames, Tracks
from mien.labels import EIGHT, LabelSet
from mien.media.video import Film
from mien.models.align import yaw
from mien.results.columns import Reason
from mien.results.faces import Faces

FPS = 25.0


def scores_of(tops: list[str], best: float = 0.9, labels: LabelSet = EIGHT) -> NDArray[np.float32]:
    """Scores (N, K): ``best`` for the label named, the rest shared evenly."""
    rest = (1 - best) / (len(labels) - 1)
    out = np.full((len(tops), len(labels)), rest, np.float32)
    for row, name in enumerate(tops):
        out[row, labels.index(name)] = best
    return out


def write_index(
    folder: Path,
    faces: Faces,
    *,
    frames: Frames | None = None,
    details: Mapping[str, NDArray[Any]] | None = None,
    film: Path | None = None,
    group: int = 4096,
) -> Index:
    """Write an index of these rows, in the order of showing; what is not given follows from them.

    ``film`` is a real film for clips and crops; without one, the manifest names ``movie.mp4``, which is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = faces.found
    if frames is None:
        numbers, first, ordinal = np.unique(faces.frame, return_index=True, return_inverse=True)
        count = np.bincount(ordinal, weights=found, minlength=len(numbers))
        frames = Frames.build(
            len(numbers),
            ordinal=np.arange(len(numbers)),
            frame=numbers,
            time=faces.time[first],
            change=0,
            faces=count,
            detected=True,
            reason=np.where(count == 0, "no_face", ""),
        )
    at = np.searchsorted(frames.frame, faces.frame)
    sides = np.sqrt(np.maximum(faces.box[:, 2] - faces.box[:, 0], 0) * (faces.box[:, 3] - faces.box[:, 1]))
    values: dict[str, Any] = {
        "ordinal": frames.ordinal[at],
        "shot": frames.shot[at],
        "faces": frames.faces[at],
        "side": sides.astype(np.float32),
        "yaw": yaw(faces.points),
        "sharpness": np.where(found, 0.5, np.nan).astype(np.float32),
        "brightness": np.where(found, 120, np.nan).astype(np.float32),
    } | dict(details or {})
    values = {c.name: np.asarray(values[c.name], c.dtype) for c in FACE_COLUMNS}
    pq.write_table(face_table(faces, values), folder / FACES, row_group_size=group)
    pq.write_table(frame_table(frames), folder / FRAMES)
    pq.write_table(track_table(tracks_of(faces, values)), folder / TRACKS)
    place = film or folder.parent / "movie.mp4"
    write_manifest(
        folder,
        {
            "format": FORMAT,
            "film": {
                "name": place.name,
                "place": str(place.resolve()),
                "bytes": place.stat().st_size if film else 0,
                "sha256": "",
                "fingerprint": fingerprint(place) if film else "",
                "width": 640,
                "height": 360,
                "fps": FPS,
                "duration": float(frames.ends[-1]) if len(frames) else 0.0,
                "sound_tracks": _sound_tracks(film),
            },
            "labels": {"name": faces.labels.name, "labels": list(faces.labels)},
            "settings": {"every": 1},
            "models": {},
            "versions": {},
            "counts": {"frames": len(frames), "faces": int(found.sum())},
        },
    )
    return Index.open(folder)


def _sound_tracks(film: Path | None) -> int:
    if film is None:
        return 0
    with Film(film) as opened:
        return int(opened.facts()["sound_tracks"])


def tracks_of(faces: Faces, details: Mapping[str, NDArray[Any]]) -> Tracks:
    """The track table that belongs to some rows, by a plain loop."""
    ids = [t for t in dict.fromkeys(faces.track.tolist()) if t >= 0]
    rows: list[dict[str, Any]] = []
    for track in ids:
        at = np.flatnonzero(faces.track == track)
        read = at[faces.read[at]]
        mean = faces.expression[read].mean(0) if len(read) else np.full(len(faces.labels), np.nan, np.float32)
        best = read[np.argmax(details["side"][read])] if len(read) else at[0]
        rows.append(
            {
                "track": track,
                "shot": details["shot"][at[0]],
                "first_frame": faces.frame[at[0]],
                "last_frame": faces.frame[at[-1]],
                "start": faces.time[at[0]],
                "end": faces.time[at[-1]],
                "rows": len(at),
                "detected": int((~faces.carried[at]).sum()),
                "read": len(read),
                "side": details["side"][at].mean(),
                "best_frame": faces.frame[best],
                "best_time": faces.time[best],
                "top": faces.labels.labels[int(mean.argmax())] if len(read) else "",
                "mean": mean,
            }
        )
    columns = {key: np.array([r[key] for r in rows]) for key in rows[0]} if rows else {}
    return Tracks.build(len(ids), labels=faces.labels, **columns)


def one_track(
    tops: list[str],
    *,
    track: int = 0,
    first: int = 0,
    best: float = 0.9,
    at: tuple[float, float] = (100, 80),
    side: float = 60,
    fps: float = FPS,
) -> Faces:
    """One face on consecutive frames, one label a frame; "" is a face that was not read, "-" a frame without it."""
    kept = [i for i, t in enumerate(tops) if t != "-"]
    n = len(kept)
    box = np.array([at[0], at[1], at[0] + side, at[1] + side], np.float32)
    shares = np.array([(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)], np.float32)
    named = [tops[i] or "neutral" for i in kept]
    scores = scores_of(named, best)
    blank = np.array([tops[i] == "" for i in kept], np.bool_)
    scores[blank] = np.nan
    return Faces.build(
        n,
        sources=("movie.mp4",),
        frame=first + np.array(kept, np.int64),
        time=(first + np.array(kept)) / fps,
        face=0,
        box=box,
        points=box[:2] + shares * side,
        score=0.99,
        track=track,
        reason=np.where(blank, int(Reason.BLURRED), 0),
        expression=scores,
    )


def in_order(parts: list[Faces]) -> Faces:
    """Join the rows of several tracks in the order of showing."""
    faces = Faces.concat(parts)
    return faces[np.lexsort((faces.track, faces.frame))]
