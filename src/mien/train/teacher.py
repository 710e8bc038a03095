"""What trained models say of the faces to train on: targets that hold more than a label (Hinton et al. 2015).

arXiv 1503.02531. The answers are averaged over all teachers and over each picture and its mirror, once, and kept in the
run's folder under the SHA-256 of everything that they depend on.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import OptionError, UnknownLabelError
from ..labels import LabelSet, projection
from ..models.expression import Expression
from ..models.prepare import prepare
from ..results.files import replacing
from .trained import checkpoint_of, open_net

__all__ = ["Teacher", "answers", "open_teacher"]

_log = logging.getLogger(__name__)
_BATCH = 256

Scores = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained model: crops (N, H, W[, 3]) uint8 to the probabilities (N, K) of each of its heads."""

    file: Path
    heads: Mapping[str, LabelSet]
    read: Callable[[NDArray[np.uint8]], Scores]

    def match(self, name: str, labels: LabelSet) -> tuple[str, NDArray[np.float32]]:
        """Return the head that speaks for a pupil's, and the matrix that carries its scores over.

        The head of the same name comes first if its labels can be summed to the pupil's, then any other.

        Raises
        ------
        OptionError
            If no head can.
        """
        for head in sorted(self.heads, key=lambda h: h != name):
            try:
                return head, projection(self.heads[head], labels)
            except UnknownLabelError:
                continue
        held = "; ".join(",".join(own) for own in self.heads.values())
        msg = f"{self.file}: knows {held} and cannot teach {','.join(labels)}"
        raise OptionError(msg)


def open_teacher(path: str | Path) -> Teacher:
    """Open a run's folder, a checkpoint, or an ``.onnx`` with its card.

    Raises
    ------
    SourceNotFoundError
        If there is nothing.
    ModelError
        If it cannot be opened.
    """
    if Path(path).suffix == ".onnx":
        model = Expression(Path(path))
        heads = {head.name: head.labels for head in model.heads}
        return Teacher(Path(path), heads, lambda crops: dict(model.read(crops).scores))
    recipe, net = open_net(path)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = net.to(device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def read(crops: NDArray[np.uint8]) -> Scores:
        x = torch.from_numpy(prepare(crops, net.input)).to(device, memory_format=torch.channels_last)
        *logits, _embedding = net(x)
        return {h: torch.softmax(z.float(), 1).cpu().numpy() for h, z in zip(recipe.heads(), logits, strict=True)}

    return Teacher(checkpoint_of(path), recipe.heads(), read)


def answers(
    teachers: Sequence[str | Path], crops: NDArray[np.uint8], heads: Mapping[str, LabelSet], folder: str | Path
) -> Scores:
    """Return what teachers say of crops for each head of a pupil, from the folder if it is there.

    Parameters
    ----------
    teachers
        Runs, checkpoints or ONNX models, one or more.
    crops
        (N, H, W) or (N, H, W, 3) uint8.
    heads
        The pupil's label sets by head.
    folder
        Where the answers are kept, as ``teacher-….npz``.

    Returns
    -------
    dict
        (N, K) float32 by head; rows sum to 1.

    Raises
    ------
    OptionError
        If a teacher cannot speak for a head.
    """
    files = [checkpoint_of(t) for t in teachers]
    kept = Path(folder) / f"teacher-{_key(files, crops, heads)}.npz"
    if kept.is_file():
        with np.load(kept) as held:
            return {head: held[head] for head in heads}
    found = [_mirrored(open_teacher(t), crops, heads) for t in teachers]
    mean: Scores = {head: np.asarray(sum(f[head] for f in found) / len(found), np.float32) for head in heads}
    with replacing(kept) as temporary, temporary.open("wb") as out:
        np.savez(out, allow_pickle=False, **mean)
    return mean


def _key(files: Sequence[Path], crops: NDArray[np.uint8], heads: Mapping[str, LabelSet]) -> str:
    digest = hashlib.sha256(repr([(h, tuple(own)) for h, own in heads.items()]).encode())
    digest.update(repr(crops.shape).encode())
    digest.update(np.ascontiguousarray(crops).tobytes())
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _mirrored(teacher: Teacher, crops: NDArray[np.uint8], heads: Mapping[str, LabelSet]) -> Scores:
    matched = {head: teacher.match(head, labels) for head, labels in heads.items()}
    _log.info("%s answers for %d faces", teacher.file, len(crops))
    parts: dict[str, list[NDArray[np.float32]]] = {head: [] for head in heads}
    for view in _views(crops):
        both = [teacher.read(v) for v in view]
        for head, (name, matrix) in matched.items():
            parts[head].append(np.asarray((both[0][name] + both[1][name]) @ matrix / 2, np.float32))
    return {head: np.concatenate(p) for head, p in parts.items()}


def _views(crops: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    for i in range(0, len(crops), _BATCH):
        some = crops[i : i + _BATCH]
        yield some, np.ascontiguousarray(some[:, :, ::-1])
