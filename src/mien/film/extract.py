"""What a query found, taken out of the film: crops, clips, sheets and lists, by the index alone; no model runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import OptionError
from ..media.stills import DEFAULT_MAX_PIXELS
from ..media.video import Frame
from ..render.anonymize import HOW
from ..results.columns import Reason
from ..results.faces import Faces
from ..results.files import line_form, replacing
from .clips import Clips, Cut, cuts, events
from .cover import WHOM, Cover
from .crops import Crops, folder_of, framing
from .query import Found, find, parse
from .reading import Stretch, joined, read_frames
from .subtitles import edl, list_of, srt, write_text
from .tables import Frames
from .tiles import Compared, Sheet, loosened

__all__ = ["Extracted", "Listener", "Wanted", "extract", "write_film_rows"]

_PART = 8192
"""Frames whose rows are turned into text at once."""


class Listener(Protocol):
    """Hears how far the film is read."""

    def begin(self, total: int) -> None:
        """Hear how many frames will be decoded."""
        ...

    def step(self, frames: int) -> None:
        """Hear that some more were."""
        ...


class _Taker(Protocol):
    """Takes what it wants of the frames of a film, which come in the order of showing."""

    @property
    def stretches(self) -> list[Stretch]: ...

    def wants(self, frame: int, time: float, /) -> bool: ...

    def take(self, frame: Frame, /) -> None: ...

    def finish(self) -> None: ...

    def discard(self, error: BaseException, /) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be extracted, and how; at least one of the outputs.

    Attributes
    ----------
    crops
        Folder for faces, in a folder for each expression.
    margin, most, aligned, size, ending
        Of the crops: as `film.crops.Crops`; ``aligned`` turns and scales them to the template of the model, to
        ``size`` × ``size`` pixels, or as many as the model is fed.
    clips
        Folder for clips with sound, one MP4 a span.
    pad, join
        Seconds, as `film.clips.cuts`; the cut list is the same.
    sheet, tiles
        Page with the best frame of each span, and how many at most.
    compare
        Page with all faces that the query finds without its ``for``, beside those that it finds.
    srt, edl
        Subtitles; a cut list.
    csv
        One row a frame of the index: its number, how many faces were found in it, their expressions, the film, their
        boxes (`results.files.film_rows`); frames in which none was found are there with 0.
    spans
        List of the spans, ``.csv`` or ``.json``.
    anonymize, how
        ``"others"``: cover every face whose track was not found; ``"all"``: every face; by ``"pixelate"`` or
        ``"blur"``. In crops, clips, sheet and comparison.

    Raises
    ------
    OptionError
        If there is no output, or an option has a value that it cannot have.
    """

    crops: Path | None = None
    margin: float = 0.2
    most: int | None = None
    aligned: bool = False
    size: int | None = None
    ending: str = ".jpg"
    clips: Path | None = None
    pad: float = 0.5
    join: float = 0.0
    sheet: Path | None = None
    tiles: int = 60
    compare: Path | None = None
    srt: Path | None = None
    edl: Path | None = None
    csv: Path | None = None
    spans: Path | None = None
    anonymize: str | None = None
    how: str = "pixelate"

    def __post_init__(self) -> None:
        outputs = {n: getattr(self, n) for n in ("crops", "clips", "sheet", "compare", "srt", "edl", "csv", "spans")}
        if not any(outputs.values()):
            msg = f"nothing to write; name at least one of {', '.join(outputs)}"
            raise OptionError(msg)
        if self.anonymize is not None and self.anonymize not in WHOM:
            msg = f"anonymize is {self.anonymize!r}; choose {' or '.join(WHOM)}"
            raise OptionError(msg)
        if self.how not in HOW:
            msg = f"how is {self.how!r}; choose {' or '.join(HOW)}"
            raise OptionError(msg)
        if self.size is not None and not 8 <= self.size <= 4096:
            msg = f"aligned crops have 8 to 4096 pixels a side, got {self.size}"
            raise OptionError(msg)
        if self.csv is not None:
            line_form(self.csv, "film")
        if self.spans is not None and self.spans.suffix.lower() not in {".csv", ".json"}:
            msg = f"{self.spans}: a list of spans ends in .csv or .json"
            raise OptionError(msg)
        for page in (self.sheet, self.compare):
            if page is not None and page.suffix.lower() not in {".jpg", ".jpeg", ".png", ".webp"}:
                msg = f"{page}: a sheet ends in .jpg, .png or .webp"
                raise OptionError(msg)

    @property
    def pictures(self) -> bool:
        """Whether the film itself is needed."""
        return any((self.crops, self.clips, self.sheet, self.compare))


@dataclass(slots=True)
class Extracted:
    """What came of it.

    Attributes
    ----------
    faces, spans
        How many were found.
    crops
        Pictures of faces that were written.
    clips
        The clips.
    files
        Every other file.
    frames
        Frames that were decoded.
    unreadable
        Frames that could not be, and are missing.
    """

    faces: int = 0
    spans: int = 0
    crops: int = 0
    clips: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    frames: int = 0
    unreadable: int = 0


class _Silent:
    def begin(self, total: int) -> None:
        pass

    def step(self, frames: int) -> None:
        pass


def extract(
    found: Found,
    wanted: Wanted,
    *,
    film: str | os.PathLike[str] | None = None,
    loose: Found | None = None,
    listener: Listener | None = None,
) -> Extracted:
    """Take what a query found out of its film; the film is decoded once, as far as needed, and no model runs.

    Lists come first, then all that needs the film. Each file appears under its name when it is whole; an error or
    Ctrl-C leaves nothing half written, and what was finished before stays. Where nothing was found nothing is written.

    Parameters
    ----------
    found
        As `film.query.find` gives it.
    wanted
        What to write.
    film
        Where the film is; None: where it was when it was indexed.
    loose
        For ``compare``: what the query finds without its ``for``; None: it is asked for here, without smoothing.
    listener
        Hears of progress.

    Returns
    -------
    Extracted
        What was written.

    Raises
    ------
    OutputError
        If something cannot be written.
    SourceError
        If the film is needed and not there, or not that of the index.
    OptionError
        If ``compare`` is asked for and the query has no ``for``.

    Examples
    --------
    >>> found = find(Index.open("movie.mien"), "happy for 8 frames")  # doctest: +SKIP
    >>> extract(found, Wanted(clips=Path("out"), sheet=Path("sheet.jpg")))  # doctest: +SKIP
    """
    done = Extracted(len(found.rows), len(found.spans))
    if not len(found.rows):
        return done
    place = found.index.film(film) if wanted.pictures else None
    frames = found.index.frames()
    parts = cuts(found.spans, frames, pad=wanted.pad, join=wanted.join) if wanted.clips or wanted.edl else []
    takers = _takers(found, wanted, place, parts, loose) if place is not None else []
    _write_lists(found, wanted, frames, parts, done)
    if place is not None:
        _read(found, wanted, place, frames, takers, listener or _Silent(), done)
    done.files += [path for path in (wanted.sheet, wanted.compare) if path is not None]
    done.crops = sum(t.written for t in takers if isinstance(t, Crops))
    done.clips = [path for t in takers if isinstance(t, Clips) for path in t.written]
    return done


def _takers(
    found: Found, wanted: Wanted, film: Path, parts: Sequence[Cut], loose: Found | None
) -> list[Crops | Clips | Sheet | Compared]:
    takers: list[Crops | Clips | Sheet | Compared] = []
    index = found.index
    if wanted.crops:
        spec = framing(index.manifest.get("models", {}), wanted.size) if wanted.aligned else None
        options = {"margin": wanted.margin, "most": wanted.most}
        takers.append(Crops(wanted.crops, found, spec=spec, ending=wanted.ending, **options))  # type: ignore[arg-type]  # by name
    if wanted.sheet:
        takers.append(Sheet(wanted.sheet, found, most=wanted.tiles))
    if wanted.compare:
        if loose is None:
            loose = find(index, loosened(parse(found.query, index.labels)))
        takers.append(Compared(wanted.compare, found, loose))
    if wanted.crops:
        folder_of(wanted.crops)
    if wanted.clips:
        fps = index.manifest["film"].get("fps")
        takers.append(Clips(folder_of(wanted.clips), film, parts, found.spans, fps=fps))
    return takers


def _read(
    found: Found,
    wanted: Wanted,
    film: Path,
    frames: Frames,
    takers: Sequence[_Taker],
    listener: Listener,
    done: Extracted,
) -> None:
    cover = None
    if wanted.anonymize is not None:
        cover = Cover(found.index, wanted.anonymize, wanted.how, found.rows, frames=frames)
    stretches = joined([s for t in takers for s in t.stretches])
    end = int(frames.frame[-1]) + int(np.max(np.diff(frames.frame), initial=1))
    listener.begin(sum(min(last, end) - first + 1 for first, last in stretches))

    def stepped(count: int) -> None:
        done.frames += count
        listener.step(count)

    def asked(number: int, time: float) -> bool:
        return any(t.wants(number, time) for t in takers)

    limit = found.index.manifest.get("settings", {}).get("max_pixels") or DEFAULT_MAX_PIXELS
    with closing(read_frames(film, frames, stretches, asked, max_pixels=limit, stepped=stepped)) as read:
        try:
            for frame in read:
                _give(frame, takers, cover, done)
            for taker in takers:
                taker.finish()
        except BaseException as error:
            for taker in takers:
                taker.discard(error)
            raise


def _give(frame: Frame, takers: Sequence[_Taker], cover: Cover | None, done: Extracted) -> None:
    if frame.picture is None:
        done.unreadable += 1
        return
    if cover is not None:
        frame = replace(frame, picture=cover.apply(frame.picture, frame.index))
    for taker in takers:
        if taker.wants(frame.index, frame.time):
            taker.take(frame)


def _write_lists(found: Found, wanted: Wanted, frames: Frames, parts: Sequence[Cut], done: Extracted) -> None:
    index, spans = found.index, found.spans
    texts: list[tuple[Path | None, Callable[[Path], str]]] = [
        (wanted.srt, lambda _: srt(spans)),
        (wanted.edl, lambda _: _edl(found, frames, parts)),
        (wanted.spans, lambda p: list_of(spans, p.suffix.lower(), film=index.name, query=found.query)),
    ]
    for path, text in texts:
        if path is not None:
            write_text(path, text(path))
            done.files.append(path)
    if wanted.csv is not None:
        write_film_rows(wanted.csv, found, frames)
        done.files.append(wanted.csv)


def _edl(found: Found, frames: Frames, parts: Sequence[Cut]) -> str:
    index = found.index
    fps = index.manifest["film"].get("fps") or 1 / frames.step
    title = f"{found.query} - {index.name}"
    sound = bool(index.manifest["film"].get("sound_tracks"))
    return edl(events(parts, found.spans, frames), title=title, name=index.name, fps=fps, sound=sound)


def write_film_rows(path: Path, found: Found, frames: Frames) -> None:
    """Write one row a frame of the index in the film layout, with what was found in it; 0 faces where nothing was.

    Raises
    ------
    OptionError
        If the path does not end in ``.csv``.
    OutputError
        If it cannot be written.
    """
    form = line_form(path, "film")
    name, labels = found.index.name, found.index.labels
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(form.encode(form.head(labels)))
        ordinal = _ordinals(found)
        for begin in range(0, len(frames), _PART):
            part = frames[begin : begin + _PART]
            rows = found.rows[np.searchsorted(ordinal, begin) : np.searchsorted(ordinal, begin + len(part))]
            faces = found.index.faces(rows)
            empty = np.flatnonzero(~np.isin(part.frame, faces.frame))
            none = Faces.build(
                len(empty),
                sources=(name,),
                labels=labels,
                frame=part.frame[empty],
                time=part.time[empty],
                reason=int(Reason.NO_FACE),
            )
            both = Faces.concat([faces.with_(sources=(name,) * len(faces.sources)), none])
            file.write(form.encode(form.rows(both[np.argsort(both.frame, kind="stable")])))


def _ordinals(found: Found) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return where in the frame table the frame of each found row stands."""
    parts = [found.index.details(found.rows[i : i + 65_536])["ordinal"] for i in range(0, len(found.rows), 65_536)]
    return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)
