"""Grad-CAM without automatic differentiation against torch's own gradients, on nets exported as users' are."""

from functools import cached_property
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import numpy as np
import torch

from mien.evaluate.explain import channel_slopes, grad_cam
from mien.evaluate.graph_cut import Graph, Layer
from mien.models.prepare import prepare
from mien.train.answer import Answer, folded, to_onnx
from mien.train.nets import build

HEADS = {"crowd": 8, "fer2013": 7}
NETS = {
    "residual": {"widths": [8, 16, 24], "depths": [1, 1, 1], "stem": 8},
    "mememoji": {},
}


def crop() -> np.ndarray:
    """A face of sorts: smooth, with eyes and a mouth."""
    y, x = np.mgrid[0:48, 0:48] / 48
    face = 190 - 160 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    for cy, cx, size in ((0.38, 0.32, 0.05), (0.38, 0.68, 0.05), (0.78, 0.5, 0.1)):
        face -= 110 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / size**2)
    return np.clip(face, 0, 255).astype(np.uint8)


class Opened:
    """A net as torch has it and as ONNX Runtime does, with the activations that both hold."""

    def __init__(self, name: str, folder: Path) -> None:
        torch.manual_seed(0)
        net = build(name, HEADS, **NETS[name]).eval()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        self.net = folded(net)
        file = folder / f"{name}.onnx"
        file.write_bytes(to_onnx(Answer(self.net, {"crowd": 1.3, "fer2013": 0.8}), half=False))
        self.fed = prepare(crop()[None], self.net.input)
        self.graph = Graph(file, self.fed, threads=1)

    @cached_property
    def pairs(self) -> list[tuple[Layer, torch.Tensor]]:
        """Every layer whose maps are some module's output in torch, with that output, ready for gradients."""
        held: list[torch.Tensor] = []

        def keep(_module: torch.nn.Module, _given: object, made: object) -> None:
            if isinstance(made, torch.Tensor) and made.dim() == 4 and made.requires_grad:
                held.append(made)

        hooks = [module.register_forward_hook(keep) for module in self.net.modules()]
        self.logits = self.net(torch.from_numpy(self.fed))[0]
        for hook in hooks:
            hook.remove()
        found = []
        for layer in self.graph.layers:
            maps = self.graph.maps(layer, self.fed)
            same = [a for a in held if a.shape == maps.shape and np.allclose(a.detach().numpy(), maps, atol=1e-5)]
            if same:
                found.append((layer, same[-1]))
        return found

    def gradient(self, activation: torch.Tensor, place: int) -> np.ndarray:
        (gradient,) = torch.autograd.grad(self.logits[0, place], activation, retain_graph=True)
        return gradient[0].mean((1, 2)).numpy()

    def slopes(self, layer: Layer, place: int, **options: float) -> np.ndarray:
        tail = self.graph.tail(layer, self.graph.logits("crowd"), self.fed)
        return channel_slopes(tail, self.graph.maps(layer, self.fed), place, **options)


@pytest.fixture(scope="module", params=sorted(NETS))
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return Opened(request.param, tmp_path_factory.mktemp("nets"))


def off(found: np.ndarray, truth: np.ndarray) -> float:
    """How far found lies from the truth, as a share of the truth's length."""
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def test_the_channel_weights_are_torchs_at_every_depth(opened: Opened) -> None:
    pairs = opened.pairs
    assert len(pairs) >= 4
    for layer, activation in pairs[:: max(1, len(pairs) // 4)]:
        truth, found = opened.gradient(activation, 3), opened.slopes(layer, 3)
        # Float32 rounds away what an untrained deep net makes of its first layers: a slope of 1e-8 on logits near 1.
        hard = np.abs(truth).max() < 1e-5
        assert off(found, truth) < (0.2 if hard else 0.1), layer
        assert np.corrcoef(found, truth)[0, 1] > (0.98 if hard else 0.995), layer


def test_where_it_is_used_the_channel_weights_are_torchs_to_a_hundredth(opened: Opened) -> None:
    layer, activation = opened.pairs[-1]
    for place in (0, 3):
        assert off(opened.slopes(layer, place), opened.gradient(activation, place)) < 0.01


def test_the_map_is_torchs_grad_cam(opened: Opened) -> None:
    layer, activation = opened.pairs[-1]
    truth = np.maximum(np.tensordot(opened.gradient(activation, 3), activation.detach().numpy()[0], 1), 0)
    tail = opened.graph.tail(layer, opened.graph.logits("crowd"), opened.fed)
    found = grad_cam(tail, opened.graph.maps(layer, opened.fed), 3)
    assert np.abs(found - truth).max() <= 0.01 * max(truth.max(), 1e-6)


def test_the_step_is_neither_lost_in_rounding_nor_across_too_many_kinks(opened: Opened) -> None:
    pairs = opened.pairs
    layer, activation = pairs[len(pairs) // 2]
    truth = opened.gradient(activation, 3)
    ours, small, large = (off(opened.slopes(layer, 3, **o), truth) for o in ({}, {"step": 1e-5}, {"step": 3.0}))
    assert ours < small
    assert ours < large
