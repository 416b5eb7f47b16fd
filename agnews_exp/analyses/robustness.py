"""Robustness: how much typing errors, letter case, feed residue, other words and missing words cost a run's model."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.findings import Column, Findings, Number, Row, Table, Text
from agnews_exp.analyses.performing import AnalysisContext, analysis, steps
from agnews_exp.analyses.perturbations import (
    DESCRIPTIONS,
    WITHOUT_STRENGTH,
    WORDS,
    Kind,
    Variant,
    make_variant,
    perturb,
)
from agnews_exp.config.targets import safe_instantiate
from agnews_exp.core.errors import DataError
from agnews_exp.data.batching import derive_seed
from agnews_exp.data.bundled import OFFICIAL_FORMAT
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.csv_files import read_file
from agnews_exp.data.files import Labels
from agnews_exp.drawing import Chart, Series
from agnews_exp.evaluation.inputs import Result, plain
from agnews_exp.evaluation.statistics.bootstrap import PairedBootstrap, bootstrap_difference

_METRICS: Final = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Drop(Result):
    """The effect of one variant of the texts on the metrics."""

    variant: Variant  # the change of the texts
    # By metric: the changed texts (a), the same rows unchanged (b), and the difference a - b.
    metrics: dict[str, PairedBootstrap]
    changed_texts: float  # share of texts that the perturbation changed at all
    changed_answers: float  # share of rows that get another class than unchanged


def measure_drop(
    variant: Variant,
    labels: NDArray[np.int64],
    clean: NDArray[np.int64],
    perturbed: NDArray[np.int64],
    changed_texts: float,
    *,
    class_names: Sequence[str],
    resamples: int = 2000,
    seed: int = 0,
    family: int = 1,
) -> Drop:
    """Return a variant's effect with paired bootstrap intervals over the n rows.

    Those of ``family`` variants, as many as were tried, hold together with 95 % (Bonferroni).
    """
    metrics = {
        metric: bootstrap_difference(
            labels, perturbed, clean, metric, resamples=resamples, seed=seed, class_names=class_names,
            level=1 - 0.05 / family,
        )
        for metric in _METRICS
    }  # fmt: skip
    return Drop(variant, metrics, changed_texts, float(np.mean(clean != perturbed)))


def drops_chart(drops: Sequence[Drop]) -> Chart:
    """Return the change of macro-F1 and accuracy under every variant, with paired intervals."""
    labels = tuple(drop.variant.label for drop in drops)
    series = []
    for metric, name in (("macro_f1", "macro-F1"), ("accuracy", "accuracy")):
        changes = [drop.metrics[metric].difference for drop in drops]
        low, high = (tuple(100 * change.percentile[end] for change in changes) for end in (0, 1))
        series.append(Series(name, tuple(100 * change.estimate for change in changes), labels, low, high))
    return Chart(
        "drops", "What changed texts cost", "dots", "change [percentage points]", "", tuple(series),
        intervals="Bars: paired bootstrap intervals, 95 % for all changes at once.", references=(("x", 0.0, ""),),
    )  # fmt: skip


def strengths_chart(drops: Sequence[Drop]) -> Chart | None:
    """Return macro-F1 against the share of words changed, one line a kind; None when no kind is left.

    Kinds of one strength only are left out, and synonyms, whose strength is a share of the words that the list knows.
    """
    kinds: dict[str, list[Drop]] = {}
    for drop in drops:
        if drop.variant.kind not in WITHOUT_STRENGTH | WORDS | {"synonyms"}:
            kinds.setdefault(drop.variant.kind, []).append(drop)
    series = []
    for kind, found in kinds.items():
        ordered = sorted(found, key=lambda drop: drop.variant.strength)
        clean = found[0].metrics["macro_f1"].b.estimate
        changes = [drop.metrics["macro_f1"].difference for drop in ordered]
        x = (0.0, *(100 * drop.variant.strength for drop in ordered))
        y = (clean, *(clean + change.estimate for change in changes))
        low, high = ((clean, *(clean + change.percentile[end] for change in changes)) for end in (0, 1))
        if len(found) > 1:
            series.append(Series(DESCRIPTIONS[kind], x, y, low, high))
    if not series:
        return None
    return Chart(
        "strengths", "Macro-F1 on changed texts", "lines", "words changed [%]", "macro_f1", tuple(series),
        intervals="Bars: the unchanged score plus the interval of the paired change, 95 % for all at once.",
        references=(("y", drops[0].metrics["macro_f1"].b.estimate, "unchanged"),),
    )  # fmt: skip


def test_titles(context: AnalysisContext) -> list[str] | None:
    """Return each test row's title, or None where the source does not tell title and description apart."""
    test = context.splits.test
    try:
        rows = _read_titles(context)
    except DataError:
        return None
    if rows is None or int(test.row_ids.max()) >= len(rows):
        return None
    titles = [rows.texts[row] for row in test.row_ids.tolist()]
    # What does not open its text comes from other rows, such as a file that changed since.
    return titles if all(text.startswith(title) for text, title in zip(test.texts, titles, strict=True)) else None


def _read_titles(context: AnalysisContext) -> TextRows | None:
    data, source = context.checked.component("data"), context.splits.source
    if source == "csv":
        columns = data["text_columns"]
        if not isinstance(columns, list) or len(columns) < 2:
            return None
        # Row numbers are of the whole file, so no row may be left out here.
        whole = dict.fromkeys(("empty_texts", "duplicate_rows", "conflicting_labels", "rare_classes"), "keep")
        corpus = safe_instantiate(data | whole | {"text_columns": columns[:1]}, "data")
        rows: TextRows = corpus.train if corpus.test is None else corpus.test
        return rows
    with ExitStack() as stack:
        if source == "ag_news:csv":
            path = Path(data["dir"]).expanduser() / "test.csv"
        elif source == "sample":
            shipped = importlib.resources.files("agnews_exp.data") / "sample" / "test.csv.gz"
            path = stack.enter_context(importlib.resources.as_file(shipped))
        else:
            return None
        return read_file(path, [1], 0, Labels(), OFFICIAL_FORMAT)


Strengths = dict[Kind, tuple[float, ...] | None]


@analysis("robustness", title="What changed texts cost")
def analyse(
    context: AnalysisContext,
    *,
    n_rows: Annotated[int, Field(ge=20)] = 2000,
    perturbations: Strengths,
    parts: bool = True,
    resamples: Annotated[int, Field(ge=100)] = 2000,
    n_examples: Annotated[int, Field(ge=0, le=20)] = 1,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Findings:
    """Measure a run's robustness.

    Returns:
        ``test/macro_f1_change_<variant>`` and ``test/accuracy_change_<variant>``: perturbed minus unchanged.
    """
    variants = [make_variant(kind, s) for kind, strengths in perturbations.items() for s in strengths or ()]
    test = context.splits.test
    positions = np.sort(np.random.default_rng(derive_seed("robustness", seed)).permutation(len(test))[:n_rows])
    rows = test.take(positions)
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
                    family=len(texts),
                )
            )  # fmt: skip
            advance(variant.name)
    metrics = {
        f"test/{metric}_change_{drop.variant.name}": pair.difference.estimate
        for drop in drops
        for metric, pair in drop.metrics.items()
    }
    details = {"rows": len(rows), "row_ids": rows.row_ids, "variants": {d.variant.name: d for d in drops}}
    worst = min(drops, key=lambda drop: drop.metrics["macro_f1"].difference.estimate) if drops else None
    change = worst.metrics["macro_f1"].difference.estimate if worst else 0.0
    headline = f"The worst change of texts ({worst.variant.label}) moves macro-F1 by {change:+.4f}." if worst else ""
    return Findings(headline, _blocks(rows, texts, drops, seed, n_examples, notes), metrics, plain(details))


def _parts(context: AnalysisContext, rows: TextRows, positions: NDArray[np.int64]) -> dict[Variant, list[str]]:
    titles = test_titles(context)
    if titles is None:
        return {}
    title = [titles[i] for i in positions.tolist()]
    description = [text[len(t) :].strip() for text, t in zip(rows.texts, title, strict=True)]
    return {Variant("title_only", 1.0): title, Variant("description_only", 1.0): description}


def _blocks(
    rows: TextRows, texts: Mapping[Variant, list[str]], drops: Sequence[Drop], seed: int, n: int, notes: Sequence[str]
) -> tuple[Table | Chart | Text, ...]:
    if not drops:
        return tuple(map(Text, notes))
    before = ", ".join(f"{name} {pair.b.estimate:.4f}" for name, pair in drops[0].metrics.items())
    note = (
        f"Unchanged texts: {before}. Change: perturbed minus unchanged on the same rows, with paired bootstrap "
        "intervals (percentile; 95 % for all changes at once, Bonferroni); below 0 the model gets worse. Answers "
        f"changed: rows that get another class, right or wrong. Seed {seed}."
    )
    columns = ("texts", Column("macro_f1", "metric"), "change of macro_f1", "change of accuracy",
               Column("texts changed", "share"), Column("answers changed", "share"))  # fmt: skip
    changes: tuple[Row, ...] = tuple(
        (
            drop.variant.label, drop.metrics["macro_f1"].a.estimate,
            *(Number(change.estimate, "change", *change.percentile) for change in (
                drop.metrics[metric].difference for metric in ("macro_f1", "accuracy"))),
            drop.changed_texts, drop.changed_answers,
        )
        for drop in drops
    )  # fmt: skip
    examples = [
        (int(rows.row_ids[i]), name, changed[i])
        for i in range(min(n, len(rows)))
        for name, changed in (("unchanged", rows.texts), *((v.name, changed) for v, changed in texts.items()))
    ]
    example_columns = (Column("row_id", "id"), "variant", Column("text", width=90))
    strengths = strengths_chart(drops)
    return (
        Table("drops", f"Robustness on {len(rows):,} test rows", columns, changes, note=note),
        *map(Text, notes),
        drops_chart(drops),
        *([strengths] if strengths else []),
        *([Table("examples", "Changed texts", example_columns, tuple(examples), folded=True)] if examples else []),
    )
