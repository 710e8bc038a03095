"""`mien film extract`: what a query found, taken out of the film."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from ..film.extract import Extracted, Wanted
from ..film.extract import extract as take_out
from ..film.index import Index
from ..film.parser import parse
from ..film.query import Found, find
from ..film.tiles import loosened
from .console import NOTHING, answer, errors, meter, note
from .film_query import asked

__all__ = ["extract"]


class Decoding:
    """Shows how far a film is decoded."""

    def __init__(self, progress: Progress | None, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._begun, self._frames = time.monotonic(), 0

    def begin(self, total: int) -> None:
        """Hear how many frames will be decoded."""
        self._begun = time.monotonic()
        if self._progress:
            self._progress.update(self._task, description="frames", total=total)

    def step(self, frames: int) -> None:
        """Hear that some more were."""
        self._frames += frames
        if self._progress:
            rate = self._frames / max(time.monotonic() - self._begun, 1e-6)
            self._progress.update(self._task, advance=frames, rate=f"{rate:.0f}")


def extract(
    index: Annotated[Path, typer.Argument(help="An index, of `mien film index`.", show_default=False)],
    query: Annotated[str, typer.Argument(help='As for `mien film query`: "happy for 8 frames".')] = "",
    crops: Annotated[Path | None, typer.Option(help="Faces as pictures, in a folder for each expression.")] = None,
    clips: Annotated[Path | None, typer.Option(help="Clips with sound into this folder, one MP4 a stretch.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Page with the best frame of each stretch, .jpg or .png.")] = None,
    compare: Annotated[
        Path | None, typer.Option(help="Page with what the query finds without its `for`, and with it, side by side.")
    ] = None,
    srt: Annotated[Path | None, typer.Option(help="Subtitles that say track, expression and score.")] = None,
    edl: Annotated[Path | None, typer.Option(help="Cut list for editing programs (CMX 3600).")] = None,
    csv: Annotated[
        Path | None, typer.Option(help="One row a frame: number, faces found, expressions, file, boxes.")
    ] = None,
    spans: Annotated[Path | None, typer.Option("--list", help="List of the stretches, .csv or .json.")] = None,
    film: Annotated[Path | None, typer.Option(help="Where the film is, if it is no longer where it was.")] = None,
    bridge: Annotated[int, typer.Option(min=0, help="So many missing frames in a row do not end a stretch.")] = 0,
    smooth: Annotated[
        str | None, typer.Option(help="Smooth the scores first: exponential:0.5 (seconds), median:5 (frames).")
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Crops: how much wider than the box, a share of it on each side.")
    ] = 0.2,
    most: Annotated[int | None, typer.Option(min=1, help="Crops: so many of a track and expression, evenly.")] = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="Crops: turned and scaled as the model is fed.")] = False,
    size: Annotated[
        int | None, typer.Option(help="Aligned crops: pixels a side; default what the model is fed.")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="Crops as .png, not .jpg.")] = False,
    pad: Annotated[float, typer.Option(help="Clips and cut list: seconds before and behind a stretch.")] = 0.5,
    join: Annotated[float, typer.Option(help="Clips and cut list: stretches so near, in seconds, are one.")] = 0.0,
    tiles: Annotated[int, typer.Option(min=1, help="Sheet: stretches at most, those with the highest scores.")] = 60,
    anonymize: Annotated[
        str | None, typer.Option(help="Cover faces in crops, clips and sheets: others (tracks not found), or all.")
    ] = None,
    how: Annotated[str, typer.Option(help="How faces are covered: pixelate or blur.")] = "pixelate",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Take what a query finds out of a film: crops, clips, sheets, lists. By the index alone; no model runs.

    At least one output has to be named. Exit code 0: done; 1: nothing was found; 2: it failed; 130: stopped.
    """
    with errors():
        wanted = Wanted(
            crops=crops,
            margin=margin,
            most=most,
            aligned=aligned,
            size=size,
            ending=".png" if png else ".jpg",
            clips=clips,
            pad=pad,
            join=join,
            sheet=sheet,
            tiles=tiles,
            compare=compare,
            srt=srt,
            edl=edl,
            csv=csv,
            spans=spans,
            anonymize=anonymize,
            how=how,
        )
        found = asked(Index.open(index), query, bridge=bridge, smooth=smooth)
        loose = _loose(found, bridge, smooth) if compare and len(found) else None
        begun = time.monotonic()
        with meter(shown=not (quiet or as_json), unit="frames") as (bar, task):
            done = take_out(found, wanted, film=film, loose=loose, listener=Decoding(bar, task))
        if as_json:
            answer(_document(found, done, time.monotonic() - begun))
        elif not quiet:
            _summary(found, done)
        if not len(found):
            if quiet:
                note(f"mien: {found.query!r} found nothing in {index}")
            raise typer.Exit(NOTHING)


def _loose(found: Found, bridge: int, smooth: str | None) -> Found:
    node = loosened(parse(found.query, found.index.labels))
    return find(found.index, node, bridge=bridge, smooth=smooth)


def _document(found: Found, done: Extracted, seconds: float) -> dict[str, Any]:
    return {
        "query": found.query,
        "faces": done.faces,
        "spans": done.spans,
        "crops": done.crops,
        "clips": [str(p) for p in done.clips],
        "files": [str(p) for p in done.files],
        "frames_decoded": done.frames,
        "frames_unreadable": done.unreadable,
        "seconds": round(seconds, 3),
    }


def _summary(found: Found, done: Extracted) -> None:
    if not len(found):
        note(f"mien: {found.query!r} found nothing in {found.index.path}")
        return
    parts = [f"{done.crops} crops"] * bool(done.crops) + [f"{len(done.clips)} clips"] * bool(done.clips)
    parts += [str(p) for p in done.files]
    note(f"{done.faces} faces in {done.spans} stretches; wrote {', '.join(parts) or 'nothing'}")
    if done.unreadable:
        note(f"{done.unreadable} frames could not be decoded and are missing")
