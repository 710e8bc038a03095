"""How well tracks follow the truth: MOTA, IDF1, HOTA and what they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import OptionError, ShapeError
from ..geometry import iou
from ..track.assign import assign

__all__ = ["ALPHAS", "Rows", "TrackScores", "track_scores"]

Floats = NDArray[np.floating[Any]]
Counts = NDArray[np.int64]

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""Overlaps over which HOTA is averaged."""

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Boxes over time with their tracks, one row a box.

    Attributes
    ----------
    frame, id
        (R,) whole numbers; a track has at most one row a frame.
    box
        (R, 4) x1 y1 x2 y2.
    """

    frame: NDArray[np.integer[Any]]
    id: NDArray[np.integer[Any]]
    box: Floats

    def __post_init__(self) -> None:
        n = len(self.frame)
        for name, shape in {"frame": (n,), "id": (n,), "box": (n, 4)}.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(name, str(shape), getattr(self, name).shape)
        pairs = np.unique(np.stack([self.frame, self.id], 1), axis=0)
        if len(pairs) < n:
            raise ShapeError("id", "one row a track and frame", f"{n - len(pairs)} rows more")


@dataclass(frozen=True, slots=True)
class TrackScores:
    """What `track_scores` counts and derives; shares in [0, 1], NaN where nothing could be counted.

    Attributes
    ----------
    hota, deta, assa
        Averages over `ALPHAS`.
    mota
        At most 1; below 0 where there are more mistakes than faces.
    motp
        Mean overlap of the matched boxes.
    idf1, idp, idr
        Share of rows under the right identity.
    switches
        A face that goes on under another track than the one that it had last.
    fragments
        A face that is found again after it was missed.
    false, missed, matched
        Rows of the result without a face, of the truth without a row, and pairs.
    truth_tracks, tracks
        How many there are in each.
    """

    hota: float
    deta: float
    assa: float
    mota: float
    motp: float
    idf1: float
    idp: float
    idr: float
    switches: int
    fragments: int
    false: int
    missed: int
    matched: int
    truth_tracks: int
    tracks: int

    def as_dict(self) -> dict[str, float | int]:
        """Return the numbers by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    """One frame: tracks of the truth (n,) and of the result (m,), numbered from 0, and their overlaps (n, m)."""

    truth: Counts
    result: Counts
    overlap: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """Both tables by frame, and how many rows each track has."""

    frames: tuple[_Frame, ...]
    truth_rows: Counts
    result_rows: Counts

    @classmethod
    def of(cls, truth: Rows, result: Rows) -> Self:
        a, truth_rows = _numbered(truth.id)
        b, result_rows = _numbered(result.id)
        frames = tuple(
            _Frame(a[i], b[j], iou(truth.box[i].astype(np.float64), result.box[j].astype(np.float64)))
            for i, j in _side_by_side(truth.frame, result.frame)
        )
        return cls(frames, truth_rows, result_rows)


def _numbered(names: NDArray[np.integer[Any]]) -> tuple[Counts, Counts]:
    _, number, count = np.unique(names, return_inverse=True, return_counts=True)
    return number.astype(np.int64).reshape(-1), count.astype(np.int64)


def _side_by_side(
    a: NDArray[np.integer[Any]], b: NDArray[np.integer[Any]]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Give, frame by frame, the rows that each table has of it."""
    order = tuple(np.argsort(x, kind="stable") for x in (a, b))
    every = np.union1d(a, b)
    bounds = [
        (np.searchsorted(x[o], every, "left"), np.searchsorted(x[o], every, "right"))
        for x, o in zip((a, b), order, strict=True)
    ]
    for k in range(len(every)):
        i, j = (o[low[k] : high[k]] for o, (low, high) in zip(order, bounds, strict=True))
        yield i, j


def track_scores(truth: Rows, result: Rows, *, overlap: float = 0.5) -> TrackScores:
    """Compare tracks with the truth.

    Parameters
    ----------
    truth, result
        The two tables; frames and ids are only compared for equality within their table and, frames, between both.
    overlap
        Intersection over union from which two boxes may be the same, for all but HOTA.

    Raises
    ------
    OptionError
        If ``overlap`` is not in (0, 1].

    Notes
    -----
    MOTA, MOTP: Bernardin and Stiefelhagen (2008), "Evaluating Multiple Object Tracking Performance"; a pair of the
    frame before is kept where it still overlaps enough, then as many pairs as can be, then the largest overlap. MOTP is
    a mean overlap, as MOTChallenge reports it. IDF1: Ristani et al. (2016), "Performance Measures and a Data Set for
    Multi-Target, Multi-Camera Tracking". HOTA: Luiten et al. (2021), "HOTA: A Higher Order Metric for Evaluating
    Multi-Object Tracking", International Journal of Computer Vision 129.
    """
    if not 0 < overlap <= 1:
        msg = f"overlap is {overlap}; give a share above 0, at most 1"
        raise OptionError(msg)
    scene = _Scene.of(truth, result)
    pairs = _keeping_pairs(scene, overlap)
    switches, fragments = _breaks(scene, pairs)
    n, m = len(truth.frame), len(result.frame)
    matched = sum(len(i) for i, _ in pairs)
    overlaps = sum(float(f.overlap[i, j].sum()) for f, (i, j) in zip(scene.frames, pairs, strict=True))
    right = _identity(scene, overlap)
    deta, assa, hota = _hota(scene)
    return TrackScores(
        hota=hota,
        deta=deta,
        assa=assa,
        mota=_share(matched - (m - matched) - switches, n),
        motp=_share(overlaps, matched),
        idf1=_share(2 * right, n + m),
        idp=_share(right, m),
        idr=_share(right, n),
        switches=switches,
        fragments=fragments,
        false=m - matched,
        missed=n - matched,
        matched=matched,
        truth_tracks=len(scene.truth_rows),
        tracks=len(scene.result_rows),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _keeping_pairs(scene: _Scene, least: float) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Match boxes frame by frame; who was together in the last frame with boxes on both sides stays together."""
    out = []
    before: dict[int, int] = {}
    for frame in scene.frames:
        together = np.array([before.get(int(t), -1) for t in frame.truth], np.int64)[:, None] == frame.result[None, :]
        fits = frame.overlap >= least - _EPS
        i, j = assign(np.where(fits, -(1000.0 * together + frame.overlap), np.inf), gate=0.0)
        out.append((i, j))
        if frame.overlap.size:
            before = dict(zip(frame.truth[i].tolist(), frame.result[j].tolist(), strict=True))
    return out


def _breaks(scene: _Scene, pairs: list[tuple[NDArray[np.intp], NDArray[np.intp]]]) -> tuple[int, int]:
    """Count switches of identity and fragmentations."""
    last: dict[int, int] = {}
    missing: set[int] = set()
    switches = fragments = 0
    for frame, (i, j) in zip(scene.frames, pairs, strict=True):
        seen = dict(zip(frame.truth[i].tolist(), frame.result[j].tolist(), strict=True))
        switches += sum(last.get(t, r) != r for t, r in seen.items())
        fragments += len(missing & seen.keys())
        last |= seen
        missing = (missing - seen.keys()) | {t for t in frame.truth.tolist() if t in last and t not in seen}
    return switches, fragments


def _identity(scene: _Scene, least: float) -> int:
    """Return the rows that are right under the best pairing of whole tracks."""
    common = np.zeros((len(scene.truth_rows), len(scene.result_rows)), np.int64)
    for frame in scene.frames:
        i, j = np.nonzero(frame.overlap >= least - _EPS)
        common[frame.truth[i], frame.result[j]] += 1
    rows, columns = assign(-common.astype(np.float64), gate=0.0)
    return int(common[rows, columns].sum())


def _hota(scene: _Scene) -> tuple[float, float, float]:
    """Return DetA, AssA and HOTA, averaged over `ALPHAS`."""
    n, m = int(scene.truth_rows.sum()), int(scene.result_rows.sum())
    if n + m == 0:
        return float("nan"), float("nan"), float("nan")
    alike = _alike(scene)
    truths, results = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    overlaps: list[Floats] = [np.empty(0, np.float64)]
    for frame in scene.frames:
        score = alike[frame.truth[:, None], frame.result[None, :]] * frame.overlap
        i, j = assign(-score, gate=0.0)
        truths.append(frame.truth[i])
        results.append(frame.result[j])
        overlaps.append(frame.overlap[i, j])
    truth, result, overlap = np.concatenate(truths), np.concatenate(results), np.concatenate(overlaps)
    deta, assa = np.zeros(len(ALPHAS)), np.zeros(len(ALPHAS))
    for k, alpha in enumerate(ALPHAS):
        kept = overlap >= alpha - _EPS
        found = int(kept.sum())
        deta[k] = found / (n + m - found)
        if found:
            pairs, count = np.unique(np.stack([truth[kept], result[kept]], 1), axis=0, return_counts=True)
            whole = scene.truth_rows[pairs[:, 0]] + scene.result_rows[pairs[:, 1]] - count
            assa[k] = (count * (count / whole)).sum() / found
    return float(deta.mean()), float(assa.mean()), float(np.sqrt(deta * assa).mean())


def _alike(scene: _Scene) -> NDArray[np.float64]:
    """Return how much two tracks lie on each other over the whole film, soft in the overlap: (truth, result)."""
    common = np.zeros((len(scene.truth_rows), len(scene.result_rows)))
    for frame in scene.frames:
        if not frame.overlap.size:
            continue
        rivals = frame.overlap.sum(0, keepdims=True) + frame.overlap.sum(1, keepdims=True) - frame.overlap
        share = np.divide(frame.overlap, rivals, out=np.zeros(rivals.shape), where=rivals > _EPS)
        common[frame.truth[:, None], frame.result[None, :]] += share
    whole: NDArray[np.float64] = scene.truth_rows[:, None] + scene.result_rows[None, :] - common
    return common / whole
