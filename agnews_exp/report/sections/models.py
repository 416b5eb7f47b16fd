"""Classical models and feature pipelines: the study's tables with ours beside, over folds and on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.reference.ag_news_notebooks.study_tables import MODELS_TITLE, PIPELINES_TITLE
from agnews_exp.report.content import (
    Block,
    Cell,
    Chart,
    Missing,
    Prose,
    Section,
    Series,
    Table,
    interval,
    number,
    text,
)
from agnews_exp.report.inputs import Inputs, StoredRun, System
from agnews_exp.report.origin import BOOTSTRAP, FOLDS, PUBLISHED, origin

_KEYS = (("clean", "Cleaning strategies", ("T08",)), ("tokenizer", "Tokenisers", ("T09",)))


def text_handling(inputs: Inputs) -> list[Block]:
    """Return one table a setting that differs between runs of one model, features and share of the rows."""
    blocks: list[Block] = []
    for key, title, covers in _KEYS:
        arms = _arms(inputs, f"features.{key}")
        if len(arms) < 2:
            said = f"{title}: all runs of a model have the same one."
            blocks.append(Missing(said, "python run.py -m experiment=feature_ablation"))
            continue
        rows = tuple(
            (
                text(value),
                text(system.first.model),
                number(system.mean("val/macro_f1")),
                number(system.mean("test/macro_f1")),
                number(system.first.timings.get("features"), ".2f"),
                number(system.first.fraction, "g"),
            )
            for value, system in arms.items()
        )
        header = (key, "model", "validation: macro-F1", "test: macro-F1", "features, s", "data fraction")
        made = origin([system.first for system in arms.values()], ("val", "test"))
        note = "The study printed such a table but trained on raw text only."
        blocks.append(Table(f"texts_{key}", title, header, rows, made, note, covers))
    return blocks


def _arms(inputs: Inputs, key: str) -> dict[str, System]:
    """Return the largest group of systems that differ in a setting, by its value."""
    groups: dict[tuple[str, str, float], dict[str, System]] = {}
    for system in inputs.systems:
        run = system.first
        if (value := run.config.get(key)) is not None:
            groups.setdefault((run.model, run.features, run.fraction), {}).setdefault(str(value), system)
    return max(groups.values(), key=len, default={})


_COMMAND = "python run.py -m experiment=study_classical"
_TOP = 10


def classical(inputs: Inputs) -> Section:
    """Return the 19 models and the 7 pipelines."""
    models = [(line, _ours(inputs, line, 10)) for line in published("models")]
    pipelines = [(line, _ours(inputs, line, 5)) for line in published("pipelines")]
    blocks: list[Block] = []
    for what, found in (("classical models", models), ("feature pipelines", pipelines)):
        missing = [line.get("pipeline") or line["model"] for line, run in found if run is None]
        if len(missing) == len(found):
            blocks.append(Missing(f"None of the study's {len(found)} {what} is among these runs.", _COMMAND))
        elif missing:
            blocks.append(Missing(f"Not among these runs, of the {what}: {', '.join(missing)}.", _COMMAND))
    if any(run for _, run in models):
        blocks += [_models_chart(models), _models_table(models)]
    folds = _fold_scores(inputs)
    if folds is not None:
        blocks.append(folds)
    if any(run for _, run in pipelines):
        blocks += [*_pipeline_charts(pipelines), _pipelines_table(pipelines)]
    blocks += [*text_handling(inputs), _trust()]
    return Section("classical", "Classical models and pipelines", tuple(blocks))


def _ours(inputs: Inputs, line: dict[str, str], n_folds: int) -> StoredRun | None:
    """Return our run of a published row: of the most rows, cross-validated if possible, best in as many folds."""
    pooling = line.get("pooling") or ""
    found = [
        run
        for run in inputs.runs
        if run.model == line["model"]
        and run.features == line["features"]
        and "test/macro_f1" in run.metrics
        and (not pooling or str(run.config.get("features.blocks.embeddings.pooling") or "") == pooling)
    ]
    return max(found, key=lambda run: (run.fraction, run.n_folds == n_folds, run.n_folds, -run.seed), default=None)


def _standard_error(run: StoredRun) -> float | None:
    spread = run.metrics.get("cv/macro_f1_std")
    return spread / sqrt(run.n_folds) if spread is not None and run.n_folds else None


def _our_series(split: str, rows: Sequence[tuple[str, StoredRun | None]], name: str) -> Series:
    values, lows, highs = [], [], []
    metric = f"{split}/macro_f1"
    for _, run in rows:
        value = run.metrics.get(metric) if run else None
        if run is None or value is None:
            ends: tuple[float | None, float | None] = (None, None)
        elif split == "cv":
            error = _standard_error(run)
            ends = (None, None) if error is None else (value - error, value + error)
        else:
            ends = run.interval(metric) or (None, None)
        values.append(value)
        lows.append(ends[0])
        highs.append(ends[1])
    return Series(name, tuple(values), tuple(label for label, _ in rows), tuple(lows), tuple(highs))


def _published_series(rows: Sequence[tuple[str, dict[str, str]]], n_folds: int) -> Series:
    values = [float(line["cv/macro_f1"]) for _, line in rows]
    errors = [float(line["cv/macro_f1_std"]) / sqrt(n_folds) for _, line in rows]
    return Series(
        f"study, cv ({n_folds} folds)",
        tuple(values),
        tuple(label for label, _ in rows),
        tuple(v - e for v, e in zip(values, errors, strict=True)),
        tuple(v + e for v, e in zip(values, errors, strict=True)),
        published=True,
    )


Found = Sequence[tuple[dict[str, str], StoredRun | None]]


def _models_chart(models: Found) -> Chart:
    rows = [(line["model"], line) for line, _ in models if "dummy" not in line["model"]]
    ours = [(line["model"], run) for line, run in models if "dummy" not in line["model"]]
    runs = [run for _, run in ours if run]
    series = [_published_series(rows, 10)]
    if any(run.n_folds for run in runs):
        series.append(_our_series("cv", ours, "ours, cv"))
    series.append(_our_series("test", ours, "ours, test"))
    return Chart(
        "classical_models",
        f"{MODELS_TITLE}: the study's numbers and ours",
        "dots",
        "macro-F1",
        "",
        tuple(series),
        origin(runs, ("cv", "test")),
        intervals=f"cv: {FOLDS} test: {BOOTSTRAP} {PUBLISHED} Three dummies are left out.",
        covers=("F15",),
    )


def _cells(run: StoredRun | None) -> tuple[Cell, ...]:
    if run is None:
        return (number(None),) * 6
    metrics = run.metrics
    cv = metrics.get("cv/macro_f1")
    over_folds = number(None) if cv is None else Cell(f"{cv:.4f} ±{metrics['cv/macro_f1_std']:.4f} ({run.n_folds})", cv)
    ends = run.interval("test/macro_f1") or (None, None)
    return (
        over_folds,
        number(metrics.get("cv/train_macro_f1")),
        number(metrics.get("val/macro_f1")),
        interval(metrics.get("test/macro_f1"), *ends),
        number(run.timings.get("fit"), ".2f"),
        number(run.fraction, "g"),
    )


_OURS = (
    "ours: cv ± sd (folds)",
    "ours: train in folds",
    "ours: validation",
    "ours: test [95 %]",
    "ours: fit, s",
    "ours: data fraction",
)


def _models_table(models: Found) -> Table:
    header = ("model", "study: cv ± sd (10 folds)", "study: train in folds", *_OURS)
    rows = [
        (
            text(line["model"]),
            _spread(line),
            number(float(line["cv/train_macro_f1"])),
            *_cells(run),
        )
        for line, run in models
    ]
    note = (
        "All numbers are macro-F1. The study fitted features on all training rows before its folds, ours"
        " are fitted inside"
        " each fold; sd is over the folds."
    )
    runs = [run for _, run in models if run]
    return Table(
        "classical_models_table", MODELS_TITLE, header, tuple(rows), origin(runs, ("cv", "val", "test")), note, ("T13",)
    )


def _spread(line: dict[str, str]) -> Cell:
    mean = float(line["cv/macro_f1"])
    return Cell(f"{mean:.4f} ±{float(line['cv/macro_f1_std']):.4f}", mean)


def _fold_scores(inputs: Inputs) -> Chart | None:
    by_name: dict[str, StoredRun] = {}
    found = [s.first for s in inputs.systems if s.first.folds.get("macro_f1")]
    for run in sorted(found, key=lambda run: -run.metrics.get("cv/macro_f1", 0.0)):
        by_name.setdefault(f"{run.name} ({run.n_folds} folds)", run)
    shown = dict(list(by_name.items())[:_TOP])
    if not shown:
        return None
    series = tuple(Series(name, tuple(run.folds["macro_f1"]), ()) for name, run in shown.items())
    return Chart(
        "fold_scores",
        f"Scores by fold of the {len(shown)} best in cross-validation",
        "box",
        "macro-F1 of one fold",
        "",
        series,
        origin(list(shown.values()), ("cv",)),
        intervals="Box: quartiles and median over the folds; each point is a fold. Folds share training rows.",
        covers=("F14",),
    )


def _pipeline_charts(pipelines: Found) -> list[Chart]:
    lines = [(line["pipeline"], line) for line, _ in pipelines]
    ours = [(line["pipeline"], run) for line, run in pipelines]
    runs = [run for _, run in ours if run]
    labels = tuple(label for label, _ in lines)
    made = origin(runs, ("cv", "val"))
    validation = Series(
        "study, validation", tuple(float(line["val/macro_f1"]) for _, line in lines), labels, published=True
    )
    scores = [_published_series(lines, 5), validation]
    if any(run.n_folds for run in runs):
        scores.append(_our_series("cv", ours, "ours, cv"))
    scores.append(_our_series("val", ours, "ours, validation"))
    sizes = (
        Series("study", tuple(float(line["n_features"]) for _, line in lines), labels, published=True),
        Series("ours", tuple(run.metrics.get("n_features") if run else None for _, run in ours), labels),
    )
    zeros = Series("ours", tuple(run.metrics.get("sparsity") if run else None for _, run in ours), labels)
    counted = "A count, not an estimate: no interval."
    return [
        Chart(
            "pipelines",
            f"{PIPELINES_TITLE}: macro-F1",
            "dots",
            "macro-F1",
            "",
            tuple(scores),
            made,
            intervals=f"cv: {FOLDS} ours, validation: {BOOTSTRAP} {PUBLISHED} The study stored no"
            " validation answers, so its"
            " validation scores have no interval.",
            covers=("F13",),
        ),
        Chart(
            "pipeline_sizes",
            "Feature pipelines: columns",
            "dots",
            "columns (logarithmic)",
            "",
            sizes,
            made,
            intervals=counted,
            log_x=True,
            covers=("F13",),
        ),
        Chart(
            "pipeline_sparsity",
            "Feature pipelines: share of zeros",
            "dots",
            "share of zeros",
            "",
            (zeros,),
            made,
            intervals=counted,
            covers=("F13",),
        ),
    ]


def _pipelines_table(pipelines: Found) -> Table:
    header = ("pipeline", "features", "study: cv ± sd (5 folds)", "study: validation", *_OURS, "ours: columns")
    rows = [
        (
            text(line["pipeline"]),
            text(" ".join(filter(None, (line["features"], line["pooling"])))),
            _spread(line),
            number(float(line["val/macro_f1"])),
            *_cells(run),
            number(run.metrics.get("n_features") if run else None, ",.0f"),
        )
        for line, run in pipelines
    ]
    note = (
        "Logistic regression, C = 1. The study's embeddings were GloVe vectors; ours are word2vec of the training rows."
    )
    runs = [run for _, run in pipelines if run]
    return Table(
        "pipelines_table",
        PIPELINES_TITLE,
        header,
        tuple(rows),
        origin(runs, ("cv", "val", "test")),
        note,
        ("T10", "T14"),
    )


def _trust() -> Prose:
    return Prose(
        "The study's numbers here are those of its result files. Its cross-validation saw features (and"
        " a chi2 selector,"
        " which reads labels) fitted on all training rows; ours never did."
    )
