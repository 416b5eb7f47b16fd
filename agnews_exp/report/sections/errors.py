"""Errors: confusion matrices, classes, confused pairs, and what the analysis of errors has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.metrics import column_key, confusion_matrix
from agnews_exp.evaluation.statistics import accuracy_interval
from agnews_exp.reference.ag_news_notebooks.published import PUBLISHED_CLASSES, published_confusion
from agnews_exp.report.answers import Answers
from agnews_exp.report.content import (
    Block,
    Cell,
    Chart,
    Missing,
    Section,
    Series,
    Stored,
    Table,
    interval,
    number,
    slug,
    text,
)
from agnews_exp.report.inputs import Inputs, StoredRun, System
from agnews_exp.report.origin import BOOTSTRAP, WILSON, origin

Counts = NDArray[np.int64]
_SYSTEMS = (("classical", "LinearSVC"), ("transformer", "DistilBERT"))
_MOST_CLASSES = 20


def matrix_chart(
    name: str, title: str, counts: Counts, names: Sequence[str], made: str, covers: tuple[str, ...]
) -> Chart:
    """Return a confusion matrix: counts with row shares, true classes down, given ones across."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    texts = tuple(
        tuple(f"{n:,} ({s:.1%})" for n, s in zip(row, part, strict=True))
        for row, part in zip(counts, shares, strict=True)
    )
    return Chart(
        name,
        title,
        "heatmap",
        "class given",
        "true class",
        (),
        made,
        "Counts and shares of the true class: no interval.",
        z=tuple(tuple(float(v) for v in row) for row in shares),
        labels=(tuple(names), tuple(names)),
        texts=texts,
        covers=covers,
    )


def matrices(system: System, study: str, answers: Answers) -> list[Block]:
    """Return a system's confusion matrix on test, and the study's where the classes are its own."""
    run = system.first
    counts = confusion_matrix(answers.labels, answers.given.labels, len(run.class_names))
    made = origin([run])
    if len(run.class_names) > _MOST_CLASSES:
        return []
    blocks: list[Block] = [
        matrix_chart(
            f"confusion_{slug(run.family)}",
            f"Confusion matrix on test: {system.label}",
            counts,
            run.class_names,
            made,
            ("F21", "T23"),
        )
    ]
    if run.class_names == PUBLISHED_CLASSES:
        blocks.append(
            matrix_chart(
                f"confusion_study_{slug(study)}",
                f"The study's confusion matrix on test: {study} (from its notebook)",
                published_confusion(study),
                PUBLISHED_CLASSES,
                origin([]),
                ("F21", "T23"),
            )
        )
    return blocks


def out_of_fold(inputs: Inputs) -> Chart | None:
    """Return the out-of-fold matrix of the best run in cross-validation, or None."""
    found = [s.first for s in inputs.systems if s.first.folds]
    best = max(found, key=lambda run: run.metrics.get("cv/macro_f1", 0.0), default=None)
    answers = best.answers("cv") if best else None
    if best is None or answers is None or len(best.class_names) > _MOST_CLASSES:
        return None
    counts = confusion_matrix(answers.labels, answers.given.labels, len(best.class_names))
    title = f"Confusion matrix out of fold: {best.name}, the best in cross-validation"
    return matrix_chart("confusion_out_of_fold", title, counts, best.class_names, origin([best], ("cv",)), ("F16",))


def errors(inputs: Inputs) -> Section:
    """Return confusions and errors of the best classical model and the best transformer."""
    blocks: list[Block] = []
    found = [(system, study) for family, study in _SYSTEMS if (system := inputs.best_of(family)) is not None]
    if not found:
        found = [(inputs.best, "LinearSVC")]
    named = [(system, study, system.first.answers("test")) for system, study in found]
    for system, study, answers in named:
        if answers is not None:
            blocks += matrices(system, study, answers)
    crossed = out_of_fold(inputs)
    blocks += [crossed] if crossed else []
    blocks += [
        _by_class([s for s, _, a in named if a is not None]),
        _class_table(inputs, [s for s, _, a in named if a is not None]),
    ]
    blocks += _pairs([(s, a) for s, _, a in named if a is not None])
    if len(named) > 1 and named[0][2] is not None and named[1][2] is not None:
        blocks.append(_agreement(named[0][0], named[1][0], named[0][2], named[1][2]))
    blocks += _stored(inputs)
    return Section("errors", "Errors and confusions", tuple(blocks))


def _published_f1(study: str) -> list[float]:
    counts = published_confusion(study)
    hits = np.diag(counts)
    return [float(v) for v in 2 * hits / (counts.sum(axis=0) + counts.sum(axis=1))]


def _by_class(systems: Sequence[System]) -> Chart:
    names = systems[0].first.class_names
    series = []
    for system in systems:
        run = system.first
        metrics = [f"test/f1/{column_key(name, names)}" for name in names]
        ends = [run.interval(metric) or (None, None) for metric in metrics]
        series.append(
            Series(
                system.label,
                tuple(run.metrics.get(metric) for metric in metrics),
                tuple(names),
                tuple(low for low, _ in ends),
                tuple(high for _, high in ends),
            )
        )
    if names == PUBLISHED_CLASSES:
        for _, study in _SYSTEMS:
            series.append(Series(f"study: {study}", tuple(_published_f1(study)), tuple(names), published=True))
    return Chart(
        "f1_by_class",
        "F1 by class on test",
        "dots",
        "F1",
        "",
        tuple(series),
        origin([s.first for s in systems]),
        intervals=BOOTSTRAP + " The study's values follow from its confusion matrices.",
        covers=("F20", "F23"),
    )


def _class_table(inputs: Inputs, systems: Sequence[System]) -> Table:
    header = ("system", "class", "precision", "recall", "F1 [95 %]", "rows", "errors", "study: F1")
    rows: list[tuple[Cell, ...]] = []
    for system, (_, study) in zip(systems, _SYSTEMS, strict=False):
        run = system.first
        theirs = _published_f1(study) if run.class_names == PUBLISHED_CLASSES else [None] * len(run.class_names)
        support = np.array((run.result.get("confusion") or {}).get("test") or [[0]]).sum(axis=1)
        for place, name in enumerate(run.class_names):
            key = column_key(name, run.class_names)
            n = int(support[place]) if place < len(support) else None
            recall = run.metrics.get(f"test/recall/{key}")
            wrong = None if n is None or recall is None else round(n * (1 - recall))
            rows.append(
                (
                    text(system.label),
                    text(name),
                    number(run.metrics.get(f"test/precision/{key}")),
                    number(recall),
                    interval(run.metrics.get(f"test/f1/{key}"), *(run.interval(f"test/f1/{key}") or (None, None))),
                    number(n, ",.0f"),
                    number(wrong, ",.0f"),
                    number(theirs[place]),
                )
            )
    return Table(
        "classes",
        "Classes on test",
        header,
        tuple(rows),
        origin([s.first for s in systems]),
        note="An error reduction is best counted in errors: the study's README took ratios of 1 − F1,"
        " which inflates classes"
        " with few errors.",
        covers=("T03", "T26"),
    )


def _pairs(named: Sequence[tuple[System, Answers]]) -> list[Block]:
    names = named[0][0].first.class_names
    theirs = {study: published_confusion(study) for _, study in _SYSTEMS} if names == PUBLISHED_CLASSES else {}
    ours = {s.label: confusion_matrix(a.labels, a.given.labels, len(names)) for s, a in named}
    total = len(named[0][1].labels)
    found = []
    for i in range(len(names)):
        for j in range(i + 1, len(names)):
            found.append((names[i], names[j], i, j))
    most = next(iter(ours.values()))
    found.sort(key=lambda pair: -int(most[pair[2], pair[3]] + most[pair[3], pair[2]]))
    header = (
        "classes taken for each other",
        *(f"{label}: errors" for label in ours),
        *(f"study, {s}: errors" for s in theirs),
    )
    rows = [
        (
            text(f"{a} – {b}"),
            *(number(int(m[i, j] + m[j, i]), ",.0f") for m in ours.values()),
            *(number(int(m[i, j] + m[j, i]), ",.0f") for m in theirs.values()),
        )
        for a, b, i, j in found[:30]
    ]
    made = origin([s.first for s, _ in named])
    table = Table("confused_pairs", "Confused pairs on test", header, tuple(rows), made, covers=("T05",))
    labels = tuple(f"{a} – {b}" for a, b, _, _ in found[:15])
    series = []
    for label, m in ours.items():
        shares = [accuracy_interval(int(m[i, j] + m[j, i]), total) for _, _, i, j in found[:15]]
        series.append(
            Series(
                label,
                tuple(s.estimate for s in shares),
                labels,
                tuple(s.low for s in shares),
                tuple(s.high for s in shares),
            )
        )
    chart = Chart(
        "confused_pairs_chart",
        "Confused pairs, share of all test rows",
        "dots",
        "share of test rows",
        "",
        tuple(series),
        made,
        intervals=WILSON,
        covers=("F26",),
    )
    return [chart, table]


def _agreement(one: System, other: System, a: Answers, b: Answers) -> Table:
    right = a.given.labels == a.labels, b.given.labels == b.labels
    cases = {
        "both right": right[0] & right[1],
        f"only {one.label} right": right[0] & ~right[1],
        f"only {other.label} right": ~right[0] & right[1],
        "both wrong": ~right[0] & ~right[1],
    }
    rows = []
    for name, at in cases.items():
        share = accuracy_interval(int(at.sum()), len(at))
        cell = Cell(f"{share.estimate:.1%} [{share.low:.1%}, {share.high:.1%}]", share.estimate)
        rows.append((text(name), number(int(at.sum()), ",.0f"), cell))
    header = ("test rows", "rows", "share [95 % Wilson]")
    made = origin([one.first, other.first])
    return Table("agreement", "Who is right", header, tuple(rows), made, covers=())


def _stored(inputs: Inputs) -> list[Block]:
    runs = inputs.with_analysis("errors")
    if not runs:
        return [
            Missing("Slices, duplicates, label noise and hardest rows have not been analysed.", "agnews errors RUN")
        ]
    blocks: list[Block] = []
    for place, run in enumerate(_few(runs)):
        details: dict[str, Any] = (run.analysis("errors") or {}).get("details", {})
        for group, title, compared in (
            ("by_length", "length", _alone),
            ("by_source", "source named in the text", _alone),
            ("by_artefact", "artefact", _with_and_without),
        ):
            if entries := details.get(group):
                chart_title = f"Error rate by {title}: {run.name}"
                blocks.append(_rates(compared(entries), f"errors_{group}_{place}", chart_title, run))
        blocks.append(Stored(f"Analysis of errors: {run.name}", run.summary("errors"), origin([run])))
    return blocks


def _few(runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Return the best run of each family."""
    best: dict[str, StoredRun] = {}
    for run in runs:
        best.setdefault(run.family, run)
    return list(best.values())


def _alone(entries: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Mapping[str, Any]]]:
    return {"error rate": entries}


def _with_and_without(entries: Sequence[Mapping[str, Any]]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return the error rates of the rows that have an artefact and of those that have not."""
    sides = {"rows with it": "inside", "rows without it": "outside"}
    return {title: [{**entry[side], "name": entry["name"]} for entry in entries] for title, side in sides.items()}


def _rates(compared: Mapping[str, Sequence[Mapping[str, Any]]], name: str, title: str, run: StoredRun) -> Chart:
    series = tuple(
        Series(
            label,
            tuple(float(e["rate"]) for e in entries),
            tuple(str(e["name"]) for e in entries),
            tuple(float(e["low"]) for e in entries),
            tuple(float(e["high"]) for e in entries),
            tuple(f"{e['name']}: {e['count']} of {e['total']}" for e in entries),
        )
        for label, entries in compared.items()
    )
    return Chart(
        name, title, "dots", "error rate on test", "", series, origin([run]), intervals=WILSON, covers=("F26",)
    )
