"""Statistics: are the systems different, and what the study's own counts say with proper tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agnews_exp.core.errors import AgnewsError
from agnews_exp.reference.ag_news_notebooks.claims_recomputed import study_tests
from agnews_exp.report.answers import RESAMPLES, Answers
from agnews_exp.report.content import (
    Block,
    Cell,
    Chart,
    Missing,
    Prose,
    Section,
    Series,
    Stored,
    Table,
    number,
    slug,
    text,
)
from agnews_exp.report.inputs import Inputs, System
from agnews_exp.report.origin import origin

_BINS = 40


def statistics(inputs: Inputs) -> Section:
    """Return the comparison of the two leading systems, stored comparisons, and the study's tests computed again."""
    blocks: list[Block] = []
    pair = leading_pair(inputs)
    if pair is None:
        blocks.append(Missing("One system alone cannot be compared.", "python run.py model=logreg"))
    else:
        blocks += _compared(*pair)
    if not inputs.comparisons:
        blocks.append(Missing("No comparison over folds or seeds is stored for these runs.", "agnews compare RUN RUN"))
    for folder, content in inputs.comparisons:
        blocks += _stored(inputs, folder, content)
    blocks.append(_study_table())
    return Section("statistics", "Statistics", tuple(blocks))


def leading_pair(inputs: Inputs) -> tuple[System, System] | None:
    """Return the best transformer and the best classical system by validation, else the two best systems."""
    one, other = inputs.best_of("transformer"), inputs.best_of("classical")
    if one is not None and other is not None:
        return one, other
    clean = [system for system in inputs.systems if not system.fits_on_validation]
    return (clean[0], clean[1]) if len(clean) > 1 else None


def _compared(one: System, other: System) -> list[Block]:
    from agnews_exp.compare.comparison import compare_runs, load_comparable, to_markdown

    a, b = one.first.answers("test"), other.first.answers("test")
    if a is None or b is None:
        return [Missing("The stored test answers of the leading systems are gone.", f"{one.first.command} force=true")]
    made = origin([one.first, other.first], command=f"agnews compare {one.first.short} {other.first.short}")
    blocks: list[Block] = [_distribution(one, other, a, b, made)]
    try:
        compared = load_comparable([one.first.folder, other.first.folder], "test")
    except AgnewsError as error:
        return [*blocks, Prose(f"No paired tests: {error.message}")]
    found = compare_runs(compared, resamples=RESAMPLES, seed=0)
    result = found.pairs[0]
    blocks.insert(0, Prose(result.verdict))
    blocks.append(_pair_table(result, made))
    blocks.append(Stored(f"All tests of {result.name_a} against {result.name_b}", to_markdown(found, compared), made))
    return blocks


def _distribution(one: System, other: System, a: Answers, b: Answers, made: str) -> Chart:
    drawn, estimate = resampled_differences(a, b, len(one.first.class_names))
    low, high = np.quantile(drawn, [0.025, 0.975])
    counts, edges = np.histogram(drawn, bins=_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    series = Series("resamples", tuple(float(v) for v in centres), tuple(float(n) for n in counts))
    return Chart(
        "bootstrap_difference",
        f"Bootstrap of the difference: {one.label} minus {other.label}",
        "columns",
        "difference of macro-F1 on test",
        "resamples",
        (series,),
        made,
        intervals=f"Difference {estimate:+.4f}, 95 % percentile interval {low:+.4f} to {high:+.4f}"
        " (paired bootstrap of the"
        f" test rows, {RESAMPLES:,} resamples, seed 0). The heights are counts: no interval.",
        references=(("x", 0.0, "no difference"), ("x", float(low), "2.5 %"), ("x", float(high), "97.5 %")),
        covers=("F24",),
    )


def resampled_differences(a: Answers, b: Answers, n_classes: int) -> tuple[np.ndarray[Any, Any], float]:
    """Return the macro-F1 differences of resampled rows, shape (R,), and that of the rows themselves."""
    from agnews_exp.evaluation.metrics import macro_f1
    from agnews_exp.evaluation.statistics.bootstrap import Cells

    cells = Cells.group(a.labels, [a.given.labels, b.given.labels], n_classes)
    weights = cells.draw(np.random.default_rng(0), RESAMPLES)
    drawn = macro_f1(cells.margins(weights, 0)) - macro_f1(cells.margins(weights, 1))
    counts = cells.counts.astype(np.float64)[None, :]
    estimate = macro_f1(cells.margins(counts, 0)) - macro_f1(cells.margins(counts, 1))
    return drawn, float(estimate[0])


def _pair_table(result: Any, made: str) -> Table:
    theirs = study_tests()
    counts, effect = result.counts, result.effect
    difference = result.metrics["macro_f1"].bootstrap.difference
    randomisation = result.metrics["macro_f1"].randomisation
    exact = result.mcnemar.get("exact")
    corrected = result.mcnemar.get("corrected")
    low, high = difference.percentile
    ours: dict[str, Cell] = {
        "items right by both": number(counts.both_right, ",.0f"),
        "right by the first alone": number(counts.only_a, ",.0f"),
        "right by the second alone": number(counts.only_b, ",.0f"),
        "wrong by both": number(counts.both_wrong, ",.0f"),
        "McNemar, exact: p": number(exact.p_value if exact else result.p_value, ".3g"),
        "McNemar, continuity-corrected: chi-square": number(corrected.statistic if corrected else None, ".2f"),
        "difference of macro-F1 [95 %]": Cell(
            f"{difference.estimate:+.4f} [{low:+.4f}, {high:+.4f}]", difference.estimate
        ),
        "approximate randomisation of macro-F1: p": number(randomisation.p_value, ".3g"),
        "odds ratio of discordant items": number(effect.discordant_odds_ratio.estimate, ".2f"),
        "Cohen's g": number(effect.cohens_g.estimate, ".3f"),
        "reduction of errors": number(effect.error_reduction, ".1%"),
    }
    rows = tuple((text(name), cell, theirs.get(name, number(None))) for name, cell in ours.items())
    header = ("quantity", f"ours: {result.name_a} against {result.name_b}", "study: DistilBERT against LinearSVC")
    note = (
        "The study's column is computed from its counts and confusion matrices; its README gave a t-test"
        " over four classes"
        " instead. Items are resampled, models stay fixed: this says nothing about training anew."
    )
    return Table("pair", "The two leading systems, paired on the test rows", header, rows, made, note, ("T02", "T16"))


def _stored(inputs: Inputs, folder: Path, content: Mapping[str, Any]) -> list[Block]:
    made = (
        f"Comparison {folder.parent.name}; split {content['split']}, {content['n_items']:,} rows;"
        " made by: agnews compare."
    )
    rows = []
    for pair in content["pairs"]:
        metrics = pair.get("metrics") or {}
        first = next(iter(metrics), None)
        difference = metrics[first]["bootstrap"]["difference"] if first else {}
        low, high = difference.get("percentile") or (None, None)
        shown = f"{difference['estimate']:+.4f} [{low:+.4f}, {high:+.4f}]" if low is not None else "–"
        rows.append(
            (
                text(pair["name_a"]),
                text(pair["name_b"]),
                Cell(shown, difference.get("estimate")),
                number(pair.get("p_value"), ".3g"),
                number(pair.get("p_holm"), ".3g"),
            )
        )
    name = f"comparison_{slug(folder.parent.parent.name)}_{slug(folder.parent.name)}"
    header = ("a", "b", "a − b [95 %]", "McNemar p", "p, Holm")
    summary = folder.parent / "comparison.md"
    blocks: list[Block] = [Table(name, f"Stored comparison on {content['split']}", header, tuple(rows), made)]
    if summary.is_file():
        blocks.append(
            Stored(f"Stored comparison {folder.parent.name}", inputs.names.clean(summary.read_text("utf-8")), made)
        )
    return blocks


def _study_table() -> Table:
    rows = tuple((text(name), cell) for name, cell in study_tests().items())
    return Table(
        "study_tests",
        "The study's tests, computed again from its counts",
        ("quantity", "value"),
        rows,
        origin([]),
        note="From the counts and confusion matrices of its notebooks, with this package's statistics.",
        covers=("T02",),
    )
