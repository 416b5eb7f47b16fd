"""`agnews compare`: are these models different, by how much, and could this test set tell?"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.figures import new_figure, save_png
from agnews_exp.core.errors import ConfigError
from agnews_exp.core.files import atomic_path
from agnews_exp.core.text import markdown_cell, without_markup
from agnews_exp.evaluation.metrics import (
    Metric,
    Own,
    confusion_matrix,
    find_metric,
    margins_of_confusion,
    own_metrics,
    score_choice,
)
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics import (
    AgreementTable,
    BlockComparison,
    BlockPair,
    BootstrapInterval,
    ComparisonResult,
    FriedmanTest,
    agreement_table,
    compare_all,
    compare_folds,
    compare_seeds,
)
from agnews_exp.evaluation.stored_answers import class_columns, read_table
from agnews_exp.tracking.record import PREDICTIONS, RunFolder, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


BLUE, GREY = "#0072B2", "#767676"


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    return figure, figure.add_subplot()


def draw_differences(path: Path, results: Sequence[ComparisonResult], rows: str) -> None:
    """Draw each pair's difference of the first metric with its interval; zero is no difference.

    Args:
        path: PNG.
        results: The pairs.
        rows: What they were judged on, such as ``7,600 test rows``.
    """
    metric = next(iter(results[0].metrics))
    figure, axes = _canvas(8, 1.4 + 0.5 * len(results))
    for at, r in enumerate(reversed(results)):
        difference = r.metrics[metric].bootstrap.difference
        low, high = difference.bca
        colour, marker = (GREY, "s") if low <= 0 <= high else (BLUE, "o")
        error = [[difference.estimate - low], [high - difference.estimate]]
        axes.errorbar(difference.estimate, at, xerr=error, color=colour, fmt=marker, capsize=4)
    axes.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(results)), [f"{r.name_a}\n− {r.name_b}" for r in reversed(results)], fontsize=9)
    axes.set_ylim(-0.6, len(results) - 0.4)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(f"difference of {metric}, {rows}")
    several = f", not adjusted for {len(results)} pairs" if len(results) > 1 else ""
    axes.set_title(f"95 % BCa intervals{several}; circle: leaves out zero", fontsize=9, loc="left")
    save_png(figure, path)


def draw_blocks(path: Path, block: BlockComparison) -> None:
    """Draw every model's score in each fold or with each seed, and its mean; folds, being pairs, are joined."""
    names = list(block.scores)
    figure, axes = _canvas(8, 1.5 + 0.42 * len(names))
    places = range(len(names) - 1, -1, -1)
    if block.kind == "folds":
        for fold in block.scores[names[0]]:
            axes.plot([block.scores[n][fold] for n in names], places, color="#BBBBBB", linewidth=0.8, zorder=1)
    for at, name in zip(places, names, strict=True):
        values = list(block.scores[name].values())
        axes.scatter(values, [at] * len(values), s=22, facecolors="none", edgecolors=BLUE, zorder=2)
        axes.scatter(np.mean(values), at, s=90, marker="|", color="black", linewidths=2, zorder=3)
    axes.set_yticks(places, names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(f"{block.metric} (circle: one of the {block.kind}; bar: mean)")
    save_png(figure, path)


def draw_critical_difference(path: Path, test: FriedmanTest, block: BlockComparison) -> None:
    """Draw a critical-difference diagram (Demsar 2006): mean ranks, bars joining models that are not told apart."""
    order = sorted(zip(test.mean_ranks, test.names, strict=True))
    k, left = len(order), (len(order) + 1) // 2
    depth = 0.35 * len(test.groups) + 0.45
    figure, axes = _canvas(9, 1.5 + 0.3 * (depth + left))
    axes.set_axis_off()
    axes.set_xlim(1 - 0.55 * (k - 1), k + 0.55 * (k - 1))
    axes.set_ylim(-depth - left, 2.0)
    axes.plot([1, k], [0, 0], color="black", linewidth=1.2)
    for tick in range(1, k + 1):
        axes.plot([tick, tick], [0, 0.18], color="black", linewidth=1.2)
        axes.text(tick, 0.3, str(tick), ha="center", va="bottom", fontsize=9)
    end = min(1 + test.critical_difference, k + 0.5 * (k - 1))
    axes.plot([1, end], [1.25, 1.25], color="black", linewidth=1.2)
    for x in (1, end):
        axes.plot([x, x], [1.1, 1.4], color="black", linewidth=1.2)
    axes.text(
        (1 + end) / 2, 1.4, f"critical difference {test.critical_difference:.2f}", ha="center", va="bottom", fontsize=9
    )
    edge = 0.06 * (k - 1)
    for position, (rank, name) in enumerate(order):
        on_left = position < left
        y = -depth - 0.4 - (position if on_left else k - 1 - position)
        side = 1 - edge if on_left else k + edge
        axes.plot([rank, rank, side], [0, y, y], color=BLUE, linewidth=1)
        label, align = (f"{name}  {rank:.2f}", "right") if on_left else (f"{rank:.2f}  {name}", "left")
        gap = -0.02 * (k - 1) if on_left else 0.02 * (k - 1)
        axes.text(side + gap, y, label, ha=align, va="center", fontsize=9)
    ranks = {name: rank for rank, name in order}
    for number, group in enumerate(test.groups):
        y = -0.35 * (number + 1)
        ends = ranks[group[0]] - 0.02 * (k - 1), ranks[group[-1]] + 0.02 * (k - 1)
        axes.plot(ends, [y, y], color="black", linewidth=4, solid_capstyle="butt")
    axes.set_title(
        f"mean rank of {block.metric} over {test.n_blocks} {block.kind}, 1 is best; bars join models that Nemenyi's"
        f" test does not tell apart (α = {test.alpha:g})",
        fontsize=9,
    )
    save_png(figure, path)


Labels = NDArray[np.int64]

_NEEDED: tuple[str, ...] = (
    "name",
    "class_names",
    "group_fingerprint",
    "seed",
    "split_seed",
    "data_fraction",
    "data.checksum",
)
_NEEDED += ("data.evaluation_checksum", "data.source", "data.rows.val", "data.rows.test")


@dataclass(frozen=True, eq=False)
class ComparedRuns:
    """Predictions of several runs for the same rows.

    Attributes:
        labels: Shape (n,), true class indices.
        predictions: Each model's class indices by a name that tells the models apart.
        class_names: Name of class i at index i.
        split: ``test``, ``val``, or ``cv``.
        folders: The runs' folders by the same names.
        folds: Shape (n,), the fold that held each row out; None but for the split ``cv``.
        answers: The same models' answers with their probabilities.
        own: The user's own metrics that one of the runs was judged by.
        seeds: Each model's answers by seed, for models with several; empty unless two models have several.
        notes: What was chosen from the runs given.
    """

    labels: Labels
    predictions: dict[str, Labels]
    class_names: tuple[str, ...]
    split: str
    folders: dict[str, Path]
    folds: Labels | None = None
    answers: dict[str, Predictions] = field(default_factory=dict)
    own: Own = ()
    seeds: dict[str, dict[int, Predictions]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Comparison:
    """All that was found.

    Attributes:
        pairs: Tests over items, for every pair or all with a baseline.
        blocks: Tests over folds or seeds, one a metric; empty where there are neither.
        agreements: The agreement of each pair, in their order.
    """

    pairs: list[ComparisonResult]
    blocks: list[BlockComparison]
    agreements: list[AgreementTable]


@dataclass(frozen=True, eq=False)
class _Answers:
    """One run's stored answers for a split, in the order of the row ids; shapes (n,)."""

    run: RunFolder
    result: dict[str, Any]
    ids: Labels
    labels: Labels
    given: Predictions
    folds: Labels | None


def load_comparable(runs: Sequence[RunFolder], split: str) -> ComparedRuns:
    """Read the stored predictions of runs and check that they can be compared.

    Runs that differ in their seed only are one model with several seeds, provided that there is another model to
    compare it with.

    Raises:
        ConfigError: Fewer than two runs, other data, another split, other folds, or no predictions for this split.
        StorageError: A record is damaged.
    """
    if len(runs) < 2:
        raise ConfigError(
            f"A comparison needs at least two different finished runs, got {len(runs)}.",
            fix="name a second run; those of one sweep: agnews compare \"tags.sweep = '<name>'\"",
        )
    results = [run.needed_result(*_NEEDED) for run in runs]
    for run, result in zip(runs[1:], results[1:], strict=True):
        _check_same_rows(results[0], result, runs[0].path.name, run.path.name)
    answers = [_read(run, result, split) for run, result in zip(runs, results, strict=True)]
    for other in answers[1:]:
        _check_same_answers(answers[0], other, split)
    groups: dict[str, dict[int, _Answers]] = {}
    for answer in answers:
        groups.setdefault(str(answer.result["group_fingerprint"]), {})[int(answer.result["seed"])] = answer
    notes: list[str] = []
    models, seeds = answers, {}
    if len(groups) > 1 and any(len(group) > 1 for group in groups.values()):
        models = [_representative(group, groups.values()) for group in groups.values()]
        used = ", ".join(str(seed) for seed in dict.fromkeys(model.result["seed"] for model in models))
        notes.append(f"Tests over items compare one run a model, taken by its seed and not by its score: seed {used}.")
    names = _distinct_names(models)
    if models is not answers:
        repeated = {name: group for name, group in zip(names, groups.values(), strict=True) if len(group) > 1}
        if len(repeated) > 1:
            seeds = {n: {s: a.given for s, a in sorted(group.items())} for n, group in repeated.items()}
        for name in names:
            if name not in seeds:
                notes.append(f"{name} is left out of the tests over seeds: two models need several seeds each.")
    return ComparedRuns(
        labels=answers[0].labels,
        predictions={name: model.given.labels for name, model in zip(names, models, strict=True)},
        answers={name: model.given for name, model in zip(names, models, strict=True)},
        own=_own_metrics(results),
        class_names=tuple(results[0]["class_names"]),
        split=split,
        folders={name: model.run.path for name, model in zip(names, models, strict=True)},
        folds=answers[0].folds,
        seeds=seeds if split != "cv" else {},
        notes=tuple(notes),
    )


def _own_metrics(results: Sequence[dict[str, Any]]) -> Own:
    """Return the user's own metrics of stored runs whose modules are trusted and there; others cannot be computed."""
    targets = {name: entry["target"] for result in results for name, entry in result.get("own_metrics", {}).items()}
    found: list[Metric] = []
    for target in targets.values():
        with suppress(ConfigError):  # asking for it then says that it is unknown
            found += own_metrics([target])
    return found


def _representative(group: Mapping[int, _Answers], groups: Any) -> _Answers:
    """Return the run of the lowest seed that all models with several seeds have, or else of the lowest seed."""
    common = set.intersection(*(set(other) for other in groups if len(other) > 1))
    return group[min(common & set(group) or set(group))]


def _check_same_rows(one: dict[str, Any], other: dict[str, Any], name: str, other_name: str) -> None:
    mine, theirs = one["data"], other["data"]
    if mine["checksum"] != theirs["checksum"]:
        reason = f"on other data ({mine['source']} and {theirs['source']}, checksums differ)"
    elif mine["evaluation_checksum"] != theirs["evaluation_checksum"]:
        reason = f"on another split (split_seed {one['split_seed']} and {other['split_seed']})"
        rows = {k: (mine["rows"][k], theirs["rows"][k]) for k in ("val", "test")}
        reason += "".join(f"; {k}: {a:,} and {b:,} rows" for k, (a, b) in rows.items() if a != b)
    else:
        return
    raise ConfigError(
        f"{name} and {other_name} were judged {reason}: their numbers do not compare.",
        fix="run both with the same data, split_seed and validation_size",
    )


def _check_same_answers(one: _Answers, other: _Answers, split: str) -> None:
    """Check that two runs answer the same rows, and in cross-validation in the same folds."""
    pair = f"{one.run.path.name} and {other.run.path.name}"
    if not np.array_equal(one.ids, other.ids):
        shares = " and ".join(f"{a.result['data_fraction']:g}" for a in (one, other))
        raise ConfigError(
            f"{pair} answer different {split} rows ({len(one.ids):,} and {len(other.ids):,}; data_fraction {shares}).",
            fix="run both with the same data_fraction, subset and split_seed, or compare them with --split test",
        )
    if one.folds is not None and other.folds is not None and not np.array_equal(one.folds, other.folds):
        numbers = [int(a.max()) + 1 for a in (one.folds, other.folds)]
        what = f"{numbers[0]} and {numbers[1]} folds" if numbers[0] != numbers[1] else "the rows were dealt otherwise"
        raise ConfigError(
            f"{pair} were cross-validated in different folds ({what}): a fold's scores do not make a pair.",
            fix="run both with evaluation=cv, the same evaluation.folds and split_seed, or compare with --split test",
        )


def _distinct_names(models: Sequence[_Answers]) -> list[str]:
    names = [str(model.result["name"]) for model in models]
    if len(set(names)) < len(names):
        names = [
            f"{name} (seed {model.result['seed']}, {model.result['data_fraction']:g})"
            for name, model in zip(names, models, strict=True)
        ]
    if len(set(names)) < len(names):
        names = [f"{name} {model.run.path.name[-6:]}" for name, model in zip(names, models, strict=True)]
    return names


def _read(run: RunFolder, result: dict[str, Any], split: str) -> _Answers:
    table = read_table(run.path / PREDICTIONS, n_classes=len(result["class_names"]))
    stored = np.asarray(table["split"].combine_chunks().to_numpy(zero_copy_only=False))
    at = stored == split
    if not at.any():
        there = ", ".join(dict.fromkeys(stored))
        raise ConfigError(
            f"{run.path.name} has no stored answers for split '{split}'.\n  allowed: {there}",
            fix="run it again with evaluation=cv" if split == "cv" else None,
        )
    names = ["row_id", "label", "prediction", *(["fold"] if split == "cv" else [])]
    columns = [table[name].filter(at).to_numpy().astype(np.int64) for name in names]
    order = np.argsort(columns[0], kind="stable")
    ids, labels, predictions, *folds = (column[order] for column in columns)
    kept = table.filter(at).take(order)
    probabilities = class_columns(kept, "probability", tuple(result["class_names"]))
    return _Answers(
        run, result, ids, labels, Predictions(predictions, None, probabilities), folds[0] if folds else None
    )


def compare_runs(
    compared: ComparedRuns,
    *,
    metrics: Sequence[str] = ("macro_f1", "accuracy"),
    against: str | None = None,
    alpha: float = 0.05,
    **options: Any,
) -> Comparison:
    """Compare every pair (or all with a baseline) of loaded runs over items, and over folds or seeds.

    Args:
        compared: The runs.
        metrics: Names that :func:`~agnews_exp.evaluation.metrics.find_metric` knows, the runs' own metrics included.
        against: Name of a baseline.
        alpha: Level.
        options: As for :func:`~agnews_exp.evaluation.statistics.compare_all`.
    """
    pairs = compare_all(
        compared.labels,
        compared.answers,
        own=compared.own,
        class_names=compared.class_names,
        metrics=metrics,
        against=against,
        alpha=alpha,
        **options,
    )
    agreements = [
        agreement_table(
            compared.labels, compared.predictions[p.name_a], compared.predictions[p.name_b], compared.class_names
        )
        for p in pairs
    ]
    blocks = [block for metric in metrics if (block := _blocks(compared, metric, against, alpha)) is not None]
    return Comparison(pairs, blocks, agreements)


def _blocks(compared: ComparedRuns, metric: str, against: str | None, alpha: float) -> BlockComparison | None:
    names = compared.class_names
    choice = find_metric(metric, names, compared.own)
    higher = choice.metric.greater_is_better
    everything = np.arange(len(compared.labels))

    def score(answers: Predictions, rows: NDArray[Any] = everything) -> float:
        truth, some = compared.labels[rows], answers.take(rows)
        counts = margins_of_confusion(confusion_matrix(truth, some.labels, len(names)))
        return score_choice(choice, counts, truth, some, names)

    if compared.folds is not None:
        held_out = [np.flatnonzero(compared.folds == fold) for fold in range(int(compared.folds.max()) + 1)]
        by_fold = {name: [score(p, rows) for rows in held_out] for name, p in compared.answers.items()}
        return compare_folds(by_fold, metric, higher_is_better=higher, against=against, alpha=alpha)
    if compared.seeds:
        by_seed = {name: {s: score(p) for s, p in runs.items()} for name, runs in compared.seeds.items()}
        return compare_seeds(
            by_seed, metric, higher_is_better=higher, against=against if against in by_seed else None, alpha=alpha
        )
    return None


def write_comparison(folder: Path, found: Comparison, compared: ComparedRuns) -> None:
    """Write comparison.md, comparison.json and figures into a folder."""
    content = {
        "split": compared.split,
        "n_items": len(compared.labels),
        "runs": {name: str(path) for name, path in compared.folders.items()},
        "notes": list(compared.notes),
        "pairs": [
            pair.to_dict() | {"agreement_table": agreement.to_dict()}
            for pair, agreement in zip(found.pairs, found.agreements, strict=True)
        ],
        "blocks": [block.to_dict() for block in found.blocks],
    }
    write_json(folder / "comparison.json", content)
    with atomic_path(folder / "comparison.md") as temporary:
        temporary.write_text(to_markdown(found, compared), encoding="utf-8")
    draw_differences(folder / "comparison.png", found.pairs, f"{len(compared.labels):,} {compared.split} rows")
    for block in found.blocks:
        name = block.metric.replace("/", "_")
        draw_blocks(folder / f"{block.kind}_{name}.png", block)
        if block.friedman is not None:
            draw_critical_difference(folder / f"critical_difference_{name}.png", block.friedman, block)
