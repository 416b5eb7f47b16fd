"""What a run's model looks at, for all texts and for single ones, and how faithful each method of saying so is."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import AnalysisContext, Findings
from agnews_exp.analyses.explanation import page as figures
from agnews_exp.analyses.explanation import page as page
from agnews_exp.analyses.explanation import whole_model as overall
from agnews_exp.analyses.explanation.faithfulness import Faithfulness, erase, mean_erasure, random_order, score
from agnews_exp.analyses.explanation.methods import (
    Budget,
    Method,
    Methods,
    described_probabilities,
    find_methods,
    probabilities,
)
from agnews_exp.analyses.explanation.words import Explanation
from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.core.files import atomic_path
from agnews_exp.core.text import spreadsheet_cell
from agnews_exp.data.batching import derive_seed

N_PAGE_TERMS = 10


def analyse(
    context: AnalysisContext,
    *,
    methods: Literal["auto"] | Annotated[tuple[Method, ...], Field(min_length=1)] = "auto",
    n_articles: Annotated[int, Field(ge=1, le=200)] = 5,
    n_wrong: Annotated[int, Field(ge=0)] = 2,
    n_faithfulness: Annotated[int, Field(ge=0)] = 50,
    n_terms: Annotated[int, Field(ge=1, le=1000)] = 15,
    samples: Annotated[int, Field(ge=10)] = 200,
    integration_steps: Annotated[int, Field(ge=2, le=1000)] = 32,
    random_orders: Annotated[int, Field(ge=1)] = 10,
    permutation_repeats: Annotated[int, Field(ge=0)] = 5,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Findings:
    """Explain a run's model.

    Args:
        context: The run.
        methods: Methods for single articles; ``auto`` takes what the model and the installed packages allow.
        n_articles: Test articles to show.
        n_wrong: Of these, wrongly classified ones (fewer where the model made fewer errors).
        n_faithfulness: Test articles to score the methods on; 0 leaves it out.
        n_terms: Named weights per class and block from each end.
        samples: Variants of a text that LIME and SHAP may ask about.
        integration_steps: Points of the integral of integrated gradients.
        random_orders: Random word orders per article: the baseline of faithfulness.
        permutation_repeats: Permutations of each feature family on the validation rows; 0 leaves it out.
        seed: Of everything random.

    Returns:
        ``test/comprehensiveness_<method>``, ``test/sufficiency_<method>``, and the same for ``random``.
    """
    wanted = None if methods == "auto" else methods
    found = find_methods(context.model, wanted, Budget(samples, integration_steps, seed))
    sections, details = _global_part(context, n_terms, permutation_repeats, seed)
    with _progress(len(found.explainers) * (2 if n_faithfulness else 1)) as advance:
        articles = _articles(context, found, _choose(context, n_articles, n_wrong, seed), advance)
        scores, agreement = _faithfulness(context, found, n_faithfulness, random_orders, seed, advance)
    notes = _notes(found, n_articles, n_wrong, seed)
    page.write_page(context.folder / "articles.html", f"What {context.checked.run.name} looks at", articles, notes)
    for article in articles:
        figures.draw_article(context.folder / f"article_{article.row_id}.png", article)
    sections.append("## Single articles\n\n" + page.articles_markdown(articles))
    metrics: dict[str, float] = {}
    if scores:
        figures.draw_faithfulness(context.folder / "faithfulness.png", scores)
        sections.append("## Faithfulness\n\n" + _faithfulness_markdown(scores, articles[0].probability_is))
        for one in scores:
            metrics[f"test/comprehensiveness_{one.method}"] = one.comprehensiveness.estimate
            metrics[f"test/sufficiency_{one.method}"] = one.sufficiency.estimate
        details |= {"faithfulness": [asdict(one) for one in scores], "rank_correlation": agreement}
    sections.append("\n".join(f"- {note}" for note in notes))
    details |= {"articles": page.as_details(articles), "left_out": found.left_out}
    return Findings(metrics, "\n\n".join(sections), details)


def _global_part(context: AnalysisContext, n_terms: int, repeats: int, seed: int) -> tuple[list[str], dict[str, Any]]:
    """Write named weights and the worth of feature families, where the model has them."""
    sections: list[str] = []
    details: dict[str, Any] = {}
    pipeline = getattr(context.model, "pipeline", None)
    if pipeline is None or pipeline.named_steps.get("features") is None:
        return sections, details
    from agnews_exp.analyses.explanation.linear import linear_view

    validation, names = context.splits.validation, context.splits.class_names
    try:
        view = linear_view(pipeline)
    except ConfigError as error:
        sections.append(f"No named weights: {error.message}")
    else:
        terms = overall.named_weights(view, names, validation.texts, validation.labels, n_terms)
        _write_weights(context.folder / "weights.csv", terms)
        figures.draw_weights(context.folder / "weights.png", terms, names)
        relative = ", relative to the mean of all classes" if view.relative else ""
        sections += [
            f"## Named weights\n\nThe highest weights in each class's score{relative}; more in `weights.csv`.\n\n"
            + overall.weights_markdown(terms, names, "weight"),
            "A high weight of a rare feature does little. What features add to the score in validation texts of the "
            "class more than in the others, on average:\n\n" + overall.weights_markdown(terms, names, "effect"),
        ]
        details["weights"] = overall.as_details(terms)
    if repeats:
        untouched, families = overall.measure_families(
            pipeline, validation.texts, validation.labels, names, repeats=repeats, seed=seed
        )
        figures.draw_families(context.folder / "families.png", untouched, families)
        sections.append("## Feature families\n\n" + overall.families_markdown(untouched, families))
        details["families"] = {overall.FAMILY_METRIC: untouched, "losses": overall.as_details(families)}
    return sections, details


def _write_weights(path: Path, terms: Sequence[overall.WeightedTerm]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["block", "class", "term", "weight", "effect", "validation_share"])
        writer.writerows(
            (
                *map(spreadsheet_cell, (t.block, t.class_name, t.term)),
                *(f"{v:.6g}" for v in (t.weight, t.effect, t.share)),
            )
            for t in terms
        )


def _choose(context: AnalysisContext, n: int, n_wrong: int, seed: int) -> NDArray[np.int64]:
    """Return positions of test articles: wrong ones first, then right ones, the classes in turn."""
    labels, predicted = context.splits.test.labels, context.answers["test"].labels
    generator = np.random.default_rng(derive_seed("articles", seed))
    order = generator.permutation(len(labels))
    wrong = [i for i in order if labels[i] != predicted[i]][: min(n_wrong, n)]
    by_class = [[i for i in order if labels[i] == predicted[i] == k] for k in range(len(context.splits.class_names))]
    right = [queue[turn] for turn in range(n) for queue in by_class if turn < len(queue)]
    return np.array([*wrong, *right][:n], dtype=np.int64)


def _articles(context: AnalysisContext, found: Methods, rows: NDArray[np.int64], advance: Any) -> list[page.Article]:
    texts, targets = _texts(context, rows)
    explained: dict[str, list[Explanation]] = {}
    for name, explain in found.explainers.items():
        explained[name] = explain(texts, targets)
        advance(f"{name}: {len(rows)} articles")
    chances, about = described_probabilities(context.model, texts)
    names, test = context.splits.class_names, context.splits.test
    return [
        page.Article(
            int(test.row_ids[row]),
            names[int(test.labels[row])],
            names[int(targets[i])],
            float(chances[i, targets[i]]),
            about,
            [explanations[i] for explanations in explained.values()],
            _terms(context, texts[i], int(targets[i])) if "contributions" in explained else (),
        )
        for i, row in enumerate(rows)
    ]


def _terms(context: AnalysisContext, text: str, target: int) -> Sequence[Any]:
    from agnews_exp.analyses.explanation.linear import linear_view, top_terms

    return top_terms(linear_view(cast(Any, context.model).pipeline), text, target, N_PAGE_TERMS)


def _texts(context: AnalysisContext, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Return texts of test rows and the classes that the model gave them."""
    return [context.splits.test.texts[i] for i in rows], context.answers["test"].labels[rows]


def _faithfulness(
    context: AnalysisContext, found: Methods, n: int, random_orders: int, seed: int, advance: Any
) -> tuple[list[Faithfulness], dict[str, float]]:
    """Score every method on the same random test articles; the random order comes last."""
    if n == 0:
        return [], {}
    n_test = len(context.splits.test)
    if n_test < 2:
        raise DataError(f"Faithfulness needs at least two test articles, not {n_test}.")
    generator = np.random.default_rng(derive_seed("faithfulness", seed))
    texts, targets = _texts(context, np.sort(generator.choice(n_test, min(n, n_test), replace=False)))
    answer = partial(probabilities, context.model)
    baseline = mean_erasure([erase(answer, random_order(texts, targets, seed + i)) for i in range(random_orders)])
    scores, explained = [], {}
    for name, explain in found.explainers.items():
        explained[name] = explain(texts, targets)
        scores.append(score(name, erase(answer, explained[name]), baseline, seed=seed))
        advance(f"{name}: faithfulness")
    scores.append(score("random", baseline, baseline, seed=seed))
    return scores, _rank_correlations(explained)


def _rank_correlations(explained: Mapping[str, Sequence[Explanation]]) -> dict[str, float]:
    """Return Spearman's correlation of the word weights of each two methods, mean over articles."""
    from scipy.stats import spearmanr

    found = {}
    for one, other in combinations(explained, 2):
        values = [
            spearmanr(a.weights, b.weights).statistic
            for a, b in zip(explained[one], explained[other], strict=True)
            if np.ptp(a.weights) > 0 and np.ptp(b.weights) > 0
        ]
        if values:
            found[f"{one} ~ {other}"] = float(np.mean(values))
    return found


def _faithfulness_markdown(scores: Sequence[Faithfulness], probability_is: str) -> str:
    shares = ", ".join(f"{100 * share:.0f}" for share in scores[0].by_share)
    lines = [
        f"Change of the probability of the chosen class ({probability_is}) over {scores[0].n_articles} test articles, "
        f"mean over the top {shares} % of the words (DeYoung et al. 2020): comprehensiveness without them (higher is "
        "more faithful), sufficiency with nothing else (lower is more faithful); 95 % bootstrap intervals over "
        "articles. Gain: paired difference to random orders, above 0 where the method beats chance.",
        "",
        "| method | comprehensiveness | gain | sufficiency | gain |",
        "|---|---|---|---|---|",
    ]
    for one in sorted(scores, key=lambda s: -s.comprehensiveness.estimate):
        cells = (one.comprehensiveness, one.comprehensiveness_gain, one.sufficiency, one.sufficiency_gain)
        shown = [f"{c.estimate:.3f} [{c.low:.3f}, {c.high:.3f}]" for c in cells]
        if one.method == "random":
            shown[1] = shown[3] = ""
        lines.append(f"| {one.method} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _notes(found: Methods, n_articles: int, n_wrong: int, seed: int) -> list[str]:
    notes = [
        f"The {n_articles} articles were drawn at random (seed {seed}), up to {n_wrong} of them wrongly classified: "
        "they show how the methods read, not how often anything happens."
    ]
    if any(name.startswith("attention") for name in found.explainers):
        from agnews_exp.analyses.explanation.networks import ATTENTION_CAVEAT

        notes.append(ATTENTION_CAVEAT)
    if missing := [reason for reason in found.left_out.values() if "not installed" in reason]:
        notes.append(f"{' '.join(missing)} To have them: pip install 'agnews-exp[explain]'")
    return notes


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Show a bar on a terminal; yields what advances it."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("explaining", total=total)
        yield lambda what: bar.update(task, advance=1, description=what)
