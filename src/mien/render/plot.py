"""Figures of a measurement: confusions, class balance, rates by class, calibration, errors against coverage.

Every figure is an SVG text of its own, its letters drawn as paths, so it looks the same everywhere and needs no font.
Shares are drawn in [0, 1]; all whiskers and bands are 95 % intervals.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtraError, OptionError, ShapeError
from .palette import ink

__all__ = ["DARK", "LIGHT", "Theme", "balance", "calibration", "confusion", "rates", "require", "risk"]

Floats = NDArray[np.floating[Any]]

_INCHES = 4.6
_ROW = 0.34
_BAR = 0.36


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a figure, as ``#rrggbb``: ground, letters, thin lines, and two series."""

    paper: str
    ink: str
    pale: str
    first: str
    second: str


LIGHT = Theme("#ffffff", "#20242c", "#d9dde4", "#3a86c8", "#e08a3c")
"""For a white page."""

DARK = Theme("#171a20", "#e6e9ef", "#3a414d", "#4f9bd6", "#d9854a")
"""For a dark page."""


def require() -> None:
    """Make sure that figures can be drawn.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed; so do all figures here.
    """
    if find_spec("matplotlib") is None:
        package = "matplotlib"
        raise MissingExtraError(package, "report")


def confusion(
    counts: NDArray[np.integer[Any]], labels: Sequence[str], *, shares: bool = False, theme: Theme = LIGHT
) -> str:
    """Draw a confusion matrix; each cell is as dark as its share of the row.

    Parameters
    ----------
    counts
        (K, K), the truth in rows.
    labels
        K names in the matrix's order.
    shares
        Write shares of the row, not counts; a row without faces stays empty.

    Returns
    -------
    str
        SVG.

    Raises
    ------
    ShapeError
        If the counts do not fit the labels.
    """
    k = len(labels)
    if counts.shape != (k, k):
        raise ShapeError("confusion", f"({k}, {k}), one row a label", counts.shape)
    total = counts.sum(1, keepdims=True)
    share = np.divide(counts, total, out=np.zeros((k, k)), where=total > 0)
    figure, axes = _figure(_side(k), _side(k), theme)
    colours = _shades(theme)
    axes.imshow(share, cmap=colours, vmin=0, vmax=1, aspect="equal")
    for row, column in np.ndindex(k, k):
        text = _share(share[row, column]) if shares else f"{counts[row, column]:,}"
        if total[row, 0] and (counts[row, column] or not shares):
            red, green, blue = (round(255 * c) for c in colours(share[row, column])[:3])
            axes.text(
                column, row, text, ha="center", va="center", fontsize=8.5 if k <= 8 else 7,
                color=_hex(ink((red, green, blue))), weight="bold" if row == column else "normal",
            )  # fmt: skip
    axes.set_xticks(range(k), labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(k), labels)
    axes.set_xlabel("named by the model")
    axes.set_ylabel("truth")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _svg(figure)


def balance(labels: Sequence[str], counts: Mapping[str, NDArray[np.integer[Any]]], *, theme: Theme = LIGHT) -> str:
    """Draw the classes' shares of one or two sets of faces, each bar with its count.

    Parameters
    ----------
    counts
        By the name of the set, (K,) faces of each label.

    Raises
    ------
    OptionError
        If there are none or more than two sets.
    """
    if not 1 <= len(counts) <= 2:
        msg = f"{len(counts)} sets of faces to draw; give one or two"
        raise OptionError(msg)
    figure, axes = _figure(_INCHES, _height(len(labels)), theme)
    for i, (name, held) in enumerate(counts.items()):
        share = held / max(int(held.sum()), 1)
        place = _places(len(labels), i, len(counts))
        colour = (theme.first, theme.second)[i]
        axes.barh(place, share, _BAR, color=colour, label=f"{name}, {int(held.sum()):,} faces")
        for y, value, n in zip(place, share, held, strict=True):
            axes.text(value, y, f" {int(n):,}", va="center", fontsize=7.5, color=theme.ink)
    axes.set_xlabel("share of the faces")
    axes.set_xlim(0, 1.15 * max(float((c / max(c.sum(), 1)).max()) for c in counts.values()) or 1)
    _rows(axes, labels)
    _legend(figure, axes, theme)
    return _svg(figure)


def rates(
    labels: Sequence[str],
    series: Mapping[str, tuple[Floats, Floats, Floats]],
    chance: Floats,
    *,
    theme: Theme = LIGHT,
) -> str:
    """Draw one or two rates of each class as bars with intervals, and what chance gives as a stroke.

    Parameters
    ----------
    series
        By the name of the rate: its values, lower and upper ends, (K,) each; NaN is not drawn.
    chance
        (K,) in [0, 1].
    """
    if not 1 <= len(series) <= 2:
        msg = f"{len(series)} rates to draw; give one or two"
        raise OptionError(msg)
    figure, axes = _figure(_INCHES, _height(len(labels)), theme)
    for i, (name, (value, low, high)) in enumerate(series.items()):
        place = _places(len(labels), i, len(series))
        axes.barh(place, np.nan_to_num(value), _BAR, color=(theme.first, theme.second)[i], label=name)
        whiskers = np.nan_to_num(np.stack([value - low, high - value])).clip(0)
        axes.errorbar(
            np.nan_to_num(value), place, xerr=whiskers, fmt="none", ecolor=theme.ink, elinewidth=0.9, capsize=2
        )
    rows = np.arange(len(labels))
    axes.vlines(chance, rows - 0.42, rows + 0.42, color=theme.ink, linestyle=(0, (2, 1.5)), linewidth=1, label="chance")
    axes.set_xlim(0, 1)
    _rows(axes, labels)
    _legend(figure, axes, theme)
    return _svg(figure)


def calibration(
    edges: Floats,
    said: Floats,
    right: tuple[Floats, Floats, Floats],
    n: Floats,
    *,
    what: str = "share right",
    theme: Theme = LIGHT,
) -> str:
    """Draw a calibration curve above the number of faces in each bin.

    Parameters
    ----------
    edges
        (B, 2) lower and upper end of each bin that holds faces.
    said
        (B,) mean best score.
    right
        Share that is right, and the ends of its interval, (B,) each.
    n
        (B,) faces.
    what
        What ``right`` is.
    """
    share, low, high = right
    figure, axes = _figure(_INCHES, _INCHES, theme, rows=(3, 1))
    curve, bars = axes
    curve.plot([0, 1], [0, 1], color=theme.ink, linestyle=(0, (2, 1.5)), linewidth=1, label="as sure as right")
    whiskers = np.nan_to_num(np.stack([share - low, high - share])).clip(0)
    curve.errorbar(
        said, share, yerr=whiskers, color=theme.first, marker="o", markersize=4, linewidth=1.4, elinewidth=0.9,
        capsize=2, label="the model",
    )  # fmt: skip
    curve.set_xlim(0, 1)
    curve.set_ylim(0, 1)
    curve.set_ylabel(what)
    curve.tick_params(labelbottom=False)
    curve.grid(color=theme.pale, linewidth=0.6)
    bars.bar(edges[:, 0], n, edges[:, 1] - edges[:, 0] - 0.006, align="edge", color=theme.first)
    bars.set_xlim(0, 1)
    bars.set_ylabel("faces")
    bars.set_xlabel("score of the expression named")
    _legend(figure, curve, theme)
    return _svg(figure)


def risk(coverage: Floats, errors: Floats, low: Floats, high: Floats, *, overall: float, theme: Theme = LIGHT) -> str:
    """Draw the share of errors among the surest faces against their share of all.

    Parameters
    ----------
    coverage
        (P,) in (0, 1], ascending.
    errors, low, high
        (P,) share of errors, and its interval.
    overall
        The share of errors when every face is answered: what leaving out faces at random gives.
    """
    figure, axes = _figure(_INCHES, 3.4, theme)
    axes.fill_between(coverage, low, high, color=theme.first, alpha=0.25, linewidth=0)
    axes.plot(coverage, errors, color=theme.first, linewidth=1.8, label="least sure left out")
    axes.axhline(overall, color=theme.ink, linestyle=(0, (2, 1.5)), linewidth=1, label="left out at random (chance)")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(1e-3, 1.15 * float(np.nanmax([overall, *high]))))
    axes.set_xlabel("share of the faces that is answered")
    axes.set_ylabel("share of errors")
    axes.grid(color=theme.pale, linewidth=0.6)
    _legend(figure, axes, theme)
    return _svg(figure)


def _figure(width: float, height: float, theme: Theme, *, rows: tuple[int, ...] = ()) -> tuple[Any, Any]:
    require()
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor=theme.paper, layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(max(len(rows), 1), 1, height_ratios=rows or None)
    for one in np.ravel(axes):
        _dress(one, theme)
    return figure, axes


def _dress(axes: Any, theme: Theme) -> None:
    axes.set_facecolor(theme.paper)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.ink, labelsize=8.5, width=0.6)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=theme.ink, fontsize=9)
    for side, spine in axes.spines.items():
        spine.set(color=theme.ink, linewidth=0.6, visible=side in {"left", "bottom"})


def _legend(figure: Any, axes: Any, theme: Theme) -> None:
    lines, names = axes.get_legend_handles_labels()
    figure.legend(
        lines, names, loc="outside upper center", ncols=3, frameon=False, fontsize=8.5, labelcolor=theme.ink,
        columnspacing=1.2, handlelength=1.6,
    )  # fmt: skip


def _rows(axes: Any, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _places(rows: int, series: int, of: int) -> Floats:
    return np.arange(rows, dtype=np.float64) + (series - (of - 1) / 2) * _BAR


def _height(rows: int) -> float:
    return 1.0 + max(_ROW * rows, 1.2)


def _side(k: int) -> float:
    return max(_INCHES, 1.2 + 0.4 * k)


def _shades(theme: Theme) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("share", [theme.paper, theme.first])


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 0.995 else "1"


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    # The salt makes the same figure the same bytes.
    with mpl.rc_context({"svg.hashsalt": "mien", "svg.fonttype": "path"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()
