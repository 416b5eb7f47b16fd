"""All systems by validation, what they cost, and how two of them differ; folds behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agnews_exp.analyses.findings import Block, Column, Missing, Number, Table, Text
from agnews_exp.core.errors import AgnewsError
from agnews_exp.drawing import Chart, Series
from agnews_exp.evaluation.efficiency import cost_per_thousand
from agnews_exp.evaluation.metrics import METRICS
from agnews_exp.report.answer import costs
from agnews_exp.report.blocks import BOOTSTRAP, Section, filled, intervals, origin, renamed, run_score, score, slug
from agnews_exp.report.inputs import Inputs
from agnews_exp.report.systems import RESAMPLES, System

_DRAWN, _FOLDED_RUNS = 15, 10


def models(inputs: Inputs) -> Section:
    """Return all systems by validation, and behind them test scores, folds and tests."""
    more: list[Block] = [_final_table(inputs)]
    if (folds := _fold_scores(inputs)) is not None:
        more.append(folds)
    alone = Missing("One system alone cannot be compared.", "python run.py model=logreg")
    more += [alone] if (pair := leading_pair(inputs)) is None else compared(*pair)
    more += [_stored(path.parent.name, content) for path, content in inputs.comparisons]
    return Section("models", "Models", (_chart(inputs), _table(inputs)), tuple(more))


def _chart(inputs: Inputs) -> Chart:
    shown = inputs.systems[:_DRAWN]
    values, lows, highs = intervals(shown, "val/macro_f1")
    more = f" The first {_DRAWN} of {len(inputs.systems)}." if len(inputs.systems) > _DRAWN else ""
    return Chart(
        "systems", "Systems by macro-F1 on validation", "dots", "macro-F1 on validation", "",
        (Series("validation", values, tuple(system.label for system in shown), lows, highs),),
        origin([system.first for system in shown], ("val",)), BOOTSTRAP + more,
        "Systems whose bars overlap widely are hardly told apart; the list of the tied ones is in the answer.",
    )  # fmt: skip


def _table(inputs: Inputs) -> Block:
    tied, own = set(inputs.tied), inputs.own_metrics
    rows = [
        (
            system.label, score(system, "val/macro_f1"), "yes" if system in tied else "", system.spread("val/macro_f1"),
            *(system.mean(f"val/{name}") for name in own), system.mean("cv/macro_f1"), *costs(system),
            system.first.timings.get("fit"), len(system.runs), system.first.fraction,
        )
        for system in inputs.systems
    ]  # fmt: skip
    columns: tuple[Column | str, ...] = (
        "system", Column("validation macro-F1 [95 %]", "metric"), "tied with the best",
        Column("sd over seeds", "metric"), *(Column(f"validation {title}", "metric") for title in own.values()),
        Column("macro-F1 over folds", "metric"), Column("texts/s", "count"),
        Column("size, MB", ".1f"), Column("fit", "time"), Column("seeds", "count"), Column("data fraction", "number"),
    )  # fmt: skip
    runs = [run for system in inputs.systems for run in system.runs]
    title, made = "All systems, the best on validation first", origin(runs, ("val",))
    return filled(Table("systems_table", title, columns, tuple(rows), provenance=made))


def _final_table(inputs: Inputs) -> Block:
    own, beside = inputs.own_metrics, METRICS[inputs.runs[0].task.beside]
    rows = []
    for s in inputs.systems:
        scores = [run_score(s.first, f"test/{name}") for name in ("macro_f1", beside.name)]
        rows.append((s.label, *scores, *(s.mean(f"test/{name}") for name in own), s.spread("test/macro_f1")))
    columns: tuple[Column | str, ...] = (
        "system", Column("test macro-F1 [95 %]", "metric"), Column(f"test {beside.title} [95 %]", "metric"),
        *(Column(f"test {title}", "metric") for title in own.values()), Column("sd over seeds", "metric"),
    )  # fmt: skip
    note = "In the order of validation, which chose. Intervals are of the run of the lowest seed."
    made = origin([run for system in inputs.systems for run in system.runs])
    title = "Final evaluation of all systems on the test rows"
    return filled(Table("final_evaluation", title, columns, tuple(rows), provenance=made, note=note))


def _fold_scores(inputs: Inputs) -> Chart | None:
    found = sorted(
        (s for s in inputs.systems if s.first.folds.get("macro_f1")), key=lambda s: -s.first.metrics["cv/macro_f1"]
    )
    shown = found[:_FOLDED_RUNS]
    if not shown:
        return None
    series = tuple(Series(f"{s.label} ({s.first.n_folds} folds)", tuple(s.first.folds["macro_f1"])) for s in shown)
    return Chart(
        "fold_scores", "Scores by fold", "box", "macro-F1 of one fold", "", series,
        origin([s.first for s in shown], ("cv",)),
        "Box: quartiles and median over the folds; folds share training rows.",
        f"The spread of each box is what another fold changes; the {len(shown)} best over folds.",
    )  # fmt: skip


def leading_pair(inputs: Inputs) -> tuple[System, System] | None:
    """Return the best transformer and the best classical system by validation, else the two best systems."""
    one, other = inputs.best_of("transformer"), inputs.best_of("classical")
    if one is not None and other is not None:
        return one, other
    clean = [system for system in inputs.systems if not system.fits_on_validation]
    return (clean[0], clean[1]) if len(clean) > 1 else None


def compared(one: System, other: System) -> list[Block]:
    """Return the paired comparison of two systems' test answers, as ``agnews compare`` has it."""
    from agnews_exp.compare.comparison import compare_runs, load_comparable
    from agnews_exp.compare.findings import comparison_findings

    if one.first.answers("test") is None or other.first.answers("test") is None:
        return [Missing("The stored test answers of the leading systems are gone.", f"{one.first.command} force=true")]
    made = origin([one.first, other.first], command=f"agnews compare {one.first.short} {other.first.short}")
    try:
        loaded = load_comparable([one.first.folder, other.first.folder], "test")
    except AgnewsError as error:
        return [Text(f"No paired tests: {error.message}")]
    found = compare_runs(loaded, resamples=RESAMPLES, seed=0)
    effect = found.pairs[0].effect
    said = f"Cohen's g {effect.cohens_g.estimate:.3f}; reduction of errors {effect.error_reduction:.1%}."
    blocks = (renamed(block, "pair", one.first.names) for block in comparison_findings(found, loaded).blocks)
    return [*(replace(b, provenance=made) if isinstance(b, Chart | Table) else b for b in blocks), Text(said)]


def _stored(name: str, content: Mapping[str, Any]) -> Block:
    rows = []
    for pair in content["pairs"]:
        difference: Mapping[str, Any] = next(
            (m["bootstrap"]["difference"] for m in (pair.get("metrics") or {}).values()), {}
        )
        ends = difference.get("percentile") or (None, None)
        estimate = Number(difference.get("estimate"), "change", *ends)
        rows.append((pair["name_a"], pair["name_b"], estimate, pair.get("p_value"), pair.get("p_holm")))
    columns: tuple[Column | str, ...] = (
        "a",
        "b",
        Column("a - b [95 %]", "change"),
        Column("p", "p"),
        Column("p, Holm", "p"),
    )
    made = f"Comparison {name}; split {content['split']}, {content['n_items']:,} rows; command: agnews compare."
    title = f"Stored comparison on {content['split']}"
    return Table(f"comparison_{slug(name)}", title, columns, tuple(rows), provenance=made)


def cost(inputs: Inputs) -> Section:
    """Return the scatter of score and time, and the table of costs."""
    measured = [system for system in inputs.systems if system.first.metrics.get("throughput_batch")]
    first: Block = _scatter(measured) if measured else Missing("No run has measured its speed.", "agnews bench RUN")
    return Section("cost", "Cost", (first, _cost_table(inputs)))


def _scatter(measured: list[System]) -> Chart:
    families: dict[str, list[tuple[float, float, float | None, float | None, str]]] = {}
    for system in measured:
        value, low, high = system.joint_interval("val/macro_f1")
        milliseconds = 1000 * system.cost
        said = f"{system.label}: {milliseconds:.3g} ms a text, macro-F1 {value:.4f}"
        families.setdefault(system.first.family, []).append((milliseconds, value or 0.0, low, high, said))
    series = []
    for family, points in families.items():
        x, y, lows, highs, texts = zip(*points, strict=True)
        series.append(Series(family, x, y, lows, highs, texts))
    return Chart(
        "accuracy_cost", "Score against cost", "points",
        "milliseconds a text in batches (logarithmic; features included)",
        "macro-F1 on validation", tuple(series), origin([system.first for system in measured], ("val",)),
        "Bars: 95 % intervals over the validation rows or seeds; times are single measurements on one machine.",
        "Up is better, left is cheaper: what lies below and to the right of another mark is not worth its cost.",
        log_x=True,
    )  # fmt: skip


def _cost_table(inputs: Inputs) -> Table:
    names = ("throughput_batch", "latency_single_ms", "latency_p95_ms_1", "model_size_mb", "peak_memory_mb")
    rows = [
        (s.label, score(s, "val/macro_f1"), *map(s.first.metrics.get, names), cost_per_thousand(s.first.metrics),
         s.first.timings.get("fit"), s.first.fraction)
        for s in inputs.systems
    ]  # fmt: skip
    columns: tuple[Column | str, ...] = (
        "system", Column("validation macro-F1 [95 %]", "metric"), Column("texts/s in batches", "count"),
        Column("ms for one text", ".2f"), Column("p95 ms for one text", ".2f"), Column("size, MB", ".1f"),
        Column("peak memory, MB", "count"), Column("cost of 1,000 texts", "number"),
        Column("fit", "time"), Column("data fraction", "number"),
    )  # fmt: skip
    note = "Vectorising included; other work on the machine slows times."
    made = origin([s.first for s in inputs.systems], ("train", "val"))
    return filled(Table("efficiency_table", "What systems cost", columns, tuple(rows), provenance=made, note=note))
