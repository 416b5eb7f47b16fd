from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.resampled import (
    compare_folds,
    compare_seeds,
    corrected_t_test,
    friedman_test,
    seed_test,
)

FOLDS = {
    "svc": [0.921, 0.925, 0.918, 0.930, 0.924],
    "sgd": [0.919, 0.926, 0.914, 0.925, 0.921],
    "nb": [0.893, 0.899, 0.888, 0.902, 0.890],
}


def test_folds_are_compared_pair_by_pair_with_adjusted_p_values():
    found = compare_folds(FOLDS, "macro_f1")
    assert [(p.name_a, p.name_b) for p in found.pairs] == [("svc", "sgd"), ("svc", "nb"), ("sgd", "nb")]
    for pair in found.pairs:
        assert pair.test == corrected_t_test(FOLDS[pair.name_a], FOLDS[pair.name_b])
    p_values = [pair.test.p_value for pair in found.pairs]
    assert [p.p_holm for p in found.pairs] == pytest.approx(multipletests(p_values, method="holm")[1])
    assert [p.p_benjamini_hochberg for p in found.pairs] == pytest.approx(multipletests(p_values, method="fdr_bh")[1])
    assert found.friedman == friedman_test(np.stack(list(FOLDS.values()), axis=1), list(FOLDS))
    assert found.verdict(found.pairs[1]).startswith("Trained anew, svc scores higher than nb: svc minus nb is +0.029")
    assert "not told apart" in found.verdict(found.pairs[0])
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["scores"]["nb"]["4"] == 0.89


def test_two_models_have_no_friedman_test_and_a_baseline_is_model_b():
    two = {name: FOLDS[name] for name in ("svc", "nb")}
    assert compare_folds(two, "accuracy").friedman is None
    found = compare_folds(FOLDS, "accuracy", against="svc")
    assert [(p.name_a, p.name_b) for p in found.pairs] == [("sgd", "svc"), ("nb", "svc")]
    assert found.verdict(found.pairs[1]).startswith("Trained anew, svc scores higher than nb: nb minus svc is -0.029")


def seeded(seed, n, seeds=3, noise=0.3, apart=0.0, k=3):
    """Answers of two models over seeds; rows have a difficulty of their own for each model, shared by its seeds."""
    rng = np.random.default_rng(seed)
    truth, hard = rng.integers(0, k, n), rng.normal(size=n)
    answers = {}
    for name, better in (("a", apart), ("b", 0.0)):
        skill = 2 + better - hard + rng.normal(size=n)
        answers[name] = {
            s: Predictions(np.where(skill + noise * rng.normal(size=n) > 0, truth, (truth + 1) % k))
            for s in range(seeds)
        }
    return truth, answers


def test_seeds_that_share_their_rows_are_no_proof_of_what_the_rows_caused():
    rejected = np.zeros(2)
    for seed in range(150):
        truth, answers = seeded(seed, 300, seeds=5)
        found = compare_seeds(truth, answers, "macro_f1", class_names=("x", "y", "z"), resamples=200)
        scores = [list(by_seed.values()) for by_seed in found.scores.values()]
        rejected += [found.pairs[0].test.p_value <= 0.05, stats.ttest_ind(*scores, equal_var=False).pvalue <= 0.05]
    assert rejected[0] / 150 <= 0.1  # 5 %, and chance; scripts/check_statistics.py measures it well
    assert rejected[1] / 150 >= 0.4  # Welch's t over the same seeds


def test_a_difference_over_seeds_and_rows_is_found_with_its_components_named():
    truth, answers = seeded(1, 2000, apart=0.6)
    found = compare_seeds(truth, answers, "accuracy", class_names=("x", "y", "z"))
    pair = found.pairs[0]
    by_hand = [[np.mean(p.labels == truth) for p in runs.values()] for runs in answers.values()]
    assert [list(by_seed.values()) for by_seed in found.scores.values()] == [pytest.approx(s) for s in by_hand]
    assert pair.test.difference == pytest.approx(np.mean(by_hand[0]) - np.mean(by_hand[1]))
    means = [np.mean([p.labels == truth for p in runs.values()], axis=0) for runs in answers.values()]
    assert pair.test.rows_error == pytest.approx(np.std(means[0] - means[1]) / np.sqrt(2000), rel=0.06)
    assert pair.p_holm < 0.05
    assert "standard errors: rows 0.0" in found.verdict(pair)
    assert found.friedman is None
    assert "the training rows and the judged rows do not" in " ".join(found.notes)


def test_seeds_own_variance_widens_the_interval_as_a_t_test_would():
    rng = np.random.default_rng(3)  # rows that hardly matter: what is left is Welch's t-test
    a, b = rng.normal(0.9, 0.01, 4), rng.normal(0.91, 0.02, 6)
    still = (np.tile(a[:, None], 500), np.tile(b[:, None], 500))
    ours, theirs = seed_test((a, b), still), stats.ttest_ind(a, b, equal_var=False)
    assert (ours.statistic, ours.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert ours.degrees_of_freedom == pytest.approx(theirs.df)
    assert ours.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.rows_error == 0


def test_models_that_no_seed_changes_are_named_and_not_tested():
    truth, answers = seeded(2, 200)
    fixed = {name: dict.fromkeys((1, 2, 3), answers[name][0]) for name in answers}
    found = compare_seeds(truth, fixed, "macro_f1", class_names=("x", "y", "z"))
    assert found.pairs == ()
    assert "a, b answers the same with every seed" in " ".join(found.notes)
    assert json.dumps(found.to_dict(), allow_nan=False)
    one = compare_seeds(truth, fixed | {"b": answers["b"]}, "macro_f1", class_names=("x", "y", "z"))
    assert len(one.pairs) == 1


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match=r"different numbers of folds: svc has 5, nb has 2"):
        compare_folds({"svc": FOLDS["svc"], "nb": [0.9, 0.8]}, "accuracy")
    with pytest.raises(DataError, match="two models or more"):
        compare_folds({"svc": FOLDS["svc"]}, "accuracy")
    with pytest.raises(DataError, match="against must be one of the models"):
        compare_folds(FOLDS, "accuracy", against="lightgbm")
    truth, answers = seeded(0, 20)
    with pytest.raises(DataError, match="two seeds or more of each model; a has one"):
        compare_seeds(truth, answers | {"a": {1: answers["a"][1]}}, "accuracy", class_names=("x", "y", "z"))


def test_folds_that_differ_by_one_amount_prove_nothing():
    apart = {"svc": [0.75, 0.75, 0.75], "nb": [0.5, 0.5, 0.5]}
    found = compare_folds(apart, "accuracy")
    assert found.pairs[0].p_holm == 1.0
    assert "All folds differ by the same amount" in " ".join(found.notes)
