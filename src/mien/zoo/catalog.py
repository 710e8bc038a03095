"""The models that mien knows, each a card."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from ..errors import UnknownModelError
from .card import InputSpec, ModelCard, read_card

__all__ = ["CATALOG", "card", "names"]

_WEIGHTS = Path(__file__).parent / "weights"

_MTCNN_ORIGIN = (
    "Zhang, Zhang, Li, Qiao: Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks, 2016; "
    "the authors' weights by way of facenet (David Sandberg), as the wheel mtcnn 1.0.0 (Iván de Paz Centeno) holds them"
)
_MTCNN_DATA = "WIDER FACE (boxes) and CelebA (points), as the paper says; no list of the pictures was published"
_MTCNN_NOTES = (
    "The wheel and facenet are MIT; the authors' own repository names no licence for the weights.",
    "Trained on photographs from the web: faces in masks, from the side and below about 20 px are often missed.",
)
_OPENCV_DATA = "not published"
_INTEL = (
    "Intel License Agreement For Open Source Computer Vision Library (BSD-3-Clause in substance), in the file's header"
)

_CARDS = (
    ModelCard(
        name="mtcnn-pnet",
        task="face detection, stage 1 of 3",
        file="mtcnn:assets/weights/pnet.lz4",
        sha256="ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
        size=27_119,
        licence="MIT (wheel and conversion)",
        origin=_MTCNN_ORIGIN,
        data=_MTCNN_DATA,
        summary="Proposes boxes, 12 px faces over a pyramid of sizes",
        parameters=6_632,
        input=InputSpec(width=12, height=12, low=-127.5 / 128, high=127.5 / 128),
        notes=_MTCNN_NOTES,
    ),
    ModelCard(
        name="mtcnn-rnet",
        task="face detection, stage 2 of 3",
        file="mtcnn:assets/weights/rnet.lz4",
        sha256="cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
        size=401_659,
        licence="MIT (wheel and conversion)",
        origin=_MTCNN_ORIGIN,
        data=_MTCNN_DATA,
        summary="Refines and rejects proposals, 24 px crops",
        parameters=100_178,
        input=InputSpec(width=24, height=24, low=-127.5 / 128, high=127.5 / 128),
        notes=_MTCNN_NOTES,
    ),
    ModelCard(
        name="mtcnn-onet",
        task="face detection, stage 3 of 3",
        file="mtcnn:assets/weights/onet.lz4",
        sha256="94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
        size=1_557_637,
        licence="MIT (wheel and conversion)",
        origin=_MTCNN_ORIGIN,
        data=_MTCNN_DATA,
        summary="Final boxes, scores and the five points, 48 px crops",
        parameters=389_040,
        input=InputSpec(width=48, height=48, low=-127.5 / 128, high=127.5 / 128),
        notes=_MTCNN_NOTES,
    ),
    ModelCard(
        name="haar-face",
        task="face detection",
        file="cv2:data/haarcascade_frontalface_default.xml",
        sha256="0f7d4527844eb514d4a4948e822da90fbb16a34a0bbbbc6adc6498747a5aafb0",
        size=930_127,
        licence=_INTEL,
        origin="Rainer Lienhart for OpenCV: stump-based 24×24 discrete AdaBoost frontal face detector",
        data=_OPENCV_DATA,
        summary="The frontal-face cascade that most tutorials use; no points",
        input=InputSpec(width=24, height=24, colour="grey", high=255.0),
    ),
    ModelCard(
        name="haar-face-alt2",
        task="face detection",
        file="cv2:data/haarcascade_frontalface_alt2.xml",
        sha256="7b0c967d9abbdfbde025eb9c786947d151b6426040d07a8f9562ed8fd90724b4",
        size=540_616,
        licence=_INTEL,
        origin="Rainer Lienhart for OpenCV: tree-based 20×20 gentle AdaBoost frontal face detector",
        data=_OPENCV_DATA,
        summary="The frontal-face cascade with fewer false finds; no points",
        input=InputSpec(width=20, height=20, colour="grey", high=255.0),
    ),
    ModelCard(
        name="haar-eye",
        task="eye detection",
        file="cv2:data/haarcascade_eye.xml",
        sha256="71cc64fc305a355dc60067880f6fbbd43dd155bd63ee3844661a1bda34b2fd8c",
        size=341_406,
        licence=_INTEL,
        origin="Shameem Hameed for OpenCV: stump-based 20×20 frontal eye detector",
        data=_OPENCV_DATA,
        summary="Confirms a face by its open eyes",
        input=InputSpec(width=20, height=20, colour="grey", high=255.0),
    ),
)

CATALOG: Mapping[str, ModelCard] = MappingProxyType({c.name: c for c in _CARDS})
"""The models whose bytes come with a dependency. Models of our own have their card beside their weights, as JSON."""


@cache
def _read(file: Path) -> ModelCard:
    return read_card(file)


def _bundled() -> dict[str, Path]:
    ending = ".card.json"
    found = {f.name.removesuffix(ending): f for f in _WEIGHTS.glob(f"*{ending}")}
    return dict(sorted(found.items()))


def names() -> tuple[str, ...]:
    """Return the names of all models that are present, ours first."""
    return (*_bundled(), *CATALOG)


def card(name: str) -> ModelCard:
    """Return the card of a model.

    Raises
    ------
    UnknownModelError
        If there is no model of that name; the message lists those there are.
    ModelError
        If the card beside a bundled model cannot be read.
    """
    if name in CATALOG:
        return CATALOG[name]
    bundled = _bundled()
    if name in bundled:
        return _read(bundled[name])
    raise UnknownModelError(name, names())
