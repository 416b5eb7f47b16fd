"""The answers of any model, of whatever family, for n texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Predictions:
    """Answers for n texts and K classes."""

    labels: NDArray[np.int64]  # shape (n,), predicted class indices
    # Shape (n, K), decision scores (higher means more likely; any scale), or None.
    scores: NDArray[np.float64] | None = None
    probabilities: NDArray[np.float64] | None = None  # shape (n, K), rows sum to one, or None for models that give none
    # Shape (n,), where the model's answer was no class (the label means nothing there), or None for models that choose.
    unparsed: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.labels)

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
