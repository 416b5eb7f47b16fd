"""Findings of a comparison: verdicts, tables of lettered models, charts of differences, folds and ranks."""

from __future__ import annotations

import itertools
import math
import statistics
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agnews_exp.analyses.findings import Block, Cell, Column, Columns, Findings, Number, Table, Text, to_markdown
from agnews_exp.core.files import atomic_path
from agnews_exp.drawing import Chart, Series, save
from agnews_exp.evaluation.efficiency import cost_per_thousand
from agnews_exp.evaluation.tasks import task_of
from agnews_exp.tracking.record import write_json

if TYPE_CHECKING:
    from agnews_exp.compare.comparison import ComparedRuns, Comparison
    from agnews_exp.evaluation.statistics.bootstrap import BootstrapInterval
    from agnews_exp.evaluation.statistics.comparison import ComparisonResult
    from agnews_exp.evaluation.statistics.effect_size import AgreementTable
    from agnews_exp.evaluation.statistics.resampled import BlockComparison, BlockPair

MOST_SENTENCES = 6
"""Verdicts on more pairs are one line, not a sentence each."""

MOST_CLASSES = 10
"""Of more classes the agreement of single answers is in comparison.json only."""

Letters = Mapping[str, str]


def comparison_findings(found: Comparison, compared: ComparedRuns) -> Findings:
    """Return all verdicts, tables, charts and notes; models are lettered, so that the tables stay narrow."""
    letters = dict(zip(compared.predictions, _letters(), strict=False))
    verdicts = _verdicts(found, letters)
    blocks: list[Block] = [
        *(Text(verdict, "Verdict" if not place else "") for place, verdict in enumerate(verdicts)),
        _models(found.pairs, letters, compared.metrics),
        _metrics(found.pairs, letters),
        *_items(found.pairs, letters),
        _differences(found.pairs, f"{len(compared.labels):,} {compared.split} rows"),
    ]
    if len(found.pairs) == 1:
        blocks.append(_classes(found.pairs[0], letters, task_of(compared.labels).of_class_title))
        for agreement in found.agreements:
            blocks += _agreement(agreement, found.pairs[0], compared.class_names, letters)
    for block in found.blocks:
        blocks += _block(block, letters)
    notes = [note for pair in found.pairs for note in pair.notes] + [n for b in found.blocks for n in b.notes]
    if compared.folds is not None:
        notes.insert(
            0,
            "Out-of-fold answers come from one model a fold. Tests over items take them as one fixed model's and leave"
            " out that training rows vary; the verdict is that over folds.",
        )
    if len(found.pairs) > 1:
        notes.append(
            f"Holm and BH adjust over these {len(found.pairs)} pairs, for each table by itself. The intervals of"
            " verdicts and of the figure hold for all pairs at once (max-T); those in tables are for one pair each."
        )
    said = dict.fromkeys([*compared.notes, *notes])
    blocks += [Text(note, "Notes" if not place else "") for place, note in enumerate(said)]
    return Findings(verdicts[0] if verdicts else "", tuple(blocks))


def write_comparison(folder: Path, found: Comparison, compared: ComparedRuns) -> Findings:
    """Write comparison.md, comparison.json and the charts as PNG into a folder; return the findings."""
    findings = comparison_findings(found, compared)
    content = {
        "split": compared.split,
        "n_items": len(compared.labels),
        "runs": {name: str(path) for name, path in compared.folders.items()},
        "notes": list(compared.notes),
        "pairs": [
            pair.to_dict()
            | {"outcome": pair.outcome, "verdict": pair.verdict}
            | ({} if agreement is None else {"agreement_table": agreement.to_dict()})
            for pair, agreement in itertools.zip_longest(found.pairs, found.agreements)
        ],
        "blocks": [block.to_dict() for block in found.blocks],
    }
    write_json(folder / "comparison.json", content)
    title = f"# Comparison on {len(compared.labels):,} {compared.split} rows\n\n"
    with atomic_path(folder / "comparison.md") as temporary:
        temporary.write_text(title + to_markdown(findings.blocks, figures="") + "\n", encoding="utf-8")
    for block in findings.blocks:
        if isinstance(block, Chart):
            save(block, folder / f"{block.name}.png")
    return findings


def _verdicts(found: Comparison, letters: Letters) -> list[str]:
    """Return a sentence on each pair, or, for many pairs, which of them differ significantly and which do not.

    Over the folds of a cross-validation the tests over items have no verdict: they leave out that training rows vary.
    """
    over = found.blocks[0] if found.blocks else None
    items = [] if over is not None and over.kind == "folds" else found.pairs
    if len(found.pairs) <= MOST_SENTENCES:
        return [pair.verdict for pair in items] + ([over.verdict(pair) for pair in over.pairs] if over else [])
    lines = []
    if items:
        what = f"{items[0].primary}, {items[0].test} over items"
        lines.append(_orders(what, [(pair, pair.difference) for pair in items], items[0].alpha, letters))
    if over is not None:
        tests = [(pair, pair.test.difference) for pair in over.pairs]
        lines.append(_orders(f"{over.metric} over {over.kind}", tests, over.alpha, letters))
    return lines


def _orders(
    what: str, pairs: Sequence[tuple[ComparisonResult | BlockPair, float]], alpha: float, letters: Letters
) -> str:
    told: list[str] = []
    same: list[str] = []
    alike: list[str] = []
    for pair, difference in pairs:
        a, b = letters[pair.name_a], letters[pair.name_b]
        if pair.p_holm <= alpha:
            told.append(f"{a} > {b}" if difference > 0 else f"{b} > {a}")
        else:
            (same if pair.p_equivalent <= alpha else alike).append(f"{a} {b}")
    apart, equal, together = (", ".join(names) or "none" for names in (told, same, alike))
    return f"{what}: different (Holm, {alpha:g}): {apart}; equivalent: {equal}; not told apart: {together}."


def _letters() -> Iterable[str]:
    yield from string.ascii_uppercase
    yield from (a + b for a in string.ascii_uppercase for b in string.ascii_uppercase)


def _pair(pair: ComparisonResult | BlockPair, letters: Letters) -> str:
    return f"{letters[pair.name_a]} − {letters[pair.name_b]}"


def _models(pairs: Sequence[ComparisonResult], letters: Letters, metrics: Mapping[str, Mapping[str, float]]) -> Table:
    """Return every model's scores with intervals, its speed, and what 1,000 answers cost where that is known."""
    cells: dict[tuple[str, str], BootstrapInterval] = {}
    for pair in pairs:
        for metric, m in pair.metrics.items():
            cells.setdefault((pair.name_a, metric), m.bootstrap.a)
            cells.setdefault((pair.name_b, metric), m.bootstrap.b)
    rows = tuple(
        (
            letters[name], name, metric, Number(of.estimate, "metric", *of.percentile),
            metrics.get(name, {}).get("throughput_batch"), cost_per_thousand(metrics.get(name, {})),
        )
        for (name, metric), of in sorted(cells.items(), key=lambda item: list(letters).index(item[0][0]))
    )  # fmt: skip
    columns = ("", "model", "metric", "value [95 %]", Column("texts/s", ",.1f"), Column("cost/1,000 texts", "number"))
    kept = [i for i in range(len(columns)) if i < 4 or any(row[i] is not None for row in rows)]
    return Table(
        "models", "Models", tuple(columns[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in rows)
    )  # fmt: skip


def _metrics(pairs: Sequence[ComparisonResult], letters: Letters) -> Table:
    rows = []
    for pair in pairs:
        for metric, m in pair.metrics.items():
            d = m.bootstrap.difference
            rows.append(
                (_pair(pair, letters), metric, Number(d.estimate, "change", *d.percentile), m.randomisation.p_value)
            )
    columns = ("pair", "metric", "difference [95 %]", Column("randomisation p", "p"))
    return Table("differences", "Differences", columns, tuple(rows))


def _items(pairs: Sequence[ComparisonResult], letters: Letters) -> list[Block]:
    counts: list[tuple[Cell, ...]] = []
    verdicts: list[tuple[Cell, ...]] = []
    tests: list[tuple[Cell, ...]] = []
    for r in pairs:
        c, odds = r.counts, r.effect.discordant_odds_ratio
        ratio = Number(odds.estimate, ".2f", odds.low, odds.high)
        counts.append((_pair(r, letters), c.both_right, c.only_a, c.only_b, c.both_wrong, ratio))
        verdicts.append((_pair(r, letters), r.outcome, r.p_holm, r.p_benjamini_hochberg, r.p_equivalent))
        tests.append((_pair(r, letters), *(r.mcnemar[m].p_value for m in ("mid_p", "exact", "corrected"))))
    header = ("pair", "both right", "only 1st", "only 2nd", "both wrong", "only 1st / only 2nd [95 %]")

    def columns(*names: str) -> Columns:
        return ("pair", *(Column(name, "p") for name in names))

    margin = pairs[0].metrics[pairs[0].primary].bootstrap.margin
    note = f"Holm, BH: {pairs[0].test} of {pairs[0].primary}, adjusted. Equivalent: TOST within {margin:g}, Holm."
    return [
        Table("verdicts", "Verdicts", ("pair", "verdict", *columns("Holm", "BH", "equivalent")[1:]), tuple(verdicts),
              note=note),
        Table("items", "Who is right", header, tuple(counts)),
        Table("tests", f"Tests of {pairs[0].right_share} over items (McNemar), not adjusted",
              columns("mid-p", "exact", "corrected"), tuple(tests)),
    ]  # fmt: skip


def _classes(pair: ComparisonResult, letters: Letters, share: str) -> Table:
    a, b = letters[pair.name_a], letters[pair.name_b]
    rows = tuple(
        (t.class_name, t.recall_a, t.recall_b, t.counts.only_a, t.counts.only_b, t.p_value, t.p_holm)
        for t in pair.by_class
    )
    columns = (
        "class", Column(f"{share} {a}", "metric"), Column(f"{share} {b}", "metric"), f"only {a}", f"only {b}",
        Column("mid-p", "p"), Column("Holm", "p"),
    )  # fmt: skip
    return Table("classes", "Classes", columns, rows)


def _agreement(
    table: AgreementTable, pair: ComparisonResult, class_names: Sequence[str], letters: Letters
) -> list[Block]:
    a, b = letters[pair.name_a], letters[pair.name_b]
    rows = tuple(
        (r.class_name, r.both_right, r.only_a, r.only_b, r.same_wrong, r.different_wrong, r.agreement)
        for r in table.by_class
    )
    columns = (
        "true class", "both right", f"only {a}", f"only {b}", "same wrong", "different wrong",
        Column("same answer", ".2%"),
    )  # fmt: skip
    blocks: list[Block] = [Table("agreement", "Agreement", columns, rows)]
    if len(class_names) <= MOST_CLASSES:
        answers = tuple((f"{a}: {n}", *row) for n, row in zip(class_names, table.answers.tolist(), strict=True))
        blocks.append(Table("answers", "Answers", ("answers", *(f"{b}: {name}" for name in class_names)), answers))
    said = f"Cohen's kappa of the answers {table.kappa:.3f}."
    if math.isfinite(table.shared_errors):
        said += (
            f" Of the items that either gets wrong, {table.shared_errors:.1%} are wrong in both"
            f" ({table.shared_errors_by_chance:.1%} if errors were independent)."
        )
    return [*blocks, Text(said)]


def _block(block: BlockComparison, letters: Letters) -> list[Block]:
    rows: list[tuple[Cell, ...]] = []
    for name, scores in block.scores.items():
        values = list(scores.values())
        spread = statistics.fmean(values), statistics.stdev(values), min(values), max(values)
        rows.append((letters[name], len(values), *spread))
    columns: Columns = (
        "model",
        block.kind,
        *(Column(name, "metric") for name in ("mean", "s.d.", "lowest", "highest")),
    )
    key, title = f"{block.kind}_{block.metric.replace('/', '_')}", f"{block.metric} over {block.kind}"
    over_folds = block.kind == "folds"
    tests: list[tuple[Cell, ...]] = []
    for pair in block.pairs:
        difference = Number(pair.test.difference, "change", *pair.test.interval)
        cells = (_pair(pair, letters), difference, pair.test.statistic, pair.test.p_value, pair.p_holm)
        tests.append((*cells, pair.p_benjamini_hochberg, pair.p_equivalent))
    names = (
        "Nadeau-Bengio p" if over_folds else "p",
        "Holm",
        "BH",
        "equivalent",
    )
    test_columns: Columns = ("pair", "difference [95 %]", Column("t", ".2f"), *(Column(name, "p") for name in names))
    blocks: list[Block] = [
        Table(f"{key}_scores", title, columns, tuple(rows)),
        *([Table(f"{key}_tests", f"Tests of {title}", test_columns, tuple(tests))] if tests else []),
        Chart(
            key, title, "box", block.metric, "",
            tuple(Series(name, tuple(scores.values())) for name, scores in block.scores.items()),
            intervals=f"Each small mark is one of the {block.kind}; box: quartiles, line: median, mark: mean.",
        ),
    ]  # fmt: skip
    return [*blocks, *_ranks(block, letters)]


def _ranks(block: BlockComparison, letters: Letters) -> list[Block]:
    """Return Friedman's test in words, and mean ranks with half a critical difference to either side (Demsar 2006)."""
    test = block.friedman
    if test is None:
        return []
    order = sorted(zip(test.mean_ranks, test.names, strict=True))
    ranks = ", ".join(f"{letters[name]} {rank:.2f}" for rank, name in order)
    groups = "; ".join(" ".join(letters[name] for name in group) for group in test.groups) or "none"
    said = (
        f"Friedman χ² = {test.statistic:.2f}, p = {Number(test.p_value, 'p')} (Iman-Davenport F ="
        f" {test.iman_davenport_statistic:.2f}, p = {Number(test.iman_davenport_p_value, 'p')}); Kendall's W ="
        f" {test.kendall_w:.2f}. Mean ranks, 1 the best: {ranks}. Nemenyi's critical difference"
        f" {test.critical_difference:.2f}; not told apart: {groups}."
    )
    half = test.critical_difference / 2
    places, names = zip(*order, strict=True)
    ends = tuple(rank - half for rank in places), tuple(rank + half for rank in places)
    chart = Chart(
        f"critical_difference_{block.metric.replace('/', '_')}", f"Mean ranks of {block.metric}", "dots",
        f"mean rank over {test.n_blocks} {block.kind}, 1 is best", "", (Series("mean rank", places, names, *ends),),
        intervals=f"Bars: half of Nemenyi's critical difference to either side (α = {test.alpha:g}).",
        caption="Models whose bars do not overlap are told apart.",
    )  # fmt: skip
    return [Text(said), chart]


def _differences(results: Sequence[ComparisonResult], rows: str) -> Chart:
    """Return each pair's difference of the first metric with its interval; zero is no difference."""
    metric = results[0].primary
    low, high = (tuple(r.interval[end] for r in results) for end in (0, 1))
    series = Series(
        "difference",
        tuple(r.difference for r in results),
        tuple(f"{r.name_a} − {r.name_b}" for r in results),
        low,
        high,
    )
    several = f" for all {len(results)} pairs at once (max-T)" if len(results) > 1 else ""
    return Chart(
        "comparison", f"Difference of {metric} on {rows}", "dots", f"difference of {metric}", "", (series,),
        intervals=f"Bars: 95 % intervals{several}.", caption="A bar that leaves out zero is a difference.",
        references=(("x", 0.0, "no difference"),),
    )  # fmt: skip
