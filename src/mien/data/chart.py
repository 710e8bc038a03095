"""The balance of the classes as a bar chart."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import MissingExtraError, OptionError
from ..results.files import replacing
from .summary import Summary

__all__ = ["draw_balance"]

_ENDINGS = (".png", ".svg", ".pdf")
# Wong, Points of view: Color blindness, Nature Methods 8, 441 (2011): told apart by colour-blind eyes.
_SPLIT_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
_INCHES_A_BAR = 0.28


def draw_balance(path: str | os.PathLike[str], summary: Summary, *, title: str = "") -> None:
    """Write a chart with a bar for each class and split, its count above it.

    Parameters
    ----------
    path
        Ends in ``.png``, ``.svg`` or ``.pdf``; an existing file is replaced.
    summary
        What to draw.
    title
        Stands above the chart.

    Raises
    ------
    OptionError
        If the ending is none of these.
    OutputError
        If the file cannot be written.
    MissingExtraError
        If matplotlib is not installed.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in _ENDINGS:
        msg = f"{target}: a chart is written by its ending, one of: {', '.join(_ENDINGS)}"
        raise OptionError(msg)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "report") from error
    bars = len(summary.labels) * len(summary.splits)
    figure = Figure(figsize=(max(6.4, 1.6 + bars * _INCHES_A_BAR), 4.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    width = 0.86 / len(summary.splits)
    for i, split in enumerate(summary.splits):
        places = [k + (i - (len(summary.splits) - 1) / 2) * width for k in range(len(summary.labels))]
        name = f"{split.name} ({split.faces:,})"
        drawn = axes.bar(places, split.counts, width, label=name, color=_SPLIT_COLOURS[i % len(_SPLIT_COLOURS)])
        axes.bar_label(drawn, fontsize=7, rotation=90, padding=2)
    axes.set_xticks(range(len(summary.labels)), summary.labels, rotation=30 if len(summary.labels) > 8 else 0)
    axes.set_ylabel("faces")
    axes.margins(y=0.14)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with replacing(target) as temporary:
        figure.savefig(temporary, format=ending[1:])
