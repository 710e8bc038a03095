"""Why a model says what it says of a crop: feature maps, Grad-CAM, an occlusion map, the whole mixture of scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, OptionError, ShapeError, SourceError
from ..image import Picture, grey
from ..labels import LabelSet
from ..models.align import crop as crop_faces
from ..models.base import Boxes
from ..models.detect import detector
from ..models.expression import Expression
from ..models.prepare import prepare
from ..zoo.card import Head
from .graph_cut import Graph, Layer, Tail, model_file

__all__ = ["Explainer", "Explanation", "channel_slopes", "grad_cam", "occlusion"]

STEP = 1e-2
"""Step of the central difference, in root mean squares of the layer; tests/train/test_explain_torch.py holds it."""

PATCH, STRIDE = 0.2, 0.0625
"""Side of the grey patch and distance of two of its places, as shares of the crop's shorter side."""

MIN_FACE = 20
"""Smallest face that is looked for, pixels: what `analyze` looks for."""

_CALL = 64

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What a model says of one crop, and what it looks at.

    Attributes
    ----------
    model, head, label
        The model, and the head and label that were explained.
    scores
        By head: its label set and (K,) float32 scores that sum to 1, the whole mixture.
    crop
        (H, W) or (H, W, 3) uint8, what the model was shown; grey where it sees no colour.
    maps
        By layer name: (C, h, w) float32 feature maps.
    cam_layer
        The layer whose maps Grad-CAM weighs.
    cam
        (H, W) float32 in [0, 1], where the layer's evidence for the label lies; all 0 where there is none.
    occlusion
        (H, W) float32, how far the label's score falls when a grey patch covers a place; negative where it rises.
    patch
        Side of that patch, pixels.
    """

    model: str
    head: str
    label: str
    scores: Mapping[str, tuple[LabelSet, Floats]]
    crop: NDArray[np.uint8]
    maps: Mapping[str, Floats]
    cam_layer: str
    cam: Floats
    occlusion: Floats
    patch: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; of the feature maps only their shapes."""
        scores = {
            name: dict(zip(labels, values.tolist(), strict=True)) for name, (labels, values) in self.scores.items()
        }
        return {
            "model": self.model,
            "head": self.head,
            "label": self.label,
            "scores": scores,
            "maps": {name: list(maps.shape) for name, maps in self.maps.items()},
            "grad_cam": {"layer": self.cam_layer, "map": self.cam.tolist()},
            "occlusion": {"patch": self.patch, "map": self.occlusion.tolist()},
        }


class Explainer:
    """A model opened for explanations.

    Parameters
    ----------
    model
        An open expression model.
    threads
        Threads of ONNX Runtime; 0: one a processor.

    Raises
    ------
    MissingExtraError
        If `onnx` is not installed.
    ModelError
        If the network has no layer with feature maps.
    """

    def __init__(self, model: Expression, *, threads: int = 0) -> None:
        spec = model.card.input
        if spec is None:
            msg = f"model {model.card.name!r}: its card does not say what goes in"
            raise ModelError(msg)
        self._spec, self._model, self._threads = spec, model, threads
        blank = np.zeros((1, spec.height, spec.width), np.uint8)
        self.graph = Graph(model_file(model), prepare(blank, spec), threads=threads)

    def faces(self, picture: Picture, *, name: str = "picture") -> tuple[Boxes, NDArray[np.uint8]]:
        """Find the faces of a photograph, as `analyze` does: the boxes, best first, and the aligned crops.

        Parameters
        ----------
        picture
            (H, W, 3) uint8 RGB.
        name
            What it is called in messages.

        Raises
        ------
        SourceError
            If no face is found.
        """
        boxes = detector("mtcnn", min_face=MIN_FACE, threads=self._threads)(picture)
        if not len(boxes):
            msg = f"{name}: no face found; is it a ready crop? say --crop"
            raise SourceError(msg)
        return boxes, crop_faces(picture, boxes, self._spec)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that have feature maps, first to last."""
        return self.graph.layers

    def explain(
        self,
        crop: NDArray[np.uint8],
        *,
        head: str | None = None,
        label: str | None = None,
        layers: Sequence[str | int] = (),
    ) -> Explanation:
        """Explain one crop.

        Parameters
        ----------
        crop
            (H, W) or (H, W, 3) uint8, framed as the model's card says.
        head
            Which answer to explain; the first if not given.
        label
            Which label to explain; the head's best if not given.
        layers
            Names or places of the layers whose maps are wanted, Grad-CAM at the last of them. Without any: the maps of
            the second and third stage (of the last two where there are fewer), Grad-CAM at the last stage.

        Raises
        ------
        OptionError
            If there is no such head or layer.
        UnknownLabelError
            If the head has no such label.
        ShapeError
            If the crop is not one picture.
        """
        if crop.ndim not in {2, 3}:
            raise ShapeError("crop", "(H, W) or (H, W, 3) uint8", crop.shape)
        asked = self._head(head)
        shown, cam_layer = self._layers(layers)
        reading = self._model.read(crop[None])
        scores = {h.name: (h.labels, reading.scores[h.name][0]) for h in self._model.heads}
        place = asked.labels.index(label) if label else int(scores[asked.name][1].argmax())
        fed = prepare(crop[None], self._spec)
        tail = self.graph.tail(cam_layer, self.graph.logits(asked.name), fed)
        cam = grad_cam(tail, self.graph.maps(cam_layer, fed), place, batch=self.graph.batch)
        patch = max(1, round(PATCH * min(crop.shape[:2])))
        return Explanation(
            model=self._model.card.name,
            head=asked.name,
            label=asked.labels.labels[place],
            scores=scores,
            crop=grey(crop[None])[0].round().astype(np.uint8)
            if self._spec.colour == "grey" and crop.ndim == 3
            else crop,
            maps={layer.name: self.graph.maps(layer, fed)[0] for layer in shown},
            cam_layer=cam_layer.name,
            cam=_spread(cam, crop.shape[:2]),
            occlusion=occlusion(lambda c: self._model.read(c).scores[asked.name], crop, place, patch=patch),
            patch=patch,
        )

    def _head(self, name: str | None) -> Head:
        held = {h.name: h for h in self._model.heads}
        if name is None:
            return self._model.heads[0]
        if name not in held:
            msg = f"no head {name!r}; {self._model.card.name} has {', '.join(held)}"
            raise OptionError(msg)
        return held[name]

    def _layers(self, wanted: Sequence[str | int]) -> tuple[list[Layer], Layer]:
        if wanted:
            asked = [self.graph.layer(w) for w in wanted]
            return asked, asked[-1]
        stages = self.graph.stages()
        return list(stages[1:3] if len(stages) > 2 else stages[-2:]), stages[-1]


def channel_slopes(tail: Tail, maps: Floats, place: int, *, step: float = STEP, batch: int = _CALL) -> Floats:
    """Return how fast a logit grows when a constant is added to each channel, divided by the channel's places.

    This is the spatial mean of dY/dA_k, the channel weight of Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391,
    equation 1), by a central difference in place of automatic differentiation: dY/dA_k summed over the places is the
    derivative of Y in the direction that is 1 on channel k and 0 elsewhere.

    Parameters
    ----------
    tail
        From (B, C, h, w) to logits (B, K).
    maps
        (1, C, h, w) float32.
    place
        Which of the K logits.
    step
        In root mean squares of the maps. Small steps drown in the rounding of float32, large ones cross the kinks of
        ReLU.
    batch
        Rows a call.

    Returns
    -------
    ndarray
        (C,) float32.
    """
    channels, places = maps.shape[1], maps.shape[2] * maps.shape[3]
    size = step * (float(np.sqrt(np.square(maps, dtype=np.float64).mean())) or 1.0)
    moves = [(k, sign) for k in range(channels) for sign in (1, -1)]
    values = np.empty(2 * channels, np.float64)
    for start in range(0, len(moves), batch):
        part = moves[start : start + batch]
        rows = np.repeat(maps, len(part), axis=0)
        for row, (k, sign) in enumerate(part):
            rows[row, k] += np.float32(sign * size)
        values[start : start + len(part)] = tail(rows)[:, place]
    slopes: Floats = ((values[0::2] - values[1::2]) / (2 * size * places)).astype(np.float32)
    return slopes


def grad_cam(tail: Tail, maps: Floats, place: int, *, step: float = STEP, batch: int = _CALL) -> Floats:
    """Return Grad-CAM of one label at a layer: ReLU of the maps' sum, each weighed by its slope.

    Selvaraju et al. 2017, arXiv 1610.02391, equation 2.

    Parameters
    ----------
    tail, maps, place, step, batch
        See `channel_slopes`.

    Returns
    -------
    ndarray
        (h, w) float32, 0 or more.
    """
    slopes = channel_slopes(tail, maps, place, step=step, batch=batch)
    summed: Floats = np.einsum("k,khw->hw", slopes, maps[0])
    return np.maximum(summed, 0)


def occlusion(
    classify: Callable[[NDArray[np.uint8]], Floats],
    crop: NDArray[np.uint8],
    place: int,
    *,
    patch: int,
    stride: int | None = None,
) -> Floats:
    """Return how far a score falls when a patch of the crop's mean colour covers a place.

    A patch slides over the crop (Zeiler and Fergus 2014, arXiv 1311.2901, figure 6); each pixel gets the mean fall
    over all patches that covered it.

    Parameters
    ----------
    classify
        Any classifier: (N, H, W) or (N, H, W, 3) uint8 crops to (N, K) scores.
    crop
        (H, W) or (H, W, 3) uint8.
    place
        Which of the K scores.
    patch, stride
        Side of the patch, and distance of two of its places, pixels. Without a stride it is a sixteenth of the crop.

    Returns
    -------
    ndarray
        (H, W) float32 in [-1, 1] for scores in [0, 1].

    Raises
    ------
    OptionError
        If the patch is smaller than a pixel or larger than the crop.
    """
    height, width = crop.shape[:2]
    if not 1 <= patch <= min(height, width):
        msg = f"the patch is {patch} pixels wide; on a crop of {width}×{height} it must be 1 to {min(height, width)}"
        raise OptionError(msg)
    apart = stride or max(1, round(STRIDE * min(height, width)))
    corners = [(y, x) for y in _starts(height, patch, apart) for x in _starts(width, patch, apart)]
    mean = np.round(crop.reshape(-1, *crop.shape[2:]).mean(0)).astype(np.uint8)
    whole = float(classify(crop[None])[0, place])
    total, times = np.zeros((height, width)), np.zeros((height, width))
    for start in range(0, len(corners), _CALL):
        part = corners[start : start + _CALL]
        covered = np.repeat(crop[None], len(part), axis=0)
        for row, (y, x) in enumerate(part):
            covered[row, y : y + patch, x : x + patch] = mean
        for (y, x), score in zip(part, classify(covered)[:, place], strict=True):
            total[y : y + patch, x : x + patch] += whole - float(score)
            times[y : y + patch, x : x + patch] += 1
    return (total / times).astype(np.float32)


def _starts(length: int, patch: int, apart: int) -> list[int]:
    """Return where a patch starts so that it covers all of a length, the last one flush with the end."""
    last = length - patch
    return sorted({*range(0, last, apart), last})


def _spread(cam: Floats, size: tuple[int, ...]) -> Floats:
    """Return a map at the crop's size, its highest place 1."""
    wide = np.maximum(cv2.resize(cam, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), 0)
    top = float(wide.max())
    return np.asarray(wide / top if top > 0 else wide, np.float32)
