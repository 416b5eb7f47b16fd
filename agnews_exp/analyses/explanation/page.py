"""A page of explained articles: one self-contained HTML file, in which texts are text and nothing can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from agnews_exp.analyses.explanation.faithfulness import Faithfulness, FamilyImportance, Interval
from agnews_exp.analyses.explanation.linear import Term
from agnews_exp.analyses.explanation.methods import DESCRIPTIONS
from agnews_exp.analyses.explanation.whole_model import WeightedTerm, visible
from agnews_exp.analyses.explanation.words import Explanation
from agnews_exp.analyses.figures import new_figure, open_frame, save_png
from agnews_exp.core.files import atomic_path
from agnews_exp.core.text import markdown_cell

FOR, AGAINST, UNSIGNED = (0, 114, 178), (213, 94, 0), (0, 158, 115)
"""Blue, vermilion and green of Okabe and Ito's palette."""

# default-src 'none': whatever a text holds, and whatever escaping missed, no script or image of it is ever loaded.
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.6 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1a1a1a; }}
h1 {{ font-size: 1.4rem; }}
h2 {{ font-size: 1.1rem; margin: 2.2rem 0 .3rem; border-top: 1px solid #ccc; padding-top: 1rem; }}
.facts {{ color: #444; }} .wrong {{ color: #a33c00; font-weight: 600; }}
.method {{ display: grid; grid-template-columns: 11rem 1fr; gap: .2rem 1rem; margin: .8rem 0; }}
.name {{ font-weight: 600; font-size: .85rem; }}
.name small {{ display: block; font-weight: 400; color: #666; line-height: 1.3; }}
.text {{ overflow-wrap: anywhere; white-space: pre-wrap; }}
.text b {{ font-weight: 400; border-radius: 3px; padding: 1px 0; }}
.text b.top {{ font-weight: 700; }}
.note {{ background: #f5f1e6; border-left: 4px solid #e69f00; padding: .5rem .8rem; font-size: .9rem; }}
.terms {{ font-size: .85rem; }}
.term {{ display: inline-block; margin-right: 1.1rem; white-space: nowrap; }}
.term small {{ color: #666; }}
code {{ background: #f2f2f2; border-radius: 3px; padding: 0 .25rem; white-space: pre; }}
@media (max-width: 40rem) {{ .method {{ grid-template-columns: 1fr; }} }}
</style></head><body>
"""


@dataclass(frozen=True, eq=False)
class Article:
    """One explained text.

    Attributes:
        row_id: Its row in the source file.
        label: Name of the true class.
        predicted: Name of the predicted class, which is explained.
        probability: Of the predicted class.
        probability_is: What the probability is, such as the softmax of decision scores.
        explanations: One a method.
        terms: The n-grams that add most to the score; empty for models that are not linear.
    """

    row_id: int
    label: str
    predicted: str
    probability: float
    probability_is: str
    explanations: Sequence[Explanation]
    terms: Sequence[Term] = ()

    @property
    def text(self) -> str:
        """The text."""
        return self.explanations[0].text


def highlight(explanation: Explanation, n_bold: int = 3) -> str:
    """Return the text as HTML with each word shaded by its weight; the text's own markup is shown, not interpreted.

    Args:
        explanation: What to show; the largest weight gets the full shade.
        n_bold: So many words that support the class most are bold, so that they can be told without colours.
    """
    text, weights = explanation.text, explanation.weights
    largest = float(np.abs(weights).max(initial=0.0)) or 1.0
    top = {int(i) for i in explanation.order[:n_bold] if weights[i] > 0}
    parts, end_before = [], 0
    for i, (begin, end) in enumerate(explanation.spans):
        parts.append(escape(text[end_before:begin]))
        red, green, blue = (FOR if weights[i] >= 0 else AGAINST) if explanation.signed else UNSIGNED
        shade = f"rgba({red},{green},{blue},{0.75 * abs(weights[i]) / largest:.3f})"
        css = ' class="top"' if i in top else ""
        word = escape(text[begin:end])
        parts.append(f'<b{css} style="background:{shade}" title="{weights[i]:+.4f}">{word}</b>')
        end_before = int(end)
    return "".join(parts) + escape(text[end_before:])


def write_page(path: Path, title: str, articles: Sequence[Article], notes: Sequence[str]) -> None:
    """Write the page.

    Args:
        path: An ``.html`` file.
        title: Heading.
        articles: What to show.
        notes: Caveats, shown above the articles.
    """
    legend = (
        f'<p class="facts">Explained is the class that the model chose. <b style="background:{_css(FOR)}">Blue</b> '
        f'words speak for it, <b style="background:{_css(AGAINST)}">orange</b> ones against it; '
        f'<b style="background:{_css(UNSIGNED)}">green</b> says how much, not which way. Shades are relative to the '
        "largest weight of each line, the three strongest supporters are bold, and a word's own weight shows when the "
        "mouse rests on it.</p>"
    )
    body = [f"<h1>{escape(title)}</h1>", legend]
    body += [f'<p class="note">{escape(note)}</p>' for note in notes]
    body += [_article(article) for article in articles]
    with atomic_path(path) as temporary:
        page = _HEAD.format(title=escape(title)) + "\n".join(body) + "\n</body></html>\n"
        temporary.write_text(page, encoding="utf-8", errors="replace")


def _article(article: Article) -> str:
    right = article.label == article.predicted
    verdict = "right" if right else f'<span class="wrong">wrong: the label is {escape(article.label)}</span>'
    parts = [
        f"<h2>Test row {article.row_id}: {escape(article.predicted)}</h2>",
        f'<p class="facts">{verdict}; probability {article.probability:.3f} ({article.probability_is})</p>',
    ]
    for explanation in article.explanations:
        name = escape(explanation.method.replace("_", " "))
        about = escape(DESCRIPTIONS.get(explanation.method, "")) + _sum(explanation)
        parts.append(
            f'<div class="method"><div class="name">{name}<small>{about}</small></div>'
            f'<div class="text">{highlight(explanation)}</div></div>'
        )
    if article.terms:
        terms = " ".join(
            f'<span class="term"><small>{escape(t.block)}</small> <code>{escape(visible(t.term))}</code> '
            f"{t.contribution:+.3f}</span>"
            for t in article.terms
        )
        parts.append(
            '<div class="method"><div class="name">features<small>what single features add to the score, the largest '
            f'first</small></div><div class="terms">{terms}</div></div>'
        )
    return "\n".join(parts)


def _sum(explanation: Explanation) -> str:
    if explanation.base is None:
        return ""
    words = explanation.weights.sum()
    return f" ({explanation.base:+.2f} base {words:+.2f} words {explanation.elsewhere:+.2f} rest)"


def _css(colour: tuple[int, int, int]) -> str:
    return "rgba({},{},{},.5)".format(*colour)


def articles_markdown(articles: Sequence[Article]) -> str:
    """Return a table of the articles with the three words that each method finds most important."""
    lines = ["| row | label | predicted | " + " | ".join(e.method for e in articles[0].explanations) + " |"]
    lines.append("|---" * (3 + len(articles[0].explanations)) + "|")
    for article in articles:
        cells = [article.label, article.predicted, *(", ".join(_strongest(e)) for e in article.explanations)]
        lines.append(f"| {article.row_id} | " + " | ".join(map(markdown_cell, cells)) + " |")
    return "\n".join(lines)


def _strongest(explanation: Explanation, n: int = 3) -> list[str]:
    words = explanation.words
    return [f"`{words[i]}`".replace("|", "¦") for i in explanation.order[:n] if explanation.weights[i] > 0]


def as_details(articles: Sequence[Article]) -> list[Mapping[str, object]]:
    """Return the articles JSON-able; the texts themselves stay in the page."""
    return [
        {
            "row_id": article.row_id,
            "label": article.label,
            "predicted": article.predicted,
            "probability": article.probability,
            "explanations": {
                e.method: {
                    "spans": e.spans.tolist(),
                    "weights": e.weights.tolist(),
                    "elsewhere": e.elsewhere,
                    "base": e.base,
                }
                for e in article.explanations
            },
            "terms": [vars(t) for t in article.terms],
        }
        for article in articles
    ]


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
