import numpy as np
import pytest
from scipy import sparse

from agnews_exp.analyses.explanation.importance import family_importance


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_family_that_decides_matters_and_idle_one_does_not(kind):
    generator = np.random.default_rng(0)
    matrix = generator.random((400, 6))
    labels = matrix[:, 0] + matrix[:, 1] > 1

    def accuracy(features):
        dense = features.toarray() if sparse.issparse(features) else features
        return float((((dense[:, 0] + dense[:, 1]) > 1) == labels).mean())

    families = {"deciding": np.array([0, 1]), "idle": np.array([2, 3, 4, 5])}
    untouched, (deciding, idle) = family_importance(kind(matrix), families, accuracy, repeats=4, seed=1)
    assert untouched == 1
    assert deciding.permuted == pytest.approx(0.5, abs=0.1)
    assert deciding.dropped == pytest.approx(labels.mean())
    assert (idle.permuted, idle.permuted_sd, idle.dropped) == (0, 0, 0)
    assert (deciding.n_columns, idle.n_columns) == (2, 4)


def test_columns_of_a_family_move_together():
    """Rows whose two columns agree still agree after the family is permuted."""
    matrix = np.repeat(np.arange(50.0)[:, None], 2, axis=1)
    seen = []

    def score(features):
        seen.append(features)
        return 0.0

    family_importance(matrix, {"both": np.array([0, 1])}, score, repeats=1)
    permuted = seen[1]
    np.testing.assert_array_equal(permuted[:, 0], permuted[:, 1])
    assert (permuted != matrix).any()
