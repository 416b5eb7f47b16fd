"""The answers of any model, of whatever family, for n texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Predictions:
    """Answers for n texts and K classes."""

    labels: NDArray[np.int64]  # shape (n,), predicted class indices
    # Shape (n, K), decision scores (higher means more likely; any scale), or None.
    scores: NDArray[np.float64] | None = None
    probabilities: NDArray[np.float64] | None = None  # shape (n, K), rows sum to one, or None for models that give none

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, positions: NDArray[np.int64]) -> Predictions:
        """Return the answers at these positions, in this order."""
        parts = (None if part is None else part[positions] for part in (self.scores, self.probabilities))
        return Predictions(self.labels[positions], *parts)
