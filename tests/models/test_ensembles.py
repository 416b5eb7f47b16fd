"""Voting and stacking: the arithmetic, what they are fitted on, and saving."""

from typing import ClassVar

import numpy as np
import pytest
import skops.io
from scipy import sparse
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import BernoulliNB, MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted

from agnews_exp.core.errors import ConfigError
from agnews_exp.features.selection import TopScoring
from agnews_exp.models.ensembles import WeightedVoting, mixture_weights, soft_voting, stacking, with_selection
from agnews_exp.ngrams import CountVectorizer


def data(n=200, width=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    matrix = sparse.random(n, width, 0.2, format="csr", random_state=seed).toarray()
    matrix[np.arange(n), labels] += rng.random(n) * 1.2
    return sparse.csr_matrix(matrix), labels


def members():
    return {
        "nb": MultinomialNB(),
        "bernoulli": BernoulliNB(),
        "tree": DecisionTreeClassifier(max_depth=4, random_state=0),
        "logreg": with_selection(TopScoring("chi2", 10), LogisticRegression()),
    }


class Spy(ClassifierMixin, BaseEstimator):
    """Remembers the rows of every fit and prediction (rows are told apart by their first column)."""

    fits: ClassVar[list] = []
    predictions: ClassVar[list] = []

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.rows_ = X[:, 0].copy()
        Spy.fits.append(set(self.rows_))
        return self

    def predict_proba(self, X):
        check_is_fitted(self)
        Spy.predictions.append((set(self.rows_), set(X[:, 0])))
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


@pytest.fixture
def spied():
    Spy.fits, Spy.predictions = [], []
    return Spy


def test_soft_voting_is_the_mean_of_the_probabilities():
    matrix, labels = data()
    model = soft_voting(members()).fit(matrix, labels)
    alone = [member.fit(matrix, labels).predict_proba(matrix) for member in members().values()]
    np.testing.assert_allclose(model.predict_proba(matrix), np.mean(alone, axis=0))


def test_soft_voting_takes_weights_by_name():
    matrix, labels = data()
    model = soft_voting(members(), {"tree": 3.0, "nb": 0.0, "bernoulli": 0.0, "logreg": 1.0}).fit(matrix, labels)
    alone = {name: member.fit(matrix, labels).predict_proba(matrix) for name, member in members().items()}
    np.testing.assert_allclose(model.predict_proba(matrix), 0.75 * alone["tree"] + 0.25 * alone["logreg"])


def test_a_member_set_to_null_is_left_out():
    assert [name for name, _ in soft_voting({**members(), "tree": None}).estimators] == ["nb", "bernoulli", "logreg"]


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: soft_voting({"nb": MultinomialNB()}), "at least two"),
        (
            lambda: soft_voting({"nb": MultinomialNB(), "svc": LinearSVC()}),
            "members.svc: LinearSVC gives no probabilities",
        ),
        (lambda: soft_voting(members(), {"trees": 2.0}), "Did you mean 'tree'"),
        (lambda: soft_voting(members(), dict.fromkeys(members(), 0.0)), "all 0"),
        (lambda: stacking({"nb": MultinomialNB(), "svc": LinearSVC()}, LogisticRegression()), "no probabilities"),
        (lambda: WeightedVoting({"nb": MultinomialNB(), "svc": LinearSVC()})._validate_params(), "no probabilities"),
    ],
)
def test_what_cannot_work_is_said_before_any_fit(build, says):
    with pytest.raises(ConfigError, match=says):
        build()


def test_stacking_shows_its_final_estimator_sixteen_columns_for_four_members_and_four_classes():
    matrix, labels = data()
    model = stacking(members(), LogisticRegression()).fit(matrix, labels)
    assert model.final_estimator_.n_features_in_ == 16
    assert model.transform(matrix).shape == (len(labels), 16)
    alone = np.hstack([member.fit(matrix, labels).predict_proba(matrix) for member in members().values()])
    np.testing.assert_allclose(model.transform(matrix), alone)


def test_the_final_estimator_sees_the_features_too_where_it_may():
    matrix, labels = data()
    model = stacking(members(), LogisticRegression(), passthrough=True).fit(matrix, labels)
    assert model.final_estimator_.n_features_in_ == 16 + matrix.shape[1]


@pytest.mark.parametrize(
    "build", [lambda m: stacking(m, LogisticRegression(), folds=4), lambda m: WeightedVoting(m, 4)]
)
def test_probabilities_that_a_meta_learner_sees_come_from_members_that_have_not_seen_the_row(spied, build):
    _, labels = data()
    rows = np.column_stack([np.arange(len(labels)), np.ones(len(labels))]).astype(float)
    build({"one": Spy(), "two": Spy()}).fit(rows, labels)
    assert spied.predictions, "out-of-fold probabilities must have been asked for"
    for seen, asked in spied.predictions:
        assert not seen & asked
    covered = [asked for _, asked in spied.predictions]
    assert sum(map(len, covered)) == 2 * len(labels), "every row once per member"
    assert spied.fits.count(set(rows[:, 0])) == 2, "the members that predict later are fitted on all rows"


@pytest.mark.parametrize(
    "build",
    [soft_voting, WeightedVoting, lambda m: stacking(m, LogisticRegression())],
    ids=["soft", "weighted", "stack"],
)
def test_a_token_that_only_validation_rows_hold_changes_nothing_learned(build):
    rng = np.random.default_rng(0)
    topics = ["oil bank", "goal match", "army vote", "chip web"]
    labels = np.arange(120) % 4
    texts = [f"{topics[k].split()[rng.integers(2)]} {topics[rng.integers(4)]}" for k in labels]
    fit = make_pipeline(CountVectorizer(), build({k: v for k, v in members().items() if k != "logreg"}))
    fit.fit(texts, labels)
    assert "spytoken" not in fit[0].vocabulary_
    before = fit.predict_proba(texts)
    held_out = [f"{text} spytoken" for text in texts]
    np.testing.assert_allclose(fit.predict_proba(held_out), before)
    np.testing.assert_allclose(fit.predict_proba(texts), before)


def test_mixture_weights_reach_the_minimum_that_a_general_optimiser_finds():
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 3, 400)
    sharp = [0.3, 1.0, 2.0]
    probabilities = []
    for strength in sharp:
        scores = rng.normal(size=(400, 3))
        scores[np.arange(400), codes] += strength
        exp = np.exp(scores)
        probabilities.append(exp / exp.sum(axis=1, keepdims=True))
    weights = mixture_weights(probabilities, codes)

    def loss(w):
        return -np.log(np.tensordot(w, probabilities, 1)[np.arange(400), codes]).mean()

    found = minimize(
        loss,
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        tol=1e-12,
    )
    assert weights.sum() == pytest.approx(1)
    assert weights.min() >= 0
    assert loss(weights) == pytest.approx(found.fun, abs=1e-5)
    np.testing.assert_allclose(weights, found.x, atol=0.02)


def test_mixture_weights_outlast_a_member_that_is_certain_and_wrong():
    certain = np.array([[1.0, 0.0], [1.0, 0.0]])
    fair = np.full((2, 2), 0.5)
    weights = mixture_weights([certain, fair], np.array([1, 1]))
    assert weights == pytest.approx([0, 1], abs=1e-3)


def test_weighted_voting_gives_a_useless_member_almost_no_weight():
    matrix, labels = data(n=600)
    model = WeightedVoting({"nb": MultinomialNB(alpha=0.1), "chance": DummyClassifier(strategy="uniform")}).fit(
        matrix, labels
    )
    assert sum(model.weights_.values()) == pytest.approx(1)
    assert model.weights_["chance"] < model.weights_["nb"]
    np.testing.assert_array_equal(model.classes_, [0, 1, 2, 3])


@pytest.mark.parametrize("names", [np.arange(4), np.array(["w", "s", "b", "t"]), np.arange(4) + 7])
def test_labels_of_any_kind_come_back(names):
    matrix, labels = data()
    predicted = WeightedVoting(members()).fit(matrix, names[labels]).predict(matrix)
    assert set(predicted) <= set(names)
    assert (predicted == names[labels]).mean() > 0.5


@pytest.mark.parametrize(
    "build",
    [soft_voting, WeightedVoting, lambda m: stacking(m, LogisticRegression())],
    ids=["soft", "weighted", "stack"],
)
def test_saved_and_loaded_they_give_the_same_probabilities(build):
    matrix, labels = data()
    model = build(members()).fit(matrix, labels)
    data_ = skops.io.dumps(model)
    unknown = skops.io.get_untrusted_types(data=data_)
    assert set(unknown) <= {
        "agnews_exp.features.selection.TopScoring",
        "agnews_exp.models.ensembles.WeightedVoting",
        "sklearn.tree._tree.Tree",
        "sklearn.utils._bunch.Bunch",
        "agnews_exp.models.inner_folds.InnerFolds",
    }
    loaded = skops.io.loads(data_, trusted=unknown)
    np.testing.assert_array_equal(loaded.predict_proba(matrix), model.predict_proba(matrix))
