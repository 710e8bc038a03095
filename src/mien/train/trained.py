"""Nets that were trained before, opened to answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..errors import ModelError, OptionError, SourceNotFoundError
from .checkpoint import BEST, LAST
from .nets import Net, build, upgrade_keys
from .recipe import Recipe, read_recipe, recipe_of

__all__ = ["checkpoint_of", "new_net", "open_net"]


def new_net(recipe: Recipe) -> Net:
    """Return a recipe's net, with the heads that its labels want.

    Raises
    ------
    UnknownModelError
        If there is no such net.
    OptionError
        If the net has no such option, or takes no pictures of the size that a stage wants.
    """
    net = build(recipe.net, {head: len(labels) for head, labels in recipe.heads().items()}, **recipe.net_options)
    own = net.input.width
    for stage in recipe.stages:
        if stage.size not in (None, own) and not net.any_size:
            msg = f"recipe {recipe.name}: net {recipe.net!r} takes {own}×{own} pixels alone; a stage wants {stage.size}"
            raise OptionError(msg)
    return net


def checkpoint_of(path: str | Path) -> Path:
    """Return the checkpoint of a run's folder, the best before the last; any other path as it is.

    Raises
    ------
    SourceNotFoundError
        If there is nothing, or the folder has no checkpoint.
    """
    place = Path(path)
    if not place.is_dir():
        if not place.is_file():
            msg = f"{place}: no such run or checkpoint"
            raise SourceNotFoundError(msg)
        return place
    for name in (BEST, LAST):
        if (place / name).is_file():
            return place / name
    msg = f"{place}: no {BEST} and no {LAST} in it; name the folder of a run"
    raise SourceNotFoundError(msg)


def open_net(path: str | Path) -> tuple[Recipe, Net]:
    """Return the recipe and the net of a run's folder or of a checkpoint, in eval mode.

    The recipe is the one inside the checkpoint; a checkpoint of old has it as ``recipe.json`` beside it.

    Raises
    ------
    SourceNotFoundError
        If there is no checkpoint, or no recipe.
    ModelError
        If it is no checkpoint of mien, or its weights do not fit its recipe.
    """
    file = checkpoint_of(path)
    try:
        held: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        state = {k.removeprefix("net."): v for k, v in upgrade_keys(held["state_dict"]).items()}
    except Exception as error:  # torch raises whatever its unpickler meets
        msg = f"{file}: not a checkpoint of mien ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        raise ModelError(msg) from error
    inside = held.get("mien", {}).get("recipe")
    recipe = recipe_of(json.loads(json.dumps(inside))) if inside else read_recipe(file.with_name("recipe.json"))
    net = new_net(recipe)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        msg = f"{file}: does not fit its recipe ({str(error).splitlines()[0]})"
        raise ModelError(msg) from error
    return recipe, net.eval()
