"""What a perturbation costs: the metric on changed texts against the same rows unchanged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.robustness.perturbations import Variant
from agnews_exp.evaluation.inputs import Result
from agnews_exp.evaluation.statistics.bootstrap import PairedBootstrap, bootstrap_difference

METRICS = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Drop(Result):
    """One variant's effect.

    Attributes:
        variant: What was done to the texts.
        metrics: By metric: the changed texts (a), the same rows unchanged (b), and the difference a - b.
        changed_texts: Share of texts that the perturbation changed at all.
        changed_answers: Share of rows that get another class than unchanged.
    """

    variant: Variant
    metrics: dict[str, PairedBootstrap]
    changed_texts: float
    changed_answers: float


def measure_drop(
    variant: Variant,
    labels: NDArray[np.int64],
    clean: NDArray[np.int64],
    perturbed: NDArray[np.int64],
    changed_texts: float,
    *,
    class_names: Sequence[str],
    resamples: int = 2000,
    seed: int = 0,
) -> Drop:
    """Return a variant's effect with paired bootstrap intervals over the rows.

    Args:
        variant: What was done.
        labels: Shape (n,), true class indices.
        clean: Shape (n,), classes given to the texts as they are.
        perturbed: Shape (n,), classes given to the changed texts.
        changed_texts: Share of texts that were changed.
        class_names: K names.
        resamples: Bootstrap resamples.
        seed: Of the resampling.
    """
    metrics = {
        metric: bootstrap_difference(
            labels, perturbed, clean, metric, resamples=resamples, seed=seed, class_names=class_names
        )
        for metric in METRICS
    }
    return Drop(variant, metrics, changed_texts, float(np.mean(clean != perturbed)))
