"""Stretches of a film as films of their own, with their sound."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError
from ..image import resize
from ..media.video import Frame
from ..media.writer import FilmWriter
from .cover import frame_length
from .reading import Stretch
from .spans import Spans
from .subtitles import Event, said
from .tables import Frames

__all__ = ["Clips", "Cut", "cuts", "events", "safe"]

_INSTANT = 1e-6
"""Seconds: the sum of two time stamps is not exact."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{p}{i}" for p in ("com", "lpt") for i in range(1, 10))}


def safe(text: str) -> str:
    """Return a text as a part of a file name, on every system: letters, digits, ``-`` and ``_`` of it, 40 at most.

    >>> safe("../../etc/passwd"), safe("très heureux"), safe("con"), safe("")
    ('______etc_passwd', 'très_heureux', 'con_', 'unnamed')
    """
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in text)[:40]
    return f"{name}_" if name.lower() in _RESERVED else name or "unnamed"


@dataclass(frozen=True, slots=True)
class Cut:
    """A part of the film that becomes a clip.

    Attributes
    ----------
    start, end
        Seconds by the film's clock.
    stretch
        Frames that may lie in it.
    spans
        Numbers of the spans that it shows.
    """

    start: float
    end: float
    stretch: Stretch
    spans: tuple[int, ...]


def cuts(spans: Spans, frames: Frames, *, pad: float = 0.5, join: float = 0.0) -> list[Cut]:
    """Return what of a film becomes clips: one a span, a little longer, and one for spans that lie close together.

    Parameters
    ----------
    spans
        The spans, in the order of their start.
    frames
        The film's frame table.
    pad
        Seconds added before and behind, as far as the film goes.
    join
        Spans of which one begins at most so many seconds after the others before it ended are shown in one clip; so are
        those that overlap.

    Returns
    -------
    list of Cut
        In the order of time.

    Raises
    ------
    OptionError
        If ``pad`` or ``join`` is negative.
    """
    if not (pad >= 0 and join >= 0):
        msg = f"pad and join are seconds from 0 on, got {pad:g} and {join:g}"
        raise OptionError(msg)
    start, end, shown, gone = _times(spans, frames)
    groups: list[tuple[float, float, list[int]]] = []
    for number in np.argsort(start, kind="stable").tolist():
        if groups and start[number] <= groups[-1][1] + join:
            a, b, held = groups[-1]
            groups[-1] = a, max(b, float(end[number])), [*held, number]
        else:
            groups.append((float(start[number]), float(end[number]), [number]))
    step = int(np.median(np.diff(frames.frame))) if len(frames) > 1 else 1
    out = []
    for a, b, held in groups:
        begin, close = max(a - pad, float(shown[0])), min(b + pad, float(gone.max()))
        inside = frames.frame[(gone > begin) & (shown < close)]
        # Between frames that were read lie others.
        out.append(Cut(begin, close, (max(0, int(inside[0]) - step), int(inside[-1]) + step), tuple(held)))
    return out


def _times(
    spans: Spans, frames: Frames
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return begin and end of spans, and of frames; those of a steady film where it gives none."""
    length = frame_length(frames)
    shown = np.where(np.isfinite(frames.time), frames.time, frames.frame * length)
    gone = np.where(np.isfinite(frames.ends), frames.ends, shown + length)
    start = np.where(np.isfinite(spans.start), spans.start, spans.first_frame * length)
    end = np.where(np.isfinite(spans.end), spans.end, (spans.last_frame + 1) * length)
    return start, end, shown, gone


def events(found: Sequence[Cut], spans: Spans, frames: Frames) -> list[Event]:
    """Return the cuts as those of a cut list, in seconds since the film's first frame."""
    first = frames.time[0] if len(frames) and frames.frame[0] == 0 and np.isfinite(frames.time[0]) else 0.0
    out = []
    for cut in found:
        texts = [said(int(spans.track[i]), str(spans.label[i]), float(spans.score[i])) for i in cut.spans[:3]]
        more = f" and {len(cut.spans) - 3} more" if len(cut.spans) > 3 else ""
        out.append(Event(cut.start - float(first), cut.end - float(first), ", ".join(texts) + more))
    return out


class Clips:
    """Writes cuts of a film as MP4 files, while its frames come in the order of showing.

    A clip begins with the first frame of its cut that can be read. Frames that cannot be read are left away, and the
    one before is shown the longer, so that picture and sound stay in step.

    Parameters
    ----------
    folder
        Where to; it must exist.
    film
        The film, for its sound.
    found
        The cuts, in the order of their start.
    spans
        The spans, for the names of the files: first frame, label and tracks.
    fps
        Frames a second, a hint for players; None if unknown.
    """

    def __init__(self, folder: Path, film: Path, found: Sequence[Cut], spans: Spans, *, fps: float | None) -> None:
        self._folder, self._film, self._fps = folder, film, fps
        self._cuts = list(found)
        self._names = _names(found, spans)
        self._bounds = np.array([(*c.stretch, c.start, c.end) for c in found], np.float64).reshape(-1, 4).T
        self._open: dict[int, tuple[ExitStack, FilmWriter, tuple[int, int]]] = {}
        self.written: list[Path] = []

    @property
    def stretches(self) -> list[Stretch]:
        """The parts of the film that are needed."""
        return [cut.stretch for cut in self._cuts]

    def wants(self, frame: int, time: float) -> bool:
        """Say whether a frame belongs to a clip."""
        return bool(self._of(frame, time))

    def _of(self, frame: int, time: float) -> list[int]:
        first, last, start, end = self._bounds
        inside = (first <= frame) & (frame <= last) & (start - _INSTANT <= time) & (time < end - _INSTANT)
        return [int(i) for i in np.flatnonzero(inside)]

    def take(self, frame: Frame) -> None:
        """Write a frame, whose picture is there, into the clips that it belongs to; clips that are over are finished.

        Raises
        ------
        OutputError
            If a clip cannot be written.
        """
        self._end(frame.index)
        for number in self._of(frame.index, frame.time):
            if frame.picture is None:
                continue
            picture = frame.picture
            if number not in self._open:
                self._begin(number, frame.time, (picture.shape[1], picture.shape[0]))
            _, writer, size = self._open[number]
            writer.write(picture if picture.shape[1::-1] == size else resize(picture, *size), frame.time)

    def _begin(self, number: int, time: float, size: tuple[int, int]) -> None:
        stack = ExitStack()
        writer = FilmWriter(
            self._folder / self._names[number],
            width=size[0],
            height=size[1],
            fps=self._fps,
            sound_from=self._film,
            span=(time, self._cuts[number].end),
        )
        self._open[number] = stack, stack.enter_context(writer), size

    def _end(self, frame: int | None) -> None:
        for number in [n for n in self._open if frame is None or frame > self._cuts[n].stretch[1]]:
            stack, writer, _ = self._open.pop(number)
            stack.close()
            self.written.append(writer.path)

    def finish(self) -> None:
        """Finish the clips that are open."""
        self._end(None)

    def discard(self, error: BaseException) -> None:
        """Leave nothing of the clips that are not finished."""
        while self._open:
            stack, _, _ = self._open.popitem()[1]
            stack.__exit__(type(error), error, error.__traceback__)


def _names(found: Sequence[Cut], spans: Spans) -> list[str]:
    taken: dict[str, int] = {}
    out = []
    for cut in found:
        first = cut.spans[0]
        tracks = list(dict.fromkeys(int(spans.track[i]) for i in cut.spans if spans.track[i] >= 0))
        labels = list(dict.fromkeys(str(spans.label[i]) for i in cut.spans if spans.label[i]))
        parts = [f"{spans.first_frame[first]:06d}", safe("-".join(labels[:3])) if labels else ""]
        parts.append("t" + "+".join(map(str, tracks[:3])) + ("+" if len(tracks) > 3 else "") if tracks else "")
        name = "-".join(filter(None, parts))
        taken[name.lower()] = taken.get(name.lower(), 0) + 1
        out.append(f"{name}.mp4" if taken[name.lower()] == 1 else f"{name}-{taken[name.lower()]}.mp4")
    return out
