"""The figures of the published study, computed again from its per-item predictions where they are at hand."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from agnews_exp.evaluation.inputs import adjust
from agnews_exp.evaluation.metrics import class_f1, confusion_matrix, count_metric, margins_of, margins_of_confusion
from agnews_exp.evaluation.statistics.bootstrap import bootstrap_difference
from agnews_exp.evaluation.statistics.comparison import compare_predictions
from agnews_exp.evaluation.statistics.effect_size import pooled_cohens_d
from agnews_exp.evaluation.statistics.mcnemar import mcnemar_by_class
from agnews_exp.evaluation.statistics.resampled import correct_t_statistic

NAMES = ("World", "Sports", "Business", "Sci/Tech")
BERT = np.array([[1803, 14, 47, 36], [10, 1877, 7, 6], [36, 5, 1744, 115], [28, 9, 126, 1737]])
SVC = np.array([[1738, 51, 67, 44], [13, 1865, 16, 6], [53, 12, 1692, 143], [53, 15, 109, 1723]])


@pytest.fixture(scope="module")
def study():
    folder = os.environ.get("AGNEWS_DATA_DIR")
    path = Path(folder).resolve().parents[1] / "reference" / "study_predictions.csv" if folder else None
    if path is None or not path.is_file():
        pytest.skip("the study's predictions are not beside AGNEWS_DATA_DIR")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        np.array([int(row[name]) for row in rows]) for name in ("true_label", "distilbert_pred", "linear_svc_pred")
    )


@pytest.mark.parametrize(
    ("confusion", "accuracy", "kappa", "mcc"),
    [(BERT, 0.942237, 0.922982, 0.922995), (SVC, 0.923421, 0.897895, 0.897938)],
)
def test_published_confusion_matrices_give_accuracy_kappa_and_mcc(confusion, accuracy, kappa, mcc):
    margins = margins_of_confusion(confusion)
    for name, value in (("accuracy", accuracy), ("cohen_kappa", kappa), ("mcc", mcc)):
        assert float(count_metric(name, NAMES)(margins)) == pytest.approx(value, abs=5e-7)


def test_class_scores_are_four_numbers_that_wilcoxon_cannot_judge():
    bert, svc = (class_f1(margins_of_confusion(confusion)) for confusion in (BERT, SVC))
    assert bert.mean() == pytest.approx(0.94228, abs=5e-6)
    assert svc.mean() == pytest.approx(0.92328, abs=5e-6)
    assert stats.wilcoxon(bert, svc).pvalue == pytest.approx(0.125)  # the smallest that four differences can give
    assert pooled_cohens_d(bert, svc) == pytest.approx(0.547, abs=5e-4)


def test_fold_t_tests_lose_their_significance_when_corrected():
    t_and_p = [correct_t_statistic(t, 10, 1 / 9) for t in (1.9496, -4.4637, -3.7085)]
    assert [t for t, _ in t_and_p] == pytest.approx([1.342, -3.072, -2.552], abs=6e-4)
    p_values = [p for _, p in t_and_p]
    assert p_values == pytest.approx([0.213, 0.0133, 0.0311], abs=6e-4)
    assert adjust(p_values, "holm") == pytest.approx([0.213, 0.040, 0.062], abs=6e-4)


@pytest.mark.ag_news
def test_comparison_of_the_two_models(study):
    y, bert, svc = study
    assert np.array_equal(confusion_matrix(y, bert, 4), BERT)
    assert np.array_equal(confusion_matrix(y, svc, 4), SVC)
    result = compare_predictions(y, bert, svc, class_names=NAMES, resamples=20_000, seed=42)
    counts = result.counts
    assert (counts.both_right, counts.only_a, counts.only_b, counts.both_wrong) == (6877, 284, 141, 298)
    assert result.mcnemar["corrected"].statistic == pytest.approx(47.4447, abs=5e-5)
    assert result.mcnemar["corrected"].p_value == pytest.approx(5.66e-12, rel=2e-3)
    assert result.mcnemar["exact"].p_value == pytest.approx(3.57e-12, rel=2e-3)
    assert result.mcnemar["uncorrected"].statistic == pytest.approx(48.115, abs=5e-4)
    assert result.effect.discordant_odds_ratio.estimate == pytest.approx(2.014, abs=5e-4)
    assert result.effect.error_reduction == pytest.approx(0.2457, abs=5e-5)
    assert result.metrics["macro_f1"].randomisation.p_value == pytest.approx(1 / 20_001)
    assert result.outcome == "different"
    assert "higher macro_f1 than" in result.verdict
    assert result.interval == pytest.approx((0.0137, 0.0243), abs=4e-4)
    assert result.p_value == result.metrics["macro_f1"].randomisation.p_value


@pytest.mark.ag_news
def test_bootstrap_of_macro_f1(study):
    pair = bootstrap_difference(*study, "macro_f1", resamples=20_000, seed=42, class_names=NAMES)
    # The published ends are rounded to four decimals and carry some 5e-5 of resampling error of their own.
    for ours, ends, error in (
        (pair.a, (0.9370, 0.9474), 0.00263),
        (pair.b, (0.9172, 0.9292), 0.00305),
        (pair.difference, (0.0137, 0.0243), 0.00271),
    ):
        assert ours.percentile == pytest.approx(ends, abs=2e-4)
        assert ours.standard_error == pytest.approx(error, abs=4e-5)


@pytest.mark.ag_news
def test_by_class_only_world_and_business_gain(study):
    tests = mcnemar_by_class(*study, NAMES, method="exact")
    assert [(t.counts.only_a, t.counts.only_b) for t in tests] == [(91, 26), (23, 11), (92, 40), (78, 64)]
    assert [t.p_value for t in tests] == pytest.approx([1.2e-9, 0.058, 7.0e-6, 0.275], rel=0.04)
    assert [t.class_name for t in tests if t.p_holm < 0.05] == ["World", "Business"]
    reductions = [1 - t.counts.errors_a / t.counts.errors_b for t in tests]
    assert reductions == pytest.approx([0.401, 0.343, 0.250, 0.079], abs=6e-4)


@pytest.mark.ag_news
def test_metrics_of_the_items_are_those_of_the_published_matrices(study):
    y, bert, _ = study
    for name in ("macro_f1", "mcc"):
        metric = count_metric(name, NAMES)
        assert float(metric(margins_of(y, bert, 4))) == float(metric(margins_of_confusion(BERT)))
