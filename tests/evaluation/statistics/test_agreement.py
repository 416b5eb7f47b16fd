from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix, jaccard_score

from agnews_exp.core.errors import DataError
from agnews_exp.evaluation.statistics.effect_size import agreement_table
from agnews_exp.evaluation.statistics.mcnemar import paired_counts


def test_rows_sum_to_the_paired_counts_and_to_each_class(random_predictions):
    y, a, b = random_predictions(1, n=900)
    table = agreement_table(y, a, b, ["World", "Sports", "Business", "Sci/Tech"])
    *classes, total = table.by_class
    counts = paired_counts(y, a, b)
    assert (total.both_right, total.only_a, total.only_b) == (counts.both_right, counts.only_a, counts.only_b)
    assert total.same_wrong + total.different_wrong == counts.both_wrong
    assert total.same_wrong == np.sum((a == b) & (a != y)) > 0
    assert total.agreement == pytest.approx(np.mean(a == b))
    for name in ("both_right", "only_a", "only_b", "same_wrong", "different_wrong"):
        assert sum(getattr(row, name) for row in classes) == getattr(total, name)
    for index, row in enumerate(classes):
        assert row.agreement == pytest.approx(np.mean(a[y == index] == b[y == index]))


def test_kappa_answers_and_shared_errors_equal_scikit_learn(random_predictions):
    y, a, b = random_predictions(2, n=700)
    table = agreement_table(y, a, b)
    assert table.kappa == pytest.approx(cohen_kappa_score(a, b))
    assert table.answers.tolist() == confusion_matrix(a, b).tolist()
    assert table.shared_errors == pytest.approx(jaccard_score(a != y, b != y))


def test_independent_errors_share_as_many_as_chance_says():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 4, 200_000)
    a, b = ((y + (rng.random(len(y)) < rate)) % 4 for rate in (0.1, 0.2))
    table = agreement_table(y, a, b)
    assert table.shared_errors == pytest.approx(table.shared_errors_by_chance, abs=0.005)


def test_models_without_errors_share_none_and_give_plain_json():
    y = np.array([0, 1, 2, 0])
    table = agreement_table(y, y, y)
    assert np.isnan(table.shared_errors)
    assert table.kappa == 1.0
    assert json.loads(json.dumps(table.to_dict(), allow_nan=False))["shared_errors"] is None
    with pytest.raises(DataError, match="same items in the same order"):
        agreement_table(y, y, y[:-1])
