"""Conformal sets hold the true class as often as they promise, whatever the model."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from agnews_exp.core.errors import ConfigError
from agnews_exp.evaluation.conformal import METHODS, prediction_sets, set_scores, set_thresholds


def answers(seed: int, n: int, k: int = 4, sure: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) of unequal classes and probabilities (n, K) that are far too sure."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(k, n, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum())
    scores = rng.normal(size=(n, k)) * (1 + np.arange(k)) / 2
    scores[np.arange(n), labels] += 1.5
    return labels, softmax(sure * scores, axis=1)


def test_sets_hold_the_true_class_as_often_as_promised() -> None:
    held = {method: [] for method in METHODS}
    by_class = []
    for seed in range(200):
        (fit, p_fit), (new, p_new) = answers(seed, 600), answers(10_000 + seed, 400)
        for method in METHODS:
            sets = prediction_sets(p_new, set_thresholds(fit, p_fit, 0.95, method), method, seed)
            right = sets[np.arange(400), new]
            held[method].append(right.mean())
            if method == "class":
                by_class.append([right[new == k].mean() for k in range(4)])
    for method, shares in held.items():
        assert 0.94 < np.mean(shares) < 0.96 + 0.01 * (method == "class"), method  # few rows of a class: rounded up
    assert np.mean(by_class, axis=0).min() > 0.94


def test_scores_are_those_of_the_papers_by_hand() -> None:
    p = np.array([[0.5, 0.2, 0.3]])
    assert set_scores(p, "lac") == pytest.approx(1 - p)
    u = np.random.default_rng(3).random()
    assert set_scores(p, "aps", seed=3)[0] == pytest.approx([0.5 * u, 0.8 + 0.2 * u, 0.5 + 0.3 * u])


def test_the_threshold_is_the_rank_that_counts_the_new_row_too() -> None:
    labels, p = np.zeros(19, dtype=int), np.column_stack([np.linspace(0.05, 0.95, 19), np.linspace(0.95, 0.05, 19)])
    assert set_thresholds(labels, p, 0.9, "lac") == pytest.approx(1 - p[1, 0])  # the 18th of 19
    assert np.isinf(set_thresholds(labels[:8], p[:8], 0.9, "lac")).all()  # nine rows are the fewest for 90 %
    assert np.isinf(set_thresholds(labels, p, 0.9, "class")).tolist() == [False, True]  # class 1 has no row


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="lac"):
        set_scores(np.array([[0.5, 0.5]]), "raps")  # type: ignore[arg-type]
