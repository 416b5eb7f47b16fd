"""A run's model on labelled texts from another source, and whether its scores tell that they are foreign."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from agnews_exp.analyses.context import AnalysisContext, Findings
from agnews_exp.analyses.errors.near_duplicates import normalised
from agnews_exp.analyses.figures import new_figure, open_frame, save_png
from agnews_exp.analyses.robustness.label_mapping import load_mapping, map_labels
from agnews_exp.analyses.robustness.shift import (
    Detection,
    FloatArray,
    confidence_scores,
    detection,
    known_share,
    vocabulary,
)
from agnews_exp.core.errors import DataError
from agnews_exp.data.csv_files import ColumnName, read_file
from agnews_exp.data.files import Labels
from agnews_exp.evaluation.inputs import plain
from agnews_exp.evaluation.metrics import classification_report_table, confusion_matrix
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.bootstrap import BootstrapInterval, bootstrap_metric
from agnews_exp.tracking.record_files import write_confusions

Part = Literal["headers", "footers", "quotes"]

_FOLDER_ENCODING = "latin-1"
"""Of newsgroup posts; every file can be read with it."""


@dataclass(frozen=True, eq=False)
class ExternalRows:
    """Texts with the labels of their source.

    Attributes:
        texts: The n texts.
        labels: Shape (n,), indices into ``label_names``.
        label_names: The source's labels.
    """

    texts: list[str]
    labels: NDArray[np.int64]
    label_names: list[str]


def read_external(
    path: Path,
    *,
    text_columns: list[ColumnName],
    label_column: ColumnName,
    delimiter: str,
    encoding: str,
    has_header: bool,
    strip: Sequence[Part],
    group: str,
) -> ExternalRows:
    """Read an external source.

    Args:
        path: A file as for ``data=csv``, or a folder whose sub-folders are labels that hold one file a text, as
            20 Newsgroups is distributed.
        text_columns: See :func:`agnews_exp.data.csv_files.load_csv`.
        label_column: Likewise.
        delimiter: Likewise.
        encoding: Likewise; files of a folder are read as Latin-1.
        has_header: Likewise.
        strip: Parts of newsgroup posts to remove, as scikit-learn's ``fetch_20newsgroups(remove=...)`` does.
        group: Where the configuration holds these options, for messages.

    Raises:
        DataError: There is nothing at the path, or the file has bad lines.
        ConfigError: A column does not exist.
    """
    if path.is_dir():
        found = _read_folder(path)
    else:
        labels = Labels()
        rows = read_file(
            path, text_columns, label_column, labels, delimiter, encoding, has_header, group=group
        )  # fmt: skip
        found = ExternalRows(rows.texts, rows.labels, list(labels.index))
    if not strip:
        return found
    strippers = _strippers(strip)
    texts = []
    for text in found.texts:
        for strip_part in strippers:
            text = strip_part(text)
        texts.append(text)
    return ExternalRows(texts, found.labels, found.label_names)


def _read_folder(folder: Path) -> ExternalRows:
    texts, labels = [], []
    names = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    for index, name in enumerate(names):
        for file in sorted((folder / name).iterdir()):
            if file.is_file() and not file.name.startswith("."):
                texts.append(file.read_text(_FOLDER_ENCODING))
                labels.append(index)
    if not texts:
        raise DataError(
            f"{folder} holds no texts: a folder must have one sub-folder a label, with one file a text.",
            fix="give a CSV, TSV or JSON-lines file, or such a folder",
        )
    return ExternalRows(texts, np.array(labels, dtype=np.int64), names)


def _strippers(parts: Sequence[Part]) -> list[Callable[[str], str]]:
    from sklearn.datasets import _twenty_newsgroups as posts

    # In scikit-learn's order.
    known: dict[Part, Callable[[str], str]] = {
        "headers": posts.strip_newsgroup_header,
        "footers": posts.strip_newsgroup_footer,
        "quotes": posts.strip_newsgroup_quoting,
    }
    return [known[part] for part in known if part in parts]


BLUE, ORANGE = "#0072B2", "#D55E00"

_UNITS = {
    "max_softmax": "largest probability",
    "margin": "highest score minus second",
    "energy": "log-sum-exp of the scores",
    "known_words": "share of words seen in training",
}


def draw_scores(
    path: Path, own: Mapping[str, FloatArray], foreign: Mapping[str, FloatArray], found: Sequence[Detection]
) -> None:
    """Draw one histogram a score: shares of test rows and of external rows."""
    columns = min(2, len(found))
    rows = -(-len(found) // columns)
    figure = new_figure(3.6 * columns, 2.6 * rows + 0.5)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, item in zip(grid, found, strict=False):
        pair = own[item.score], foreign[item.score]
        edges = np.histogram_bin_edges(np.concatenate(pair), bins=30)
        for values, colour, style, label in zip(pair, (BLUE, ORANGE), ("-", "--"), ("test", "external"), strict=True):
            axes.hist(
                values, bins=edges, weights=np.full(len(values), 100 / len(values)), histtype="stepfilled", alpha=0.25,
                color=colour,
            )  # fmt: skip
            axes.hist(
                values, bins=edges, weights=np.full(len(values), 100 / len(values)), histtype="step", color=colour,
                linestyle=style, linewidth=1.2, label=label,
            )  # fmt: skip
        axes.set_title(f"{item.score}: AUROC {item.auroc:.3f}", fontsize=9)
        axes.set_xlabel(_UNITS.get(item.score, item.score), fontsize=8)
        axes.set_ylabel("rows [%]", fontsize=8)
        open_frame(axes)
    for axes in grid[len(found) :]:
        axes.set_visible(False)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    save_png(figure, path)


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
    write_confusions(context.folder, {"external": matrix}, names)
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
