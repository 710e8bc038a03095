"""From a training run to a model file: norms folded, temperatures fitted, ONNX checked against torch, card written."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..data.importers import LabelledFaces, read_fer2013
from ..data.split import split_training
from ..errors import ModelError, OutputError, SourceNotFoundError
from ..evaluate.metrics import Estimate
from ..evaluate.run import PartScores, Report, evaluate
from ..labels import EIGHT, SEVEN
from ..models.expression import Expression
from ..models.prepare import prepare
from ..zoo.card import Head, ModelCard, Score
from .loader import INPUT
from .nets import build
from .recipe import Recipe, read_recipe

__all__ = ["Answer", "export", "fit_temperature", "folded", "golden_crops", "load_net", "to_onnx"]

Template = tuple[tuple[float, float], ...]

OPSET = 18
GOLDEN_TOLERANCE = 1e-3
_SUMMARY = "Expression of a face: the share of votes that ten taggers would give eight expressions, and FER2013's label"
_NOTES = (
    "Names what a face shows and how people would label it, not what somebody feels.",
    "Learned from small, mostly frontal grey faces found on the web; disgust and contempt are rare in them.",
)
_OUTPUTS = ("crowd", "fer2013", "embedding")


@dataclass(frozen=True, slots=True)
class _Held:
    """The held-out faces, and what the net says about them before any temperature."""

    faces: LabelledFaces
    crowd: NDArray[np.float32]
    fer2013: NDArray[np.float32]


class Answer(nn.Module):  # type: ignore[misc, unused-ignore]  # torch may be absent
    """A trained net as it is shipped: probabilities, each head's logits divided by its temperature first."""

    def __init__(self, net: nn.Module, *, crowd: float, fer2013: float) -> None:
        super().__init__()
        self.net = net
        self.temperatures = (crowd, fer2013)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take (N, 1, H, W) as prepared; return ``crowd`` (N, 8), ``fer2013`` (N, 7) and ``embedding`` (N, D)."""
        crowd, fer2013, embedding = self.net(x)
        first, second = self.temperatures
        return torch.softmax(crowd / first, 1), torch.softmax(fer2013 / second, 1), embedding


def export(
    run: str | Path,
    to: str | Path,
    *,
    data: str | Path | None,
    name: str = "expression",
    template: Template | None = None,
    half: bool = True,
    date: str | None = None,
) -> ModelCard:
    """Make a model file of a training run, with its card and golden vectors beside it.

    Writes ``to``, and beside it ``.card.json`` and ``.golden.npz``, each under a temporary name first. The bytes of
    the model depend on the checkpoint, the data and the versions of torch and onnx alone.

    Parameters
    ----------
    run
        The folder of a run, with ``recipe.json`` and ``last.ckpt``.
    to
        The ``.onnx`` file to write; an existing one is replaced.
    data
        FER2013 with FER+ votes. The temperatures are fitted on the part of Training that the recipe held out; the
        scores are measured on PublicTest where the data has it, which decides nothing. None: no temperature, no score.
    name
        The model's name.
    template
        Where the five points lie in a crop, for the card; None: `models.align.FER2013_TEMPLATE`.
    half
        Keep the weights as float16, half the file; they are widened when the file is opened.
    date
        For the card, ``YYYY-MM-DD``; None: today.

    Returns
    -------
    ModelCard
        The card that was written.

    Raises
    ------
    SourceNotFoundError
        If the run has no checkpoint or no recipe.
    ModelError
        If the checkpoint does not fit the recipe, or the ONNX file does not answer as torch does.
    OutputError
        If the folder of ``to`` cannot be written.
    """
    target = Path(to)
    recipe, net = load_net(run)
    held = None if data is None else _held_out(net, data, recipe)
    temperatures = _temperatures(held)
    answer = Answer(net, **temperatures).eval()
    card = ModelCard(
        name=name,
        task="expression",
        file=f"weights/{target.name}",
        sha256="",
        size=0,
        licence=recipe.card.get("licence", "not stated"),
        origin=recipe.card.get("origin", f"trained with the recipe {recipe.name!r}"),
        data=recipe.card.get("data", "not stated"),
        summary=_SUMMARY,
        parameters=sum(p.numel() for p in net.parameters()),
        date=date or datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        commit=_commit(),
        input=replace(INPUT, template=template or _default_template()),
        labels=EIGHT,
        heads=(Head("crowd", EIGHT), Head("fer2013", SEVEN)),
        temperatures=tuple(temperatures.items()),
        notes=_NOTES,
    )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
            card = _write(Path(folder) / target.name, card, answer, held, data, half=half)
            for ending in (".golden.npz", ".card.json", ".onnx"):
                done = (Path(folder) / target.name).with_suffix(ending)
                done.replace(target.with_suffix(ending))
    except OSError as error:
        msg = f"{target}: cannot be written ({error.strerror or error}); name a file in a folder of yours"
        raise OutputError(msg) from error
    return card


def load_net(run: str | Path) -> tuple[Recipe, nn.Module]:
    """Return a run's recipe and its net with the averaged weights of ``last.ckpt``, norms folded, in eval mode.

    Raises
    ------
    SourceNotFoundError
        If the run has no checkpoint or no recipe.
    ModelError
        If the checkpoint does not fit the recipe.
    """
    folder = Path(run)
    recipe = read_recipe(folder / "recipe.json")
    checkpoint = folder / "last.ckpt"
    if not checkpoint.is_file():
        msg = f"{checkpoint}: no such checkpoint; train the recipe first"
        raise SourceNotFoundError(msg)
    net = build(recipe.net, **recipe.net_options)
    try:
        held = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        net.load_state_dict({k.removeprefix("net."): v for k, v in held.items()})
    except (RuntimeError, KeyError, ValueError) as error:
        msg = f"{checkpoint}: does not fit {folder / 'recipe.json'} ({str(error).splitlines()[0]})"
        raise ModelError(msg) from error
    return recipe, folded(net)


def folded(net: nn.Module) -> nn.Module:
    """Return a copy in eval mode whose batch norms have become part of the convolutions before them.

    Raises
    ------
    ModelError
        If a norm does not follow a convolution in a sequence.
    """
    net = deepcopy(net).eval()
    for parent in [m for m in net.modules() if isinstance(m, nn.Sequential)]:
        for i, (first, second) in enumerate(pairwise(list(parent))):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                parent[i], parent[i + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    if left := [n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)]:
        msg = f"the norm {left[0]} does not follow a convolution in an nn.Sequential and cannot be folded"
        raise ModelError(msg)
    return net


def fit_temperature(logits: NDArray[Any], target: NDArray[Any], weight: NDArray[Any] | None = None) -> float:
    """Return the temperature T that minimises the cross entropy of ``softmax(logits / T)`` (Guo et al. 2017).

    Parameters
    ----------
    logits, target
        (N, K) each; a row of ``target`` is a distribution.
    weight
        (N,) weight of each row; None: all alike.

    Returns
    -------
    float
        In [0.05, 20]; 1 where there is nothing to fit to.
    """
    z, t = logits.astype(np.float64), target.astype(np.float64)
    w = np.ones(len(z)) if weight is None else weight.astype(np.float64)
    if not w.sum():
        return 1.0

    def slope(scale: float) -> float:
        # The loss is convex in 1/T, so its derivative changes sign once.
        p = np.exp(scale * (z - z.max(1, keepdims=True)))
        p /= p.sum(1, keepdims=True)
        return float((w * ((p - t) * z).sum(1)).sum())

    low, high = 0.05, 20.0
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / float(np.sqrt(low * high))


def to_onnx(answer: nn.Module, *, half: bool) -> bytes:
    """Return a module that takes `INPUT` as the bytes of an ONNX file with a free batch size, all weights inside.

    With ``half``, matrices of weights are stored as float16 with a cast to float32 behind; ONNX Runtime folds the
    casts when it opens the file, so only the file gets smaller.
    """
    example = torch.zeros(2, 1, INPUT.height, INPUT.width)
    with _quiet_exporter():
        program = torch.onnx.export(
            answer.eval(),
            (example,),
            input_names=["input"],
            output_names=list(_OUTPUTS),
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    proto = program.model_proto
    _strip(proto)
    if half:
        _halve(proto)
    serialized: bytes = proto.SerializeToString(deterministic=True)
    return serialized


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


def _default_template() -> Template:
    from ..models.align import FER2013_TEMPLATE

    return tuple((float(x), float(y)) for x, y in FER2013_TEMPLATE)


def _held_out(net: nn.Module, data: str | Path, recipe: Recipe) -> _Held:
    faces = split_training(data, validation=recipe.validation, seed=recipe.seed).validation
    crowd, fer2013, _ = _run(net, faces.images)
    return _Held(faces, crowd, fer2013)


def _run(net: nn.Module, crops: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    with torch.inference_mode():
        parts = [net(torch.from_numpy(prepare(crops[i : i + 256], INPUT))) for i in range(0, len(crops), 256)]
    return [torch.cat(column).numpy() for column in zip(*parts, strict=True)]


def _temperatures(held: _Held | None) -> dict[str, float]:
    if held is None:
        return {"crowd": 1.0, "fer2013": 1.0}
    one_hot = np.eye(len(SEVEN))[held.faces.label]
    return {
        "crowd": fit_temperature(held.crowd, held.faces.crowd(), held.faces.crowd_weight()),
        "fer2013": fit_temperature(held.fer2013, one_hot),
    }


def _write(
    file: Path, card: ModelCard, answer: Answer, held: _Held | None, data: str | Path | None, *, half: bool
) -> ModelCard:
    """Write the three files and return the card with what was measured on them."""
    blob = to_onnx(answer, half=half)
    file.write_bytes(blob)
    card = replace(card, sha256=hashlib.sha256(blob).hexdigest(), size=len(blob))
    _write_card(file, card)
    model = Expression(file)
    crops = golden_crops()
    faces = crops if held is None else np.concatenate([crops, held.faces.images[:256]])
    _compare(model, answer, faces, tolerance=1e-3 if half else 1e-4)
    crowd, fer2013, _ = _run(answer, crops)
    np.savez(
        file.with_suffix(".golden.npz"),
        crops=crops,
        crowd=crowd,
        fer2013=fer2013,
        tolerance=np.float32(GOLDEN_TOLERANCE),
    )
    if data is not None and "PublicTest" in read_fer2013(data).split:
        card = replace(card, scores=tuple(_scores(evaluate(model, data), card)))
        _write_card(file, card)
    return card


def _write_card(file: Path, card: ModelCard) -> None:
    text = json.dumps(card.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    file.with_suffix(".card.json").write_text(text + "\n", encoding="utf-8")


def _compare(model: Expression, answer: Answer, crops: NDArray[np.uint8], *, tolerance: float) -> None:
    reading = model.read(crops)
    crowd, fer2013, _ = _run(answer, crops)
    gap = max(float(np.abs(reading.crowd - crowd).max()), float(np.abs(reading.fer2013 - fer2013).max()))
    if not gap <= tolerance:
        msg = f"the ONNX file differs from torch by {gap:.2g} on {len(crops)} faces; at most {tolerance:g} is allowed"
        raise ModelError(msg)


def _scores(report: Report, card: ModelCard) -> Iterator[Score]:
    for split, part in ((report.split, report.as_given), (f"{report.split}, de-duplicated", report.deduplicated)):
        for data, metric, found in _measured(part):
            yield Score(
                data=data,
                split=split,
                n=found.n,
                metric=metric,
                value=round(found.value, 4),
                low=round(found.low, 4),
                high=round(found.high, 4),
                date=card.date,
                commit=card.commit,
            )


def _measured(part: PartScores) -> Iterator[tuple[str, str, Estimate]]:
    if part.fer2013 is not None:
        yield "FER2013", "accuracy of the fer2013 head, 7 labels", part.fer2013.accuracy
        yield "FER2013", "balanced accuracy of the fer2013 head, 7 labels", part.fer2013.balanced_accuracy
    if part.crowd is not None:
        yield (
            "FER2013 with FER+ votes",
            "agreement of the crowd head with the first choice, 8 labels",
            (part.crowd.first_choice.accuracy),
        )
        yield (
            "FER2013 with FER+ votes",
            "agreement of the crowd head by the FER+ majority rule, 8 labels",
            (part.crowd.ferplus_majority),
        )


def _commit() -> str:
    """Return the short commit of the checkout that this file lies in, or nothing outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # nothing from outside
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Drop the exporter's warnings about its own use of torch and about torchvision, which nobody here can change."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _strip(proto: Any) -> None:
    """Drop what the exporter notes about the machine it ran on: traces, file names, its own version."""
    proto.producer_name, proto.producer_version, proto.doc_string = "mien", "", ""
    del proto.metadata_props[:]
    graph = proto.graph
    graph.doc_string = ""
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    # Shapes within the graph are inferred again by whoever opens it.
    del graph.value_info[:]


def _halve(proto: Any) -> None:
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = proto.graph, []
    for tensor in graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.ndim < 2:
            continue
        name, small = tensor.name, weights.astype(np.float16)
        if not np.isfinite(small).all():
            msg = f"the weights {name} reach {np.abs(weights).max():.3g}, beyond float16; export with half=False"
            raise ModelError(msg)
        tensor.CopyFrom(numpy_helper.from_array(small, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}.widen", to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
