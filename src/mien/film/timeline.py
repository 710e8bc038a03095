"""Expressions over time, a lane for each track, as one page that shows the frame of any moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, OutputError, SourceError
from ..render.palette import colours
from ..results.columns import Reason
from ..results.files import replacing
from ..track.smooth import Smoothing
from .index import Index
from .report_when import clock, plain
from .spans import Spans
from .tables import Frames, Tracks
from .timeline_curves import TICKS, Curves, Rows, curves, overview, rows_of
from .timeline_pictures import Taken, chosen, take
from .timeline_rows import Moments, moments

__all__ = ["FACES", "PICTURES", "Timeline", "timeline"]

PICTURES = 300
"""Stills in a page, unless told otherwise."""

FACES = 2000
"""Tracks that have a picture of the face; of more, the longest."""

_MOST = 2000
_BINS, _FRAMES_OF_A_BIN = 1200, 4


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """What a timeline's page was made from.

    Attributes
    ----------
    document
        What is inside the page as JSON: ``film``, ``labels``, ``colours``, ``reasons``, ``shots``, ``tracks``,
        ``curves`` (`Curves.packed`), ``overview``, ``stills``, ``spans`` and ``notes``.
    path
        Where the page is.
    bytes
        How large it is.
    """

    document: dict[str, Any]
    path: Path
    bytes: int


def timeline(
    index: Index,
    out: str | os.PathLike[str],
    *,
    smooth: Smoothing | None = None,
    query: str = "",
    pictures: int = PICTURES,
    film: str | os.PathLike[str] | None = None,
    link: bool = True,
    tell: Callable[[int, int], None] | None = None,
) -> Timeline:
    """Write the expressions of a film over time as one HTML page that needs nothing else.

    The page holds at most 6 MB of curves, ``pictures`` stills of about 15 KB and `FACES` faces of about 2 KB, and a
    third more of each for being text. Where the film is longer than that, points of the curves are means over several
    rows, with the lowest and the highest score of each label.

    Parameters
    ----------
    index
        The film's index.
    out
        The page, ``.html``.
    smooth
        How scores are made steady; default: not at all.
    query
        What it finds is marked; see `film.query`.
    pictures
        Stills at most; 0: none, nor faces, and the film is not read.
    film
        Where the film is, if not where it was when it was indexed.
    link
        Let the page play the film's own file where it can reach it: the page then holds the way from its folder to the
        film.
    tell
        Is told how many frames of the film are read, and of how many.

    Returns
    -------
    Timeline
        Where ``film`` is not given and the film is not there, or has changed, the page has no pictures and says so.

    Raises
    ------
    OptionError
        If an option cannot be.
    SourceError
        If ``film`` is not there, is not the film of the index, or cannot be read.
    OutputError
        If the page cannot be written.
    """
    from .timeline_page import page

    target = Path(out)
    _check(target, pictures)
    frames = index.frames()
    when = moments(frames)
    rows = rows_of(index, frames, when, smooth or Smoothing())
    spans = _spans(index, query, smooth)
    place = _film(index, film)
    made = curves(rows)
    taken = Taken()
    if place is not None and pictures:
        taken = _pictures(index, place, frames, rows, spans, pictures, tell)
    document = _document(index, frames, when, rows, made, spans, taken)
    document["query"] = query
    document["smooth"] = str(smooth or Smoothing())
    if place is not None and link:
        document["film"]["src"] = _way(place, target)
    document["notes"] = _notes(index, made, taken, pictures, missing=place is None)
    text = page(document)
    with replacing(target) as temporary:
        temporary.write_text(text, "utf-8")
    return Timeline(document, target, target.stat().st_size)


def _check(target: Path, pictures: int) -> None:
    if target.suffix.lower() not in {".html", ".htm"}:
        msg = f"{target}: a timeline is a page; give a name that ends in .html"
        raise OptionError(msg)
    if not target.absolute().parent.is_dir():  # said now, not after the film was read
        msg = f"{target}: cannot be written: its folder does not exist; make the folder first"
        raise OutputError(msg)
    if not 0 <= pictures <= _MOST:
        msg = f"pictures is {pictures}; choose 0 to {_MOST}"
        raise OptionError(msg)


def _film(index: Index, film: str | os.PathLike[str] | None) -> Path | None:
    try:
        return index.film(film)
    except SourceError:
        if film is not None:
            raise
        return None


def _spans(index: Index, query: str, smooth: Smoothing | None) -> Spans | None:
    if not query:
        return None
    from .query import find

    return find(index, query, smooth=smooth).spans


def _way(film: Path, page: Path) -> str:
    """Return the address of the film as the page sees it."""
    try:
        way = os.path.relpath(film.resolve(), page.resolve().parent)
    except ValueError:  # another drive
        return film.resolve().as_uri()
    return quote(os.fsencode(Path(way).as_posix()))


def _pictures(
    index: Index,
    film: Path,
    frames: Frames,
    rows: Rows,
    spans: Spans | None,
    limit: int,
    tell: Callable[[int, int], None] | None,
) -> Taken:
    tracks = index.tracks()
    longest = np.argsort(tracks.start - tracks.end, kind="stable")
    longest = longest[tracks.best_frame[longest] >= 0]
    readable = frames.frame[frames.reason != "unreadable"]
    first = np.unique(frames.shot, return_index=True)[1]
    peaks = _peaks(index, frames, rows, spans)
    kept = chosen(tracks.best_frame[longest].tolist(), peaks, frames.frame[first].tolist(), readable, limit)
    faces: dict[int, list[tuple[int, NDArray[np.float32]]]] = {}
    where = _boxes_at(rows, frames)
    for row in longest[:FACES].tolist():
        track, frame = int(tracks.track[row]), int(tracks.best_frame[row])
        box = where(track, frame)
        if box is not None:
            faces.setdefault(frame, []).append((track, box))
    return take(film, frames, kept, faces, tell=tell)


def _boxes_at(rows: Rows, frames: Frames) -> Callable[[int, int], NDArray[np.float32] | None]:
    number = frames.frame[rows.place]

    def box(track: int, frame: int) -> NDArray[np.float32] | None:
        low, high = np.searchsorted(rows.track, [track, track + 1])
        at = low + int(np.searchsorted(number[low:high], frame))
        return rows.box[at] if at < high and number[at] == frame else None

    return box


def _peaks(index: Index, frames: Frames, rows: Rows, spans: Spans | None) -> list[int]:
    """Return the frames in which what was asked for, or each track's own top label, is highest; the clearest first."""
    number = frames.frame[rows.place]
    if spans is None:
        ranges = [(int(t), -1, np.inf) for t in np.unique(rows.track)]
        wanted = [""] * len(ranges)
    else:
        ranges = [
            (int(t), int(a), float(b)) for t, a, b in zip(spans.track, spans.first_frame, spans.last_frame, strict=True)
        ]
        wanted = spans.label.tolist()
    best = np.nan_to_num(rows.scores, nan=-1.0)
    found: list[tuple[float, int]] = []
    for (track, begin, end), label in zip(ranges, wanted, strict=True):
        low, high = np.searchsorted(rows.track, [track, track + 1])
        a = low + int(np.searchsorted(number[low:high], begin))
        b = low + int(np.searchsorted(number[low:high], end, side="right"))
        if a < b:
            column = best[a:b, index.labels.index(label)] if label else best[a:b].max(1)
            at = int(np.argmax(column))
            found.append((-float(column[at]), int(number[a + at])))
    return [frame for _, frame in sorted(found)]


def _document(
    index: Index, frames: Frames, when: Moments, rows: Rows, made: Curves, spans: Spans | None, taken: Taken
) -> dict[str, Any]:
    said = index.manifest["film"]
    begin = float(when.start.min()) if len(frames) else 0.0
    end = float(when.end.max()) if len(frames) else 0.0

    def ticks(seconds: float) -> int:
        return round((seconds - begin) * TICKS)

    first = np.unique(frames.shot, return_index=True)[1]
    width, height = float(said["width"]), float(said["height"])
    return {
        "film": {"name": plain(index.name), "width": width, "height": height, "origin": begin, "length": ticks(end)},
        "step": frames.step,
        "labels": list(index.labels),
        "colours": [list(c) for c in colours(index.labels.labels).values()],
        "reasons": {int(r): r.words.replace("_", " ") for r in Reason},
        "shots": [ticks(t) for t in when.start[first].tolist()],
        "tracks": _tracks(index.tracks(), made, taken, ticks),
        "curves": made.packed(begin, width, height),
        "overview": overview(rows, begin, end, bins=max(1, min(_BINS, len(frames) // _FRAMES_OF_A_BIN))),
        "stills": _stills(frames, when, rows, taken, ticks, (width, height)),
        "spans": _marked(spans, ticks),
    }


def _tracks(tracks: Tracks, made: Curves, taken: Taken, ticks: Callable[[float], int]) -> list[dict[str, Any]]:
    at = {int(t): (int(f), int(c)) for t, f, c in zip(made.track, made.first, made.count, strict=True)}
    out = []
    for row in np.argsort(tracks.start, kind="stable").tolist():
        track = int(tracks.track[row])
        if track not in at:
            continue
        first, count = at[track]
        out.append(
            {
                "id": track,
                "shot": int(tracks.shot[row]),
                "start": ticks(float(made.start[first])),
                "end": ticks(float(made.end[first + count - 1])),
                "rows": int(tracks.rows[row]),
                "read": int(tracks.read[row]),
                "top": str(tracks.top[row]),
                "mean": [None if np.isnan(v) else round(v, 4) for v in tracks.mean[row].tolist()],
                "best": ticks(float(tracks.best_time[row])) if np.isfinite(tracks.best_time[row]) else None,
                "first": first,
                "count": count,
                "face": taken.faces.get(track, ""),
            }
        )
    return out


def _stills(
    frames: Frames, when: Moments, rows: Rows, taken: Taken, ticks: Callable[[float], int], size: tuple[float, float]
) -> list[dict[str, Any]]:
    order = np.argsort(rows.place, kind="stable")
    place = rows.place[order]
    out = []
    for frame, data in sorted(taken.stills.items()):
        at = int(np.searchsorted(frames.frame, frame))
        low, high = np.searchsorted(place, [at, at + 1])
        faces = [_face(rows, row, size) for row in order[low:high].tolist()]
        out.append({"time": ticks(float(when.start[at])), "frame": frame, "faces": faces, "data": data})
    return out


def _face(rows: Rows, row: int, size: tuple[float, float]) -> dict[str, Any]:
    share = np.nan_to_num(rows.box[row] / np.array(size * 2))
    scores = rows.scores[row].tolist()
    return {
        "track": int(rows.track[row]),
        "box": [round(float(v), 4) for v in share],
        "scores": None if np.isnan(scores).any() else [round(v, 4) for v in scores],
        "flags": int(rows.reason[row]),
    }


def _marked(spans: Spans | None, ticks: Callable[[float], int]) -> list[list[Any]]:
    if spans is None:
        return []
    columns = (spans.track, spans.start, spans.end, spans.label, spans.score)
    return [
        [int(t), ticks(float(a)), ticks(float(b)), str(name), None if np.isnan(s) else round(float(s), 4)]
        for t, a, b, name, s in zip(*columns, strict=True)
    ]


def _notes(index: Index, made: Curves, taken: Taken, pictures: int, *, missing: bool) -> list[str]:
    notes = []
    if missing:
        notes.append("No pictures: when this page was made, the film was not where the index says, or had changed.")
    elif not pictures:
        notes.append("No pictures: none were asked for.")
    if taken.lost:
        notes.append(f"{len(taken.lost)} of the chosen frames could not be decoded.")
    if len(taken.faces) == FACES:
        notes.append(f"The {FACES:,} longest tracks have a picture of the face.")
    if made.merged > 1:
        notes.append(f"A point of a curve holds up to {made.merged} frames: their mean, with the lowest and highest.")
    if not len(made.track):
        notes.append(f"No face was followed in {clock(float(index.manifest['film']['duration'] or 0))}.")
    return notes
