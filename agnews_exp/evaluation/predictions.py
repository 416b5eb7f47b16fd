"""The answers of any model, of whatever family, for n texts."""

from __future__ import annotations

from dataclasses import dataclass

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
        parts = (None if part is None else part[positions] for part in (self.scores, self.probabilities))
        return Predictions(self.labels[positions], *parts)
