"""Ways of taking a share of the training rows, all nested: a small share's rows are among a larger one's.

Every function takes the first rows of one fixed order, so for f <= g the rows of f are among those of g. The
order comes from NumPy's legacy generator, whose stream is frozen (NEP 19): the same rows on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.errors import ConfigError

Positions = NDArray[np.int64]


def stratified(labels: Positions, *, fraction: float, seed: int, n_classes: int) -> Positions:
    """Take the same share of every class, rounded half up, at least one row.

    Args:
        labels: Shape (n,), class indices.
        fraction: Share in (0, 1].
        seed: Seed of the order of the rows.
        n_classes: Number of classes K.

    Returns:
        Positions into ``labels``, ascending.
    """
    counts = np.bincount(labels, minlength=n_classes)
    return _first_of_each_class(labels, np.array([_share(n, fraction) for n in counts]), seed)


def random(labels: Positions, *, fraction: float, seed: int, n_classes: int) -> Positions:
    """Take a share of all rows, whatever their class; the first row of every class is always among them.

    Args:
        labels: Shape (n,), class indices.
        fraction: Share in (0, 1].
        seed: Seed of the order of the rows.
        n_classes: Number of classes K.

    Returns:
        Positions into ``labels``, ascending.
    """
    order = _order(len(labels), seed)
    firsts = _first_of_each_class(labels, np.ones(n_classes, dtype=np.int64), seed)
    return np.union1d(order[: _share(len(labels), fraction)], firsts)


def balanced(labels: Positions, *, fraction: float, seed: int, n_classes: int) -> Positions:
    """Take equally many rows of every class, as far as they go; small classes are taken whole.

    The budget is ``fraction`` of all rows: m is the largest number for which min(class size, m), summed over
    the classes, stays within it. So ``fraction=1`` takes all rows, however unequal the classes are.

    Args:
        labels: Shape (n,), class indices.
        fraction: Share in (0, 1].
        seed: Seed of the order of the rows.
        n_classes: Number of classes K.

    Returns:
        Positions into ``labels``, ascending.
    """
    counts = np.bincount(labels, minlength=n_classes)
    budget = _share(len(labels), fraction)
    low, high = 1, int(counts.max())  # the sum grows with m, so the largest m that fits is found by halving
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(counts, middle).sum() <= budget:
            low = middle
        else:
            high = middle - 1
    return _first_of_each_class(labels, np.minimum(counts, low), seed)


def check_fraction(fraction: float) -> None:
    """Raise unless a fraction is in (0, 1].

    Raises:
        ConfigError: It is not.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"data_fraction={fraction}: it must be greater than 0 and at most 1.")


def _share(n: int, fraction: float) -> int:
    """Round half up: monotone in ``fraction``, which nesting needs (largest-remainder rounding is not)."""
    check_fraction(fraction)
    return max(min(n, 1), int(np.floor(n * fraction + 0.5)))


def _order(n: int, seed: int) -> Positions:
    return np.random.RandomState(seed).permutation(n).astype(np.int64)


def _first_of_each_class(labels: Positions, take: NDArray[np.int64], seed: int) -> Positions:
    """Return the first ``take[c]`` rows of every class c in the seeded order, positions ascending."""
    order = _order(len(labels), seed)
    # Sorted by class, in the seeded order within a class.
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels, minlength=len(take))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    chosen = [by_class[start : start + k] for start, k in zip(starts, take, strict=True)]
    return np.sort(np.concatenate(chosen))
