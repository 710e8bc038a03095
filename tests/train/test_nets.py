"""The networks, each by its registered name."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import torch
from exercise import pictures, seeded, used
from tiny import TINY
from torch import nn
from torch.nn import functional

from mien.errors import OptionError, ShapeError, UnknownModelError
from mien.train.export import folded
from mien.train.nets import (
    BOTH,
    NETS,
    PlainNet,
    ResidualNet,
    build,
    describe,
    freeze_trunk,
    swap_heads,
)

# Lightning warns of folders that are not empty, of few batches and of its own use of torch.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}:{room}.*")
    for kind in ("UserWarning", "FutureWarning", "DeprecationWarning")
    for room in ("lightning", "torch")
]

# Trained parameters with one head of seven labels.
PARAMETERS = {
    "emoticon": 331_719,
    "simple256": 1_724_551,
    "elu5": 5_282_663,
    "mememoji": 779_783,
    "mememoji_baseline": 392_263,
    "minixception": 56_951,
    "resnet18": 11_180_103,
    "vgg13": 8_756_679,
    "plain": 4_248_535,
    "residual-s": 968_311,
    "residual": 3_860_623,
    "residual-l": 4_631_007,
}
LITTLE = {"widths": (8, 16), "depths": (2, 3), "stem": 4}


@pytest.mark.parametrize("name", NETS)
def test_a_net_gives_its_heads_in_order_and_an_embedding(name: str) -> None:
    net = seeded(name).eval()
    for n in (1, 5):
        with torch.inference_mode():
            crowd, fer2013, embedding = net(pictures(net, n))
        assert (crowd.shape, fer2013.shape, embedding.shape) == ((n, 8), (n, 7), (n, net.features))
        assert all(a.isfinite().all() for a in (crowd, fer2013, embedding))


@pytest.mark.parametrize("name", NETS)
def test_an_answer_does_not_depend_on_the_other_pictures(name: str) -> None:
    net = seeded(name).eval()
    x = pictures(net, 3)
    with torch.inference_mode():
        together, alone = net(x), net(x[1:2])
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_a_step_down_the_gradient_moves_every_weight(name: str) -> None:
    net = seeded(name).train()
    before = {k: v.clone() for k, v in net.named_parameters()}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for seed in range(2):  # blocks that start as the identity move inside from the second step on
        optimizer.zero_grad()
        crowd, fer2013, _ = net(pictures(net, 4, seed=seed))
        (
            functional.cross_entropy(crowd, torch.arange(4)) + functional.cross_entropy(fer2013, torch.arange(4))
        ).backward()
        optimizer.step()
    # What a norm takes away again gets no gradient but rounding: a bias in front of it may stand still.
    still = [k for k, v in net.named_parameters() if torch.equal(v, before[k]) and not k.endswith("bias")]
    assert still == []


@pytest.mark.parametrize("name", NETS)
def test_a_seed_gives_the_same_net(name: str) -> None:
    first, second = seeded(name).state_dict(), seeded(name).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_the_list_names_every_net_with_its_parameters() -> None:
    lines = describe()
    assert {line.name: line.parameters for line in lines} == PARAMETERS
    assert [line.name for line in lines] == list(NETS)
    for line in lines:
        net = build(line.name, {"labels": 7})
        assert sum(p.numel() for p in net.parameters() if p.requires_grad) == line.parameters
        assert net.input == line.input
        assert line.source


@pytest.mark.parametrize("name", ["plain", "residual-s", "residual", "residual-l"])
def test_our_own_nets_have_at_most_five_million_parameters(name: str) -> None:
    assert sum(p.numel() for p in build(name).parameters()) <= 5_000_000


@pytest.mark.parametrize("name", [d.name for d in describe() if d.any_size])
@pytest.mark.parametrize("size", [40, 33])
def test_nets_that_end_in_a_mean_take_other_sizes(name: str, size: int) -> None:
    net = seeded(name).eval()
    assert net(torch.zeros(2, 1, size, size))[0].shape == (2, 8)


@pytest.mark.parametrize("name", [d.name for d in describe() if not d.any_size])
def test_nets_that_end_in_dense_layers_name_their_size(name: str) -> None:
    net = build(name)
    side, channels = net.input.width, 1 if net.input.colour == "grey" else 3
    with pytest.raises(ShapeError, match=rf"expected pictures \(N, {channels}, {side}, {side}\), got \(2, "):
        net(torch.zeros(2, channels, side - 8, side - 8))


def test_the_channels_are_checked() -> None:
    with pytest.raises(ShapeError, match=r"pictures \(N, 1, H, W\), got \(2, 3, 48, 48\)"):
        build("residual-s")(torch.zeros(2, 3, 48, 48))


def shapes(net: nn.Module) -> list[tuple[object, ...]]:
    """Return each layer of the trunk with what decides it and the shape that it gives."""
    found, x = [], pictures(net, 2)
    for layer in net.eval().trunk:
        x = layer(x)
        what = {
            nn.Dropout: lambda m: m.p,
            nn.Conv2d: lambda m: m.kernel_size,
            nn.MaxPool2d: lambda m: m.kernel_size,
        }.get(type(layer), lambda m: None)
        found.append((type(layer).__name__, what(layer), tuple(x.shape[1:])))
    return found


def test_emoticon_layer_by_layer() -> None:
    net = build("emoticon", {"emoticon": 17})
    expected = [("Dropout", 0.1, (3, 48, 48))]
    for size, side in ((5, 48), (5, 24), (3, 12), (3, 6)):
        expected += [
            ("Conv2d", (size, size), (64, side, side)),
            ("ReLU", None, (64, side, side)),
            ("BatchNorm2d", None, (64, side, side)),
            ("MaxPool2d", 2, (64, side // 2, side // 2)),
        ]
    expected += [("Flatten", None, (576,)), ("Dropout", 0.3, (576,)), ("Linear", None, (256,))]
    expected += [("ReLU", None, (256,)), ("BatchNorm1d", None, (256,))]
    assert shapes(net) == expected
    assert net.dropout.p == 0.3
    assert (net.heads["emoticon"].in_features, net.heads["emoticon"].out_features) == (256, 17)


def test_a_detectors_head_is_swapped_and_its_trunk_stays() -> None:
    net = used(seeded("emoticon", heads={"face": 2}))
    x = pictures(net, 3)
    score, before = net(x)
    kept = {k: v.clone() for k, v in net.trunk.state_dict().items()}
    assert swap_heads(net, {"emoticon": 17}) is net
    scores, after = net(x)
    assert (score.shape, scores.shape) == ((3, 2), (3, 17))
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert all(torch.equal(v, kept[k]) for k, v in net.trunk.state_dict().items())
    assert not net.heads["emoticon"].training


@pytest.mark.parametrize("padding", ["none", "same"])
def test_simple256(padding: str) -> None:
    net = seeded("simple256", heads={"labels": 7}, padding=padding).eval()
    assert sum(p.numel() for p in net.parameters()) == {"none": 1_724_551, "same": 2_379_911}[padding]
    side = {"none": (46, 21, 8), "same": (48, 24, 12)}[padding]
    found = shapes(net)
    assert [s for kind, _, s in found if kind == "Conv2d"] == [(256, a, a) for a in side]
    assert [p for kind, p, _ in found if kind == "Dropout"] == [0.2] * 4
    assert net.dropout.p == 0.2
    x = pictures(net, 4)
    logits, embedding = net(x)
    sigmoid = torch.sigmoid(net.heads["labels"](embedding))
    torch.testing.assert_close(logits.softmax(1), sigmoid / sigmoid.sum(1, keepdim=True))
    with pytest.raises(OptionError, match="padding is 'wide'; choose one of: none, same"):
        build("simple256", padding="wide")


def test_elu5_has_exactly_the_published_parameters() -> None:
    net = build("elu5", {"labels": 5})
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == 5_282_533
    kept = [b for k, b in net.named_buffers() if not k.endswith("num_batches_tracked")]
    assert sum(b.numel() for b in kept) == 4_864
    found = shapes(net)
    assert [s for kind, _, s in found if kind == "MaxPool2d"] == [
        (o, a, a) for o, a in ((32, 24), (64, 12), (128, 6), (256, 3), (512, 2))
    ]
    block = ["Conv2d", "ELU", "BatchNorm2d"] * 2 + ["MaxPool2d", "Dropout"]
    dense = ["Linear", "ELU", "BatchNorm1d", "Dropout"] * 3
    assert [kind for kind, *_ in found] == [*block * 5, "Flatten", *dense[:-1]]
    assert {p for kind, p, _ in found if kind == "Dropout"} == {net.dropout.p} == {0.5}
    # he_normal: variance 2 over what a unit sees.
    weight = net.trunk[8].weight.detach()
    assert float(weight.std()) == pytest.approx((2 / (9 * 32)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("name", "layers"), [("mememoji", 3), ("mememoji_baseline", 1)])
def test_mememoji(name: str, layers: int) -> None:
    found = shapes(build(name, {"labels": 6}))
    convolutions = [(o, a, a) for o, a in ((32, 48), (64, 24), (128, 12)) for _ in range(layers)]
    assert [s for kind, _, s in found if kind == "Conv2d"] == convolutions
    assert [s for kind, _, s in found if kind == "MaxPool2d"] == [(32, 24, 24), (64, 12, 12), (128, 6, 6)]
    assert [s for kind, _, s in found if kind == "Linear"] == [(64,), (64,)]
    assert [p for kind, p, _ in found if kind == "Dropout"] == [0.5]


def test_minixceptions_head_is_the_last_convolution_averaged() -> None:
    net = used(seeded("minixception", heads={"labels": 7}))
    x = pictures(net, 3)
    head = net.heads["labels"]
    maps = functional.conv2d(net.trunk(2 * x - 1), head.weight.reshape(7, 128, 3, 3), head.bias, padding=1)
    torch.testing.assert_close(net(x)[0], maps.mean((2, 3)), atol=1e-5, rtol=1e-4)
    kept = sum(b.numel() for k, b in net.named_buffers() if not k.endswith("num_batches_tracked"))
    assert sum(p.numel() for p in net.parameters()) + kept == 58_423


def test_vgg13_has_the_papers_parameters() -> None:
    net = build("vgg13", {"crowd": 8})
    assert sum(p.numel() for p in net.parameters()) == 8_757_704
    kinds = [kind for kind, *_ in shapes(net)]
    assert (kinds.count("Conv2d"), kinds.count("Linear")) == (10, 2)
    small = build("vgg13", {"crowd": 8}, side=48)
    assert small(pictures(small, 1))[0].shape == (1, 8)
    with pytest.raises(OptionError, match="side is 40; four poolings need a multiple of 16"):
        build("vgg13", side=40)


def test_resnet18_has_torchvisions_parameters() -> None:
    net = build("resnet18", {"imagenet": 1000})
    assert sum(p.numel() for p in net.parameters()) == 11_689_512
    with pytest.raises(OptionError, match="colour is 'bgr'; choose one of: rgb, grey"):
        build("resnet18", colour="bgr")


@pytest.mark.parametrize("name", ["resnet18", "emoticon", "elu5", "residual-s"])
def test_a_frozen_trunk_gets_no_gradient_and_stays(name: str) -> None:
    net = freeze_trunk(used(seeded(name), rounds=1)).train()
    kept = {k: v.clone() for k, v in net.trunk.state_dict().items()}
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    heads = {k: v.clone() for k, v in net.heads.state_dict().items()}
    for seed in range(2):
        optimizer.zero_grad()
        crowd, *_ = net(pictures(net, 4, seed=seed))
        functional.cross_entropy(crowd, torch.arange(4)).backward()
        optimizer.step()
    assert all(p.grad is None or not p.grad.any() for p in net.trunk.parameters())
    assert all(torch.equal(v, kept[k]) for k, v in net.trunk.state_dict().items())
    assert not torch.equal(net.heads["crowd"].weight, heads["crowd.weight"])
    assert net.heads.training
    thawed = freeze_trunk(net, frozen=False)
    assert thawed.trunk.training
    assert all(p.requires_grad for p in thawed.parameters())


def test_a_branched_net_is_equal_to_a_chain_of_convolutions() -> None:
    torch.manual_seed(0)
    net = used(PlainNet(BOTH, **LITTLE))
    plain = net.reparameterised()
    kinds = {type(m) for m in plain.trunk.modules()}
    assert kinds == {nn.Sequential, nn.Conv2d, nn.ReLU}
    assert all(m.kernel_size == (3, 3) for m in plain.trunk.modules() if isinstance(m, nn.Conv2d))
    assert sum(p.numel() for p in plain.parameters()) < sum(p.numel() for p in net.parameters())
    x = pictures(net, 4)
    with torch.inference_mode():
        for a, b in zip(plain(x), net(x), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


def test_the_registered_branched_net_too() -> None:
    net = seeded("plain").eval()
    x = pictures(net, 2)
    with torch.inference_mode():
        for a, b in zip(net.reparameterised()(x), net(x), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_flagships_parameters_are_what_its_layers_add_up_to() -> None:
    def conv(i: int, o: int, k: int) -> int:
        return i * o * k * k + 2 * o

    expected, i = conv(1, 24, 3), 24
    for o, depth in ((64, 1), (128, 2), (256, 3)):
        expected += conv(i, o, 3) + conv(o, o, 3) + conv(i, o, 1) + (depth - 1) * 2 * conv(o, o, 3)
        i = o
    expected += (256 + 1) * (8 + 7)
    assert sum(p.numel() for p in ResidualNet(BOTH).parameters()) == expected


def test_the_branched_nets_parameters_are_what_its_branches_add_up_to() -> None:
    expected, i = 1 * 24 * 10 + 4 * 24, 24
    for o, depth in ((64, 2), (128, 4), (256, 6)):
        expected += i * o * 10 + 4 * o + (depth - 1) * (o * o * 10 + 6 * o)
        i = o
    expected += (256 + 1) * (8 + 7)
    assert sum(p.numel() for p in PlainNet(BOTH).parameters()) == expected


@pytest.mark.parametrize("make", [ResidualNet, PlainNet])
def test_light_and_contrast_do_not_matter(make: type[nn.Module]) -> None:
    net = make(BOTH, **TINY).eval()
    x = torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(net(0.5 * x + 0.3)[2], net(x)[2], atol=5e-3, rtol=5e-3)


def test_what_cannot_be_built_is_named() -> None:
    with pytest.raises(UnknownModelError, match=r"unknown model 'vast'; choose one of: .*residual"):
        build("vast")
    with pytest.raises(OptionError, match="net 'residual' has no option 'depth'; it has widths, depths, stem, dropout"):
        build("residual", depth=3)
    with pytest.raises(OptionError, match="net 'elu5' has no option 'side'; it has none"):
        build("elu5", side=64)
    with pytest.raises(OptionError, match="net 'residual' cannot be built with"):
        build("residual", widths=[8, 16], depths=[1])
    for heads in ({}, {"labels": 1}):
        with pytest.raises(OptionError, match="needs a head or more with at least two labels each"):
            build("residual", heads, **TINY)
        with pytest.raises(OptionError, match="needs a head or more"):
            swap_heads(build("residual", **TINY), heads)


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
