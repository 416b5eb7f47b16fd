"""One number of every text, drawn as a box for each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.context import EdaContext, IntArray

Groups = dict[str, NDArray[np.float64]]


def by_class(context: EdaContext, positions: IntArray, values: NDArray[np.float64]) -> Groups:
    """Return the finite values of each class that has any.

    Args:
        context: The corpus.
        positions: Shape (n,), rows of train.
        values: Shape (n,), one of each.
    """
    labels = context.train.labels[positions]
    keep = np.isfinite(values)
    groups = {name: values[keep & (labels == k)] for k, name in enumerate(context.names)}
    return {name: own for name, own in groups.items() if len(own)}


def box_part(context: EdaContext, name: str, title: str, groups: Groups, xlabel: str,
             limits: tuple[float, float] | None = None) -> dict[str, float]:  # fmt: skip
    """Draw boxes and return each group's mean."""
    rows = []
    for group, values in groups.items():
        p5, q25, median, q75, p95 = np.percentile(values, [5, 25, 50, 75, 95]).tolist()
        rows.append({"class": group, "texts": len(values), "mean": float(values.mean()), "sd": float(values.std()),
                     "p5": p5, "q25": q25, "median": median, "q75": q75, "p95": p95})  # fmt: skip
    context.draw(name, title, drawing.box_rows(groups, xlabel, limits), rows)
    return {str(row["class"]): float(row["mean"]) for row in rows}


def extremes(means: dict[str, float]) -> str:
    """Return the highest and the lowest of some means, for a line."""
    if not means:
        return ""
    high, low = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    return f"{high} {means[high]:.2f} to {low} {means[low]:.2f}"
