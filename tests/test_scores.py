"""The scores of a head: every value against scikit-learn or a loop, every interval against the plain bootstrap."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from mien.evaluate import metrics
from mien.evaluate.crowd import crowd_scores
from mien.evaluate.resample import mean_of, means_of
from mien.evaluate.scores import label_scores
from mien.evaluate.truth import Truth
from mien.labels import LabelSet

FOUR = LabelSet("four", ("smile", "pout", "neutral", "wink"))


def cases(n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.choice(4, n, p=[0.45, 0.3, 0.2, 0.05])
    scores = rng.dirichlet(np.ones(4), n)
    scores[np.arange(n), label] += rng.uniform(0, 0.8, n)
    return label, scores / scores.sum(1, keepdims=True)


LABEL, SCORES = cases()
NAMED = SCORES.argmax(1)
FOUND = label_scores(LABEL, SCORES, FOUR)


def confusion(i: np.ndarray) -> np.ndarray:
    return metrics.confusion_matrix(LABEL[i], NAMED[i], 4)


STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "accuracy": lambda i: float((LABEL[i] == NAMED[i]).mean()),
    "balanced_accuracy": lambda i: metrics.balanced_accuracy(confusion(i)),
    "macro_f1": lambda i: metrics.macro_f1(confusion(i)),
    "top2": lambda i: metrics.top_k(LABEL[i], SCORES[i], 2).value,
    "top3": lambda i: metrics.top_k(LABEL[i], SCORES[i], 3).value,
    "likelihood_loss": lambda i: metrics.likelihood_loss(LABEL[i], SCORES[i]),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_intervals_are_those_of_the_plain_bootstrap(name: str) -> None:
    found = FOUND.estimate(name)
    assert found.value == pytest.approx(STATISTICS[name](np.arange(120)))
    assert (found.low, found.high) == pytest.approx(metrics.bootstrap(STATISTICS[name], 120), abs=1e-12)
    assert found.n == 120


@pytest.mark.parametrize("name", ["recall", "precision_estimate", "f1"])
@pytest.mark.parametrize("place", range(4))
def test_intervals_of_classes_too(name: str, place: int) -> None:
    rate = {"recall": metrics.recall, "precision_estimate": metrics.precision, "f1": metrics.f1}[name]
    found = getattr(FOUND.classes[place], name)
    expected = metrics.bootstrap(lambda i: float(rate(confusion(i))[place]), 120)
    if found.value == 1:
        expected = metrics.wilson(found.n, found.n)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-12)
    assert found.low < found.value <= found.high


def test_classes_against_scikit_learn() -> None:
    expected = oracle.precision_recall_fscore_support(LABEL, NAMED, labels=range(4))
    got = [[c.precision, c.recall.value, c.f1.value, c.n] for c in FOUND.classes]
    np.testing.assert_allclose(got, np.transpose(expected))
    assert [c.named for c in FOUND.classes] == np.bincount(NAMED, minlength=4).tolist()
    assert [c.precision_estimate.n for c in FOUND.classes] == [c.named for c in FOUND.classes]


def test_the_area_under_the_risk_is_resampled_face_by_face() -> None:
    def area(i: np.ndarray) -> float:
        wrong = (LABEL[i] != NAMED[i]).astype(float)
        return metrics.risk_area(wrong, metrics.surest_first(SCORES[i]))

    assert FOUND.risk.area.value == pytest.approx(area(np.arange(120)))
    # Of equal faces in a resample the weighted form takes all at once, the loop one after the other.
    np.testing.assert_allclose((FOUND.risk.area.low, FOUND.risk.area.high), metrics.bootstrap(area, 120), atol=0.01)


def test_risk_points_are_the_naive_loops() -> None:
    order = sorted(range(120), key=lambda i: -SCORES[i].max())
    for point in FOUND.risk.points:
        surest = order[: round(point.coverage * 120)]
        assert point.risk.value == pytest.approx(np.mean([LABEL[i] != NAMED[i] for i in surest]))
        assert point.threshold == pytest.approx(min(SCORES[i].max() for i in surest))
        assert point.risk.n == len(surest)
        assert point.risk.low <= point.risk.value <= point.risk.high
    assert FOUND.risk.points[-1].coverage == 1


def test_the_calibration_curve_is_the_naive_loops() -> None:
    assert sum(b.right.n for b in FOUND.calibration) == 120
    for held in FOUND.calibration:
        rows = [i for i in range(120) if held.low <= SCORES[i].max() < held.high]
        assert held.right.n == len(rows)
        assert held.score == pytest.approx(np.mean([SCORES[i].max() for i in rows]))
        assert held.right.value == pytest.approx(np.mean([NAMED[i] == LABEL[i] for i in rows]))
        assert held.right.low <= held.right.value <= held.right.high


def test_the_interval_of_the_calibration_error_lies_around_it() -> None:
    found = FOUND.estimate("calibration_error_after")
    assert found.value == metrics.calibration_error(LABEL, SCORES)
    plain = metrics.bootstrap(lambda i: metrics.calibration_error(LABEL[i], SCORES[i]), 120)
    assert found.high - found.low == pytest.approx(plain[1] - plain[0], abs=1e-12)
    assert found.low < found.value < found.high
    assert sum(plain) > found.low + found.high  # the plain one is too high


def test_the_most_confused_pairs() -> None:
    by_hand = {
        (FOUR.labels[t], FOUR.labels[p]): int(((t == LABEL) & (p == NAMED)).sum())
        for t in range(4)
        for p in range(4)
        if t != p
    }
    counts = [p.count for p in FOUND.pairs]
    assert counts == sorted(counts, reverse=True)
    assert counts == sorted((v for v in by_hand.values() if v), reverse=True)[:10]
    for pair in FOUND.pairs:
        assert by_hand[pair.label, pair.named] == pair.count
        assert pair.share.value == pytest.approx(pair.count / int((FOUR.index(pair.label) == LABEL).sum()))


def test_chance_is_one_answer_to_every_face() -> None:
    shares = np.bincount(LABEL, minlength=4) / 120
    always, answer = np.full(120, shares.argmax()), np.tile(shares, (120, 1))
    assert FOUND.chance["accuracy"] == pytest.approx(oracle.accuracy_score(LABEL, always))
    assert FOUND.chance["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(LABEL, always))
    assert FOUND.chance["macro_f1"] == pytest.approx(oracle.f1_score(LABEL, always, average="macro", zero_division=0))
    assert FOUND.chance["top2"] == pytest.approx(oracle.top_k_accuracy_score(LABEL, answer, k=2))
    assert FOUND.chance["top3"] == pytest.approx(oracle.top_k_accuracy_score(LABEL, answer, k=3))
    assert FOUND.chance["likelihood_loss"] == pytest.approx(oracle.log_loss(LABEL, answer))
    assert FOUND.chance["risk_area"] == pytest.approx(1 - shares.max())
    assert [c.chance for c in FOUND.classes] == pytest.approx(shares)
    at_random = np.random.default_rng(0).permutation(np.tile(LABEL, 500))
    for place, label in enumerate(FOUND.classes):
        named = at_random == place
        assert (np.tile(LABEL, 500) == place)[named].mean() == pytest.approx(label.chance, abs=0.02)


def test_a_share_that_never_varies_has_wilsons_interval() -> None:
    found = label_scores(np.array([0, 0, 1]), np.eye(4)[[0, 0, 1]], FOUR)
    assert found.accuracy == metrics.share(3, 3)
    assert found.classes[1].recall == metrics.share(1, 1)
    assert found.classes[0].precision_estimate == metrics.share(2, 2)
    assert np.isnan(found.classes[2].recall.value)
    assert found.classes[2].recall.n == 0
    assert found.pairs == ()


def test_without_faces_nothing_is_a_number() -> None:
    found = label_scores(np.empty(0, np.int64), np.empty((0, 4)), FOUR)
    assert found.n == 0
    for name in (*STATISTICS, "calibration_error_after"):
        assert np.isnan(found.estimate(name).value), name
    assert found.chance == {}
    assert (found.calibration, found.risk.points, found.pairs) == ((), (), ())


def test_divergence_counts_only_faces_with_votes() -> None:
    target = np.random.default_rng(2).dirichlet(np.ones(4), 120)
    target[::2] = 0
    found = label_scores(LABEL, SCORES, FOUR, target=target).divergence
    assert found.n == 60
    assert found.value == pytest.approx(stats.entropy(target[1::2], SCORES[1::2], axis=1).mean())
    assert found.low < found.value < found.high


def test_means_are_those_of_the_plain_bootstrap() -> None:
    values = {"one": np.arange(40.0), "two": np.arange(40) % 3 == 0}
    found = means_of(values)
    for name, column in values.items():
        assert found[name].value == pytest.approx(column.mean())
        expected = metrics.bootstrap(lambda i, c=column: float(c[i].mean()), 40)
        assert (found[name].low, found[name].high) == pytest.approx(expected)
    assert np.isnan(mean_of(np.empty(0)).value)


def crowd() -> tuple[Truth, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    scores = rng.dirichlet(np.ones(4), 80)
    votes = np.array([rng.multinomial(10, rng.dirichlet(np.full(6, 0.5))) for _ in range(80)], np.float32)
    votes[7] = 0
    counted = np.flatnonzero((votes.sum(1) > 0) & (votes[:, :4].max(1) >= votes[:, 4:].max(1)))
    held = votes[counted, :4]
    return Truth(counted, held.argmax(1), held / held.sum(1, keepdims=True), FOUR), votes, scores


def test_what_taggers_agree_on_is_the_naive_loops() -> None:
    truth, votes, scores = crowd()
    found = crowd_scores(truth, votes, scores, before=scores)
    shares, pairs, mine, torn = [], [], [], []
    for i in truth.index:
        held = [person for label in range(4) for person in [label] * int(votes[i, label])]
        shares.append(max(held.count(label) for label in range(4)) / len(held))
        mine.append(held.count(scores[i].argmax()) / len(held))
        torn.append(len(set(held)) > 1)
        both = [(a, b) for x, a in enumerate(held) for y, b in enumerate(held) if x != y]
        if both:
            pairs.append(np.mean([a == b for a, b in both]))
    assert found.vote_ceiling.value == pytest.approx(np.mean(shares))
    assert found.vote_share.value == pytest.approx(np.mean(mine))
    assert found.disagreed.value == pytest.approx(np.mean(torn))
    assert found.tagger_agreement.value == pytest.approx(np.mean(pairs))
    assert found.tagger_agreement.n == len(pairs)
    assert found.vote_share.value <= found.vote_ceiling.value
    for name in ("vote_ceiling", "vote_share", "disagreed", "tagger_agreement", "divergence"):
        estimate = found.estimate(name)
        assert estimate.low < estimate.value < estimate.high, name
    gap = found.estimate("vote_calibration_error_after")
    assert gap.low <= gap.value <= gap.high
    assert (found.without_votes, found.left_out) == (1, 79 - len(truth))


def test_chance_of_the_votes_is_their_mean() -> None:
    truth, votes, scores = crowd()
    found = crowd_scores(truth, votes, scores, before=scores)
    mean = truth.target.mean(0)
    assert found.chance["divergence"] == pytest.approx(
        np.mean([stats.entropy(row, mean) for row in truth.target]), rel=1e-5
    )
    assert found.chance["vote_share"] == pytest.approx(truth.target[:, mean.argmax()].mean())


def test_the_curve_to_the_votes_counts_votes() -> None:
    truth, votes, scores = crowd()
    found = crowd_scores(truth, votes, scores, before=scores)
    assert sum(b.right.n for b in found.calibration) == len(truth)
    said, got = scores[truth.index], truth.target[np.arange(len(truth)), scores[truth.index].argmax(1)]
    for held in found.calibration:
        rows = (said.max(1) >= held.low) & (said.max(1) < held.high)
        assert held.right.value == pytest.approx(got[rows].mean())
