"""Frequent n-grams, and those that tell classes apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agnews_exp.analyses.exploration.corpus import ExploredCorpus
from agnews_exp.analyses.findings import Column, Findings, Table
from agnews_exp.analyses.performing import analysis
from agnews_exp.drawing import ranked_bars
from agnews_exp.evaluation.inputs import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class NgramCounts:
    """How often each class uses the n-grams of one length."""

    terms: tuple[str, ...]  # m n-grams in alphabetical order, words joined by one blank
    counts: IntArray  # shape (K, m)

    def top(self, n: int, of: int | None = None) -> list[tuple[str, int]]:
        """Return the n most frequent with their occurrences, of all classes or of one; equals by name."""
        counts = self.counts.sum(axis=0) if of is None else self.counts[of]
        order = np.argsort(-counts, kind="stable")[:n].tolist()
        return [(self.terms[i], int(counts[i])) for i in order if counts[i]]


def count_ngrams(texts: Sequence[str], labels: IntArray, n_classes: int, size: int, min_count: int = 1) -> NgramCounts:
    """Count n-grams within texts, without stop words and single characters; those below ``min_count`` are left out."""
    from agnews_exp.ngrams import CountVectorizer

    vectorizer = CountVectorizer(ngram_range=(size, size), stop_words="english")
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:  # no word at all
        return NgramCounts((), np.zeros((n_classes, 0), dtype=np.int64))
    sums = [np.asarray(matrix[np.flatnonzero(labels == k)].sum(axis=0)).ravel() for k in range(n_classes)]
    counts = np.array(sums, dtype=np.int64)
    kept = np.flatnonzero(counts.sum(axis=0) >= min_count)
    return NgramCounts(tuple(vectorizer.get_feature_names_out()[kept].tolist()), counts[:, kept])


def weighted_log_odds(counts: IntArray, prior_words: float) -> FloatArray:
    """Return how much more each class uses each term than the other classes do: z-scores of counts, shape (K, m).

    The log-odds ratio with an informative Dirichlet prior, divided by its standard deviation: equations 15, 16, 20 and
    22 of Monroe, Colaresi and Quinn, "Fightin' Words" (2008). The prior has the shares of the whole corpus and the
    weight of ``prior_words`` words, so that rare terms are drawn to no difference.
    """
    total = counts.sum(axis=0)
    prior = prior_words * total / total.sum()
    scores = np.zeros(counts.shape)
    for k, own in enumerate(counts):
        other = total - own
        a, b = own + prior, other + prior
        rest_a, rest_b = own.sum() + prior_words - a, other.sum() + prior_words - b
        difference = np.log(a / rest_a) - np.log(b / rest_b)
        scores[k] = difference / np.sqrt(1 / a + 1 / b)
    return scores


def chi2_scores(matrix: Any, labels: IntArray) -> FloatArray:
    """Return the chi2 statistic of each column of a matrix (n, m), not negative, against the classes, shape (m,)."""
    from sklearn.feature_selection import chi2

    scores: FloatArray = np.nan_to_num(chi2(matrix, labels)[0])
    return scores


_SIZES = {1: "words", 2: "bigrams", 3: "trigrams"}


@analysis("ngrams", title="Frequent n-grams")
def ngrams(
    corpus: ExploredCorpus,
    *,
    n_top: Annotated[int, Field(ge=1, le=500)] = 15,
    bigram_documents: Annotated[int, Field(ge=1)] = 10000,
) -> Findings:
    """List the most frequent words, bigrams and trigrams, without stop words."""
    labels, n_classes = corpus.train.labels, corpus.n_classes
    lists: dict[str, list[tuple[str, int]]] = {}
    rows: list[tuple[str, str, str, int]] = []
    for size, kind in _SIZES.items():
        counted = count_ngrams(corpus.train.texts, labels, n_classes, size, min_count=2)
        lists[kind] = counted.top(n_top)
        rows += [("all", kind, ngram, count) for ngram, count in lists[kind]]
        for k, name in enumerate(corpus.names):
            rows += [(name, kind, ngram, count) for ngram, count in counted.top(n_top, of=k)]
    sample = corpus.draw(bigram_documents, "bigrams")
    part = count_ngrams(sample.texts, sample.labels, n_classes, 2)
    title = "Most frequent n-grams without stop words"
    blocks = (
        ranked_bars("ngrams", title, "occurrences in the training texts", lists, columns=3),
        Table("ngrams", f"{title}, by class", ("of", "kind", "n-gram", "count"), tuple(rows), folded=True),
    )
    headline = f"The most frequent pairs of words: {', '.join(ngram for ngram, _ in lists['bigrams'][:4]) or 'none'}."
    details = {"lists": {"top_bigrams": [ngram for ngram, _ in part.top(n_top)]}}
    return Findings(headline, blocks, {"bigram_documents": float(len(sample))}, details)


@analysis("discriminative", title="Words that tell classes apart")
def discriminative(
    corpus: ExploredCorpus,
    *,
    n_top: Annotated[int, Field(ge=1, le=500)] = 12,
    min_count: Annotated[int, Field(ge=1)] = 10,
    prior_words: Annotated[float, Field(gt=0)] = 1000.0,
) -> Findings:
    """Rank words and bigrams that tell a class from the others, by log-odds with a Dirichlet prior and by chi2."""
    labels = corpus.train.labels
    both = [count_ngrams(corpus.train.texts, labels, corpus.n_classes, size, min_count) for size in (1, 2)]
    terms = both[0].terms + both[1].terms
    counts = np.hstack([b.counts for b in both])
    by_class: dict[str, list[tuple[str, float]]] = {}
    rows = []
    if terms:
        scores = weighted_log_odds(counts, prior_words)
        for k, name in enumerate(corpus.names):
            order = np.argsort(-scores[k], kind="stable")[:n_top].tolist()
            by_class[name] = [(terms[i], float(scores[k, i])) for i in order]
            rows += [
                (name, terms[i], float(scores[k, i]), int(counts[k, i]), int(counts[:, i].sum() - counts[k, i]))
                for i in order
            ]
    chi2 = chi2_scores(corpus.tfidf.matrix, labels)
    ranked = [(corpus.tfidf.names[i], float(chi2[i])) for i in np.argsort(-chi2, kind="stable")[:20].tolist()]
    title = "Words that tell a class from the others"
    note = (
        f"Weighted log-odds with an informative Dirichlet prior of {prior_words:g} words (Monroe, Colaresi and Quinn "
        f"2008), strongest first; terms with {min_count} occurrences or more."
    )
    columns = ("class", "term", Column("z", ".2f"), "in class", "elsewhere")
    top_title = "Terms with the highest chi2"
    blocks = (
        replace(ranked_bars("log_odds", title, "log-odds against the other classes [z]", by_class), caption=note),
        Table("log_odds", f"{title}, with their counts", columns, tuple(rows), folded=True),
        ranked_bars("chi2", top_title, "chi2 of TF-IDF", {"all classes": ranked}),
    )
    strongest = ", ".join(f"{name}: {found[0][0]}" for name, found in list(by_class.items())[:6])
    headline = f"The word that most tells a class from the others: {strongest or 'none'}."
    details = {"lists": {"chi2_top20": [term for term, _ in ranked]}}
    return Findings(headline, blocks if rows else blocks[2:], {"terms": float(len(terms))}, details)
