"""The fast vectorisers against scikit-learn's: same vocabulary, same matrix, same exceptions, on any text.

Equal means equal up to terms that are tied at the cut of ``max_features``: scikit-learn's choice among those depends on
the processor; ours is alphabetical.
"""

import pickle
import warnings

import numpy as np
import pytest
import skops.io
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction import text as sklearn_text
from sklearn.pipeline import FeatureUnion, make_union

from agnews_exp import ngrams as fast

TOLERANCE = 1e-12
COUNTING = ("analyzer", "ngram_range", "lowercase", "strip_accents", "token_pattern", "stop_words", "dtype")

# Few different characters, so that n-grams repeat and ties are common, among them all that is hard: letters whose
# lower case is longer (İ) or depends on the neighbours (Σ), combining marks, emoji, white space of all kinds,
# separators that str.split knows and others that only look like them, lone surrogates, NUL.
HARD = (
    "aabbcABz09_ \t\n\r\x0b\x1c\x85\xa0\u2003\u200b.,'-éÉßİıΣσςΑ\u0301\u0327"
    "中文字א\u0660½²_ªǅ😀👩\u200d\ud800\x00\ufeff"
)
texts = st.lists(
    st.one_of(
        st.text(alphabet=HARD, max_size=25),
        st.text(max_size=12),
        st.lists(st.sampled_from(["spam", "egg", "Ham", "ham", "a", "the", "über", "ΟΔΟΣ", "x"]), max_size=8).map(
            " ".join
        ),
    ),
    min_size=1,
    max_size=8,
)
ranges = st.tuples(st.integers(1, 4), st.integers(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1]))
parameters = st.fixed_dictionaries(
    {
        "analyzer": st.sampled_from(["word", "char", "char_wb"]),
        "ngram_range": ranges,
        "lowercase": st.booleans(),
        "binary": st.booleans(),
        "min_df": st.one_of(st.integers(1, 3), st.floats(0, 1)),
        "max_df": st.one_of(st.integers(1, 6), st.floats(0, 1), st.just(1.0)),
        "max_features": st.one_of(st.none(), st.integers(1, 12)),
        "strip_accents": st.sampled_from([None, None, "ascii", "unicode"]),
        "token_pattern": st.sampled_from(
            [
                r"(?u)\b\w\w+\b",
                r"(?u)\b\w\w+\b",
                r"(?u)\b\w+\b",
                r"\w+",
                r"[^ ]+",
                r"\S*",
                r".",
                r"(?:a|b) ?",
                r"(\w)\w",
            ]
        ),
        "stop_words": st.sampled_from([None, None, "english", ["ham", "ab", "x y", "é"]]),
    }
)
weights = st.fixed_dictionaries(
    {
        "norm": st.sampled_from(["l1", "l2", None]),
        "use_idf": st.booleans(),
        "smooth_idf": st.booleans(),
        "sublinear_tf": st.booleans(),
        "dtype": st.sampled_from([np.float64, np.float64, np.float32]),
    }
)
thorough = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(act):
    """What a call returns, or the exception that it raises."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return act(), None, {str(w.message) for w in caught if w.category is UserWarning}
        except Exception as error:
            return None, error, set()


def assert_same_matrix(ours, theirs):
    assert type(ours) is type(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert ours.indices.dtype == theirs.indices.dtype
    theirs = theirs.copy()
    theirs.has_sorted_indices = False  # scikit-learn renumbers columns of a sorted matrix without telling it
    theirs.sort_indices()
    np.testing.assert_array_equal(ours.indptr, theirs.indptr)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.data, theirs.data, rtol=0, atol=TOLERANCE)


def with_our_choice_of_ties(ours, theirs, rows):
    """Scikit-learn's vectoriser with our vocabulary, which may differ from its own by ties at the cut only."""
    every = sklearn_text.CountVectorizer(
        **{name: value for name, value in theirs.get_params().items() if name in COUNTING}, binary=theirs.binary
    )
    matrix = every.fit_transform(rows)
    totals = dict(zip(every.get_feature_names_out(), np.asarray(matrix.sum(axis=0)).ravel().tolist(), strict=True))
    mine, its = set(ours.vocabulary_), set(theirs.vocabulary_)
    assert len(mine) == len(its) == theirs.max_features
    assert {totals[term] for term in mine ^ its} == {min(totals[term] for term in its)}
    assert max(mine - its) < min(its - mine), "of tied terms the first in alphabetical order stay"
    terms = sorted(ours.vocabulary_)
    return clone(theirs).set_params(vocabulary=terms, max_features=None, min_df=1, max_df=1.0)


def assert_same_behaviour(ours, theirs, rows, other_rows):
    found, error, said = outcome(lambda: ours.fit_transform(rows))
    expected, expected_error, expected_said = outcome(lambda: theirs.fit_transform(rows))
    assert (type(error), str(error)) == (type(expected_error), str(expected_error))
    if expected_error is not None:
        return
    assert said == expected_said
    if theirs.max_features is not None and ours.vocabulary_ != theirs.vocabulary_:
        theirs = with_our_choice_of_ties(ours, theirs, rows)
        expected = theirs.fit_transform(rows)
    assert_same_matrix(found, expected)
    assert ours.vocabulary_ == theirs.vocabulary_
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    if hasattr(theirs, "idf_"):
        np.testing.assert_allclose(ours.idf_, theirs.idf_, rtol=0, atol=TOLERANCE)
    assert_same_matrix(ours.transform(other_rows), theirs.transform(other_rows))


@thorough
@given(rows=texts, other_rows=texts, settings_=parameters, weighting=weights)
@example(
    rows=["ΑΣ", "Σ\u0301A", "ΑΣ b"],
    other_rows=["ας"],
    settings_={"analyzer": "char", "ngram_range": (1, 3)},
    weighting={},
)
@example(
    rows=["İİ", "a  b", "", " "],
    other_rows=["i\u0307", "a b"],
    settings_={"analyzer": "char", "ngram_range": (1, 2)},
    weighting={},
)
def test_tfidf_equals_scikit_learn_on_any_text(rows, other_rows, settings_, weighting):
    given_ = {**settings_, **weighting}
    assert_same_behaviour(
        fast.TfidfVectorizer(**given_), sklearn_text.TfidfVectorizer(**given_), rows, rows + other_rows
    )


@thorough
@given(rows=texts, other_rows=texts, settings_=parameters, dtype=st.sampled_from([np.int64, np.int32, np.float32]))
def test_counts_equal_scikit_learn_on_any_text(rows, other_rows, settings_, dtype):
    given_ = {**settings_, "dtype": dtype}
    assert_same_behaviour(
        fast.CountVectorizer(**given_), sklearn_text.CountVectorizer(**given_), rows, rows + other_rows
    )


@pytest.mark.parametrize("analyzer", ["word", str.split], ids=["compiled", "left to scikit-learn"])
@pytest.mark.parametrize("bounds", [{}, {"min_df": 2, "max_df": 3}])
def test_of_tied_terms_the_first_in_alphabetical_order_stay(analyzer, bounds):
    rng = np.random.default_rng(0)
    terms = [f"w{i:03}" for i in rng.permutation(200)]
    rows = [" ".join(terms) + " zz", " ".join(terms[::-1]) + " zz", "w150 w150 zz", "w120 w120 once zz"]
    vectorizer = fast.TfidfVectorizer(analyzer=analyzer, max_features=100, **bounds).fit(rows)
    frequent = ["w120", "w150"] + ([] if bounds else ["zz"])
    assert sorted(vectorizer.vocabulary_) == [f"w{i:03}" for i in range(100 - len(frequent))] + frequent
    assert list(vectorizer.get_feature_names_out()) == sorted(vectorizer.vocabulary_)


def corpus(n_rows, seed=0, words=400):
    """Rows with a long-tailed vocabulary, so that growth of tables, blocks and ties all occur."""
    rng = np.random.default_rng(seed)
    lexicon = ["".join(rng.choice(list("abcdefghij"), rng.integers(1, 9))) for _ in range(words)]
    picks = np.minimum(rng.zipf(1.3, (n_rows, 30)) - 1, words - 1)
    return [" ".join(lexicon[p] for p in row[: rng.integers(0, 30)]) for row in picks]


@pytest.mark.parametrize("analyzer", ["word", "char", "char_wb"])
@pytest.mark.parametrize("max_features", [None, 50, 1000])
def test_many_rows_over_several_chunks_and_threads_equal_scikit_learn(monkeypatch, analyzer, max_features):
    monkeypatch.setattr("agnews_exp.ngrams.counting.CHUNK_CHARACTERS", 3000)
    given_ = {"analyzer": analyzer, "ngram_range": (1, 4), "max_features": max_features, "min_df": 2, "max_df": 0.9}
    rows = corpus(600)
    for n_jobs in (1, 3):
        assert_same_behaviour(
            fast.TfidfVectorizer(**given_, n_jobs=n_jobs),
            sklearn_text.TfidfVectorizer(**given_),
            rows,
            corpus(100, seed=1),
        )


def test_result_does_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr("agnews_exp.ngrams.counting.CHUNK_CHARACTERS", 2000)
    rows = corpus(500)
    alone = fast.TfidfVectorizer(analyzer="char", ngram_range=(2, 4), max_features=300, n_jobs=1)
    crowd = fast.TfidfVectorizer(analyzer="char", ngram_range=(2, 4), max_features=300, n_jobs=4)
    one, many = alone.fit_transform(rows), crowd.fit_transform(rows)
    assert alone.vocabulary_ == crowd.vocabulary_
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(one, name), getattr(many, name))


def test_too_many_occurrences_to_keep_are_read_twice_with_the_same_result(monkeypatch):
    rows = corpus(300)
    given_ = {"analyzer": "char", "ngram_range": (1, 3), "max_features": 100}
    kept = fast.TfidfVectorizer(**given_).fit_transform(rows)
    monkeypatch.setattr("agnews_exp.ngrams.counting.STREAM_LIMIT", 10)
    read_twice = fast.TfidfVectorizer(**given_).fit_transform(rows)
    assert_same_matrix(read_twice, kept)


def test_fit_then_transform_is_fit_transform():
    rows = corpus(200)
    vectorizer = fast.TfidfVectorizer(ngram_range=[1, 2], sublinear_tf=True, max_features=200)
    together = clone(vectorizer).fit_transform(rows)
    apart = vectorizer.fit(rows).transform(rows)
    np.testing.assert_array_equal(apart.data, together.data)
    np.testing.assert_array_equal(apart.indices, together.indices)


@pytest.mark.parametrize(
    ("alphabet_size", "ngram_range", "analyzer"),
    [(600, (1, 8), "char"), (300, (9, 9), "char_wb"), (400, (1, 9), "word")],
)
def test_ngrams_too_wide_for_a_key_still_equal_scikit_learn(alphabet_size, ngram_range, analyzer):
    rng = np.random.default_rng(0)
    letters = [chr(0x4E00 + i) for i in range(alphabet_size)]
    rows = [(" " if analyzer == "word" else "").join(rng.choice(letters, 40)) for _ in range(60)]
    given_ = {"analyzer": analyzer, "ngram_range": ngram_range, "token_pattern": r"(?u)\b\w+\b"}
    assert_same_behaviour(fast.TfidfVectorizer(**given_), sklearn_text.TfidfVectorizer(**given_), rows, rows[:5])


def test_ngrams_of_more_than_64_symbols_equal_scikit_learn():
    rows = ["ab" * 50, "ba" * 40]
    given_ = {"analyzer": "char", "ngram_range": (64, 66)}
    assert_same_behaviour(fast.CountVectorizer(**given_), sklearn_text.CountVectorizer(**given_), rows, rows)


@pytest.mark.parametrize(
    "settings_",
    [
        {"analyzer": str.split},
        {"tokenizer": str.split, "token_pattern": None},
        {"preprocessor": str.upper},
        {"vocabulary": ["b c", "a"], "ngram_range": (1, 2)},
        {"vocabulary": {"alpha": 1, "beta": 0}},
        {"strip_accents": lambda text: text.replace("é", "e")},
        {"dtype": np.float16},
        {"dtype": np.int16},
    ],
)
def test_what_compiled_code_does_not_cover_equals_scikit_learn(settings_):
    rows = ["alpha beta b c", "caf\u00e9 alpha", "beta"]
    for ours, theirs in (
        (fast.CountVectorizer, sklearn_text.CountVectorizer),
        (fast.TfidfVectorizer, sklearn_text.TfidfVectorizer),
    ):
        assert_same_behaviour(ours(**settings_), theirs(**settings_), rows, rows)


def test_bytes_are_decoded_and_broken_documents_raise_what_scikit_learn_raises():
    assert_same_behaviour(
        fast.CountVectorizer(), sklearn_text.CountVectorizer(), ["caf\u00e9 one".encode(), "one two"], [b"two two"]
    )
    for bad in ([None], ["a b", 3], [np.nan], [b"\xff\xfe"], "one string", [], ["", " "]):
        _, error, _ = outcome(lambda bad=bad: fast.TfidfVectorizer().fit_transform(bad))
        _, expected, _ = outcome(lambda bad=bad: sklearn_text.TfidfVectorizer().fit_transform(bad))
        assert expected is not None
        assert (type(error), str(error)) == (type(expected), str(expected))


@pytest.mark.parametrize(
    "settings_", [{"min_df": -1}, {"ngram_range": "12"}, {"analyzer": "syllable"}, {"norm": "l3"}, {"n_jobs": "two"}]
)
def test_parameters_out_of_range_are_refused_by_name(settings_):
    with pytest.raises(ValueError, match=next(iter(settings_))):
        fast.TfidfVectorizer(**settings_).fit(["some text"])


def test_transform_before_fit_says_so():
    with pytest.raises(NotFittedError):
        fast.TfidfVectorizer().transform(["text"])
    with pytest.raises(NotFittedError):
        fast.CountVectorizer().transform(["text"])
    assert not hasattr(fast.TfidfVectorizer(), "vocabulary_")


def test_clone_and_parameters_work_as_for_any_estimator():
    vectorizer = fast.TfidfVectorizer(ngram_range=[1, 2], n_jobs=2).fit(["some text"])
    copy = clone(vectorizer)
    assert copy.get_params() == vectorizer.get_params()
    assert not hasattr(copy, "vocabulary_")
    theirs = set(sklearn_text.TfidfVectorizer().get_params())
    assert set(vectorizer.get_params()) == theirs | {"n_jobs"}
    union = make_union(fast.CountVectorizer(), vectorizer).fit(["some text"])
    assert union.get_feature_names_out()[-1] == "tfidfvectorizer__text"


@pytest.mark.parametrize("analyzer", ["word", "char"])
def test_saving_with_skops_needs_only_our_class_trusted_and_keeps_results(analyzer):
    rows = [*corpus(100), "caf\u00e9 \U0001f600 \ud800x"]
    vectorizer = fast.TfidfVectorizer(analyzer=analyzer, ngram_range=(1, 3), sublinear_tf=True)
    expected = vectorizer.fit_transform(rows)
    saved = skops.io.dumps(vectorizer)
    assert skops.io.get_untrusted_types(data=saved) == ["agnews_exp.ngrams.vectorizers.TfidfVectorizer"]
    loaded = skops.io.loads(saved, trusted=["agnews_exp.ngrams.vectorizers.TfidfVectorizer"])
    for restored in (loaded, pickle.loads(pickle.dumps(vectorizer))):
        assert restored.vocabulary_ == vectorizer.vocabulary_
        again = restored.transform(rows)
        for name in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(again, name), getattr(expected, name))


def test_a_refitted_vectorizer_forgets_its_first_vocabulary():
    vectorizer = fast.CountVectorizer().fit(["alpha beta"])
    assert vectorizer.vocabulary_ == {"alpha": 0, "beta": 1}
    vectorizer.fit(["gamma"])
    assert vectorizer.vocabulary_ == {"gamma": 0}
    assert vectorizer.transform(["alpha gamma gamma"]).toarray().tolist() == [[2]]


@pytest.mark.parametrize("limit", [1 << 28, 10], ids=["kept", "read twice"])
@pytest.mark.parametrize("analyzer", ["word", "char_wb"])
def test_a_fit_knows_the_size_of_its_matrix_before_building_it(monkeypatch, analyzer, limit):
    monkeypatch.setattr("agnews_exp.ngrams.counting.STREAM_LIMIT", limit)
    vectorizer = fast.TfidfVectorizer(analyzer=analyzer, ngram_range=(1, 2), min_df=2, max_features=70)
    part = vectorizer.fit_part(corpus(60), 1.0)
    assert part.stored == vectorizer.transform(corpus(60)).nnz > 0


@pytest.mark.parametrize("vectorizer", [fast.CountVectorizer, fast.TfidfVectorizer])
def test_an_unknown_parameter_is_refused_by_name(vectorizer):
    with pytest.raises(TypeError, match="min_fd"):
        vectorizer(min_fd=2)


# Side by side: the matrix that scikit-learn's FeatureUnion stacks

LEXICON = ["spam", "egg", "Ham", "ham", "a", "x", "über", "ΟΔΟΣ", "İ", "cheese,", "\U0001f600", "e\u0301"]
# No terms are tied at these limits: which of tied ones scikit-learn keeps depends on the processor.
BLOCKS = {
    "word": {"analyzer": "word", "ngram_range": (1, 2), "max_features": 19, "sublinear_tf": True},
    "char": {"analyzer": "char", "ngram_range": (2, 4), "max_features": 87, "min_df": 2, "norm": "l1"},
    "edges": {"analyzer": "char_wb", "ngram_range": (3, 3), "norm": None, "strip_accents": "unicode"},
}


def few_words(n_rows, seed=0):
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


@pytest.mark.parametrize("weights", [None, {"word": 2.0, "edges": 0.3}, {"char": 0, "word": None}])
@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("shared", [False, True])
def test_a_union_equals_the_stacked_matrices(monkeypatch, weights, n_jobs, shared):
    monkeypatch.setattr("agnews_exp.ngrams.counting.CHUNK_CHARACTERS", 700)
    rows, others = few_words(90), few_words(40, seed=1)
    ours, theirs = unions(weights, rows=rows, n_jobs=n_jobs)
    expected, expected_others = theirs.fit_transform(rows), theirs.transform(others)
    with fast.shared_counts([*others, *rows] if shared else ["another text"]):
        assert_same_matrix(ours.fit_transform(rows), expected)
        assert_same_matrix(ours.transform(others), expected_others)
    assert_same_matrix(ours.transform(others), expected_others)
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()


def test_a_union_that_only_fits_transforms_the_same():
    rows = few_words(50)
    ours, theirs = unions()
    assert_same_matrix(ours.fit(rows).transform(rows), theirs.fit_transform(rows))


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
    rows = [*few_words(60), "x" * 80]
    ours, theirs = unions(blocks={"word": BLOCKS["word"], "odd": odd})
    assert_same_matrix(ours.fit_transform(rows), theirs.fit_transform(rows))
    assert_same_matrix(ours.transform(rows[:9]), theirs.transform(rows[:9]))


def test_a_union_with_other_transformers_is_scikit_learns():
    rows = few_words(30)
    ours = fast.FeatureUnion([("counts", fast.CountVectorizer()), ("tfidf", fast.TfidfVectorizer())])
    theirs = FeatureUnion([("counts", sklearn_text.CountVectorizer()), ("tfidf", sklearn_text.TfidfVectorizer())])
    assert_same_matrix(ours.fit_transform(rows), theirs.fit_transform(rows))


def test_errors_are_those_of_the_members():
    ours, _ = unions()
    with pytest.raises(NotFittedError):
        ours.transform(["text"])
    with pytest.raises(ValueError, match="empty vocabulary"):
        ours.fit_transform(["", " "])
    with pytest.raises(ValueError, match="weight"):
        unions({"wrod": 2.0})[0].fit_transform(few_words(5))
    with pytest.raises(ValueError, match="min_df"):
        unions(min_df=-3, blocks={"edges": BLOCKS["edges"]})[0].fit_transform(few_words(5))
