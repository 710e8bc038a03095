"""`mien film timeline`: a film's expressions over time as one page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from .console import answer, errors, meter, note

__all__ = ["timeline"]


def timeline(
    index: Annotated[Path, typer.Argument(help="An index that `mien film index` made.")],
    out: Annotated[Path, typer.Option(help="The page to write, .html.")],
    smooth: Annotated[
        str, typer.Option(help="none, exponential:SECONDS or median:FRAMES, as exponential:0.3.")
    ] = "none",
    query: Annotated[str, typer.Option(help="Mark what this query finds, as 'happy for 8 frames'.")] = "",
    pictures: Annotated[int, typer.Option(help="Pictures of the film to keep in the page at most; 0: none.")] = 300,
    film: Annotated[Path | None, typer.Option(help="Where the film is, if it was moved.")] = None,
    link: Annotated[
        bool, typer.Option("--link/--no-link", help="Let the page play the film's own file, where it can reach it.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
) -> None:
    """Write a film's expressions over time as one HTML page: a lane for each track; a click shows the frame."""
    with errors():
        from ..film.index import Index
        from ..film.timeline import timeline as made
        from ..track.smooth import Smoothing

        opened, how = Index.open(index), Smoothing.parse(smooth)
        with _progress(shown=not (as_json or quiet)) as tell:
            done = made(opened, out, smooth=how, query=query, pictures=pictures, film=film, link=link, tell=tell)
        counts = {name: len(done.document[name]) for name in ("tracks", "stills", "spans")}
        if as_json:
            answer({"page": str(done.path), "bytes": done.bytes, **counts, "notes": done.document["notes"]})
            return
        for line in done.document["notes"]:
            note(line)
        if not quiet:
            told = ", ".join(f"{n:,} {name}" for name, n in counts.items() if n or name != "spans")
            typer.echo(f"{done.path}: {told}, {done.bytes / 1e6:.1f} MB")


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[int, int], None]]:
    begun, told = time.monotonic(), 0.0
    with meter(shown=shown, unit="frames") as (bar, task):

        def tell(done: int, total: int) -> None:
            nonlocal told
            now = time.monotonic()
            if bar and (now - told > 0.1 or done == total):
                told = now
                rate = f"{done / max(now - begun, 1e-6):.0f}"
                bar.update(task, description="pictures", completed=done, total=total, rate=rate)

        yield tell
