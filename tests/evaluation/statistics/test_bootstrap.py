from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.metrics import margins_of
from agnews_exp.evaluation.statistics.bootstrap import (
    Cells,
    JointBootstrap,
    bootstrap_difference,
    bootstrap_mean_difference,
    bootstrap_metric,
    joint_bootstrap,
)


def sklearn_macro_f1(y, p):
    return f1_score(y, p, average="macro", labels=range(4), zero_division=0)


def test_paired_difference_agrees_with_scipys_own_paired_bootstrap(random_predictions):
    y, a, b = random_predictions(n=500)
    right = (a == y).astype(float), (b == y).astype(float)
    theirs = stats.bootstrap(
        right,
        lambda r, s, axis=-1: r.mean(axis=axis) - s.mean(axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(2),
    )
    ours = bootstrap_difference(y, a, b, "accuracy", resamples=20_000, seed=3).difference
    assert ours.standard_error == pytest.approx(theirs.standard_error, rel=0.03)
    assert ours.percentile == pytest.approx(tuple(theirs.confidence_interval), abs=0.1 * ours.standard_error + 1 / 500)


def test_resampling_counts_is_resampling_items(random_predictions):
    y, a, b = random_predictions(1, n=150)
    fast = bootstrap_difference(y, a, b, "macro_f1", resamples=20_000, seed=1)
    slow = bootstrap_difference(y, a, b, sklearn_macro_f1, resamples=600, seed=2)
    for quick, thorough in ((fast.a, slow.a), (fast.difference, slow.difference)):
        assert quick.estimate == pytest.approx(thorough.estimate, abs=1e-12)
        assert quick.standard_error == pytest.approx(thorough.standard_error, rel=0.12)
        assert quick.percentile == pytest.approx(thorough.percentile, abs=0.3 * quick.standard_error)


def test_many_classes_take_the_sparse_path_and_agree(random_predictions):
    y, a, b = random_predictions(4, n=3000, k=40)
    fast = bootstrap_difference(y, a, b, "macro_recall", resamples=2000, seed=1).difference
    deltas = []
    rng = np.random.default_rng(5)
    for _ in range(300):
        items = rng.integers(0, 3000, 3000)
        support = np.bincount(y[items], minlength=40)
        hits = [np.bincount(y[items][p[items] == y[items]], minlength=40) for p in (a, b)]
        deltas.append(np.mean((hits[0] - hits[1]) / np.maximum(support, 1)))
    assert fast.standard_error == pytest.approx(np.std(deltas), rel=0.15)


def test_mean_difference_agrees_with_scipys_on_skewed_values():
    values = np.random.default_rng(1).lognormal(sigma=1.2, size=(2, 80)) * np.array([[3.0], [1.0]])
    theirs = stats.bootstrap(
        (values[0] - values[1],), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    )
    ours = bootstrap_mean_difference(*values, resamples=20_000, seed=3).difference
    low, high = ours.percentile
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.15 * ours.standard_error)


def test_swapping_the_models_mirrors_the_result(random_predictions):
    y, a, b = random_predictions(7)
    one, other = bootstrap_difference(y, a, b, seed=4).difference, bootstrap_difference(y, b, a, seed=4).difference
    assert one.estimate == -other.estimate
    assert one.percentile[0] == pytest.approx(-other.percentile[1], abs=0.15 * one.standard_error)


def test_the_seed_decides_the_resamples(random_predictions):
    case = random_predictions(8)
    assert bootstrap_difference(*case, seed=5) == bootstrap_difference(*case, seed=5)
    assert bootstrap_difference(*case, seed=5) != bootstrap_difference(*case, seed=6)


def test_identical_models_differ_by_nothing_and_say_so(random_predictions):
    y, a, _ = random_predictions(9)
    pair = bootstrap_difference(y, a, a)
    assert pair.difference.percentile == (0.0, 0.0)


def test_a_model_without_errors_gets_a_lower_end_from_what_its_rows_allow():
    y = np.array([0, 1, 2, 3] * 10)
    exact = stats.binomtest(40, 40).proportion_ci(0.95, "exact").low
    interval = bootstrap_metric(y, y, "accuracy")
    assert interval.percentile == (pytest.approx(exact), 1.0)
    macro = bootstrap_metric(y, y, "macro_f1")
    assert 0.85 < macro.percentile[0] < exact  # the errors may all be of one class
    rare = np.array([0] * 39 + [1])
    assert bootstrap_metric(rare, rare, "macro_f1").percentile[0] < 0.52  # of one row nothing is known
    assert bootstrap_metric(np.arange(40_000) % 4, np.arange(40_000) % 4, "mcc").percentile[0] > 0.999
    y_b = y.copy()
    y_b[0] = 1
    pair = bootstrap_difference(y, y, y_b, "macro_f1", resamples=200)
    assert pair.a.percentile == macro.percentile
    assert pair.b.estimate < 1


def joint(k, seed=0, resamples=20_000, estimates=None):
    centre = np.zeros(k) if estimates is None else np.asarray(estimates)
    drawn = centre[:, None] + np.random.default_rng(seed).normal(size=(k, resamples))
    return JointBootstrap(tuple("abcdefgh"[:k]), centre, drawn)


def test_simultaneous_intervals_are_tukeys_for_independent_systems_and_plain_for_one_pair():
    k, found = 5, joint(5)
    pairs = list(itertools.combinations(found.names, 2))
    reach = [high for _, high in found.differences(pairs)]
    tukey = stats.studentized_range.ppf(0.95, k, np.inf)  # of a difference with standard error sqrt(2): q / sqrt(2)
    assert np.mean(reach) == pytest.approx(tukey, rel=0.02)
    ((low, high),) = found.differences([("a", "b")])
    assert (low, high) == pytest.approx((-1.96 * 2**0.5, 1.96 * 2**0.5), rel=0.03)


def test_the_best_set_holds_the_best_and_leaves_out_who_is_clearly_worse():
    assert joint(4, estimates=[0, 0, 0, 0]).best_set() == tuple("abcd")
    assert joint(4, estimates=[0, -0.1, -9, -1]).best_set() == ("a", "b", "d")
    assert joint(4, estimates=[0, -0.1, -9, -1]).best_set(higher_is_better=False) == ("c",)
    rng, missed = np.random.default_rng(1), 0
    for seed in range(300):  # five systems equally good: the first counts as the best as well as any
        missed += "a" not in joint(5, seed, 500, rng.normal(size=5)).best_set()
    assert 0.02 < missed / 300 < 0.09
    twin = JointBootstrap(("a", "b"), np.zeros(2), np.tile(np.random.default_rng(0).normal(size=500), (2, 1)))
    assert twin.best_set() == ("a", "b")


def test_systems_are_resampled_together(random_predictions):
    y, a, b = random_predictions(3, n=300)
    found = joint_bootstrap(y, {"a": a, "b": b, "twin": a}, "macro_f1", resamples=500, class_names=list("0123"))
    assert np.array_equal(found.resampled[0], found.resampled[2])
    assert found.estimates[1] == pytest.approx(sklearn_macro_f1(y, b))
    alone = bootstrap_difference(y, a, b, "macro_f1", resamples=500).difference
    assert np.std(found.resampled[0] - found.resampled[1]) == pytest.approx(alone.standard_error, rel=0.15)


def test_a_hundred_thousand_resamples_of_7600_items_take_little_memory(random_predictions):
    case = random_predictions(11, n=7600, accuracy_a=0.94, accuracy_b=0.92)
    bootstrap_difference(*case, resamples=100)
    tracemalloc.start()
    bootstrap_difference(*case, "macro_f1", resamples=100_000)
    bootstrap_mean_difference(*(np.random.default_rng(0).random((2, 7600))), resamples=2000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6


def test_bad_requests_are_refused(random_predictions):
    y, a, b = random_predictions(12, n=50)
    with pytest.raises(ConfigError, match="Did you mean 'recall/World'"):
        bootstrap_metric(y, a, "recall/Worl", class_names=["World", "Sports", "Business", "Sci/Tech"])
    with pytest.raises(DataError, match="at least 100"):
        bootstrap_difference(y, a, b, resamples=10)
    with pytest.raises(DataError, match="level must lie strictly between 0 and 1, got 95"):
        bootstrap_difference(y, a, b, level=95)
    with pytest.raises(DataError, match="output_b has 49"):
        bootstrap_difference(y, a, b[:-1])
    with pytest.raises(DataError, match="finite"):
        bootstrap_mean_difference([1.0, np.nan], [1.0, 2.0])


@pytest.mark.parametrize("k", [2, 4, 30])
def test_cells_hold_every_item_once_and_give_the_same_counts_as_the_items(k, random_predictions):
    y, a, b = random_predictions(n=700, k=k)
    cells = Cells.group(y, [a, b], k)
    assert cells.n_items == 700
    weights = cells.counts[None, :].astype(float)
    for model, predicted in enumerate((a, b)):
        ours, expected = cells.margins(weights, model), margins_of(y, predicted, k)
        assert np.array_equal(ours.hits[0], expected.hits)
        assert np.array_equal(ours.support[0], expected.support)
        assert np.array_equal(ours.predicted[0], expected.predicted)


def test_more_cells_than_an_integer_can_number_are_told_apart():
    rng = np.random.default_rng(3)
    y, *models = rng.integers(0, 1000, (8, 50))  # 1000 ** 8 possible cells
    cells = Cells.group(y, models, 1000)
    assert cells.n_items == len(cells.counts) == 50
    assert sorted(cells.truth.tolist()) == sorted(y.tolist())
