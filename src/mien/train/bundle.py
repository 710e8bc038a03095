"""The three files of a model: the network, its card, and golden vectors that show it still answers as it did."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, OutputError
from ..models.expression import Reading
from ..zoo.card import ModelCard

__all__ = ["ENDINGS", "golden_crops", "placed", "strip", "write_card", "write_golden", "write_network"]

ENDINGS = (".golden.npz", ".card.json", ".onnx")


@contextmanager
def placed(target: Path) -> Iterator[Path]:
    """Give the path of a network in a folder of its own; its files take their place beside ``target`` at the end.

    Raises
    ------
    OptionError
        If ``target`` does not end in ``.onnx``.
    OutputError
        If they cannot be written there.
    """
    if target.suffix != ".onnx":
        msg = f"{target}: a model is written as .onnx; name it so"
        raise OptionError(msg)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            yield Path(folder) / target.name
            for ending in ENDINGS:
                (Path(folder) / target.name).with_suffix(ending).replace(target.with_suffix(ending))
    except OSError as error:
        msg = f"{target}: cannot be written ({error.strerror or error}); name a file in a folder of yours"
        raise OutputError(msg) from error


def strip(proto: Any) -> None:
    """Drop what an exporter notes about the machine it ran on: traces, file names, its own version."""
    proto.producer_name, proto.producer_version, proto.doc_string = "mien", "", ""
    del proto.metadata_props[:]
    graph = proto.graph
    graph.doc_string = ""
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    # Shapes within the graph are inferred again by whoever opens it.
    del graph.value_info[:]


def write_network(file: Path, blob: bytes, card: ModelCard) -> ModelCard:
    """Write a network and its card, with size and SHA-256 of the bytes, and return the card."""
    file.write_bytes(blob)
    card = replace(card, sha256=hashlib.sha256(blob).hexdigest(), size=len(blob))
    write_card(file, card)
    return card


def write_card(file: Path, card: ModelCard) -> None:
    """Write the card of a network beside it."""
    text = json.dumps(card.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    file.with_suffix(".card.json").write_text(text + "\n", encoding="utf-8")


def write_golden(file: Path, reading: Reading, tolerance: float) -> None:
    """Write what a network is to say about `golden_crops` beside it: an array a head, and how far it may be off."""
    arrays: dict[str, Any] = {"crops": golden_crops(), "tolerance": np.float32(tolerance), **reading.scores}
    np.savez(file.with_suffix(".golden.npz"), **arrays)


def golden_crops() -> NDArray[np.uint8]:
    """Draw eight pictures, (8, 48, 48) uint8: six faces of lines with different brows and mouths, and two of noise."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    rng = np.random.default_rng(2013)
    moods = [(c, o, b) for c, o in ((-0.9, 0.06), (0.0, 0.06), (0.9, 0.08)) for b in (-0.25, 0.25)]
    faces = [_drawn(x, y, curve=c, opening=o, brow=b) for c, o, b in moods]
    noise = [np.kron(rng.uniform(20, 235, (n, n)), np.ones((48 // n, 48 // n))) for n in (6, 16)]
    grain = rng.normal(0, 3, (8, 48, 48))
    return np.clip(np.rint(np.stack([*faces, *noise]) + grain), 0, 255).astype(np.uint8)


def _drawn(
    x: NDArray[np.float64], y: NDArray[np.float64], *, curve: float, opening: float, brow: float
) -> NDArray[np.float64]:
    side = np.abs(x)
    picture = 70 + 25 * x
    picture = np.where((x / 0.8) ** 2 + (y / 0.98) ** 2 < 1, 175 + 20 * y, picture)
    eyes = ((side - 0.36) / 0.14) ** 2 + ((y + 0.22) / 0.08) ** 2 < 1
    brows = (np.abs(side - 0.36) < 0.2) & (np.abs(y + 0.45 - brow * (0.36 - side)) < 0.05)
    nose = (side < 0.05) & (np.abs(y - 0.12) < 0.12)
    mouth = (side < 0.38) & (np.abs(y - 0.55 + curve * (x**2 - 0.07)) < opening)
    return np.where(eyes | brows | nose | mouth, 45.0, picture)
