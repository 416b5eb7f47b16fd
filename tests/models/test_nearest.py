"""Cosine neighbours in an inverted index against scikit-learn's brute force, and scikit-learn's conventions."""

import numpy as np
import pytest
import skops.io
from scipy import sparse
from sklearn import neighbors
from sklearn.utils.estimator_checks import parametrize_with_checks

from agnews_exp.models.nearest import CosineNeighbors, KNeighborsClassifier


def data(n=150, width=60, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    matrix = sparse.random(n, width, 0.15, format="csr", random_state=seed)
    matrix.data += rng.random(len(matrix.data))
    return matrix, rng.integers(0, classes, n)


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("power", [0.0, 2.0])
def test_votes_equal_those_of_scikit_learns_brute_force(power, n_jobs):
    matrix, labels = data()
    ours = CosineNeighbors(7, power, n_jobs=n_jobs).fit(matrix[:100], labels[:100])
    theirs = neighbors.KNeighborsClassifier(7, metric="cosine", weights=lambda distance: (1 - distance) ** power)
    theirs.fit(matrix[:100], labels[:100])
    np.testing.assert_allclose(
        ours.predict_proba(matrix[100:]), theirs.predict_proba(matrix[100:]), rtol=1e-5, atol=1e-6
    )


def test_a_row_that_is_like_none_gets_the_shares_of_the_training_rows():
    matrix = sparse.csr_matrix(np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0], [0, 1.0, 0]]))
    model = CosineNeighbors(2).fit(matrix, ["a", "b", "b", "b"])
    np.testing.assert_array_equal(model.predict_proba(np.array([[0.0, 0, 5.0], [0, 0, 0]])), [[0.25, 0.75]] * 2)
    np.testing.assert_array_equal(model.predict_proba(np.array([[3.0, 0, 0]])), [[1.0, 0.0]])


def test_more_neighbours_than_rows_means_all_rows():
    matrix, labels = data(20)
    many, all_rows = CosineNeighbors(1000).fit(matrix, labels), CosineNeighbors(20).fit(matrix, labels)
    np.testing.assert_array_equal(many.predict_proba(matrix), all_rows.predict_proba(matrix))


def test_columns_of_too_many_rows_are_not_searched():
    matrix = sparse.csr_matrix(np.array([[1.0, 1, 0], [1, 0, 1], [1, 1, 0], [1, 0, 0]]))
    query = np.array([[5.0, 1, 0]])
    assert CosineNeighbors(1).fit(matrix, list("abab")).predict(query) == ["b"]
    model = CosineNeighbors(4, max_rows=2).fit(matrix, list("abab"))
    assert model.index_starts_.tolist() == [0, 0, 2, 3]
    np.testing.assert_array_equal(model.predict_proba(query), [[1.0, 0.0]])


def test_saved_and_loaded_it_gives_the_same_probabilities():
    matrix, labels = data()
    model = CosineNeighbors(5).fit(matrix, labels)
    saved = skops.io.dumps(model)
    assert skops.io.get_untrusted_types(data=saved) == ["agnews_exp.models.nearest.CosineNeighbors"]
    loaded = skops.io.loads(saved, trusted=["agnews_exp.models.nearest.CosineNeighbors"])
    np.testing.assert_array_equal(loaded.predict_proba(matrix), model.predict_proba(matrix))


@pytest.mark.parametrize("parameters", [{"n_neighbors": 0}, {"power": -1.0}, {"max_rows": 0}])
def test_bad_parameters_are_refused(parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        CosineNeighbors(**parameters).fit(*data())


@parametrize_with_checks([CosineNeighbors(n_neighbors=5)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_without_ties_neighbours_are_those_of_scikit_learn(metric, weights, kind):
    generator = np.random.default_rng(0)
    train, y, new = generator.normal(size=(80, 6)), np.arange(80) % 3, kind(generator.normal(size=(20, 6)))
    ours, theirs = (
        estimator(5, metric=metric, weights=weights).fit(kind(train), y)
        for estimator in (KNeighborsClassifier, neighbors.KNeighborsClassifier)
    )
    np.testing.assert_array_equal(ours.kneighbors(new, return_distance=False), theirs.kneighbors(new)[1])
    np.testing.assert_allclose(ours.predict_proba(new), theirs.predict_proba(new), atol=1e-6)


def test_of_equally_far_rows_the_first_vote():
    train = np.tile([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], (300, 1))
    model = KNeighborsClassifier(4, metric="cosine").fit(train, np.arange(600) // 300)
    rows = model.kneighbors([[1.0, 0.1, 0.0], [0.0, 0.0, 1.0]], return_distance=False)
    assert rows.tolist() == [[0, 2, 4, 6], [0, 1, 2, 3]]
    assert model.predict([[0.0, 0.0, 1.0]]).tolist() == [0]
