"""What all commands share: where things are printed, how errors end them, how progress is shown."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ..errors import MienError

__all__ = ["INPUT_FAILED", "INTERRUPTED", "NOTHING", "answer", "errors", "fail", "meter", "note", "table_console"]

NOTHING, INPUT_FAILED, INTERRUPTED = 1, 2, 130


def note(line: str) -> None:
    """Print a line for people, on stderr."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def fail(line: str) -> NoReturn:
    """Print one line on stderr and end with exit code 2."""
    note(f"mien: {line}")
    raise typer.Exit(INPUT_FAILED)


def answer(document: dict[str, Any]) -> None:
    """Print one JSON document on stdout; a missing number is ``null``."""
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def table_console() -> Console:
    """Return where tables go: the terminal, or plain and wide text when stdout is none."""
    return Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=160, no_color=True, highlight=False)


@contextmanager
def errors() -> Iterator[None]:
    """Turn mien's errors into one line and exit code 2, a second Ctrl-C or a broken pipe into a quiet end."""
    try:
        yield
    except MienError as error:
        fail(str(error))
    except KeyboardInterrupt:
        note("mien: stopped")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        raise typer.Exit(0) from None


@contextmanager
def meter(*, shown: bool, unit: str) -> Iterator[tuple[Progress | None, TaskID]]:
    """Show progress with rate and time left on stderr, where that is a terminal, and take it away at the end."""
    console = Console(stderr=True)
    if not (shown and console.is_terminal):
        yield None, TaskID(0)
        return
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} " + unit + "/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with progress:
        yield progress, progress.add_task("", total=None, rate="–")
