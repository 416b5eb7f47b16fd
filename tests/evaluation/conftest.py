from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

Triple = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@pytest.fixture
def random_predictions() -> Callable[..., Triple]:
    """Return a maker of (y_true, pred_a, pred_b) with unequal classes and dependent errors."""

    def make(seed: int = 0, n: int = 400, k: int = 4, accuracy_a: float = 0.85, accuracy_b: float = 0.8) -> Triple:
        rng = np.random.default_rng(seed)
        y = rng.choice(k, size=n, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum())
        hard = 0.7 * rng.random(n) + 0.3 * rng.random((2, n))  # shared and own difficulty of each item
        wrong = (y + rng.integers(1, k, size=(2, n))) % k
        cuts = np.quantile(hard[0], accuracy_a), np.quantile(hard[1], accuracy_b)
        a, b = (np.where(hard[m] <= cuts[m], y, wrong[m]) for m in (0, 1))
        return y, a, b

    return make
