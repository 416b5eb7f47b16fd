"""Soft targets of training rows: a teacher's class probabilities beside, or in place of, the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_FLOOR = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """A teacher's class probabilities for n training rows, and their weight beside the labels.

    The loss of row i with logits z is (Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network")
    ``share_i T^2 KL(p_i || softmax(z / T)) + (1 - share_i) CE(label_i, softmax(z))``.
    """

    probabilities: NDArray[np.float32]  # shape (n, K), float32: the teacher's probabilities p at the temperature T
    # Shape (n,), float32: weight of the teacher's part, in [0, 1]; 1 for a row without a label.
    share: NDArray[np.float32]
    temperature: float  # T > 0

    def __post_init__(self) -> None:
        if self.probabilities.ndim != 2 or self.share.shape != (len(self.probabilities),):
            raise ValueError(f"shapes {self.probabilities.shape} and {self.share.shape} do not fit")

    def __len__(self) -> int:
        return len(self.share)


def tempered(probabilities: ArrayLike, temperature: float) -> NDArray[np.float32]:
    """Return probabilities (n, K) at a temperature T > 0: proportional to ``p ** (1 / T)``, shape (n, K), float32.

    For probabilities that are a softmax of logits this is the softmax of the logits divided by T.
    """
    logs = np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _FLOOR)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True)) if len(logs) else logs
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def weighted_copies(
    labels: NDArray[np.int64], soft: SoftTargets
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return soft targets as weighted hard ones: each row once a class, weighted by the class's part of its target.

    For a classifier that takes sample weights and minimises a log loss this is distillation without the student's side
    of the temperature. Parts of a target below 0.001 are left out and the others scaled up.

    Returns:
        For the n rows, whose ``labels`` have shape (n,): row positions (int64), classes (int64) and weights (float64),
        shape (m,) each, m >= n.
    """
    share = soft.share[:, None].astype(np.float64)
    targets = share * soft.probabilities
    targets[np.arange(len(labels)), labels] += 1.0 - share[:, 0]
    targets[targets < 1e-3] = 0.0
    targets /= targets.sum(axis=1, keepdims=True)
    rows, classes = np.nonzero(targets)
    return rows.astype(np.int64), classes.astype(np.int64), targets[rows, classes]


def takes_soft_targets(fit: Callable[..., object]) -> bool:
    """Return whether a classifier's ``fit`` has an argument ``soft``."""
    import inspect

    return "soft" in inspect.signature(fit).parameters
