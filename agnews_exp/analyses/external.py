"""A run's model on labelled texts from another source, and whether its scores tell that they are foreign."""

from __future__ import annotations

import importlib.resources
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from agnews_exp.analyses.errors.near_duplicates import normalised
from agnews_exp.analyses.findings import Block, Column, Findings, Number, Row, Table
from agnews_exp.analyses.performing import AnalysisContext, analysis
from agnews_exp.core.errors import ConfigError, DataError, unknown_name
from agnews_exp.core.suggestions import nearest
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.csv_files import read_file
from agnews_exp.data.files import Labels
from agnews_exp.data.tables import ColumnName, Reading
from agnews_exp.drawing import Chart, Series, matrix_chart
from agnews_exp.evaluation.drift import known_share, split_words
from agnews_exp.evaluation.inputs import FloatArray, Result, plain
from agnews_exp.evaluation.metrics import classification_report_table, confusion_matrix
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.statistics.bootstrap import BootstrapInterval, bootstrap_metric

LabelMapping = Mapping[str, str | None]


def shipped_mappings() -> list[str]:
    """Return the names of the mappings that come with the package."""
    folder = importlib.resources.files(__package__) / "mappings"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def load_mapping(name: str) -> LabelMapping:
    """Return a mapping by its name, or read it from a YAML file: source label or pattern -> class name or null.

    Raises:
        ConfigError: There is no such mapping or file.
        DataError: The file holds something else.
    """
    import yaml

    if name in shipped_mappings():
        text = (importlib.resources.files(__package__) / "mappings" / f"{name}.yaml").read_text(encoding="utf-8")
    elif (path := Path(name).expanduser()).is_file():
        text = path.read_text(encoding="utf-8")
    else:
        raise unknown_name("label mapping (nor is it a YAML file)", name, shipped_mappings())
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"{name} is not YAML: {error}") from error
    if not isinstance(content, dict) or not all(v is None or isinstance(v, str) for v in content.values()):
        raise DataError(f"{name} must map labels to class names or null, one `label: class` a line.")
    return {str(label): target for label, target in content.items()}


def map_labels(
    source_labels: Sequence[str], mapping: LabelMapping, class_names: Sequence[str], key: str = "mapping"
) -> dict[str, int | None]:
    """Return each source label's class index, or None for a label whose rows are left out.

    The mapping goes from a source label, or a pattern such as ``talk.politics.*``, to a class name or None. A label
    that is named itself goes before patterns, of which the first that matches counts. An empty mapping: labels are
    class names.

    Raises:
        ConfigError: The mapping names a class that does not exist, or says nothing of a label.
    """
    index = {name: i for i, name in enumerate(class_names)}
    if not mapping:
        mapping = {name: name for name in class_names}
    for target in mapping.values():
        if target is not None and target not in index:
            raise unknown_name(f"class in {key}", target, class_names)
    found: dict[str, int | None] = {}
    missing = []
    for label in source_labels:
        patterns = [label] if label in mapping else [p for p in mapping if fnmatchcase(label, p)]
        if not patterns:
            missing.append(label)
            continue
        target = mapping[patterns[0]]
        found[label] = None if target is None else index[target]
    if missing:
        guess = nearest(missing[0], list(mapping))
        raise ConfigError(
            f"{key} says nothing of the label{'s' if len(missing) > 1 else ''} {', '.join(sorted(missing)[:12])}"
            f"{', ...' if len(missing) > 12 else ''}.\n  it maps: {', '.join(mapping)}",
            fix=f"{key}={{'{missing[0]}': {class_names[0]}}} (null leaves its rows out)"
            + (f"; did you mean the label '{guess}'?" if guess else ""),
        )
    return found


@dataclass(frozen=True)
class Detection(Result):
    """How well a score tells texts of the own source from foreign ones."""

    score: str  # its name; higher should mean the own source
    auroc: float  # chance that a text of the own source has the higher score than a foreign one, ties counting half
    low: float  # lower end of DeLong's 95 % interval (1988), on the logit scale
    high: float  # upper end
    foreign_accepted: float  # share of the foreign texts that pass the threshold that 95 % of the own texts pass
    own_mean: float  # mean score of the own texts
    foreign_mean: float  # mean score of the foreign ones


def confidence_scores(predictions: Predictions) -> dict[str, FloatArray]:
    """Return scores of n answers, each of shape (n,), higher for what the model knows.

    ``max_softmax``: the largest probability (Hendrycks and Gimpel 2017), of the model's own probabilities or, where
    it has none, of the softmax of its decision scores. ``margin``: the highest decision score minus the second (of
    log-probabilities where there are no scores). ``energy``: log-sum-exp of the decision scores (Liu et al. 2020);
    absent without scores. Empty for a model that gives labels only.
    """
    from scipy.special import logsumexp

    from agnews_exp.evaluation.calibrators import log_probabilities, softmax

    probabilities, scores = predictions.probabilities, predictions.scores
    found: dict[str, FloatArray] = {}
    matrix = softmax(scores) if probabilities is None and scores is not None else probabilities
    if matrix is not None:
        found["max_softmax"] = np.asarray(matrix.max(axis=1), dtype=np.float64)
        ranked = np.sort(log_probabilities(matrix) if scores is None else scores, axis=1)
        found["margin"] = ranked[:, -1] - ranked[:, -2]
    if scores is not None:
        found["energy"] = np.asarray(logsumexp(scores, axis=1))
    return found


def detection(name: str, own: FloatArray, foreign: FloatArray) -> Detection:
    """Return how well a score, shapes (n,) and (n',), tells texts of the own source from foreign ones."""
    from scipy.stats import norm, rankdata

    n, m = len(own), len(foreign)
    ranks = rankdata(np.concatenate([own, foreign]))
    # Placements: for each text, the share of the other set's texts that it is above (below).
    above = (ranks[:n] - rankdata(own)) / m
    below = 1 - (ranks[n:] - rankdata(foreign)) / n
    auroc = float(above.mean())
    variance = float(above.var(ddof=1) / n + below.var(ddof=1) / m) if min(n, m) > 1 else math.nan
    low, high = auroc, auroc
    if 0 < auroc < 1 and variance > 0:
        reach = float(norm.ppf(0.975)) * math.sqrt(variance) / (auroc * (1 - auroc))
        logit = math.log(auroc / (1 - auroc))
        low, high = (1 / (1 + math.exp(-(logit + sign * reach))) for sign in (-1, 1))
    threshold = float(np.quantile(own, 0.05, method="lower"))
    accepted = float(np.mean(foreign >= threshold))
    return Detection(name, auroc, low, high, accepted, float(own.mean()), float(foreign.mean()))


Part = Literal["headers", "footers", "quotes"]

_FOLDER_ENCODING = "latin-1"
"""Of newsgroup posts; every file can be read with it."""


def read_external(
    path: Path, text_columns: list[ColumnName], label_column: ColumnName, how: Reading, strip: Sequence[Part]
) -> tuple[TextRows, list[str]]:
    """Return the rows of another source, and its labels, which the rows number.

    It is a file as for ``data=csv``, or a folder whose sub-folders are labels with one file a text (20 Newsgroups).
    ``strip`` names parts of newsgroup posts to remove, as scikit-learn's ``fetch_20newsgroups(remove=...)`` does; files
    of a folder are Latin-1.

    Raises:
        DataError: There is nothing at the path, or the file has bad lines.
        ConfigError: A column does not exist.
    """
    labels = Labels()
    if path.is_dir():
        rows = read_file(path, ["text"], "label", labels, replace(how, encoding=_FOLDER_ENCODING))
    else:
        rows = read_file(path, text_columns, label_column, labels, how)
    if strip:
        texts = rows.texts
        # Private: in public only fetch_20newsgroups strips posts, and only those that it downloads itself.
        from sklearn.datasets import _twenty_newsgroups as posts

        for part, name in (("headers", "header"), ("footers", "footer"), ("quotes", "quoting")):  # in its order
            if part in strip:
                texts = list(map(getattr(posts, f"strip_newsgroup_{name}"), texts))
        rows = replace(rows, texts=texts)
    return rows, list(labels.index)


_UNITS = {
    "max_softmax": "largest probability",
    "margin": "highest score minus second",
    "energy": "log-sum-exp of the scores",
    "known_words": "share of words seen in training",
}


def scores_chart(own: Mapping[str, FloatArray], foreign: Mapping[str, FloatArray], found: Sequence[Detection]) -> Chart:
    """Return the distribution of each score over test and external rows, shapes (n,) and (m,), a panel each."""
    series = []
    for item in found:
        pair = {"test": own[item.score], "external": foreign[item.score]}
        edges = np.histogram_bin_edges(np.concatenate(list(pair.values())), bins=30)
        middles = tuple(((edges[:-1] + edges[1:]) / 2).tolist())
        panel = f"{_UNITS.get(item.score, item.score)}: AUROC {item.auroc:.3f}"
        for name, values in pair.items():
            shares = 100 * np.histogram(values, edges)[0] / len(values)
            series.append(Series(name, middles, tuple(shares.tolist()), panel=panel))
    return Chart("scores", "Scores of test rows and of external rows", "lines", "score", "rows [%]", tuple(series))


_GROUP = "evaluation.analyses.external"
_METRICS = ("accuracy", "macro_f1")


@analysis("external", title="On texts from another source")
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

    Returns:
        ``external/accuracy``, ``external/macro_f1``, and ``external/auroc_<score>``: how well a score tells test rows
        from the external ones (all of them, those left out by the mapping too).

    Raises:
        ConfigError: The mapping does not fit the labels or the classes.
        DataError: The source cannot be read, or the mapping leaves nothing.
    """
    if path is None:
        return Findings("No external source is configured: set `path` to a labelled file or folder.")
    names = context.splits.class_names
    columns = text_columns if isinstance(text_columns, list) else [text_columns]
    how = Reading(delimiter=delimiter, encoding=encoding, has_header=has_header, group=_GROUP)
    rows, label_names = read_external(Path(path).expanduser(), columns, label_column, how, strip)
    targets = map_labels(
        label_names,
        load_mapping(mapping) if isinstance(mapping, str) else {str(k): v for k, v in (mapping or {}).items()},
        names, f"{_GROUP}.mapping",
    )  # fmt: skip
    by_label = np.array([-1 if targets[label] is None else targets[label] for label in label_names], np.int64)
    labels = by_label[rows.labels]
    kept = labels >= 0
    if not kept.any():
        raise DataError(f"{_GROUP}.mapping leaves out all {len(labels):,} rows of {path}.")
    answers = context.model.predict(rows.texts)
    table = classification_report_table(labels[kept], answers.take(np.flatnonzero(kept)), names)
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
    blocks: tuple[Block, ...] = (
        *_tables(facts, intervals, table, found),
        scores_chart(own, foreign, found),
        matrix_chart("confusion_external", "Confusions on the external rows", matrix, names),
    )
    there, here = (intervals[split]["macro_f1"].estimate for split in ("external", "test"))
    headline = f"Macro-F1 is {there:.4f} on {facts['kept']:,} external rows and {here:.4f} on test."
    return Findings(headline, blocks, metrics, plain(details))


def _scores(
    context: AnalysisContext, rows: TextRows, answers: Predictions
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Return the scores of test rows and of external rows by name."""
    known = {word for text in context.splits.train.texts for word in split_words(text)}
    own, foreign = (
        confidence_scores(given) | {"known_words": known_share((split_words(text) for text in texts), known)}
        for given, texts in ((context.answers["test"], context.splits.test.texts), (answers, rows.texts))
    )
    return {name: own[name] for name in own if name in foreign}, foreign


def _by_label(
    rows: TextRows, targets: Mapping[str, int | None], names: Sequence[str], answers: Predictions
) -> list[dict[str, Any]]:
    listed = []
    for index, (label, target) in enumerate(targets.items()):
        given = np.bincount(answers.labels[rows.labels == index], minlength=len(names))
        share = None if target is None or not given.sum() else float(given[target] / given.sum())
        row: dict[str, Any] = {"label": label, "class": None if target is None else names[target]}
        listed.append(row | {"rows": int(given.sum()), "right": share} | dict(zip(names, given.tolist(), strict=True)))
    return listed


def _tables(
    facts: Mapping[str, Any],
    intervals: Mapping[str, Mapping[str, BootstrapInterval]],
    report: Sequence[Mapping[str, Any]],
    found: Sequence[Detection],
) -> tuple[Table, ...]:
    note = (
        f"{facts['rows'] - facts['kept']:,} of {facts['rows']:,} rows are left out by the mapping; "
        f"{facts['empty_texts']:,} texts are empty, {facts['in_train']:,} have the same words as a training text. 95 % "
        "bootstrap intervals. Where the classes have other shares, compare macro_f1, not accuracy."
    )
    scores: tuple[Row, ...] = tuple(
        (split, *(Number(value.estimate, "metric", *value.percentile) for value in values.values()))
        for split, values in intervals.items()
    )
    measures = ("precision", "recall", "f1")
    classes = tuple((row["class"], *(float(row[m]) for m in measures), int(row["support"])) for row in report)
    labels = tuple((r["label"], r["class"] or "left out", r["rows"], r["right"]) for r in facts["labels"])
    detections = tuple(
        (d.score, Number(d.auroc, ".3f", d.low, d.high), d.foreign_accepted, d.own_mean, d.foreign_mean) for d in found
    )
    noticed = (
        "AUROC: chance that a test row scores higher than an external one (all rows, those left out too), DeLong's "
        "95 % interval; .5 is chance, below it the external rows look more familiar. Accepted: external rows above the "
        "threshold that 95 % of the test rows pass."
    )
    title = f"{facts['kept']:,} rows of {Path(facts['path']).name}"
    return (
        Table("external", title, ("rows", *_METRICS), scores, note=note),
        Table("classes", "Classes of the external rows", ("class", *(Column(m, "metric") for m in measures), "rows"),
              classes),
        Table("labels", "The source's labels", ("label", "class", "rows", Column("right", "share")), labels),
        Table(
            "detection", "Does the model notice?",
            ("score", "AUROC", Column("accepted", "share"), Column("mean, test", ".3f"),
             Column("mean, external", ".3f")),
            detections, note=noticed,
        ),
    )  # fmt: skip
