"""One seed for everything that draws random numbers in this process."""

from __future__ import annotations

import random


def seed_everything(seed: int) -> None:
    """Seed Python's and NumPy's global generators (torch's is seeded by the transformer runner)."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that know only the global generator
