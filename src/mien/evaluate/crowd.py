"""The scores of a head against the votes of many taggers, and how far the taggers agree with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import metrics
from .metrics import Estimate
from .resample import Interval, Values, bin_values, binned, binned_gap, centred, mean_of, means_of, resampled
from .scores import CalibrationBin, LabelScores, calibration_curve, label_scores
from .truth import Truth

__all__ = ["CrowdScores", "crowd_scores"]

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CrowdScores:
    """Scores against the taggers' votes.

    Attributes
    ----------
    first_choice
        Against the expression with the most votes among the head's labels; of several, the first in order. Left out:
        faces without votes, and those for which unknown or not-a-face got more votes than any expression.
    without_votes, left_out
        How many faces of either kind were left out.
    ties
        How many of the counted faces have two or more first choices.
    ferplus_majority
        Agreement by the majority rule of FER+ (Barsoum et al. 2016, arXiv 1608.01041, and its published reader):
        single votes are dropped, and a face counts only where one expression has more than half of what is left.
    divergence
        Mean Kullback-Leibler divergence of the scores from the votes for expressions, nats, on the faces of
        ``first_choice``.
    vote_calibration_error_before, vote_calibration_error_after
        Calibration error against the share of votes that the named expression got.
    vote_share
        Mean share of the votes that the expression named by the model got.
    vote_ceiling
        Mean share of the votes that the first choice got: no answer can have a larger ``vote_share``.
    tagger_agreement
        How often two taggers of a face, drawn at random, agree; on the faces with two votes or more.
    disagreed
        Share of faces on which the taggers named more than one expression.
    calibration
        The calibration curve against the share of votes that the named expression got.
    chance
        For ``divergence`` and ``vote_share``: what the mean of all votes, given as scores to every face, reaches.
    intervals
        Of ``divergence`` and ``vote_calibration_error_after``, by name.
    """

    first_choice: LabelScores
    without_votes: int
    left_out: int
    ties: int
    ferplus_majority: Estimate
    divergence: float
    vote_calibration_error_before: float
    vote_calibration_error_after: float
    vote_share: Estimate
    vote_ceiling: Estimate
    tagger_agreement: Estimate
    disagreed: Estimate
    calibration: tuple[CalibrationBin, ...]
    chance: dict[str, float]
    intervals: dict[str, Interval]

    def estimate(self, name: str) -> Estimate:
        """Return a score by its name, with its interval."""
        value = getattr(self, name)
        return value if isinstance(value, Estimate) else Estimate(value, *self.intervals[name], self.first_choice.n)


def crowd_scores(truth: Truth, votes: NDArray[np.float32], scores: Floats, *, before: Floats) -> CrowdScores:
    """Score a head against the taggers' votes.

    Parameters
    ----------
    truth
        The faces that count, with their votes as shares (`truth.truth`).
    votes
        (N, K + 2) the votes of all N faces for the K labels of the truth, then for unknown and not-a-face.
    scores, before
        (N, K) probabilities, and the same without temperature.
    """
    voted = votes.sum(1) > 0
    held, said, raw = votes[truth.index, :-2], scores[truth.index], before[truth.index]
    target = metrics.ratio(held, held.sum(1, keepdims=True))
    got = target[np.arange(len(said)), said.argmax(1)]
    bins = binned(said, got)
    means = means_of(
        {
            "divergence": metrics.divergences(target, said),
            "vote_share": got,
            "vote_ceiling": target.max(1),
            "disagreed": target.max(1) < 1,
        }
    )

    def calibration(weights: NDArray[np.float64]) -> Values:
        sums = weights @ bins
        return {"gap": binned_gap(sums, len(said)), **bin_values(sums)}

    value, spread = resampled(calibration, len(said))
    return CrowdScores(
        first_choice=label_scores(truth.label, said, truth.labels, before=raw),
        without_votes=int((~voted).sum()),
        left_out=int(voted.sum()) - len(truth),
        ties=int(((held == held.max(1, keepdims=True)).sum(1) > 1).sum()),
        ferplus_majority=_majority(votes, scores),
        divergence=means["divergence"].value,
        vote_calibration_error_before=metrics.vote_calibration_error(target, raw),
        vote_calibration_error_after=metrics.vote_calibration_error(target, said),
        vote_share=means["vote_share"],
        vote_ceiling=means["vote_ceiling"],
        tagger_agreement=_pair_agreement(held),
        disagreed=means["disagreed"],
        calibration=calibration_curve(value, spread),
        chance=_chance(target),
        intervals={
            "divergence": (means["divergence"].low, means["divergence"].high),
            "vote_calibration_error_after": centred(value["gap"], spread["gap"]),
        },
    )


def _majority(votes: NDArray[np.float32], scores: Floats) -> Estimate:
    held = np.where(votes > 1, votes, 0)
    clear = held.max(1) > held.sum(1) / 2
    counted = clear & (held.argmax(1) < votes.shape[1] - 2)
    return mean_of(held[counted].argmax(1) == scores[counted].argmax(1))


def _pair_agreement(held: NDArray[np.float32]) -> Estimate:
    several = held[held.sum(1) > 1].astype(np.float64)
    total = several.sum(1)
    return mean_of((several * (several - 1)).sum(1) / (total * (total - 1)))


def _chance(target: NDArray[np.float64]) -> dict[str, float]:
    if not len(target):
        return {}
    mean = target.mean(0)
    return {
        "divergence": metrics.divergence(target, np.broadcast_to(mean, target.shape)),
        "vote_share": float(mean.max()),
    }
