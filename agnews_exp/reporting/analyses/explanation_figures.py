"""Figures of explanations: named weights, worth of feature families, faithfulness, and words by method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agnews_exp.evaluation.explanation.faithfulness import Faithfulness, Interval
from agnews_exp.evaluation.explanation.importance import FamilyImportance
from agnews_exp.reporting.analyses.explanation_global import WeightedTerm, visible
from agnews_exp.reporting.analyses.explanation_page import Article
from agnews_exp.reporting.figures import new_figure, open_frame, save_png

BLUE, ORANGE, GREEN, GREY, PALE = "#0072B2", "#D55E00", "#009E73", "#767676", "#F7F7F7"
_MAX_CLASSES = 8
_MAX_WORDS = 60


def draw_weights(path: Path, terms: Sequence[WeightedTerm], class_names: Sequence[str], n: int = 10) -> None:
    """Draw the features with the highest weights: a row a block, a column a class (the first eight)."""
    blocks = list(dict.fromkeys(term.block for term in terms))
    shown = list(class_names)[:_MAX_CLASSES]
    figure = new_figure(2.9 * len(shown) + 0.4, 0.27 * n * len(blocks) + 0.9 * len(blocks) + 0.3)
    grid = figure.subplots(len(blocks), len(shown), squeeze=False, sharex="row")
    for i, block in enumerate(blocks):
        for j, name in enumerate(shown):
            axes = grid[i][j]
            own = [t for t in terms if t.block == block and t.class_name == name and t.weight > 0][:n][::-1]
            axes.barh(range(len(own)), [t.weight for t in own], color=BLUE, height=0.7)
            axes.set_yticks(range(len(own)), [visible(t.term) for t in own], fontsize=9)
            axes.set_title(f"{name}: {block}", fontsize=10)
            if i == len(blocks) - 1:
                axes.set_xlabel("weight in the class's score")
            open_frame(axes)
    save_png(figure, path)


def draw_families(path: Path, untouched: float, families: Sequence[FamilyImportance]) -> None:
    """Draw what permuting and blanking each family takes from the score."""
    figure = new_figure(6.4, 0.5 * len(families) + 1.3)
    axes = figure.add_subplot()
    places = np.arange(len(families))[::-1]
    permuted = [100 * f.permuted for f in families]
    spread = [100 * f.permuted_sd for f in families]
    dropped = [100 * f.dropped for f in families]
    axes.barh(places + 0.2, permuted, 0.38, xerr=spread, color=BLUE, label="permuted (± sd)", capsize=2)
    axes.barh(places - 0.2, dropped, 0.38, color=ORANGE, hatch="//", edgecolor="white", label="blanked")
    axes.set_yticks(places, [f"{f.family} ({f.n_columns:,})" for f in families])
    axes.set_xlabel(f"loss of validation macro-F1 from {100 * untouched:.1f} (points)")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_ylim(-0.6, len(families) - 0.4)
    axes.legend(frameon=False, fontsize=9)
    open_frame(axes)
    save_png(figure, path)


def draw_faithfulness(path: Path, scores: Sequence[Faithfulness]) -> None:
    """Draw comprehensiveness and sufficiency of each method with intervals; the random order in grey."""
    figure = new_figure(8.6, 0.38 * len(scores) + 1.5)
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(scores))[::-1]
    for axes, name, better in ((left, "comprehensiveness", "higher"), (right, "sufficiency", "lower")):
        for place, one in zip(places, scores, strict=True):
            interval: Interval = getattr(one, name)
            colour = GREY if one.method == "random" else BLUE
            axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2)
            axes.plot([interval.estimate], [place], "s" if one.method == "random" else "o", color=colour)
            if one.method == "random":
                axes.axvline(interval.estimate, color=GREY, linestyle=":", linewidth=1)
        axes.set_xlabel(f"{name} ({better} is more faithful)")
        open_frame(axes)
    left.set_yticks(places, [one.method.replace("_", " ") for one in scores])
    left.set_ylim(-0.6, len(scores) - 0.4)
    count = scores[0].n_articles
    figure.suptitle(f"Change of the class's probability, {count} test articles, 95 % intervals", fontsize=10)
    save_png(figure, path)


def draw_article(path: Path, article: Article) -> None:
    """Draw one article's words (the first sixty) against the methods; each line is relative to its largest weight."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    words = list(article.explanations[0].words[:_MAX_WORDS])
    signed, unsigned = _shades(ORANGE, PALE, BLUE), _shades(PALE, GREEN)
    rows = np.zeros((len(article.explanations), len(words), 4))
    for i, explanation in enumerate(article.explanations):
        weights = explanation.weights[: len(words)] / (np.abs(explanation.weights).max(initial=0.0) or 1.0)
        rows[i] = signed((weights + 1) / 2) if explanation.signed else unsigned(weights)
    figure = new_figure(max(6.5, 0.235 * len(words) + 2.6), 0.33 * len(rows) + 2.1)
    axes = figure.add_subplot()
    axes.imshow(rows, aspect="auto")
    axes.set_xticks(range(len(words)), words, rotation=90, fontsize=9)
    axes.set_yticks(range(len(rows)), [e.method.replace("_", " ") for e in article.explanations], fontsize=9)
    axes.set_xticks(np.arange(-0.5, len(words)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(rows)), minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    verdict = "right" if article.label == article.predicted else f"wrong, label {article.label}"
    axes.set_title(f"row {article.row_id}: {article.predicted} {article.probability:.2f} ({verdict})", fontsize=10)
    bar = figure.colorbar(ScalarMappable(Normalize(-1, 1), signed), ax=axes, pad=0.01, fraction=0.03)
    bar.set_ticks([-1, 0, 1], labels=["against", "0", "for"])
    if not all(explanation.signed for explanation in article.explanations):
        axes.set_xlabel("green: how much, without a sign", fontsize=9, color=GREEN)
    save_png(figure, path)


def _shades(*colours: str) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", list(colours))
