"""The networks that can be trained, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch

from ...errors import OptionError, UnknownModelError
from ...zoo.card import InputSpec
from .elu5 import Elu5
from .emoticon import Emoticon
from .mememoji import Mememoji
from .minixception import MiniXception
from .net import Net, linear_heads
from .plain import PlainNet
from .residual import ResidualNet
from .resnet import ResNet18
from .simple256 import Simple256
from .vgg import Vgg13
from .weights import load_trunk, upgrade_keys

__all__ = [
    "BOTH",
    "NETS",
    "Description",
    "Elu5",
    "Emoticon",
    "Mememoji",
    "MiniXception",
    "Net",
    "PlainNet",
    "ResNet18",
    "ResidualNet",
    "Simple256",
    "Vgg13",
    "build",
    "describe",
    "freeze_trunk",
    "load_trunk",
    "swap_heads",
    "upgrade_keys",
]

BOTH: Mapping[str, int] = MappingProxyType({"crowd": 8, "fer2013": 7})
"""The heads of a network that learns from the taggers' votes and from FER2013's own label at once."""

NETS: Mapping[str, Callable[..., Net]] = MappingProxyType(
    {
        "emoticon": Emoticon,
        "simple256": Simple256,
        "elu5": Elu5,
        "mememoji": Mememoji,
        "mememoji_baseline": partial(Mememoji, layers=1),
        "minixception": MiniXception,
        "resnet18": ResNet18,
        "vgg13": Vgg13,
        "plain": PlainNet,
        "residual-s": partial(ResidualNet, widths=(32, 64, 128), stem=16),
        "residual": ResidualNet,
        "residual-l": partial(ResidualNet, widths=(64, 128, 272), depths=(2, 3, 3)),
    }
)


@dataclass(frozen=True, slots=True)
class Description:
    """A line of the list of networks.

    ``parameters`` counts those that are trained; ``any_size`` says whether pictures of other sizes than ``input`` fit.
    """

    name: str
    parameters: int
    input: InputSpec
    any_size: bool
    source: str


def build(name: str, heads: Mapping[str, int] = BOTH, **options: object) -> Net:
    """Build a network by its registered name.

    Parameters
    ----------
    name
        A name of `NETS`.
    heads
        Name and number of labels of each head, in the order of the logits.
    **options
        What else the network takes; its class says what.

    Raises
    ------
    UnknownModelError
        If no network has that name.
    OptionError
        If the network has no such option or cannot be built with its value, or there is no head.
    """
    try:
        make = NETS[name]
    except KeyError:
        raise UnknownModelError(name, tuple(NETS)) from None
    known = [p for p in inspect.signature(make).parameters if p != "heads"]
    if unknown := [o for o in options if o not in known]:
        msg = f"net {name!r} has no option {unknown[0]!r}; it has {', '.join(known) or 'none'}"
        raise OptionError(msg)
    try:
        return make(heads, **options)
    except OptionError:
        raise
    except (TypeError, ValueError) as error:
        msg = f"net {name!r} cannot be built with {options} ({error})"
        raise OptionError(msg) from error


def describe(heads: Mapping[str, int] = MappingProxyType({"labels": 7})) -> list[Description]:
    """Return every network with its trained parameters for these heads, its input and where it comes from."""
    with torch.device("meta"):  # shapes without numbers
        built = {name: build(name, heads) for name in NETS}
    return [
        Description(name, sum(p.numel() for p in net.parameters()), net.input, net.any_size, net.source)
        for name, net in built.items()
    ]


def swap_heads(net: Net, heads: Mapping[str, int]) -> Net:
    """Give a network new, untrained heads in place; the trunk keeps its weights. Return the network.

    Raises
    ------
    OptionError
        If there is no head, or one has fewer than two labels.
    """
    beside = next(net.heads.parameters())
    net.heads = linear_heads(net.features, heads).to(device=beside.device, dtype=beside.dtype)
    return net.train(net.training)


def freeze_trunk(net: Net, *, frozen: bool = True) -> Net:
    """Keep a network's trunk as it is while its heads are trained, in place; return the network.

    A frozen trunk gets no gradients, and its norms and dropout stay as they answer, also in training mode.
    """
    net.frozen = frozen
    net.trunk.requires_grad_(not frozen)
    return net.train(net.training)
