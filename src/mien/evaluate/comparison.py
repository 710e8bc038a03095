"""What a comparison of models found, and how it is written down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .metrics import Estimate
from .paired import Paired

__all__ = ["MEASURES", "Comparison", "Row", "Timing", "cells", "markdown", "notes"]

MEASURES = (
    "accuracy",
    "95 % interval",
    "macro-F1",
    "balanced accuracy",
    "KL to the votes, nats",
    "ms a face, one at a time",
    "ms a face, 64 at a time",
    "processor ms a face, one at a time",
    "processor ms a face, 64 at a time",
    "start, s",
    "peak memory, MB",
    "installed, MB",
    "first less this",
    "95 % interval",
    "only the first is right",
    "only this is right",
    "McNemar's exact p",
)
"""The lines of the table, a column a model."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds a face: median, fastest and slowest round by the clock, and the median of the processor's time.

    Other processes delay the clock and hardly the processor's time, which counts all threads of the model.
    """

    median: float
    fastest: float
    slowest: float
    processor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model of a comparison.

    Attributes
    ----------
    name, kind, version, python
        What was asked for, what it is, the version of its package, and that of its Python.
    labels
        Its own labels, in the order of its scores.
    accuracy, balanced_accuracy, macro_f1
        Over the shared labels; Wilson's interval, and the bootstrap's for the last two.
    divergence
        Mean Kullback-Leibler divergence of its scores from the taggers' votes, nats; NaN without votes.
    milliseconds
        By batch size.
    start_seconds
        From starting the process to the first answer.
    peak_megabytes
        Most memory held while it read all faces, 10⁶ bytes; None where the system does not tell.
    installed_megabytes
        The package, all that it needs and the model's file, 10⁶ bytes; None where pip did not install it.
    environment_megabytes
        All of the Python's site-packages.
    missing
        What the package declares to need and is not installed, so that the megabytes are too few.
    against_first
        The first model against this one; None for the first.
    """

    name: str
    kind: str
    version: str
    python: str
    labels: tuple[str, ...]
    accuracy: Estimate
    balanced_accuracy: Estimate
    macro_f1: Estimate
    divergence: float
    milliseconds: Mapping[int, Timing]
    start_seconds: float
    peak_megabytes: float | None
    installed_megabytes: float | None
    environment_megabytes: float
    missing: tuple[str, ...]
    against_first: Paired | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several models on the same faces.

    Attributes
    ----------
    data, split
        What they read.
    labels
        The labels that all were scored on.
    n, votes
        Faces that counted, and those of them that have votes.
    chance_largest, chance_uniform
        What always naming the most frequent label, and what guessing, would reach.
    also_elsewhere, repeated
        Faces dropped because another split, or this one, holds the same pixels.
    machine
        Processor, system, and the threads of each model.
    rounds
        Rounds of the timing.
    rows
        The models, as they were asked for.
    problems
        A line for each model that could not be compared.
    remarks
        What limits the comparison, a sentence each.
    """

    data: str
    split: str
    labels: tuple[str, ...]
    n: int
    votes: int
    chance_largest: float
    chance_uniform: float
    also_elsewhere: int
    repeated: int
    machine: str
    rounds: int
    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: what is NaN here is None there."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def cells(row: Row) -> tuple[str, ...]:
    """Return a model's column of the table, in the order of `MEASURES`; what is unknown is a dash."""
    speed = [row.milliseconds.get(batch) for batch in (1, 64)]
    return (
        _number(row.accuracy.value, 4),
        f"{row.accuracy.low:.4f}–{row.accuracy.high:.4f}",
        _number(row.macro_f1.value, 4),
        _number(row.balanced_accuracy.value, 4),
        _number(row.divergence, 3),
        *(_number(t.median if t else None, 2) for t in speed),
        *(_number(t.processor if t else None, 2) for t in speed),
        _number(row.start_seconds, 1),
        _number(row.peak_megabytes, 0),
        _number(row.installed_megabytes, 0),
        *_against(row.against_first),
    )


def notes(found: Comparison) -> tuple[str, ...]:
    """Return what must be read with the table, a sentence each."""
    first = (
        f"{found.n} faces of {found.data} {found.split}; dropped: {found.also_elsewhere} whose pixels are also in "
        f"another split, {found.repeated} repeated"
    )
    chance = (
        f"labels: {', '.join(found.labels)}; chance: {found.chance_largest:.4f} by the largest class, "
        f"{found.chance_uniform:.4f} by guessing"
    )
    speed = f"speed: median of {found.rounds} interleaved rounds on {found.machine}"
    missing = [
        f"{r.name}: {', '.join(r.missing)} is needed and not installed, so its MB are too few"
        for r in found.rows
        if r.missing
    ]
    return (first, chance, speed, *missing, *found.remarks)


def markdown(found: Comparison) -> str:
    """Return the comparison as a page of Markdown."""
    head = ("", *(row.name for row in found.rows))
    marks = ("---", *("---:" for _ in found.rows))
    table = zip(MEASURES, *(cells(row) for row in found.rows), strict=True)
    lines = [f"# {found.rows[0].name} compared on {found.data} {found.split}", ""]
    lines += [_line(head), _line(marks), *(_line(entries) for entries in table), ""]
    lines += [f"- {line}" for line in (*notes(found), *(f"left out: {p}" for p in found.problems))]
    return "\n".join(lines) + "\n"


def _line(entries: tuple[str, ...]) -> str:
    return "| " + " | ".join(entry.replace("|", "\\|") for entry in entries) + " |"


def _against(pair: Paired | None) -> tuple[str, ...]:
    if pair is None:
        return ("",) * 5
    p = f"{pair.p:.1e}" if pair.p < 1e-3 else f"{pair.p:.3f}"
    interval = f"{pair.low:+.4f} to {pair.high:+.4f}"
    return f"{pair.difference:+.4f}", interval, str(pair.only_first), str(pair.only_second), p


def _number(value: float | None, places: int) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{places}f}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
