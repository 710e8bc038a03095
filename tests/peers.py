"""Other people's models as tests need them: small modules of their names, a Python that finds them, an ONNX file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

FER = '''
import numpy as np

print("a package that talks on standard output")


class FER:
    """Happy in the measure in which a crop is bright, the rest shared by the others."""

    def __init__(self, use_tflite=True):
        self.__emotion_target_size = (64, 64)

    def _get_labels(self):
        return dict(enumerate("angry disgust fear happy sad surprise neutral".split()))

    def _answer(self, x):
        assert x.shape[1:] == (64, 64) and x.min() >= -1 and x.max() <= 1, (x.shape, x.min(), x.max())
        happy = (x.mean((1, 2)) + 1) / 2
        out = np.repeat(((1 - happy) / 6)[:, None], 7, 1)
        out[:, 3] = happy
        return out

    def _classify_emotions(self, x):
        return self._answer(x)
'''

DEEPFACE = {
    "deepface/__init__.py": "",
    "deepface/DeepFace.py": '''
def analyze(picture, actions, detector_backend, enforce_detection, silent):
    """Sad in the measure in which a picture is bright, in per cent, with the labels in an order of its own."""
    assert picture.ndim == 3 and actions == ["emotion"] and detector_backend == "skip" and not enforce_detection
    sad = picture.mean() / 255 * 100
    others = "neutral surprise happy fear disgust angry".split()
    return [{"emotion": {"sad": sad} | {name: (100 - sad) / 6 for name in others}}]
''',
}


def python_with(folder: Path, files: Mapping[str, str], **environment: str) -> Path:
    """Return a Python that finds these modules before all others; ``environment`` holds for it too."""
    for name, text in files.items():
        file = folder / "packages" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        if (beside := file.with_name("__init__.py")) != file:
            beside.touch()
    told = " ".join(f"{k}='{v}'" for k, v in {"PYTHONPATH": str(folder / "packages"), **environment}.items())
    python = folder / "python"
    python.write_text(f'#!/bin/sh\n{told} exec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return python


def foreign_net(
    folder: Path,
    *,
    name: str = "net",
    channels: int | str = 1,
    last: bool = False,
    batch: int | str = "N",
    side: int | str = 8,
) -> Path:
    """A linear net on all pixels, three logits; two outputs."""
    count = 8 * 8 * (channels if isinstance(channels, int) else 1)
    held = np.random.default_rng(2).normal(0, 0.3, (count, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "held"], ["raw"]),
        helper.make_node("Softmax", ["raw"], ["soft"], axis=1),
    ]
    shape = [batch, side, side, channels] if last else [batch, channels, side, side]
    values = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [values("input", 1, shape)], [values("raw", 1, [batch, 3]), values("soft", 1, [batch, 3])],
        [numpy_helper.from_array(held, "held")],
    )  # fmt: skip
    file = folder / f"{name}.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    file.write_bytes(model.SerializeToString())
    return file
