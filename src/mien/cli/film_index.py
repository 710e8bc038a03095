"""`mien film index`: a film, read once."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import Progress, TaskID

from ..film.build import SETTINGS, Built, Sampling, index_film
from ..pipeline.analyzer import Analyzer, Settings
from .console import INTERRUPTED, NOTHING, answer, errors, meter, note
from .opening import is_run, open_model

__all__ = ["index"]


class _Meter:
    """Shows how far the index is, and how fast against the film's own time."""

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._begun = time.monotonic()
        self._first = float("nan")

    def begin(self, total: int | None, done: int) -> None:
        self._begun = time.monotonic()
        if self._progress:
            self._progress.update(self._task, description="indexing", total=total, completed=done)

    def step(self, at: float) -> None:
        if not self._progress:
            return
        self._first = at if np.isnan(self._first) else self._first
        spent = max(time.monotonic() - self._begun, 1e-6)
        realtime = f"{(at - self._first) / spent:.1f}× realtime, " if at > self._first else ""
        task = next(t for t in self._progress.tasks if t.id == self._task)
        self._progress.update(self._task, advance=1, rate=f"{realtime}{(task.speed or 0):.0f}")


def index(
    film: Annotated[Path, typer.Argument(help="The film.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the index; default beside the film, with the ending .mien.")
    ] = None,
    every: Annotated[int, typer.Option(help="Read only each n-th frame.")] = 1,
    fps: Annotated[float | None, typer.Option(help="Read at most so many frames a second, by their times.")] = None,
    width: Annotated[
        int | None, typer.Option(help="Look for faces with the longer side at most so many pixels; default 1280.")
    ] = None,
    detect_every: Annotated[
        int, typer.Option(help="Search in each k-th frame that is read; faces are followed in between.")
    ] = SETTINGS.detect_every,
    detector: Annotated[str, typer.Option(help="mtcnn, haar or haar-alt2.")] = SETTINGS.detector,
    model: Annotated[
        str, typer.Option(help="A bundled expression model, an .onnx file with its card, or the folder of a run.")
    ] = SETTINGS.model,
    labels: Annotated[str | None, typer.Option(help="A label set that the model can give; default its own.")] = None,
    vote: Annotated[int, typer.Option(help="Read each face in 45 (9, 5) windows and take their mean; 0: one.")] = 0,
    min_face: Annotated[int, typer.Option(help="Smallest face to look for, pixels.")] = SETTINGS.min_face,
    min_score: Annotated[float, typer.Option(help="Name no label below this score.")] = SETTINGS.min_score,
    read_all: Annotated[
        bool, typer.Option("--read-all", help="Read also faces that have a reason against it.")
    ] = False,
    max_megapixels: Annotated[float, typer.Option(help="Refuse larger frames.")] = 64.0,
    threads: Annotated[int, typer.Option(help="Frames worked on side by side; 0: one a processor.")] = 0,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what --out holds and begin anew.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Read a film once into an index that is asked with `mien film query`; cut off, the same call goes on.

    Exit code 0: done; 1: no face anywhere; 2: it failed; 130: stopped.
    """
    with errors():
        settings = Settings(
            detector=detector,
            model=model,
            labels=labels,
            min_face=min_face,
            width=width,
            detect_every=detect_every,
            track=True,
            vote=vote,
            min_score=min_score,
            read_all=read_all,
            threads=threads,
        )
        sampling = Sampling(every=every, fps=fps, max_pixels=int(max_megapixels * 1e6))
        folder = out or film.with_suffix(".mien")
        try:
            with meter(shown=not (quiet or as_json), unit="frames") as (bar, task):
                built = index_film(
                    film,
                    folder,
                    analyzer=_reader(settings),
                    settings=settings,
                    sampling=sampling,
                    restart=restart,
                    listener=_Meter(bar, task),
                )
        except KeyboardInterrupt:
            note(f"mien: stopped; what was read is kept in {folder}, the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
        if as_json:
            answer(_document(built))
        elif not quiet:
            _summary(built)
        if not built.index.manifest["counts"]["faces"]:
            raise typer.Exit(NOTHING)


def _reader(settings: Settings) -> Analyzer | None:
    if not is_run(settings.model):
        return None
    return Analyzer(replace(settings, threads=1), read=open_model(settings.model, threads=1))


def _document(built: Built) -> dict[str, object]:
    return {
        "index": str(built.index.path),
        "counts": dict(built.index.manifest["counts"]),
        "frames": built.frames,
        "resumed": built.resumed,
        "film_seconds": round(built.film_seconds, 3),
        "seconds": round(built.seconds, 3),
        "realtime": round(built.realtime, 3) if built.frames else None,
    }


def _summary(built: Built) -> None:
    counts = built.index.manifest["counts"]
    what = f"{counts['frames']} frames, {counts['faces']} faces in {counts['tracks']} tracks"
    if counts["unreadable"]:
        what += f", {counts['unreadable']} frames could not be decoded"
    if not built.new:
        note(f"{built.index.path} is there already: {what}")
        return
    after = f" (after {built.resumed} of an earlier run)" if built.resumed else ""
    rate = built.frames / built.seconds
    pace = f"{built.realtime:.1f}× realtime, {rate:.0f} frames/s" if built.frames else "all was done"
    note(f"read {built.frames} frames{after}, {built.film_seconds:.1f} s of film, in {built.seconds:.1f} s: {pace}")
    note(f"wrote {built.index.path}: {what}")
