"""Vocabulary, frequent n-grams, and n-grams that tell classes apart."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agnews_exp.analyses.context import Findings
from agnews_exp.analyses.errors.tables import markdown_table
from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.context import EdaContext
from agnews_exp.analyses.exploration.measures import vocabulary as laws
from agnews_exp.analyses.exploration.measures.ngrams import chi2_scores, count_ngrams, weighted_log_odds
from agnews_exp.analyses.exploration.measures.words import IntArray, index_words
from agnews_exp.evaluation.inputs import plain
from agnews_exp.evaluation.metrics import column_key

_SIZES = {1: "words", 2: "bigrams", 3: "trigrams"}


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
    ranked = laws.rank_frequencies(words.frequencies)
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
        name = column_key(str(row["class"]), context.names)
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


def _zipf(context: EdaContext, ranked: IntArray, ranks: tuple[int, int], points: int) -> laws.PowerLaw | None:
    low, high = ranks[0], min(ranks[1], len(ranked))
    fitted = laws.log_spaced(low, high, points) if high >= 4 * low else np.zeros(0, dtype=np.int64)
    law = laws.fit_power_law(fitted, ranked[fitted - 1]) if len(fitted) else None
    if not len(ranked):
        return law
    at = laws.log_spaced(1, len(ranked), points)
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


def _heaps(context: EdaContext, points: int) -> laws.PowerLaw | None:
    """Follow the vocabulary as texts are read in a random order: one sorted by class or date grows in jumps."""
    order = context.rng("heaps").permutation(len(context.train))
    grown = laws.growth(context.words.take(order).ids)
    if not len(grown):
        return None
    at = laws.log_spaced(1, len(grown), points)
    fitted = at[at >= min(1000, len(grown) // 10)]
    law = laws.fit_power_law(fitted, grown[fitted - 1])
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
                "mattr": laws.mattr(ids, window),
                "hapax_share": float((used == 1).mean()),
                "entropy_bits": laws.entropy_bits(cased_counts[k]),
                "entropy_corrected_bits": laws.corrected_entropy_bits(cased_counts[k]),
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
