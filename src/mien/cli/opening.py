"""Which model a command's argument means."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..errors import MissingExtraError
from ..models.expression import Expression
from ..zoo.catalog import names

__all__ = ["is_run", "needs_torch", "open_model"]


def needs_torch() -> None:
    """Make sure that what training needs is installed.

    Raises
    ------
    MissingExtraError
        If it is not; the message says what to install.
    """
    for package in ("torch", "lightning", "onnx", "onnxscript"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "train")


def is_run(text: str) -> bool:
    """Return whether a model is named by the folder of a training run or one of its checkpoints.

    A bundled model's name is that model, also where a folder has the name; write ``./expression`` for the folder.
    """
    return text.endswith(".ckpt") or (text not in names() and Path(text).is_dir())


def open_model(text: str, *, threads: int = 0) -> Expression:
    """Open the model that a command names.

    Parameters
    ----------
    text
        The name of a bundled model, the path of an ``.onnx`` with its card beside it, or a training run: its folder,
        whose last checkpoint is taken, or a ``.ckpt``. A run is exported to a temporary file, uncalibrated.
    threads
        Threads of ONNX Runtime; 0 lets it choose.

    Raises
    ------
    UnknownModelError, ModelError, IntegrityError
        If there is no such model or it cannot be used.
    SourceNotFoundError
        If the folder is no run.
    MissingExtraError
        If it is a run and torch is not installed.
    """
    if not is_run(text):
        return Expression(text, threads=threads)
    needs_torch()
    from ..train.export import open_run

    return open_run(text, threads=threads)
