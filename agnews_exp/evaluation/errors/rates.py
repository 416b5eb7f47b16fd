"""Error rates of groups of rows, with Wilson intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.statistics.effect_size import accuracy_interval
from agnews_exp.evaluation.statistics.inputs import Result

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Rate(Result):
    """A share with its interval.

    Attributes:
        name: What is counted, such as the group's name.
        count: Errors.
        total: Rows, at least 1.
        rate: ``count / total``.
        low: Lower end of Wilson's score interval (1927).
        high: Upper end.
    """

    name: str
    count: int
    total: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Contrast(Result):
    """The error rates of the rows that have an attribute and of those that have not.

    Attributes:
        name: The attribute.
        inside: Rows that have it.
        outside: The other rows.
        p_value: Fisher's exact test, two-sided, unadjusted.
    """

    name: str
    inside: Rate
    outside: Rate
    p_value: float


def rate(name: str, count: int, total: int, level: float = 0.95) -> Rate:
    """Return a share with its Wilson interval.

    Args:
        name: What is counted.
        count: Between 0 and ``total``.
        total: At least 1.
        level: Nominal coverage.
    """
    interval = accuracy_interval(count, total, level)
    return Rate(name, count, total, interval.estimate, interval.low, interval.high)


def rates_by_group(
    wrong: BoolArray, groups: NDArray[np.int64], names: Sequence[str], level: float = 0.95
) -> tuple[Rate, ...]:
    """Return the error rate of each group that has rows, in the order of the names.

    Args:
        wrong: Shape (n,), whether each row is an error.
        groups: Shape (n,), each row's group, an index into ``names``.
        names: Names of the groups.
        level: Nominal coverage.
    """
    totals = np.bincount(groups, minlength=len(names))
    counts = np.bincount(groups[wrong], minlength=len(names))
    return tuple(rate(name, int(counts[i]), int(totals[i]), level) for i, name in enumerate(names) if totals[i])


def contrasts(wrong: BoolArray, attributes: Mapping[str, BoolArray], level: float = 0.95) -> tuple[Contrast, ...]:
    """Return rows with an attribute against rows without, for each attribute that some but not all rows have.

    Args:
        wrong: Shape (n,), whether each row is an error.
        attributes: Shape (n,) each, which rows have it.
        level: Nominal coverage.
    """
    from scipy.stats import fisher_exact

    found = []
    for name, has in attributes.items():
        n_in, n_out = int(has.sum()), int((~has).sum())
        if not n_in or not n_out:
            continue
        inside, outside = int(wrong[has].sum()), int(wrong[~has].sum())
        table = [[inside, n_in - inside], [outside, n_out - outside]]
        p_value = float(fisher_exact(table).pvalue)
        found.append(Contrast(name, rate(name, inside, n_in, level), rate("others", outside, n_out, level), p_value))
    return tuple(found)
