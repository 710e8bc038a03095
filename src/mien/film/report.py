"""What a film's faces showed, per film, shot, minute, hour or day: sums over faces, and nobody in particular.

Nothing here names a track, a person or a place in a picture. Every row of the index counts for as long as its frame was
shown, so that neither a varying frame rate nor ``--every`` shifts a share.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, OptionError
from ..labels import LabelSet
from ..results.columns import Reason
from ..results.files import replacing
from .index import Index
from .report_spread import Spread, spread
from .report_sums import REASONS, Sums, add
from .report_when import BY, Periods, periods, plain

__all__ = ["BY", "ENDINGS", "NONE_NAMED", "Period", "Report", "Share", "document", "report", "write"]

NONE_NAMED = "none named"
"""The name of the share of faces that were read and whose best score was too low for a label."""

ENDINGS = (".html", ".csv", ".json")
"""The files that `write` writes."""

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Share:
    """A number with its 95 % interval; NaN where there is none."""

    value: float
    low: float = _NAN
    high: float = _NAN


@dataclass(frozen=True, slots=True)
class Period:
    """What the faces of one period showed.

    Attributes
    ----------
    film
        The name of the film's file; empty where a period holds several films.
    name
        ``"whole film"``, ``"shot 3"``, ``"0:01:00"`` or ``"2024-05-01"``.
    start, end
        Seconds in the film; NaN for a day.
    seconds, unreadable
        Seconds shown; of these, seconds of frames that could not be decoded.
    withheld
        What is kept back: empty, ``"expressions: fewer than 5 faces read"`` or ``"fewer than 5 faces"``. What is kept
        back is NaN, -1 or empty.
    tracks, tracks_read
        Separate tracks with a face in the period, and with a face that was read. A person who comes back is another
        track: these are not numbers of persons.
    with_face, with_read
        Seconds with at least one face, and with at least one that was read.
    faces
        Mean number of faces over the seconds shown.
    face_seconds, read_seconds
        Seconds summed over faces, and over faces that were read: two faces for 3 s are 6 face-seconds.
    unread
        Share of the face-seconds in which the face was not read.
    reasons
        For each reason, the share of the face-seconds that it kept from being read; a face may have several.
    by_face
        Share of the read face-seconds in which each label was named, and `NONE_NAMED`; every face-second counts alike.
    by_time
        The share of the read faces in view that show each label, averaged over the seconds with a read face: every
        second counts alike, however many faces are in view.
    scores
        Mean score of each label over the read face-seconds.
    change
        `by_face` less that of the period before in the same film, or of the film or day before.
    """

    film: str
    name: str
    start: float
    end: float
    seconds: float
    unreadable: float
    withheld: str
    tracks: int
    tracks_read: int
    with_face: float
    with_read: float
    faces: float
    face_seconds: float
    read_seconds: float
    unread: float
    reasons: dict[str, float]
    by_face: dict[str, Share]
    by_time: dict[str, Share]
    scores: dict[str, Share]
    change: dict[str, Share]


@dataclass(frozen=True, slots=True)
class Report:
    """Periods in order, and what was asked.

    Attributes
    ----------
    by, least, query
        As given to `report`.
    films
        Names of the films' files.
    labels
        The label set.
    periods
        One a film, shot, minute, hour or day.
    """

    by: str
    least: int
    query: str
    films: tuple[str, ...]
    labels: LabelSet
    periods: tuple[Period, ...]


def report(
    indexes: Sequence[Index],
    *,
    by: str = "film",
    least: int = 1,
    query: str = "",
    dates: Sequence[str] = (),
    seed: int = 0,
    tell: Callable[[int, int], None] | None = None,
) -> Report:
    """Sum up what the faces of one or more films showed, without identities.

    Parameters
    ----------
    indexes
        The films, of one label set.
    by
        One of `BY`.
    least
        Numbers about fewer separate faces (tracks) than this are withheld.
    query
        Count only the faces that this query finds; see `film.query`.
    dates
        When the films were recorded, as ``YYYY-MM-DD`` or with a time of day: one for all, or one for each. Without,
        their containers say so. Only ``by="day"`` asks.
    seed
        Of the resamples.
    tell
        Is told how many rows are done, and of how many.

    Returns
    -------
    Report
        Intervals are percentiles of 1,000 resamples of the tracks, each with a Poisson(1) weight (Hanley and
        MacGibbon 2006); a share of 0 or 1 has Wilson's interval for that many tracks. Fewer than five tracks have none.

    Raises
    ------
    OptionError
        If an option cannot be, or no date is known.
    DataError
        If the label sets differ, or a table cannot be read.
    """
    if not indexes or least < 1:
        msg = f"a report needs an index or more, and least ≥ 1; got {len(indexes)} and {least}"
        raise OptionError(msg)
    labels = indexes[0].labels
    if other := next((i for i in indexes if i.labels.labels != labels.labels), None):
        msg = f"{other.path}: its labels are {', '.join(other.labels)}, those of {indexes[0].path} {', '.join(labels)}"
        raise DataError(msg)
    cut = periods(indexes, by, dates)
    rows = [_asked(index, query) for index in indexes]
    totals = [len(index) for index in indexes]
    sums = Sums.empty(len(cut.names), len(labels))
    for number, index in enumerate(indexes):

        def said(done: int, before: int = sum(totals[:number])) -> None:
            if tell:
                tell(before + done, sum(totals))

        add(sums, index, cut, number, rows=rows[number], tell=said)
    found = _periods(cut, sums.finished(), labels, least, seed)
    return Report(by, least, query, tuple(plain(i.name) for i in indexes), labels, found)


def _asked(index: Index, query: str) -> NDArray[np.int64] | None:
    if not query:
        return None
    from .query import find

    return np.asarray(find(index, query).rows, np.int64)


def _periods(cut: Periods, sums: Sums, labels: LabelSet, least: int, seed: int) -> tuple[Period, ...]:
    out: list[Period] = []
    before: Spread | None = None
    for number in range(len(cut.names)):
        cells = sums.of(number)
        told = cells.read_seconds > 0 and (least == 1 or cells.tracks_read >= least)
        held = spread(cells, len(labels), seed=seed) if told else None
        follows = number > 0 and (cut.by in {"film", "day"} or cut.film[number - 1] == cut.film[number])
        out.append(_period(cut, sums, number, labels, least, held, before if follows else None))
        before = held
    return tuple(out)


def _period(
    cut: Periods, sums: Sums, number: int, labels: LabelSet, least: int, held: Spread | None, before: Spread | None
) -> Period:
    cells, film, named = sums.of(number), cut.film[number], (*labels, NONE_NAMED)
    faces, silent = cells.face_seconds, least > 1 and cells.face_seconds > 0 and cells.tracks < least
    withheld = f"fewer than {least} faces" if silent else ""
    if not silent and held is None and cells.read_seconds:
        withheld = f"expressions: fewer than {least} faces read"
    return Period(
        film=plain(cut.films[film]) if film >= 0 else "",
        name=cut.names[number],
        start=float(cut.start[number]),
        end=float(cut.end[number]),
        seconds=float(cut.seconds[number]),
        unreadable=float(cut.unreadable[number]),
        withheld=withheld,
        tracks=-1 if silent else cells.tracks,
        tracks_read=-1 if withheld else cells.tracks_read,
        with_face=_NAN if silent else float(sums.with_face[number]),
        with_read=_NAN if withheld else float(sums.with_read[number]),
        faces=_NAN if silent else faces / float(cut.seconds[number]),
        face_seconds=_NAN if silent else faces,
        read_seconds=_NAN if withheld else cells.read_seconds,
        unread=_NAN if withheld or not faces else 1 - cells.read_seconds / faces,
        reasons=_reasons(cells.sums[:, -len(REASONS) :].sum(0), faces) if faces and not withheld else {},
        by_face=_shares(held.by_face, named) if held else {},
        by_time=_shares(held.by_time, named) if held else {},
        scores=_shares(held.scores, tuple(labels)) if held else {},
        change=_shares(held.less(before), named) if held and before else {},
    )


def _shares(values: NDArray[np.float64], names: Sequence[str]) -> dict[str, Share]:
    return {name: Share(*map(float, row)) for name, row in zip(names, values, strict=True)}


def _reasons(seconds: NDArray[np.float64], faces: float) -> dict[str, float]:
    shares = {Reason(r).words: float(s) / faces for r, s in zip(REASONS, seconds, strict=True) if s > 0}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def document(found: Report) -> dict[str, Any]:
    """Return a report as plain values for JSON: a missing number is None, a share is ``[value, low, high]``."""
    return {
        "by": found.by,
        "films": list(found.films),
        "labels": list(found.labels),
        "least": found.least,
        "query": found.query,
        "periods": [_record(p) for p in found.periods],
    }


def _record(period: Period) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for name in Period.__dataclass_fields__:
        value = getattr(period, name)
        if name in {"tracks", "tracks_read"}:
            record[name] = None if value < 0 else value
        elif isinstance(value, float):
            record[name] = _number(value)
        elif isinstance(value, dict):
            record[name] = {key: _values(v) for key, v in value.items()}
        else:
            record[name] = value
    return record


def _values(value: Share | float) -> list[float | None] | float | None:
    return [_number(v) for v in (value.value, value.low, value.high)] if isinstance(value, Share) else _number(value)


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def as_csv(found: Report) -> str:
    """Return a report as CSV: one row a period; shares of each label in columns such as ``happy_by_face_low``."""
    shares = [(kind, name) for kind in ("by_face", "by_time", "scores", "change") for name in _named(found, kind)]
    plain = [n for n in Period.__dataclass_fields__ if n not in {"reasons", "by_face", "by_time", "scores", "change"}]
    reasons = [Reason(r).words for r in REASONS]
    held = io.StringIO()
    out = csv.writer(held, lineterminator="\n")
    heads = [f"{n.replace(' ', '_')}_{kind}{end}" for kind, n in shares for end in ("", "_low", "_high")]
    out.writerow([*plain, *(f"unread_{r}" for r in reasons), *heads])
    for record in document(found)["periods"]:
        told = record["by_face"] or not record["withheld"]
        why = [record["reasons"].get(r, 0.0 if told and record["face_seconds"] else None) for r in reasons]
        cells = [c for kind, name in shares for c in record[kind].get(name, [None] * 3)]
        out.writerow("" if c is None else c for c in [*(record[n] for n in plain), *why, *cells])
    return held.getvalue()


def _named(found: Report, kind: str) -> tuple[str, ...]:
    return tuple(found.labels) if kind == "scores" else (*found.labels, NONE_NAMED)


def write(found: Report, path: Path) -> None:
    """Write a report as one of `ENDINGS`; an existing file is replaced only when the new one is complete.

    Raises
    ------
    OptionError
        If the ending is none of these.
    OutputError
        If the file cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        msg = f"{path}: a report is written by its ending, one of: {', '.join(ENDINGS)}"
        raise OptionError(msg)
    if ending == ".html":
        from .report_page import page

        text = page(found)
    elif ending == ".csv":
        text = as_csv(found)
    else:
        text = json.dumps(document(found), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")
