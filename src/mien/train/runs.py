"""Reading runs: the folder of a run as one value, all runs under a folder, two runs side by side. Needs no torch.

A run's folder holds ``recipe.json``, ``state.json``, ``history.csv`` (a row an epoch), ``steps.csv`` (every tenth
step), ``curves.png``, ``tb/``, ``last.ckpt`` and ``best.ckpt``; `train.monitor.Monitor` writes all but the checkpoints
and the recipe. Epochs are counted from 0, as in ``history.csv``; ``epoch`` in ``state.json`` is how many are done.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceNotFoundError
from ..render.curves import Curves

__all__ = [
    "HISTORY",
    "RECIPE",
    "STATE",
    "STEPS",
    "Best",
    "Differences",
    "Run",
    "best_of",
    "differences",
    "flat",
    "higher_is_better",
    "list_runs",
    "read_run",
    "read_table",
    "varying",
]

RECIPE, STATE, HISTORY, STEPS = "recipe.json", "state.json", "history.csv", "steps.csv"
_MARKS = (STATE, HISTORY, RECIPE, "last.ckpt")
_DEPTH = 3
"""Folders below the root in which runs are looked for: a sweep is a folder of runs."""
_SILENT = 600.0
"""A run of another machine that has not written for so long, seconds, is taken for interrupted."""
_GHOST = 3600.0
"""So is one of this machine whose process number lives: it may be another process by now."""

Column = NDArray[np.float64]
Table = Mapping[str, Column]


@dataclass(frozen=True, slots=True)
class Best:
    """The best epoch so far by the monitored value; ``mode`` is ``min`` or ``max``."""

    epoch: int
    metric: str
    value: float
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training run as its folder shows it.

    Attributes
    ----------
    name
        The folder's name; below the root of a list, the way to it.
    state
        ``running``, ``finished``, ``stopped`` (on purpose, before its end), ``failed``, ``interrupted`` (it says that
        it is running, and its process is gone), ``unknown`` (no ``state.json``) or ``foreign`` (no run at all).
    recipe
        ``recipe.json``; empty where there is none.
    facts
        ``state.json`` as it stands; empty where there is none.
    history, steps
        Columns of ``history.csv`` and ``steps.csv``, (E,) and (S,) float64, NaN where a cell is empty.
    updated
        When it was last written, seconds since 1970; NaN for an empty folder.
    problems
        One line for each file that cannot be read as it should.
    """

    name: str
    folder: Path
    state: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    history: Table = field(default_factory=dict)
    steps: Table = field(default_factory=dict)
    updated: float = math.nan
    problems: tuple[str, ...] = ()

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        rows = self.history.get("epoch")
        done = int(rows.max()) + 1 if rows is not None and len(rows) else 0
        return max(done, int(_number(self.facts.get("epoch"), 0)))

    @property
    def epochs(self) -> int | None:
        """How many epochs the recipe asks for; None: not known."""
        asked = self.facts.get("epochs", self.recipe.get("epochs"))
        return int(asked) if isinstance(asked, int | float) else None

    @property
    def best(self) -> Best | None:
        """The best epoch by the monitored value, ``val_loss`` where ``state.json`` names none."""
        told = self.facts.get("best")
        told = told if isinstance(told, Mapping) else {}
        metric = str(told.get("metric", "val_loss"))
        return best_of(self.history, metric, str(told.get("mode", "")))

    @property
    def seconds(self) -> float:
        """How long it was trained, all sessions together; NaN: not known."""
        rows = self.history.get("seconds")
        return _number(self.facts.get("seconds"), float(np.nansum(rows)) if rows is not None else math.nan)

    def at_best(self) -> dict[str, float]:
        """Return every score of the best epoch, or of the last where none is known; NaN where it is missing."""
        if not len(self.history.get("epoch", ())):
            return {}
        best = self.best
        row = -1 if best is None else int(np.flatnonzero(self.history["epoch"] == best.epoch)[0])
        return {k: float(v[row]) for k, v in self.history.items() if k not in {"epoch", "seconds", "lr"}}

    def accuracies(self) -> dict[str, float]:
        """Return the held-out accuracy of each head at the best epoch: ``{"crowd": 0.84}``, ``{"": 0.84}`` for one."""
        found = {k: v for k, v in self.at_best().items() if k.startswith("val_") and k.endswith("accuracy")}
        return {k.removeprefix("val_").removesuffix("accuracy").strip("_"): v for k, v in found.items()}

    def curves(self) -> Curves:
        """Return what `render.curves.draw` draws of it."""
        best = self.best
        every = _number(self.facts.get("steps"), math.nan) / (self.epochs or math.nan)
        return Curves(
            name=self.name,
            history=self.history,
            steps=self.steps,
            steps_an_epoch=every if every > 0 else math.nan,
            best=None if best is None else best.epoch,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values, ready for JSON; what is missing is None."""
        best = self.best
        return {
            "name": self.name,
            "folder": str(self.folder),
            "state": self.state,
            "epoch": self.epoch,
            "epochs": self.epochs,
            "best": None
            if best is None
            else {"epoch": best.epoch, "metric": best.metric, "value": best.value, "mode": best.mode},
            "scores": {k: _finite(v) for k, v in self.at_best().items()},
            "seconds": _finite(self.seconds),
            "updated": _finite(self.updated),
            "settings": flat(self.recipe),
            "facts": dict(self.facts),
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class Differences:
    """Two runs side by side: rows of (name, the first's, the second's); a value that one lacks is None."""

    settings: tuple[tuple[str, Any, Any], ...]
    scores: tuple[tuple[str, float | None, float | None], ...]


def read_run(folder: str | Path, *, name: str | None = None, now: Callable[[], float] | None = None) -> Run:
    """Read the folder of a run, in whatever state it is.

    A file that is missing, half written or something else is named in ``problems``, and the rest is read.

    Parameters
    ----------
    folder
        The folder of a run.
    name
        What to call it; None: the folder's name.
    now
        The clock, seconds since 1970.

    Raises
    ------
    SourceNotFoundError
        If there is no such folder.
    """
    place = Path(folder)
    if not place.is_dir():
        msg = f"{place}: no such run; give the folder of one"
        raise SourceNotFoundError(msg)
    problems: list[str] = []
    facts = _json(place / STATE, problems)
    found = [p for p in (place / m for m in _MARKS) if p.is_file()]
    updated = max((p.stat().st_mtime for p in found), default=math.nan)
    return Run(
        name=name or place.resolve().name,
        folder=place,
        state=_state(facts, now() if now else _now(), updated) if found else "foreign",
        recipe=_json(place / RECIPE, problems),
        facts=facts,
        history=_columns(place / HISTORY, problems),
        steps=_columns(place / STEPS, problems),
        updated=updated,
        problems=tuple(problems),
    )


def list_runs(root: str | Path, *, now: Callable[[], float] | None = None) -> list[Run]:
    """Return all runs under a folder, the one that was written last first.

    A folder at the top that neither is nor holds a run comes last, with the state ``foreign``.

    Raises
    ------
    SourceNotFoundError
        If there is no such folder.
    """
    top = Path(root)
    if not top.is_dir():
        msg = f"{top}: no such folder of runs"
        raise SourceNotFoundError(msg)
    folders = [f for child in _folders(top) for f in (list(_below(child, _DEPTH)) or [child])]
    runs = [read_run(f, name=f.relative_to(top).as_posix(), now=now) for f in folders]
    return sorted(runs, key=lambda r: (r.state == "foreign", -np.nan_to_num(r.updated), r.name))


def differences(a: Run, b: Run) -> Differences:
    """Return the settings in which two runs differ, and every score of their best epochs side by side."""
    first, second = flat(a.recipe), flat(b.recipe)
    settings = [(k, first.get(k), second.get(k)) for k in first | second if first.get(k) != second.get(k)]
    left, right = _scores(a), _scores(b)
    scores = [(k, _finite(left.get(k)), _finite(right.get(k))) for k in left | right]
    return Differences(tuple(settings), tuple(s for s in scores if s[1:] != (None, None)))


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings under dotted names.

    >>> flat({"epochs": 5, "optim": {"lr": 0.1}})
    {'epochs': 5, 'optim.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{k}": v for k, v in flat(value).items()}
        else:
            found[key] = value
    return found


def varying(runs: Sequence[Run]) -> list[str]:
    """Return the settings, dotted, that are not the same in all runs which have them, without names and cards."""
    seen: dict[str, set[str]] = {}
    for run in runs:
        for name, value in flat(run.recipe).items():
            seen.setdefault(name, set()).add(json.dumps(value, sort_keys=True))
    return [k for k, values in seen.items() if len(values) > 1 and k != "name" and not k.startswith("card.")]


def higher_is_better(metric: str) -> bool:
    """Return whether more of a score is better, by its name: losses, errors and divergences are better when low.

    >>> higher_is_better("val_crowd_accuracy"), higher_is_better("val_loss")
    (True, False)
    """
    return not any(word in metric for word in ("loss", "error", "ece", "kl", "divergence"))


def best_of(history: Table, metric: str, mode: str = "") -> Best | None:
    """Return the first best epoch of a history; None where it has no finite value of that metric.

    ``mode`` is ``min`` or ``max``; anything else: as the metric's name says.
    """
    values = history.get(metric)
    if values is None or not np.isfinite(values).any():
        return None
    mode = mode if mode in {"min", "max"} else ("max" if higher_is_better(metric) else "min")
    finite = np.where(np.isfinite(values), values, np.nan)
    row = int(np.nanargmax(finite) if mode == "max" else np.nanargmin(finite))
    return Best(int(history["epoch"][row]), metric, float(values[row]), mode)


def read_table(path: str | Path) -> dict[str, Column]:
    """Read a CSV file of numbers as columns; an empty cell is NaN, a half-written last line is left out.

    Raises
    ------
    ValueError
        If a cell is no number, or a line has too many or too few cells.
    """
    text = Path(path).read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    header, *rows = list(csv.reader(io.StringIO(whole))) or [[]]
    if wrong := [n for n, row in enumerate(rows, 2) if len(row) != len(header)]:
        msg = f"line {wrong[0]} has {len(rows[wrong[0] - 2])} cells and not {len(header)}"
        raise ValueError(msg)
    return {
        name: np.array([float(row[i]) if row[i] else math.nan for row in rows], np.float64)
        for i, name in enumerate(header)
    }


def _columns(path: Path, problems: list[str]) -> Table:
    try:
        table = read_table(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name}: not a table of numbers ({error})")
        return {}
    needed = "epoch" if path.name == HISTORY else "step"
    if table and needed not in table:
        problems.append(f"{path.name}: has no column {needed!r}")
        return {}
    counted = np.isfinite(table.get(needed, np.empty(0)))
    return {k: v[counted] for k, v in table.items()}


def _json(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{path.name}: not JSON ({error})")
        return {}
    if not isinstance(table, dict):
        problems.append(f"{path.name}: expected settings, got {str(table)[:40]!r}")
        return {}
    return table


def _state(facts: Mapping[str, Any], now: float, updated: float) -> str:
    told = str(facts.get("state", "unknown"))
    if told != "running":
        return told
    silence = now - updated
    if facts.get("host") != socket.gethostname() or os.name == "nt":
        # Signal 0 asks nothing on Windows: it is Ctrl-C there.
        return "running" if silence < _SILENT else "interrupted"
    return "running" if _alive(facts.get("pid")) and silence < _GHOST else "interrupted"


def _alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError) as error:
        return isinstance(error, PermissionError)
    return True


def _folders(place: Path) -> list[Path]:
    return sorted(f for f in place.iterdir() if f.is_dir() and not f.name.startswith("."))


def _below(place: Path, depth: int) -> list[Path]:
    if any((place / mark).is_file() for mark in _MARKS):
        return [place]
    try:
        return [f for child in _folders(place) for f in _below(child, depth - 1)] if depth else []
    except OSError:  # a folder that may not be looked into holds no run of ours
        return []


def _scores(run: Run) -> dict[str, float]:
    best = run.best
    about = {"best epoch": math.nan if best is None else float(best.epoch), "epochs": float(run.epoch)}
    facts = {k: _number(run.facts.get(k), math.nan) for k in ("parameters", "rate")}
    return run.at_best() | about | {"seconds": run.seconds} | facts


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) else otherwise


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _now() -> float:
    return datetime.datetime.now(tz=datetime.UTC).timestamp()
