"""Comparison of finished runs on the same rows: tests over items, and over folds or seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import ConfigError
from agnews_exp.evaluation.efficiency import cost_per_million
from agnews_exp.evaluation.metrics import Margins, Metric, Own, find_metric, own_metrics, score_choice
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.bootstrap import MARGIN
from agnews_exp.evaluation.statistics.comparison import ComparisonResult, compare_all
from agnews_exp.evaluation.statistics.effect_size import AgreementTable, agreement_table
from agnews_exp.evaluation.statistics.resampled import BlockComparison, compare_folds, compare_seeds
from agnews_exp.evaluation.stored_answers import StoredAnswers, read_table, stored_answers
from agnews_exp.evaluation.tasks import task_of, task_of_record
from agnews_exp.tracking.mlflow_mirror import unique_name
from agnews_exp.tracking.record import PREDICTIONS, RunFolder, repetition

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
_NEEDED += ("data.evaluation_checksum", "data.name", "data.rows.val", "data.rows.test")


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
        primary: Name of the metric that the runs were made for (``evaluation.primary`` without its split), which the
            verdicts are about; macro-F1 where they differ in it.
        seeds: Each model's answers by seed, for models with several; empty unless two models have several.
        rows_vary: Whether the training rows differ from seed to seed.
        notes: The choices made among the runs given.
        clusters: Shape (n,), the group of each row (``evaluation.cluster_column``), where all runs name the same ones.
        metrics: The numbers in each model's record.
    """

    labels: Labels
    predictions: dict[str, Labels]
    class_names: tuple[str, ...]
    split: str
    folders: dict[str, Path]
    folds: Labels | None = None
    answers: dict[str, Predictions] = field(default_factory=dict)
    own: Own = ()
    primary: str = "macro_f1"
    seeds: dict[str, dict[str, Predictions]] = field(default_factory=dict)
    rows_vary: bool = False
    notes: tuple[str, ...] = ()
    clusters: Labels | None = None
    metrics: dict[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Comparison:
    """All results of a comparison.

    Attributes:
        pairs: Tests over items, for every pair or all with a baseline.
        blocks: Tests over folds or seeds, one a metric; empty where there are neither.
        agreements: The agreement of each pair, in their order; none of sets of classes.
    """

    pairs: list[ComparisonResult]
    blocks: list[BlockComparison]
    agreements: list[AgreementTable]


@dataclass(frozen=True, eq=False)
class _Answers:
    """One run with its stored answers for a split, in the order of the row ids."""

    run: RunFolder
    result: dict[str, Any]
    stored: StoredAnswers

    @property
    def name(self) -> str:
        """The run's sayable name, which no other run has."""
        return unique_name(self.run.path, str(self.result["name"]))


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
        _check_same_rows(
            results[0],
            result,
            *(unique_name(r.path, str(s["name"])) for r, s in ((runs[0], results[0]), (run, result))),
        )
    answers = [_read(run, result, split) for run, result in zip(runs, results, strict=True)]
    for other in answers[1:]:
        _check_same_answers(answers[0], other, split)
    groups: dict[str, dict[tuple[int, int], _Answers]] = {}
    for answer in answers:
        groups.setdefault(str(answer.result["group_fingerprint"]), {})[repetition(answer.result)] = answer
    notes: list[str] = []
    clusters, *others = (answer.stored.clusters for answer in answers)
    if not all(clusters is not None and c is not None and np.array_equal(c, clusters) for c in others):
        if any(answer.stored.clusters is not None for answer in answers):
            notes.append("Not all runs name the same evaluation.cluster_column: rows are taken as independent.")
        clusters = None
    primaries = list(dict.fromkeys(str(r.get("primary", "val/macro_f1")).partition("/")[2] for r in results))
    primary = primaries[0] if len(primaries) == 1 else "macro_f1"
    own, task = _own_metrics(results), task_of_record(results[0])
    try:
        find_metric(primary, results[0]["class_names"], own, task)
    except ConfigError:
        primaries.append(primary := "macro_f1")
    if len(primaries) > 1:
        notes.append(f"Primary metrics of the runs differ or are not known here: {primary} in place of {primaries[0]}.")
    models, rows_vary = answers, False
    seeds: dict[str, dict[str, Predictions]] = {}
    if len(groups) > 1 and any(len(group) > 1 for group in groups.values()):
        models = [_representative(group, groups.values()) for group in groups.values()]
        used = ", ".join(str(seed) for seed in dict.fromkeys(model.result["seed"] for model in models))
        notes.append(f"Tests over items compare one run a model, taken by its seed and not by its score: seed {used}.")
    names = _distinct_names(models)
    if models is not answers:
        repeated = {name: group for name, group in zip(names, groups.values(), strict=True) if len(group) > 1}
        if len(repeated) > 1:
            for name, group in repeated.items():
                seeds[name] = {_seed_said(key): answer.stored.given for key, answer in sorted(group.items())}
            rows_vary = any(len({rows for _, rows in group}) > 1 for group in repeated.values())
        for name in names:
            if name not in seeds:
                notes.append(f"{name} is left out of the tests over seeds: two models need several seeds each.")
    return ComparedRuns(
        labels=answers[0].stored.labels,
        predictions={name: model.stored.given.labels for name, model in zip(names, models, strict=True)},
        answers={name: model.stored.given for name, model in zip(names, models, strict=True)},
        own=own,
        primary=primary,
        class_names=tuple(results[0]["class_names"]),
        split=split,
        folders={name: model.run.path for name, model in zip(names, models, strict=True)},
        folds=answers[0].stored.folds,
        seeds=seeds if split != "cv" else {},
        rows_vary=rows_vary,
        notes=tuple(notes),
        clusters=clusters,
        metrics={name: model.result.get("metrics") or {} for name, model in zip(names, models, strict=True)},
    )


def _own_metrics(results: Sequence[dict[str, Any]]) -> Own:
    """Return the user's own metrics of stored runs whose modules are trusted and there; others cannot be computed."""
    targets = {name: entry["target"] for result in results for name, entry in result.get("own_metrics", {}).items()}
    found: list[Metric] = []
    for target in targets.values():
        with suppress(ConfigError):  # asking for it then says that it is unknown
            found += own_metrics([target])
    return found


def _seed_said(repetition: tuple[int, int]) -> str:
    seed, rows = repetition
    return str(seed) if rows in (0, seed) else f"{seed}, rows {rows}"


def _representative(group: Mapping[tuple[int, int], _Answers], groups: Any) -> _Answers:
    """Return the run of the lowest seed that all models with several seeds have, or else of the lowest seed."""
    common = set.intersection(*(set(other) for other in groups if len(other) > 1))
    return group[min(common & set(group) or set(group))]


def _check_same_rows(one: dict[str, Any], other: dict[str, Any], name: str, other_name: str) -> None:
    mine, theirs = one["data"], other["data"]
    ways = [_split_said(data.get("split")) for data in (mine, theirs)]
    tasks = [task_of_record(result) for result in (one, other)]
    if tasks[0] is not tasks[1]:
        reason = f"on different tasks ({tasks[0].answers} and {tasks[1].answers})"
    elif ways[0] != ways[1]:
        reason = f"on rows that were split otherwise ({ways[0]} and {ways[1]})"
    elif mine["checksum"] != theirs["checksum"]:
        reason = f"on other data ({mine['name']} and {theirs['name']}, checksums differ)"
    elif mine["evaluation_checksum"] != theirs["evaluation_checksum"]:
        reason = f"on another split (split_seed {one['split_seed']} and {other['split_seed']})"
        rows = {k: (mine["rows"][k], theirs["rows"][k]) for k in ("val", "test")}
        reason += "".join(f"; {k}: {a:,} and {b:,} rows" for k, (a, b) in rows.items() if a != b)
    else:
        return
    raise ConfigError(
        f"{name} and {other_name} were judged {reason}: their numbers do not compare.",
        fix="run both with the same data (and data.multilabel), split, split_seed and validation_size",
    )


def _split_said(split: dict[str, Any] | None) -> str:
    """Return the words that make a record's split; a record without any is stratified."""
    split = split or {"name": "stratified", "column": None}
    return f"split={split['name']}" + (f" split.column={split['column']}" if split["column"] is not None else "")


def _check_same_answers(one: _Answers, other: _Answers, split: str) -> None:
    """Check that two runs answer the same rows, and in cross-validation in the same folds."""
    pair = f"{one.name} and {other.name}"
    if not np.array_equal(one.stored.row_ids, other.stored.row_ids):
        sizes = " and ".join(f"{len(a.stored.row_ids):,}" for a in (one, other))
        shares = " and ".join(f"{a.result['data_fraction']:g}" for a in (one, other))
        raise ConfigError(
            f"{pair} answer different {split} rows ({sizes}; data_fraction {shares}).",
            fix="run both with the same data_fraction, subset and split_seed, or compare them with --split test",
        )
    folds = [a for a in (one.stored.folds, other.stored.folds) if a is not None]
    if len(folds) == 2 and not np.array_equal(folds[0], folds[1]):
        numbers = [int(a.max()) + 1 for a in folds]
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
    path = run.path / PREDICTIONS
    found = stored_answers(path, split, tuple(result["class_names"]))
    if not len(found.labels):
        there = ", ".join(map(str, read_table(path)["split"].cast("string").unique().to_pylist()))
        name = unique_name(run.path, str(result["name"]))
        raise ConfigError(
            f"{name} has no stored answers for split '{split}'.\n  allowed: {there}",
            fix="run it again with evaluation=cv" if split == "cv" else None,
        )
    return _Answers(run, result, found)


def with_costs(compared: ComparedRuns, price_per_hour: float) -> ComparedRuns:
    """Return the runs with what their answers cost on a machine of this price, where their speed was measured on one.

    Raises:
        ConfigError: The price is none.
    """
    if not 0 <= price_per_hour < math.inf:
        raise ConfigError(f"--price-per-hour {price_per_hour:g}: it must be a number of at least 0.")
    metrics: dict[str, Mapping[str, float]] = dict(compared.metrics)
    for name, own in metrics.items():
        if (speed := own.get("throughput_batch")) and "tokens_input" not in own:
            metrics[name] = {**own, "cost_per_million": cost_per_million(price_per_hour, speed, 1.0)}
    return replace(compared, metrics=metrics)


def compare_runs(
    compared: ComparedRuns,
    *,
    metrics: Sequence[str] = (),
    against: str | None = None,
    alpha: float = 0.05,
    margin: float = MARGIN,
    **options: Any,
) -> Comparison:
    """Compare every pair (or all with a baseline) of loaded runs over items, and over folds or seeds.

    The verdicts are about the first of ``metrics``; none given, these are the runs' primary metric, macro-F1 and
    accuracy. The options are those of :func:`~agnews_exp.evaluation.statistics.comparison.compare_predictions`.
    """
    task = task_of(compared.labels)
    metrics = metrics or tuple(dict.fromkeys((compared.primary, "macro_f1", task.beside)))
    pairs = compare_all(
        compared.labels,
        compared.answers,
        own=compared.own,
        class_names=compared.class_names,
        metrics=metrics,
        against=against,
        alpha=alpha,
        margin=margin,
        clusters=compared.clusters,
        **options,
    )
    agreements = [
        agreement_table(
            compared.labels, compared.predictions[p.name_a], compared.predictions[p.name_b], compared.class_names
        )
        for p in pairs
        if task.one_answer
    ]
    found = (_blocks(compared, metric, against, alpha, margin) for metric in metrics)
    blocks = [block for block in found if block is not None]
    return Comparison(pairs, blocks, agreements)


def _blocks(
    compared: ComparedRuns, metric: str, against: str | None, alpha: float, margin: float
) -> BlockComparison | None:
    names = compared.class_names
    if compared.folds is None:
        if not compared.seeds:
            return None
        return compare_seeds(
            compared.labels, compared.seeds, metric, class_names=names, own=compared.own,
            against=against if against in compared.seeds else None, alpha=alpha, margin=margin,
            clusters=compared.clusters, rows_vary=compared.rows_vary,
        )  # fmt: skip
    task = task_of(compared.labels)
    choice = find_metric(metric, names, compared.own, task)

    def score(answers: Predictions, rows: Labels) -> float:
        truth, some = compared.labels[rows], answers.take(rows)
        counts = Margins(*task.counts(truth, some.labels, len(names)))
        return score_choice(choice, counts, truth, some, names)

    held_out = [np.flatnonzero(compared.folds == fold) for fold in range(int(compared.folds.max()) + 1)]
    by_fold = {name: [score(p, rows) for rows in held_out] for name, p in compared.answers.items()}
    higher = choice.metric.greater_is_better
    return compare_folds(by_fold, metric, higher_is_better=higher, against=against, alpha=alpha, margin=margin)
