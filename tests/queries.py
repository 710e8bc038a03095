"""Random queries, random indexes, and a plain loop that answers the ones on the others."""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filmindex import write_index
from hypothesis import strategies as st

from mien.film.index import Index
from mien.film.language import (
    COLUMNS,
    FLAGS,
    FRONTAL,
    REASONS,
    And,
    Because,
    Column,
    Compare,
    Flag,
    Held,
    Label,
    Node,
    Not,
    Number,
    Or,
    Score,
)
from mien.film.tables import Frames
from mien.labels import EIGHT, LabelSet
from mien.results import Faces, Reason
from mien.track.smooth import Smoothing

ODD = LabelSet("odd", ("alone", "Time", "it's", 'a "b"', "😀", "two words", "SAD", "sad"))
"""Labels that look like words of the language, columns by another case, quotes, signs, and each other."""

_RANGES: dict[str, tuple[float, float]] = {
    "time": (0, 3),
    "frame": (0, 60),
    "shot": (0, 3),
    "track": (0, 9),
    "faces": (0, 4),
    "side": (20, 90),
    "yaw": (0, 1),
    "turn": (-1, 1),
    "sharpness": (0, 1),
    "brightness": (0, 255),
    "score": (0, 1),
    "margin": (0, 1),
    "detector_score": (0, 1),
    "x1": (0, 300),
    "y1": (0, 300),
    "x2": (0, 300),
    "y2": (0, 300),
}


def comparisons(labels: LabelSet) -> st.SearchStrategy[Compare]:
    names = st.sampled_from([Score(label) for label in labels] * 2 + [Column(name) for name in COLUMNS])
    signs = st.sampled_from(["<", "<=", ">", ">=", "=", "!="])

    def with_number(side: Score | Column) -> st.SearchStrategy[Compare]:
        low, high = (0, 1) if isinstance(side, Score) else _RANGES[side.name]
        fine = st.floats(low, high, allow_subnormal=False)
        coarse = st.integers(0, 10).map(lambda n: low + n * (high - low) / 10)
        number = st.one_of(coarse, coarse, fine).map(Number)
        forward = st.builds(Compare, st.just(side), signs, number)
        return st.one_of(forward, st.builds(Compare, number, signs, st.just(side)))

    return st.one_of(names.flatmap(with_number), names.flatmap(with_number), st.builds(Compare, names, signs, names))


def nodes(labels: LabelSet) -> st.SearchStrategy[Node]:
    leaf = st.one_of(
        st.sampled_from(labels.labels).map(Label),
        comparisons(labels),
        st.sampled_from(list(FLAGS)).map(Flag),
        st.sampled_from(list(REASONS)).map(Because),
    )

    def deeper(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.one_of(
            several.map(And),
            several.map(Or),
            inner.map(Not),
            st.builds(Held, inner, st.integers(1, 7), st.just("frames")),
            st.builds(Held, inner, st.integers(1, 50).map(lambda n: n / 50), st.just("s")),
        )

    return st.recursive(leaf, deeper, max_leaves=6)


# Indexes


def random_index(folder: Path, seed: int, *, labels: LabelSet = EIGHT, coarse: bool = False) -> Index:
    """Write an index of some shots of up to three tracks, rows missing, not read, without a track or points."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(30, 61))
    shot = np.cumsum(rng.random(count) < 0.05)
    time = np.cumsum(rng.choice([0.04, 0.04, 0.04, 0.1], count))
    rows: list[dict[str, Any]] = []
    for frame in range(count):
        rows += _faces(rng, frame, int(shot[frame]), labels, coarse=coarse)
    columns = {key: np.array([r[key] for r in rows]) for key in rows[0]}
    found = columns["face"] >= 0
    at = columns["frame"]
    details = {
        "sharpness": np.where(found, rng.random(len(rows)), np.nan),
        "brightness": np.where(found, rng.uniform(0, 255, len(rows)), np.nan),
    }
    faces = Faces.build(len(rows), sources=("movie.mp4",), labels=labels, time=time[at], **columns)
    per_frame = np.bincount(at[found], minlength=count)
    reason = np.where(per_frame == 0, "no_face", "")
    frames = Frames.build(
        count, ordinal=np.arange(count), frame=np.arange(count), time=time, shot=shot, faces=per_frame, reason=reason
    )
    return write_index(folder, faces, frames=frames, details=details, group=int(rng.integers(5, 200)))


def _faces(rng: np.random.Generator, frame: int, shot: int, labels: LabelSet, *, coarse: bool) -> list[dict[str, Any]]:
    """The rows of one frame: a track is in its place in every shot, most of the time."""
    rows: list[dict[str, Any]] = []
    for place in range(3):
        if rng.random() < (0.05, 0.2, 0.6)[place]:
            continue
        side = float(rng.uniform(20, 90))
        corner = rng.uniform(0, 200, 2)
        shares = np.array([(0.3, 0.4), (0.7, 0.4), (0.5 + rng.normal(0, 0.1), 0.6), (0.35, 0.8), (0.65, 0.8)])
        points = corner + shares * side if rng.random() < 0.9 else np.full((5, 2), np.nan)
        sharp = np.full(len(labels), 0.3)
        sharp[(frame // 10 + place) % len(labels)] = 8.0
        scores = rng.dirichlet(sharp)
        if coarse:
            scores = np.round(scores * 10) / 10
        reason = Reason(0)
        if rng.random() < 0.1:
            scores, reason = np.full(len(labels), np.nan), rng.choice([Reason.BLURRED, Reason.BLURRED | Reason.CUT])
        elif rng.random() < 0.1:
            reason = Reason.LOW_SCORE
        rows.append(
            {
                "frame": frame,
                "face": len(rows),
                "box": np.concatenate([corner, corner + side]),
                "points": points,
                "score": rng.random(),
                "carried": rng.random() < 0.3,
                "track": 3 * shot + place if rng.random() < 0.97 else -1,
                "reason": int(reason),
                "expression": scores,
            }
        )
    nothing = {"box": np.full(4, np.nan), "points": np.full((5, 2), np.nan), "score": np.nan, "carried": False}
    nothing |= {"track": -1, "reason": int(Reason.NO_FACE), "expression": np.full(len(labels), np.nan)}
    return rows or [{"frame": frame, "face": -1} | nothing]


# The plain loop


@dataclass
class Naive:
    """Answers a query row by row, from the tables as `Index` reads them."""

    index: Index
    bridge: int = 0
    smooth: str = "none"

    def __post_init__(self) -> None:
        self.faces, self.details, self.frames = self.index.faces(), self.index.details(), self.index.frames()
        self.labels, self.ends = self.index.labels, self.frames.ends.tolist()
        self.read: list[bool] = self.faces.read.tolist()
        self.scores = self.faces.expression.copy()
        smoothing = Smoothing.parse(self.smooth)
        for track in set(self.faces.track.tolist()) - {-1}:
            at = self.faces.track == track
            arrays = self.faces.expression[at], self.faces.time[at], self.faces.track[at], self.details["ordinal"][at]
            self.scores[at] = smoothing.apply(*arrays)

    def number(self, row: int, side: Any) -> tuple[Any, str]:
        """The number and its kind: float32 scores and measures, double time, whole counts."""
        own = self.scores[row]
        if isinstance(side, Score):
            return own[self.labels.labels.index(side.label)], "single"
        if side.name in {"score", "margin"}:
            ranked = sorted(own.tolist(), reverse=True)
            return np.float32(ranked[0]) if side.name == "score" else np.float32(ranked[0]) - np.float32(
                ranked[1]
            ), "single"
        if side.name in {"yaw", "turn"}:
            value = self.details["yaw"][row]
            return (abs(value) if side.name == "yaw" else value), "single"
        if side.name in {"x1", "y1", "x2", "y2"}:
            return self.faces.box[row, ["x1", "y1", "x2", "y2"].index(side.name)], "single"
        if side.name == "detector_score":
            return self.faces.score[row], "single"
        if side.name == "time":
            return self.faces.time[row], "double"
        if side.name in {"frame", "track"}:
            value = getattr(self.faces, side.name)[row]
            return (float("nan") if value < 0 else value), "whole"
        return self.details[side.name][row], "single" if side.name in {"side", "sharpness", "brightness"} else "whole"

    def compare(self, row: int, node: Compare) -> bool:
        signs = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
        sign = (signs | {"=": operator.eq, "!=": operator.ne})[node.operator]
        sides = [None if isinstance(s, Number) else self.number(row, s) for s in (node.left, node.right)]
        kinds = {s[1] for s in sides if s}
        values = []
        for given, side in zip((node.left, node.right), sides, strict=True):
            value: Any = given.value if isinstance(given, Number) else side[0] if side else None
            if np.isnan(value):
                return False
            values.append(np.float32(value) if kinds == {"single"} else float(value))
        return bool(sign(*values))

    def row(self, row: int, node: Node) -> bool:
        """A condition that one row decides."""
        faces, details = self.faces, self.details
        reasons = Reason(int(faces.reason[row]))
        read: bool = self.read[row]
        named = read and Reason.LOW_SCORE not in reasons
        if isinstance(node, Label):
            return named and self.labels.labels[int(np.argmax(self.scores[row]))] == node.name
        if isinstance(node, Because):
            return node.reason in reasons.words.split("|")
        if isinstance(node, Compare):
            return self.compare(row, node)
        assert isinstance(node, Flag)
        flags: dict[str, bool] = {
            "face": True,
            "alone": bool(details["faces"][row] == 1),
            "frontal": bool(abs(details["yaw"][row]) <= FRONTAL),
            "read": read,
            "named": named,
            "detected": not faces.carried[row],
            "carried": bool(faces.carried[row]),
        }
        return flags[node.name]

    def stretches(self, rows: list[int]) -> list[list[int]]:
        """Rows of one track after each other, with at most ``bridge`` frames between."""
        out: list[list[int]] = []
        last: dict[int, list[int]] = {}
        for row in rows:
            track = int(self.faces.track[row])
            before = last.get(track) if track >= 0 else None
            if before and self.details["ordinal"][row] - self.details["ordinal"][before[-1]] <= 1 + self.bridge:
                before.append(row)
            else:
                last[track] = [row]
                out.append(last[track])
        return out

    def rows(self, node: Node) -> list[int]:
        """The rows that are faces and for which a condition holds."""
        everyone = [row for row in range(len(self.faces)) if self.faces.face[row] >= 0]
        if isinstance(node, And):
            each = [set(self.rows(c)) for c in node.conditions]
            return [row for row in everyone if all(row in rows for rows in each)]
        if isinstance(node, Or):
            each = [set(self.rows(c)) for c in node.conditions]
            return [row for row in everyone if any(row in rows for rows in each)]
        if isinstance(node, Not):
            not_these = self.rows(node.condition)
            return [row for row in everyone if row not in not_these]
        if isinstance(node, Held):
            return sorted(
                row for run in self.stretches(self.rows(node.condition)) if self.long(run, node) for row in run
            )
        return [row for row in everyone if self.row(row, node)]

    def end(self, row: int) -> float:
        return float(self.ends[self.details["ordinal"][row]])

    def long(self, run: list[int], node: Held) -> bool:
        if node.unit == "frames":
            return len(run) >= node.length
        return self.end(run[-1]) - float(self.faces.time[run[0]]) >= node.length - 1e-6

    def spans(self, node: Node, one: str | None) -> list[dict[str, Any]]:
        return sorted(
            (self.span(run, one) for run in self.stretches(self.rows(node))), key=lambda s: (s["start"], s["track"])
        )

    def span(self, run: list[int], one: str | None) -> dict[str, Any]:
        best = [self.scores[r][self.labels.labels.index(one)] if one else self.scores[r].max() for r in run]
        known = [float(b) for b in best if not np.isnan(b)]
        tops = Counter(self.labels.labels[int(np.argmax(self.scores[r]))] for r in run if self.row(r, Flag("named")))
        most = [x for x in self.labels.labels if tops and tops[x] == max(tops.values())]
        return {
            "track": int(self.faces.track[run[0]]),
            "shot": int(self.details["shot"][run[0]]),
            "first_frame": int(self.faces.frame[run[0]]),
            "last_frame": int(self.faces.frame[run[-1]]),
            "start": float(self.faces.time[run[0]]),
            "end": self.end(run[-1]),
            "frames": len(run),
            "score": sum(known) / len(known) if known else float("nan"),
            "label": one or (most[0] if most else ""),
        }
