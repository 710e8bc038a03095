"""What a sweep is to run: every combination of some settings of a recipe, checked before anything runs.

A sweep's folder holds ``base.json`` (the recipe without the settings that vary), ``sweep.json`` (what varies), a run's
folder a point, ``results.csv`` and ``results.json``. All paths in it are its own, so it can be copied to another
machine and carried on there.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ..errors import OptionError, ResumeError, SourceNotFoundError
from .augment import Augment
from .nets import build
from .recipe import Optim, Recipe, read_recipe
from .runs import flat

__all__ = ["BASE", "PLAN", "Plan", "Point", "plain", "plan", "planned", "setting_name"]

BASE, PLAN = "base.json", "sweep.json"
_LONGEST = 120
"""Letters of a folder's name."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run of a sweep: the name of its folder, which says its settings, these settings, and the whole recipe."""

    name: str
    settings: Mapping[str, Any]
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a sweep is to run; ``grid`` holds the values, as text, of each setting that varies."""

    base: Recipe
    grid: Mapping[str, tuple[str, ...]]
    points: tuple[Point, ...]
    limit: int | None = None
    random: int | None = None
    seed: int = 0


def plan(
    recipe: str | Path,
    grids: Sequence[str],
    *,
    settings: Sequence[str] = (),
    limit: int | None = None,
    take: int | None = None,
    seed: int = 0,
) -> Plan:
    """Return every combination of the values of some settings as a point, each with its recipe checked.

    Parameters
    ----------
    recipe
        A recipe's file.
    grids
        ``NAME=VALUE,VALUE…`` each; names as `setting_name` understands them. A comma inside brackets or quotes parts
        nothing: ``net_options.widths=[8,16],[16,32]``.
    settings
        What is changed in all points, as in `recipe.read_recipe`.
    limit
        Faces of each run, see `fit.fit`.
    take
        Draw so many of the combinations, none twice; None: all.
    seed
        Decides which are drawn.

    Raises
    ------
    OptionError
        If a setting is unknown or has an impossible value, a network has no such option, or there is nothing to vary.
    SourceNotFoundError
        If there is no such recipe.
    """
    base = read_recipe(recipe, settings=[_renamed(s) for s in settings])
    grid = _grid(grids)
    combined = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if take is not None:
        if not 1 <= take <= len(combined):
            msg = f"{take} random points: there are {len(combined)}; draw from 1 to that many"
            raise OptionError(msg)
        # The order stays the grid's, whatever was drawn.
        drawn = random.Random(seed).sample(range(len(combined)), take)  # noqa: S311 - decides no secret
        combined = [combined[i] for i in sorted(drawn)]
    texts = [[*(_renamed(s) for s in settings), *(f"{k}={v}" for k, v in chosen.items())] for chosen in combined]
    recipes = [read_recipe(recipe, settings=text) for text in texts]
    for each in recipes:
        _check_net(each)
    points = _distinct([_point(each, list(grid)) for each in recipes])
    return Plan(base=base, grid=grid, points=points, limit=limit, random=take, seed=seed)


def planned(folder: str | Path) -> Plan:
    """Return the plan that a sweep's folder was made with, to carry it on.

    Raises
    ------
    SourceNotFoundError
        If the folder holds no sweep.
    ResumeError
        If its plan cannot be read.
    """
    place = Path(folder)
    if not ((place / PLAN).is_file() and (place / BASE).is_file()):
        msg = f"{place}: no sweep ({PLAN} and {BASE} are missing); name a recipe and --grid"
        raise SourceNotFoundError(msg)
    try:
        told = json.loads((place / PLAN).read_text(encoding="utf-8"))
        grids = [f"{name}={','.join(values)}" for name, values in told["grid"].items()]
        return plan(place / BASE, grids, limit=told["limit"], take=told["random"], seed=told["seed"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{place / PLAN}: cannot be read ({error}); begin the sweep anew in another folder"
        raise ResumeError(msg) from error


def setting_name(name: str) -> str:
    """Return a setting's name in a recipe.

    ``net.X`` is ``net_options.X``. ``train.X`` is the recipe's own X if it has one, else ``optim.X`` or ``augment.X``
    if they have it, else an option of the net. Any other name is taken as it is.

    >>> [setting_name(n) for n in ("net.depth", "train.dropout", "train.batch", "train.lr", "optim.lr")]
    ['net_options.depth', 'net_options.dropout', 'batch', 'optim.lr', 'optim.lr']
    """
    room, dot, last = name.partition(".")
    if dot and room == "net":
        return f"net_options.{last}"
    if not dot or room != "train":
        return name
    for place, kind in (("", Recipe), ("optim.", Optim), ("augment.", Augment)):
        if last in {f.name for f in fields(kind)}:
            return place + last
    return f"net_options.{last}"


def plain(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as it is after it was written as JSON and read again."""
    settings: dict[str, Any] = json.loads(json.dumps(recipe.as_dict()))
    return settings


def _grid(grids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    grid: dict[str, tuple[str, ...]] = {}
    for text in grids:
        name, equals, values = text.partition("=")
        parts = tuple(dict.fromkeys(_split(values)))
        if not equals or not name.strip() or not all(parts):
            msg = f"--grid {text!r}: write it as name=value,value"
            raise OptionError(msg)
        known = setting_name(name.strip())
        if known in grid:
            msg = f"--grid {text!r}: {known} is given twice; give all its values at once"
            raise OptionError(msg)
        grid[known] = parts
    if not grid:
        msg = "nothing to vary; give --grid name=value,value"
        raise OptionError(msg)
    return grid


def _split(text: str) -> list[str]:
    """Return the parts between commas that are in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in "[{") - (character in "]}")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [p.strip() for p in parts]


def _renamed(setting: str) -> str:
    name, equals, value = setting.partition("=")
    return f"{setting_name(name.strip())}{equals}{value}"


def _check_net(recipe: Recipe) -> None:
    with torch.device("meta"):  # shapes without numbers
        build(recipe.net, {k: len(v) for k, v in recipe.heads().items()}, **recipe.net_options)


def _point(recipe: Recipe, names: Sequence[str]) -> Point:
    settings = flat(plain(recipe))
    chosen = {name: settings[name] for name in names}
    last = Counter(name.rpartition(".")[2] for name in names)
    short = {name: name.rpartition(".")[2] for name in names}
    texts = [f"{short[n] if last[short[n]] == 1 else n}={_text(v)}" for n, v in chosen.items()]
    clean = re.sub(r"[^\w.,=+-]+", "-", ",".join(texts))
    if clean != ",".join(texts) or len(clean) > _LONGEST:
        # What a folder's name cannot hold may have been all that tells two points apart.
        mark = hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:6]
        clean = f"{clean[: _LONGEST - 7]}-{mark}"
    return Point(clean, chosen, recipe)


def _text(value: Any) -> str:
    """Return a value for the name of a folder: ``8-16`` for a list of plain words or numbers."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(re.fullmatch(r"[\w.+]+", str(v)) for v in value):
        return "-".join(map(str, value))
    return json.dumps(value)


def _distinct(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the points without those that another writing of a value made twice."""
    named: dict[str, Point] = {}
    for point in points:
        other = named.setdefault(point.name, point)
        if other.settings != point.settings:
            msg = f"two points would both be called {point.name}; sweep them one after the other"
            raise OptionError(msg)
    return tuple(named.values())
