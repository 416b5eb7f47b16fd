from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.statistics.resampled import (
    compare_folds,
    compare_seeds,
    corrected_t_test,
    friedman_test,
    welch_test,
    wilcoxon_test,
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
        assert pair.wilcoxon == wilcoxon_test(FOLDS[pair.name_a], FOLDS[pair.name_b])
    p_values = [pair.test.p_value for pair in found.pairs]
    assert [p.p_holm for p in found.pairs] == pytest.approx(multipletests(p_values, method="holm")[1])
    assert [p.p_benjamini_hochberg for p in found.pairs] == pytest.approx(multipletests(p_values, method="fdr_bh")[1])
    assert found.friedman == friedman_test(np.stack(list(FOLDS.values()), axis=1), list(FOLDS))
    assert "cannot get below p = 0.062" in " ".join(found.notes)
    assert found.verdict(found.pairs[1]).startswith("Trained anew, svc scores higher than nb: svc minus nb is +0.029")
    assert "not told apart" in found.verdict(found.pairs[0])
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["scores"]["nb"]["4"] == 0.89


def test_two_models_have_no_friedman_test_and_a_baseline_is_model_b():
    two = {name: FOLDS[name] for name in ("svc", "nb")}
    assert compare_folds(two, "accuracy").friedman is None
    found = compare_folds(FOLDS, "accuracy", against="svc")
    assert [(p.name_a, p.name_b) for p in found.pairs] == [("sgd", "svc"), ("nb", "svc")]
    assert found.verdict(found.pairs[1]).startswith("Trained anew, svc scores higher than nb: nb minus svc is -0.029")


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_welch_equals_statsmodels(level):
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.92, 0.002, size=5), rng.normal(0.915, 0.006, size=8)
    ours = welch_test(a, b, level=level)
    theirs = CompareMeans(DescrStatsW(a), DescrStatsW(b))
    assert (ours.statistic, ours.p_value, ours.degrees_of_freedom) == pytest.approx(theirs.ttest_ind(usevar="unequal"))
    assert ours.interval == pytest.approx(theirs.tconfint_diff(alpha=1 - level, usevar="unequal"))
    assert ours.difference == pytest.approx(a.mean() - b.mean())


def test_welch_by_hand():
    # n = 3 and 4, variances 1 and 5/3: t = (2 - 4.5) / sqrt(1/3 + 5/12), df by Welch and Satterthwaite
    test = welch_test([1.0, 2.0, 3.0], [3.0, 4.0, 5.0, 6.0])
    assert test.statistic == pytest.approx(-2.5 / np.sqrt(0.75))
    df = 0.75**2 / ((1 / 3) ** 2 / 2 + (5 / 12) ** 2 / 3)
    assert test.degrees_of_freedom == pytest.approx(df)
    assert test.p_value == pytest.approx(2 * stats.t.cdf(-2.5 / np.sqrt(0.75), df))


def test_seeds_are_compared_unpaired_and_ranked_over_the_seeds_that_all_have():
    rng = np.random.default_rng(5)
    scores = {name: {seed: m + rng.normal(0, 0.001) for seed in seeds} for name, m, seeds in (
        ("minilm", 0.93, (1, 2, 3)), ("tiny", 0.89, (2, 3, 4, 5)), ("cnn", 0.91, (1, 2, 3, 7)))}  # fmt: skip
    found = compare_seeds(scores, "macro_f1")
    first = found.pairs[0]
    assert first.test == welch_test(list(scores["minilm"].values()), list(scores["tiny"].values()))
    assert first.wilcoxon is None
    common = np.array([[scores[name][seed] for name in scores] for seed in (2, 3)])
    assert found.friedman == friedman_test(common, list(scores))
    assert all(p.p_holm < 0.05 for p in found.pairs)
    assert "Fewer than 5 seeds for minilm, tiny, cnn" in " ".join(found.notes)
    enough = {name: dict.fromkeys(range(5), 0.9) | {0: 0.8} for name in scores}
    assert "Fewer than" not in " ".join(compare_seeds(enough, "macro_f1").notes)
    apart = compare_seeds({"a": {1: 0.9, 2: 0.8}, "b": {3: 0.9, 4: 0.7}, "c": {5: 0.9, 6: 0.8}}, "accuracy")
    assert apart.friedman is None
    assert "two seeds that all models have" in " ".join(apart.notes)


def test_models_that_no_seed_changes_are_named():
    found = compare_seeds({"svc": {1: 0.92, 2: 0.92}, "nb": {1: 0.89, 2: 0.89}}, "accuracy")
    assert (found.pairs[0].test.varies, found.pairs[0].test.p_value) == (False, 0.0)
    assert "svc, nb scores the same with every seed" in " ".join(found.notes)
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert welch_test([0.9, 0.9], [0.9, 0.9]).p_value == 1.0


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(DataError, match=r"different numbers of folds: svc has 5, nb has 2"):
        compare_folds({"svc": FOLDS["svc"], "nb": [0.9, 0.8]}, "accuracy")
    with pytest.raises(DataError, match="two models or more"):
        compare_folds({"svc": FOLDS["svc"]}, "accuracy")
    with pytest.raises(DataError, match="against must be one of the models"):
        compare_folds(FOLDS, "accuracy", against="lightgbm")
    with pytest.raises(DataError, match="two repetitions or more"):
        compare_seeds({"a": {1: 0.9}, "b": {1: 0.8, 2: 0.9}}, "accuracy")
