"""Claims that the study's own published counts answer, whatever our runs are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agnews_exp.evaluation.statistics import mcnemar_test, pooled_cohens_d
from agnews_exp.reporting.report.published import PUBLISHED_CLASSES, published, published_confusion
from agnews_exp.reporting.report.recomputed import (
    accuracy,
    class_f1,
    corrected_fold_test,
    paired_counts,
    study_interval,
)
from agnews_exp.reporting.report.verdicts import FAILS, HOLDS, Answer

Line = dict[str, str]
_BASIS = "the study's outputs, computed again"
_SYSTEMS = ("LinearSVC", "DistilBERT")


def _answer(said: str, holds: bool) -> Answer:
    return Answer(said, HOLDS if holds else FAILS, _BASIS)


def printed_matrices(_: Line) -> Answer:
    """Compare the accuracies of the printed and the computed matrices."""
    parts, same = [], True
    for system in _SYSTEMS:
        real, printed = published_confusion(system), published_confusion(system, source="technical report")
        same &= bool((real == printed).all())
        parts.append(
            f"{system}: the printed matrix gives {accuracy(printed):.4f}, the computed one {accuracy(real):.4f}"
        )
    return _answer("; ".join(parts) + ".", same)


def pair_reduction(_: Line) -> Answer:
    """Compute the reductions of confused pairs from the computed matrices."""
    svc, bert = (published_confusion(system) for system in _SYSTEMS)
    parts, reductions = [], []
    for i in range(len(PUBLISHED_CLASSES)):
        for j in range(i + 1, len(PUBLISHED_CLASSES)):
            before, after = int(svc[i, j] + svc[j, i]), int(bert[i, j] + bert[j, i])
            reductions.append(1 - after / before)
            parts.append(
                f"{PUBLISHED_CLASSES[i]}–{PUBLISHED_CLASSES[j]} {before} to {after} ({1 - after / before:.1%})"
            )
    return _answer("; ".join(parts) + ".", all(0.27 <= r <= 0.365 for r in reductions))


def study_ci(line: Line) -> Answer:
    """Bootstrap the study's matrix."""
    system, low, high = line["argument"].split()
    ours = study_interval(system)
    same = max(abs(ours[0] - float(low)), abs(ours[1] - float(high))) < 0.001
    narrower = 1 - (float(high) - float(low)) / (ours[1] - ours[0])
    said = (
        f"Bootstrap of its own answers: [{ours[0]:.4f}, {ours[1]:.4f}]; the published interval is"
        f" {narrower:.0%} narrower."
    )
    return _answer(said, same)


def gpus(line: Line) -> Answer:
    """Divide."""
    speed, texts, claimed = (float(word) for word in line["argument"].split())
    needed = int(np.ceil(texts / 86_400 / speed))
    return _answer(
        f"At the claimed {speed:.0f} texts a second, {texts:,.0f} a day need {needed} GPUs.", needed == claimed
    )


def model_count(_: Line) -> Answer:
    """Count models that are no dummies, and families."""
    names = [row["model"] for row in published("models")]
    real = [name for name in names if "dummy" not in name]
    families = sorted({_family(name) for name in real})
    said = (
        f"{len(names)} rows, {len(names) - len(real)} of them dummies; the others are of"
        f" {len(families)} families: {', '.join(families)}."
    )
    return _answer(said, len(real) == len(names))


def _family(name: str) -> str:
    for family in ("sgd", "linear_svc", "logreg", "random_forest"):
        if name.startswith(family):
            return family
    return "naive_bayes"


def class_range(_: Line) -> Answer:
    """Take the smallest class F1 of DistilBERT's matrix."""
    scores = class_f1(published_confusion("DistilBERT"))
    worst = int(scores.argmin())
    said = f"From its matrix: {100 * scores.min():.2f} ({PUBLISHED_CLASSES[worst]}) to {100 * scores.max():.2f}."
    return _answer(said, abs(scores.min() - 0.9157) < 5e-4)


def mcnemar(_: Line) -> Answer:
    """Test the discordant items."""
    counts = paired_counts()
    p = mcnemar_test(counts, "exact").p_value
    said = (
        f"McNemar's exact test on {counts.only_a} against {counts.only_b} discordant items gives p ="
        f" {p:.2g}: the difference is"
        " real, but the test over four classes is not what shows it."
    )
    return _answer(said, False)


def cohens_d(line: Line) -> Answer:
    """Compute the pooled d of the methodology's own formula."""
    svc, bert = (class_f1(published_confusion(system)) for system in _SYSTEMS)
    d = pooled_cohens_d(bert, svc)
    said = (
        f"The methodology's own formula on the same four F1s gives d = {d:.2f}; neither is an effect size of the items."
    )
    return _answer(said, abs(d - float(line["number"])) < 0.05)


def corrected_t(line: Line) -> Answer:
    """Correct the fold test."""
    statistic, p = corrected_fold_test(float(line["argument"]))
    said = (
        f"Corrected for overlapping folds: t = {statistic:.2f}, p = {p:.3f}; {min(1.0, 2 * p):.3f}"
        " after Holm over three tests."
    )
    return _answer(said, 2 * p <= 0.05)


def error_reduction(_: Line) -> Answer:
    """Count errors by class."""
    svc, bert = (published_confusion(system) for system in _SYSTEMS)
    wrong = [m.sum(axis=1) - np.diag(m) for m in (svc, bert)]
    shares = 1 - wrong[1] / wrong[0]
    parts = [
        f"{name} {a} to {b} ({share:.1%})" for name, a, b, share in zip(PUBLISHED_CLASSES, *wrong, shares, strict=True)
    ]
    return _answer("Errors: " + ", ".join(parts) + ".", abs(shares[1] - 0.544) < 0.01)


RECOMPUTED: dict[str, Callable[[Line], Answer]] = {
    "printed_matrices": printed_matrices,
    "pair_reduction": pair_reduction,
    "study_interval": study_ci,
    "gpus": gpus,
    "model_count": model_count,
    "class_range": class_range,
    "mcnemar": mcnemar,
    "cohens_d": cohens_d,
    "corrected_t": corrected_t,
    "error_reduction": error_reduction,
}
