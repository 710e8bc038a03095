"""Real nets that are left in training mode: the checks must see it in their answers."""

import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

import torch
from torch import nn

from mien.data.importers import LabelledFaces
from mien.evaluate.honesty import Finding, check
from mien.models.prepare import prepare
from mien.zoo.card import InputSpec

SPEC = InputSpec(width=48, height=48, colour="grey", low=-1.0, high=1.0)


def data(n: int = 60) -> LabelledFaces:
    rng = np.random.default_rng(0)
    strokes = rng.uniform(0, 255, (2 * n, 6, 6)).astype(np.float32)
    images = np.stack([cv2.resize(s, (48, 48), interpolation=cv2.INTER_LINEAR) for s in strokes]).astype(np.uint8)
    return LabelledFaces(
        images=images,
        label=np.zeros(2 * n, np.int64),
        votes=np.zeros((2 * n, 10), np.float32),
        split=np.repeat(["Training", "PublicTest"], n),
        group=np.arange(2 * n),
        name=np.arange(2 * n).astype(str),
    )


def net(*last: nn.Module) -> nn.Module:
    """A small net whose norm has seen some faces, so that its running values are those of the data."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), *last, nn.AdaptiveAvgPool2d(4), nn.Flatten(),
        nn.Linear(128, 7), nn.Softmax(1),
    )  # fmt: skip
    made.train()
    with torch.no_grad():
        made[-2].weight.mul_(8)
        for _ in range(20):
            made(torch.from_numpy(prepare(data().images, SPEC)))
    return made


def reader(net: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    def classify(crops: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(prepare(crops, SPEC))).numpy()

    return classify


def found(classify: Callable[[np.ndarray], np.ndarray]) -> dict[str, Finding]:
    return {f.check: f for f in check(classify, data(), "PublicTest")}


def test_a_batch_norm_left_in_training_mode_is_found() -> None:
    left = found(reader(net().train()))
    assert left["batch dependence"].state == "found"
    assert "a batch norm may be in training mode" in left["batch dependence"].summary
    assert left["random answers"].state == "clear"
    right = found(reader(net().eval()))
    assert right["batch dependence"].state == right["random answers"].state == "clear"


def test_a_dropout_left_in_training_mode_is_found() -> None:
    left = found(reader(net(nn.Dropout(0.3)).train()))
    assert left["random answers"].state == "found"
    assert found(reader(net(nn.Dropout(0.3)).eval()))["random answers"].state == "clear"


def test_a_norm_that_cannot_read_one_face_alone_is_found() -> None:
    made = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(48 * 48), nn.Linear(48 * 48, 7), nn.Softmax(1)).train()
    left = found(reader(made))["batch dependence"]
    assert left.state == "found"
    assert "Expected more than 1 value per channel" in left.summary


@pytest.mark.parametrize("mode", ["training", "eval"])
def test_the_same_norm_inside_an_onnx_file(mode: str, tmp_path: Path) -> None:
    """Written out as the batch's own mean and spread, which is what the operator in training mode computes."""
    made = net().train() if mode == "training" else net().eval()
    norm = made[1]
    if mode == "training":
        made[1] = OwnBatch(norm)
    file = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        # What the exporter says about its own use of torch is no matter of ours.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            made.eval(), (torch.zeros(2, 1, 48, 48),), input_names=["input"], dynamo=True, verbose=False,
            dynamic_shapes=({0: torch.export.Dim("N")},),
        )  # fmt: skip
    file.write_bytes(program.model_proto.SerializeToString())
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    state = found(lambda crops: session.run(None, {"input": prepare(crops, SPEC)})[0])["batch dependence"].state
    assert state == ("found" if mode == "training" else "clear")


class OwnBatch(nn.Module):
    """A batch norm in training mode, in plain operations."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((0, 2, 3), keepdim=True)
        spread = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        scaled = (x - mean) / torch.sqrt(spread + self.norm.eps)
        return scaled * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


def test_the_plain_operations_are_the_norm() -> None:
    norm, x = nn.BatchNorm2d(3).train(), torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(OwnBatch(norm)(x), norm(x))
