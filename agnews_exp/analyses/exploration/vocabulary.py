"""Vocabulary: Zipf's and Heaps' law, richness and entropy, and the words that classes and splits share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import Findings
from agnews_exp.analyses.errors.tables import markdown_table
from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.corpus import EdaContext, IntArray, class_pairs, index_words, pair_name
from agnews_exp.evaluation.inputs import Result, plain
from agnews_exp.evaluation.metrics import metric_class_name

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw(Result):
    """A straight line in doubly logarithmic axes: ``y = constant * x ** exponent``.

    Attributes:
        exponent: Slope, by least squares of logarithms.
        constant: Value at x = 1.
        r_squared: Share of the variance of log y that the line explains.
        low: Smallest x that was fitted.
        high: Largest x that was fitted.
    """

    exponent: float
    constant: float
    r_squared: float
    low: float
    high: float

    def at(self, x: FloatArray | IntArray) -> FloatArray:
        """Return the line's values."""
        values: FloatArray = self.constant * np.asarray(x, dtype=np.float64) ** self.exponent
        return values


def fit_power_law(x: FloatArray | IntArray, y: FloatArray | IntArray) -> PowerLaw | None:
    """Fit a power law by least squares of the logarithms; None for fewer than three points.

    Args:
        x: Shape (n,), positive.
        y: Shape (n,), positive.
    """
    if len(x) < 3:
        return None
    log_x, log_y = np.log(x), np.log(y)
    slope, intercept = np.polyfit(log_x, log_y, 1)
    left = log_y - (slope * log_x + intercept)
    total = float(((log_y - log_y.mean()) ** 2).sum())
    r_squared = 1 - float((left**2).sum()) / total if total else 1.0
    return PowerLaw(float(slope), float(np.exp(intercept)), r_squared, float(np.min(x)), float(np.max(x)))


def log_spaced(low: int, high: int, n: int) -> IntArray:
    """Return at most n different whole numbers from low to high, evenly spaced on a logarithmic axis."""
    return np.unique(np.geomspace(low, max(low, high), n).round().astype(np.int64))


def rank_frequencies(frequencies: IntArray) -> IntArray:
    """Return the positive frequencies, highest first: rank r at position r - 1."""
    return np.sort(frequencies[frequencies > 0])[::-1]


def growth(ids: IntArray) -> IntArray:
    """Return the number of distinct words among the first i + 1 words at position i, shape (total,)."""
    first = np.zeros(len(ids), dtype=np.int64)
    first[np.unique(ids, return_index=True)[1]] = 1
    return np.cumsum(first)


def mattr(ids: IntArray, window: int) -> float:
    """Return the moving-average type-token ratio (Covington and McFall 2010); of a shorter text, its plain ratio.

    Args:
        ids: Shape (total,), words in their order.
        window: Words of a window; all windows of consecutive words count alike.
    """
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
    """Return the Shannon entropy in bits of the words' observed shares: the plug-in estimate, always too low."""
    counts = frequencies[frequencies > 0]
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def corrected_entropy_bits(frequencies: IntArray) -> float:
    """Return the entropy with Miller and Madow's correction (1955): plus (V - 1) / (2 N ln 2) bits."""
    counts = frequencies[frequencies > 0]
    return entropy_bits(counts) + (len(counts) - 1) / (2 * float(counts.sum()) * math.log(2))


def jaccard_matrix(used: NDArray[np.bool_]) -> FloatArray:
    """Return the Jaccard similarity of all pairs of sets, shape (K, K).

    Args:
        used: Shape (K, V), which of V things each of K sets holds.
    """
    members = used.astype(np.int64)
    common = members @ members.T
    sizes = members.sum(axis=1)
    either = sizes[:, None] + sizes[None, :] - common
    shares: FloatArray = np.divide(common, either, out=np.zeros(common.shape), where=either > 0)
    return shares


@dataclass(frozen=True)
class OutOfVocabulary(Result):
    """Words of one split that another does not have.

    Attributes:
        split: The split.
        types: Its distinct words.
        tokens: Its words.
        unknown_types: Share of distinct words that training texts lack.
        unknown_tokens: Share of words that training texts lack.
        rows: Share of texts with at least one such word.
    """

    split: str
    types: int
    tokens: int
    unknown_types: float
    unknown_tokens: float
    rows: float


def vocabulary(
    context: EdaContext,
    *,
    mattr_window: Annotated[int, Field(ge=10)] = 500,
    zipf_ranks: tuple[int, int] = (10, 5000),
    points: Annotated[int, Field(ge=10, le=2000)] = 200,
) -> Findings:
    """Fit Zipf's and Heaps' law, and measure how rich each class's language is.

    Args:
        context: The corpus.
        mattr_window: Words of the moving window of the type-token ratio.
        zipf_ranks: First and last rank that Zipf's law is fitted to: the first words and the rarest ones bend away.
        points: Points of each curve.

    Returns:
        ``vocabulary/size``, ``vocabulary/hapax_share``, ``zipf/exponent``, ``heaps/exponent``, ``entropy/<class>``,
        ``mattr/<class>`` and their like.
    """
    words = context.words
    ranked = rank_frequencies(words.frequencies)
    hapax = float((ranked == 1).mean()) if len(ranked) else 0.0
    metrics = {"vocabulary/size": float(len(ranked)), "vocabulary/tokens": float(ranked.sum())}
    metrics["vocabulary/hapax_share"] = hapax
    zipf = _zipf(context, ranked, zipf_ranks, points)
    heaps = _heaps(context, points)
    for name, law in (("zipf", zipf), ("heaps", heaps)):
        if law is not None:
            metrics |= {f"{name}/exponent": law.exponent, f"{name}/r_squared": law.r_squared}
    rows = _richness(context, mattr_window)
    for row in rows:
        name = metric_class_name(str(row["class"]))
        metrics |= {f"entropy/{name}": row["entropy_bits"], f"mattr/{name}": row["mattr"]}
    _draw_richness(context, rows, mattr_window)
    cells = [
        [str(r["class"]), f"{r['tokens']:,}", f"{r['types']:,}", f"{r['type_token_ratio']:.4f}", f"{r['mattr']:.4f}",
         f"{r['hapax_share']:.1%}", f"{r['entropy_bits']:.3f}", f"{r['entropy_corrected_bits']:.3f}"]
        for r in rows
    ]  # fmt: skip
    head = ["class", "words", "distinct", "types / tokens, equal samples", f"MATTR ({mattr_window})", "hapax legomena",
            "entropy, bits", "corrected"]  # fmt: skip
    laws_text = [f"{len(ranked):,} distinct words in {int(ranked.sum()):,}; {hapax:.1%} of them occur once."]
    if zipf is not None:
        laws_text.append(
            f"Zipf: frequency ~ rank^{zipf.exponent:.3f} over ranks {zipf.low:g} to {zipf.high:g} "
            f"(R2 {zipf.r_squared:.4f})."
        )
    if heaps is not None:
        laws_text.append(f"Heaps: distinct words ~ words^{heaps.exponent:.3f} (R2 {heaps.r_squared:.4f}).")
    summary = (
        f"## Vocabulary\n\n{' '.join(laws_text)} Words: runs of letters and digits in lower case; entropy: of "
        f"what stands between blanks, letter case kept, with Miller and Madow's correction beside it.\n\n"
        f"{markdown_table(head, cells, 7)}"
    )
    return Findings(metrics, summary, plain({"zipf": zipf, "heaps": heaps, "classes": rows}))


def _zipf(context: EdaContext, ranked: IntArray, ranks: tuple[int, int], points: int) -> PowerLaw | None:
    low, high = ranks[0], min(ranks[1], len(ranked))
    fitted = log_spaced(low, high, points) if high >= 4 * low else np.zeros(0, dtype=np.int64)
    law = fit_power_law(fitted, ranked[fitted - 1]) if len(fitted) else None
    if not len(ranked):
        return law
    at = log_spaced(1, len(ranked), points)
    figure, axes = drawing.new_axes()
    axes.loglog(at, ranked[at - 1], "o", color=drawing.COLOURS[0], markersize=3, label="words")
    if law is not None:
        label = f"slope {law.exponent:.2f}, ranks {law.low:,.0f} to {law.high:,.0f}"
        axes.loglog(fitted, law.at(fitted), "-", color=drawing.COLOURS[1], linewidth=1.8, label=label)
    axes.set(xlabel="rank of the word", ylabel="occurrences")
    axes.legend(frameon=False, fontsize=8)
    rows = [{"rank": int(r), "frequency": int(ranked[r - 1])} for r in at]
    context.draw("zipf", "Zipf's law", figure, rows)
    return law


def _heaps(context: EdaContext, points: int) -> PowerLaw | None:
    """Follow the vocabulary as texts are read in a random order: one sorted by class or date grows in jumps."""
    order = context.rng("heaps").permutation(len(context.train))
    grown = growth(context.words.take(order).ids)
    if not len(grown):
        return None
    at = log_spaced(1, len(grown), points)
    fitted = at[at >= min(1000, len(grown) // 10)]
    law = fit_power_law(fitted, grown[fitted - 1])
    figure, axes = drawing.new_axes()
    axes.loglog(at, grown[at - 1], "o", color=drawing.COLOURS[0], markersize=3, label="training texts, random order")
    if law is not None:
        label = f"exponent {law.exponent:.3f}"
        axes.loglog(fitted, law.at(fitted), "-", color=drawing.COLOURS[1], linewidth=1.8, label=label)
    axes.set(xlabel="words read", ylabel="distinct words so far")
    axes.legend(frameon=False, fontsize=8)
    context.draw("heaps", "Heaps' law", figure, [{"words": int(n), "distinct": int(grown[n - 1])} for n in at])
    return law


def _richness(context: EdaContext, window: int) -> list[dict[str, Any]]:
    labels, words = context.train.labels, context.words
    cased = index_words(context.train.texts, str.split)
    counts = words.class_counts(labels, context.n_classes)
    cased_counts = cased.class_counts(labels, context.n_classes)
    smallest = int(counts.sum(axis=1).min())
    rows: list[dict[str, Any]] = []
    for k, name in enumerate(context.names):
        own = context.rng(f"richness {k}").permutation(np.flatnonzero(labels == k))
        ids = words.take(own).ids
        used = counts[k][counts[k] > 0]
        if not len(ids):
            continue
        rows.append(
            {
                "class": name,
                "tokens": len(ids),
                "types": len(used),
                "type_token_ratio": len(np.unique(ids[:smallest])) / max(1, smallest),
                "mattr": mattr(ids, window),
                "hapax_share": float((used == 1).mean()),
                "entropy_bits": entropy_bits(cased_counts[k]),
                "entropy_corrected_bits": corrected_entropy_bits(cased_counts[k]),
            }
        )
    return rows


def _draw_richness(context: EdaContext, rows: list[dict[str, Any]], window: int) -> None:
    figure, grid = drawing.panels(2, columns=2, height=0.26 * len(rows) + 0.9, sharey=True)
    titles = (("entropy_bits", "entropy of words [bits]"), ("mattr", f"type-token ratio, windows of {window} words"))
    y = np.arange(len(rows))
    for axes, (key, title), colour in zip(grid, titles, drawing.COLOURS, strict=False):
        axes.plot([row[key] for row in rows], y, "o", color=colour, label="observed")
        if key == "entropy_bits":
            corrected = [row["entropy_corrected_bits"] for row in rows]
            axes.plot(corrected, y, "D", color=drawing.COLOURS[2], markerfacecolor="none", label="corrected")
            axes.legend(frameon=False, fontsize=7.5)
        axes.set_yticks(y, [drawing.shown(str(row["class"])) for row in rows], fontsize=8)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(title, fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.locator_params(axis="x", nbins=4)
        axes.grid(axis="both", color="#dddddd", linewidth=0.6)
    context.draw("richness", "Entropy and richness of each class's language", figure, rows)


def overlap(context: EdaContext, *, min_count: Annotated[int, Field(ge=1)] = 5) -> Findings:
    """Measure which words classes share, and which words of validation and test rows the training rows lack.

    Args:
        context: The corpus.
        min_count: A class has a word when it uses it this often: single occurrences are mostly chance.

    Returns:
        ``jaccard/<class>|<class>``, ``oov_tokens/<split>``, ``oov_types/<split>``.
    """
    counts = context.words.class_counts(context.train.labels, context.n_classes)
    similarity = jaccard_matrix(counts >= min_count)
    figure = drawing.heat_map(
        similarity, context.names, context.names, f"Jaccard of words used {min_count}+ times", hide_diagonal=True
    )
    rows = class_pairs(context.names, similarity, "jaccard")
    context.draw("vocabulary_overlap", "Words that classes share", figure, rows)
    unknown = [_out_of_vocabulary(context, split) for split in ("val", "test")]
    context.table("out_of_vocabulary", [u.to_dict() for u in unknown])
    metrics = {f"oov_tokens/{u.split}": u.unknown_tokens for u in unknown}
    metrics |= {f"oov_types/{u.split}": u.unknown_types for u in unknown}
    metrics |= {f"oov_rows/{u.split}": u.rows for u in unknown}
    metrics |= {f"jaccard/{pair_name(row)}": float(row["jaccard"]) for row in rows[:200]}
    cells = [
        [u.split, f"{u.tokens:,}", f"{u.unknown_tokens:.2%}", f"{u.types:,}", f"{u.unknown_types:.1%}", f"{u.rows:.1%}"]
        for u in unknown
    ]
    head = ["split", "words", "not in train", "distinct words", "not in train", "texts with such a word"]
    closest = sorted(rows, key=lambda row: -float(row["jaccard"]))[:3]
    listed = ", ".join(f"{r['class']} and {r['other']} {float(r['jaccard']):.2f}" for r in closest)
    summary = f"## Shared vocabulary\n\nMost shared words (Jaccard): {listed}.\n\n{markdown_table(head, cells, 5)}"
    return Findings(metrics, summary, {"jaccard": similarity.tolist(), "oov": [u.to_dict() for u in unknown]})


def _out_of_vocabulary(context: EdaContext, split: str) -> OutOfVocabulary:
    known = frozenset(context.words.terms)
    words = index_words(context.parts[split].texts)
    strange = np.array([term not in known for term in words.terms], dtype=bool)
    hits = strange[words.ids] if len(words.ids) else np.zeros(0, dtype=bool)
    rows = len(np.unique(words.documents[hits])) / max(1, len(words.table))
    return OutOfVocabulary(
        split, len(words.terms), len(words.ids), float(strange.mean()) if len(strange) else 0.0,
        float(hits.mean()) if len(hits) else 0.0, rows,
    )  # fmt: skip
