"""A line of the table: how often something happened, and how often it should."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
COVERS = (0.93, 0.97)
REJECTS = (0.04, 0.06)


@dataclass(frozen=True)
class Row:
    """One line of the table: how often something happened, and how often it should."""

    what: str
    rate: float
    sets: int
    allowed: tuple[float, float] | None
    note: str = ""

    @property
    def error(self) -> float:
        """Standard error of the rate."""
        return math.sqrt(max(self.rate * (1 - self.rate), 1e-12) / self.sets)

    def kept(self, slack: float = 0.0) -> bool:
        """Whether the rate lies within ``slack`` standard errors of the allowed range."""
        if self.allowed is None:
            return True
        # At a rate near 0 or 1 the error is taken at the range's end, or a short run would have none.
        reach = slack * max(self.error, *(math.sqrt(p * (1 - p) / self.sets) for p in self.allowed))
        return self.allowed[0] - reach <= self.rate <= self.allowed[1] + reach
