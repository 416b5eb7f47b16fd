"""What bounds the memory of large corpora: the matrix has its final size from the start."""

import numpy as np
import pytest

from agnews_exp import ngrams as fast


def rows(n=60):
    rng = np.random.default_rng(3)
    words = np.array([f"w{i}" for i in range(80)])
    return [" ".join(rng.choice(words, int(rng.integers(0, 12)))) for _ in range(n)]


@pytest.mark.parametrize("limit", [1 << 28, 10], ids=["kept", "read twice"])
@pytest.mark.parametrize("analyzer", ["word", "char_wb"])
def test_a_fit_knows_the_size_of_its_matrix_before_building_it(monkeypatch, analyzer, limit):
    monkeypatch.setattr("agnews_exp.ngrams.counting.STREAM_LIMIT", limit)
    vectorizer = fast.TfidfVectorizer(analyzer=analyzer, ngram_range=(1, 2), min_df=2, max_features=70)
    part = vectorizer.fit_part(rows(), 1.0)
    assert part.stored == vectorizer.transform(rows()).nnz > 0


@pytest.mark.parametrize("vectorizer", [fast.CountVectorizer, fast.TfidfVectorizer])
def test_an_unknown_parameter_is_refused_by_name(vectorizer):
    with pytest.raises(TypeError, match="min_fd"):
        vectorizer(min_fd=2)
