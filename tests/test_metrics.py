"""Every metric against scikit-learn, SciPy or a naive loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from mien.errors import ShapeError
from mien.evaluate import metrics


def cases(seed: int, n: int = 400, k: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(k, n, p=rng.dirichlet(np.ones(k)))
    scores = rng.dirichlet(np.ones(k), n)
    scores[np.arange(n), truth] += rng.uniform(0, 1, n)
    scores /= scores.sum(1, keepdims=True)
    return truth, scores, scores.argmax(1)


SEEDS = pytest.mark.parametrize("seed", range(5))


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 10), (65, 100), (2345, 3589)])
def test_the_interval_of_a_share_is_wilsons(hits: int, n: int) -> None:
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(metrics.wilson(hits, n), (expected.low, expected.high), atol=1e-9)


def test_a_share_of_nothing_is_not_a_number() -> None:
    empty = metrics.share(0, 0)
    assert np.isnan([empty.value, empty.low, empty.high]).all()
    assert empty.n == 0


@given(n=st.integers(1, 500), data=st.data())
def test_an_interval_holds_its_value(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    found = metrics.share(hits, n)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value <= found.high + 1e-12 <= 1 + 2e-12


@SEEDS
def test_counts_and_rates(seed: int) -> None:
    truth, _, named = cases(seed)
    counts = metrics.confusion_matrix(truth, named, 7)
    np.testing.assert_array_equal(counts, oracle.confusion_matrix(truth, named, labels=range(7)))
    assert metrics.accuracy(truth, named).value == pytest.approx(oracle.accuracy_score(truth, named))
    expected = oracle.recall_score(truth, named, labels=range(7), average=None, zero_division=np.nan)
    np.testing.assert_allclose(metrics.recall(counts), expected)
    expected = oracle.precision_score(truth, named, labels=range(7), average=None, zero_division=np.nan)
    np.testing.assert_allclose(metrics.precision(counts), expected)


@SEEDS
@pytest.mark.parametrize("n", [12, 400])
def test_means_over_the_classes_that_occur(seed: int, n: int) -> None:
    truth, _, named = cases(seed, n)
    named[named == 6] = truth[named == 6]
    counts = metrics.confusion_matrix(truth, named, 7)
    seen = np.isin(np.arange(7), truth)
    recalls = oracle.recall_score(truth, named, labels=np.flatnonzero(seen), average=None)
    assert metrics.balanced_accuracy(counts) == pytest.approx(recalls.mean())
    assert metrics.macro_f1(counts) == pytest.approx(oracle.f1_score(truth, named, average="macro", zero_division=0))


def test_an_absent_class_has_no_recall() -> None:
    counts = metrics.confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)
    np.testing.assert_allclose(metrics.recall(counts), [0.5, 1, np.nan])
    np.testing.assert_allclose(metrics.precision(counts), [1, 0.5, np.nan])
    assert metrics.balanced_accuracy(counts) == 0.75


@SEEDS
@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_top_k(seed: int, k: int) -> None:
    truth, scores, _ = cases(seed)
    expected = float((np.argsort(scores, 1)[:, -k:] == truth[:, None]).any(1).mean())
    if k < 7:
        assert oracle.top_k_accuracy_score(truth, scores, k=k, labels=range(7)) == pytest.approx(expected)
    assert metrics.top_k(truth, scores, k).value == pytest.approx(expected)


def test_of_equal_scores_the_earlier_class_is_named() -> None:
    scores = np.full((3, 3), 1 / 3)
    assert metrics.top_k(np.array([0, 1, 2]), scores, 2).value == pytest.approx(2 / 3)


@SEEDS
def test_calibration_error(seed: int) -> None:
    truth, scores, named = cases(seed)
    best, right = scores.max(1), named == truth
    seen, said = calibration_curve(right, best, n_bins=15, strategy="uniform")
    sizes = np.histogram(best, np.linspace(0, 1, 16))[0]
    expected = (np.abs(seen - said) * sizes[sizes > 0]).sum() / len(truth)
    assert metrics.calibration_error(truth, scores) == pytest.approx(expected)


@SEEDS
def test_vote_calibration_error_is_the_naive_loops(seed: int) -> None:
    _, scores, named = cases(seed)
    votes = np.random.default_rng(seed).dirichlet(np.ones(7), len(scores))
    expected = 0.0
    for b in range(15):
        rows = [i for i in range(len(scores)) if min(int(scores[i].max() * 15), 14) == b]
        if rows:
            gap = np.mean([votes[i, named[i]] for i in rows]) - np.mean([scores[i].max() for i in rows])
            expected += abs(gap) * len(rows) / len(scores)
    assert metrics.vote_calibration_error(votes, scores) == pytest.approx(expected)


def test_votes_of_one_mind_are_labels() -> None:
    truth, scores, _ = cases(3)
    assert metrics.vote_calibration_error(np.eye(7)[truth], scores) == metrics.calibration_error(truth, scores)


def test_perfect_and_perfectly_wrong_certainty() -> None:
    certain = np.eye(3)
    assert metrics.calibration_error(np.arange(3), certain) == 0
    assert metrics.calibration_error(np.array([1, 2, 0]), certain) == 1


@SEEDS
def test_losses(seed: int) -> None:
    truth, scores, _ = cases(seed)
    votes = np.random.default_rng(seed).dirichlet(np.full(7, 0.2), len(scores))
    votes[votes < 0.02] = 0
    votes /= votes.sum(1, keepdims=True)
    assert metrics.likelihood_loss(truth, scores) == pytest.approx(oracle.log_loss(truth, scores, labels=range(7)))
    assert metrics.divergence(votes, scores) == pytest.approx(stats.entropy(votes, scores, axis=1).mean())
    assert metrics.divergence(scores, scores) == pytest.approx(0, abs=1e-12)


def test_a_certain_mistake_costs_much_but_not_everything() -> None:
    wrong = np.array([[1.0, 0.0]])
    assert np.isfinite(metrics.likelihood_loss(np.array([1]), wrong))
    assert np.isfinite(metrics.divergence(np.array([[0.0, 1.0]]), wrong))


def test_without_cases_nothing_is_a_number() -> None:
    none, no_scores = np.empty(0, np.int64), np.empty((0, 3))
    assert np.isnan(metrics.calibration_error(none, no_scores))
    assert np.isnan(metrics.likelihood_loss(none, no_scores))
    assert np.isnan(metrics.divergence(no_scores, no_scores))
    assert np.isnan(metrics.top_k(none, no_scores, 2).value)
    assert np.isnan(metrics.bootstrap(lambda i: 0.0, 0)).all()
    assert np.isnan(metrics.balanced_accuracy(np.zeros((3, 3), np.int64)))


def test_the_bootstrap_is_scipys_percentile_interval() -> None:
    values = np.random.default_rng(0).gamma(2, 1, 300)
    low, high = metrics.bootstrap(lambda i: float(values[i].mean()), 300, seed=4)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=4000, rng=1).confidence_interval
    np.testing.assert_allclose((low, high), (expected.low, expected.high), atol=0.03)


def test_resamples_are_the_draws_of_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).gamma(2, 1, 70)
    monkeypatch.setattr(metrics, "_BLOCK", 70 * 64)
    blocks = list(metrics.resamples(70, seed=3))
    assert [len(b) for b in blocks] == [64] * 15 + [40]
    weights = np.concatenate(blocks)
    assert (weights.sum(1) == 70).all()
    found = metrics.interval(weights @ values / 70)
    assert found == pytest.approx(metrics.bootstrap(lambda i: float(values[i].mean()), 70, seed=3), abs=1e-12)


def test_an_interval_leaves_out_what_is_no_number() -> None:
    assert metrics.interval(np.array([np.nan, 1.0, 3.0])) == pytest.approx((1.05, 2.95))
    assert np.isnan(metrics.interval(np.array([np.nan]))).all()


@SEEDS
def test_many_confusions_at_once_are_one_after_the_other(seed: int) -> None:
    several = np.stack([metrics.confusion_matrix(*cases(seed + i, 30)[::2], 7) for i in range(4)])
    for rate in (metrics.recall, metrics.precision, metrics.f1):
        np.testing.assert_array_equal(rate(several), np.stack([rate(one) for one in several]))
    np.testing.assert_array_equal(
        metrics.class_mean(metrics.recall(several)), [metrics.balanced_accuracy(one) for one in several]
    )


@SEEDS
@pytest.mark.parametrize("n", [12, 400])
def test_f1(seed: int, n: int) -> None:
    truth, _, named = cases(seed, n)
    found = metrics.f1(metrics.confusion_matrix(truth, named, 7))
    expected = oracle.f1_score(truth, named, labels=range(7), average=None, zero_division=np.nan)
    np.testing.assert_allclose(found, expected)


@SEEDS
def test_errors_among_the_surest_are_the_naive_loops(seed: int) -> None:
    truth, scores, named = cases(seed, 60)
    order = metrics.surest_first(scores)
    by_hand = sorted(range(60), key=lambda i: -scores[i].max())
    assert order.tolist() == by_hand
    wrong = (truth != named).astype(float)
    expected = [np.mean([wrong[i] for i in by_hand[: k + 1]]) for k in range(60)]
    np.testing.assert_allclose(metrics.risk_curve(wrong, order), expected)
    assert metrics.risk_area(wrong, order) == pytest.approx(np.mean(expected))
    assert metrics.risk_curve(wrong, order)[-1] == pytest.approx(wrong.mean())


def test_a_perfect_order_of_errors_is_better_than_none() -> None:
    wrong = np.array([1.0, 0, 1, 0])
    best, worst = metrics.risk_area(wrong, np.array([1, 3, 0, 2])), metrics.risk_area(wrong, np.array([0, 2, 1, 3]))
    assert best == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    assert best < 0.5 < worst


def test_the_seed_decides_the_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=50)

    def interval(seed: int) -> tuple[float, float]:
        return metrics.bootstrap(lambda i: float(values[i].mean()), 50, draws=100, seed=seed)

    assert interval(1) == interval(1) != interval(2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: metrics.accuracy(np.zeros(3, int), np.zeros(4, int)),
        lambda: metrics.top_k(np.zeros(3, int), np.zeros(3), 2),
        lambda: metrics.calibration_error(np.zeros(3, int), np.zeros((4, 2))),
        lambda: metrics.divergence(np.zeros((3, 2)), np.zeros((3, 3))),
    ],
)
def test_shapes_that_do_not_fit_are_named(call: object) -> None:
    with pytest.raises(ShapeError, match="expected"):
        call()
