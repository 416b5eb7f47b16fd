"""Drift: does a new file of texts look like the rows that a model was judged on?

The reference is what the model saw on validation rows: lengths, share of known words, confidences, predicted classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

N_BINS = 10
STABLE, MOVED = 0.1, 0.25
"""Usual bounds of the population stability index: below .1 stable, from .25 on moved."""


@dataclass(frozen=True)
class Shift:
    """One quantity, now against the reference.

    Attributes:
        name: length, known_words, confidence, or class_share.
        psi: Population stability index over the reference's deciles (or the classes).
        p_value: Of the two-sample Kolmogorov-Smirnov test, or of the chi-squared test for classes.
        before: Mean in the reference (for classes: share of the most frequent one).
        now: The same of the new texts.
        verdict: stable, watch, or moved.
    """

    name: str
    psi: float
    p_value: float
    before: float
    now: float
    verdict: str


def reference_of(
    quantities: Mapping[str, ArrayLike], labels: ArrayLike, n_classes: int, seed: int = 0
) -> dict[str, Any]:
    """Return a reference that can be stored as JSON.

    Args:
        quantities: Name -> shape (n,) values of the reference texts.
        labels: Shape (n,), predicted classes.
        n_classes: K.
        seed: Of the draw of at most 2,000 values that are kept of each quantity.
    """
    rng = np.random.default_rng(seed)
    kept: dict[str, Any] = {"n": len(np.asarray(labels)), "classes": _counts(labels, n_classes).tolist(), "values": {}}
    for name, given in quantities.items():
        values = np.asarray(given, dtype=np.float64)
        sample = values if len(values) <= 2000 else rng.choice(values, 2000, replace=False)
        kept["values"][name] = [float(v) for v in np.sort(sample)]
    return kept


def shifts(reference: Mapping[str, Any], quantities: Mapping[str, ArrayLike], labels: ArrayLike) -> list[Shift]:
    """Compare new texts with a reference.

    Args:
        reference: What :func:`reference_of` returned.
        quantities: The same quantities of m new texts.
        labels: Shape (m,), their predicted classes.

    Raises:
        ValueError: There are no texts.
    """
    from scipy import stats

    found = []
    for name, given in quantities.items():
        old, new = np.asarray(reference["values"][name]), np.asarray(given, dtype=np.float64)
        if not len(new):
            raise ValueError("no texts")
        edges = np.unique(np.quantile(old, np.linspace(0, 1, N_BINS + 1)[1:-1]))
        psi = stability_index(_binned(old, edges), _binned(new, edges))
        p = float(stats.ks_2samp(old, new).pvalue)
        found.append(Shift(name, psi, p, float(old.mean()), float(new.mean()), _verdict(psi, p)))
    old_counts = np.asarray(reference["classes"], dtype=np.float64)
    new_counts = _counts(labels, len(old_counts))
    seen = (old_counts + new_counts) > 0
    p = float(stats.chi2_contingency(np.vstack([old_counts, new_counts])[:, seen]).pvalue) if seen.sum() > 1 else 1.0
    psi = stability_index(old_counts, new_counts)
    top = int(old_counts.argmax())
    share = [float(counts[top] / counts.sum()) for counts in (old_counts, new_counts)]
    return [*found, Shift("class_share", psi, p, share[0], share[1], _verdict(psi, p))]


def stability_index(old: ArrayLike, new: ArrayLike) -> float:
    """Return the population stability index of two histograms: the sum of (q - p) ln(q / p).

    Half a row is added to every bin, so that an empty one does not make it infinite.
    """
    p, q = (np.asarray(counts, dtype=np.float64) + 0.5 for counts in (old, new))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)))


def _verdict(psi: float, p: float) -> str:
    if psi >= MOVED:
        return "moved"
    return "watch" if psi >= STABLE or (p < 0.001 and psi >= STABLE / 2) else "stable"


def _binned(values: FloatArray, edges: FloatArray) -> NDArray[np.int64]:
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def _counts(labels: ArrayLike, n_classes: int) -> FloatArray:
    return np.bincount(np.asarray(labels, dtype=np.int64), minlength=n_classes).astype(np.float64)


def as_rows(found: list[Shift]) -> list[dict[str, Any]]:
    """Return shifts as plain dictionaries."""
    return [asdict(shift) for shift in found]
