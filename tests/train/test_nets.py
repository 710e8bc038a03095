"""The networks, each by its registered name."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import torch
from tiny import TINY
from torch import nn

from mien.errors import ModelError, UnknownModelError
from mien.train.export import folded
from mien.train.nets import BOTH, NETS, ResidualNet, build

# Lightning warns of folders that are not empty, of few batches and of its own use of torch.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("size", [40, 48, 33])
def test_a_net_gives_two_heads_and_an_embedding(name: str, size: int) -> None:
    crowd, fer2013, embedding = build(name).eval()(torch.zeros(2, 1, size, size))
    assert (crowd.shape, fer2013.shape) == ((2, 8), (2, 7))
    assert embedding.ndim == 2
    assert len(embedding) == 2


@pytest.mark.parametrize("name", NETS)
def test_a_net_is_at_most_five_million_parameters(name: str) -> None:
    assert sum(p.numel() for p in build(name).parameters()) <= 5_000_000


def test_the_flagships_parameters_are_what_its_layers_add_up_to() -> None:
    def conv(i: int, o: int, k: int) -> int:
        return i * o * k * k + 2 * o

    expected, i = conv(1, 24, 3), 24
    for o, depth in ((64, 1), (128, 2), (256, 3)):
        expected += conv(i, o, 3) + conv(o, o, 3) + conv(i, o, 1) + (depth - 1) * 2 * conv(o, o, 3)
        i = o
    expected += (256 + 1) * (8 + 7)
    assert sum(p.numel() for p in ResidualNet(BOTH).parameters()) == expected


def test_light_and_contrast_do_not_matter() -> None:
    net = ResidualNet(BOTH, **TINY).eval()
    x = torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(net(0.5 * x + 0.3)[2], net(x)[2], atol=5e-3, rtol=5e-3)


def test_an_unknown_net_is_named() -> None:
    with pytest.raises(UnknownModelError, match="unknown model 'vast'; choose one of: .*residual"):
        build("vast")


def test_folding_changes_no_answer() -> None:
    torch.manual_seed(0)
    net = ResidualNet(BOTH, **TINY)
    for _ in range(5):
        net.train()(torch.randn(16, 1, 48, 48))
    x = torch.randn(4, 1, 48, 48)
    plain = folded(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    with torch.inference_mode():
        for a, b in zip(plain(x), net.eval()(x), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_a_norm_that_cannot_be_folded_is_named() -> None:
    with pytest.raises(ModelError, match="the norm 0 does not follow a convolution"):
        folded(nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 1, 3)))
