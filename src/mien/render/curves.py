"""Curves of training runs: loss, accuracy and learning rate over the epochs, one run or several on one figure."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtraError, OptionError

__all__ = ["Curves", "dots", "draw"]

Column = NDArray[np.float64]

# Okabe and Ito's colours for all kinds of eyes, without the yellow that is lost on white (jfly.uni-koeln.de/color).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31")
_TRAIN: Mapping[str, Any] = {"linestyle": (0, (4, 2)), "linewidth": 1.2, "alpha": 0.85}
_HELD: Mapping[str, Any] = {"linestyle": "-", "linewidth": 1.8}
_INK, _PALE = "#333333", "#DDDDDD"
_INCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What is drawn of a run.

    Attributes
    ----------
    name
        For the legend.
    history
        Columns of equal length, float64, NaN where a value is missing: ``epoch``, ``lr``, ``train_loss``, ``val_loss``,
        and what ends in ``accuracy``, beginning with ``train_`` or ``val_``.
    steps
        Columns of equal length: ``step``, ``loss``, ``lr``; drawn pale behind the loss of the epochs. May be empty.
    steps_an_epoch
        Places the steps among the epochs; NaN: they are not drawn.
    best
        The epoch that is marked; None: none is.
    """

    name: str
    history: Mapping[str, Column]
    steps: Mapping[str, Column] = field(default_factory=dict)
    steps_an_epoch: float = math.nan
    best: int | None = None

    def series(self, name: str) -> tuple[Column, Column]:
        """Return a column over the epochs, both (E,); empty where there is none, NaN where it is not finite."""
        if name not in self.history or "epoch" not in self.history:
            return np.empty(0), np.empty(0)
        y = self.history[name]
        return self.history["epoch"], np.where(np.isfinite(y), y, np.nan)

    def over_steps(self, name: str) -> tuple[Column, Column]:
        """Return a column of the steps over the epochs; the last step of epoch e stands at e."""
        if name not in self.steps or "step" not in self.steps or not self.steps_an_epoch > 0:
            return np.empty(0), np.empty(0)
        y = self.steps[name]
        return self.steps["step"] / self.steps_an_epoch - 1, np.where(np.isfinite(y), y, np.nan)


@dataclass(frozen=True, slots=True)
class _Panel:
    """One pair of axes: the metrics that it shows, without ``train_`` and ``val_``, and its share of the height."""

    title: str
    metrics: tuple[str, ...]
    height: float


def draw(runs: Sequence[Curves], *, width: int = 800) -> bytes:
    """Draw loss, accuracy and learning rate of one or several runs, and return the bytes of a PNG picture.

    What was trained on is dashed, what was held out is drawn through, and the best epoch has a ring. One run has its
    heads in colours and its steps behind; several runs have a colour each and a panel for the accuracy of each head.
    A missing value is a gap.

    Parameters
    ----------
    runs
        One or more.
    width
        Of the picture, px, at least 400.

    Raises
    ------
    OptionError
        If there is no run, or the picture is too narrow to be read.
    MissingExtraError
        If matplotlib is not installed.

    Examples
    --------
    >>> losses = {"epoch": np.arange(3.0), "val_loss": np.array([2.0, 1.5, 1.6])}
    >>> draw([Curves(name="tiny", history=losses, best=1)])[1:4]
    b'PNG'
    """
    if not runs or width < 400:
        msg = f"curves of {len(runs)} runs, {width} px wide: name one run or more and 400 px or more"
        raise OptionError(msg)
    if find_spec("matplotlib") is None:
        package = "matplotlib"
        raise MissingExtraError(package, "report")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(runs)
    rows = len(runs) if len(runs) > 1 else 0
    top = 0.62 + 0.2 * rows
    height = sum(p.height for p in panels) + top + 0.45
    figure = Figure(figsize=(8, height), dpi=width / 8, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        len(panels),
        height_ratios=[p.height for p in panels],
        left=0.085,
        right=0.975,
        bottom=0.45 / height,
        top=1 - top / height,
        hspace=0.16,
    )
    first = None
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(grid[i], sharex=first)
        first = first or axes
        _dress(axes, panel, last=i == len(panels) - 1)
        _fill(axes, panel, runs)
    _range(first, runs)
    _legend(figure, runs, height)
    out = io.BytesIO()
    canvas.print_figure(out, format="png")
    return out.getvalue()


def dots(lines: Sequence[tuple[Column, Column]], *, width: int, height: int) -> list[list[tuple[str, int]]]:
    """Draw lines with Braille dots, for a terminal.

    Parameters
    ----------
    lines
        (x, y) of each, equally long; what is not finite is a gap. All share one range.
    width, height
        Of the drawing, characters; each has 2 × 4 dots.

    Returns
    -------
    list
        ``height`` rows from the top, each of ``width`` pairs: a character, and the index of the line that its colour
        should be, −1 where it is empty. A later line lies over an earlier one.

    Examples
    --------
    >>> x = np.arange(5.0)
    >>> "".join(c for c, _ in dots([(x, x)], width=4, height=1)[0])
    '⣀⠤⠔⠉'
    """
    # The bits of a Braille character by row and column of its dots (Unicode 15, chapter 21.1).
    bits = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
    marks, owner = np.zeros((height, width), np.int64), np.full((height, width), -1)
    x_all, y_all = (np.concatenate([line[k] for line in lines] or [np.empty(0)]) for k in (0, 1))
    known = np.isfinite(x_all) & np.isfinite(y_all)
    if known.any():
        box = [(float(v[known].min()), float(v[known].max())) for v in (x_all, y_all)]
        for i, (x, y) in enumerate(lines):
            column, row = _raster(x, y, box, 2 * width, 4 * height)
            np.bitwise_or.at(marks, (row // 4, column // 2), bits[row % 4, column % 2])
            owner[row // 4, column // 2] = i
    cells = zip(marks, owner, strict=True)
    return [[(chr(0x2800 + int(m)), int(o)) for m, o in zip(*row, strict=True)] for row in cells]


def _raster(
    x: Column, y: Column, box: list[tuple[float, float]], columns: int, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the columns and rows of a line's dots: the mean of a column's values, joined unless one is missing."""
    (left, right), (low, high) = box
    known = np.isfinite(x) & np.isfinite(y)
    at = np.rint((np.where(known, x, left) - left) / ((right - left) or 1.0) * (columns - 1)).astype(int)
    found: list[tuple[int, int]] = []
    for part in np.split(np.arange(len(x)), np.flatnonzero(np.diff(known)) + 1):
        if len(part) and known[part[0]]:
            there, place = np.unique(at[part], return_inverse=True)
            near = np.arange(there[0], there[-1] + 1)
            means = np.interp(near, there, np.bincount(place, y[part]) / np.bincount(place))
            row = np.rint((high - means) / ((high - low) or 1.0) * (rows - 1)).astype(int)
            found += _joined(near.tolist(), row.tolist())
    dotted = np.array(found, np.int64).reshape(-1, 2)
    return dotted[:, 0], dotted[:, 1]


def _joined(columns: list[int], rows: list[int]) -> list[tuple[int, int]]:
    """Return the dots of a line through one row a column; where it is steep, half of the way is in each column."""
    found = list(zip(columns, rows, strict=True))
    for (column, row), (following, other) in pairwise(found.copy()):
        middle, step = (row + other) // 2, 1 if other > row else -1
        found += [(column, r) for r in range(row, middle, step)]
        found += [(following, r) for r in range(other, middle - step, -step)]
    return found


def _panels(runs: Sequence[Curves]) -> list[_Panel]:
    names = dict.fromkeys(_bare(n) for run in runs for n in run.history if n.endswith("accuracy"))
    accuracies = sorted(names)
    if len(runs) == 1:
        shown = [_Panel("accuracy", tuple(accuracies), 2.5)] if accuracies else []
    else:
        shown = [_Panel(_words(n), (n,), 2.2) for n in accuracies]
    return [_Panel("loss", ("loss",), 2.5), *shown, _Panel("learning rate", (), 1.0)]


def _bare(name: str) -> str:
    return name.removeprefix("train_").removeprefix("val_")


def _words(metric: str) -> str:
    return " ".join(reversed(metric.split("_")))


def _dress(axes: Any, panel: _Panel, *, last: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.grid(visible=True, color=_PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#999999")
    axes.tick_params(colors=_INK, labelsize=9, length=3, labelbottom=last)
    axes.set_title(panel.title, loc="left", fontsize=10, color=_INK, pad=4)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3 if panel.height < 2 else 6))
    if last:
        axes.set_xlabel("epoch", fontsize=10, color=_INK, labelpad=2)


def _fill(axes: Any, panel: _Panel, runs: Sequence[Curves]) -> None:
    drawn = False
    for i, run in enumerate(runs):
        if not panel.metrics:
            drawn |= _learning_rate(axes, run, _colour(i, len(runs)))
            continue
        if panel.metrics == ("loss",) and len(runs) == 1:
            axes.plot(*run.over_steps("loss"), color=_COLOURS[0], linewidth=0.7, alpha=0.25)
        for k, metric in enumerate(panel.metrics):
            colour = _colour(i, len(runs)) if len(runs) > 1 else _COLOURS[k % len(_COLOURS)]
            drawn |= _pair(axes, run, metric, colour, noted=len(runs) == 1)
    if not drawn:
        axes.text(0.5, 0.5, "nothing yet", transform=axes.transAxes, ha="center", va="center", color="#777777")
        return
    if panel.metrics:
        _limits(axes, panel, runs)
    if len(runs) == 1 and len(panel.metrics) > 1:
        _heads(axes, panel.metrics)


def _pair(axes: Any, run: Curves, metric: str, colour: str, *, noted: bool) -> bool:
    drawn = False
    for part, style in (("train", _TRAIN), ("val", _HELD)):
        x, y = run.series(f"{part}_{metric}")
        if np.isfinite(y).any():
            axes.plot(x, y, color=colour, **style)
            alone = _alone(y)
            axes.plot(x[alone], y[alone], "o", markersize=3, color=colour, clip_on=False)
            drawn = True
    x, y = run.series(f"val_{metric}")
    at = [] if run.best is None else np.flatnonzero((x == run.best) & np.isfinite(y)).tolist()
    for i in at:
        if noted:
            axes.axvline(x[i], color="#999999", linewidth=0.8, linestyle=":", zorder=1)
        ring = {"markersize": 7, "markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1.8}
        axes.plot(x[i], y[i], "o", clip_on=False, zorder=4, **ring)
        if noted:
            _note(axes, float(x[i]), float(y[i]), colour, share=1.0 if len(x) == 1 else i / (len(x) - 1))
    return drawn


def _note(axes: Any, x: float, y: float, colour: str, *, share: float) -> None:
    from matplotlib.patheffects import withStroke

    away, side = (-7, "right") if share > 0.5 else (7, "left")
    text = axes.annotate(
        f"{y:.4g}", (x, y), xytext=(away, 7), textcoords="offset points", ha=side, fontsize=9, color=colour
    )
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _learning_rate(axes: Any, run: Curves, colour: str) -> bool:
    x, y = run.over_steps("lr")
    if not np.isfinite(y).any():
        x, y = run.series("lr")
    axes.plot(x, y, color=colour, linewidth=1.3)
    axes.plot(x[_alone(y)], y[_alone(y)], "o", markersize=3, color=colour, clip_on=False)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3), useMathText=True)
    axes.yaxis.get_offset_text().set_fontsize(8)
    axes.yaxis.set_offset_position("right")  # the title stands at the left
    axes.set_ylim(bottom=0)
    return bool(np.isfinite(y).any())


def _alone(y: Column) -> NDArray[np.bool_]:
    """Return the values without a neighbour, which a line does not show."""
    there = np.pad(np.isfinite(y), 1)
    alone: NDArray[np.bool_] = there[1:-1] & ~there[:-2] & ~there[2:]
    return alone


def _limits(axes: Any, panel: _Panel, runs: Sequence[Curves]) -> None:
    """Let the epochs decide the range, and most of the steps: a single one may be anywhere."""
    names = [f"{part}_{metric}" for metric in panel.metrics for part in ("train", "val")]
    values = np.concatenate([run.series(n)[1] for run in runs for n in names])
    values = values[np.isfinite(values)]
    steps = runs[0].over_steps("loss")[1] if panel.metrics == ("loss",) and len(runs) == 1 else np.empty(0)
    if np.isfinite(steps).any():
        values = np.append(values, np.nanpercentile(steps, (5, 95)))
    margin = 0.12 * (float(np.ptp(values)) or abs(float(values[0])) or 1.0)
    axes.set_ylim(values.min() - margin, values.max() + margin)


def _range(axes: Any, runs: Sequence[Curves]) -> None:
    """Give every panel the epochs from the first to the last, and whole numbers below."""
    from matplotlib.ticker import MaxNLocator

    ends = [e for run in runs if len(e := run.series("epoch")[0])]
    last = max((float(e.max()) for e in ends), default=0.0)
    steps = [x for run in runs if len(x := run.over_steps("loss")[0])]
    last = max([last, *(float(x.max()) for x in steps)])
    first = -1.0 if steps and last < 30 else 0.0
    margin = 0.02 * max(last, 1)
    axes.set_xlim(first if first else -margin, max(last, first + 1) + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0f}" if x >= 0 else "")


def _heads(axes: Any, metrics: tuple[str, ...]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=_COLOURS[k % len(_COLOURS)], linewidth=1.8) for k in range(len(metrics))]
    names = [m.removesuffix("accuracy").strip("_") or "all" for m in metrics]
    axes.legend(lines, names, loc="lower right", fontsize=9, frameon=True, framealpha=0.9, edgecolor="none")


def _legend(figure: Any, runs: Sequence[Curves], height: float) -> None:
    from matplotlib.lines import Line2D

    styles = [Line2D([], [], color=_INK, **_TRAIN), Line2D([], [], color=_INK, **_HELD)]
    ring = Line2D([], [], color=_INK, marker="o", markersize=7, markerfacecolor="white", linestyle="")
    edge = {"frameon": False, "fontsize": 9, "labelcolor": _INK, "borderaxespad": 0.0}
    right = {"loc": "upper right", "bbox_to_anchor": (0.975, 1 - 0.1 / height), "ncols": 3}
    figure.legend([*styles, ring], ["trained on", "held out", "best epoch"], **right, **edge)
    if len(runs) == 1:
        figure.text(
            0.085, 1 - 0.12 / height, _short(runs[0].name, 60), fontsize=11, color=_INK, va="top", weight="bold"
        )
        return
    lines = [Line2D([], [], color=_colour(i, len(runs)), linewidth=2.5) for i in range(len(runs))]
    names = [_short(r.name, 80) + _told(r) for r in runs]
    left = {"loc": "upper left", "bbox_to_anchor": (0.085, 1 - 0.32 / height), "labelspacing": 0.25}
    figure.legend(lines, names, **left, **edge)


def _told(run: Curves) -> str:
    x, y = run.series("val_loss")
    at = [] if run.best is None else np.flatnonzero(x == run.best).tolist()
    return f"   loss {y[at[0]]:.4g} at its best, epoch {run.best}" if len(at) and math.isfinite(y[at[0]]) else ""


def _short(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most // 2] + "…" + name[-(most // 2 - 1) :]


def _colour(i: int, n: int) -> str:
    if n <= len(_COLOURS):
        return _COLOURS[i]
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["turbo"](0.05 + 0.9 * i / (n - 1)))
