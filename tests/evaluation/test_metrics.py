"""The register of metrics: values are scikit-learn's, directions are looked up, keys of classes never meet."""

from __future__ import annotations

import math
import posixpath
import re
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn import metrics as sk

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.evaluation.metrics import (
    METRICS,
    check_metrics,
    classification_report_table,
    column_key,
    confusion_matrix,
    count_metric,
    direction,
    find_metric,
    find_objective,
    judge,
    keyed,
    margins_of,
    margins_of_confusion,
    names_of_classes,
    own_metrics,
    tracked_metrics,
)
from agnews_exp.evaluation.predictions import Predictions

NAMES = ("World", "Sports", "Business", "Sci/Tech")
FOUR = range(4)
SKLEARN = {
    "macro_f1": lambda y, p: sk.f1_score(y, p, average="macro", labels=FOUR, zero_division=0),
    "accuracy": sk.accuracy_score,
    "weighted_f1": lambda y, p: sk.f1_score(y, p, average="weighted", labels=FOUR, zero_division=0),
    "micro_f1": lambda y, p: sk.f1_score(y, p, average="micro"),
    "macro_precision": lambda y, p: sk.precision_score(y, p, average="macro", labels=FOUR, zero_division=0),
    "macro_recall": lambda y, p: sk.recall_score(y, p, average="macro", labels=FOUR, zero_division=0),
    "cohen_kappa": lambda y, p: sk.cohen_kappa_score(y, p, labels=FOUR) if len({*y, *p}) > 1 else 0.0,
    "mcc": sk.matthews_corrcoef,
    "precision": lambda y, p: sk.precision_score(y, p, average=None, labels=FOUR, zero_division=0),
    "recall": lambda y, p: sk.recall_score(y, p, average=None, labels=FOUR, zero_division=0),
    "f1": lambda y, p: sk.f1_score(y, p, average=None, labels=FOUR, zero_division=0),
}
PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(PAIRS)
def test_every_number_is_the_one_that_scikit_learn_gives(pairs):
    y, y_pred = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    ours = judge(y, Predictions(y_pred), NAMES)
    for name, entry in METRICS.items():
        if entry.of == "classes":
            assert [ours[name, c] for c in NAMES] == pytest.approx(SKLEARN[name](y, y_pred).tolist(), abs=1e-15)
        elif entry.of == "counts":
            assert ours[name] == pytest.approx(SKLEARN[name](y, y_pred), abs=1e-12)
    assert all(math.isfinite(v) for v in ours.values())
    assert "log_loss" not in ours
    np.testing.assert_array_equal(confusion_matrix(y, y_pred, 4), sk.confusion_matrix(y, y_pred, labels=FOUR))


def test_log_loss_is_scikit_learns_also_where_a_class_is_missing():
    rng = np.random.default_rng(0)
    y, probabilities = rng.integers(0, 3, 200), rng.dirichlet(np.ones(4), 200)
    ours = judge(y, Predictions(probabilities.argmax(axis=1), None, probabilities), NAMES)
    assert ours["log_loss"] == sk.log_loss(y, probabilities, labels=list(FOUR))


@pytest.mark.parametrize("name", [name for name, entry in METRICS.items() if entry.of in ("counts", "classes")])
def test_a_stack_of_tables_gives_one_value_each_and_the_judges(name, random_predictions):
    answers = [random_predictions(seed)[:2] for seed in range(3)]
    stack = margins_of_confusion(np.stack([confusion_matrix(y, a, 4) for y, a in answers]))
    key = f"{name}/Sci/Tech" if METRICS[name].of == "classes" else name
    judged = [judge(y, Predictions(a), NAMES)[find_metric(key, NAMES).key] for y, a in answers]
    assert count_metric(key, NAMES)(stack).tolist() == pytest.approx(judged, abs=1e-15)


def test_a_class_without_rows_counts_as_zero_in_macro_f1():
    y = np.array([0, 0, 1, 1])
    values = judge(y, Predictions(y), NAMES)
    assert values["macro_f1"] == 0.5
    assert values["f1", "Business"] == 0.0


def test_a_metric_of_a_class_is_found_by_its_name_and_by_its_key(random_predictions):
    y, a, _ = random_predictions()
    written, logged = count_metric("f1/Sci/Tech", NAMES), count_metric("f1/Sci_Tech", NAMES)
    assert float(written(margins_of(y, a, 4))) == float(logged(margins_of(y, a, 4)))


def test_a_name_goes_before_the_key_of_another():
    names = ("a/b", "a_b")
    assert find_metric("f1/a_b", names).class_name == "a_b"
    assert find_metric(f"f1/{column_key('a/b', names)}", names).class_name == "a/b"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("macro_f", "macro_f1"), ("f1/Sprots", "f1/Sports"), ("acuracy", "accuracy"), ("logloss", "log_loss")],
)
def test_an_unknown_metric_names_the_nearest(name, nearest):
    with pytest.raises(ConfigError, match=f"Did you mean '{nearest}'"):
        find_metric(name, NAMES)


@pytest.mark.parametrize("name", ["f1", "macro_f1/World", "macro_f1_std", "", "/"])
def test_half_a_name_is_no_metric(name):
    with pytest.raises(ConfigError, match="Unknown metric"):
        find_metric(name, NAMES)


@pytest.mark.parametrize(
    ("key", "fix"),
    [
        ("test/macro_f1", "evaluation.primary=val/macro_f1"),
        ("val/macrof1", "use 'macro_f1'"),
        ("val/f1/Grece", "use 'f1/Greece'"),
        ("time/fit", "evaluation.primary=val/"),
    ],
)
def test_an_objective_is_a_metric_of_validation_rows_or_folds(key, fix):
    with pytest.raises(ConfigError, match=fix):
        find_objective(key, ("Greece", "Peru"))


def test_an_objective_of_a_class_is_taken_on_trust_until_the_classes_are_known():
    assert find_objective("cv/f1/C++").class_name == "C++"


@pytest.mark.parametrize(
    ("key", "better"),
    [
        ("val/macro_f1", "maximize"),
        ("val/f1/Greece", "maximize"),  # holds "ece"
        ("val/recall/error messages", "maximize"),
        ("test/precision/memory", "maximize"),
        ("cv/log_loss", "minimize"),
        ("cv/macro_f1_std", "minimize"),
        ("test/ece_temperature", "minimize"),
        ("test/accuracy_without_near_duplicates", "maximize"),
        ("time/fit", "minimize"),
        ("latency_single_ms", "minimize"),
        ("latency_p50_ms_32", "minimize"),
        ("throughput_batch", "maximize"),
        ("model_size_mb", "minimize"),
        ("n_features", None),
        ("val/my_own", "minimize"),
    ],
)
def test_the_direction_of_a_number_is_that_of_its_entry(key, better):
    assert direction(key, {"my_own": False}) == better


def test_mlflow_gets_about_fifteen_numbers_of_a_run():
    y = np.array([0, 1, 2, 3, 3])
    values = judge(y, Predictions(y, None, np.eye(4)[y]), NAMES)
    metrics = {k: v for split in ("train", "val", "test") for k, v in keyed(values, split, NAMES).items()}
    metrics |= {"throughput_batch": 1.0, "latency_single_ms": 1.0, "model_size_mb": 1.0, "n_features": 3.0}
    tracked = tracked_metrics(metrics | {"val/mine": 0.5}, own=["mine"])
    assert 12 <= len(tracked) <= 18
    assert {"val/macro_f1", "test/log_loss", "val/mine", "model_size_mb"} <= set(tracked)


def test_report_has_a_row_a_class_and_the_average():
    y = np.array([0, 1, 2, 3, 3])
    table = classification_report_table(y, Predictions(y), NAMES)
    assert [row["class"] for row in table] == [*NAMES, "macro average"]
    assert [row["support"] for row in table] == [1, 1, 1, 2, 5]


def test_a_class_without_name_is_refused():
    with pytest.raises(DataError, match="class index 4 has no name"):
        names_of_classes(np.array([0, 4]), class_names=NAMES)


@given(st.lists(st.text(max_size=12) | st.sampled_from(["a_", "A_", "a_-2", "A!", "a?", "..", "體", "é"]), unique=True))
@example(["体育", "国际", "C++", "C##", "café", "cafè", "👎", "👍", "__", "__-2", "c__", "Cafe", "", ".", ".."])
@example(["x" * 400 + "a", "x" * 400 + "b"])
def test_keys_of_classes_never_meet_and_mlflow_takes_them(names):
    keys = [column_key(name, names) for name in names]
    assert len({key.lower() for key in keys}) == len(names)
    for key in keys:
        stored = f"test/precision/{key}"  # MLflow's rules: its alphabet, a path that means itself, 250 characters
        assert re.fullmatch(r"[A-Za-z0-9_. /-]{1,250}", stored)
        assert posixpath.normpath(stored) == stored


def test_names_that_mlflow_takes_stay_as_they_are():
    names = ("World", "Sci/Tech", "Sci_Tech", "a b-c.d", "sport", "Sport")
    keys = [column_key(name, names) for name in names]
    assert keys == ["World", "Sci_Tech-2", "Sci_Tech", "a b-c.d", "sport", "Sport-2"]
    assert column_key("Café", ("Café", "World")) == "Cafe"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's own with the given text; returns its name."""

    def write(text):
        name = f"own_metrics_{abs(hash(str(tmp_path)))}"
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("AGNEWS_COMPONENTS", name)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


PLAIN = """def worst_recall(y_true, y_pred, probabilities):
    return min((y_pred[y_true == k] == k).mean() for k in set(y_true))
"""


def test_a_function_with_attributes_is_judged_like_the_others(own):
    module = own(PLAIN + "worst_recall.greater_is_better = True\nworst_recall.title = 'worst recall'\n")
    (entry,) = own_metrics([f"{module}.worst_recall"])
    assert (entry.title, entry.of, entry.greater_is_better) == ("worst recall", "labels", True)
    values = judge(np.array([0, 0, 1, 1]), Predictions(np.array([0, 0, 0, 1])), ("a", "b"), [entry])
    assert values["worst_recall"] == 0.5


@pytest.mark.parametrize(
    ("text", "function", "message"),
    [
        (PLAIN, "worst_recall", "does not say whether more"),
        ("def macro_f1(*a): ...\nmacro_f1.greater_is_better = True", "macro_f1", "that of another metric"),
        ("def spread_std(*a): ...\nspread_std.greater_is_better = True", "spread_std", "does not end in _std"),
        ("def one(*a): return 1 / 0\none.greater_is_better = True", "one", "ZeroDivisionError"),
        ("def one(*a): return float('nan')\none.greater_is_better = True", "one", "no finite number"),
    ],
)
def test_an_own_metric_that_cannot_be_used_is_refused_before_training(own, text, function, message):
    from agnews_exp.config.schema import EvaluationConfig

    settings = {"name": "fast", "primary": "val/macro_f1", "folds": 0, "latency_repeats": 0}
    evaluation = EvaluationConfig(**settings, metrics=[f"{own(text)}.{function}"])
    with pytest.raises(ConfigError, match=message):
        check_metrics(evaluation, np.array([0, 1, 0]), ("a", "b"))


def test_an_own_metric_of_an_untrusted_module_is_refused(own, monkeypatch):
    module = own(PLAIN + "worst_recall.greater_is_better = True\n")
    monkeypatch.delenv("AGNEWS_COMPONENTS")
    with pytest.raises(ConfigError, match="may not be built from a configuration"):
        own_metrics([f"{module}.worst_recall"])
