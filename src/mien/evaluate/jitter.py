"""How often a label changes when the box around a face moves a little, alone and with a vote of windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError, OptionError, ShapeError
from ..models.base import Boxes, Classifier, Picture
from ..models.vote import GRID, Grid, crops_at, moved, pictures_at, vote
from ..zoo.card import InputSpec, ModelCard
from . import metrics
from .metrics import Estimate

__all__ = ["Flips", "JitterReport", "Moves", "measure", "measure_pictures"]

MOVES = ("shift", "scale", "both")
_BLOCK = 64
_DRAWS = 1000

Cut = Callable[[NDArray[np.intp], NDArray[np.float64]], NDArray[np.uint8]]
"""Faces (n,) and moves (n, M, 3) to their crops (n, M, h, w[, 3])."""


class Carded(Protocol):
    """A classifier with a card: what `models.expression.Expression` is."""

    @property
    def card(self) -> ModelCard:
        """The card that says how a crop must look."""
        ...

    def __call__(self, crops: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Score (N, H, W, 3) uint8 crops."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """What one kind of movement does to the answers.

    Attributes
    ----------
    move
        ``shift``, ``scale`` or ``both``.
    flips
        Share of trials in which the label is not the one at the face's own box. ``n`` is the number of faces; the
        interval is a bootstrap over faces.
    unstable
        Share of faces whose label changes in at least one trial, Wilson interval.
    change
        Mean absolute change of the score of the label that won at the face's own box.
    voted, voted_change
        The same share and mean change where the windows around each box vote; None and NaN where no vote was taken.
    plain_of_voted
        ``flips`` of the faces that were voted on.
    saved
        ``plain_of_voted`` less ``voted`` face by face, with the interval of that difference.
    """

    move: str
    flips: Estimate
    unstable: Estimate
    change: float
    voted: Estimate | None = None
    voted_change: float = float("nan")
    plain_of_voted: Estimate | None = None
    saved: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JitterReport:
    """A measurement of how much depends on the box.

    Attributes
    ----------
    faces, voted_faces
        How many faces were read, and how many of them with the vote.
    trials
        Movements of each kind a face.
    shift, scale
        Largest shift along either axis, in sides; largest change of the side, as a share.
    windows
        How many windows vote.
    context
        What lies around a crop: ``edge`` where the crop's own edge pixels are repeated, ``picture`` where there is a
        picture.
    moves
        One entry a kind of movement: shift alone, scale alone, both.
    """

    faces: int
    voted_faces: int
    trials: int
    shift: float
    scale: float
    windows: int
    context: str
    moves: tuple[Flips, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: what is NaN here is None there."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """How faces are moved: ``trials`` of each kind, uniform up to ``shift`` sides and ``scale`` of the side."""

    shift: float = 0.10
    scale: float = 0.15
    trials: int = 4

    def __post_init__(self) -> None:
        if not (0 <= self.shift < 1 and 0 <= self.scale < 1 and self.trials >= 1):
            msg = f"shift {self.shift}, scale {self.scale}, trials {self.trials}; give shares from 0 to 1 and 1 trial"
            raise OptionError(msg)

    def draw(self, faces: int, kind: str, seed: int) -> NDArray[np.float64]:
        """Return the moves (faces, trials, 3) of one kind; a face's do not depend on how many faces there are."""
        rng = np.random.default_rng([seed, MOVES.index(kind)])
        unit = rng.uniform(-1, 1, (faces, self.trials, 3))
        unit[..., :2] *= self.shift if kind != "scale" else 0
        unit[..., 2] = 1 + unit[..., 2] * (self.scale if kind != "shift" else 0)
        return unit


def measure(
    classify: Classifier,
    crops: NDArray[np.uint8],
    *,
    seed: int = 0,
    shift: float = 0.10,
    scale: float = 0.15,
    trials: int = 4,
    faces: int = 400,
    voted_faces: int = 50,
    grid: Grid = GRID,
) -> JitterReport:
    """Measure on ready crops how often the label changes when the box moves or changes its size.

    There is no picture around a ready crop, so a frame that reaches out sees the crop's edge repeated: the figure is
    an estimate of what `measure_pictures` measures.

    Parameters
    ----------
    classify
        (N, H, W[, 3]) uint8 crops to (N, K) float32 scores.
    crops
        (N, H, W) or (N, H, W, 3) uint8, N ≥ 1.
    seed
        Decides which faces are drawn and how they move.
    shift, scale, trials
        Largest shift along either axis in sides, largest change of the side as a share (both uniform), and how many
        movements of each kind a face.
    faces, voted_faces
        At most so many faces are drawn, and the vote is measured on the first of them. A voted face costs
        ``len(grid) * (1 + 3 * trials)`` crops; 0 leaves the vote out.
    grid
        The windows that vote.

    Raises
    ------
    ShapeError
        If the crops have another shape or dtype, or there are none.
    OptionError
        If shift, scale or trials are impossible.
    """
    if not len(crops):
        raise ShapeError("crops", "at least one", crops.shape)
    moves = Moves(shift=shift, scale=scale, trials=trials)
    drawn = np.random.default_rng(seed).permutation(len(crops))[:faces]
    chosen = crops[drawn]
    return _measure(
        classify, lambda index, at: crops_at(chosen[index], at), len(chosen), moves, grid, voted_faces, seed, "edge"
    )


def measure_pictures(
    expression: Carded,
    pictures: Sequence[Picture],
    boxes: Sequence[Boxes],
    *,
    seed: int = 0,
    shift: float = 0.10,
    scale: float = 0.15,
    trials: int = 4,
    voted_faces: int = 50,
    grid: Grid = GRID,
) -> JitterReport:
    """Measure on whole pictures: a moved box sees what truly lies beside the face.

    Parameters
    ----------
    expression
        A classifier with a card that names size and template of a crop.
    pictures
        (H, W, 3) uint8 RGB each.
    boxes
        The faces of each picture; all of them are measured.
    seed, shift, scale, trials, voted_faces, grid
        As for `measure`; the faces that are voted on are drawn by the seed.

    Raises
    ------
    ShapeError
        If pictures and boxes are not of one length, or there is no face.
    ModelError
        If the card does not say how a crop must look.
    OptionError
        If shift, scale or trials are impossible, or the card has no template.
    """
    spec = expression.card.input
    if spec is None:
        msg = f"model {expression.card.name!r}: its card does not say what goes in"
        raise ModelError(msg)
    if len(pictures) != len(boxes) or not sum(map(len, boxes)):
        raise ShapeError("boxes", f"one table a picture, {len(pictures)}, with a face", [len(b) for b in boxes])
    where = np.array([(p, i) for p, table in enumerate(boxes) for i in range(len(table))])
    where = np.random.default_rng(seed).permutation(where)
    moves = Moves(shift=shift, scale=scale, trials=trials)
    cut = _from_pictures(pictures, boxes, where, spec)
    return _measure(expression, cut, len(where), moves, grid, voted_faces, seed, "picture")


def _from_pictures(
    pictures: Sequence[Picture], boxes: Sequence[Boxes], where: NDArray[np.intp], spec: InputSpec
) -> Cut:
    def cut(index: NDArray[np.intp], at: NDArray[np.float64]) -> NDArray[np.uint8]:
        found = [
            pictures_at(pictures[p], boxes[p][np.array([i])], spec, at[row : row + 1])
            for row, (p, i) in enumerate(where[index])
        ]
        return np.concatenate(found)

    return cut


def _measure(
    classify: Classifier,
    cut: Cut,
    faces: int,
    moves: Moves,
    grid: Grid,
    voted_faces: int,
    seed: int,
    context: str,
) -> JitterReport:
    voted = min(faces, voted_faces)
    still = np.array([0.0, 0.0, 1.0])
    at = np.stack([moves.draw(faces, kind, seed) for kind in MOVES], 1).reshape(faces, -1, 3)
    at = np.concatenate([np.tile(still, (faces, 1, 1)), at], 1)
    plain = _scores(classify, cut, at, still[None])
    counted = _scores(classify, cut, at[:voted], grid.moves()) if voted else None
    return JitterReport(
        faces=faces,
        voted_faces=voted,
        trials=moves.trials,
        shift=moves.shift,
        scale=moves.scale,
        windows=len(grid),
        context=context,
        moves=tuple(_flips(kind, plain, counted, _trials(i, moves.trials), seed) for i, kind in enumerate(MOVES)),
    )


def _trials(kind: int, trials: int) -> slice:
    return slice(1 + kind * trials, 1 + (kind + 1) * trials)


def _scores(
    classify: Classifier, cut: Cut, at: NDArray[np.float64], windows: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Return the mean scores (faces, M, K) of the windows at each of a face's M places."""
    faces, places = at.shape[:2]
    each = max(1, _BLOCK * 45 // (places * len(windows)))
    parts = []
    for start in range(0, faces, each):
        index = np.arange(start, min(start + each, faces))
        inside = moved(at[index][:, :, None], windows[None, None]).reshape(len(index), -1, 3)
        crops = cut(index, inside)
        found = vote(classify, crops.reshape(len(index) * places, len(windows), *crops.shape[2:]))
        parts.append(found.mean.reshape(len(index), places, -1))
    return np.concatenate(parts)


def _flips(kind: str, plain: NDArray[np.float32], voted: NDArray[np.float32] | None, trials: slice, seed: int) -> Flips:
    flipped, change = _against_first(plain, trials)
    own = flipped.mean(1)
    alone = Flips(
        move=kind,
        flips=_mean(own, seed),
        unstable=metrics.share(int(flipped.any(1).sum()), len(flipped)),
        change=change,
    )
    if voted is None:
        return alone
    theirs, voted_change = _against_first(voted, trials)
    rest = own[: len(voted)]
    return Flips(
        move=kind,
        flips=alone.flips,
        unstable=alone.unstable,
        change=change,
        voted=_mean(theirs.mean(1), seed),
        voted_change=voted_change,
        plain_of_voted=_mean(rest, seed),
        saved=_mean(rest - theirs.mean(1), seed),
    )


def _against_first(scores: NDArray[np.float32], trials: slice) -> tuple[NDArray[np.bool_], float]:
    """Return which trials (faces, T) name another label than the face's own box, and how far its score moved."""
    first = scores[:, 0].argmax(1)
    held = scores[:, trials]
    of_first = np.take_along_axis(scores, first[:, None, None], 2)[..., 0]
    change = np.abs(of_first[:, trials] - of_first[:, :1])
    return held.argmax(2) != first[:, None], float(change.mean())


def _mean(values: NDArray[np.float64], seed: int) -> Estimate:
    drawn = np.random.default_rng(seed).integers(0, len(values), (_DRAWS, len(values)))
    low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value
