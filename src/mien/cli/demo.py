"""`mien demo`: the main job on pictures that ship inside dependencies."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..errors import MissingExtraError
from . import analyze as command
from .console import errors, note

__all__ = ["demo"]

# Public-domain portraits: NASA's of Eileen Collins, the US Navy's of Grace Hopper.
_PICTURES = {"skimage": "data/astronaut.png", "matplotlib": "mpl-data/sample_data/grace_hopper.jpg"}


def _pictures() -> list[Path]:
    found = []
    for package, inside in _PICTURES.items():
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            found += [p for p in [Path(folder) / inside] if p.is_file()]
    if not found:
        raise MissingExtraError("scikit-image", "demo")
    return found


def demo(
    to: Annotated[Path, typer.Option(help="Folder for the table and the annotated pictures.")] = Path("mien-demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Do the main job on portraits that ship inside dependencies, and say where the results are."""
    with errors():
        pictures = [str(p) for p in _pictures()]
    command.analyze(pictures, annotate=to, as_json=as_json)
    note(f"annotated pictures: {', '.join(str(p) for p in sorted(to.resolve().glob('*-mien.*')))}")
