"""The compiled linear model against a plain implementation, scikit-learn's conventions, and on text."""

import tracemalloc

import numpy as np
import pytest
import skops.io
from scipy import sparse
from sklearn.datasets import make_blobs, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils.estimator_checks import parametrize_with_checks

from agnews_exp.models.answers import predict_matrix
from agnews_exp.models.ngram_linear import NgramLinear


def data(n=240, width=30, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    matrix = sparse.random(n, width, 0.2, format="csr", random_state=seed, dtype=np.float32).toarray()
    matrix[np.arange(n), labels] += 0.7
    return sparse.csr_matrix(matrix), labels


def plain(matrix, labels, loss, epochs, rate, alpha, seed):
    """The same algorithm on dense arrays, in double precision, without the scale trick."""
    rows, classes = matrix.toarray().astype(float), len(set(labels))
    mean_square = np.square(rows).sum() / len(rows)
    weights, intercept = np.zeros((classes, rows.shape[1])), np.zeros(classes)
    random, total, done = check_random_state(seed), epochs * len(rows), 0
    for _ in range(epochs):
        for i in random.permutation(len(rows)):
            now = rate / mean_square * (1 - done / total)
            z = weights @ rows[i] + intercept
            sign = np.where(np.arange(classes) == labels[i], 1.0, -1.0)
            if loss == "log_loss":
                gradient = np.exp(z - z.max()) / np.exp(z - z.max()).sum() - (sign > 0)
            else:
                gradient = np.where(sign * z >= 1, 0.0, -2 * sign * (1 - sign * z))
                if loss == "modified_huber":
                    gradient = np.where(sign * z < -1, -4 * sign, gradient)
            weights *= 1 - now * alpha * mean_square
            weights -= now * np.outer(gradient, rows[i])
            intercept -= 0.01 * now * gradient
            done += 1
    return weights, intercept


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber", "squared_hinge"])
def test_weights_equal_a_plain_implementation(loss):
    matrix, labels = data()
    model = NgramLinear(loss, epochs=3, learning_rate=0.3, alpha=1e-2, random_state=7).fit(matrix, labels)
    weights, intercept = plain(matrix, labels, loss, 3, 0.3, 1e-2, 7)
    np.testing.assert_allclose(model.coef_, weights, atol=2e-5)
    np.testing.assert_allclose(model.intercept_, intercept, atol=2e-5)


def test_a_penalty_so_strong_that_the_scale_must_be_renewed_still_gives_the_right_weights():
    matrix, labels = data()
    model = NgramLinear("squared_hinge", 4, learning_rate=0.3, alpha=2.0, random_state=7).fit(matrix, labels)
    weights, _ = plain(matrix, labels, "squared_hinge", 4, 0.3, 2.0, 7)
    np.testing.assert_allclose(model.coef_, weights, atol=2e-5)


def test_many_epochs_of_softmax_reach_logistic_regression():
    matrix, labels = data(n=600)
    model = NgramLinear("log_loss", epochs=400, learning_rate=1.0, alpha=1e-3, random_state=0).fit(matrix, labels)
    # scikit-learn's objective is C * sum of losses + |w|^2 / 2, ours mean loss + alpha |w|^2 / 2.
    reference = LogisticRegression(C=1 / (1e-3 * 600), tol=1e-8, max_iter=5000).fit(matrix, labels)
    agreement = (model.predict(matrix) == reference.predict(matrix)).mean()
    assert agreement > 0.97
    assert abs(model.predict_proba(matrix) - reference.predict_proba(matrix)).max() < 0.15


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    matrix, labels = data()
    first, again, other = (NgramLinear(random_state=seed).fit(matrix, labels).coef_ for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 0


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix, lambda m: m.toarray()])
def test_every_kind_of_matrix_gives_the_same_model(make):
    matrix, labels = data()
    expected = NgramLinear(random_state=0).fit(matrix, labels).decision_function(matrix)
    model = NgramLinear(random_state=0).fit(make(matrix), labels)
    np.testing.assert_allclose(model.decision_function(make(matrix)), expected, atol=1e-5)


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber", "squared_hinge"])
def test_probabilities_sum_to_one_and_agree_with_the_prediction(loss):
    matrix, labels = data()
    model = NgramLinear(loss, random_state=0).fit(matrix, labels)
    wild = sparse.vstack([matrix, -50 * matrix[:5], 50 * matrix[:5]], format="csr")
    probabilities = model.predict_proba(wild)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert probabilities.min() >= 0
    unique_best = (probabilities == probabilities.max(axis=1, keepdims=True)).sum(axis=1) == 1
    assert unique_best.mean() > 0.8
    np.testing.assert_array_equal(model.predict(wild)[unique_best], probabilities[unique_best].argmax(axis=1))


def test_scaling_all_features_scales_the_learning_rate_with_them():
    matrix, labels = data()
    one = NgramLinear(alpha=0.0, random_state=0).fit(matrix, labels)
    ten = NgramLinear(alpha=0.0, random_state=0).fit(matrix * 8, labels)
    np.testing.assert_allclose(ten.coef_ * 8, one.coef_, rtol=0.1, atol=0.05)


def test_an_absurd_learning_rate_is_reported_as_divergence():
    features, labels = make_classification(200, n_informative=5, n_classes=3, random_state=0)
    with pytest.raises(ValueError, match="diverged with learning_rate"):
        NgramLinear("squared_hinge", epochs=50, learning_rate=1e6).fit(features, labels)


@pytest.mark.parametrize("parameters", [{"loss": "hinge"}, {"epochs": 0}, {"learning_rate": 0.0}, {"alpha": -1.0}])
def test_bad_parameters_are_refused(parameters):
    with pytest.raises(ValueError, match="parameter of NgramLinear"):
        NgramLinear(**parameters)._validate_params()


def test_saved_and_loaded_it_gives_the_same_probabilities():
    matrix, labels = data()
    model = NgramLinear(random_state=0).fit(matrix, labels)
    loaded = skops.io.loads(skops.io.dumps(model), trusted=["agnews_exp.models.ngram_linear.NgramLinear"])
    np.testing.assert_array_equal(loaded.predict_proba(matrix), model.predict_proba(matrix))


@parametrize_with_checks(
    [NgramLinear("log_loss", epochs=50, random_state=0)],
    expected_failed_checks=lambda _: {
        "check_class_weight_classifiers": "its features are 20 wide, for which the intercept's rate is too small"
    },
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def test_a_class_of_nearly_all_the_weight_is_nearly_always_answered():
    x, y = make_blobs(centers=2, random_state=0, cluster_std=1)
    fitted = NgramLinear("log_loss", epochs=50, random_state=0, class_weight={0: 1000, 1: 1e-4}).fit(x, y)
    assert (fitted.predict(x) == 0).mean() > 0.87


def test_dropout_leaves_out_its_share_of_entries_and_scales_the_others():
    # Every row has a column of its own, so a weight that is still 0 belongs to an entry that was left out.
    matrix, labels = sparse.identity(4000, format="csr", dtype=np.float32), np.arange(4000) % 2
    without = NgramLinear(epochs=1, random_state=0).fit(matrix, labels).coef_[0]
    dropped = NgramLinear(epochs=1, dropout=0.4, random_state=0).fit(matrix, labels).coef_[0]
    learned = dropped != 0
    assert abs(1 - learned.mean() - 0.4) < 0.03
    np.testing.assert_allclose(np.median(dropped[learned] / without[learned]), 1 / 0.6, rtol=0.05)


def test_dropout_is_repeatable_and_depends_on_the_seed():
    matrix, labels = data()
    first, again, other = (NgramLinear(dropout=0.5, random_state=seed).fit(matrix, labels).coef_ for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fitting_needs_far_less_memory_than_the_features_take():
    matrix = sparse.random(4000, 500, 0.25, format="csr", random_state=0, dtype=np.float64)
    labels = np.arange(4000) % 4
    NgramLinear(epochs=1, random_state=0).fit(matrix, labels)  # compiles
    tracemalloc.start()
    try:
        NgramLinear(epochs=1, random_state=0).fit(matrix, labels)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A float32 copy of the values alone would be half of them.
    assert peak < 0.4 * matrix.data.nbytes


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("loss", ["modified_huber", "log_loss"])
def test_one_product_gives_the_labels_scores_and_probabilities_of_the_three_methods(n_classes, loss):
    rng = np.random.default_rng(n_classes)
    X, y = sparse.csr_matrix(rng.random((60, 12))), np.arange(60) % n_classes
    model = NgramLinear(loss=loss, random_state=0).fit(X, y)
    found, scores = predict_matrix(model, X, n_classes + 1), model.decision_function(X)
    assert np.array_equal(found.labels, model.predict(X))
    assert np.array_equal(found.probabilities[:, :-1], model.predict_proba(X))
    assert np.array_equal(found.scores[:, :-1], np.column_stack([-scores, scores]) if n_classes == 2 else scores)
    assert np.all(found.scores[:, -1] < found.scores[:, :-1].min())
