"""`mien serve`: the page and the API."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .console import errors, note

if TYPE_CHECKING:
    from ..serve.settings import ServeSettings
    from ..serve.start import Started

__all__ = ["serve"]

_UNITS = ((86_400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))


def serve(
    host: Annotated[str | None, typer.Option(help="Where to listen; default 127.0.0.1, 0.0.0.0 for all.")] = None,
    port: Annotated[str | None, typer.Option(help="Default 8000; 0 takes a free one.")] = None,
    workers: Annotated[str | None, typer.Option(help="Processes that answer; default 1.")] = None,
    token_file: Annotated[
        str | None, typer.Option(help="Who may ask, as `mien token` writes it; needed when others can reach it.")
    ] = None,
    tls: Annotated[str | None, typer.Option(help="self-signed, or the file of a certificate (PEM).")] = None,
    tls_key: Annotated[str | None, typer.Option(help="The file of its key (PEM).")] = None,
    state: Annotated[
        str | None, typer.Option(help="Folder of jobs, films, results; default ~/.local/state/mien.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option(help="How long films and results are kept: 90s, 15m, 24h, 7d; default 0.")
    ] = None,
    purpose: Annotated[
        str | None, typer.Option(help="What it is used for, as the page lists it; default: declare it on the page.")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(help="The address that people use, as https://faces.example, behind a proxy.")
    ] = None,
    hosts: Annotated[
        str | None, typer.Option(help="Further names by which it may be called, with commas between.")
    ] = None,
    fetch: Annotated[
        bool | None, typer.Option("--fetch/--no-fetch", help="Fetch pictures from addresses that clients name.")
    ] = None,
    proxy: Annotated[
        bool | None, typer.Option("--proxy/--no-proxy", help="A proxy on this machine says who asks.")
    ] = None,
    threads: Annotated[
        str | None, typer.Option(help="Pictures read at once in a process; default one a processor.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A bundled expression model, or an .onnx file with its card.")
    ] = None,
    detector: Annotated[str | None, typer.Option(help="mtcnn, haar or haar-alt2.")] = None,
    min_face: Annotated[str | None, typer.Option(help="Smallest face to look for, pixels; default 20.")] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="A limit, as pixels=20M or body_bytes=16MB; can be given several times.")
    ] = None,
    log: Annotated[str | None, typer.Option(help="Form of the log on stderr: text or json.")] = None,
) -> None:
    """Serve the page and the API until Ctrl-C.

    Each option can also be said in the environment: MIEN_PORT for --port, MIEN_TOKEN_FILE for --token-file, and so on,
    MIEN_LIMITS with commas between for --limit; what is said here goes before it.

    Exit code 0: ended by SIGTERM; 2: it cannot be started; 130: ended by Ctrl-C.
    """
    with errors():
        from ..serve import environment, start

        given = {
            "host": host,
            "port": port,
            "workers": workers,
            "token_file": token_file,
            "tls": tls,
            "tls_key": tls_key,
            "state": state,
            "keep": keep,
            "purpose": purpose,
            "origin": origin,
            "hosts": hosts,
            "fetch": _word(fetch),
            "proxy": _word(proxy),
            "threads": threads,
            "model": model,
            "detector": detector,
            "min_face": min_face,
            "limits": ",".join(limit) if limit else None,
            "log": log,
        }
        settings, form = environment.read(given, os.environ)
        ended = start.run(settings, log=form, announce=_announce)
        if ended:
            note("mien: stopped")
        raise typer.Exit(ended)


def _word(flag: bool | None) -> str | None:
    return None if flag is None else ("yes" if flag else "no")


def _announce(started: Started) -> None:
    people = sys.stderr.isatty()
    console = Console(stderr=True, highlight=False, width=None if people else 240)
    s = started.settings
    rows = {
        "page": started.address,
        "purpose": started.purpose or "declare it on the page; nothing is read before",
        "tokens": _tokens(started.tokens),
        "kept": _kept(s),
        "state": str(s.state),
        "limits": _limits(s),
    }
    if started.fingerprint:
        rows["SHA-256"] = f"{started.fingerprint} (certificate)"
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, Text(text))
    console.print(table)
    if people and not _local(s):
        _draw(started.address)
    note("Ctrl-C ends it.")


def _local(settings: ServeSettings) -> bool:
    from ..serve.settings import is_loopback

    return is_loopback(settings.host) and settings.origin is None


def _draw(address: str) -> None:
    import segno

    segno.make(address, micro=False).terminal(out=sys.stderr, compact=True)


def _tokens(number: int | None) -> str:
    if number is None:
        return "nobody is asked for one; only this machine can reach the page"
    return f"{number} in the token file"


def _kept(settings: ServeSettings) -> str:
    if settings.keep:
        return f"films and results for {_time(settings.keep)} after a job; of pictures and cameras nothing"
    return f"nothing; results of films wait {_time(settings.limits.hand_over)} to be fetched"


def _limits(settings: ServeSettings) -> str:
    held = settings.limits
    return (
        f"{held.pictures} pictures a request, {_size(held.body_bytes)}, {held.pixels / 1e6:g} megapixels each; "
        f"films {_size(held.film_bytes)}, {_time(held.film_seconds)}; "
        f"{held.waiting} waiting, {held.streams} cameras, {settings.workers} × {settings.threads} threads"
    )


def _time(seconds: float) -> str:
    for each, name in _UNITS:
        if seconds >= each:
            number = round(seconds / each, 2)
            return f"{number:g} {name}{'' if number == 1 else 's'}"
    return f"{seconds:g} seconds"


def _size(number: int) -> str:
    for power, name in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >= 1 << power:
            return f"{round(number / (1 << power), 1):g} {name}"
    return f"{number} bytes"
