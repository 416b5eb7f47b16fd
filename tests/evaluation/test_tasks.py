"""Sets of classes are judged as scikit-learn judges them, compared by rows, and answered by chosen thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from agnews_exp.core.errors import AgnewsError, ConfigError
from agnews_exp.evaluation.metrics import METRICS, find_metric, judge, margins_of
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.bootstrap import Cells, bootstrap_metric
from agnews_exp.evaluation.statistics.comparison import compare_predictions
from agnews_exp.evaluation.tasks import MULTICLASS, MULTILABEL, check_applies, task_of
from agnews_exp.evaluation.thresholds import choose_thresholds, gains

NAMES = ("art", "law", "music", "never", "sport")


def answered(seed=0, n=300):
    """Sets of five classes, one of which never occurs, and answers with probabilities."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 5)) < (0.5, 0.3, 0.2, 0.0, 0.1)).astype(np.int64)
    probabilities = np.clip(0.35 * truth + rng.random((n, 5)) * 0.6, 0, 1)
    return truth, Predictions((probabilities >= 0.5).astype(np.int64), None, probabilities)


def test_every_number_is_scikit_learns():
    y, given = answered()
    p, prob = given.labels, given.probabilities
    ours = judge(y, given, NAMES)
    theirs = {
        f"{kind}_f1": sk.f1_score(y, p, average=kind, zero_division=0)
        for kind in ("micro", "macro", "samples", "weighted")
    }
    theirs |= {
        "subset_accuracy": sk.accuracy_score(y, p),
        "jaccard": sk.jaccard_score(y, p, average="samples", zero_division=0),
        "hamming_loss": sk.hamming_loss(y, p),
        "macro_precision": sk.precision_score(y, p, average="macro", zero_division=0),
        "macro_recall": sk.recall_score(y, p, average="macro", zero_division=0),
        "binary_log_loss": np.mean([sk.log_loss(y[:, k], prob[:, k], labels=[0, 1]) for k in range(5)]),
    }
    for k, name in enumerate(NAMES):
        one = y[:, k], p[:, k]
        theirs |= {
            ("precision", name): sk.precision_score(*one, zero_division=0),
            ("recall", name): sk.recall_score(*one, zero_division=0),
            ("f1", name): sk.f1_score(*one, zero_division=0),
            ("average_precision", name): sk.average_precision_score(y[:, k], prob[:, k]) if y[:, k].any() else 0.0,
        }
    theirs["mean_average_precision"] = np.mean([theirs["average_precision", name] for name in NAMES])
    assert ours.keys() == theirs.keys()
    assert ours == pytest.approx(theirs, abs=1e-12)
    without = judge(y, Predictions(p), NAMES)
    assert without.keys() == {k for k in ours if "log_loss" not in k and "average_precision" not in str(k)}


def test_each_task_has_its_own_metrics():
    for name, task in (("accuracy", MULTILABEL), ("subset_accuracy", MULTICLASS), ("average_precision/x", MULTICLASS)):
        with pytest.raises(ConfigError, match="Unknown metric"):
            find_metric(name, None, task=task)
    assert find_metric("average_precision/art", NAMES, task=MULTILABEL).class_name == "art"
    assert {name for name, entry in METRICS.items() if not entry.tasks} == set()


def test_micro_f1_of_one_class_a_text_is_accuracy():
    rng = np.random.default_rng(1)
    y, p = rng.integers(0, 4, 333), rng.integers(0, 4, 333)
    ours = judge(y, Predictions(p), "abcd")
    assert ours["micro_f1"] == ours["accuracy"] == np.mean(y == p)


def test_resampled_sets_are_counted_as_their_rows_are():
    y, given = answered(n=60)
    cells = Cells.group(y, [given.labels], 5)
    rows = np.random.default_rng(0).integers(0, 60, 60)
    _, place = np.unique(np.hstack([y, given.labels]), axis=0, return_inverse=True)
    weights = np.bincount(place.ravel()[rows], minlength=len(cells.counts)).astype(float)[None, :]
    ours, theirs = cells.margins(weights, 0), margins_of(y[rows], given.labels[rows], 5)
    for name in ("hits", "support", "predicted"):
        np.testing.assert_array_equal(getattr(ours, name)[0], getattr(theirs, name))
    found = bootstrap_metric(y, given.labels, "micro_f1", resamples=500, class_names=NAMES)
    assert found.percentile[0] < found.estimate < found.percentile[1]
    assert found.estimate == sk.f1_score(y, given.labels, average="micro")


def test_two_models_are_compared_by_rows_and_class_by_class():
    y, good = answered(n=500)
    bad = Predictions(np.where(np.random.default_rng(5).random(y.shape) < 0.1, 1 - good.labels, good.labels))
    found = compare_predictions(
        y, good, bad, class_names=NAMES, metrics=("macro_f1", "subset_accuracy", "micro_f1"), resamples=300
    )
    assert found.outcome == "different"
    assert found.counts.both_right + found.counts.only_a == np.sum((y == good.labels).all(axis=1))
    assert [test.class_name for test in found.by_class] == list(NAMES)
    assert found.by_class[0].recall_a == pytest.approx(np.mean(y[:, 0] == good.labels[:, 0]))
    assert all(test.p_holm >= test.p_value for test in found.by_class)
    assert "Exact sets alone" in found.verdict
    same = compare_predictions(y, good, good, class_names=NAMES, metrics=("macro_f1",), resamples=100)
    assert same.outcome == "equivalent"


def test_chosen_thresholds_are_the_best_there_are_and_beat_a_half():
    y, given = answered(n=400)
    new_y, new = answered(seed=9, n=400)
    best = choose_thresholds(y, given.probabilities, "per_label")
    for k in (0, 1, 2, 4):
        of, p = y[:, k], given.probabilities[:, k]
        scores = [2 * (of & (p >= t)).sum() / (of.sum() + (p >= t).sum()) for t in p]
        assert sk.f1_score(of, p >= best[k]) == pytest.approx(max(scores), abs=0.01)
    assert best[3] > given.probabilities[:, 3].max() or best[3] == 0.5  # a class that never occurs
    for rule, metric in (("one", "macro_f1"), ("one", "micro_f1"), ("per_label", "macro_f1")):
        thresholds = choose_thresholds(y, given.probabilities, rule, metric)
        chosen = Predictions((new.probabilities >= thresholds).astype(np.int64), None, new.probabilities)
        gain = gains({"test": (new_y, chosen)}, NAMES, metric)["test"]
        assert gain["low"] < gain["difference"] < gain["high"]
        assert gain["half"] == judge(new_y, new, NAMES)[metric]
    assert len(set(choose_thresholds(y, given.probabilities, "one").tolist())) == 1
    few, p = y[:100], given.probabilities[:100]
    for metric, average in (("macro_f1", "macro"), ("micro_f1", "micro")):
        (one, *_) = choose_thresholds(few, p, "one", metric)
        scores = [sk.f1_score(few, p >= t, average=average, zero_division=0) for t in np.unique(p)]
        assert sk.f1_score(few, p >= one, average=average, zero_division=0) == pytest.approx(max(scores), abs=1e-12)


def test_what_does_not_apply_is_refused_with_the_key_and_what_to_type():
    plain = {"model": {"family": "classical"}, "evaluation": {"analyses": {}}}
    check_applies(MULTILABEL, plain)
    for wrong in (
        {"model": {"family": "cascade"}}, {"model": {"family": "transformer", "loss": "focal"}},
        {"model": {"family": "classical", "class_weight": {"art": 2.0}}},
        {"model": {"family": "classical", "_target_": "agnews_exp.models.setfit.SetFit"}},
        {"split": {"name": "group"}}, {"subset": {"name": "balanced"}}, {"features": {"select": {"k": 3}}},
        {"evaluation": {"costs": {"art": 2}}}, {"evaluation": {"slices": ["lang"]}},
        {"evaluation": {"analyses": {"errors": {"seed": 1}}}}, {"evaluation": {"cluster_column": "author"}},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="does not apply to a set of classes") as error:
            check_applies(MULTILABEL, plain | wrong)
        assert error.value.fix
    with pytest.raises(ConfigError, match=r"evaluation\.thresholds=one"):
        check_applies(MULTICLASS, plain | {"evaluation": {"thresholds": "one"}})


def test_labels_tell_their_task_and_others_are_refused():
    assert task_of([0, 1, 2]) is MULTICLASS
    assert task_of([[0, 1], [1, 0]]) is MULTILABEL
    for wrong in ([[0, 2]], [[0.5, 1.0]], np.empty((0, 3))):
        with pytest.raises(AgnewsError):
            MULTILABEL.check(wrong, "labels")
