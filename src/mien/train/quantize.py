"""Eight-bit integers instead of floats: static quantisation after training, chosen and measured on held-out faces."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.importers import LabelledFaces
from ..data.split import Split
from ..errors import DataError, MissingExtraError, ModelError
from ..evaluate.run import truth
from ..models.expression import Expression, Reading
from ..models.prepare import prepare
from ..zoo import store
from ..zoo.card import Change, Head, ModelCard
from ..zoo.runtime import ort
from .bundle import golden_crops, placed, strip, write_golden, write_network

__all__ = ["METHODS", "Choice", "quantize"]

METHODS = ("MinMax", "Entropy", "Percentile")
"""How the range of a layer's values is found: all of it, the part that keeps most information, or 99.999 % of it."""

GOLDEN_TOLERANCE = 0.02
"""Integer kernels round in places that differ between processors, and a value at an edge then moves a whole step."""

_FACES, _BATCH, _COMPARED, _ROUNDS = 512, 32, 256, 15
_MEAN_GAP = 1e-3
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_QUANTISED = (*_WEIGHTED, "Add", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool")
_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to quantise: how ranges are found, and whether the first and the last layers stay floats."""

    method: str
    edges_in_float: bool

    def __str__(self) -> str:
        return f"{self.method}, first and last layers {'in float' if self.edges_in_float else 'quantised too'}"


def quantize(
    model: str | Path, to: str | Path, faces: Split, *, name: str | None = None, calibrate: int = _FACES
) -> ModelCard:
    """Write a model again with eight-bit weights and values, with its card and golden vectors beside it.

    Convolutions and dense layers become integer arithmetic (QDQ form; weights signed, symmetric, a scale a channel;
    values unsigned). Weights use seven of their eight bits: then sums fit the 16 bits in which processors without
    VNNI add, and the file answers alike everywhere. Ranges are found by one of `METHODS`, and the first and the last
    layers may stay floats, whichever has the lowest loss on the held-out faces. The same model, faces and version of
    ONNX Runtime give the same bytes; only the milliseconds in the card differ.

    Parameters
    ----------
    model
        The path of an ``.onnx`` with its card, or a bundled model's name.
    to
        The ``.onnx`` to write.
    faces
        ``train``: faces to find ranges on. ``validation``: faces to choose and to measure the loss on. Test faces have
        no place here.
    name
        The new model's name; None: the old one's, ending in ``-int8`` where it is another file.
    calibrate
        At most so many faces of ``train`` are used.

    Returns
    -------
    ModelCard
        The card that was written. Its ``changes`` say what it cost and brought: accuracy and likelihood loss of each
        head on the held-out faces, bytes, and milliseconds a face on one thread in batches of 32. Its ``scores`` are
        empty: those of the floats do not hold for it.

    Raises
    ------
    MissingExtraError
        If onnx is not installed.
    ModelError
        If the model cannot be opened or has no layer to quantise, or the integer kernels do not answer as the same
        arithmetic in floats does.
    DataError
        If no held-out face can be held against a head of the model.
    OutputError
        If the file cannot be written.
    """
    source = Expression(model, threads=1)
    old = _file(model, source.card)
    graph = _widened(old)
    fed = _batches(faces.train, source.card, calibrate)
    with tempfile.TemporaryDirectory(prefix="mien-int8-") as folder:
        found = _best(graph, fed, source.card, faces.validation, Path(folder))
        new = Expression(found.file, threads=1)
        _check(found.file, new, faces.validation)
        changes = (
            *_changes(_judged(source, faces.validation), found.scores),
            Change(what="size of the file, bytes", n=0, before=source.card.size, after=new.card.size),
            _speed(source, new, faces.validation),
        )
        renamed = name or (source.card.name if Path(to) == Path(model) else f"{source.card.name}-int8")
        card = replace(
            new.card, name=renamed, changes=changes, scores=(), notes=(*source.card.notes, _note(found.choice, fed))
        )
        with placed(Path(to)) as file:
            card = write_network(file, found.file.read_bytes(), replace(card, file=f"weights/{file.name}"))
            write_golden(file, Expression(file, threads=1).read(golden_crops()), GOLDEN_TOLERANCE)
    return card


@dataclass(frozen=True, slots=True)
class _Judged:
    """How a head does: faces held against it, how many are named right, and the mean loss in nats."""

    n: int
    right: float
    loss: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    choice: Choice
    file: Path
    scores: Mapping[str, _Judged]

    @property
    def loss(self) -> float:
        return sum(s.loss for s in self.scores.values())


def _best(graph: Any, fed: list[NDArray[np.float32]], card: ModelCard, held: LabelledFaces, folder: Path) -> _Candidate:
    """Return the best way: first of the methods, then, with that, of the edges."""

    def tried(choice: Choice) -> _Candidate:
        file = folder / f"{choice.method}-{choice.edges_in_float}.onnx"
        write_network(file, _quantised(graph, fed, choice), card)
        return _Candidate(choice, file, _judged(Expression(file, threads=1), held))

    best = min((tried(Choice(m, edges_in_float=False)) for m in METHODS), key=lambda c: c.loss)
    return min(best, tried(Choice(best.choice.method, edges_in_float=True)), key=lambda c: c.loss)


def _file(model: str | Path, card: ModelCard) -> Path:
    path = Path(model)
    return path if path.suffix == ".onnx" else Path(store.locate(card))


def _widened(file: Path) -> Any:
    """Return the graph with float32 weights where the file has float16 and a cast, and a name for every node."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingExtraError("onnx", "train") from error
    graph = onnx.load(file)
    held = {tensor.name: tensor for tensor in graph.graph.initializer}
    kept = []
    for node in graph.graph.node:
        if node.op_type == "Cast" and node.input[0] in held:
            tensor = held[node.input[0]]
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, node.output[0]))
        else:
            kept.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(kept)
    for i, node in enumerate(graph.graph.node):
        node.name = f"{node.op_type}_{i}"
    if not any(node.op_type in _WEIGHTED for node in kept):
        msg = f"{file}: no layer that can be quantised, such as {', '.join(_WEIGHTED)}"
        raise ModelError(msg)
    return graph


def _batches(train: LabelledFaces, card: ModelCard, most: int) -> list[NDArray[np.float32]]:
    """Return faces spread evenly over the set, prepared, in batches of one size."""
    count = min(most, len(train))
    size = min(_BATCH, count)
    if not count or card.input is None:
        msg = "there is no face to calibrate with"
        raise DataError(msg)
    chosen = np.linspace(0, len(train) - 1, count).astype(int)[: count // size * size]
    fed = prepare(train.images[chosen], card.input)
    return [fed[i : i + size] for i in range(0, len(fed), size)]


class _Reader:
    """Batches in the form in which ONNX Runtime's quantiser asks for them."""

    def __init__(self, fed: list[NDArray[np.float32]], name: str) -> None:
        self._fed, self._name = fed, name
        self._left: Iterator[NDArray[np.float32]] = iter(fed)

    def __len__(self) -> int:
        return len(self._fed)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._left = iter(self._fed[start_index:end_index])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._left, None)
        return None if batch is None else {self._name: batch}


def _quantised(graph: Any, fed: list[NDArray[np.float32]], choice: Choice) -> bytes:
    """Return the bytes of the graph with integers in it."""
    import onnx
    from onnxruntime import quantization as q
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.ModelProto()
    model.CopyFrom(graph)
    # What the quantiser wants done before is done; without this note it advises to do it.
    add_pre_process_metadata(model)
    spared = [*_before_weights(graph), *(_edges(graph) if choice.edges_in_float else ())]
    with tempfile.TemporaryDirectory(prefix="mien-int8-") as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder) / "int8.onnx"
        q.quantize_static(
            model,
            file,
            _Reader(fed, graph.graph.input[0].name),
            quant_format=q.QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            nodes_to_exclude=spared,
            per_channel=True,
            reduce_range=True,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            calibrate_method=q.CalibrationMethod[choice.method],
            # One batch after the other: all values of all layers of all batches would take gigabytes.
            extra_options={"CalibStridedMinMax": 1},
        )
        made = onnx.load(file)
    strip(made)
    serialized: bytes = made.SerializeToString(deterministic=True)
    return serialized


def _before_weights(graph: Any) -> list[str]:
    """Return the nodes that come before every weight, such as those that standardise a picture; they stay floats."""
    weighted: set[str] = set()
    before = []
    for node in graph.graph.node:
        if node.op_type in _WEIGHTED or weighted & set(node.input):
            weighted |= set(node.output)
        else:
            before.append(node.name)
    return before


def _edges(graph: Any) -> list[str]:
    """Return the first node with weights, and those whose outcome meets no other weights."""
    nodes = [node for node in graph.graph.node if node.op_type in _WEIGHTED]
    needed: set[str] = set()
    last = []
    for node in reversed(graph.graph.node):
        below = bool(needed & set(node.output))
        if node.op_type in _WEIGHTED and not below:
            last.append(node.name)
        if node.op_type in _WEIGHTED or below:
            needed |= set(node.input)
    return [nodes[0].name, *last]


def _judged(model: Expression, faces: LabelledFaces) -> dict[str, _Judged]:
    """Hold every head against the faces."""
    reading = model.read(faces.images)
    held: dict[str, _Judged] = {}
    reasons = []
    for head in model.heads:
        try:
            held[head.name] = _against(reading, head, faces)
        except DataError as error:
            reasons.append(str(error))
    if not held:
        raise DataError("; ".join(dict.fromkeys(reasons)))
    return held


def _against(reading: Reading, head: Head, faces: LabelledFaces) -> _Judged:
    found = truth(faces, head)
    scores = np.asarray(found.held(reading.scores[head.name]), np.float64)
    target = np.eye(len(found.labels))[found.label] if found.target is None else found.target.astype(np.float64)
    right, loss = scores.argmax(1) == found.label, -(target * np.log(np.maximum(scores, _TINY))).sum(1)
    return _Judged(len(scores), float(right.mean()), float(loss.mean()))


def _changes(before: Mapping[str, _Judged], after: Mapping[str, _Judged]) -> Iterator[Change]:
    for head, new in after.items():
        old, where = before[head], f"of the {head} head, held-out faces of Training"
        yield Change(what=f"accuracy {where}", n=new.n, before=round(old.right, 4), after=round(new.right, 4))
        yield Change(
            what=f"likelihood loss {where}, nats", n=new.n, before=round(old.loss, 4), after=round(new.loss, 4)
        )


def _speed(old: Expression, new: Expression, faces: LabelledFaces) -> Change:
    """Time both in turn, so that whatever else the machine does slows both alike."""
    crops = np.resize(faces.images, (_BATCH, *faces.images.shape[1:]))
    seconds: dict[int, list[float]] = {0: [], 1: []}
    for turn in range(_ROUNDS + 2):
        for i, model in enumerate((old, new)):
            began = time.perf_counter()
            model.read(crops)
            if turn >= 2:
                seconds[i].append(time.perf_counter() - began)
    before, after = (float(np.median(seconds[i])) * 1000 / _BATCH for i in (0, 1))
    return Change(
        what=f"milliseconds a face, one thread, batches of {_BATCH}",
        n=_BATCH,
        before=round(before, 3),
        after=round(after, 3),
    )


def _check(file: Path, model: Expression, held: LabelledFaces) -> None:
    """Compare the integer kernels with the same graph worked through in floats."""
    drawn = _gaps(file, model, golden_crops()).max()
    mean = _gaps(file, model, held.images[:_COMPARED]).mean()
    if not (drawn <= GOLDEN_TOLERANCE and mean <= _MEAN_GAP):
        msg = (
            f"the integer kernels differ from the same arithmetic in floats by {drawn:.2g} on drawn faces and by "
            f"{mean:.2g} in the mean on held-out ones; at most {GOLDEN_TOLERANCE:g} and {_MEAN_GAP:g} are allowed"
        )
        raise ModelError(msg)


def _gaps(file: Path, model: Expression, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    plain = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names, spec = [head.name for head in model.heads], model.card.input
    if spec is None:
        msg = f"{file}: its card does not say what goes in"
        raise ModelError(msg)
    said, reading = plain.run(names, {plain.get_inputs()[0].name: prepare(crops, spec)}), model.read(crops)
    gaps = [np.abs(s - reading.scores[n]).ravel() for n, s in zip(names, said, strict=True)]
    return np.concatenate(gaps).astype(np.float32)


def _note(choice: Choice, fed: list[NDArray[np.float32]]) -> str:
    count = sum(len(batch) for batch in fed)
    return f"Quantised to eight-bit integers ({choice}); ranges from {count} training faces."
