"""Topics found without labels, and how much they tell of the classes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agnews_exp.analyses.exploration.corpus import ExploredCorpus
from agnews_exp.analyses.findings import Column, Findings, Table
from agnews_exp.analyses.performing import analysis
from agnews_exp.core.errors import MissingDependencyError, needs
from agnews_exp.drawing import heat_map
from agnews_exp.evaluation.inputs import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Topics:
    """Topics of n documents."""

    words: tuple[tuple[str, ...], ...]  # most weighted words of each of T topics, heaviest first
    assigned: IntArray  # shape (n,), each document's heaviest topic; -1 for a document without any weight
    iterations: int  # iterations that the factorisation took


def find_topics(matrix: Any, names: Sequence[str], *, n_topics: int, n_words: int, max_iter: int, seed: int) -> Topics:
    """Factorise a TF-IDF matrix (n, m) into topics (scikit-learn's NMF, coordinate descent, NNDSVDa start)."""
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
    together, 0 by chance, -1 (the limit, also taken for pairs that never meet) where they never do. ``present`` is
    sparse, shape (n, m), positive where a document holds a word.
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

    Raises:
        MissingDependencyError: gensim is not installed.
    """
    with needs("gensim", "c_v coherence", "'agnews-exp[nlp]'"):
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
    """Return H(class | topic) in bits of counts (T, K): 0 where a topic tells the class, at most log2 K."""
    from scipy.stats import entropy

    totals = table.sum(axis=1)
    used = totals > 0
    by_topic = entropy(table[used], base=2, axis=1)
    return float((by_topic * totals[used]).sum() / max(1, table.sum()))


@analysis("topics", title="Topics")
def topics(
    corpus: ExploredCorpus,
    *,
    n_topics: Annotated[int, Field(ge=2, le=200)] = 20,
    n_documents: Annotated[int, Field(ge=10)] = 10000,
    n_words: Annotated[int, Field(ge=2, le=50)] = 10,
    max_iter: Annotated[int, Field(ge=1)] = 100,
    c_v: bool = True,
    bertopic: bool = True,
    bertopic_documents: Annotated[int, Field(ge=50)] = 1000,
) -> Findings:
    """Find topics by non-negative matrix factorisation of the TF-IDF of single words.

    Returns:
        ``coherence_npmi`` and ``coherence_c_v``, the means over topics; ``class_entropy``, H(class) in bits;
        ``class_given_topic``, H(class | topic); ``topic_given_class``, H(topic | class); ``purity``: share of texts
        in the largest class of their topic; with BERTopic ``bertopic_topics`` and ``bertopic_outliers``.
    """
    positions = corpus.sample(n_documents, "topics")
    labels = corpus.train.labels[positions]
    columns = corpus.tfidf.content_columns
    names = [corpus.tfidf.names[i] for i in columns.tolist()]
    matrix = corpus.tfidf.matrix[positions][:, columns]
    n_topics = min(n_topics, min(matrix.shape))
    found = find_topics(matrix, names, n_topics=n_topics, n_words=n_words, max_iter=max_iter, seed=corpus.seed)
    coherence = npmi_coherence(matrix, names, found.words)
    table = topic_table(found.assigned, labels, n_topics, corpus.n_classes)
    prior = np.bincount(labels, minlength=corpus.n_classes)[None, :]
    metrics = {
        "documents": float(len(positions)),
        "coherence_npmi": float(coherence.mean()),
        "class_entropy": conditional_entropy_bits(prior),
        "class_given_topic": conditional_entropy_bits(table),
        "topic_given_class": conditional_entropy_bits(table.T),
        "purity": float(table.max(axis=1).sum() / max(1, table.sum())),
    }
    left_out: dict[str, str] = {}
    windows: FloatArray | None = None
    if c_v:
        try:
            windows = cv_coherence(_documents(corpus, positions), found.words)
            metrics["coherence_c_v"] = float(windows.mean())
        except MissingDependencyError as error:
            left_out["c_v coherence"] = str(error)
    if bertopic:
        try:
            metrics |= _bertopic(corpus, bertopic_documents)
        except MissingDependencyError as error:
            left_out["BERTopic"] = str(error)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    order = np.lexsort((-table.sum(axis=1), table.argmax(axis=1))).tolist()  # one class's together, largest first
    rows = tuple(
        (number, int(table[t].sum()), corpus.names[int(table[t].argmax())], float(shares[t].max()), float(coherence[t]),
         None if windows is None else float(windows[t]), " ".join(found.words[t]))
        for number, t in enumerate(order, 1)
    )  # fmt: skip
    note = (
        f"NMF with {n_topics} topics on {len(positions):,} texts ({found.iterations} iterations); NPMI of {n_words} "
        f"words over these texts. The topic leaves {metrics['class_given_topic']:.3f} of "
        f"{metrics['class_entropy']:.3f} bits about the class open, the class leaves "
        f"{metrics['topic_given_class']:.3f} about the topic; "
        f"{metrics['purity']:.1%} of the texts are of their topic's largest class."
    )
    columns_ = (
        "topic", "texts", "largest class", Column("its share", ".0%"), Column("NPMI", ".3f"), Column("c_v", ".3f"),
        Column("words", width=90),
    )  # fmt: skip
    said = [f"{number}  {', '.join(found.words[t][:4])}" for number, t in enumerate(order, 1)]
    blocks = (
        Table("topic_words", "Topics found without labels", columns_, rows, note=note),
        heat_map("topics", "Classes of each topic", shares[order], said, corpus.names, form=".0%", top=1.0,
                 caption="Shares of the topic's texts."),
    )  # fmt: skip
    headline = (
        f"A topic leaves {metrics['class_given_topic']:.2f} of {metrics['class_entropy']:.2f} bits about the class "
        f"open; its words' coherence (NPMI) is {metrics['coherence_npmi']:.3f}."
    )
    return Findings(headline, blocks, metrics, {"left_out": left_out})


def _documents(corpus: ExploredCorpus, positions: IntArray) -> list[list[str]]:
    words = corpus.words.take(positions)
    terms = [words.terms[i] for i in words.ids.tolist()]
    ends = np.cumsum(words.table.lengths).tolist()
    return [terms[end - n : end] for end, n in zip(ends, words.table.lengths.tolist(), strict=True)]


def _bertopic(corpus: ExploredCorpus, n: int) -> dict[str, float]:
    """Return BERTopic's numbers."""
    with needs("bertopic", "BERTopic", "bertopic"):
        maker = import_module("bertopic").BERTopic
    texts = corpus.draw(n, "bertopic").texts
    vectors = corpus.sentence_embeddings.transform(texts)
    assigned = np.array(maker(calculate_probabilities=False).fit_transform(texts, vectors)[0])
    return {
        "bertopic_documents": float(len(texts)),
        "bertopic_topics": float(len(set(assigned[assigned >= 0].tolist()))),
        "bertopic_outliers": float((assigned < 0).mean()),
    }
