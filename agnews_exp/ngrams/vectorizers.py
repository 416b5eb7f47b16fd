"""Drop-in replacements of scikit-learn's n-gram vectorisers and FeatureUnion that count in compiled code."""

from __future__ import annotations

import functools
import inspect
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.feature_extraction import text as sklearn_text
from sklearn.pipeline import FeatureUnion as SklearnFeatureUnion
from sklearn.utils.validation import check_is_fitted

from agnews_exp.ngrams.counting import KeyTooWideError, NgramSpec
from agnews_exp.ngrams.fitting import (
    Arrays,
    CorpusRows,
    Learned,
    Lookup,
    Part,
    SharedCounts,
    Vocabulary,
    Weigh,
    Weighting,
    build_matrix,
    learn,
    most_frequent,
    pack_terms,
    portable_log,
    unpack_terms,
)

log = logging.getLogger(__name__)


@functools.cache
def kernels_available() -> bool:
    """Return whether numba can be used; where it cannot, warn once."""
    try:
        import numba  # noqa: F401
    except Exception as error:  # a broken installation raises anything from OSError to SystemError
        warnings.warn(
            f"numba cannot be used ({error}): n-grams are counted by scikit-learn, with the same result but slowly",
            RuntimeWarning,
            stacklevel=3,
        )
        return False
    return True


def start_compiling(*more: Callable[[], Any]) -> Callable[[], None]:
    """Begin to compile the kernels of word and character vectorisers on a thread of its own, or to read them from disk.

    Where they have to be compiled, which happens once for a kind of processor, a log line says how long it took.
    ``more`` are functions that call a kernel of another module once and return it. The function that is returned waits
    until all is there.
    """
    thread = threading.Thread(target=_compile, args=(more,), name="compile kernels", daemon=True)
    thread.start()
    return thread.join


def _compile(more: Sequence[Callable[[], Any]]) -> None:
    """Call every kernel of a word and a character vectoriser once, and those of other modules."""
    if not kernels_available():
        return
    from agnews_exp.ngrams import kernels

    used = [kernel for kernel in vars(kernels).values() if hasattr(kernel, "stats")]
    start = time.thread_time()
    texts = ("a few words", "a few more words")
    weighting = Weighting(tfidf=True, sublinear=True, idf=np.ones(1), norm="l2")
    for spec in (NgramSpec("word", 1, 1, True, r"(?u)\b\w\w+\b"), NgramSpec("char", 1, 1, True)):
        counts = SharedCounts(texts, None).counts(spec, 1)
        assert counts is not None
        terms = CorpusRows(counts, np.arange(len(texts)), 1).terms(np.zeros(1, np.intp))
        build_matrix([Vocabulary(spec, terms).part(texts, weighting)], 1)
    used += [call() for call in more]
    if sum(sum(kernel.stats.cache_misses.values()) for kernel in used):
        log.info("compiling kernels for this processor, once: %.1f s", time.thread_time() - start)


def init_with_jobs(base: type) -> Callable[..., None]:
    """Return an ``__init__`` with every argument of a scikit-learn vectoriser and ``n_jobs``.

    Its signature names them all, so that get_params, clone and the check of configurations find them.
    """
    own: Any = base.__init__  # type: ignore[misc]

    def __init__(self: Any, *, n_jobs: int | None = None, **arguments: Any) -> None:
        own(self, **arguments)
        self.n_jobs = n_jobs

    jobs = inspect.Parameter("n_jobs", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="int | None")
    signature = inspect.signature(own)
    vars(__init__)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), jobs])
    return __init__


def constraints_with_jobs(base: Any) -> dict[str, Any]:
    """Return the parameter constraints that go with :func:`init_with_jobs`; ``ngram_range`` may also be a list."""
    return {**base._parameter_constraints, "ngram_range": [tuple, list], "n_jobs": [Integral, None]}


def usable_jobs(n_jobs: int | None) -> int:
    """Return the number of threads: None, 0 and -1 mean all cores, -2 all but one."""
    from joblib import cpu_count

    cores = int(cpu_count())
    if n_jobs is None or n_jobs == -1 or n_jobs == 0:
        return cores
    return n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs)


_DTYPES = ("int64", "int32", "float64", "float32")
_TRANSIENT = ("_vocabulary", "_lookup")


def as_sparse(arrays: Arrays, n_columns: int, dtype: Any) -> Any:
    """Return a canonical CSR matrix of the kind that this scikit-learn returns."""
    values, indices, indptr = arrays
    shape = (len(indptr) - 1, n_columns)
    matrix: Any
    try:
        from sklearn.utils._sparse import _align_api_if_sparse
    except ImportError:
        matrix = sp.csr_matrix((values.astype(dtype, copy=False), indices, indptr), shape=shape)
    else:
        matrix = _align_api_if_sparse(sp.csr_array((values.astype(dtype, copy=False), indices, indptr), shape=shape))
    matrix.has_canonical_format = True
    return matrix


def sorted_rows(matrix: Any) -> Any:
    """Sort the columns of each row of scikit-learn's matrix in place.

    scikit-learn renumbers the columns of a sorted matrix without telling it, so its own flag cannot be believed.
    """
    matrix.has_sorted_indices = False
    matrix.sort_indices()
    return matrix


class CountVectorizer(sklearn_text.CountVectorizer):  # type: ignore[misc]
    """Counts of word or character n-grams: scikit-learn's CountVectorizer, many times as fast.

    Parameters, attributes, results and exceptions are those of ``sklearn.feature_extraction.text.CountVectorizer``,
    and columns ascend within each row. Only of terms that occur equally often at the cut of ``max_features`` the first
    in alphabetical order stay, where scikit-learn keeps what its processor's sort leaves in front. Whatever compiled
    code does not cover (a callable analyzer, tokenizer or preprocessor, a given vocabulary, n-grams that do not fit
    into 64 bits, no numba) scikit-learn itself does.

    The result does not depend on ``n_jobs``, the number of threads (None or -1: all cores).
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = constraints_with_jobs(sklearn_text.CountVectorizer)

    __init__ = init_with_jobs(sklearn_text.CountVectorizer)

    # The vocabulary is kept as two arrays: small, quick to save, and free of pickles. The dict is made when asked for.
    @property
    def vocabulary_(self) -> dict[Any, int]:
        """Column of each term."""
        if "_vocabulary" not in self.__dict__:
            if "_term_text" not in self.__dict__:
                raise AttributeError(f"{type(self).__name__} has no vocabulary_ before it is fitted")
            terms = unpack_terms(self._term_text, self._term_lengths)
            self._vocabulary: dict[Any, int] = {term: column for column, term in enumerate(terms)}
        return self._vocabulary

    @vocabulary_.setter
    def vocabulary_(self, value: dict[Any, int]) -> None:
        self._set_terms(*pack_terms(sorted(value, key=value.__getitem__)))
        self._vocabulary = value

    def _set_terms(self, text: NDArray[np.uint8], lengths: NDArray[np.int32]) -> None:
        for name in _TRANSIENT:
            self.__dict__.pop(name, None)
        self._term_text, self._term_lengths = text, lengths

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name not in _TRANSIENT}

    def _spec(self) -> NgramSpec | None:
        """Return the n-grams that compiled code would count, or None where scikit-learn has to do it."""
        covered = (
            self.input == "content"
            and self.preprocessor is None
            and self.vocabulary is None
            and self.analyzer in ("char", "char_wb", "word")
            and self.strip_accents in (None, "ascii", "unicode")
            and np.dtype(self.dtype).name in _DTYPES
            and 1 <= self.ngram_range[0] <= self.ngram_range[1]
        )
        words: dict[str, Any] = {}
        if covered and self.analyzer == "word":
            covered = self.tokenizer is None and self.token_pattern is not None
            words["token_pattern"] = self.token_pattern
            words["stop_words"] = tuple(sorted(self.get_stop_words() or ()))
        if not covered or not kernels_available():
            return None
        return NgramSpec(
            analyzer=self.analyzer,
            min_n=int(self.ngram_range[0]),
            max_n=int(self.ngram_range[1]),
            lowercase=bool(self.lowercase),
            strip_accents=self.strip_accents,
            **words,
        )

    def _decoded(self, documents: Sequence[Any]) -> list[str]:
        texts = [text if type(text) is str else self.decode(text) for text in documents]
        if not all(isinstance(text, str) for text in texts):
            # scikit-learn raises what it raises for such documents.
            raise KeyTooWideError
        return texts

    def _learn(self, documents: Sequence[Any], spec: NgramSpec, weigh: Weigh, want_part: bool) -> Learned:
        """Fit in compiled code.

        Raises:
            KeyTooWideError: scikit-learn has to do it.
        """
        self._validate_ngram_range()
        self._warn_for_unused_params()
        self._validate_vocabulary()
        self.build_analyzer()  # checks pattern and stop words, and warns as scikit-learn does
        bounds = self.min_df, self.max_df, self.max_features, bool(self.binary)
        learned = learn(self._decoded(documents), spec, bounds, weigh, usable_jobs(self.n_jobs), want_part)
        self._set_terms(learned.term_text, learned.term_lengths)
        self._lookup = learned.lookup
        return learned

    def _finder(self) -> Lookup:
        """Return the look-up of the fitted vocabulary.

        Raises:
            KeyTooWideError: scikit-learn has to do it.
        """
        spec = self._spec()
        if spec is None or "_term_text" not in self.__dict__:
            raise KeyTooWideError
        lookup: Lookup | None = self.__dict__.get("_lookup")
        if lookup is None or lookup.spec != spec:
            lookup = self._lookup = Lookup(spec, self._term_text, self._term_lengths)
        return lookup

    def _rows(self, documents: str | Sequence[Any], weighting: Weighting) -> Any:
        """Return the rows of documents in a fitted vocabulary, or None where scikit-learn has to make them."""
        if isinstance(documents, str):
            return None
        try:
            return self._matrix_of(self._finder().part(self._decoded(documents), weighting, usable_jobs(self.n_jobs)))
        except KeyTooWideError:
            return None

    def _matrix_of(self, part: Part) -> Any:
        """Return the CSR matrix, shape (rows, terms), of one part."""
        return as_sparse(build_matrix([part], usable_jobs(self.n_jobs)), part.n_columns, self.dtype)

    def fit(self, raw_documents: Iterable[Any], y: Any = None) -> CountVectorizer:
        """Learn the vocabulary."""
        self._fit_counts(raw_documents, want_matrix=False)
        return self

    def fit_transform(self, raw_documents: Iterable[Any], y: Any = None) -> Any:
        """Learn the vocabulary and return the counts, shape (rows, terms)."""
        return self._fit_counts(raw_documents, want_matrix=True)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def _fit_counts(self, raw_documents: Iterable[Any], want_matrix: bool) -> Any:
        spec = self._spec()
        documents = raw_documents if isinstance(raw_documents, str) else list(raw_documents)
        if spec is not None and not isinstance(documents, str):
            weighting = Weighting(binary=bool(self.binary))
            try:
                part = self._learn(documents, spec, lambda df, n: weighting, want_matrix).part
                return None if part is None else self._matrix_of(part)
            except KeyTooWideError:
                pass
        return sorted_rows(sklearn_text.CountVectorizer.fit_transform(self, documents))

    # The one step of scikit-learn's fit that depends on the processor; no public argument chooses the kind of sort.
    def _limit_features(
        self, X: Any, vocabulary: dict[Any, int], high: Any = None, low: Any = None, limit: Any = None
    ) -> Any:
        """Drop what the bounds exclude, as scikit-learn does, and of ties at ``limit`` the last in the alphabet."""
        if high is not None or low is not None:
            X = super()._limit_features(X, vocabulary, high, low)
        if limit is None or X.shape[1] <= limit:
            return X
        kept = most_frequent(np.asarray(X.sum(axis=0)).ravel(), limit)
        terms = sorted(vocabulary, key=vocabulary.__getitem__)
        vocabulary.clear()
        vocabulary.update({terms[old]: new for new, old in enumerate(kept.tolist())})
        return X[:, kept]

    def transform(self, raw_documents: Iterable[Any]) -> Any:
        """Return the counts of the vocabulary's terms, shape (rows, terms)."""
        self._check_vocabulary()
        documents = raw_documents if isinstance(raw_documents, str) else list(raw_documents)
        rows = self._rows(documents, Weighting(binary=bool(self.binary)))
        return sorted_rows(sklearn_text.CountVectorizer.transform(self, documents)) if rows is None else rows


class TfidfVectorizer(sklearn_text.TfidfVectorizer, CountVectorizer):  # type: ignore[misc]
    """TF-IDF of word or character n-grams: scikit-learn's TfidfVectorizer, many times as fast.

    Everything said of :class:`CountVectorizer` holds. A value differs from scikit-learn's by rounding at most,
    because a row's norm is summed in the order of its columns.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = constraints_with_jobs(sklearn_text.TfidfVectorizer)

    __init__ = init_with_jobs(sklearn_text.TfidfVectorizer)

    def _weighting(self, idf: NDArray[np.float64] | None, factor: float = 1.0) -> Weighting:
        inner = self._tfidf
        return Weighting(bool(self.binary), True, bool(inner.sublinear_tf), idf, inner.norm, factor)

    def _inverse_frequencies(self, df: NDArray[np.int64], n_rows: int) -> NDArray[np.float64] | None:
        """Return ln((1 + n) / (1 + df)) + 1, or ln(n / df) + 1 unsmoothed, or None without idf."""
        if not self.use_idf:
            return None
        smooth = int(self.smooth_idf)
        return portable_log((n_rows + smooth) / (df.astype(np.float64) + smooth)) + 1.0

    def fit(self, raw_documents: Iterable[Any], y: Any = None) -> TfidfVectorizer:
        """Learn the vocabulary and the inverse document frequencies."""
        self._fit_tfidf(raw_documents, want_matrix=False)
        return self

    def fit_transform(self, raw_documents: Iterable[Any], y: Any = None) -> Any:
        """Learn the vocabulary and the inverse document frequencies, and return TF-IDF, shape (rows, terms)."""
        return self._fit_tfidf(raw_documents, want_matrix=True)

    def makes_parts(self) -> bool:
        """Whether compiled code weighs these features, so that :class:`FeatureUnion` can place them itself."""
        return np.dtype(self.dtype) == np.float64 and self._spec() is not None

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit_part(self, documents: Sequence[Any], factor: float) -> Part:
        """Fit, and return the part of a matrix from which the rows, times ``factor``, can be built, instead of them.

        Raises:
            KeyTooWideError: scikit-learn has to do it.
        """
        self._start_fit()
        part = self._learn_tfidf(documents, factor, True).part
        assert part is not None
        return part

    def rows_part(self, documents: Sequence[Any], factor: float) -> Part:
        """Return the part of a matrix for other documents; arguments and errors as :meth:`fit_part`."""
        weighting = self._weighting(getattr(self._tfidf, "idf_", None), factor)
        return self._finder().part(self._decoded(documents), weighting, usable_jobs(self.n_jobs))

    def _start_fit(self) -> None:
        self._check_params()
        self._tfidf = sklearn_text.TfidfTransformer(
            norm=self.norm, use_idf=self.use_idf, smooth_idf=self.smooth_idf, sublinear_tf=self.sublinear_tf
        )

    def _learn_tfidf(self, documents: Sequence[Any], factor: float, want_part: bool) -> Learned:
        spec = self._spec()
        if spec is None or np.dtype(self.dtype) != np.float64:
            raise KeyTooWideError

        def weigh(df: NDArray[np.int64], n_rows: int) -> Weighting:
            return self._weighting(self._inverse_frequencies(df, n_rows), factor)

        learned = self._learn(documents, spec, weigh, want_part)
        idf = self._inverse_frequencies(learned.df, len(documents))
        if idf is not None:
            self._tfidf.idf_ = idf
        self._tfidf.n_features_in_ = len(learned.df)
        return learned

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def _fit_tfidf(self, raw_documents: Iterable[Any], want_matrix: bool) -> Any:
        self._start_fit()
        documents = raw_documents if isinstance(raw_documents, str) else list(raw_documents)
        if not isinstance(documents, str) and self.makes_parts():
            try:
                part = self._learn_tfidf(documents, 1.0, want_matrix).part
                return None if part is None else self._matrix_of(part)
            except KeyTooWideError:
                counts = sorted_rows(sklearn_text.CountVectorizer.fit_transform(self, documents))
        else:
            counts = self._fit_counts(documents, want_matrix=True)
        # Other types of matrix, and whatever is left to scikit-learn, are weighed by scikit-learn.
        self._tfidf.fit(counts)
        return self._tfidf.transform(counts, copy=False) if want_matrix else None

    def transform(self, raw_documents: Iterable[Any]) -> Any:
        """Return TF-IDF with what fit learned, shape (rows, terms)."""
        check_is_fitted(self, msg="The TF-IDF vectorizer is not fitted")
        documents = raw_documents if isinstance(raw_documents, str) else list(raw_documents)
        if np.dtype(self.dtype) == np.float64 and hasattr(self, "_tfidf"):
            idf = getattr(self._tfidf, "idf_", None)
            rows = self._rows(documents, self._weighting(idf))
            if rows is not None:
                return rows
        counts = CountVectorizer.transform(self, documents)
        return self._tfidf.transform(counts, copy=False)


class FeatureUnion(SklearnFeatureUnion):  # type: ignore[misc]
    """scikit-learn's FeatureUnion; when all members are fast TF-IDF vectorisers, without intermediate matrices.

    Stacking finished matrices holds every value twice for a while: that is most of the memory of a hybrid of word
    and character n-grams, and much of its time. The result is the same. Members of any other kind, metadata and verbose
    output are left to scikit-learn.
    """

    def _members(self) -> list[tuple[TfidfVectorizer, float]] | None:
        """Return the vectorisers with their weights, or None when scikit-learn has to do it."""
        if self.verbose or not self.transformer_list:
            return None
        self._validate_transformer_weights()
        weights = {name: weight for name, weight in (self.transformer_weights or {}).items() if weight is not None}
        members = [(member, float(weights.get(name, 1.0))) for name, member in self.transformer_list]
        return members if all(type(m) is TfidfVectorizer and m.makes_parts() for m, _ in members) else None

    def _matrix(self, members: Sequence[tuple[TfidfVectorizer, float]], parts: Sequence[Part]) -> Any:
        arrays = build_matrix(parts, usable_jobs(members[0][0].n_jobs))
        return as_sparse(arrays, sum(part.n_columns for part in parts), np.float64)

    def fit_transform(self, X: Iterable[Any], y: Any = None, **params: Any) -> Any:
        """Fit all members and return their matrices side by side."""
        members = None if params or isinstance(X, str) else self._members()
        if members is None:
            return super().fit_transform(X, y, **params)
        self._validate_transformers()
        documents = list(X)
        try:
            parts = [member.fit_part(documents, weight) for member, weight in members]
        except KeyTooWideError:
            return super().fit_transform(documents, y)
        return self._matrix(members, parts)

    def transform(self, X: Iterable[Any], **params: Any) -> Any:
        """Return the members' matrices side by side."""
        members = None if params or isinstance(X, str) else self._members()
        if members is None:
            return super().transform(X, **params)
        documents = list(X)
        for member, _ in members:
            check_is_fitted(member, msg="The TF-IDF vectorizer is not fitted")
        try:
            parts = [member.rows_part(documents, weight) for member, weight in members]
            return self._matrix(members, parts)
        except KeyTooWideError:
            return super().transform(documents)
