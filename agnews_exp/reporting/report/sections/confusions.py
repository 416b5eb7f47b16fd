"""Confusion matrices, ours and the study's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.metrics import confusion_matrix
from agnews_exp.reporting.report.answers import Answers
from agnews_exp.reporting.report.content import (
    Block,
    Chart,
    slug,
)
from agnews_exp.reporting.report.inputs import Inputs
from agnews_exp.reporting.report.origin import origin
from agnews_exp.reporting.report.published import PUBLISHED_CLASSES, published_confusion
from agnews_exp.reporting.report.systems import System

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
