"""What eight-bit integers cost and bring, and what exact rewrites of the graph do, on one thread.

    python benchmarks/quantization.py ../shared/data/fer2013 [--rounds 15] [--keep FOLDER]

Every form of the bundled expression model reads the same held-out Training faces, in turn and in batches of 32, so that
whatever else the machine does slows all alike; ratios of medians are what to quote. The eight-bit form is calibrated on
512 other Training faces. PublicTest is not read.
"""

import argparse
import copy
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from mien.data.split import Split, split_training
from mien.evaluate.run import truth
from mien.models.prepare import prepare
from mien.train.quantize import quantize
from mien.zoo.card import ModelCard
from mien.zoo.catalog import card
from mien.zoo.store import locate

BATCH = 32
LEVELS = ort.GraphOptimizationLevel


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the weights as float32, without casts."""
    graph = copy.deepcopy(model)
    held = {i.name: i for i in graph.graph.initializer}
    casts = [n for n in graph.graph.node if n.op_type == "Cast" and n.input[0] in held]
    for node in casts:
        wide = numpy_helper.to_array(held[node.input[0]]).astype(np.float32)
        held[node.input[0]].CopyFrom(numpy_helper.from_array(wide, node.output[0]))
        graph.graph.node.remove(node)
    return graph


def normalised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Bring a picture to mean 0 and variance 1 in one `LayerNormalization` instead of eight nodes."""
    graph = widened(model)
    nodes = list(graph.graph.node)
    first = next(i for i, n in enumerate(nodes) if n.op_type == "Conv")
    fed = nodes[first].input[0]
    one = numpy_helper.from_array(np.ones((1, 48, 48), np.float32), "one")
    graph.graph.initializer.append(one)
    norm = helper.make_node("LayerNormalization", [graph.graph.input[0].name, "one"], [fed], axis=1, epsilon=1e-4)
    del graph.graph.node[:]
    graph.graph.node.extend([norm, *nodes[first:]])
    return graph


def session(file: Path, level: ort.GraphOptimizationLevel = LEVELS.ORT_ENABLE_ALL) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.graph_optimization_level = 1, level
    options.log_severity_level = 3  # the rewritten graph leaves constants that nobody uses
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def forms(folder: Path, split: Split) -> dict[str, ort.InferenceSession]:
    file = Path(locate(card("expression")))
    model = onnx.load(file)
    onnx.save(widened(model), folder / "wide.onnx")
    onnx.save(normalised(model), folder / "norm.onnx")
    made = quantize("expression", folder / "int8.onnx", split)
    print(made.notes[-1])
    for change in made.changes:
        print(f"  {change.what}: {change.before:g} -> {change.after:g}" + (f" (n {change.n:,})" if change.n else ""))
    return {
        "as bundled (float16 weights)": session(file),
        "float32 weights": session(folder / "wide.onnx"),
        "one LayerNormalization": session(folder / "norm.onnx"),
        "without blocked layout": session(file, LEVELS.ORT_ENABLE_EXTENDED),
        "int8": session(folder / "int8.onnx"),
    }


def times(held: dict[str, ort.InferenceSession], x: np.ndarray, rounds: int) -> dict[str, np.ndarray]:
    found: dict[str, list[float]] = {name: [] for name in held}
    for turn in range(rounds + 3):
        for name, s in held.items():
            began = time.perf_counter()
            s.run(None, {"input": x[:BATCH]})
            if turn >= 3:
                found[name].append((time.perf_counter() - began) * 1000 / BATCH)
    return {name: np.array(t) for name, t in found.items()}


def scores(s: ort.InferenceSession, x: np.ndarray) -> dict[str, np.ndarray]:
    parts = [s.run(["crowd", "fer2013"], {"input": x[i : i + BATCH]}) for i in range(0, len(x), BATCH)]
    return dict(zip(("crowd", "fer2013"), map(np.concatenate, zip(*parts, strict=True)), strict=True))


def accuracies(said: dict[str, np.ndarray], split: Split, bundled: ModelCard) -> list[str]:
    words = []
    for head in bundled.heads:
        found = truth(split.validation, head)
        right = found.held(said[head.name]).argmax(1) == found.label
        words.append(f"{head.name} {right.mean():.4f} (n {len(right):,})")
    return words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--keep", type=Path, help="leave the files here")
    options = parser.parse_args()
    bundled = card("expression")
    split = split_training(options.data, validation=0.05, seed=1)
    x = prepare(split.validation.images, bundled.input)
    print(
        f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, ONNX Runtime {ort.__version__}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        held = forms(folder, split)
        took = times(held, x, options.rounds)
        first = next(iter(held))
        said = {name: scores(s, x) for name, s in held.items()}
        for name in held:
            low, middle, high = np.percentile(took[name], (25, 50, 75))
            ratio = np.median(took[first]) / middle
            gap = max(np.abs(said[name][h] - said[first][h]).max() for h in said[name])
            print(f"{name:30s} {middle:6.3f} ms a face ({low:.3f} to {high:.3f}), {ratio:4.2f} times as fast, ", end="")
            print(f"scores off by at most {gap:.1g}; {', '.join(accuracies(said[name], split, bundled))}")


if __name__ == "__main__":
    main()
