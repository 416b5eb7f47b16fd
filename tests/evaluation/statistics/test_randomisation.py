from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.statistics.mcnemar import randomisation_test


def macro_f1_of(y, p):
    return f1_score(y, p, average="macro", labels=range(4), zero_division=0)


def every_swap(y, a, b, metric):
    """Return the exact p-value by going through all 2^d swaps of the d items on which the models differ."""
    observed = abs(metric(y, a) - metric(y, b))
    differing = np.flatnonzero(a != b)
    extreme = 0
    for code in range(2 ** len(differing)):
        swapped = differing[(code >> np.arange(len(differing))) & 1 == 1]
        c, d = a.copy(), b.copy()
        c[swapped], d[swapped] = b[swapped], a[swapped]
        extreme += abs(metric(y, c) - metric(y, d)) >= observed - 1e-12
    return extreme / 2 ** len(differing)


def test_the_p_value_is_that_of_all_swaps(random_predictions):
    for seed in (1, 5):
        y, a, b = random_predictions(seed, n=40)
        differing = np.flatnonzero(a != b)
        b[differing[8:]] = a[differing[8:]]  # 2^8 swaps are quick to go through
        exact = every_swap(y, a, b, macro_f1_of)
        ours = randomisation_test(y, a, b, "macro_f1", swaps=20_000, class_names=["0", "1", "2", "3"])
        assert ours.difference == pytest.approx(macro_f1_of(y, a) - macro_f1_of(y, b), abs=1e-12)
        assert ours.p_value == pytest.approx(exact, abs=4 * np.sqrt(0.25 / 20_000))


def test_it_agrees_with_scipys_permutation_test(random_predictions):
    y, a, b = random_predictions(2, n=300)
    right = (a == y).astype(float), (b == y).astype(float)
    theirs = stats.permutation_test(
        right,
        lambda r, s, axis=-1: r.mean(axis=axis) - s.mean(axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    ours = randomisation_test(y, a, b, "accuracy", swaps=20_000)
    assert 0.001 < theirs.pvalue < 0.999
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.02)


def test_a_function_as_metric_gives_the_p_value_of_all_swaps(random_predictions):
    def accuracy_of(y, p):
        return float(np.mean(y == p))

    p_values = []
    for seed in (3, 4, 6):
        y, a, b = random_predictions(seed, n=60, accuracy_a=0.9, accuracy_b=0.75)
        differing = np.flatnonzero(a != b)
        b[differing[9:]] = a[differing[9:]]
        exact = every_swap(y, a, b, accuracy_of)
        ours = randomisation_test(y, a, b, accuracy_of, swaps=3000)
        assert ours.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 3000) + 1e-3)
        p_values.append(exact)
    assert 0.01 < min(p_values) < 0.6


def test_probabilities_are_swapped_by_rows():
    rng = np.random.default_rng(4)
    y = rng.integers(0, 3, 200)
    good = 0.8 * np.eye(3)[y] + 0.2 / 3
    bad = rng.dirichlet(np.ones(3), 200)

    def log_loss(truth, p):
        assert np.allclose(p.sum(axis=1), 1)
        return -np.log(p[np.arange(len(truth)), truth]).mean()

    result = randomisation_test(y, good, bad, log_loss, swaps=200)
    assert result.difference < 0
    assert result.p_value == result.smallest_p_value


def test_identical_models_get_p_one_and_no_p_value_is_zero(random_predictions):
    y, a, b = random_predictions(5, n=2000, accuracy_a=0.95, accuracy_b=0.6)
    assert randomisation_test(y, a, a).p_value == 1.0
    assert randomisation_test(y, a, b, swaps=999).p_value == pytest.approx(0.001)
    with pytest.raises(DataError, match="at least 100"):
        randomisation_test(y, a, b, swaps=5)
