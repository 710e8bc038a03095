"""Writes what the program can say about itself: pages of ``docs/`` and the list of public names.

Run ``make docs``. A test fails when a page and the program differ.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import typer.main

import surface
from mien.cli.app import app
from mien.film import tables
from mien.labels import EIGHT
from mien.results import columns
from mien.zoo import catalog
from mien.zoo.card import ModelCard

__all__ = ["ROOT", "pages", "write"]

ROOT = Path(__file__).resolve().parents[1]
_NOTE = "<!-- Written by tools/docs.py; change the program, then run `make docs`. -->\n"


def pages() -> dict[str, str]:
    """Return the text of every generated file by its path in the repository."""
    return {
        "docs/columns.md": _columns(),
        "docs/cli.md": _cli(),
        "docs/models.md": _models(),
        "tests/public_surface.txt": "\n".join(surface.lines()) + "\n",
    }


def write() -> None:
    """Write every generated file."""
    for path, text in pages().items():
        (ROOT / path).write_text(text, encoding="utf-8")


def _table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _columns() -> str:
    arrays = _table(
        ("column of `Faces`", "in files", "dtype", "shape of a row", "unit", "where missing", "meaning"),
        (_column(c) for c in columns.ARRAYS),
    )
    derived = _table(
        ("in files", "dtype", "unit", "meaning"), ((f"`{c.name}`", _dtype(c), c.unit, c.doc) for c in columns.DERIVED)
    )
    reasons = _table(
        ("word", "value", "meaning"),
        ((f"`{member.words}`", str(member.value), doc.replace("``", "`")) for member, doc in _reasons()),
    )
    header = ",".join(columns.flat_names(EIGHT.labels))
    return f"""{_NOTE}# Columns

One row is one face. A picture or frame without a face, or one that cannot be read, is a row too: its `face` is -1, its
`reason` says why, and its other columns hold what the table gives under "where missing". In files a missing value is an
empty cell (CSV) or null (JSON Lines, Parquet).

{arrays}
The scores of the label set follow, one column a label, each in [0, 1]; they sum to 1, or are missing where the face was
not read. From them files get:

{derived}
## Reasons

A row may have several; files join the words by `|`.

{reasons}
## The tables of an index

What `mien film index` writes ([films](film.md)). Its face table has, beside all of the columns above:

{_index_table(tables.FACE_COLUMNS)}
The frame table, one row a frame that was read:

{_index_table(tables.FRAME_COLUMNS)}
The track table, one row a track, with the mean score of each label behind these:

{_index_table(tables.TRACK_COLUMNS)}
## Header

The header of a CSV file in the default layout, for the eight labels:

```
{header}
```
"""


def _index_table(declared: tuple[columns.Column, ...]) -> str:
    rows = ((f"`{c.name}`", _dtype(c), c.unit, "may be missing" if c.nullable else "", c.doc) for c in declared)
    return _table(("column", "dtype", "unit", "", "meaning"), rows)


def _dtype(column: columns.Column) -> str:
    return np.dtype(column.dtype).name.removesuffix("_").removesuffix("0")


def _column(c: columns.Column) -> tuple[str, ...]:
    missing = str(c.missing).replace("nan", "NaN") if c.nullable else "never missing"
    names = ", ".join(f"`{n}`" for n in c.names)
    return f"`{c.name}`", names, _dtype(c), str(c.shape) if c.shape else "one", c.unit, missing, c.doc


def _reasons() -> Iterator[tuple[columns.Reason, str]]:
    # Python keeps no docstring of a member; it is the string that follows it in the source.
    body = ast.parse(inspect.getsource(columns.Reason)).body[0].body  # type: ignore[attr-defined]  # a class has one
    for member, doc in pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(doc, ast.Expr) and isinstance(member.targets[0], ast.Name):
            yield columns.Reason[member.targets[0].id], ast.literal_eval(doc.value)


def _cli() -> str:
    group: Any = typer.main.get_command(app)
    parts = list(_commands("mien", group))
    return f"""{_NOTE}# The command line

{_sentence(group.help)}

Results go to stdout; progress, notes and errors to stderr. Exit codes: 0 done, 1 nothing to report (no face anywhere),
2 an input failed.

```
mien [--version] [--help] COMMAND ...
```

{chr(10).join(parts)}"""


def _commands(path: str, group: Any) -> Iterator[str]:
    """Give the section of every command, those of a group after it."""
    for name in sorted(group.list_commands(None)):
        command = group.get_command(None, name)
        if hasattr(command, "list_commands"):
            yield f"## {path} {name}\n\n{_sentence(command.help)}\n"
            yield from _commands(f"{path} {name}", command)
        else:
            yield _command(f"{path} {name}", command)


def _sentence(text: str | None) -> str:
    return inspect.cleandoc(text or "").split("\f")[0].strip()


def _command(path: str, command: Any) -> str:
    shown = [p for p in command.params if not getattr(p, "hidden", False) and p.name != "help"]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    options = [p for p in shown if p.param_type_name == "option"]
    text = (
        f"## {path}\n\n{_sentence(command.help)}\n\n```\n{' '.join([path, *map(_usage, arguments)])} [OPTIONS]\n```\n"
    )
    if arguments:
        text += "\n" + _table(("argument", "meaning"), ((f"`{_metavar(p)}`", p.help or "") for p in arguments))
    if options:
        text += "\n" + _table(
            ("option", "default", "meaning"),
            ((f"`{', '.join([*p.opts, *p.secondary_opts])}`", _default(p), p.help or "") for p in options),
        )
    return text


def _metavar(parameter: Any) -> str:
    return f"{parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}"


def _usage(parameter: Any) -> str:
    return _metavar(parameter) if parameter.required else f"[{_metavar(parameter)}]"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    # Not `in`: 0 equals False.
    return "" if parameter.default is None or parameter.default is False else f"`{parameter.default}`"


def _models() -> str:
    cards = [catalog.card(name) for name in catalog.names()]
    overview = _table(
        ("model", "task", "bytes", "parameters", "licence"),
        (
            (f"[{c.name}](#{c.name})", c.task, f"{c.size:,}", f"{c.parameters:,}" if c.parameters else "", c.licence)
            for c in cards
        ),
    )
    return f"""{_NOTE}# Models

Every model that mien uses, as its card says. `mien models NAME` prints a card.

{overview}
{chr(10).join(map(_card, cards))}"""


def _card(card: ModelCard) -> str:
    facts: dict[str, Any] = {
        "task": card.task,
        "file": f"`{card.file}`",
        "SHA-256": f"`{card.sha256}`",
        "licence": card.licence,
        "origin": card.origin,
        "data": card.data,
        "heads": "; ".join(f"`{h.name}` ({', '.join(h.labels)})" for h in card.heads),
        "date": card.date,
        "commit": card.commit,
    }
    text = f"## {card.name}\n\n{card.summary}.\n\n" + "".join(f"- {k}: {v}\n" for k, v in facts.items() if v)
    text += "".join(f"- note: {note}\n" for note in card.notes)
    if card.changes:
        text += "\n" + _table(
            ("quantised", "n", "before", "after"),
            ((c.what, f"{c.n:,}" if c.n else "", f"{c.before:.4g}", f"{c.after:.4g}") for c in card.changes),
        )
    if card.scores:
        text += "\n" + _table(
            ("data", "split", "n", "metric", "value", "95 % interval", "date"),
            (
                (s.data, s.split, f"{s.n:,}", s.metric, f"{s.value:.4g}", f"{s.low:.4g} to {s.high:.4g}", s.date)
                for s in card.scores
            ),
        )
    return text


if __name__ == "__main__":
    write()
