"""What typing errors, letter case, feed residue, other words and missing words cost a run's model on test rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.data.batching import derive_seed
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.robustness.drops import Drop, measure_drop
from agnews_exp.evaluation.robustness.perturbations import Kind, Variant, make_variant, perturb
from agnews_exp.evaluation.statistics.inputs import plain
from agnews_exp.reporting.analyses.context import AnalysisContext, Findings
from agnews_exp.reporting.analyses.robustness_figures import draw_drops, draw_strengths
from agnews_exp.reporting.analyses.steps import steps
from agnews_exp.reporting.analyses.titles import test_titles

Strengths = dict[Kind, tuple[float, ...] | None]

DEFAULT: Final[Strengths] = {
    "swap": (0.05, 0.1, 0.2),
    "keyboard": (0.05, 0.1, 0.2),
    "insert": (0.05, 0.1, 0.2),
    "delete": (0.05, 0.1, 0.2),
    "upper": (1.0,),
    "lower": (1.0,),
    "synonyms": (0.5, 1.0),
    "html_added": (0.05, 0.1, 0.2),
    "html_removed": (1.0,),
    "truncate": (20, 10, 5),
}


def analyse(
    context: AnalysisContext,
    *,
    n_rows: Annotated[int, Field(ge=20)] = 2000,
    perturbations: Strengths = DEFAULT,
    parts: bool = True,
    resamples: Annotated[int, Field(ge=100)] = 2000,
    n_examples: Annotated[int, Field(ge=0, le=20)] = 1,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Findings:
    """Measure a run's robustness.

    Args:
        context: The run.
        n_rows: Test rows drawn at random; all where there are fewer.
        perturbations: Strengths by kind; None switches a kind off.
        parts: Try title and description alone, where the data tell them apart.
        resamples: Bootstrap resamples of each interval.
        n_examples: Rows whose perturbed texts are written to ``examples.csv``.
        seed: Of the sample and of the perturbations.

    Returns:
        ``test/macro_f1_change_<variant>`` and ``test/accuracy_change_<variant>``: perturbed minus unchanged.
    """
    variants = [make_variant(kind, s) for kind, strengths in perturbations.items() for s in strengths or ()]
    rows, positions = _sample(context, n_rows, seed)
    texts = {variant: perturb(rows.texts, rows.row_ids.tolist(), variant, seed) for variant in variants}
    notes = []
    if parts:
        alone = _parts(context, rows, positions)
        texts |= alone
        if not alone:
            notes.append("Title and description cannot be told apart in these data, so neither was tried alone.")
    drops: list[Drop] = []
    with steps(len(texts) + 1, "perturbing") as advance:
        clean = context.model.predict(rows.texts).labels
        advance("unchanged")
        if differ := int((clean != context.answers["test"].labels[positions]).sum()):
            notes.append(f"To {differ} rows the model gives another class today than in the run (rounding, batches).")
        for variant, changed in texts.items():
            predicted = context.model.predict(changed).labels
            share = float(np.mean([a != b for a, b in zip(changed, rows.texts, strict=True)]))
            drops.append(
                measure_drop(
                    variant, rows.labels, clean, predicted, share,
                    class_names=context.splits.class_names, resamples=resamples, seed=seed,
                )
            )  # fmt: skip
            advance(variant.name)
    draw_drops(context.folder / "drops.png", drops)
    draw_strengths(context.folder / "strengths.png", drops)
    if n_examples:
        _write_examples(context, rows, texts, n_examples)
    metrics = {
        f"test/{metric}_change_{drop.variant.name}": pair.difference.estimate
        for drop in drops
        for metric, pair in drop.metrics.items()
    }
    details = {"rows": len(rows), "row_ids": rows.row_ids, "variants": {d.variant.name: d for d in drops}}
    return Findings(metrics, _summary(drops, len(rows), seed, notes), plain(details))


def _sample(context: AnalysisContext, n_rows: int, seed: int) -> tuple[TextRows, NDArray[np.int64]]:
    test = context.splits.test
    generator = np.random.default_rng(derive_seed("robustness", seed))
    positions = np.sort(generator.permutation(len(test))[:n_rows])
    return test.take(positions), positions


def _parts(context: AnalysisContext, rows: TextRows, positions: NDArray[np.int64]) -> dict[Variant, list[str]]:
    titles = test_titles(context)
    if titles is None:
        return {}
    title = [titles[i] for i in positions.tolist()]
    description = [text[len(t) :].strip() for text, t in zip(rows.texts, title, strict=True)]
    return {Variant("title_only", 1.0): title, Variant("description_only", 1.0): description}


@dataclass(frozen=True)
class _Example:
    row_id: int
    variant: str
    text: str


def _write_examples(context: AnalysisContext, rows: TextRows, texts: Mapping[Variant, list[str]], n: int) -> None:
    from agnews_exp.reporting.analyses.errors_tables import write_csv

    listed = []
    for i in range(min(n, len(rows))):
        row_id = int(rows.row_ids[i])
        listed.append(_Example(row_id, "unchanged", rows.texts[i]))
        listed += [_Example(row_id, variant.name, changed[i]) for variant, changed in texts.items()]
    write_csv(context.folder / "examples.csv", [vars(example) for example in listed])


def _summary(drops: Sequence[Drop], n_rows: int, seed: int, notes: Sequence[str]) -> str:
    clean = drops[0].metrics if drops else {}
    before = ", ".join(f"{name} {pair.b.estimate:.4f}" for name, pair in clean.items())
    lines = [
        f"## Robustness on {n_rows:,} test rows",
        "",
        f"Unchanged texts: {before}. Change: perturbed minus unchanged on the same rows, with 95 % paired bootstrap "
        "intervals (percentile); below 0 the model gets worse. Answers changed: rows that get another class, right or "
        f"wrong. Seed {seed}.",
        "",
        "| texts | macro_f1 | change of macro_f1 | change of accuracy | texts changed | answers changed |",
        "| --- |" + " ---: |" * 5,
    ]
    for drop in drops:
        f1, accuracy = drop.metrics["macro_f1"], drop.metrics["accuracy"]
        cells = [drop.variant.label, f"{f1.a.estimate:.4f}"]
        for pair in (f1, accuracy):
            low, high = pair.difference.percentile
            cells.append(f"{pair.difference.estimate:+.4f} [{low:+.4f}, {high:+.4f}]")
        cells += [f"{100 * drop.changed_texts:.1f} %", f"{100 * drop.changed_answers:.1f} %"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])
