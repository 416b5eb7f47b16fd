"""NB-SVM against the paper's formulas and scikit-learn's conventions."""

import numpy as np
import pytest
import skops.io
from scipy import sparse
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from agnews_exp.models.nbsvm import NBSVM

X = np.array(
    [[2, 0, 1, 0], [1, 0, 0, 1], [3, 1, 0, 0], [0, 2, 1, 0], [0, 1, 0, 2], [0, 3, 1, 1], [1, 1, 0, 0], [0, 0, 2, 1]],
    float,
)
Y = np.array([0, 0, 0, 1, 1, 1, 0, 1])


def direct(features, labels, alpha, beta, C):
    """Equations 2, 4 and 7 of Wang and Manning (2012), one step a line."""
    p = alpha + sum(features[i] for i in range(len(labels)) if labels[i] == 1)
    q = alpha + sum(features[i] for i in range(len(labels)) if labels[i] == 0)
    r = np.log((p / np.abs(p).sum()) / (q / np.abs(q).sum()))
    svm = LinearSVC(C=C, dual="auto", max_iter=2000, random_state=0).fit(r * features, labels)
    w = svm.coef_[0]
    w_bar = np.abs(w).sum() / len(w)
    w_prime = (1 - beta) * w_bar + beta * w
    return r, (r * features) @ w_prime + svm.intercept_[0]


@pytest.mark.parametrize("binarize", [True, False])
@pytest.mark.parametrize("beta", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csr_array], ids=["dense", "matrix", "array"])
def test_scores_are_those_of_the_formulas(make, beta, binarize):
    model = NBSVM(alpha=0.5, beta=beta, C=2.0, binarize=binarize, random_state=0).fit(make(X), Y)
    ratio, scores = direct((X > 0).astype(float) if binarize else X, Y, 0.5, beta, 2.0)
    np.testing.assert_allclose(model.log_count_ratio_[0], ratio)
    np.testing.assert_allclose(model.decision_function(make(X)), scores, rtol=1e-10)
    np.testing.assert_array_equal(model.predict(make(X)), (scores > 0).astype(int))


def test_more_classes_are_one_against_the_rest():
    labels = np.array(["b", "a", "b", "c", "c", "c", "a", "a"])
    model = NBSVM(random_state=0).fit(X, labels)
    for k, name in enumerate("abc"):
        _, scores = direct((X > 0).astype(float), (labels == name).astype(int), 1.0, 0.25, 1.0)
        np.testing.assert_allclose(model.decision_function(X)[:, k], scores, rtol=1e-10)
    assert set(model.predict(X)) <= set("abc")


def test_the_callers_matrix_is_not_changed():
    matrix = sparse.csr_matrix(X)
    NBSVM(random_state=0).fit(matrix, Y).predict(matrix)
    np.testing.assert_array_equal(matrix.toarray(), X)


def test_negative_features_are_refused():
    with pytest.raises(ValueError, match="Negative values"):
        NBSVM().fit(-X, Y)


@pytest.mark.parametrize("parameters", [{"alpha": 0}, {"beta": 1.1}, {"C": -1}, {"binarize": 2}])
def test_bad_parameters_are_refused(parameters):
    with pytest.raises(ValueError, match="parameter of NBSVM"):
        NBSVM(**parameters)._validate_params()


def test_saved_and_loaded_it_scores_the_same():
    model = NBSVM(random_state=0).fit(sparse.csr_matrix(X), Y)
    loaded = skops.io.loads(skops.io.dumps(model), trusted=["agnews_exp.models.nbsvm.NBSVM"])
    np.testing.assert_array_equal(loaded.decision_function(X), model.decision_function(X))


def test_class_weights_are_those_of_repeated_rows():
    repeated = NBSVM(beta=1.0, class_weight={0: 1, 1: 3}, random_state=0, tol=1e-8, max_iter=100_000).fit(X, Y)
    machine = LinearSVC(random_state=0, tol=1e-8, max_iter=100_000).fit(
        (X > 0) * repeated.log_count_ratio_, Y, sample_weight=np.where(Y == 1, 3, 1)
    )
    np.testing.assert_allclose(repeated.coef_, machine.coef_ * repeated.log_count_ratio_, rtol=1e-4)


# The checks' data is continuous and, made positive, tells the classes apart by size, not by presence; so the checks
# run on the values themselves with the SVM trusted fully.
@parametrize_with_checks(
    [NBSVM(binarize=False, beta=1.0)],
    expected_failed_checks=lambda _: {"check_class_weight_classifiers": "its data is negative, whatever the tags say"},
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
