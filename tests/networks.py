"""Small expression models that tests make and can work out by hand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mien.labels import EIGHT, SEVEN, LabelSet
from mien.zoo.card import Head, InputSpec, ModelCard

SPEC = InputSpec(width=48, height=48, colour="grey", template=((0.3, 0.4),) * 5)
HEADS = (Head("crowd", EIGHT), Head("fer2013", SEVEN))


def network(
    heads: tuple[Head, ...] = HEADS, outputs: tuple[str, ...] | None = None
) -> tuple[bytes, dict[str, np.ndarray]]:
    """Softmax heads on a linear embedding of the pixels."""
    rng = np.random.default_rng(1)
    weights = {"embed": rng.normal(0, 0.05, (2304, 16))}
    weights |= {f"to_{h.name}": rng.normal(0, 1, (16, len(h.labels))) for h in heads}
    weights = {k: v.astype(np.float32) for k, v in weights.items()}
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "embed"], ["embedding"]),
        *(
            node
            for head in (h.name for h in heads)
            for node in (
                helper.make_node("MatMul", ["embedding", f"to_{head}"], [f"{head}_logits"]),
                helper.make_node("Softmax", [f"{head}_logits"], [head], axis=1),
            )
        ),
    ]
    widths = {h.name: len(h.labels) for h in heads} | {"embedding": 16}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 1, 48, 48])],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, ["N", widths[o]]) for o in outputs or widths],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString(), weights


def write(folder: Path, blob: bytes, **changes: object) -> Path:
    file = folder / "tiny.onnx"
    file.write_bytes(blob)
    card = ModelCard(
        name="tiny",
        task="expression",
        file="weights/tiny.onnx",
        sha256=hashlib.sha256(blob).hexdigest(),
        size=len(blob),
        licence="MIT",
        origin="made by this test",
        data="none",
        input=SPEC,
        labels=EIGHT,
        heads=HEADS,
    )
    (folder / "tiny.card.json").write_text(json.dumps(replace(card, **changes).as_dict()), encoding="utf-8")
    return file


MOODS = Head("labels", LabelSet("custom", ("smile", "pout", "neutral")))
