"""Vocabulary: Zipf's and Heaps' law, richness and entropy, and the words that classes and splits share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from agnews_exp.analyses.exploration.corpus import ExploredCorpus, class_pairs, index_words
from agnews_exp.analyses.findings import Column, Findings, Table
from agnews_exp.analyses.performing import analysis
from agnews_exp.drawing import Chart, Series, heat_map
from agnews_exp.evaluation.inputs import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class PowerLaw:
    """A straight line in doubly logarithmic axes: ``y = constant * x ** exponent``."""

    exponent: float  # slope, by least squares of logarithms
    constant: float  # value at x = 1
    r_squared: float  # share of the variance of log y that the line explains
    low: float  # smallest x that was fitted
    high: float  # largest x that was fitted

    def at(self, x: FloatArray | IntArray) -> FloatArray:
        """Return the line's values at x, both of one shape."""
        values: FloatArray = self.constant * np.asarray(x, dtype=np.float64) ** self.exponent
        return values


def fit_power_law(x: FloatArray | IntArray, y: FloatArray | IntArray) -> PowerLaw | None:
    """Fit a power law to positive x and y, shape (n,), by least squares of the logarithms; None below three points."""
    if len(x) < 3:
        return None
    from scipy.stats import linregress

    line = linregress(np.log(x), np.log(y))
    r_squared = float(line.rvalue) ** 2 if np.ptp(y) else 1.0
    return PowerLaw(float(line.slope), float(np.exp(line.intercept)), r_squared, float(np.min(x)), float(np.max(x)))


def log_spaced(low: int, high: int, n: int) -> IntArray:
    """Return at most n different whole numbers from low to high, shape (m,), evenly spaced on a logarithmic axis."""
    return np.unique(np.geomspace(low, max(low, high), n).round().astype(np.int64))


def growth(ids: IntArray) -> IntArray:
    """Return the number of distinct words among the first i + 1 words at position i, shape (total,)."""
    first = np.zeros(len(ids), dtype=np.int64)
    first[np.unique(ids, return_index=True)[1]] = 1
    return np.cumsum(first)


def mattr(ids: IntArray, window: int) -> float:
    """Return the moving-average type-token ratio (Covington and McFall 2010); of shorter texts the plain one."""
    n = len(ids)
    if n == 0:
        return 0.0
    window = min(window, n)
    order = np.argsort(ids, kind="stable")
    previous = np.full(n, -1, dtype=np.int64)
    same = ids[order[1:]] == ids[order[:-1]]
    previous[order[1:][same]] = order[:-1][same]
    # Word i is the first of its kind in the windows that start behind its previous occurrence.
    position = np.arange(n)
    start = np.maximum(np.maximum(previous + 1, position - window + 1), 0)
    end = np.minimum(position, n - window)
    windows = np.maximum(end - start + 1, 0)
    return float(windows.sum() / ((n - window + 1) * window))


def entropy_bits(frequencies: IntArray) -> float:
    """Return the Shannon entropy in bits of V words with these frequencies, shape (V,).

    It is the plug-in estimate, which is too low on average.
    """
    from scipy.stats import entropy

    return float(entropy(frequencies[frequencies > 0], base=2))


def corrected_entropy_bits(frequencies: IntArray) -> float:
    """Return the entropy of V words with these frequencies, shape (V,), by Miller and Madow (1955).

    They add (V - 1) / (2 N ln 2) bits, with V the words that occur and N their occurrences.
    """
    counts = frequencies[frequencies > 0]
    return entropy_bits(counts) + (len(counts) - 1) / (2 * float(counts.sum()) * math.log(2))


def jaccard_matrix(used: BoolArray) -> FloatArray:
    """Return the Jaccard similarity of all pairs of K sets, shape (K, K), from which of V things each holds, (K, V)."""
    members = used.astype(np.int64)
    common = members @ members.T
    sizes = members.sum(axis=1)
    either = sizes[:, None] + sizes[None, :] - common
    shares: FloatArray = np.divide(common, either, out=np.zeros(common.shape), where=either > 0)
    return shares


@analysis("vocabulary", title="Vocabulary")
def vocabulary(
    corpus: ExploredCorpus,
    *,
    mattr_window: Annotated[int, Field(ge=10)] = 500,
    zipf_ranks: tuple[int, int] = (10, 5000),
    points: Annotated[int, Field(ge=10, le=2000)] = 200,
) -> Findings:
    """Fit Zipf's and Heaps' law, and measure how rich each class's language is.

    Returns:
        ``vocabulary/size``, ``vocabulary/hapax_share``, ``zipf/exponent``, ``heaps/exponent``, ``entropy/<class>``,
        ``mattr/<class>`` and their like.
    """
    ranked = np.sort(corpus.words.frequencies[corpus.words.frequencies > 0])[::-1]
    hapax = float((ranked == 1).mean()) if len(ranked) else 0.0
    metrics = {"vocabulary/size": float(len(ranked)), "vocabulary/tokens": float(ranked.sum())}
    metrics["vocabulary/hapax_share"] = hapax
    said = [f"{len(ranked):,} different words", f"{hapax:.0%} of them used once"]
    blocks: list[Table | Chart] = []
    low, high = zipf_ranks[0], min(zipf_ranks[1], len(ranked))
    # Texts in a random order: a vocabulary that is read sorted by class or date grows in jumps.
    grown = growth(corpus.words.take(corpus.rng("heaps").permutation(len(corpus.train))).ids)
    read = log_spaced(1, len(grown), points) if len(grown) else np.zeros(0, dtype=np.int64)
    ranks = log_spaced(low, high, points) if high >= 4 * low else read[:0]
    zipf = ("zipf", "Zipf's law", "rank of the word", "occurrences", "words"), ranked, ranks
    heaps_titles = ("heaps", "Heaps' law", "words read", "distinct words so far", "training texts, random order")
    for titles, values, fitted in (zipf, (heaps_titles, grown, read[read >= min(1000, len(grown) // 10)])):
        if not len(values):
            continue
        law = fit_power_law(fitted, values[fitted - 1])
        blocks.append(_law_chart(titles, log_spaced(1, len(values), points), values, law, fitted))
        if law is not None:
            metrics |= {f"{titles[0]}/exponent": law.exponent, f"{titles[0]}/r_squared": law.r_squared}
            said.append(f"exponent of {titles[1]} {law.exponent:.2f}")
    rows = _richness(corpus, mattr_window)
    metrics |= corpus.class_metrics("entropy", {row[0]: row[6] for row in rows})
    metrics |= corpus.class_metrics("mattr", {row[0]: row[4] for row in rows})
    columns = (
        "class", "words", "distinct", Column("types / tokens, equal samples", "metric"),
        Column(f"MATTR, windows of {mattr_window}", "metric"), Column("hapax legomena", "share"),
        Column("entropy", ".3f", "bits"), Column("corrected", ".3f", "bits"),
    )  # fmt: skip
    title = "Entropy and richness of each class's language"
    note = (
        "Words: runs of letters and digits in lower case; entropy: of what stands between blanks, letter case kept, "
        "with Miller and Madow's correction beside it."
    )
    names = tuple(row[0] for row in rows)
    measures = ((6, "observed", "entropy of words [bits]"), (7, "corrected", "entropy of words [bits]"),
                (4, "observed", f"type-token ratio, windows of {mattr_window} words"))  # fmt: skip
    series = tuple(Series(name, tuple(row[i] for row in rows), names, panel=panel) for i, name, panel in measures)
    chart = Chart("richness", title, "dots", "", "", series)
    return Findings(
        f"{', '.join(said)}.", (*blocks, Table("richness", title, columns, tuple(rows), note=note), chart), metrics
    )


def _law_chart(
    titles: tuple[str, str, str, str, str], x: IntArray, values: IntArray, law: PowerLaw | None, fitted: IntArray
) -> Chart:
    name, title, x_title, y_title, observed = titles
    series = [Series(observed, tuple(x.tolist()), tuple(values[x - 1].tolist()))]
    if law is not None:
        said = f"exponent {law.exponent:.3f} from {law.low:,.0f} to {law.high:,.0f}, R2 {law.r_squared:.4f}"
        series.append(Series(said, tuple(fitted.tolist()), tuple(law.at(fitted).tolist()), dashed=True))
    return Chart(name, title, "lines", x_title, y_title, tuple(series), log_x=True, log_y=True)


def _richness(corpus: ExploredCorpus, window: int) -> list[tuple[str, int, int, float, float, float, float, float]]:
    labels, words = corpus.train.labels, corpus.words
    counts = words.class_counts(labels, corpus.n_classes)
    cased_counts = index_words(corpus.train.texts, str.split).class_counts(labels, corpus.n_classes)
    smallest = int(counts.sum(axis=1).min())
    rows = []
    for k, name in enumerate(corpus.names):
        own = corpus.rng(f"richness {k}").permutation(np.flatnonzero(labels == k))
        ids = words.take(own).ids
        used = counts[k][counts[k] > 0]
        if len(ids):
            ratio = len(np.unique(ids[:smallest])) / max(1, smallest)
            entropies = entropy_bits(cased_counts[k]), corrected_entropy_bits(cased_counts[k])
            once = float((used == 1).mean())
            rows.append((name, len(ids), len(used), ratio, mattr(ids, window), once, *entropies))
    return rows


@analysis("overlap", title="Words that classes and splits share")
def overlap(corpus: ExploredCorpus, *, min_count: Annotated[int, Field(ge=1)] = 5) -> Findings:
    """Measure which words classes share, and which words of validation and test rows the training rows lack.

    Returns:
        ``jaccard/<class>-<class>``, ``oov_tokens/<split>``, ``oov_types/<split>``, ``oov_rows/<split>``.
    """
    counts = corpus.words.class_counts(corpus.train.labels, corpus.n_classes)
    similarity = jaccard_matrix(counts >= min_count)
    pairs = class_pairs(corpus.names, similarity)
    unknown = {split: _out_of_vocabulary(corpus, split) for split in ("val", "test")}
    metrics = {f"oov_tokens/{split}": row[1] for split, row in unknown.items()}
    metrics |= {f"oov_types/{split}": row[3] for split, row in unknown.items()}
    metrics |= {f"oov_rows/{split}": row[4] for split, row in unknown.items()} | corpus.pair_metrics("jaccard", pairs)
    columns = (
        "split", "words", Column("not in train", ".2%"), "distinct words", Column("distinct, not in train", "share"),
        Column("texts with such a word", "share"),
    )  # fmt: skip
    closest = sorted(pairs.items(), key=lambda pair: -pair[1])
    blocks = (
        Table("out_of_vocabulary", "Words that the training texts lack", columns,
              tuple((split, *row) for split, row in unknown.items())),
        Table("vocabulary_overlap", "Words that classes share", ("class", "other", Column("Jaccard", ".3f")),
              tuple((*pair, value) for pair, value in closest), shown=10),
        heat_map("vocabulary_overlap", "Words that classes share", similarity, corpus.names, corpus.names,
                 blank_diagonal=True, caption=f"Jaccard similarity of words used {min_count} times or more."),
    )  # fmt: skip
    return Findings(
        f"{metrics['oov_tokens/test']:.2%} of the words in test texts are in no training text.", blocks, metrics
    )


def _out_of_vocabulary(corpus: ExploredCorpus, split: str) -> tuple[int, float, int, float, float]:
    """Return words, the share of them unknown, distinct words, their share, and the share of texts with one."""
    known = frozenset(corpus.words.terms)
    words = index_words(corpus.parts[split].texts)
    strange = np.array([term not in known for term in words.terms], dtype=bool)
    hits = strange[words.ids] if len(words.ids) else np.zeros(0, dtype=bool)
    rows = len(np.unique(words.documents[hits])) / max(1, len(words.table))
    unknown_words, unknown_types = (float(found.mean()) if len(found) else 0.0 for found in (hits, strange))
    return len(words.ids), unknown_words, len(words.terms), unknown_types, rows
