"""What a configuration may build, and how its arguments are checked."""

from __future__ import annotations

import pytest

from agnews_exp.config.targets import check_arguments, find_targets, resolve_target, safe_instantiate
from agnews_exp.core.errors import AgnewsError, ConfigError


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "agnews_exp.config.targets.importlib.import_module",
        "agnews_exp.config.targets.resolve_target",
        "agnews_exp.tracking.record.shutil.rmtree",
        "agnews_exp.experiment.shutil.rmtree",
        "agnews_exp.data.corpus.hashlib.sha256",
        "agnews_exp.data.corpus.np.load",
        "sklearn.os.system",
        "sklearn.utils.check_array",
        "sklearn.base.joblib.load",
        "sklearn.datasets.fetch_openml",
        "hydra.utils.instantiate",
        "nodots",
        "",
        None,
        3,
        "sklearn.svm.LinearSVCC",
        "sklearn.nowhere.Thing",
    ],
)
def test_target_outside_the_allow_list_is_refused(path):
    with pytest.raises(ConfigError, match=r"model\._target_="):
        resolve_target(path, "model._target_")


def test_refused_target_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "sly_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError):
        resolve_target("sly_module.anything", "model._target_")


@pytest.mark.parametrize("path", ["sklearn.svm.LinearSVC", "agnews_exp.data.splits.stratified"])
def test_allowed_target_is_found(path):
    assert resolve_target(path, "k").__name__ == path.rpartition(".")[2]


def test_nested_target_that_is_not_allowed_is_refused():
    config = {
        "_target_": "sklearn.calibration.CalibratedClassifierCV",
        "estimator": {"_target_": "os.system", "command": "true"},
    }
    with pytest.raises(ConfigError, match=r"estimator\._target_=os\.system"):
        safe_instantiate(config, "model")


def test_nested_components_are_built_inside_out():
    config = {
        "_target_": "sklearn.calibration.CalibratedClassifierCV",
        "cv": 4,
        "estimator": {"_target_": "sklearn.svm.LinearSVC", "C": 0.25},
    }
    built = safe_instantiate(config, "model")
    assert built.cv == 4
    assert built.estimator.C == 0.25


def test_lists_become_tuples_where_the_estimator_wants_a_tuple():
    config = {"_target_": "sklearn.feature_extraction.text.TfidfVectorizer", "ngram_range": [1, 2]}
    assert safe_instantiate(config, "k").ngram_range == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"C": -1}, r"model\.C=-1"),
        ({"C": "much"}, r"model\.C='much'"),
        ({"CC": 1}, "Did you mean 'C'"),
    ],
)
def test_estimator_arguments_are_checked_before_any_fit(arguments, message):
    with pytest.raises(ConfigError, match=message):
        safe_instantiate({"_target_": "sklearn.svm.LinearSVC", **arguments}, "model")


def test_annotated_arguments_are_checked_and_converted():
    from agnews_exp.data.splits import make_splits

    with pytest.raises(ConfigError, match=r"data\.split_seed='x'"):
        check_arguments(
            make_splits, {"split_seed": "x"}, "data",
            supplied=("corpus", "validation_size", "test_size", "data_fraction", "subset"),
        )  # fmt: skip
    converted = check_arguments(
        make_splits, {"split_seed": "7"}, "data",
        supplied=("corpus", "validation_size", "test_size", "data_fraction", "subset"),
    )  # fmt: skip
    assert converted["split_seed"] == 7


def test_missing_required_argument_is_named():
    from agnews_exp.data.splits import make_splits

    given = ("corpus", "validation_size", "test_size", "data_fraction", "subset")
    with pytest.raises(AgnewsError, match="lacks split_seed"):
        check_arguments(make_splits, {}, "data", supplied=given)


def test_every_target_of_a_nested_config_is_found():
    config = {"a": {"_target_": "x.y", "b": [{"_target_": "z.w"}, 3]}, "c": 1}
    assert list(find_targets(config, "k")) == [("k.a._target_", "x.y"), ("k.a.b[0]._target_", "z.w")]


def test_boosters_are_checked_before_any_features_are_made():
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    light, extreme = "lightgbm.LGBMClassifier", "xgboost.XGBClassifier"
    for target, name, value in (
        (light, "n_estimators", "abc"),
        (light, "n_estimators", 0),
        (light, "learning_rate", float("nan")),
        (light, "learning_rate", -1),
        (light, "num_leaves", -5),
        (light, "max_bin", "abc"),
        (extreme, "n_estimators", "abc"),
        (extreme, "n_estimators", -3),
        (extreme, "learning_rate", float("nan")),
        (extreme, "learning_rate", -1),
        (extreme, "max_depth", -5),
        (extreme, "subsample", 7),
    ):
        with pytest.raises(ConfigError, match=rf"model\.{name}="):
            safe_instantiate({"_target_": target, name: value}, "model")
    with pytest.raises(ConfigError, match=r"model\.members\.trees\.num_leaves=1"):
        safe_instantiate({"members": {"trees": {"_target_": light, "num_leaves": 1}}}, "model")


def test_what_boosters_take_is_let_through_and_nothing_is_printed(capfd):
    pytest.importorskip("lightgbm")
    pytest.importorskip("xgboost")
    for objective in ("binary", "multiclass"):
        safe_instantiate({"_target_": "lightgbm.LGBMClassifier", "objective": objective, "verbosity": 2}, "model")
    built = safe_instantiate({"_target_": "xgboost.XGBClassifier", "n_estimators": 5000, "learning_rate": 1}, "model")
    assert (built.n_estimators, built.learning_rate) == (5000, 1.0)
    built = safe_instantiate({"_target_": "lightgbm.LGBMClassifier", "class_weight": {0: 1.0, 7: 2.0}}, "model")
    assert built.class_weight == {0: 1.0, 7: 2.0}
    assert capfd.readouterr() == ("", "")
