"""What the study's own published counts say, computed with this package's statistics."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.statistics import (
    PairedCounts,
    bootstrap_metric,
    correct_t_statistic,
    effect_sizes,
    mcnemar_test,
    pooled_cohens_d,
    wilcoxon_test,
)
from agnews_exp.reporting.report.answers import RESAMPLES
from agnews_exp.reporting.report.content import Cell, number
from agnews_exp.reporting.report.published import published, published_confusion

_FOLDS = 10


def paired_counts() -> PairedCounts:
    """Return the study's McNemar table: DistilBERT is a, LinearSVC is b."""
    values = {
        row["what"]: int(row["published"])
        for row in published("tests")
        if "right" in row["what"] or "wrong" in row["what"]
    }
    return PairedCounts(
        both_right=values["both right"],
        only_a=values["only DistilBERT right"],
        only_b=values["only LinearSVC right"],
        both_wrong=values["both wrong"],
    )


def class_f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return F1 by class of a confusion matrix (K, K), shape (K,)."""
    return np.asarray(2 * np.diag(counts) / (counts.sum(axis=0) + counts.sum(axis=1)), dtype=np.float64)


def accuracy(counts: NDArray[np.int64]) -> float:
    """Return the accuracy of a confusion matrix."""
    return float(np.trace(counts) / counts.sum())


@cache
def study_interval(system: str) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the study's test macro-F1, from its confusion matrix."""
    counts = published_confusion(system)
    true, given = np.indices(counts.shape).reshape(2, -1)
    labels, answers = np.repeat(true, counts.ravel()), np.repeat(given, counts.ravel())
    return bootstrap_metric(labels, answers, "macro_f1", resamples=RESAMPLES, seed=0).percentile


def corrected_fold_test(statistic: float) -> tuple[float, float]:
    """Return t and two-sided p of a naive t over 10 folds after Nadeau and Bengio (2003)."""
    return correct_t_statistic(statistic, _FOLDS, 1 / (_FOLDS - 1))


@cache
def study_tests() -> Mapping[str, Cell]:
    """Return the tests of DistilBERT against LinearSVC, by name, and those over folds."""
    counts = paired_counts()
    effect = effect_sizes(counts)
    corrected, exact = mcnemar_test(counts, "corrected"), mcnemar_test(counts, "exact")
    bert, svc = (class_f1(published_confusion(name)) for name in ("DistilBERT", "LinearSVC"))
    cells = {
        "items right by both": number(counts.both_right, ",.0f"),
        "right by the first alone": number(counts.only_a, ",.0f"),
        "right by the second alone": number(counts.only_b, ",.0f"),
        "wrong by both": number(counts.both_wrong, ",.0f"),
        "McNemar, exact: p": number(exact.p_value, ".3g"),
        "McNemar, continuity-corrected: chi-square": number(corrected.statistic, ".2f"),
        "odds ratio of discordant items": number(effect.discordant_odds_ratio.estimate, ".2f"),
        "Cohen's g": number(effect.cohens_g.estimate, ".3f"),
        "reduction of errors": number(effect.error_reduction, ".1%"),
        "difference of macro-F1": number(float(bert.mean() - svc.mean()), "+.4f"),
        "pooled Cohen's d over 4 class F1s (published as 2.59)": number(pooled_cohens_d(bert, svc), ".3f"),
        "Wilcoxon over 4 class F1s: p (its minimum)": number(wilcoxon_test(bert, svc).p_value, ".3f"),
    }
    for row in published("tests"):
        if row["what"].startswith("t of"):
            statistic, p = corrected_fold_test(float(row["published"]))
            name = row["what"].removeprefix("t of ")
            cells[f"{name}: corrected t (published {row['published']})"] = number(statistic, ".3f")
            cells[f"{name}: corrected p"] = number(p, ".4f")
    for system in ("DistilBERT", "LinearSVC"):
        low, high = study_interval(system)
        value = float(class_f1(published_confusion(system)).mean())
        cells[f"{system}: test macro-F1 [95 % bootstrap]"] = Cell(f"{value:.4f} [{low:.4f}, {high:.4f}]", value)
    return cells
