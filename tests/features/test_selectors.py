"""Selectors against scikit-learn's own and against the definition."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.feature_selection import SelectKBest, chi2, mutual_info_classif

from agnews_exp.features.selection import TopScoring, presence_mutual_information


def random_counts(n=300, width=60, classes=4, density=0.1, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    matrix = sparse.random(n, width, density, format="csr", random_state=seed)
    # Some columns that depend on the class.
    strong = sparse.csr_matrix((labels[:, None] == np.arange(classes)) * rng.random((n, classes)))
    return sparse.hstack([matrix, strong], format="csr"), labels


def test_mutual_information_equals_scikit_learns_on_presence():
    matrix, labels = random_counts()
    ours = presence_mutual_information(matrix, labels)
    theirs = mutual_info_classif((matrix.toarray() != 0).astype(int), labels, discrete_features=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_terms_in_all_or_no_documents_tell_nothing():
    labels = np.array([0, 1, 0, 1])
    assert presence_mutual_information(np.array([[1.0, 0.0]] * 4), labels) == pytest.approx([0.0, 0.0])


def test_explicit_zeros_do_not_count_as_present():
    labels = np.array([0, 1, 0, 1])
    matrix = sparse.csr_matrix((np.array([0.0, 1.0]), np.array([0, 0]), np.array([0, 1, 2, 2, 2])), shape=(4, 1))
    dense = matrix.toarray()
    assert presence_mutual_information(matrix, labels) == pytest.approx(presence_mutual_information(dense, labels))
    assert matrix.nnz == 2, "the caller's matrix must stay as it was"


@pytest.mark.slow
def test_mutual_information_of_a_hundred_thousand_columns_needs_no_dense_matrix():
    rng = np.random.default_rng(0)
    matrix = sparse.random(2000, 100_000, 0.002, format="csr", random_state=0)
    scores = presence_mutual_information(matrix, rng.integers(0, 4, 2000))
    assert scores.shape == (100_000,)


@pytest.mark.parametrize("k", [1, 7, 30])
def test_chi2_selection_is_scikit_learns_ties_included(k):
    matrix, labels = random_counts()
    matrix = sparse.hstack([matrix, matrix, sparse.csr_matrix((300, 2))], format="csr")  # ties and empty columns
    ours = TopScoring("chi2", k).fit(matrix, labels)
    theirs = SelectKBest(chi2, k=k).fit(matrix, labels)
    np.testing.assert_array_equal(ours.get_support(), theirs.get_support())
    assert abs(ours.transform(matrix) - theirs.transform(matrix)).max() == 0


def test_more_columns_asked_for_than_there_are_keeps_all():
    matrix, labels = random_counts()
    assert TopScoring("mutual_information", 10_000).fit_transform(matrix, labels).shape == matrix.shape


def test_the_columns_made_from_the_class_are_found():
    matrix, labels = random_counts()
    for score in ("chi2", "mutual_information"):
        kept = TopScoring(score, 4).fit(matrix, labels).get_support(indices=True)
        assert list(kept) == [60, 61, 62, 63]


@pytest.mark.parametrize("parameters", [{"score": "anova"}, {"k": 0}, {"k": 1.5}])
def test_bad_parameters_are_refused(parameters):
    with pytest.raises(ValueError, match="parameter of TopScoring"):
        TopScoring(**parameters)._validate_params()
