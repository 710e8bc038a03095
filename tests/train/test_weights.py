"""Weights from a file into a trunk."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("lightning")
pytest.importorskip("onnx")

import torch
from exercise import pictures, seeded, used
from tiny import TINY
from torch import Tensor
from torch.nn import functional

from mien.errors import ModelError, SourceNotFoundError
from mien.train.nets import build, load_trunk, upgrade_keys


def torchvision_state() -> dict[str, Tensor]:
    """Return weights of torchvision's names and shapes for ResNet18."""
    draw, state = torch.Generator().manual_seed(3), {}

    def norm(name: str, o: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(o, generator=draw) + (0.5 if part in {"weight", "running_var"} else 0)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def convolution(name: str, i: int, o: int, size: int) -> None:
        state[f"{name}.weight"] = torch.randn(o, i, size, size, generator=draw) * (2 / (i * size**2)) ** 0.5

    convolution("conv1", 3, 64, 7)
    norm("bn1", 64)
    i = 64
    for layer, o in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            name = f"layer{layer}.{block}"
            convolution(f"{name}.conv1", i, o, 3)
            convolution(f"{name}.conv2", o, o, 3)
            norm(f"{name}.bn1", o)
            norm(f"{name}.bn2", o)
            if i != o:
                convolution(f"{name}.downsample.0", i, o, 1)
                norm(f"{name}.downsample.1", o)
            i = o
    state |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    return state


def torchvision_forward(w: dict[str, Tensor], x: Tensor, stride: int) -> Tensor:
    """Compute ResNet18's pooled features straight from torchvision's names."""

    def step(x: Tensor, conv: str, bn: str, stride: int) -> Tensor:
        kernel = w[f"{conv}.weight"]
        y = functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[2] // 2)
        return functional.batch_norm(y, *(w[f"{bn}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")))

    x = functional.max_pool2d(step(x, "conv1", "bn1", stride).relu(), 3, 2, 1)
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            n = f"layer{layer}.{block}"
            s = 2 if layer > 1 and block == 0 else 1
            y = step(step(x, f"{n}.conv1", f"{n}.bn1", s).relu(), f"{n}.conv2", f"{n}.bn2", 1)
            if f"{n}.downsample.0.weight" in w:
                x = step(x, f"{n}.downsample.0", f"{n}.downsample.1", s)
            x = (x + y).relu()
    return x.mean((2, 3))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("colour", ["rgb", "grey"])
def test_resnet18_takes_torchvisions_weights(tmp_path: Path, stride: int, colour: str) -> None:
    state = torchvision_state()
    torch.save(state, tmp_path / "resnet18.pth")
    net = build("resnet18", stem_stride=stride, colour=colour).eval()
    head = net.heads["crowd"].weight.clone()
    assert load_trunk(net, tmp_path / "resnet18.pth") is net
    assert torch.equal(net.heads["crowd"].weight, head)
    x = pictures(net, 2)
    mean, spread = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        expected = torchvision_forward(state, (x.expand(-1, 3, -1, -1) - mean) / spread, stride)
        torch.testing.assert_close(net(x)[2], expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("form", ["state", "trunk", "checkpoint"])
def test_a_trunk_from_a_file_of_ours(tmp_path: Path, form: str) -> None:
    other = used(seeded("residual", **TINY))
    forms = {
        "state": other.state_dict(),
        "trunk": other.trunk.state_dict(),
        "checkpoint": {"epoch": 3, "state_dict": {f"net.{k}": v for k, v in other.state_dict().items()}},
    }
    torch.save(forms[form], tmp_path / "w.pt")
    torch.manual_seed(9)
    net = load_trunk(build("residual", {"labels": 3}, **TINY), tmp_path / "w.pt").eval()
    x = pictures(net, 2)
    torch.testing.assert_close(net(x)[-1], other(x)[-1])


def safetensors(state: dict[str, Tensor]) -> bytes:
    table, body = {"__metadata__": {"format": "pt"}}, b""
    for name, value in state.items():
        raw = value.contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else value.numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16"}[value.dtype]
        table[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    head = json.dumps(table).encode()
    return len(head).to_bytes(8, "little") + head + body


def test_a_trunk_from_safetensors(tmp_path: Path) -> None:
    other = used(seeded("residual", **TINY))
    (tmp_path / "w.safetensors").write_bytes(safetensors(dict(other.state_dict())))
    net = load_trunk(build("residual", **TINY), tmp_path / "w.safetensors").eval()
    x = pictures(net, 2)
    torch.testing.assert_close(net(x)[-1], other(x)[-1])
    small = {k: v.bfloat16() if v.is_floating_point() else v for k, v in other.trunk.state_dict().items()}
    (tmp_path / "b.safetensors").write_bytes(safetensors(small))
    net = load_trunk(net, tmp_path / "b.safetensors")
    torch.testing.assert_close(net(x)[-1], other(x)[-1], atol=0.1, rtol=0.1)


def test_weights_that_do_not_fit_are_named_in_a_line(tmp_path: Path) -> None:
    net = build("residual", **TINY)
    kept = {k: v.clone() for k, v in net.state_dict().items()}
    state = {k: v for k, v in net.trunk.state_dict().items() if k != "0.0.weight"}
    cases = {
        "missing": (state, r"does not fit the trunk of ResidualNet \(no weight 0\.0\.weight\)"),
        "more": (
            {**net.trunk.state_dict(), "a": torch.zeros(1), "b": torch.zeros(1)},
            r"\(unknown weight a, and 1 more\)",
        ),
        "other": (
            {**state, "0.0.weight": torch.zeros(5, 1, 3, 3)},
            r"0\.0\.weight is \(5, 1, 3, 3\), not \(4, 1, 3, 3\)",
        ),
    }
    for name, (held, message) in cases.items():
        torch.save(held, tmp_path / f"{name}.pt")
        with pytest.raises(ModelError, match=message) as caught:
            load_trunk(net, tmp_path / f"{name}.pt")
        assert "\n" not in str(caught.value)
    assert all(torch.equal(v, kept[k]) for k, v in net.state_dict().items())
    with pytest.raises(SourceNotFoundError, match=r"gone\.pt: no such file of weights"):
        load_trunk(net, tmp_path / "gone.pt")


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
@pytest.mark.parametrize("blob", [b"", b"no weights", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]", b"(lp0\n."])
def test_files_that_hold_no_weights_are_named(tmp_path: Path, name: str, blob: bytes) -> None:
    (tmp_path / name).write_bytes(blob)
    with pytest.raises(ModelError, match=r"not a file of weights") as caught:
        load_trunk(build("residual", **TINY), tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_tensor_that_lies_outside_its_file_is_named(tmp_path: Path) -> None:
    blob = safetensors({"w": torch.zeros(4)})
    (tmp_path / "x.safetensors").write_bytes(blob[:-4])
    with pytest.raises(ModelError, match=r"a tensor of shape \(4,\) is said to lie in bytes"):
        load_trunk(build("residual", **TINY), tmp_path / "x.safetensors")


def test_checkpoints_of_before_the_heads_had_a_place_of_their_own() -> None:
    net = build("residual", **TINY)
    old = {k.replace("heads.", ""): v for k, v in net.state_dict().items()}
    assert list(upgrade_keys(old)) == list(net.state_dict())
    assert list(upgrade_keys(net.state_dict())) == list(net.state_dict())
    wrapped = {f"net.{k}": v for k, v in old.items()}
    assert list(upgrade_keys(wrapped)) == [f"net.{k}" for k in net.state_dict()]
