"""A comparison as Markdown, for the terminal, the file and MLflow."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from agnews_exp.config.cells import markdown_cell, without_markup
from agnews_exp.evaluation.statistics import (
    AgreementTable,
    BlockComparison,
    BlockPair,
    BootstrapInterval,
    ComparisonResult,
    FriedmanTest,
)

if TYPE_CHECKING:
    from agnews_exp.reporting.comparison import ComparedRuns, Comparison

MOST_SENTENCES = 6
"""Verdicts on more pairs are one line, not a sentence each."""

MOST_CLASSES = 10
"""Of more classes the agreement of single answers is in comparison.json only."""


def to_markdown(found: Comparison, compared: ComparedRuns) -> str:
    """Return all tables, verdicts and notes; models are lettered, so that the tables stay narrow."""
    letters = dict(zip(compared.predictions, _letters(), strict=False))
    lines = [f"## Comparison on {len(compared.labels):,} {compared.split} rows", "", *_models(found.pairs, letters)]
    lines += ["", *_metrics(found.pairs, letters), "", *_items(found.pairs, letters)]
    if len(found.pairs) == 1:
        lines += ["", *_classes(found.pairs[0], letters)]
        lines += ["", *_agreement(found.agreements[0], found.pairs[0], compared.class_names, letters)]
    for block in found.blocks:
        lines += ["", *_block(block, letters)]
    lines += ["", "### Verdict", "", *(f"- {verdict}" for verdict in _verdicts(found, letters))]
    notes = [note for pair in found.pairs for note in pair.notes] + [n for b in found.blocks for n in b.notes]
    if compared.folds is not None:
        notes.insert(
            0,
            "Out-of-fold answers come from one model a fold. Tests over items take them as one fixed model's and leave"
            " out that training rows vary; the verdict is that over folds.",
        )
    if len(found.pairs) > 1:
        notes.append(
            f"Holm and BH adjust over these {len(found.pairs)} pairs, for each table by itself. Intervals are for one"
            " pair each and not adjusted: one may leave out zero where the adjusted test finds no difference."
        )
    lines += ["", "### Notes", "", *(f"- {note}" for note in dict.fromkeys([*compared.notes, *notes]))]
    return without_markup("\n".join(lines)) + "\n"


def _verdicts(found: Comparison, letters: Mapping[str, str]) -> list[str]:
    """Return a sentence a pair, or, for many pairs, who is told apart and who is not.

    Over the folds of a cross-validation the tests over items have no verdict: they leave out that training rows vary.
    """
    over = found.blocks[0] if found.blocks else None
    items = [] if over is not None and over.kind == "folds" else found.pairs
    if len(found.pairs) <= MOST_SENTENCES:
        return [pair.verdict for pair in items] + ([over.verdict(pair) for pair in over.pairs] if over else [])
    lines = []
    if items:
        differences = [(pair, pair.effect.risk_difference.estimate) for pair in items]
        lines.append(_orders("accuracy, McNemar over items", differences, items[0].alpha, letters))
    if over is not None:
        tests = [(pair, pair.test.difference) for pair in over.pairs]
        lines.append(_orders(f"{over.metric} over {over.kind}", tests, over.alpha, letters))
    return lines


def _orders(
    what: str, pairs: Sequence[tuple[ComparisonResult | BlockPair, float]], alpha: float, letters: Mapping[str, str]
) -> str:
    told, alike = [], []
    for pair, difference in pairs:
        a, b = letters[pair.name_a], letters[pair.name_b]
        if pair.p_holm > alpha:
            alike.append(f"{a} {b}")
        else:
            told.append(f"{a} > {b}" if difference > 0 else f"{b} > {a}")
    apart, together = (", ".join(names) or "none" for names in (told, alike))
    return f"{what}: told apart (Holm, {alpha:g}): {apart}; not told apart: {together}."


def _letters() -> Iterable[str]:
    yield from string.ascii_uppercase
    yield from (a + b for a in string.ascii_uppercase for b in string.ascii_uppercase)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> list[str]:
    """Return the lines of a table whose first ``left`` columns hold words."""
    rule = [*[" --- "] * left, *[" ---: "] * (len(header) - left)]
    body = ["| " + " | ".join(markdown_cell(str(cell)) for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(map(markdown_cell, header)) + " |", "|" + "|".join(rule) + "|", *body]


def _interval(value: float, ends: tuple[float, float], sign: bool = False) -> str:
    form = "+.4f" if sign else ".4f"
    return f"{value:{form}} [{ends[0]:{form}}, {ends[1]:{form}}]"


def _pair(pair: ComparisonResult | BlockPair, letters: Mapping[str, str]) -> str:
    return f"{letters[pair.name_a]} − {letters[pair.name_b]}"


def _models(pairs: Sequence[ComparisonResult], letters: Mapping[str, str]) -> list[str]:
    metrics = list(pairs[0].metrics)
    cells: dict[str, dict[str, BootstrapInterval]] = {name: {} for name in letters}
    for pair in pairs:
        for metric, compared in pair.metrics.items():
            cells[pair.name_a].setdefault(metric, compared.bootstrap.a)
            cells[pair.name_b].setdefault(metric, compared.bootstrap.b)
    rows = [
        [letters[name], name, *(_interval(found[m].estimate, found[m].bca) for m in metrics)]
        for name, found in cells.items()
        if found
    ]
    return _table(["", "model", *(f"{metric} [95 %, BCa]" for metric in metrics)], rows, 2)


def _metrics(pairs: Sequence[ComparisonResult], letters: Mapping[str, str]) -> list[str]:
    rows = []
    for pair in pairs:
        for metric, m in pair.metrics.items():
            d = m.bootstrap.difference
            rows.append(
                [_pair(pair, letters), metric, _interval(d.estimate, d.bca, True), f"{m.randomisation.p_value:.2g}"]
            )
    return _table(["pair", "metric", "difference [95 %, BCa]", "randomisation p"], rows, 2)


def _items(pairs: Sequence[ComparisonResult], letters: Mapping[str, str]) -> list[str]:
    counts, tests = [], []
    for r in pairs:
        c, odds = r.counts, r.effect.discordant_odds_ratio
        ratio = f"{odds.estimate:.2f} [{odds.low:.2f}, {odds.high:.2f}]"
        counts.append([_pair(r, letters), c.both_right, c.only_a, c.only_b, c.both_wrong, ratio])
        p_values = (*(r.mcnemar[m].p_value for m in ("mid_p", "exact", "corrected")), r.p_holm, r.p_benjamini_hochberg)
        tests.append([_pair(r, letters), *(f"{p:.2g}" for p in p_values)])
    header = ["pair", "both right", "only 1st", "only 2nd", "both wrong", "only 1st / only 2nd [95 %]"]
    p_header = ["pair", "McNemar mid-p", "exact", "corrected", "mid-p, Holm", "mid-p, BH"]
    return [*_table(header, counts), "", *_table(p_header, tests)]


def _classes(pair: ComparisonResult, letters: Mapping[str, str]) -> list[str]:
    a, b = letters[pair.name_a], letters[pair.name_b]
    rows = [
        (
            t.class_name,
            *(f"{recall:.4f}" for recall in (t.recall_a, t.recall_b)),
            *(t.counts.only_a, t.counts.only_b),
            *(f"{p:.2g}" for p in (t.p_value, t.p_holm)),
        )
        for t in pair.by_class
    ]
    return _table(["class", f"recall {a}", f"recall {b}", f"only {a}", f"only {b}", "mid-p", "Holm"], rows)


def _agreement(
    table: AgreementTable, pair: ComparisonResult, class_names: Sequence[str], letters: Mapping[str, str]
) -> list[str]:
    a, b = letters[pair.name_a], letters[pair.name_b]
    rows = [
        (r.class_name, r.both_right, r.only_a, r.only_b, r.same_wrong, r.different_wrong, f"{r.agreement:.2%}")
        for r in table.by_class
    ]
    header = ["true class", "both right", f"only {a}", f"only {b}", "same wrong", "different wrong", "same answer"]
    lines = ["### Agreement", "", *_table(header, rows), ""]
    if len(class_names) <= MOST_CLASSES:
        answers = [[f"{a}: {n}", *row] for n, row in zip(class_names, table.answers.tolist(), strict=True)]
        lines += [*_table(["answers", *(f"{b}: {name}" for name in class_names)], answers), ""]
    lines.append(
        f"Cohen's kappa of the answers {table.kappa:.3f}. Of the items that either gets wrong,"
        f" {table.shared_errors:.1%} are wrong in both"
        f" ({table.shared_errors_by_chance:.1%} if errors were independent)."
    )
    return lines


def _block(block: BlockComparison, letters: Mapping[str, str]) -> list[str]:
    import statistics

    lines = [f"### {block.metric} over {block.kind}", ""]
    rows = []
    for name, scores in block.scores.items():
        values = list(scores.values())
        spread = f"{statistics.stdev(values):.4f}"
        rows.append([letters[name], len(values), f"{statistics.fmean(values):.4f}", spread, *_ends(values)])
    lines += [*_table(["model", block.kind, "mean", "s.d.", "lowest", "highest"], rows), ""]
    over_folds = block.kind == "folds"
    test = "Nadeau-Bengio" if over_folds else "Welch"
    header = ["pair", "difference [95 %]", "t", f"{test} p", "Holm", "BH", *(["Wilcoxon p"] if over_folds else [])]
    tests: list[list[str]] = []
    for pair in block.pairs:
        cells = [_pair(pair, letters), _interval(pair.test.difference, pair.test.interval, True)]
        cells += [f"{pair.test.statistic:.2f}", f"{pair.test.p_value:.2g}", f"{pair.p_holm:.2g}"]
        cells += [f"{pair.p_benjamini_hochberg:.2g}"]
        tests.append([*cells, f"{pair.wilcoxon.p_value:.2g}"] if pair.wilcoxon else cells)
    lines += _table(header, tests)
    return [*lines, "", *_friedman(block.friedman, letters)] if block.friedman else lines


def _ends(values: Sequence[float]) -> list[str]:
    return [f"{min(values):.4f}", f"{max(values):.4f}"]


def _friedman(test: FriedmanTest, letters: Mapping[str, str]) -> list[str]:
    order = sorted(zip(test.mean_ranks, test.names, strict=True))
    ranks = ", ".join(f"{letters[name]} {rank:.2f}" for rank, name in order)
    groups = "; ".join(" ".join(letters[name] for name in group) for group in test.groups) or "none"
    return [
        f"Friedman χ² = {test.statistic:.2f}, p = {test.p_value:.2g} (Iman-Davenport F ="
        f" {test.iman_davenport_statistic:.2f}, p = {test.iman_davenport_p_value:.2g}); Kendall's W ="
        f" {test.kendall_w:.2f}. Mean ranks, 1 the best: {ranks}. Nemenyi's critical difference"
        f" {test.critical_difference:.2f}; not told apart: {groups}."
    ]
