"""A judgement written down: one HTML page, Markdown and JSON."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import OutputError
from ..render import plot
from .judgement import Judgement
from .report_html import page
from .report_text import markdown

__all__ = ["prepare", "write"]


def prepare(folder: str | Path) -> None:
    """Make a report's folder and see that the report can be drawn: before the work, not after it.

    Raises
    ------
    OutputError
        If the folder cannot be made.
    MissingExtraError
        If matplotlib is not installed.
    """
    plot.require()
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def write(judgement: Judgement, folder: str | Path, *, seed: int = 0) -> tuple[Path, Path, Path]:
    """Write ``report.html``, ``report.md`` and ``report.json`` into a folder, which is made if it is not there.

    Parameters
    ----------
    judgement
        What is written.
    folder
        Files of these names in it are replaced.
    seed
        Decides which random faces are shown.

    Returns
    -------
    tuple of Path
        The three files, the page first.

    Raises
    ------
    OutputError
        If a file cannot be written.
    MissingExtraError
        If matplotlib is not installed.
    """
    prepare(folder)
    place = Path(folder)
    texts = {
        "report.html": page(judgement, seed=seed),
        "report.md": markdown(judgement),
        "report.json": json.dumps(judgement.as_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    try:
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise _unwritable(place, error) from error
    return place / "report.html", place / "report.md", place / "report.json"


def _unwritable(folder: str | Path, error: OSError) -> OutputError:
    return OutputError(
        f"{folder}: the report cannot be written there ({error.strerror or error}); choose another folder"
    )
