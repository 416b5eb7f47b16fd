"""From word vectors to document vectors: mean, TF-IDF-weighted mean, max, min, and all three side by side."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Pooling = Literal["mean", "tfidf_mean", "max", "min", "concat"]

POOLINGS: Final[tuple[str, ...]] = ("mean", "tfidf_mean", "max", "min", "concat")
"""``concat`` is mean, max and min side by side: three times the dimensions."""

_ROWS_AT_ONCE: Final = 2048


def smooth_idf(word_ids: list[NDArray[np.int64]], n_words: int) -> NDArray[np.float64]:
    """Return ``ln((1 + n) / (1 + df)) + 1`` for every word, as TfidfTransformer does by default.

    Args:
        word_ids: For each of n documents, the ids of its words.
        n_words: V, so that ids are below it.

    Returns:
        Shape (V,). A word in no document gets the largest value.
    """
    document_frequency = np.zeros(n_words)
    for ids in word_ids:
        document_frequency[np.unique(ids)] += 1
    return np.asarray(np.log((1 + len(word_ids)) / (1 + document_frequency)) + 1)


def pool_vectors(
    word_ids: list[NDArray[np.int64]],
    vectors: NDArray[np.float32],
    pooling: Pooling,
    idf: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Pool each document's word vectors into one.

    Args:
        word_ids: For each of n documents, the row in ``vectors`` of each known word, repeated as in the text.
        vectors: Shape (V, D).
        pooling: How; ``tfidf_mean`` weighs a word by ``(1 + ln tf) * idf``.
        idf: Shape (V,), needed by ``tfidf_mean``.

    Returns:
        Shape (n, D), or (n, 3 D) for ``concat``; a document without known words gives zeros.
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
        counts.data = (1 + np.log(counts.data)) * idf[counts.indices]
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
