"""An ONNX file that somebody else made: what goes in and what comes out, in the user's words, and how to run it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError, OptionError
from ...labels import canonical
from ...models.prepare import prepare
from ...zoo.card import InputSpec
from ...zoo.session import open_session

__all__ = ["Description", "Foreign", "describe", "is_foreign"]

_BATCH = 64
_WORDS = ("labels", "range", "size", "colour", "mean", "std", "scores", "output")
_COLOURS = {"grey": 1, "rgb": 3, "bgr": 3}
_SCORES = ("probabilities", "logits")


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Everything about a foreign network that its file does not say.

    Attributes
    ----------
    file
        The ONNX file.
    labels
        In the order of its scores, in mien's spelling where mien knows the word.
    width, height
        Pixels that go in.
    colour
        ``grey``, ``rgb`` or ``bgr``.
    low, high
        Where the pixel values 0 and 255 go.
    mean, std
        What is then taken off and divided by, one number or one a channel.
    channels_last
        Whether the file takes (N, H, W, C).
    scores
        ``probabilities`` or ``logits``; a softmax makes the latter into the former.
    output
        Name of the output that holds the scores.
    """

    file: str
    labels: tuple[str, ...]
    width: int
    height: int
    colour: str
    low: float
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels_last: bool
    scores: str
    output: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Self:
        """Undo `as_dict`, also after JSON."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        return cls(**plain)


class Foreign:
    """A foreign network as a classifier: (N, H, W) or (N, H, W, 3) uint8 RGB crops to (N, K) float32 probabilities.

    Raises
    ------
    ModelError
        If ONNX Runtime cannot open the file.
    """

    def __init__(self, described: Description, *, threads: int = 0) -> None:
        self._described = d = described
        self._session = open_session(Path(d.file), threads=threads)
        entry = self._session.get_inputs()[0]
        self._input, self._batch = entry.name, 1 if entry.shape[0] == 1 else _BATCH
        grey = d.colour == "grey"
        self._spec = InputSpec(width=d.width, height=d.height, colour="grey" if grey else "rgb", low=d.low, high=d.high)

    def __call__(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Score crops, at most 64 a call of the network."""
        parts = [self._run(crops[i : i + self._batch]) for i in range(0, len(crops), self._batch)]
        return np.concatenate(parts) if parts else np.empty((0, len(self._described.labels)), np.float32)

    def _run(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        d = self._described
        fed = prepare(crops, self._spec)
        fed = fed[:, ::-1] if d.colour == "bgr" else fed
        fed = (fed - _planes(d.mean)) / _planes(d.std)
        fed = np.ascontiguousarray(np.moveaxis(fed, 1, 3) if d.channels_last else fed)
        scores = np.asarray(self._session.run([d.output], {self._input: fed})[0], np.float32)
        if scores.shape != (len(crops), len(d.labels)):
            msg = f"{d.file}: it gives scores of shape {scores.shape} for {len(crops)} crops; labels names \
{len(d.labels)}"
            raise ModelError(msg)
        return _softmax(scores) if d.scores == "logits" else scores


def is_foreign(text: str) -> bool:
    """Return whether a model is named as a foreign ONNX file: ``net.onnx:labels=…``, or described beside."""
    path = Path(text)
    return ".onnx:" in text or (path.suffix == ".onnx" and not path.with_suffix(".card.json").is_file())


def describe(text: str) -> Description:
    """Read how the user describes a foreign ONNX file.

    Parameters
    ----------
    text
        ``net.onnx:labels=angry,happy;range=0..1;size=64``, or ``net.onnx`` alone with the same words in a
        ``net.toml`` or ``net.json`` beside it. ``labels`` and ``range`` are needed. ``size`` (``64`` or ``64x48``,
        width first) and ``colour`` (``grey``, ``rgb``, ``bgr``) are read from the file where it fixes them (three
        channels: ``rgb``). ``mean`` and ``std`` are 0 and 1, ``scores`` is ``probabilities``, ``output`` the first.

    Raises
    ------
    ModelError
        If there is no such file, ONNX Runtime cannot open it, or it takes no pictures.
    OptionError
        If a word is missing, unknown, or says what the file contradicts.
    """
    name, _, words = text.partition(".onnx:")
    file = Path(f"{name}.onnx" if words else text)
    if not file.is_file():
        msg = f"{file}: no such model file"
        raise ModelError(msg)
    said = _beside(file) | _inline(file, words)
    if unknown := sorted(set(said) - set(_WORDS)):
        msg = f"{file}: unknown word {unknown[0]!r} in its description; there are {', '.join(_WORDS)}"
        raise OptionError(msg)
    if missing := [word for word in ("labels", "range") if word not in said]:
        msg = f"{file}: its {' and '.join(missing)} must be told, for example \
{file.name}:labels=angry,happy,sad;range=0..1, or in a {file.stem}.toml beside it"
        raise OptionError(msg)
    return _resolved(file, said)


def _resolved(file: Path, said: Mapping[str, Any]) -> Description:
    session = open_session(file)
    shape, outputs = session.get_inputs()[0].shape, [o.name for o in session.get_outputs()]
    if len(shape) != 4:
        msg = f"{file}: its input has the shape {shape}; a network that takes pictures has four dimensions"
        raise ModelError(msg)
    last = shape[3] in {1, 3} and shape[1] not in {1, 3}
    channels, rows, columns = (shape[3], *shape[1:3]) if last else shape[1:]
    low, high = _range(file, said["range"])
    width, height = _size(file, said.get("size"), rows, columns)
    colour = str(said.get("colour") or {1: "grey", 3: "rgb"}.get(channels, ""))
    _one_of(file, "colour", colour, tuple(_COLOURS))
    if isinstance(channels, int) and channels != _COLOURS[colour]:
        msg = f"{file}: colour={colour} has {_COLOURS[colour]} channels, the file takes {channels}"
        raise OptionError(msg)
    return Description(
        file=str(file.resolve()),
        labels=tuple(canonical(w) for w in _words(said["labels"])),
        width=width,
        height=height,
        colour=colour,
        low=low,
        high=high,
        mean=_numbers(file, "mean", said.get("mean", 0), _COLOURS[colour]),
        std=_numbers(file, "std", said.get("std", 1), _COLOURS[colour]),
        channels_last=last,
        scores=_one_of(file, "scores", str(said.get("scores", _SCORES[0])), _SCORES),
        output=_one_of(file, "output", str(said.get("output", outputs[0])), tuple(outputs)),
    )


def _inline(file: Path, words: str) -> dict[str, Any]:
    pairs = [part.partition("=") for part in words.split(";") if part.strip()]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        msg = f"{file}: {wrong[0]!r} in its description is no word=value; divide several by ;"
        raise OptionError(msg)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _beside(file: Path) -> dict[str, Any]:
    for beside, read in ((file.with_suffix(".toml"), tomllib.loads), (file.with_suffix(".json"), json.loads)):
        if beside.is_file():
            try:
                return dict(read(beside.read_text(encoding="utf-8")))
            except (ValueError, TypeError) as error:
                msg = f"{beside}: cannot read this description ({error})"
                raise OptionError(msg) from error
    return {}


def _words(value: object) -> list[str]:
    return [str(v).strip() for v in (value if isinstance(value, list) else str(value).split(","))]


def _range(file: Path, value: object) -> tuple[float, float]:
    ends = value if isinstance(value, list) else str(value).split("..")
    try:
        low, high = (float(v) for v in ends)
    except (TypeError, ValueError):
        msg = f"{file}: range is {value!r}; say where 0 and 255 go, as 0..1, -1..1 or 0..255"
        raise OptionError(msg) from None
    return low, high


def _size(file: Path, value: object, rows: object, columns: object) -> tuple[int, int]:
    try:
        given = value if isinstance(value, list) else str(value).split("x") if value is not None else []
        sides = [int(v) for v in given]
    except (TypeError, ValueError):
        sides = [0]
    fixed = isinstance(rows, int) and isinstance(columns, int)
    width, height = (sides[0], sides[-1]) if sides else (columns, rows) if fixed else (0, 0)
    if len(sides) > 2 or not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        msg = f"{file}: size is {value!r}; the file does not fix it, so say it as size=64 or size=64x48"
        raise OptionError(msg)
    if fixed and (columns, rows) != (width, height):
        msg = f"{file}: size is {width}x{height}, the file takes {columns}x{rows}"
        raise OptionError(msg)
    return width, height


def _numbers(file: Path, word: str, value: object, channels: int) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in _words(value))
    except ValueError:
        numbers = ()
    if len(numbers) not in {1, channels} or (word == "std" and 0 in numbers):
        msg = f"{file}: {word} is {value!r}; give one number or {channels}, divided by commas"
        raise OptionError(msg)
    return numbers


def _one_of(file: Path, word: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        msg = f"{file}: {word} is {value!r}; it must be {', '.join(known)}"
        raise OptionError(msg)
    return value


def _planes(values: tuple[float, ...]) -> NDArray[np.float32]:
    return np.array(values, np.float32).reshape(1, -1, 1, 1)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(1, keepdims=True)
    return shares
