"""`mien token`: a token for somebody who may use the service."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .console import errors, note

__all__ = ["token"]


class _RoleName(StrEnum):
    VIEWER = "viewer"
    USER = "user"
    ADMIN = "admin"


def token(
    name: Annotated[str, typer.Argument(help="Whom it is for: letters, digits, _ . and -.", show_default=False)],
    role: Annotated[
        _RoleName,
        typer.Option(
            help="viewer: see models and what is stored; user: analyze, own jobs; admin: all jobs, measures, purpose."
        ),
    ] = _RoleName.USER,
    rate: Annotated[float | None, typer.Option(help="At most so many requests a minute.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Add it to this token file, made when missing; else the line is printed.")
    ] = None,
) -> None:
    """Make a token for `mien serve --token-file`; it is shown once, the file holds its hash only.

    The token is the first line of the output.
    """
    with errors():
        from ..serve.token_file import append
        from ..serve.tokens import Role, make_token

        made, line = make_token(name, Role[role.name], rate)
        if file is not None:
            append(file, line)
        sys.stdout.write(f"{made}\n" if file else f"{made}\n{line}\n")
        where = f"{file} holds its hash" if file else "the second line goes into the token file"
        note(f"this token is shown only now; {where}")
