"""Classes and lengths."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agnews_exp.analyses.context import Findings
from agnews_exp.analyses.errors.tables import markdown_table
from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.context import EdaContext
from agnews_exp.analyses.exploration.measures.lengths import describe_lengths, measure_lengths
from agnews_exp.evaluation.inputs import plain
from agnews_exp.evaluation.metrics import column_key
from agnews_exp.features.documents import DOCUMENT_FEATURES, document_features


def classes(context: EdaContext) -> Findings:
    """Count the rows of each class in each split.

    Args:
        context: The corpus.

    Returns:
        ``rows/<split>``, ``empty/<split>``, ``imbalance/train``: rows of the largest class over those of the smallest.
    """
    metrics: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    cells = []
    for split, part in context.parts.items():
        counts = np.bincount(part.labels, minlength=context.n_classes)
        metrics[f"rows/{split}"] = float(len(part))
        metrics[f"empty/{split}"] = float(sum(not text.strip() for text in part.texts))
        for name, count in zip(context.names, counts.tolist(), strict=True):
            rows.append({"split": split, "class": name, "rows": count, "share": count / len(part)})
        cells.append([split, f"{len(part):,}", *(f"{c:,} ({c / len(part):.1%})" for c in counts)])
    train = np.bincount(context.train.labels, minlength=context.n_classes)
    metrics["imbalance/train"] = float(train.max() / max(1, train.min()))
    series = {split: [100 * r["share"] for r in rows if r["split"] == split] for split in context.parts}
    figure = drawing.grouped_bars(context.names, series, "share of the split's rows [%]")
    context.draw("class_shares", "Classes of each split", figure, rows)
    table = markdown_table(["split", "rows", *context.names], cells, 1 + context.n_classes)
    return Findings(metrics, f"## Classes\n\n{table}", {"counts": rows})


def lengths(
    context: EdaContext,
    *,
    outlier_percentile: Annotated[float, Field(gt=50, lt=100)] = 99.0,
    document_sample: Annotated[int, Field(ge=0)] = 20000,
) -> Findings:
    """Describe how long texts are.

    Args:
        context: The corpus.
        outlier_percentile: Texts with more words than this percentile are counted as outliers.
        document_sample: Training texts whose sentences and kinds of characters are measured; 0 leaves that out.

    Returns:
        ``words/mean``, ``characters/p99``, ``words_mean/<class>``, ``outliers``, ``document/<feature>`` and their like.
    """
    measured, labels = measure_lengths(context.train.texts), context.train.labels
    kinds = {
        "words": measured.words, "characters": measured.characters, "characters per word": measured.word_length,
    }  # fmt: skip
    groups = {"all": np.ones(len(labels), dtype=bool)}
    groups |= {name: labels == k for k, name in enumerate(context.names) if (labels == k).any()}
    described = [
        describe_lengths(group, unit, values[mask]) for unit, values in kinds.items() for group, mask in groups.items()
    ]
    metrics: dict[str, float] = {}
    for d in described:
        unit = {"characters per word": "word_length"}.get(d.unit, d.unit)
        if d.group == "all":
            metrics |= {f"{unit}/{k}": v for k, v in d.to_dict().items() if isinstance(v, float)}
        elif unit == "words":
            metrics[f"words_mean/{column_key(d.group, context.names)}"] = d.mean
            metrics[f"words_median/{column_key(d.group, context.names)}"] = d.median
    limit = float(np.percentile(measured.words, outlier_percentile))
    outliers = measured.words > limit
    metrics |= {"outliers": float(outliers.sum()), "outlier_words": limit}
    metrics["outlier_share_70"] = float((measured.words > 70).mean())  # the limit that the study printed
    longest = np.argsort(-measured.words, kind="stable")[:50]
    context.table(
        "longest_texts",
        [
            {
                "row_id": int(context.train.row_ids[i]),
                "class": context.names[labels[i]],
                "words": int(measured.words[i]),
            }
            | ({"text": context.train.texts[i]} if context.show_texts else {})
            for i in longest.tolist()
        ],
    )
    context.table("length_statistics", [d.to_dict() for d in described])
    _draw_lengths(context, measured.words, limit, outlier_percentile)
    document = _document_features(context, document_sample)
    metrics |= {f"document/{k}": v for k, v in document.items()}
    cells = [
        [d.unit, d.group, f"{d.mean:.2f}", f"{d.std:.2f}", *(f"{v:.4g}" for v in
         (d.minimum, d.q25, d.median, d.q75, d.p95, d.p99, d.maximum))]
        for d in described
    ]  # fmt: skip
    head = ["unit", "class", "mean", "sd", "min", "25 %", "median", "75 %", "95 %", "99 %", "max"]
    share = [f"{context.names[k]} {(outliers & (labels == k)).sum():,}" for k in range(context.n_classes)]
    summary = (
        f"## Lengths\n\nWords are what stands between blanks. {outliers.sum():,} texts have more than "
        f"{limit:g} words (percentile {outlier_percentile:g}): {', '.join(share)}.\n\n{markdown_table(head, cells, 9)}"
    )
    return Findings(metrics, summary, plain({"statistics": described, "document_features": document}))


def _draw_lengths(context: EdaContext, words: np.ndarray, limit: float, percentile: float) -> None:
    labels = context.train.labels
    top = int(np.ceil(np.percentile(words, 99.7)))
    edges = np.arange(int(words.min()), max(top, int(words.min()) + 2) + 1)
    figure, axes = drawing.new_axes()
    rows = []
    for k, name in enumerate(context.names):
        own = words[labels == k]
        if not len(own):
            continue
        shares = np.histogram(own, edges)[0] / len(own)
        rows += [{"class": name, "words": int(w), "share": float(s)} for w, s in zip(edges, shares, strict=False)]
        colour, _, dash = drawing.style(k)
        axes.plot(edges[:-1], 100 * shares, dash, color=colour, label=drawing.shown(name), linewidth=1.4)
        axes.plot(np.median(own), 0, marker=drawing.style(k)[1], color=colour, markersize=6, clip_on=False, zorder=3)
    axes.axvline(limit, color=drawing.GREY, linewidth=1, linestyle="--")
    axes.text(limit, axes.get_ylim()[1], f" {percentile:g} % of texts\n are shorter", fontsize=7.5, va="top")
    axes.set(xlabel="words; marks on the axis: medians", ylabel="share of the class's texts [%]", xlim=(0, top))
    axes.set_ylim(bottom=0)
    if context.n_classes <= 20:
        axes.legend(frameon=False, fontsize=8)
    context.draw("lengths", "Words of a text, by class", figure, rows)


def _document_features(context: EdaContext, n: int) -> dict[str, float]:
    if n == 0:
        return {}
    rows = [document_features(context.train.texts[i]) for i in context.sample(n, "documents").tolist()]
    return dict(zip(DOCUMENT_FEATURES, np.mean(rows, axis=0).tolist(), strict=True))
