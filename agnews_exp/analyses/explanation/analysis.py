"""Words and features that a run's model looks at, in all texts and in single ones, and how faithful each method is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.explanation import importance
from agnews_exp.analyses.explanation.faithfulness import (
    Faithfulness,
    Interval,
    erase,
    mean_erasure,
    random_order,
    score,
)
from agnews_exp.analyses.explanation.linear import Term, linear_view, top_terms
from agnews_exp.analyses.explanation.methods import (
    DESCRIPTIONS,
    Method,
    Methods,
    described_probabilities,
    find_methods,
    probabilities,
)
from agnews_exp.analyses.explanation.words import Explanation
from agnews_exp.analyses.findings import Block, Cell, Column, Findings, Highlight, Number, Table, Text, html_page
from agnews_exp.analyses.performing import AnalysisContext, analysis, steps
from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.core.files import atomic_path
from agnews_exp.data.batching import derive_seed
from agnews_exp.drawing import Chart, Series

PAGE = "articles.html"
_ARTICLE_TERMS, _CHART_TERMS, _TABLE_TERMS, _CHART_CLASSES = 10, 10, 8, 8


@analysis("explanation", title="What it looks at")
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

    Returns:
        ``test/comprehensiveness_<method>``, ``test/sufficiency_<method>``, and the same for ``random``.
    """
    wanted = None if methods == "auto" else methods
    found = find_methods(context.model, wanted, samples=samples, integration_steps=integration_steps, seed=seed)
    blocks, details = _over_all_texts(context, n_terms, permutation_repeats, seed)
    with steps(len(found.explainers) * (2 if n_faithfulness else 1), "explaining") as advance:
        articles = _articles(context, found, _choose(context, n_articles, n_wrong, seed), advance)
        scores = _faithfulness(context, found, n_faithfulness, random_orders, seed, advance)
    notes = list(map(Text, _notes(found, n_articles, n_wrong, seed)))
    shown = [block for article in articles for block in article.blocks()]
    _write_page(context, [*notes, *shown])
    blocks += [_article_table(articles), *shown]
    metrics: dict[str, float] = {}
    if scores:
        blocks += [_faithfulness_table(scores, articles[0].probability_is), _faithfulness_chart(scores)]
        for one in scores:
            metrics[f"test/comprehensiveness_{one.method}"] = one.comprehensiveness.estimate
            metrics[f"test/sufficiency_{one.method}"] = one.sufficiency.estimate
        details["faithfulness"] = [asdict(one) for one in scores]
    details |= {"articles": [article.details() for article in articles], "left_out": found.left_out}
    return Findings(_headline(scores, found), (*blocks, *notes), metrics, details)


def _headline(scores: Sequence[Faithfulness], found: Methods) -> str:
    named = ", ".join(name.replace("_", " ") for name in found.explainers)
    if not scores:
        return f"Single articles explained by {named}."
    best = max(scores, key=lambda one: one.comprehensiveness.estimate)
    fall = Number(best.comprehensiveness.estimate, ".3f", best.comprehensiveness.low, best.comprehensiveness.high)
    return (
        f"The most faithful of {named}: {best.method.replace('_', ' ')}; without the words that it names the "
        f"probability of the class falls by {fall}."
    )


def _over_all_texts(
    context: AnalysisContext, n_terms: int, repeats: int, seed: int
) -> tuple[list[Block], dict[str, Any]]:
    """Return named weights and the worth of feature families, where the model has them."""
    pipeline = getattr(context.model, "pipeline", None)
    if pipeline is None or pipeline.named_steps.get("features") is None:
        return [], {}
    blocks: list[Block] = []
    details: dict[str, Any] = {}
    validation, names = context.splits.validation, context.splits.class_names
    try:
        view = linear_view(pipeline)
    except ConfigError as error:
        blocks.append(Text(f"No named weights: {error.message}"))
    else:
        terms = importance.named_weights(view, names, validation.texts, validation.labels, n_terms)
        relative = " Weights are relative to the mean of all classes." if view.relative else ""
        blocks += _weight_blocks(terms, names, relative)
        details["weights"] = [asdict(term) for term in terms]
    if repeats:
        untouched, families = importance.measure_families(
            pipeline, validation.texts, validation.labels, names, repeats=repeats, seed=seed
        )
        blocks += _family_blocks(untouched, families)
        losses = [asdict(family) for family in families]
        details["families"] = {importance.FAMILY_METRIC: untouched, "losses": losses}
    return blocks, details


def _weight_blocks(terms: Sequence[importance.WeightedTerm], names: Sequence[str], relative: str) -> list[Block]:
    blocks = list(dict.fromkeys(term.block for term in terms))

    def strongest(name: str, block: str, by: Literal["weight", "effect"], n: int) -> list[importance.WeightedTerm]:
        # A feature against the class that is rarer in it has a positive effect too, by being absent: not shown.
        own = [t for t in terms if (t.block, t.class_name) == (block, name) and t.weight > 0 and getattr(t, by) > 0]
        return sorted(own, key=lambda t: -getattr(t, by))[:n]

    def by_class(table: str, title: str, by: Literal["weight", "effect"], note: str) -> Table:
        rows = []
        for name in names:
            own = [strongest(name, block, by, _TABLE_TERMS) for block in blocks]
            rows.append(
                (name, *(", ".join(f"{importance.visible(t.term)} {getattr(t, by):#.2g}" for t in o) for o in own))
            )
        return Table(table, title, ("class", *blocks), tuple(rows), note=note)

    series = []
    for block in blocks:
        for name in names[:_CHART_CLASSES]:
            own = strongest(name, block, "weight", _CHART_TERMS)
            labels = tuple(importance.visible(t.term) for t in own)
            series.append(Series(name, tuple(t.weight for t in own), labels, panel=f"{name}: {block}"))
    form = tuple(Column(title, ".4g") for title in ("weight", "effect", "validation_share"))
    rows = tuple((t.block, t.class_name, t.term, t.weight, t.effect, t.share) for t in terms)
    effect = "What features add to the score in validation texts of the class more than in the others, on average."
    return [
        by_class("highest_weights", "Highest weights in each class's score", "weight",
                 f"A high weight of a rare feature does little.{relative}"),
        by_class("largest_effects", "Largest effects on each class's score", "effect", effect),
        Chart("weights_chart", "Features with the highest weights in each class's score", "bars",
              "weight in the class's score", "", tuple(series), intervals="Fitted weights: no interval."),
        Table("weights", "All named weights", ("block", "class", "term", *form), rows, shown=0),
    ]  # fmt: skip


def _family_blocks(untouched: float, families: Sequence[importance.FamilyImportance]) -> list[Block]:
    labels = tuple(f"{f.family} ({f.n_columns:,})" for f in families)
    permuted = tuple(f.permuted for f in families)
    ends = tuple(f.permuted - f.permuted_sd for f in families), tuple(f.permuted + f.permuted_sd for f in families)
    points = tuple(Column(name, ".2f", "points") for name in ("permuted", "sd", "blanked"))
    rows = tuple((f.family, f.n_columns, 100 * f.permuted, 100 * f.permuted_sd, 100 * f.dropped) for f in families)
    note = (
        f"Points that validation macro-F1 ({100 * untouched:.2f}) loses. Permuted: the family's part of each text "
        "comes from another text and may argue for the wrong class. Blanked: it is zero and says nothing, so the loss "
        "is small where other families say the same. The model is not fitted again."
    )
    series = (
        Series("permuted", permuted, labels, *ends),
        Series("blanked", tuple(f.dropped for f in families), labels),
    )
    return [
        Table("families", "Feature families", ("family", "columns", *points), rows, note=note),
        Chart("families_chart", "What each feature family is worth", "bars",
              f"loss of validation macro-F1 from {untouched:.1%}", "", series,
              intervals="Bars: one standard deviation over the permutations.", x_form="share"),
    ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Article:
    """One explained test row."""

    row_id: int  # its row in the source file
    label: str  # name of the true class
    predicted: str  # name of the predicted class, which is explained
    probability: float  # of the predicted class
    probability_is: str  # the kind of probability, such as the softmax of decision scores
    explanations: Sequence[Explanation]  # one a method
    terms: Sequence[Term] = ()  # the n-grams that add most to the score; empty for models that are not linear

    def highlights(self) -> list[Highlight]:
        """Return the text shaded by each method."""
        found = []
        for one in self.explanations:
            about = DESCRIPTIONS.get(one.method, "")
            if one.base is not None:
                about += f" ({one.base:+.2f} base {one.weights.sum():+.2f} words {one.elsewhere:+.2f} rest)"
            spans = tuple((int(begin), int(end)) for begin, end in one.spans)
            name = one.method.replace("_", " ")
            found.append(Highlight(name, one.text, spans, tuple(map(float, one.weights)), about, one.signed))
        return found

    def blocks(self) -> list[Block]:
        """Return the blocks that show the row."""
        verdict = "right" if self.label == self.predicted else f"wrong: the label is {self.label}"
        said = f"{verdict}; probability {self.probability:.3f} ({self.probability_is})"
        blocks: list[Block] = [Text(said, f"Test row {self.row_id}: {self.predicted}"), *self.highlights()]
        if self.terms:
            terms = (f"{t.block} {importance.visible(t.term)} {t.contribution:+.3f}" for t in self.terms)
            blocks.append(Text(f"Features that add most to the score: {'; '.join(terms)}."))
        return blocks

    def details(self) -> dict[str, Any]:
        """Return the row JSON-able, its text left out."""
        told = ("elsewhere", "base")
        explained = {
            e.method: {"spans": e.spans.tolist(), "weights": e.weights.tolist()} | {k: getattr(e, k) for k in told}
            for e in self.explanations
        }
        keys = ("row_id", "label", "predicted", "probability")
        terms = [vars(term) for term in self.terms]
        return {key: getattr(self, key) for key in keys} | {"explanations": explained, "terms": terms}


def _article_table(articles: Sequence[Article]) -> Table:
    methods = tuple(one.method.replace("_", " ") for one in articles[0].explanations)
    rows: list[tuple[Cell, ...]] = []
    for article in articles:
        strongest = (highlight.strongest for highlight in article.highlights())
        rows.append((article.row_id, article.label, article.predicted, *strongest))
    columns: tuple[Column | str, ...] = (Column("row", "id"), "label", "predicted", *methods)
    note = f"The three words that each method finds most important; {PAGE} shows all."
    return Table("articles", "Single articles", columns, tuple(rows), note=note)


def _write_page(context: AnalysisContext, blocks: Sequence[Block]) -> None:
    legend = Text(
        "Explained is the class that the model chose. Blue words speak for it, orange ones against it; green says how "
        "much, not which way. Shades are relative to the largest weight of each line, the three strongest supporters "
        "are bold, and a word's own weight shows when the mouse rests on it."
    )
    page = html_page(f"What {context.checked.run.name} looks at", [legend, *blocks])
    with atomic_path(context.folder / PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def _choose(context: AnalysisContext, n: int, n_wrong: int, seed: int) -> NDArray[np.int64]:
    """Return positions of test articles: wrong ones first, then right ones, the classes in turn."""
    labels, predicted = context.splits.test.labels, context.answers["test"].labels
    generator = np.random.default_rng(derive_seed("articles", seed))
    order = generator.permutation(len(labels))
    wrong = [i for i in order if labels[i] != predicted[i]][: min(n_wrong, n)]
    by_class = [[i for i in order if labels[i] == predicted[i] == k] for k in range(len(context.splits.class_names))]
    right = [queue[turn] for turn in range(n) for queue in by_class if turn < len(queue)]
    return np.array([*wrong, *right][:n], dtype=np.int64)


def _articles(
    context: AnalysisContext, found: Methods, rows: NDArray[np.int64], advance: Callable[[str], None]
) -> list[Article]:
    texts, targets = _texts(context, rows)
    explained: dict[str, list[Explanation]] = {}
    for name, explain in found.explainers.items():
        explained[name] = explain(texts, targets)
        advance(f"{name}, {len(rows)} articles")
    chances, about = described_probabilities(context.model, texts)
    names, test = context.splits.class_names, context.splits.test
    view = linear_view(cast(Any, context.model).pipeline) if "contributions" in explained else None
    return [
        Article(
            int(test.row_ids[row]),
            names[int(test.labels[row])],
            names[int(targets[i])],
            float(chances[i, targets[i]]),
            about,
            [explanations[i] for explanations in explained.values()],
            top_terms(view, texts[i], int(targets[i]), _ARTICLE_TERMS) if view is not None else (),
        )
        for i, row in enumerate(rows)
    ]


def _texts(context: AnalysisContext, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Return texts of test rows and the classes that the model gave them."""
    return [context.splits.test.texts[i] for i in rows], context.answers["test"].labels[rows]


def _faithfulness(
    context: AnalysisContext, found: Methods, n: int, random_orders: int, seed: int, advance: Callable[[str], None]
) -> list[Faithfulness]:
    """Score every method on the same random test articles; the random order comes last."""
    if n == 0:
        return []
    n_test = len(context.splits.test)
    if n_test < 2:
        raise DataError(f"Faithfulness needs at least two test articles, not {n_test}.")
    generator = np.random.default_rng(derive_seed("faithfulness", seed))
    texts, targets = _texts(context, np.sort(generator.choice(n_test, min(n, n_test), replace=False)))
    answer = partial(probabilities, context.model)
    baseline = mean_erasure([erase(answer, random_order(texts, targets, seed + i)) for i in range(random_orders)])
    scores = []
    for name, explain in found.explainers.items():
        scores.append(score(name, erase(answer, explain(texts, targets)), baseline, seed=seed))
        advance(f"{name}, faithfulness")
    return [*scores, score("random", baseline, baseline, seed=seed)]


def _faithfulness_table(scores: Sequence[Faithfulness], probability_is: str) -> Table:
    def cell(value: Interval) -> Number:
        return Number(value.estimate, ".3f", value.low, value.high)

    rows: list[tuple[Cell, ...]] = []
    for one in sorted(scores, key=lambda s: -s.comprehensiveness.estimate):
        cells = (one.comprehensiveness, one.comprehensiveness_gain, one.sufficiency, one.sufficiency_gain)
        gains = (None if one.method == "random" and i % 2 else cell(c) for i, c in enumerate(cells))
        rows.append((one.method.replace("_", " "), *gains))
    shares = ", ".join(f"{100 * share:.0f}" for share in scores[0].by_share)
    note = (
        f"Change of the probability of the chosen class ({probability_is}) over {scores[0].n_articles} test articles, "
        f"mean over the top {shares} % of the words (DeYoung et al. 2020): comprehensiveness without them (higher is "
        "more faithful), sufficiency with nothing else (lower is more faithful); 95 % bootstrap intervals over "
        "articles. Gain: paired difference to random orders, above 0 where the method beats chance."
    )
    columns = ("method", "comprehensiveness", "gain in comprehensiveness", "sufficiency", "gain in sufficiency")
    return Table("faithfulness", "Faithfulness", columns, tuple(rows), note=note)


def _faithfulness_chart(scores: Sequence[Faithfulness]) -> Chart:
    labels = tuple(one.method.replace("_", " ") for one in scores)
    series = []
    for name, better in (("comprehensiveness", "higher"), ("sufficiency", "lower")):
        values: list[Interval] = [getattr(one, name) for one in scores]
        estimates, low, high = (tuple(getattr(v, end) for v in values) for end in ("estimate", "low", "high"))
        series.append(Series(name, estimates, labels, low, high, panel=f"{name}: {better} is more faithful"))
    return Chart(
        "faithfulness_chart", "Faithfulness of the methods", "dots", "change of the class's probability", "",
        tuple(series), intervals=f"95 % bootstrap intervals over {scores[0].n_articles} test articles.",
    )  # fmt: skip


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
