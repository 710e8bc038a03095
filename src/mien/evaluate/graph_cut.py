"""An ONNX network that can be looked into: its layers, their feature maps, and the part that lies behind a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtraError, ModelError, OptionError
from ..models.expression import Expression
from ..zoo.session import open_session

__all__ = ["Graph", "Layer", "Tail", "model_file"]

_BATCH = 64
_SQUASHES = ("Softmax", "LogSoftmax", "Sigmoid")
_SCALES = ("Div", "Mul")
_LISTED = 12

Array = NDArray[Any]
Tail = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Feature maps (B, C, h, w) of a layer in, logits (B, K) out."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that gives feature maps: its place in the list, its name in the file, its operation and (C, h, w)."""

    index: int
    name: str
    kind: str
    shape: tuple[int, int, int]

    def __str__(self) -> str:
        channels, height, width = self.shape
        return f"{self.index} {self.name} ({self.kind}, {channels} maps of {height}×{width})"


class Graph:
    """A network from an ONNX file, opened by the `onnx` package so that it can be cut at any layer.

    Layers are the values behind the first convolution that have four dimensions and more than one place.

    Parameters
    ----------
    file
        The ONNX file.
    fed
        (1, C, H, W) float32, one prepared picture: what decides the shapes, which files seldom state.
    threads
        Threads of ONNX Runtime; 0: one a processor.

    Raises
    ------
    MissingExtraError
        If `onnx` is not installed.
    ModelError
        If the file is no network that ONNX Runtime can run, or has no layer with feature maps.
    """

    def __init__(self, file: Path, fed: NDArray[np.float32], *, threads: int = 0) -> None:
        self._model = _load(file)
        self._file, self._fed, self._threads = file, fed, threads
        graph = self._model.graph
        self._constants = {i.name for i in graph.initializer}
        entry = next(i for i in graph.input if i.name not in self._constants)
        self._input = str(entry.name)
        self.batch = 1 if entry.type.tensor_type.shape.dim[0].dim_value == 1 else _BATCH
        self._maker = {out: n for n in graph.node for out in n.output if out}
        self._values = self._probe()
        self.layers = self._find_layers()
        if not self.layers:
            msg = f"{file}: no layer gives feature maps (none lies behind a convolution); explain a convolutional one"
            raise ModelError(msg)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the network's outputs."""
        return tuple(o.name for o in self._model.graph.output)

    def layer(self, wanted: str | int) -> Layer:
        """Return a layer by its name or its place in the list; a negative place counts from the end.

        Raises
        ------
        OptionError
            If there is none; the message lists some that there are.
        """
        by_name = {layer.name: layer for layer in self.layers}
        if wanted in by_name:
            return by_name[str(wanted)]
        try:
            return self.layers[int(wanted)]
        except (ValueError, IndexError):
            some = ", ".join(layer.name for layer in self.layers[-_LISTED:])
            msg = f"no layer {wanted!r}; there are 0 to {len(self.layers) - 1}, the last ones are {some}"
            raise OptionError(msg) from None

    def stages(self) -> tuple[Layer, ...]:
        """Return the last layer of each size: what a stage gives before the next one shrinks it."""
        last = {layer.shape[1:]: layer for layer in self.layers}
        return tuple(sorted(last.values(), key=lambda layer: layer.index))

    def maps(self, layer: Layer, fed: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the feature maps of a layer, (N, C, h, w) float32, for N prepared pictures."""
        return np.asarray(self._run(fed, [layer.name])[layer.name], np.float32)

    def logits(self, output: str) -> str:
        """Return the name of the value that an output's probabilities are made of, before any temperature.

        An output that no Softmax, LogSoftmax or Sigmoid makes is its own logits.

        Raises
        ------
        ModelError
            If there is no such output.
        """
        if output not in self.outputs:
            msg = f"{self._file}: no output {output!r}; it has {', '.join(self.outputs)}"
            raise ModelError(msg)
        squash = self._maker.get(output)
        if squash is None or squash.op_type not in _SQUASHES:
            return output
        name = str(squash.input[0])
        scale = self._maker.get(name)
        while scale is not None and scale.op_type in _SCALES and scale.input[1] in self._fixed():
            name = str(scale.input[0])
            scale = self._maker.get(name)
        return name

    def tail(self, layer: Layer, target: str, fed: NDArray[np.float32]) -> Tail:
        """Return the part of the network from a layer to a value, everything beside the layer as for this picture.

        Paths that do not pass the layer, as those around a residual block, keep the values that they have for ``fed``.

        Raises
        ------
        ModelError
            If the value does not depend on the layer.
        """
        behind = self._behind({layer.name})
        if target not in behind:
            msg = f"{self._file}: layer {layer.name} does not lead to {target}; choose an earlier one (--list-layers)"
            raise ModelError(msg)
        nodes, beside = self._between(layer.name, target, behind)
        held = self._run(fed, sorted(beside - {self._input})) | {self._input: fed}
        held = {name: held[name] for name in beside}
        sizes = {layer.name: self._values[layer.name]} | {n: (v.dtype, v.shape) for n, v in held.items()}
        session = open_session(self._cut(nodes, sizes, target), threads=self._threads)

        def run(maps: NDArray[np.float32]) -> NDArray[np.float32]:
            others = {name: np.repeat(v, len(maps), axis=0) for name, v in held.items()}
            return np.asarray(session.run([target], {layer.name: maps, **others})[0], np.float32)

        return run

    def _fixed(self) -> set[str]:
        made = {out for n in self._model.graph.node if n.op_type == "Constant" for out in n.output}
        return self._constants | made

    def _probe(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Run the network once for the dtype and shape of every value that depends on the picture."""
        seen = self._run(self._fed, sorted(self._behind({self._input}) - {self._input}))
        return {n: (v.dtype, v.shape) for n, v in seen.items() if isinstance(v, np.ndarray)}

    def _find_layers(self) -> tuple[Layer, ...]:
        first = {out for n in self._model.graph.node if n.op_type == "Conv" for out in n.output}
        found = [n for n in self._values if n in self._behind(first) and _is_maps(*self._values[n])]
        order = {name: i for i, name in enumerate(self._maker)}
        found.sort(key=order.__getitem__)
        shapes = [self._values[name][1][1:] for name in found]
        return tuple(
            Layer(i, name, str(self._maker[name].op_type), (shape[0], shape[1], shape[2]))
            for i, (name, shape) in enumerate(zip(found, shapes, strict=True))
        )

    def _behind(self, names: set[str]) -> set[str]:
        """Return the given values and all that are made from them; an ONNX file lists its nodes in order."""
        reached = set(names)
        for n in self._model.graph.node:
            if reached.intersection(_reads(n)):
                reached.update(filter(None, n.output))
        return reached

    def _between(self, cut: str, target: str, behind: set[str]) -> tuple[list[Any], set[str]]:
        """Return the nodes that make the target from the cut, in order, and the values that they take from beside."""
        wanted, beside, waiting = set(), set(), [target]
        while waiting:
            name = waiting.pop()
            if name == self._input or (name not in behind and self._is_batched(name)):
                beside.add(name)
            elif name != cut and name in self._maker and name not in wanted:
                wanted.add(name)
                waiting.extend(_reads(self._maker[name]))
        nodes = [n for n in self._model.graph.node if wanted.intersection(n.output)]
        return nodes, beside

    def _is_batched(self, name: str) -> bool:
        # A whole number may be a batch size, which a repeated value would tell wrongly: it is made again.
        dtype, shape = self._values.get(name, (np.dtype(np.int64), ()))
        return np.issubdtype(dtype, np.floating) and len(shape) > 1 and shape[0] == 1

    def _cut(self, nodes: list[Any], inputs: Mapping[str, tuple[np.dtype[Any], Iterable[int]]], target: str) -> bytes:
        from onnx import helper

        entries = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), ["N", *list(shape)[1:]])
            for name, (dtype, shape) in inputs.items()
        ]
        read = {name for n in nodes for name in _reads(n)}
        constants = [i for i in self._model.graph.initializer if i.name in read]
        graph = helper.make_graph(nodes, "tail", entries, [_untyped(target)], constants)
        model = helper.make_model(
            graph,
            opset_imports=self._model.opset_import,
            functions=self._model.functions,
            ir_version=self._model.ir_version,
        )
        return bytes(model.SerializeToString())

    def _run(self, fed: NDArray[np.float32], names: list[str]) -> dict[str, Any]:
        if not names:
            return {}
        model = type(self._model)()
        model.CopyFrom(self._model)
        del model.graph.output[:]
        model.graph.output.extend(_untyped(name) for name in names)
        session = open_session(model.SerializeToString(), threads=self._threads)
        return dict(zip(names, session.run(names, {self._input: fed}), strict=True))


def model_file(model: Expression) -> Path:
    """Return the file that an open model was read from."""
    return Path(model._session._model_path)


def _load(file: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "report") from error
    try:
        return onnx.load(str(file))
    except Exception as error:  # onnx lets through what protobuf and the file system raise
        msg = f"{file}: not an ONNX file ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise ModelError(msg) from error


def _untyped(name: str) -> Any:
    from onnx import ValueInfoProto

    return ValueInfoProto(name=name)


def _reads(node: Any) -> Iterator[str]:
    """Yield what a node reads, and what the graphs inside it read from outside."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs):
            for held in inner.node:
                yield from _reads(held)


def _is_maps(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
    return np.issubdtype(dtype, np.floating) and len(shape) == 4 and shape[0] == 1 and shape[2] * shape[3] > 1
