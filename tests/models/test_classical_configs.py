"""Every classical model of conf/model: it learns, repeats itself, warns of nothing outdated, and survives saving."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest
import skops.io
import yaml
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score

from agnews_exp.config.compose import compose_config, list_groups
from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import to_plain

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
TOPICS = (
    "minister talks border treaty election army protest leader",
    "match goal coach season striker league score win",
    "shares profit market bank oil price quarter deal",
    "software web computer space chip network phone users",
)
SMALLER = {
    "lightgbm": ["model.n_estimators=10"],
    "lightgbm_tuned": ["model.n_estimators=10"],
    "xgboost": ["model.n_estimators=10"],
    "soft_voting": ["model/members=linear"],
    "weighted_voting": ["model/members=linear"],
    "stacking": ["model/members=linear"],
}
NEEDS = {"lightgbm": "lightgbm", "lightgbm_tuned": "lightgbm", "xgboost": "xgboost"}
STUDY = {
    "dummy": {"strategy": "most_frequent"},
    "dummy_stratified": {"strategy": "stratified"},
    "dummy_uniform": {"strategy": "uniform"},
    "multinomial_nb": {"alpha": 0.1},
    "multinomial_nb_1": {"alpha": 1.0},
    "complement_nb": {"alpha": 0.1},
    "complement_nb_1": {"alpha": 1.0},
    "bernoulli_nb": {"alpha": 1.0},
    "logreg_c01": {"C": 0.1, "max_iter": 1000},
    "logreg": {"C": 1.0, "max_iter": 1000},
    "logreg_c10": {"C": 10.0, "max_iter": 1000},
    "linear_svc_c01": {"C": 0.1, "max_iter": 2000},
    "linear_svc": {"C": 1.0, "max_iter": 2000},
    "linear_svc_c10": {"C": 10.0, "max_iter": 2000},
    "sgd_hinge": {"loss": "hinge", "alpha": 1e-4},
    "sgd_log": {"loss": "log_loss", "alpha": 1e-4},
    "sgd_modified_huber": {"loss": "modified_huber", "alpha": 1e-4},
    "random_forest_100": {"n_estimators": 100, "max_depth": None},
    "random_forest_200_d20": {"n_estimators": 200, "max_depth": 20},
}


def model_config(name, *overrides):
    return to_plain(compose_config([f"model={name}", *SMALLER.get(name, []), *overrides]))["model"]


def model(name, *overrides):
    own = {"name", "family", "accepts", "class_weight"}
    return safe_instantiate({k: v for k, v in model_config(name, *overrides).items() if k not in own}, "model")


def own_values(name):
    """Values of a model's YAML, read without composing it: this runs whenever tests are collected."""
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    return values if "family" in values else own_values(values["defaults"][0]) | values


CONFIGS = {name: own_values(name) for name in list_groups()["model"]}
# Those with a teacher learn from a run, and those that read texts from no matrix: they have tests of their own.
CLASSICAL = [
    name
    for name, values in CONFIGS.items()
    if values["family"] == "classical" and "teacher" not in values and values.get("accepts") != ["text"]
]


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    texts = [
        " ".join([*rng.choice(TOPICS[k].split(), 4), *rng.choice(TOPICS[rng.integers(4)].split(), 2)]) for k in labels
    ]
    matrix = TfidfVectorizer().fit_transform(texts)
    return matrix[:120], labels[:120], matrix[120:], labels[120:]


@pytest.mark.parametrize("name", CLASSICAL)
def test_model_learns_repeats_itself_and_survives_saving(name, corpus):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} (extra boost) is not installed")
    train, train_labels, test, test_labels = corpus
    estimator = model(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predicted = estimator.fit(train, train_labels).predict(test)
        again = clone(estimator).fit(train, train_labels).predict(test)
    shown = [str(w.message) for w in caught if not issubclass(w.category, ResourceWarning)]
    assert not shown, "no warning may reach the user"
    np.testing.assert_array_equal(predicted, again)
    if "dummy" not in name:
        assert f1_score(test_labels, predicted, average="macro") > 0.6
    data = skops.io.dumps(estimator)
    loaded = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    np.testing.assert_array_equal(loaded.predict(test), predicted)
    if hasattr(estimator, "predict_proba"):
        np.testing.assert_array_equal(loaded.predict_proba(test), estimator.predict_proba(test))


@pytest.mark.parametrize("name", STUDY)
def test_the_studys_nineteen_configurations_have_its_parameters(name):
    parameters = model(name).get_params()
    assert {key: parameters[key] for key in STUDY[name]} == STUDY[name]


def test_there_are_nineteen_of_them():
    assert len(STUDY) == 19


@pytest.mark.parametrize("name", [n for n in CLASSICAL if "random_state" in CONFIGS[n]])
def test_the_seed_of_the_run_reaches_the_model(name):
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} (extra boost) is not installed")
    assert model_config(name, "seed=7")["random_state"] == 7


def test_the_seed_reaches_estimators_inside_others():
    assert model("calibrated_svc", "seed=7").estimator.random_state == 7
    stacked = model("stacking", "seed=7")
    assert stacked.cv.random_state == 7
    assert stacked.final_estimator.random_state == 7
    assert dict(stacked.estimators)["sgd"].random_state == 7


def test_the_studys_stack_has_its_four_members_and_lightgbm_its_own_selector():
    pytest.importorskip("lightgbm")
    config = to_plain(compose_config(["model=stacking"]))["model"]
    assert list(config["members"]) == ["sgd", "nb", "svc", "lgbm"]
    members = dict(
        safe_instantiate(
            {k: v for k, v in config.items() if k not in {"name", "family", "accepts", "class_weight"}}
        ).estimators
    )
    assert members["lgbm"]["select"].k == 5000
    assert pytest.approx(0.24507915419346896) == members["svc"].estimator.C


def test_models_that_take_no_negative_values_accept_sparse_features_only():
    for name in ("multinomial_nb", "multinomial_nb_1", "complement_nb", "complement_nb_1", "nb_tuned", "nbsvm"):
        assert model_config(name)["accepts"] == ["sparse"]
