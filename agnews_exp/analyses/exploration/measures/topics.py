"""Topics without labels: non-negative matrix factorisation, its coherence, and what topics say of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Topics:
    """Topics of n documents.

    Attributes:
        words: Most weighted words of each of T topics, heaviest first.
        assigned: Shape (n,), each document's heaviest topic; -1 for a document without any weight.
        iterations: Iterations that the factorisation took.
    """

    words: tuple[tuple[str, ...], ...]
    assigned: IntArray
    iterations: int


def find_topics(matrix: Any, names: Sequence[str], *, n_topics: int, n_words: int, max_iter: int, seed: int) -> Topics:
    """Factorise a TF-IDF matrix into topics (scikit-learn's NMF, coordinate descent, NNDSVDa start).

    Args:
        matrix: Shape (n, m), not negative.
        names: m words.
        n_topics: T.
        n_words: Words that stand for a topic.
        max_iter: Iterations at most.
        seed: Of the start.
    """
    import warnings

    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning

    model = NMF(n_topics, init="nndsvda", max_iter=max_iter, random_state=seed)
    with warnings.catch_warnings():  # the iterations are reported instead
        warnings.simplefilter("ignore", ConvergenceWarning)
        weights = model.fit_transform(matrix)
    scale = model.components_.sum(axis=1)  # a topic's weight is a matter of scale, which is free between both factors
    shares = weights * scale
    assigned = np.where(shares.max(axis=1) > 0, shares.argmax(axis=1), -1)
    words = tuple(tuple(names[i] for i in np.argsort(-row, kind="stable")[:n_words]) for row in model.components_)
    return Topics(words, assigned.astype(np.int64), int(model.n_iter_))


def npmi_coherence(present: Any, names: Sequence[str], topics: Sequence[Sequence[str]]) -> FloatArray:
    """Return each topic's mean normalised pointwise mutual information over pairs of its words, shape (T,).

    Probabilities are shares of documents (Bouma 2009; Lau, Newman and Baldwin 2014): 1 where words always come
    together, 0 by chance, -1 (the limit, also taken for pairs that never meet) where they never do.

    Args:
        present: Shape (n, m), sparse; a positive value where a document holds a word.
        names: m words.
        topics: Words of each topic, all among ``names``.
    """
    from scipy.sparse import csc_array

    index = {name: i for i, name in enumerate(names)}
    columns = csc_array(present)
    n = columns.shape[0]
    scores = []
    for words in topics:
        part = columns[:, [index[word] for word in words]]
        part = (part > 0).astype(np.int64)
        together = (part.T @ part).toarray() / n
        single = np.diagonal(together)
        i, j = np.triu_indices(len(words), 1)
        joint = together[i, j]
        values = np.full(len(joint), -1.0)
        met = joint > 0
        pmi = np.log(joint[met] / (single[i][met] * single[j][met]))
        certain = joint[met] >= 1
        values[met] = np.where(certain, 1.0, pmi / np.where(certain, 1.0, -np.log(joint[met])))
        scores.append(float(values.mean()) if len(values) else float("nan"))
    return np.array(scores)


def cv_coherence(documents: Sequence[Sequence[str]], topics: Sequence[Sequence[str]]) -> FloatArray:
    """Return each topic's c_v coherence with gensim, shape (T,), from 0 to 1.

    For each word the cosine between its vector of NPMI with all words of the topic and the topic's sum of such vectors;
    probabilities are shares of windows of 110 words (Röder, Both and Hinneburg 2015).

    Args:
        documents: Words of each text.
        topics: Words of each topic; each word stands in some text.

    Raises:
        ImportError: gensim is not installed.
    """
    from gensim.corpora import Dictionary
    from gensim.models import CoherenceModel

    texts = [list(words) for words in documents]
    model = CoherenceModel(
        topics=[list(words) for words in topics], texts=texts, dictionary=Dictionary(texts), coherence="c_v",
        topn=max(map(len, topics)), processes=1,
    )  # fmt: skip
    return np.array(model.get_coherence_per_topic(), dtype=np.float64)


def topic_table(assigned: IntArray, labels: IntArray, n_topics: int, n_classes: int) -> IntArray:
    """Return documents by topic and class, shape (T, K); documents without a topic are left out."""
    with_topic = assigned >= 0
    flat = assigned[with_topic] * n_classes + labels[with_topic]
    return np.bincount(flat, minlength=n_topics * n_classes).reshape(n_topics, n_classes).astype(np.int64)


def conditional_entropy_bits(table: IntArray) -> float:
    """Return H(class | topic) in bits: 0 where a topic tells the class, log2 K where it tells nothing.

    Args:
        table: Shape (T, K), documents.
    """
    totals = table.sum(axis=1, keepdims=True)
    shares = np.divide(table, totals, out=np.zeros(table.shape), where=totals > 0)
    logs = np.log2(shares, out=np.zeros(table.shape), where=shares > 0)
    by_topic = -(shares * logs).sum(axis=1)
    return float((by_topic * totals[:, 0]).sum() / max(1, table.sum()))
