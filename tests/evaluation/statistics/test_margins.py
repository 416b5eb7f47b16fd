from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.metrics import (
    confusion_matrix,
    count_metric,
    margins_of,
    margins_of_confusion,
    names_of_classes,
    undirected_confusions,
)
from agnews_exp.evaluation.statistics.bootstrap import Cells

NAMES = ("World", "Sports", "Business", "Sci/Tech")
SKLEARN = {
    "macro_f1": lambda y, p: metrics.f1_score(y, p, average="macro", labels=range(4), zero_division=0),
    "accuracy": metrics.accuracy_score,
    "weighted_f1": lambda y, p: metrics.f1_score(y, p, average="weighted", labels=range(4), zero_division=0),
    "micro_f1": lambda y, p: metrics.f1_score(y, p, average="micro"),
    "macro_precision": lambda y, p: metrics.precision_score(y, p, average="macro", labels=range(4), zero_division=0),
    "macro_recall": lambda y, p: metrics.recall_score(y, p, average="macro", labels=range(4), zero_division=0),
    "cohen_kappa": metrics.cohen_kappa_score,
    "mcc": metrics.matthews_corrcoef,
    "precision/World": lambda y, p: metrics.precision_score(y, p, average=None, labels=range(4), zero_division=0)[0],
    "recall/Business": lambda y, p: metrics.recall_score(y, p, average=None, labels=range(4), zero_division=0)[2],
    "f1/Sci/Tech": lambda y, p: metrics.f1_score(y, p, average=None, labels=range(4), zero_division=0)[3],
}


@pytest.mark.parametrize("name", SKLEARN)
def test_each_metric_equals_scikit_learn(name, random_predictions):
    for seed in range(5):
        y, a, _ = random_predictions(seed)
        ours = count_metric(name, NAMES)(margins_of(y, a, 4))
        assert float(ours) == pytest.approx(SKLEARN[name](y, a), abs=1e-12)


@pytest.mark.parametrize("name", ["macro_f1", "weighted_f1", "macro_precision", "macro_recall", "f1/Sci/Tech"])
def test_a_class_that_never_occurs_counts_as_zero(name):
    y, p = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0])
    assert float(count_metric(name, NAMES)(margins_of(y, p, 4))) == pytest.approx(SKLEARN[name](y, p))


def test_a_stack_of_tables_gives_one_value_each(random_predictions):
    tables = np.stack([confusion_matrix(*random_predictions(seed)[:2], 4) for seed in range(3)])
    values = count_metric("mcc", NAMES)(margins_of_confusion(tables))
    singles = [float(count_metric("mcc", NAMES)(margins_of_confusion(table))) for table in tables]
    assert values.shape == (3,)
    assert values.tolist() == pytest.approx(singles)


def test_a_metric_by_class_is_found_under_the_name_that_runs_log(random_predictions):
    y, a, _ = random_predictions()
    written, logged = count_metric("f1/Sci/Tech", NAMES), count_metric("f1/Sci_Tech", NAMES)
    assert float(written(margins_of(y, a, 4))) == float(logged(margins_of(y, a, 4)))


def test_an_unknown_metric_names_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'macro_f1'"):
        count_metric("macro_f", NAMES)


def test_a_class_without_name_is_refused():
    with pytest.raises(DataError, match="class index 4 has no name"):
        names_of_classes(np.array([0, 4]), class_names=NAMES)


def test_undirected_confusions_add_both_directions_and_sort():
    confusion = np.array([[9, 1, 5], [2, 9, 0], [4, 7, 9]])
    assert list(undirected_confusions(confusion).items()) == [((0, 2), 9), ((1, 2), 7), ((0, 1), 3)]


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
