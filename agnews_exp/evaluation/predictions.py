"""The answers of any model, of whatever family, for n texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import ConfigError
from agnews_exp.evaluation.tasks import Task, task_of


@dataclass(frozen=True, eq=False)
class Predictions:
    """Answers for n texts and K classes."""

    # Predicted class indices, shape (n,); or sets of classes, shape (n, K), 0 and 1.
    labels: NDArray[np.int64]
    # Shape (n, K), decision scores (higher means more likely; any scale), or None.
    scores: NDArray[np.float64] | None = None
    # Shape (n, K), or None for models that give none; rows sum to one unless they are of sets of classes.
    probabilities: NDArray[np.float64] | None = None
    # Shape (n,), where the model's answer was no class (the label means nothing there), or None for models that choose.
    unparsed: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def task(self) -> Task:
        """The task whose answers they are."""
        return task_of(self.labels)

    @property
    def confidences(self) -> NDArray[np.float64]:
        """Shape (n, K): probabilities, or decision scores made to look like them where the model gives none.

        Raises:
            ConfigError: The model gives neither.
        """
        if self.probabilities is not None:
            return self.probabilities
        if self.scores is None:
            raise ConfigError("This model gives labels only, neither scores nor probabilities.", fix="--top-k 1")
        return self.task.confidences(self.scores)

    def take(self, positions: NDArray[np.int64]) -> Predictions:
        """Return the answers at these positions, in this order."""
        rest: Any = (None if p is None else p[positions] for p in (self.scores, self.probabilities, self.unparsed))
        return Predictions(self.labels[positions], *rest)

    def counted_wrong(self, truth: NDArray[np.int64], n_classes: int) -> Predictions:
        """Return the answers for judging: what was no class becomes a wrong one, the next after the true one.

        So it is an error for every metric and every test, and no class gains by it.
        """
        if self.unparsed is None:
            return self
        labels = np.where(self.unparsed, (truth + 1) % n_classes, self.labels)
        return Predictions(labels, self.scores, self.probabilities, self.unparsed)
