"""What was found as text for other programs: subtitles (SRT), a cut list (EDL), and a list of spans."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import OptionError
from ..results.files import replacing
from .spans import Spans

__all__ = ["Event", "Rate", "edl", "list_of", "said", "srt", "write_text"]

_STANDARD = (
    (Fraction(24000, 1001), 24, 0),
    (Fraction(24), 24, 0),
    (Fraction(25), 25, 0),
    (Fraction(30000, 1001), 30, 2),
    (Fraction(30), 30, 0),
    (Fraction(48000, 1001), 48, 0),
    (Fraction(48), 48, 0),
    (Fraction(50), 50, 0),
    (Fraction(60000, 1001), 60, 4),
    (Fraction(60), 60, 0),
)
"""Frames a second, frames that a second of the timecode has, and timecodes dropped a minute."""
_ALIKE = 4e-4
"""A rate that differs by less, as a share, is a standard one; 24 and 23.976 differ by 0.001."""
_REEL = 8


def said(track: int, label: str, score: float) -> str:
    """Return what is said of a span: ``track 3: happy 0.87``, without what is not known."""
    words = " ".join(w for w in (label, f"{score:.2f}" if np.isfinite(score) else "") if w) or "face"
    return f"track {track}: {words}" if track >= 0 else words


def srt(spans: Spans) -> str:
    """Return spans as SubRip subtitles, in the order of their start: ``track 3: happy 0.87``.

    Times are those of the film's own clock, as players show them. A span without times, or that begins before 0, is cut
    to what can be written; each is at least a millisecond long.

    Returns
    -------
    str
        UTF-8 text with line feeds; empty where there is no span.
    """
    cues = []
    for row in spans.records():
        if row["start"] is None or row["end"] is None:
            continue
        start = max(0, round(row["start"] * 1000))
        end = max(start + 1, round(row["end"] * 1000))
        text = said(-1 if row["track"] is None else row["track"], row["label"] or "", row["score"] or float("nan"))
        cues.append((start, end, " ".join(text.split())))
    blocks = [f"{i}\n{_srt_time(a)} --> {_srt_time(b)}\n{text}\n" for i, (a, b, text) in enumerate(sorted(cues), 1)]
    return "\n".join(blocks)


def _srt_time(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02},{rest:03}"


@dataclass(frozen=True, slots=True)
class Rate:
    """How a film counts its frames in timecode.

    Attributes
    ----------
    exact
        Frames a second.
    nominal
        Frames that a second of the timecode has.
    dropped
        Timecodes that are left out at the beginning of each minute but the tenth, so that the timecode keeps up with
        the clock (SMPTE 12M): 2 at 29.97 frames a second, 4 at 59.94, else 0.
    """

    exact: Fraction
    nominal: int
    dropped: int

    @classmethod
    def of(cls, fps: float) -> Rate:
        """Return the standard rate that is next to a measured one, or else that rate itself.

        Raises
        ------
        OptionError
            If it is not above 0.
        """
        if not 0 < fps < 1000:
            msg = f"a film of {fps:g} frames a second has no timecode; give a rate above 0"
            raise OptionError(msg)
        exact, nominal, dropped = min(_STANDARD, key=lambda s: abs(float(s[0]) - fps))
        if abs(float(exact) / fps - 1) < _ALIKE:
            return cls(exact, nominal, dropped)
        return cls(Fraction(fps).limit_denominator(1001), max(1, round(fps)), 0)

    def frame(self, seconds: float) -> int:
        """Return the number of the frame that begins next to a time."""
        return round(seconds * self.exact)

    def timecode(self, frame: int) -> str:
        """Return the timecode of a frame, ``hh:mm:ss:ff``, with ``;`` before the frames where codes are dropped.

        >>> Rate.of(29.97).timecode(1799), Rate.of(29.97).timecode(1800), Rate.of(25).timecode(1800)
        ('00:00:59;29', '00:01:00;02', '00:01:12:00')
        """
        if self.dropped:
            minute = 60 * self.nominal - self.dropped
            tens, rest = divmod(frame, 10 * minute + self.dropped)
            frame += self.dropped * (9 * tens + max(0, (rest - self.dropped) // minute))
        seconds, frames = divmod(frame, self.nominal)
        mark = ";" if self.dropped else ":"
        return f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{frames:02}"

    def number(self, hours: int) -> int:
        """Return the frame whose timecode is so many full hours."""
        return hours * (3600 * self.nominal - 54 * self.dropped)


@dataclass(frozen=True, slots=True)
class Event:
    """One cut of a cut list: begin and end in the film, seconds since its first frame, and a remark."""

    start: float
    end: float
    remark: str = ""


def edl(events: Sequence[Event], *, title: str, name: str, fps: float, sound: bool = False) -> str:
    """Return a cut list in the CMX 3600 form, which editing programs read.

    Parameters
    ----------
    events
        The cuts, one after the other on the timeline, which begins at one hour.
    title
        Name of the list.
    name
        File name of the film, in a remark of each cut; its first eight letters and digits are the reel.
    fps
        Frames a second of the film; 29.97 and 59.94 count in drop-frame timecode. The film's first frame is 0.
    sound
        Cut its sound as well.

    Returns
    -------
    str
        ASCII text with line feeds.

    Raises
    ------
    OptionError
        If the rate is not above 0.
    """
    rate = Rate.of(fps)
    reel = "".join(c for c in _plain(Path(name).stem).upper() if c.isalnum())[:_REEL] or "AX"
    channel = "B" if sound else "V"
    lines = [f"TITLE: {_plain(title)[:70]}", f"FCM: {'DROP FRAME' if rate.dropped else 'NON-DROP FRAME'}", ""]
    at = rate.number(1)
    for number, event in enumerate(events, 1):
        first = max(0, rate.frame(event.start))
        last = max(first + 1, rate.frame(event.end))
        codes = " ".join(rate.timecode(f) for f in (first, last, at, at + last - first))
        lines += [f"{number:03}  {reel:<8} {channel:<5} C        {codes}", f"* FROM CLIP NAME: {_plain(name)}"]
        if event.remark:
            lines.append(f"* COMMENT: {_plain(event.remark)}")
        lines.append("")
        at += last - first
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return a text as one line of ASCII."""
    return "".join(c if " " <= c <= "~" else "_" for c in " ".join(text.split()))


def list_of(spans: Spans, ending: str, *, film: str, query: str) -> str:
    """Return spans as text: ``.csv`` with one row a span, or ``.json``, one document with film, query and spans.

    Raises
    ------
    OptionError
        If the ending is another.
    """
    records = spans.records()
    if ending == ".json":
        document: dict[str, Any] = {"film": film, "query": query, "spans": records}
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if ending != ".csv":
        msg = f"a list of spans is written as .csv or .json, not {ending or 'without an ending'!r}"
        raise OptionError(msg)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(Spans.names())
    writer.writerows(["" if v is None else v for v in row.values()] for row in records)
    return out.getvalue()


def write_text(path: Path, text: str) -> None:
    """Write a text as UTF-8; an existing file is replaced when the new one is whole.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "replace"))
