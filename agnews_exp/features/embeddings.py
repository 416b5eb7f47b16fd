"""Documents as pooled static word vectors: read from a file, or trained on the training texts."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import IO, Any, ClassVar, Final, Literal, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from agnews_exp.core.errors import ConfigError, DataError, StorageError, needs
from agnews_exp.features.preprocessing import TextTransformer
from agnews_exp.ngrams.fitting import pack_terms, portable_log, unpack_terms

_FORMATS = "GloVe text, word2vec text or word2vec binary, plain or .gz"


def check_embedding_file(path: str | None) -> Path:
    """Return the path of an embeddings file that exists."""
    if not path:
        raise ConfigError(
            f"features.embeddings_path is not set.\n  allowed: a file of word vectors ({_FORMATS})",
            fix="features.embeddings_path=/path/to/glove.6B.100d.txt (word2vec_trained needs no file)",
        )
    found = Path(path).expanduser()
    if not found.is_file():
        siblings = sorted(p.name for p in found.parent.glob("*")) if found.parent.is_dir() else []
        near = f" The folder holds: {', '.join(siblings[:8])}." if siblings else ""
        raise DataError(
            f"features.embeddings_path={path}: there is no such file.{near}",
            fix="give the path of a word-vector file, or use features=word2vec_trained, which needs none",
        )
    return found


def read_word_vectors(path: Path, max_words: int | None = None) -> tuple[list[str], NDArray[np.float32]]:
    """Read V words and their vectors, shape (V, D), float32, of a file; ``.gz`` is unpacked while reading.

    The format is told from the content: a first line of two integers opens a word2vec file, text or binary by
    what follows; anything else is GloVe text. A word that comes twice keeps its first vector. Files are sorted by
    frequency, so ``max_words`` takes the most frequent ones.
    """
    with _open(path) as stream:
        try:
            first = stream.readline()
            header = first.split()
            if len(header) == 2 and all(part.isdigit() for part in header):
                words, vectors = _read_word2vec(stream, path, int(header[0]), int(header[1]), max_words)
            else:
                words, vectors = _read_text(stream, path, len(first.rstrip().split(b" ")) - 1, max_words, first)
        except (EOFError, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: the compressed file is damaged ({error}).") from error
    if not words:
        raise DataError(f"{path} holds no word vectors.\n  allowed: {_FORMATS}")
    position: dict[str, int] = {}
    for i, word in enumerate(words):
        position.setdefault(word, i)
    if len(position) < len(words):
        return list(position), vectors[list(position.values())]
    return words, vectors


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _read_word2vec(
    stream: IO[bytes], path: Path, count: int, dimension: int, max_words: int | None
) -> tuple[list[str], NDArray[np.float32]]:
    if dimension == 0:
        raise DataError(f"{path}, line 1: the header says that vectors have 0 dimensions.")
    wanted = count if max_words is None else min(count, max_words)
    start = stream.readline()
    if _is_text_row(start, dimension):
        words, vectors = _read_text(stream, path, dimension, wanted, start, first_line=2)
    else:
        stream.seek(0)
        stream.readline()
        words, vectors = _read_binary(stream, path, wanted, dimension)
    if len(words) < wanted:
        raise DataError(f"{path}: the header promises {count} words, but the file ends after {len(words)}.")
    return words, vectors


def _is_text_row(line: bytes, dimension: int) -> bool:
    try:
        fields = line.decode("utf-8").rstrip().rsplit(" ", dimension)
        _ = [float(field) for field in fields[1:]]
    except ValueError:
        return False
    return len(fields) == dimension + 1


def _read_text(
    stream: IO[bytes], path: Path, dimension: int, max_words: int | None, start: bytes, first_line: int = 1
) -> tuple[list[str], NDArray[np.float32]]:
    if dimension < 1:
        raise DataError(f"{path}, line {first_line}: no word with numbers after it.\n  allowed: {_FORMATS}")
    words: list[str] = []
    rows: list[NDArray[np.float32]] = []
    line, number = start, first_line
    while line and (max_words is None or len(words) < max_words):
        try:
            # From the right: a few words of the large GloVe files hold spaces.
            word, *fields = line.decode("utf-8", "replace").rstrip().rsplit(" ", dimension)
            row = np.array(fields, dtype=np.float32)
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}.\n  allowed: {_FORMATS}") from error
        if len(row) != dimension or not np.isfinite(row).all():
            raise DataError(f"{path}, line {number}: expected a word and {dimension} finite numbers, found {len(row)}.")
        words.append(word)
        rows.append(row)
        line, number = stream.readline(), number + 1
    return words, np.vstack(rows) if rows else np.zeros((0, dimension), np.float32)


def _read_binary(stream: IO[bytes], path: Path, wanted: int, dimension: int) -> tuple[list[str], NDArray[np.float32]]:
    width = 4 * dimension
    words: list[str] = []
    # The header's count is not believed before the bytes are there: a damaged one could ask for all memory.
    rows: list[NDArray[np.float32]] = []
    for _ in range(wanted):
        letters = bytearray()
        while (letter := stream.read(1)) not in (b" ", b""):
            if letter != b"\n":
                letters += letter
        payload = stream.read(width)
        if len(payload) < width:
            raise DataError(f"{path}: the file ends inside word {len(words) + 1} of {wanted}.")
        words.append(letters.decode("utf-8", "replace"))
        rows.append(np.frombuffer(payload, dtype="<f4"))
    return words, np.vstack(rows) if rows else np.zeros((0, dimension), np.float32)


Pooling = Literal["mean", "tfidf_mean", "max", "min", "concat"]
POOLINGS: Final[tuple[str, ...]] = get_args(Pooling)
"""``concat`` is mean, max and min side by side: three times the dimensions."""

_ROWS_AT_ONCE: Final = 2048


def smooth_idf(word_ids: list[NDArray[np.int64]], n_words: int) -> NDArray[np.float64]:
    """Return ``ln((1 + n) / (1 + df)) + 1`` for each of V words, shape (V,), float64, as TfidfTransformer does.

    ``word_ids`` holds the ids of the words of each of n documents. A word in no document gets the largest value.
    """
    document_frequency = np.zeros(n_words)
    for ids in word_ids:
        document_frequency[np.unique(ids)] += 1
    return portable_log((1 + len(word_ids)) / (1 + document_frequency)) + 1


def pool_vectors(
    word_ids: list[NDArray[np.int64]],
    vectors: NDArray[np.float32],
    pooling: Pooling,
    idf: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Pool the vectors, shape (V, D), of each document's words into one: (n, D), or (n, 3 D) for ``concat``, float32.

    ``word_ids`` has for each of n documents the row in ``vectors`` of each known word, repeated as in the text; without
    any the result is zeros. ``tfidf_mean`` weighs a word by ``(1 + ln tf) * idf``, idf of shape (V,), float64.
    """
    dimension = vectors.shape[1]
    pooled = np.zeros((len(word_ids), dimension * (3 if pooling == "concat" else 1)), dtype=np.float32)
    for start in range(0, len(word_ids), _ROWS_AT_ONCE):
        ids = word_ids[start : start + _ROWS_AT_ONCE]
        target = pooled[start : start + _ROWS_AT_ONCE]
        if pooling == "tfidf_mean":
            assert idf is not None
            target[:] = _mean(ids, vectors, idf)
        elif pooling == "mean":
            target[:] = _mean(ids, vectors, None)
        elif pooling == "concat":
            target[:, :dimension] = _mean(ids, vectors, None)
            target[:, dimension : 2 * dimension] = _extreme(np.maximum, ids, vectors)
            target[:, 2 * dimension :] = _extreme(np.minimum, ids, vectors)
        else:
            target[:] = _extreme(np.maximum if pooling == "max" else np.minimum, ids, vectors)
    return pooled


def _mean(
    word_ids: list[NDArray[np.int64]], vectors: NDArray[np.float32], idf: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    lengths = np.fromiter((len(ids) for ids in word_ids), dtype=np.int64, count=len(word_ids))
    flat = np.concatenate(word_ids) if lengths.sum() else np.zeros(0, dtype=np.int64)
    counts = sparse.csr_matrix(
        (np.ones(len(flat)), flat, np.concatenate([[0], np.cumsum(lengths)])),
        shape=(len(word_ids), len(vectors)),
    )
    if idf is not None:
        counts.sum_duplicates()
        counts.data = (1 + portable_log(counts.data)) * idf[counts.indices]
    total = np.asarray(counts.sum(axis=1)).ravel()
    return np.asarray(counts @ vectors) / np.where(total > 0, total, 1.0)[:, None]


def _extreme(ufunc: np.ufunc, word_ids: list[NDArray[np.int64]], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.fromiter((len(ids) for ids in word_ids), dtype=np.int64, count=len(word_ids))
    result = np.zeros((len(word_ids), vectors.shape[1]), dtype=np.float32)
    filled = lengths > 0
    if filled.any():
        starts = np.concatenate([[0], np.cumsum(lengths[filled])[:-1]])
        result[filled] = ufunc.reduceat(vectors[np.concatenate(word_ids)], starts, axis=0)
    return result


_WORDS = r"\w+|[^\w\s]"


def _positive() -> Interval:
    return Interval(Integral, 1, None, closed="left")


class _PooledWordVectors(TextTransformer):
    """The base of both kinds of static embeddings: tokens, word index, pooling, saving.

    The words are kept packed, which is compact and saves without pickle.
    """

    pooling: Pooling
    token_pattern: str
    lowercase: bool

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "pooling": [StrOptions(set(POOLINGS))],
        "token_pattern": [str],
        "lowercase": ["boolean"],
    }

    def fit(self, X: Iterable[str], y: object = None) -> Self:
        """Get the word vectors and, for ``tfidf_mean``, the inverse document frequencies of these texts."""
        self._validate_params()
        tokens = self._tokens(X)
        words, self.vectors_ = self._word_vectors(tokens)
        self.word_text_, self.word_lengths_ = pack_terms(words)
        self._index = {word: i for i, word in enumerate(words)}
        needs_idf = self.pooling == "tfidf_mean"
        self.idf_ = smooth_idf([self._known_ids(t) for t in tokens], len(words)) if needs_idf else None
        return self

    def transform(self, X: Iterable[str]) -> NDArray[np.float32]:
        """Return pooled vectors, shape (n, D), or (n, 3 D) for ``concat``, float32; zeros where no word is known."""
        check_is_fitted(self, "vectors_")
        tokens = self._tokens(X)
        ids, vectors, idf = self._look_up(tokens)
        return pool_vectors(ids, vectors, self.pooling, idf)

    def words(self) -> list[str]:
        """Return the V known words, in the order of ``vectors_``."""
        check_is_fitted(self, "vectors_")
        return unpack_terms(self.word_text_, self.word_lengths_)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the columns, such as ``mean_0``."""
        check_is_fitted(self, "vectors_")
        parts = ["mean", "max", "min"] if self.pooling == "concat" else [self.pooling]
        return np.asarray([f"{part}_{i}" for part in parts for i in range(self.vectors_.shape[1])], dtype=object)

    def _word_vectors(self, tokens: list[list[str]]) -> tuple[list[str], NDArray[np.float32]]:
        raise NotImplementedError

    def _look_up(
        self, tokens: list[list[str]]
    ) -> tuple[list[NDArray[np.int64]], NDArray[np.float32], NDArray[np.float64] | None]:
        return [self._known_ids(row) for row in tokens], self.vectors_, self.idf_

    def _known_ids(self, tokens: list[str]) -> NDArray[np.int64]:
        index = self._word_index()
        return np.array([index[token] for token in tokens if token in index], dtype=np.int64)

    def _word_index(self) -> dict[str, int]:
        if not hasattr(self, "_index"):
            self._index = {word: i for i, word in enumerate(self.words())}
        return self._index

    def _tokens(self, texts: Iterable[str]) -> list[list[str]]:
        try:
            find = re.compile(self.token_pattern).findall
        except re.error as error:
            raise ConfigError(f"token_pattern={self.token_pattern!r} is no regular expression: {error}.") from error
        return [find(text.lower() if self.lowercase else text) for text in texts]

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("_index", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "vectors_" in state and "word_lengths_" not in state:
            raise StorageError(
                "The word vectors of this model were saved by an earlier build of agnews-exp, in a form that this one "
                "does not read.",
                fix="train it again (force=true)",
            )
        super().__setstate__(state)


class StaticEmbeddings(_PooledWordVectors):
    """Pool the vectors of a GloVe or word2vec file; ``conf/features/static_embeddings.yaml`` describes the arguments.

    All words that were read are saved with the model.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_PooledWordVectors._parameter_constraints,
        "path": [str, None],
        "max_words": [_positive(), None],
    }

    def __init__(
        self,
        path: str | None = None,
        pooling: Pooling = "mean",
        max_words: int | None = None,
        token_pattern: str = _WORDS,
        lowercase: bool = True,
    ) -> None:
        self.path = path
        self.pooling = pooling
        self.max_words = max_words
        self.token_pattern = token_pattern
        self.lowercase = lowercase

    def _validate_params(self) -> None:
        super()._validate_params()
        check_embedding_file(self.path)

    def _word_vectors(self, tokens: list[list[str]]) -> tuple[list[str], NDArray[np.float32]]:
        return read_word_vectors(check_embedding_file(self.path), self.max_words)


class TrainedEmbeddings(_PooledWordVectors):
    """Train word2vec or fastText vectors on the texts it is fitted on (gensim), then pool them.

    One thread and a fixed seed, so the same texts give the same vectors. fastText builds vectors for unknown words from
    their character n-grams, in ``bucket`` hash buckets, with which the model grows.
    ``conf/features/word2vec_trained.yaml`` describes the arguments.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_PooledWordVectors._parameter_constraints,
        "algorithm": [StrOptions({"word2vec", "fasttext"})],
        "architecture": [StrOptions({"cbow", "skipgram"})],
        "vector_size": [_positive()],
        "window": [_positive()],
        "min_count": [_positive()],
        "epochs": [_positive()],
        "negative": [_positive()],
        "bucket": [_positive()],
        "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
    }

    def __init__(
        self,
        algorithm: Literal["word2vec", "fasttext"] = "word2vec",
        architecture: Literal["cbow", "skipgram"] = "skipgram",
        pooling: Pooling = "mean",
        vector_size: int = 100,
        window: int = 5,
        min_count: int = 3,
        epochs: int = 5,
        negative: int = 5,
        bucket: int = 100_000,
        token_pattern: str = _WORDS,
        lowercase: bool = True,
        random_state: int = 42,
    ) -> None:
        self.algorithm = algorithm
        self.architecture = architecture
        self.pooling = pooling
        self.vector_size = vector_size
        self.window = window
        self.min_count = min_count
        self.epochs = epochs
        self.negative = negative
        self.bucket = bucket
        self.token_pattern = token_pattern
        self.lowercase = lowercase
        self.random_state = random_state

    def _validate_params(self) -> None:
        super()._validate_params()
        _gensim_models(self.algorithm)

    def _word_vectors(self, tokens: list[list[str]]) -> tuple[list[str], NDArray[np.float32]]:
        models = _gensim_models(self.algorithm)
        arguments: dict[str, Any] = {
            "vector_size": self.vector_size,
            "window": self.window,
            "min_count": self.min_count,
            "epochs": self.epochs,
            "negative": self.negative,
            "sg": int(self.architecture == "skipgram"),
            "seed": self.random_state,
            "workers": 1,  # more threads would update the vectors in an order that differs from run to run
        }
        if not any(count >= self.min_count for count in Counter(token for row in tokens for token in row).values()):
            raise ConfigError(f"No word occurs {self.min_count} times in the training texts.", fix="lower min_count")
        if self.algorithm == "fasttext":
            model = models.FastText(sentences=tokens, bucket=self.bucket, **arguments)
            self.ngram_vectors_ = np.asarray(model.wv.vectors_ngrams, dtype=np.float32)
            self.ngram_lengths_ = (int(model.wv.min_n), int(model.wv.max_n))
        else:
            model = models.Word2Vec(sentences=tokens, **arguments)
        return list(model.wv.index_to_key), np.asarray(model.wv.vectors, dtype=np.float32)

    def _look_up(
        self, tokens: list[list[str]]
    ) -> tuple[list[NDArray[np.int64]], NDArray[np.float32], NDArray[np.float64] | None]:
        if self.algorithm == "word2vec":
            return super()._look_up(tokens)
        known = self._word_index()
        unknown = sorted({token for row in tokens for token in row if token not in known})
        if not unknown:
            return super()._look_up(tokens)
        from gensim.models.fasttext import ft_ngram_hashes

        hashes = [list(ft_ngram_hashes(word, *self.ngram_lengths_, self.bucket)) for word in unknown]
        new = np.stack(
            [self.ngram_vectors_[h].mean(axis=0) if h else np.zeros(self.vector_size, np.float32) for h in hashes]
        )
        index = {**known, **{word: len(known) + i for i, word in enumerate(unknown)}}
        ids = [np.array([index[token] for token in row], dtype=np.int64) for row in tokens]
        idf = None if self.idf_ is None else np.concatenate([self.idf_, np.full(len(unknown), self.idf_.max())])
        return ids, np.concatenate([self.vectors_, new.astype(np.float32)]), idf


def _gensim_models(algorithm: str) -> Any:
    with needs("gensim", f"Training {algorithm} vectors", "'agnews-exp[nlp]'"):
        import gensim.models
    return gensim.models
