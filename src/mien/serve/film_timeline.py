"""What a page draws of a film: its longest tracks, when each showed which expression, as one JSON document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..film.index import Index
from ..film.tables import TRACK_COLUMNS, Frames, Tracks
from ..film.timeline_curves import READ, Curves, Rows, curves
from ..film.timeline_pictures import take
from ..film.timeline_rows import Moments, batches, moments
from ..render.palette import colours
from ..results.columns import Reason

__all__ = ["POINTS", "TRACKS", "film_timeline"]

TRACKS = 50
"""Tracks in a document; of more, the longest."""

POINTS = 600
"""Points of a track at most; each is then the mean of several frames."""

_TOUCHING = 1.5
"""Frames by which two points may lie apart and still be one run."""


def film_timeline(index: Index, film: Path) -> dict[str, Any]:
    """Return the document; memory grows with the length of the longest tracks, not with the number of faces.

    Returns
    -------
    dict
        ``seconds``, ``width`` and ``height`` of the film, ``labels``, ``colours`` (``#rrggbb`` of each label), ``cuts``
        (seconds) and ``tracks``, longest first: ``id``, ``first`` and ``last`` (seconds), ``rows``, ``label`` (the
        highest mean score; None where nothing was read), ``face`` (JPEG as a data address, or None), ``time`` and
        ``scores`` of at most `POINTS` points that were read, and ``runs`` of points with one label on top.
    """
    frames = index.frames()
    when = moments(frames)
    tracks = _longest(index.tracks())
    rows = _rows(index, frames, when, tracks)
    made = curves(rows, lane=POINTS)
    faces = _faces(tracks, rows, frames, film)
    said = index.manifest["film"]
    first = np.unique(frames.shot, return_index=True)[1][1:]
    return {
        "seconds": round(float(when.end.max() - when.start.min()), 6) if len(frames) else 0.0,
        "width": int(said["width"]),
        "height": int(said["height"]),
        "labels": list(index.labels),
        "colours": ["#{:02x}{:02x}{:02x}".format(*c) for c in colours(index.labels.labels).values()],
        "cuts": [round(t, 6) for t in when.start[first].tolist()],
        "tracks": [
            _track(index, tracks, row, made, faces, gap=_TOUCHING * frames.step) for row in range(len(tracks.track))
        ],
    }


def _longest(tracks: Tracks) -> Tracks:
    order = np.lexsort((tracks.start, -tracks.rows))[:TRACKS]
    held = {c.name: getattr(tracks, c.name)[order] for c in TRACK_COLUMNS}
    return Tracks(labels=tracks.labels, mean=tracks.mean[order], **held)


def _rows(index: Index, frames: Frames, when: Moments, tracks: Tracks) -> Rows:
    """Read the faces of some tracks, by track and time."""
    wanted = np.sort(tracks.track)
    names = ("track", "ordinal", "x1", "y1", "x2", "y2", "reason", "scores")
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for batch in batches(index, names):
        chosen = np.isin(batch["track"], wanted)
        for name in names:
            parts[name].append(batch[name][chosen])
    empty = {"scores": np.empty((0, len(index.labels)), np.float32)}
    held = {n: np.concatenate(p) if p else empty.get(n, np.empty(0, np.int64)) for n, p in parts.items()}
    order = np.lexsort((held["ordinal"], held["track"]))
    held = {name: values[order] for name, values in held.items()}
    place = np.searchsorted(frames.ordinal, held["ordinal"])
    box = np.stack([held[n] for n in ("x1", "y1", "x2", "y2")], 1).astype(np.float32)
    return Rows(
        track=held["track"].astype(np.int64),
        ordinal=held["ordinal"].astype(np.int64),
        place=place,
        box=box,
        reason=held["reason"].astype(np.uint16),
        scores=held["scores"].astype(np.float32),
        start=when.start[place],
        end=when.end[place],
    )


def _faces(tracks: Tracks, rows: Rows, frames: Frames, film: Path) -> dict[int, str]:
    """Return the best view of each track as base64 JPEG."""
    number = frames.frame[rows.place]
    wanted: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
    for track, frame in zip(tracks.track.tolist(), tracks.best_frame.tolist(), strict=True):
        low, high = np.searchsorted(rows.track, [track, track + 1])
        at = low + int(np.searchsorted(number[low:high], frame))
        if frame >= 0 and at < high and number[at] == frame:
            wanted.setdefault(frame, []).append((track, rows.box[at]))
    return take(film, frames, (), wanted).faces if wanted else {}


def _track(
    index: Index, tracks: Tracks, row: int, made: Curves, faces: dict[int, str], *, gap: float
) -> dict[str, Any]:
    track = int(tracks.track[row])
    at = int(np.searchsorted(made.track, track))
    points = slice(int(made.first[at]), int(made.first[at] + made.count[at]))
    read = (made.flags[points] & READ) > 0
    start, end, mean = made.start[points][read], made.end[points][read], made.mean[points][read]
    named = (made.flags[points][read] & int(Reason.LOW_SCORE)) == 0
    picture = faces.get(track)
    return {
        "id": track,
        "first": _seconds(made.start[points][0]),
        "last": _seconds(made.end[points][-1]),
        "rows": int(tracks.rows[row]),
        "label": str(tracks.top[row]) or None,
        "face": f"data:image/jpeg;base64,{picture}" if picture else None,
        "runs": _runs(start, end, mean, named, list(index.labels), gap),
        "time": [_seconds(t) for t in ((start + end) / 2).tolist()],
        "scores": [[round(float(s), 4) for s in scores] for scores in mean.tolist()],
    }


def _runs(
    start: NDArray[np.float64],
    end: NDArray[np.float64],
    mean: NDArray[np.float32],
    named: NDArray[np.bool_],
    labels: list[str],
    gap: float,
) -> list[dict[str, Any]]:
    """Return stretches of points in which one label is on top, and its mean score by time."""
    top = np.where(named, mean.argmax(1), -1) if len(mean) else np.empty(0, np.int64)
    new = np.append(True, (np.diff(top) != 0) | (start[1:] - end[:-1] > gap)) if len(top) else np.empty(0, np.bool_)
    begins = np.flatnonzero(new)
    out = []
    for low, high in zip(begins, np.append(begins, len(top))[1:], strict=True):
        if top[low] < 0:
            continue
        length = end[low:high] - start[low:high]
        score = float(np.average(mean[low:high, top[low]], weights=length))
        run = {"start": _seconds(start[low]), "end": _seconds(end[high - 1])}
        out.append(run | {"label": labels[top[low]], "score": round(score, 4)})
    return out


def _seconds(value: float | np.floating[Any]) -> float:
    return round(float(value), 6)
