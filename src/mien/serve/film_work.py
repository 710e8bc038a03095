"""The work on one film, from the film to the files that a client fetches; runs in a process of its own.

Whatever is written has its name when it is whole; cut off, the same call goes on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import TooLargeError
from ..film.annotated import annotate_film
from ..film.build import Sampling, index_film
from ..film.index import Index
from ..film.parts import TableFile
from ..media.video import Film
from ..models.quality import Limits as QualityLimits
from ..pipeline.analyzer import Settings
from ..results.faces import Faces
from ..results.files import line_form, replacing
from ..results.table import from_arrow, needed_pyarrow
from .film_timeline import film_timeline
from .folders import FILM, INDEX, RESULTS

__all__ = ["ANNOTATED", "NAMES", "Far", "Task", "analysis_of", "work"]

ANNOTATED = "annotated.mp4"
NAMES = ("faces.csv", "faces.jsonl", "faces.parquet", "frames.parquet", "tracks.parquet", "timeline.json", ANNOTATED)
"""The files that can come of a film."""

_BATCH = 8192
_TELLING = 0.25
_READING, _TABLES = 0.7, 0.02
"""Shares of all work; the rest is the annotated film, where one is asked for."""


@dataclass(frozen=True, slots=True)
class Far:
    """How far the work is.

    Attributes
    ----------
    frames, total
        Frames read, and of how many as far as the film says.
    fraction
        Share of all work, in [0, 1]; None where the film does not say how long it is.
    """

    frames: int
    total: int | None
    fraction: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be done with one film.

    Attributes
    ----------
    folder
        Of the job: the film lies in it, and everything is written there.
    name
        What the tables call the film.
    settings
        What is found and read; ``threads`` frames at once.
    every, fps
        Which frames are read, as `film.build.Sampling`.
    annotate
        Draw into the film what was found.
    pixels, frames, seconds
        Limits of the film.
    """

    folder: Path
    name: str
    settings: Settings
    every: int
    fps: float | None
    annotate: bool
    pixels: int
    frames: int
    seconds: float

    def hold_to(self, frames: int, seconds: float) -> None:
        """Raise `TooLargeError` where a film that is at least so long is over a limit."""
        for length, limit, what in (
            (frames, self.frames, "frames (film_frames)"),
            (seconds, self.seconds, "seconds (film_seconds)"),
        ):
            if length > limit:
                msg = (
                    f"the film has {length:.0f} or more, over the limit of {limit:.0f} {what}; cut it into shorter ones"
                )
                raise TooLargeError(msg)


def analysis_of(values: Mapping[str, Any]) -> Settings:
    """Undo `Settings.as_dict`."""
    return Settings(**{**values, "limits": QualityLimits(**values["limits"])})


def work(task: Task, tell: Callable[[Far], None]) -> None:
    """Do it.

    Raises
    ------
    TooLargeError
        If the film is over a limit: by what it says of itself, or once it is seen to be.
    MienError
        As `film.build.index_film` and `film.annotated.annotate_film`.
    """
    film, results = task.folder / FILM, task.folder / RESULTS
    results.mkdir(mode=0o700, exist_ok=True)
    for stray in results.iterdir():
        if stray.name not in NAMES:
            stray.unlink()
    _check(film, task)
    progress = _Progress(task, tell)
    sampling = Sampling(every=task.every, fps=task.fps, max_pixels=task.pixels)
    index = index_film(film, task.folder / INDEX, settings=task.settings, sampling=sampling, listener=progress).index
    progress.read(index)
    _tables(index, results, task.name)
    if not (results / "timeline.json").exists():
        with replacing(results / "timeline.json") as temporary:
            temporary.write_text(json.dumps(film_timeline(index, film), ensure_ascii=False), "utf-8")
    progress.tabled()
    if task.annotate and not (results / ANNOTATED).exists():
        annotate_film(index, results / ANNOTATED, film=film, listener=progress.drawing)


def _check(film: Path, task: Task) -> None:
    """Refuse a film that says of itself that it is too long; its frames' size is checked by opening it."""
    with Film(film, max_pixels=task.pixels) as opened:
        task.hold_to(opened.frames or 0, opened.duration or 0.0)


class _Progress:
    """Hears from the index how far it is, tells it on now and then, and stops a film that turns out too long."""

    def __init__(self, task: Task, tell: Callable[[Far], None]) -> None:
        self._task, self._tell = task, tell
        self._frames = 0
        self._total: int | None = None
        self._first: float | None = None
        self._told = 0.0
        self._whole = 1.0 if not task.annotate else _READING
        self.drawing = _Drawing(self)

    def begin(self, total: int | None, done: int) -> None:
        """Hear of the beginning."""
        self._frames, self._total = done, total
        self.say(now=True)

    def step(self, time: float) -> None:
        """Hear of a frame; raise once the film is longer than is allowed."""
        self._frames += 1
        self._first = time if self._first is None and time == time else self._first
        spent = 0.0 if self._first is None else time - self._first
        self._task.hold_to((self._frames - 1) * self._task.every + 1, spent)
        self.say()

    def read(self, index: Index) -> None:
        """Hear that the index is whole: now it is known how many frames there are."""
        self._frames = self._total = int(index.manifest["counts"]["frames"])
        self.say(now=True)

    def tabled(self) -> None:
        """Hear that the tables are whole."""
        self.say(1.0 if not self._task.annotate else _READING + _TABLES, now=True)

    def say(self, fraction: float | None = None, *, now: bool = False) -> None:
        """Tell how far it is, unless that was told a moment ago."""
        moment = time.monotonic()
        if not now and moment - self._told < _TELLING:
            return
        self._told = moment
        if fraction is None and self._total:
            fraction = self._whole * (1 - _TABLES) * min(1.0, self._frames / self._total)
        self._tell(Far(self._frames, self._total, fraction))


class _Drawing:
    """Hears how far the annotated film is."""

    def __init__(self, progress: _Progress) -> None:
        self._progress = progress
        self._total, self._done = 1, 0

    def begin(self, total: int) -> None:
        """Hear how many frames will be drawn."""
        self._total = max(1, total)

    def step(self, frames: int) -> None:
        """Hear that some more were."""
        self._done += frames
        begun = _READING + _TABLES
        self._progress.say(begun + (1 - begun) * min(1.0, self._done / self._total))


def _tables(index: Index, results: Path, name: str) -> None:
    """Write the tables, in parts: memory does not grow with their length."""
    if all((results / n).exists() for n in NAMES[:5]):
        return
    for table in (index.frames_file, index.tracks_file):
        with replacing(results / table.name) as temporary:
            temporary.write_bytes(table.read_bytes())
    arrow = needed_pyarrow("film")
    with ExitStack() as opened:
        source = opened.enter_context(arrow.parquet.ParquetFile(index.faces_file))
        texts = [line_form(results / n, "default") for n in ("faces.csv", "faces.jsonl")]
        files = [
            opened.enter_context(opened.enter_context(replacing(results / f"faces{t.ending}")).open("wb"))
            for t in texts
        ]
        table_file = opened.enter_context(TableFile(results / "faces.parquet", source.schema_arrow))
        for text, file in zip(texts, files, strict=True):
            file.write(text.encode(text.head(index.labels)))
        for batch, faces in _batches(index, source, name):
            table_file.add(batch)
            for text, file in zip(texts, files, strict=True):
                file.write(text.encode(text.rows(faces)))


def _batches(index: Index, source: Any, name: str) -> Iterator[tuple[Any, Faces]]:
    """Give the rows of the face table with the name that the client gave the film."""
    arrow = needed_pyarrow("film")
    for batch in source.iter_batches(_BATCH):
        table = arrow.Table.from_batches([batch])
        place = table.schema.get_field_index("source")
        named = arrow.array([name] * table.num_rows, table.schema.field(place).type)
        faces = from_arrow(table, labels=index.labels)
        yield (
            table.set_column(place, table.schema.field(place), named),
            replace(faces, sources=(name,) * len(faces.sources)),
        )
