from __future__ import annotations

import json

import numpy as np
import pytest

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.inputs import adjust
from agnews_exp.evaluation.statistics.comparison import compare_all, compare_predictions
from agnews_exp.evaluation.statistics.mcnemar import mcnemar_test, paired_counts

NAMES = ["World", "Sports", "Business", "Sci/Tech"]


def test_a_comparison_holds_consistent_parts(random_predictions):
    y, a, b = random_predictions(1, n=2000, accuracy_a=0.95, accuracy_b=0.8)
    result = compare_predictions(y, a, b, class_names=NAMES, metrics=("accuracy", "f1/Sci/Tech"), resamples=2000)
    counts = paired_counts(y, a, b)
    difference = np.mean(a == y) - np.mean(b == y)
    assert result.counts == counts
    assert result.metrics["accuracy"].bootstrap.difference.estimate == pytest.approx(difference)
    assert result.metrics["accuracy"].randomisation.difference == pytest.approx(difference)
    assert result.effect.risk_difference.estimate == pytest.approx(difference)
    assert set(result.metrics) == {"accuracy", "f1/Sci/Tech"}
    assert result.p_value == result.mcnemar["mid_p"].p_value == mcnemar_test(counts, "mid_p").p_value
    assert set(result.mcnemar) == {"exact", "mid_p", "corrected", "uncorrected"}
    assert [test.class_name for test in result.by_class] == NAMES
    assert result.detectable.discordant_rate == pytest.approx(counts.discordant / 2000)
    assert result.verdict.startswith("Different: A has a higher accuracy than B")
    assert result.interval == (result.effect.risk_difference.low, result.effect.risk_difference.high)


def test_the_verdict_is_about_the_first_metric_and_mcnemar_about_accuracy(random_predictions):
    y, a, b = random_predictions(1, n=800, accuracy_a=0.9, accuracy_b=0.85)
    result = compare_predictions(y, a, b, metrics=("macro_f1", "accuracy"), resamples=500)
    assert result.test == "paired randomisation"
    assert result.p_value == result.metrics["macro_f1"].randomisation.p_value
    assert result.interval == result.metrics["macro_f1"].bootstrap.difference.percentile
    assert "higher macro_f1" in result.verdict
    assert "(McNemar, not adjusted)" in result.verdict


def test_rare_classes_can_decide_macro_f1_where_accuracy_sees_nothing():
    # 40 rows of a rare class that only A recognises, 40 of a frequent one that only B does: accuracy is equal.
    y = np.array([0] * 1000 + [1] * 50)
    a, b = y.copy(), y.copy()
    a[:40], b[-40:] = 1, 0
    result = compare_predictions(y, a, b, metrics=("macro_f1", "accuracy"), resamples=1000)
    assert result.mcnemar["mid_p"].p_value == pytest.approx(1, abs=0.1)
    assert result.outcome == "different"
    assert result.difference > 0.1


def test_equivalence_is_shown_by_many_rows_and_never_by_few():
    outcomes = {}
    for n in (40, 8000):
        y = np.arange(n) % 4
        outcomes[n] = compare_predictions(y, y, y, resamples=200).outcome
    assert outcomes == {40: "the same", 8000: "equivalent"}
    y = np.arange(20_000) % 4
    a, b = y.copy(), y.copy()
    a[:60], b[60:80] = (y[:60] + 1) % 4, (y[60:80] + 1) % 4
    both = compare_predictions(y, a, b, resamples=500)
    assert both.outcome == "different"
    assert "yet equivalent within 0.005" in both.verdict


def test_the_result_is_plain_json(random_predictions):
    y, a, _ = random_predictions(2)
    result = compare_predictions(y, a, a, resamples=200)  # NaN effect sizes
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert json.loads(text)["effect"]["discordant_odds_ratio"]["estimate"] is None
    assert json.loads(text)["metrics"]["macro_f1"]["bootstrap"]["difference"]["percentile"] == [0.0, 0.0]


def test_models_that_are_not_told_apart_are_not_called_equal(random_predictions):
    y, a, b = random_predictions(3, accuracy_a=0.85, accuracy_b=0.85)
    verdict = compare_predictions(y, a, b, name_a="one", name_b="other", resamples=200).verdict
    assert verdict.startswith("Unknown: one and other are neither told apart by macro_f1 nor shown equivalent")
    assert "a smaller one may well exist" in verdict


def test_notes_warn_where_a_figure_cannot_be_trusted():
    y = np.array([0, 1, 2, 3] * 25)
    b = y.copy()
    b[:3] = (b[:3] + 1) % 4
    notes = " ".join(compare_predictions(y, y, b, resamples=200).notes)
    assert "Only 3 items" in notes
    assert "Clopper" in notes
    alike = " ".join(compare_predictions(y, b, b, resamples=200).notes)
    assert "exactly the same items" in alike


def test_a_family_is_adjusted_over_all_its_pairs(random_predictions):
    y, a, b = random_predictions(4, n=1500)
    c = random_predictions(4, n=1500, accuracy_b=0.83)[2]
    results = compare_all(y, {"a": a, "b": b, "c": c}, metrics=("accuracy",), resamples=200)
    assert [(r.name_a, r.name_b) for r in results] == [("a", "b"), ("a", "c"), ("b", "c")]
    p_values = [r.p_value for r in results]
    assert [r.p_holm for r in results] == adjust(p_values, "holm").tolist()
    assert [r.p_benjamini_hochberg for r in results] == adjust(p_values, "benjamini_hochberg").tolist()
    assert any(r.p_holm > r.p_value for r in results)
    assert {r.detectable.alpha for r in results} == {0.05 / 3}
    alone = compare_predictions(y, a, b, metrics=("accuracy",), resamples=200)
    assert results[0].detectable_primary > alone.detectable_primary
    widths = [np.diff(r.interval) / np.diff(r.metrics["accuracy"].bootstrap.difference.percentile) for r in results]
    assert 1.05 < np.mean(widths) < 1.4  # simultaneous intervals are wider than those of one pair
    baseline = compare_all(y, {"a": a, "b": b, "c": c}, metrics=("accuracy",), resamples=200, against="b")
    assert [(r.name_a, r.name_b) for r in baseline] == [("a", "b"), ("c", "b")]


def test_what_cannot_be_compared_is_refused(random_predictions):
    y, a, b = random_predictions(5)
    with pytest.raises(DataError, match="two models or more"):
        compare_all(y, {"a": a})
    with pytest.raises(DataError, match="against must be one of the models"):
        compare_all(y, {"a": a, "b": b}, against="d")
    with pytest.raises(DataError, match="same items in the same order"):
        compare_predictions(y, a, b[:-1])
    with pytest.raises(ConfigError, match="Unknown metric: 'auc'"):
        compare_predictions(y, a, b, metrics=("auc",), resamples=200)


def test_two_systems_without_an_error_are_said_to_be_so():
    truth = np.tile([0, 1], 40)
    assert compare_predictions(truth, truth, truth, resamples=200).verdict.startswith(
        "No difference to see: neither A nor B errs in 80 items."
    )
    other = truth.copy()
    other[0] = 1 - other[0]
    assert "neither A nor B errs" not in compare_predictions(truth, truth, other, resamples=200).verdict
    assert "neither A nor B errs" not in compare_predictions(truth, other, other, resamples=200).verdict
