"""Fast vectorisers side by side: the matrix that scikit-learn's FeatureUnion stacks."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction import text as sklearn_text
from sklearn.pipeline import FeatureUnion

from agnews_exp import ngrams as fast

LEXICON = ["spam", "egg", "Ham", "ham", "a", "x", "über", "ΟΔΟΣ", "İ", "cheese,", "\U0001f600", "e\u0301"]
# No terms are tied at these limits: which of tied ones scikit-learn keeps depends on the processor.
BLOCKS = {
    "word": {"analyzer": "word", "ngram_range": (1, 2), "max_features": 19, "sublinear_tf": True},
    "char": {"analyzer": "char", "ngram_range": (2, 4), "max_features": 87, "min_df": 2, "norm": "l1"},
    "edges": {"analyzer": "char_wb", "ngram_range": (3, 3), "norm": None, "strip_accents": "unicode"},
}


def corpus(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(LEXICON, rng.integers(0, 12))) for _ in range(n_rows)]


def unions(weights=None, blocks=BLOCKS, rows=None, **extra):
    """Our union and scikit-learn's; with rows, the latter takes our choice among terms that tie at max_features."""
    ours = [(name, fast.TfidfVectorizer(**kind, **extra)) for name, kind in blocks.items()]
    chosen = {name: fast.TfidfVectorizer(**kind).fit(rows).vocabulary_ for name, kind in blocks.items() if rows}
    theirs = [
        (name, sklearn_text.TfidfVectorizer(**kind | ({"vocabulary": chosen[name]} if rows else {})))
        for name, kind in blocks.items()
    ]
    return fast.FeatureUnion(ours, transformer_weights=weights), FeatureUnion(theirs, transformer_weights=weights)


def assert_same(found, expected):
    expected = expected.copy()
    expected.has_sorted_indices = False
    expected.sort_indices()
    assert type(found) is type(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.data, expected.data, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weights", [None, {"word": 2.0, "edges": 0.3}, {"char": 0, "word": None}])
@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_a_union_equals_the_stacked_matrices(monkeypatch, weights, n_jobs, shared):
    monkeypatch.setattr("agnews_exp.ngrams.counting.CHUNK_CHARACTERS", 700)
    rows, others = corpus(90), corpus(40, seed=1)
    ours, theirs = unions(weights, rows=rows, n_jobs=n_jobs)
    expected, expected_others = theirs.fit_transform(rows), theirs.transform(others)
    with fast.shared_counts([*others, *rows] if shared else ["another text"]):
        assert_same(ours.fit_transform(rows), expected)
        assert_same(ours.transform(others), expected_others)
    assert_same(ours.transform(others), expected_others)
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()


def test_a_union_that_only_fits_transforms_the_same():
    rows = corpus(50)
    ours, theirs = unions()
    assert_same(ours.fit(rows).transform(rows), theirs.fit_transform(rows))


def test_too_many_occurrences_to_keep_are_read_twice(monkeypatch):
    rows = corpus(60)
    ours, theirs = unions()
    monkeypatch.setattr("agnews_exp.ngrams.counting.STREAM_LIMIT", 9000)
    assert_same(ours.fit_transform(rows), theirs.fit_transform(rows))


@pytest.mark.parametrize(
    "odd",
    [
        {"analyzer": str.split},
        {"dtype": np.float32},
        {"analyzer": "char", "ngram_range": (60, 66)},
        {"token_pattern": r"[^,]+", "ngram_range": (1, 2)},
    ],
)
def test_members_that_compiled_code_does_not_cover_still_equal_scikit_learn(odd):
    rows = [*corpus(60), "x" * 80]
    ours, theirs = unions(blocks={"word": BLOCKS["word"], "odd": odd})
    assert_same(ours.fit_transform(rows), theirs.fit_transform(rows))
    assert_same(ours.transform(rows[:9]), theirs.transform(rows[:9]))


def test_a_union_with_other_transformers_is_scikit_learns():
    rows = corpus(30)
    ours = fast.FeatureUnion([("counts", fast.CountVectorizer()), ("tfidf", fast.TfidfVectorizer())])
    theirs = FeatureUnion([("counts", sklearn_text.CountVectorizer()), ("tfidf", sklearn_text.TfidfVectorizer())])
    assert_same(ours.fit_transform(rows), theirs.fit_transform(rows))


def test_errors_are_those_of_the_members():
    ours, _ = unions()
    with pytest.raises(NotFittedError):
        ours.transform(["text"])
    with pytest.raises(ValueError, match="empty vocabulary"):
        ours.fit_transform(["", " "])
    with pytest.raises(ValueError, match="weight"):
        unions({"wrod": 2.0})[0].fit_transform(corpus(5))
    with pytest.raises(ValueError, match="min_df"):
        unions(min_df=-3, blocks={"edges": BLOCKS["edges"]})[0].fit_transform(corpus(5))
