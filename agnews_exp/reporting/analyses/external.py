"""A run's model on labelled texts from another source, and whether its scores tell that they are foreign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from agnews_exp.config.errors import DataError
from agnews_exp.data.csv_files import ColumnName
from agnews_exp.evaluation.errors.near_duplicates import normalised
from agnews_exp.evaluation.metrics import classification_report_table, confusion_matrix
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.robustness.label_mapping import load_mapping, map_labels
from agnews_exp.evaluation.robustness.shift import (
    Detection,
    FloatArray,
    confidence_scores,
    detection,
    known_share,
    vocabulary,
)
from agnews_exp.evaluation.statistics.bootstrap import bootstrap_metric
from agnews_exp.evaluation.statistics.inputs import plain
from agnews_exp.evaluation.statistics.intervals import BootstrapInterval
from agnews_exp.reporting.analyses.context import AnalysisContext, Findings
from agnews_exp.reporting.analyses.external_figures import draw_scores
from agnews_exp.reporting.analyses.external_rows import ExternalRows, Part, read_external
from agnews_exp.reporting.record_files import write_confusion_figure

_GROUP = "evaluation.analyses.external"
_METRICS = ("accuracy", "macro_f1")


def analyse(
    context: AnalysisContext,
    *,
    path: str | None = None,
    mapping: str | dict[str | int, str | None] | None = None,
    text_columns: Annotated[list[ColumnName], Field(min_length=1)] | ColumnName = "text",
    label_column: ColumnName = "label",
    delimiter: Annotated[str, Field(pattern=r'^(auto|tab|[^\r\n"])$')] = "auto",
    encoding: str = "utf-8",
    has_header: bool = True,
    strip: tuple[Part, ...] = (),
    resamples: Annotated[int, Field(ge=100)] = 2000,
) -> Findings:
    """Judge a run's model on another labelled source.

    Args:
        context: The run.
        path: A file, or a folder with one sub-folder a label; None does nothing.
        mapping: Source label -> class or null to leave its rows out; or the name of a shipped mapping
            (``newsgroups``), or a YAML file with one. None: the labels are the class names.
        text_columns: Columns that make the text.
        label_column: Column with the label.
        delimiter: One character, ``tab`` or ``auto``.
        encoding: Of CSV and TSV files.
        has_header: Whether the first row names the columns.
        strip: Parts of newsgroup posts to remove: ``headers``, ``footers``, ``quotes``.
        resamples: Bootstrap resamples of the metrics' intervals.

    Returns:
        ``external/accuracy``, ``external/macro_f1``, and ``external/auroc_<score>``: how well a score tells test rows
        from the external ones (all of them, those left out by the mapping too).

    Raises:
        ConfigError: The mapping does not fit the labels or the classes.
        DataError: The source cannot be read, or the mapping leaves nothing.
    """
    if path is None:
        return Findings(summary="No external source is configured: set `path` to a labelled file or folder.")
    names = context.splits.class_names
    rows = read_external(
        Path(path).expanduser(),
        text_columns=text_columns if isinstance(text_columns, list) else [text_columns],
        label_column=label_column, delimiter=delimiter, encoding=encoding, has_header=has_header, strip=strip,
        group=_GROUP,
    )  # fmt: skip
    targets = map_labels(
        rows.label_names,
        load_mapping(mapping) if isinstance(mapping, str) else {str(k): v for k, v in (mapping or {}).items()},
        names, f"{_GROUP}.mapping",
    )  # fmt: skip
    by_label = np.array([-1 if targets[label] is None else targets[label] for label in rows.label_names], np.int64)
    labels = by_label[rows.labels]
    kept = labels >= 0
    if not kept.any():
        raise DataError(f"{_GROUP}.mapping leaves out all {len(labels):,} rows of {path}.")
    answers = context.model.predict(rows.texts)
    table = classification_report_table(labels[kept], _take(answers, kept), names)
    seed = context.checked.run.split_seed
    judged = {"external": (labels[kept], answers.labels[kept])}
    judged["test"] = context.splits.test.labels, context.answers["test"].labels
    intervals = {
        split: {
            m: bootstrap_metric(true, given, m, resamples=resamples, seed=seed, class_names=names) for m in _METRICS
        }
        for split, (true, given) in judged.items()
    }
    own, foreign = _scores(context, rows, answers)
    found = [detection(name, own[name], foreign[name]) for name in own]
    matrix = confusion_matrix(labels[kept], answers.labels[kept], len(names))
    write_confusion_figure(context.folder / "confusion_matrix.png", {"external": matrix}, names)
    draw_scores(context.folder / "scores.png", own, foreign, found)
    train_words = {normalised(text) for text in context.splits.train.texts}
    facts = {
        "path": str(path),
        "rows": len(labels),
        "kept": int(kept.sum()),
        "empty_texts": sum(not text.strip() for text in rows.texts),
        "in_train": sum(normalised(text) in train_words for text in rows.texts if text.strip()),
        "labels": _by_label(rows, targets, names, answers),
    }
    metrics = {f"external/{m}": value.estimate for m, value in intervals["external"].items()}
    metrics |= {f"external/auroc_{d.score}": d.auroc for d in found}
    details = facts | {"metrics": intervals, "report": table, "confusion": matrix, "detection": found}
    return Findings(metrics, _summary(facts, intervals, table, found), plain(details))


def _take(answers: Predictions, rows: Any) -> Predictions:
    def part(values: Any) -> Any:
        return None if values is None else values[rows]

    return Predictions(answers.labels[rows], part(answers.scores), part(answers.probabilities))


def _scores(
    context: AnalysisContext, rows: ExternalRows, answers: Predictions
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return the scores of test rows and of external rows by name."""
    words = vocabulary(context.splits.train.texts)
    own = confidence_scores(context.answers["test"]) | {"known_words": known_share(context.splits.test.texts, words)}
    foreign = confidence_scores(answers) | {"known_words": known_share(rows.texts, words)}
    return {name: own[name] for name in own if name in foreign}, foreign


def _by_label(
    rows: ExternalRows, targets: Mapping[str, int | None], names: Sequence[str], answers: Predictions
) -> list[dict[str, Any]]:
    listed = []
    for index, label in enumerate(rows.label_names):
        given = np.bincount(answers.labels[rows.labels == index], minlength=len(names))
        target = targets[label]
        share = None if target is None or not given.sum() else float(given[target] / given.sum())
        row: dict[str, Any] = {"label": label, "class": None if target is None else names[target]}
        listed.append(row | {"rows": int(given.sum()), "right": share} | dict(zip(names, given.tolist(), strict=True)))
    return listed


def _summary(
    facts: Mapping[str, Any],
    intervals: Mapping[str, Mapping[str, BootstrapInterval]],
    table: Sequence[Mapping[str, Any]],
    found: Sequence[Detection],
) -> str:
    left_out = facts["rows"] - facts["kept"]
    lines = [
        f"## External: {facts['kept']:,} rows of {Path(facts['path']).name}",
        "",
        f"{left_out:,} of {facts['rows']:,} rows are left out by the mapping; {facts['empty_texts']:,} texts are "
        "empty, "
        f"{facts['in_train']:,} have the same words as a training text.",
        "",
        "| rows | accuracy | macro_f1 |",
        "| --- | ---: | ---: |",
    ]
    for split, values in intervals.items():
        cells = [f"{v.estimate:.4f} [{v.percentile[0]:.4f}, {v.percentile[1]:.4f}]" for v in values.values()]
        lines.append(f"| {split} | " + " | ".join(cells) + " |")
    lines += ["", "95 % bootstrap intervals. Where the classes have other shares, compare macro_f1, not accuracy.", ""]
    lines += ["| class | precision | recall | f1 | rows |", "| --- |" + " ---: |" * 4]
    for row in table:
        figures = " | ".join(f"{row[m]:.4f}" for m in ("precision", "recall", "f1"))
        lines.append(f"| {row['class']} | {figures} | {row['support']:,} |")
    lines += ["", "| label | class | rows | right |", "| --- | --- | ---: | ---: |"]
    for row in facts["labels"]:
        right = "" if row["right"] is None else f"{100 * row['right']:.1f} %"
        lines.append(f"| {row['label']} | {row['class'] or 'left out'} | {row['rows']:,} | {right} |")
    lines += [
        "",
        "## Does the model notice?",
        "",
        "AUROC: chance that a test row scores higher than an external one (all rows, those left out too), DeLong's "
        "95 % interval; .5 is chance, below it the external rows look more familiar. Accepted: external rows above the "
        "threshold that 95 % of the test rows pass.",
        "",
        "| score | AUROC | accepted | mean, test | mean, external |",
        "| --- |" + " ---: |" * 4,
    ]
    for d in found:
        lines.append(
            f"| {d.score} | {d.auroc:.3f} [{d.low:.3f}, {d.high:.3f}] | {100 * d.foreign_accepted:.1f} % | "
            f"{d.own_mean:.3f} | {d.foreign_mean:.3f} |"
        )
    return "\n".join(lines)
