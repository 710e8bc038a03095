"""Many inputs in one run: in order, resumable, one failure does not stop the others."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..errors import MienError, OutputError
from ..image import Picture
from ..media.source import Kind, Source
from ..media.stills import DEFAULT_MAX_PIXELS, read_picture
from ..media.video import Film, Frame
from ..media.writer import FilmWriter, write_picture
from ..render.anonymize import anonymize
from ..render.overlay import annotate as draw
from ..results.columns import Reason
from ..results.faces import Faces
from .analyzer import Analyzer
from .stream import ahead, open_frames

__all__ = ["Batch", "Done", "Listener", "Outcome", "Taker"]


class Taker(Protocol):
    """Takes the tables of a run, one picture or frame at a time, in order."""

    def take(self, faces: Faces) -> None:
        """Take the rows of one picture or frame."""
        ...

    def close_source(self, source: str) -> None:
        """Hear that all rows of a source were given."""
        ...


class Listener(Protocol):
    """Hears how far a run is."""

    def begin(self, source: str, frames: int | None) -> None:
        """Hear that a source begins; ``frames`` is 1 for a picture, an estimate for a film, ``None`` for a camera."""
        ...

    def step(self) -> None:
        """One picture or frame is done."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """What an earlier run finished of one source: its last whole frame, -1 for none, and whether it was the last."""

    frame: int = -1
    finished: bool = False


@dataclass(slots=True)
class Outcome:
    """What a run came to."""

    sources: int = 0
    skipped: int = 0
    frames: int = 0
    rows: int = 0
    faces: int = 0
    named: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, MienError]] = field(default_factory=list)
    annotated: list[Path] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    def count(self, faces: Faces) -> None:
        """Add the rows of one picture or frame."""
        self.frames += 1
        self.rows += len(faces)
        self.faces += int(faces.found.sum())
        self.named.update(t for t in faces.top.tolist() if t)
        self.reasons.update(w for words in faces.reason_words for w in words.split("|") if w)


class Batch:
    """Analyses sources one after the other.

    Parameters
    ----------
    reader
        The analyzer.
    takers
        Where the tables go.
    listener
        Hears of progress.
    annotate
        Folder for annotated pictures and films.
    cover
        Make every face that was found unrecognisable in them.
    every
        Read only each n-th frame of films.
    seconds
        Stop cameras and streams after so long.
    max_pixels
        Refuse pictures with more pixels.
    done
        What an earlier run finished, by source name; those rows are not given again.
    """

    def __init__(
        self,
        reader: Analyzer,
        *,
        takers: Sequence[Taker],
        listener: Listener,
        annotate: Path | None = None,
        cover: bool = False,
        every: int = 1,
        seconds: float | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        done: Mapping[str, Done] | None = None,
    ) -> None:
        self._reader = reader
        self._takers = takers
        self._listener = listener
        self._folder, self._cover = annotate, cover
        self._every, self._seconds, self._max_pixels = every, seconds, max_pixels
        self._done = done or {}
        self._names: Counter[str] = Counter()
        self.outcome = Outcome()

    def run(self, sources: Sequence[Source]) -> Outcome:
        """Analyse all sources; Ctrl-C ends the run after the last whole frame and is told in the outcome.

        Raises
        ------
        OutputError
            If a result cannot be written: going on would lose rows.
        """
        started = time.monotonic()
        pictures = _Pictures(sources, self._max_pixels, skip={s for s, d in self._done.items() if d.finished})
        try:
            with closing(pictures.ahead()) as decoded:
                for source, picture in decoded:
                    self._source(source, picture)
        except KeyboardInterrupt:
            self.outcome.interrupted = True
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def _source(self, source: Source, picture: Future[Picture] | None) -> None:
        done = self._done.get(source.name, Done())
        target = self._target(source)
        if done.finished:
            self.outcome.skipped += 1
            return
        self.outcome.sources += 1
        try:
            if picture is not None:
                self._picture(source, picture, target)
            else:
                self._film(source, target, done)
        except OutputError:
            raise
        except MienError as error:
            self.outcome.failures.append((source.name, error))
            if source.kind is Kind.PICTURE:
                self._give(Faces.missing(source.name, Reason.UNREADABLE, labels=self._reader.labels))
            return  # not closed: a resumed run tries it again
        for taker in self._takers:
            taker.close_source(source.name)

    def _give(self, faces: Faces) -> None:
        if not self._reader.settings.one_face or int(faces.found.sum()) == 1:
            self.outcome.count(faces)
            for taker in self._takers:
                taker.take(faces)
        self._listener.step()

    def _picture(self, source: Source, decoding: Future[Picture], target: Path | None) -> None:
        self._listener.begin(source.name, 1)
        picture = decoding.result()
        faces = self._reader.picture(picture, source=source.name)
        self._give(faces)
        if target:
            write_picture(target, draw(self._covered(picture, faces), faces))
            self.outcome.annotated.append(target)

    def _film(self, source: Source, target: Path | None, done: Done) -> None:
        # An annotated film cannot be continued, and tracks depend on the frames before, so both are read again from the
        # beginning; rows that were given are not repeated.
        settings = self._reader.settings
        start = 0 if target or settings.detect_every > 1 or settings.track else done.frame + 1
        with open_frames(
            source, every=self._every, seconds=self._seconds, start=start, max_pixels=self._max_pixels
        ) as frames:
            total = frames.frames if isinstance(frames, Film) else None
            self._listener.begin(source.name, -(-max(total - start, 0) // self._every) if total else None)
            tables = self._tables(source, iter(frames))
            if target is None:
                for faces, frame in tables:
                    if frame.index > done.frame:
                        self._give(faces)
                return
            self._annotated(source, frames, tables, target, done)

    def _tables(self, source: Source, frames: Iterator[Frame]) -> Iterator[tuple[Faces, Frame]]:
        if source.kind is Kind.FILM:
            with closing(ahead(frames)) as decoded:
                yield from self._reader.frames_with_pictures(decoded, source=source.name)
            return
        yield from self._reader.frames_with_pictures(frames, source=source.name, batch=1)

    def _annotated(
        self, source: Source, frames: object, tables: Iterator[tuple[Faces, Frame]], target: Path, done: Done
    ) -> None:
        """Give the rows and write the film; it has the size of the first frame that could be decoded."""
        sound = Path(str(source.place)) if source.kind is Kind.FILM else None
        fps = frames.fps if isinstance(frames, Film) else None
        writer: FilmWriter | None = None
        last: Picture | None = None
        with ExitStack() as opened:
            for faces, frame in tables:
                if frame.index > done.frame:
                    self._give(faces)
                last = self._covered(frame.picture, faces) if frame.picture is not None else last
                if last is None:
                    continue
                if writer is None:
                    height, width = last.shape[:2]
                    writer = FilmWriter(target, width=width, height=height, fps=fps, sound_from=sound)
                    opened.enter_context(writer)
                writer.write(draw(last, faces), frame.time)
        if writer:
            self.outcome.annotated.append(target)

    def _covered(self, picture: Picture, faces: Faces) -> Picture:
        return anonymize(picture, faces.box[faces.found]) if self._cover else picture

    def _target(self, source: Source) -> Path | None:
        """Return where the annotated copy goes: the source's own name with ``-mien``, numbered if taken."""
        if self._folder is None:
            return None
        path = Path(str(source.place)) if source.kind in {Kind.PICTURE, Kind.FILM} else Path(f"camera-{source.place}")
        stem = "".join(c if c.isalnum() or c in "-_. " else "_" for c in path.stem)
        self._names[stem] += 1
        number = f"-{self._names[stem]}" if self._names[stem] > 1 else ""
        ending = ".mp4"
        if source.kind is Kind.PICTURE:
            ending = path.suffix.lower() if path.suffix.lower() in {".jpg", ".png", ".webp"} else ".png"
        return self._folder / f"{stem}-mien{number}{ending}"


class _Pictures:
    """Decodes the next pictures of a run in a thread while the current one is read."""

    DEPTH = 3

    def __init__(self, sources: Sequence[Source], max_pixels: int, skip: set[str]) -> None:
        self._sources, self._max_pixels, self._skip = sources, max_pixels, skip

    def ahead(self) -> Generator[tuple[Source, Future[Picture] | None]]:
        waiting: deque[tuple[Source, Future[Picture] | None]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="mien-decode") as pool:
            for source in self._sources:
                waiting.append((source, self._submit(pool.submit, source)))
                if len(waiting) > self.DEPTH:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()

    def _submit(self, submit: Callable[..., Future[Picture]], source: Source) -> Future[Picture] | None:
        if source.kind is not Kind.PICTURE:
            return None
        if source.name in self._skip:
            return Future()
        return submit(read_picture, source.place, max_pixels=self._max_pixels)
