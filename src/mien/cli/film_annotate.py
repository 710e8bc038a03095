"""`mien film annotate`: a film with what its index says drawn into it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..film.annotated import Annotated as Result
from ..film.annotated import annotate_film
from ..film.index import Index
from .console import NOTHING, answer, errors, meter, note
from .film_extract import Decoding
from .film_query import asked

__all__ = ["annotate"]


def annotate(
    index: Annotated[Path, typer.Argument(help="An index, of `mien film index`.", show_default=False)],
    query: Annotated[str, typer.Argument(help="Draw only the faces that it finds, as for `mien film query`.")] = "",
    out: Annotated[
        Path | None, typer.Option(help="The annotated film; default beside the index, -annotated.mp4.")
    ] = None,
    film: Annotated[Path | None, typer.Option(help="Where the film is, if it is no longer where it was.")] = None,
    anonymize: Annotated[
        str | None, typer.Option(help="Cover faces: others (those of tracks that the query did not find), or all.")
    ] = None,
    how: Annotated[str, typer.Option(help="How faces are covered: pixelate or blur.")] = "pixelate",
    slow: Annotated[float, typer.Option(help="Play so many times as slowly, without sound.")] = 1.0,
    bridge: Annotated[int, typer.Option(min=0, help="So many missing frames in a row do not end a stretch.")] = 0,
    smooth: Annotated[
        str | None, typer.Option(help="Smooth the scores first: exponential:0.5 (seconds), median:5 (frames).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Draw boxes, expressions and tracks over a film, with its sound, by its index alone; no model runs.

    Exit code 0: done; 1: the query found nothing; 2: it failed; 130: stopped.
    """
    with errors():
        opened = Index.open(index)
        found = asked(opened, query, bridge=bridge, smooth=smooth) if query.strip() else None
        if found is not None and not len(found):
            note(f"mien: {found.query!r} found nothing in {index}")
            raise typer.Exit(NOTHING)
        target = out or index.with_name(f"{index.stem}-annotated.mp4")
        with meter(shown=not (quiet or as_json), unit="frames") as (bar, task):
            done = annotate_film(
                opened,
                target,
                found=found,
                film=film,
                anonymize=anonymize,
                how=how,
                slow=slow,
                listener=Decoding(bar, task),
            )
        if as_json:
            answer(_document(done))
        elif not quiet:
            _summary(done, slow)


def _document(done: Result) -> dict[str, object]:
    return {
        "out": str(done.path),
        "frames": done.frames,
        "frames_unreadable": done.unreadable,
        "sound": done.sound,
        "seconds": round(done.seconds, 3),
        "film_seconds": round(done.film_seconds, 3),
        "realtime_factor": round(done.realtime, 3),
    }


def _summary(done: Result, slow: float) -> None:
    sound = "" if done.sound else ", without sound since it is slowed" if slow != 1 else ", without sound"
    note(f"wrote {done.frames} frames to {done.path}{sound}")
    if done.unreadable:
        note(f"{done.unreadable} frames could not be decoded; the picture before stands for each")
    note(f"{done.film_seconds:.1f} s of film in {done.seconds:.1f} s: {done.realtime:.1f} × realtime")
