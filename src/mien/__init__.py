"""mien reads facial expressions in pictures, films and live video.

>>> import mien
>>> faces = mien.analyze("party.jpg")  # doctest: +SKIP
>>> faces.top  # doctest: +SKIP

Importing mien loads NumPy only; everything else is loaded where it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import client, compat, errors
    from .film.build import index_film
    from .film.index import Index
    from .labels import LabelSet
    from .media.stills import read_picture
    from .models.expression import Expression
    from .pipeline.analyzer import Analyzer, Settings
    from .pipeline.stream import analyze, stream
    from .render.overlay import annotate
    from .results.columns import Reason
    from .results.faces import Faces
    from .results.files import read_faces, write_faces
    from .zoo.catalog import card

__version__ = "0.1.0"

__all__ = [
    "Analyzer",
    "Expression",
    "Faces",
    "Index",
    "LabelSet",
    "Reason",
    "Settings",
    "__version__",
    "analyze",
    "annotate",
    "card",
    "client",
    "compat",
    "errors",
    "index_film",
    "read_faces",
    "read_picture",
    "stream",
    "write_faces",
]

_HOMES = {
    "Analyzer": ".pipeline.analyzer",
    "Expression": ".models.expression",
    "Faces": ".results.faces",
    "Index": ".film.index",
    "LabelSet": ".labels",
    "Reason": ".results.columns",
    "Settings": ".pipeline.analyzer",
    "analyze": ".pipeline.stream",
    "annotate": ".render.overlay",
    "card": ".zoo.catalog",
    "index_film": ".film.build",
    "read_faces": ".results.files",
    "read_picture": ".media.stills",
    "stream": ".pipeline.stream",
    "write_faces": ".results.files",
}


def __getattr__(name: str) -> Any:
    if name in {"client", "compat", "errors"}:
        return import_module(f".{name}", __name__)
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    msg = f"module 'mien' has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return __all__
