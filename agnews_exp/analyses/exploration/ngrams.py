"""Frequent n-grams, and those that tell classes apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import Findings
from agnews_exp.analyses.errors.tables import markdown_table
from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.corpus import EdaContext, IntArray, WordTable
from agnews_exp.evaluation.inputs import plain

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NgramCounts:
    """How often each class uses the n-grams of one length.

    Attributes:
        keys: Shape (m,), each n-gram's word ids as digits of a number whose base is the size of the vocabulary.
        size: Words of an n-gram.
        vocabulary: The words.
        counts: Shape (K, m).
    """

    keys: IntArray
    size: int
    vocabulary: tuple[str, ...]
    counts: IntArray

    def spell(self, position: int) -> str:
        """Return an n-gram, its words joined by one blank."""
        key, base, parts = int(self.keys[position]), max(1, len(self.vocabulary)), []
        for _ in range(self.size):
            key, last = divmod(key, base)
            parts.append(self.vocabulary[last])
        return " ".join(reversed(parts))

    @cached_property
    def terms(self) -> tuple[str, ...]:
        """The m n-grams."""
        return tuple(map(self.spell, range(len(self.keys))))

    @property
    def totals(self) -> IntArray:
        """Shape (m,), occurrences in all classes."""
        totals: IntArray = self.counts.sum(axis=0)
        return totals

    def top(self, n: int, of: int | None = None) -> list[tuple[str, int]]:
        """Return the n most frequent with their occurrences, of all classes or of one; equals by name."""
        counts = self.totals if of is None else self.counts[of]
        n = min(n, len(counts))
        if n == 0:
            return []
        least = max(1, int(np.partition(counts, -n)[-n]))
        found = [(self.spell(i), int(counts[i])) for i in np.flatnonzero(counts >= least).tolist()]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:n]


def count_ngrams(words: WordTable, labels: IntArray, n_classes: int, size: int, min_count: int = 1) -> NgramCounts:
    """Count n-grams within texts.

    Args:
        words: The words of n texts.
        labels: Shape (n,), each text's class.
        n_classes: K.
        size: Words of an n-gram, 1 to 3.
        min_count: Rarer n-grams are left out.
    """
    ids, documents, base = words.ids, words.documents, max(1, len(words.terms))
    keys, of = ids, documents
    for step in range(1, size):
        keys, of = keys[:-1] * base + ids[step:], of[:-1]
    inside = documents[size - 1 :] == of
    found, where, totals = np.unique(keys[inside], return_inverse=True, return_counts=True)
    frequent = totals >= min_count
    renumbered = np.cumsum(frequent) - 1
    kept = frequent[where]
    m = int(frequent.sum())
    flat = labels[of[inside][kept]] * m + renumbered[where[kept]]
    counts = np.bincount(flat, minlength=n_classes * m).reshape(n_classes, m).astype(np.int64)
    return NgramCounts(found[frequent], size, words.terms, counts)


def weighted_log_odds(counts: IntArray, prior_words: float) -> FloatArray:
    """Return how much more each class uses each term than the other classes do, as z-scores, shape (K, m).

    The log-odds ratio with an informative Dirichlet prior, divided by its standard deviation: equations 15, 16, 20 and
    22 of Monroe, Colaresi and Quinn, "Fightin' Words" (2008). The prior has the shares of the whole corpus, so that
    rare terms are drawn to no difference.

    Args:
        counts: Shape (K, m).
        prior_words: The prior's weight, in words.
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
    """Return the chi2 statistic of each column against the classes, shape (m,).

    Args:
        matrix: Shape (n, m), not negative, sparse or dense.
        labels: Shape (n,).
    """
    from sklearn.feature_selection import chi2

    scores: FloatArray = np.nan_to_num(chi2(matrix, labels)[0])
    return scores


_SIZES = {1: "words", 2: "bigrams", 3: "trigrams"}


def ngrams(
    context: EdaContext,
    *,
    n_top: Annotated[int, Field(ge=1, le=500)] = 15,
    bigram_documents: Annotated[int, Field(ge=1)] = 10000,
) -> Findings:
    """List the most frequent words, bigrams and trigrams, without stop words.

    Args:
        context: The corpus.
        n_top: N-grams of each list.
        bigram_documents: Training texts of the study's list of bigrams, which counted a sample.
    """
    labels = context.train.labels
    lists: dict[str, list[tuple[str, int]]] = {}
    rows = []
    for size, title in _SIZES.items():
        counted = count_ngrams(context.content_words, labels, context.n_classes, size, min_count=2)
        lists[title] = counted.top(n_top)
        rows += [{"of": "all", "kind": title, "ngram": g, "count": c} for g, c in lists[title]]
        for k, name in enumerate(context.names):
            rows += [{"of": name, "kind": title, "ngram": g, "count": c} for g, c in counted.top(n_top, of=k)]
    sample = context.sample(bigram_documents, "bigrams")
    part = count_ngrams(context.content_words.take(sample), labels[sample], context.n_classes, 2)
    figure = drawing.bar_panels({k: v for k, v in lists.items() if v}, "occurrences", columns=3)
    context.draw("ngrams", "Most frequent n-grams without stop words", figure, rows)
    cells = [
        [*(f"{lists[t][i][0]} ({lists[t][i][1]:,})" if i < len(lists[t]) else "" for t in lists)] for i in range(n_top)
    ]
    summary = "## Frequent n-grams\n\nWithout English stop words and single characters, over all training texts.\n\n"
    summary += markdown_table(list(lists), [[c.replace("|", "\\|") for c in row] for row in cells])
    bigrams = [ngram for ngram, _ in part.top(n_top)]
    headline = ", ".join(ngram for ngram, _ in lists["bigrams"][:4])
    details = {"top": lists, "headline": headline, "lists": {"top_bigrams": bigrams}}
    return Findings({"bigram_documents": float(len(sample))}, summary, plain(details))


def discriminative(
    context: EdaContext,
    *,
    n_top: Annotated[int, Field(ge=1, le=500)] = 12,
    min_count: Annotated[int, Field(ge=1)] = 10,
    prior_words: Annotated[float, Field(gt=0)] = 1000.0,
) -> Findings:
    """Rank words and bigrams by how much they tell a class from the others: log-odds with a Dirichlet prior, and chi2.

    Args:
        context: The corpus.
        n_top: Terms of each class.
        min_count: Rarer terms are left out of the log-odds.
        prior_words: Weight of the prior, in words.
    """
    labels = context.train.labels
    both = [count_ngrams(context.content_words, labels, context.n_classes, size, min_count) for size in (1, 2)]
    terms = both[0].terms + both[1].terms
    counts = np.hstack([b.counts for b in both])
    by_class: dict[str, list[tuple[str, float]]] = {}
    rows = []
    if len(terms):
        scores = weighted_log_odds(counts, prior_words)
        for k, name in enumerate(context.names):
            order = np.argsort(-scores[k], kind="stable")[:n_top]
            by_class[name] = [(terms[i], float(scores[k, i])) for i in order]
            rows += [
                {"class": name, "term": terms[i], "z": float(scores[k, i]), "in_class": int(counts[k, i]),
                 "elsewhere": int(counts[:, i].sum() - counts[k, i])}
                for i in order
            ]  # fmt: skip
        figure = drawing.bar_panels(by_class, "log-odds against the other classes [z]")
        context.draw("log_odds", "Words that tell a class from the others", figure, rows)
    chi2 = chi2_scores(context.tfidf.matrix, labels)
    order = np.argsort(-chi2, kind="stable")[:20]
    ranked = [(context.tfidf.names[i], float(chi2[i])) for i in order]
    figure = drawing.bar_panels({"all classes": ranked}, "chi2 of TF-IDF")
    context.draw("chi2", "Terms with the highest chi2", figure, [{"term": t, "chi2": v} for t, v in ranked])
    cells = [[name, ", ".join(t for t, _ in found).replace("|", "\\|")] for name, found in by_class.items()]
    summary = (
        "## Words that tell classes apart\n\nBy weighted log-odds with an informative Dirichlet prior of "
        f"{prior_words:g} words (Monroe, Colaresi and Quinn 2008), strongest first; terms with {min_count} occurrences "
        f"or more.\n\n{markdown_table(['class', 'words and bigrams'], cells)}\n\n"
        f"Highest chi2 (word TF-IDF): {', '.join(f'{t} {v:.0f}' for t, v in ranked)}."
    )
    headline = ", ".join(f"{name}: {found[0][0]}" for name, found in list(by_class.items())[:6])
    lists = {"chi2_top20": [term for term, _ in ranked]}
    return Findings({"terms": float(len(terms))}, summary, {"log_odds": by_class, "headline": headline, "lists": lists})
