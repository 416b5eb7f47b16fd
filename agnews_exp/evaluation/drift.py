"""Drift: differences between new texts and the rows that a model was judged on.

The reference describes validation rows and the model's answers for them: lengths, share of known words, confidences,
predicted classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.data.stratification import class_counts
from agnews_exp.evaluation.inputs import FloatArray
from agnews_exp.evaluation.predictions import Predictions

REFERENCE = "drift.json"
"""In a model folder: what texts and answers were like on validation rows."""

KEPT = 2000
"""Rows that a reference describes at most: the error of a decile's share is then below a percent."""

_WORD = re.compile(r"\w+")
_VOCABULARY_TEXTS, _VOCABULARY = 2000, 10_000

N_BINS = 10
STABLE, MOVED = 0.1, 0.25
"""Usual bounds of the population stability index: below .1 stable, from .25 on moved."""


@dataclass(frozen=True)
class Shift:
    """One quantity, now against the reference."""

    name: str  # length, known_words, confidence, or class_share
    psi: float  # population stability index over the reference's deciles (or the classes)
    p_value: float  # of the two-sample Kolmogorov-Smirnov test, or of the chi-squared test for classes
    before: float  # mean in the reference (for classes: share of the most frequent one)
    now: float  # the same of the new texts
    verdict: str  # stable, watch, or moved


def reference_of(
    quantities: Mapping[str, ArrayLike], labels: ArrayLike, n_classes: int, seed: int = 0
) -> dict[str, Any]:
    """Return a reference, storable as JSON, from quantities of n texts, shape (n,) each, and predicted classes.

    At most :data:`KEPT` values of each quantity are drawn by the seed and kept, to six decimals.
    """
    rng = np.random.default_rng(seed)
    kept: dict[str, Any] = {"n": len(np.asarray(labels)), "classes": _counts(labels, n_classes).tolist(), "values": {}}
    for name, given in quantities.items():
        values = np.asarray(given, dtype=np.float64)
        sample = values if len(values) <= KEPT else rng.choice(values, KEPT, replace=False)
        kept["values"][name] = np.sort(sample).round(6).tolist()
    return kept


def model_reference(
    train_texts: Sequence[str], texts: Sequence[str], answers: Predictions, n_classes: int
) -> dict[str, Any]:
    """Return a model's reference: :func:`reference_of` its validation rows, and the words that it knows.

    The cost does not grow with the corpus: 2,000 training texts, evenly spaced, give the words, and as many validation
    texts the quantities; the classes are those of all validation rows.
    """
    words = vocabulary_of([train_texts[i] for i in _spaced(len(train_texts), _VOCABULARY_TEXTS)])
    rows = _spaced(len(texts), KEPT)
    quantities = describe([texts[i] for i in rows], answers.take(rows), frozenset(words))
    return reference_of(quantities, answers.labels, n_classes) | {"words": words}


def split_words(text: str) -> list[str]:
    """Return the lower-cased runs of letters, digits and underscores of a text."""
    return _WORD.findall(text.lower())


def known_share(words: Iterable[Sequence[str]], known: Collection[str]) -> FloatArray:
    """Return the share of each text's words, shape (n,), that are among the known ones; 0 for a text without words."""
    return np.array([sum(word in known for word in text) / len(text) if text else 0.0 for text in words])


def vocabulary_of(texts: Sequence[str]) -> list[str]:
    """Return the words of texts, in lower case and in order; of more than 10,000 the most frequent."""
    counts = Counter(split_words("\n".join(texts)))
    kept = sorted(counts, key=lambda word: (-counts[word], word))[:_VOCABULARY] if len(counts) > _VOCABULARY else counts
    return sorted(kept)


def describe(texts: Sequence[str], answers: Predictions, known: frozenset[str]) -> dict[str, FloatArray]:
    """Return the quantities in which drift is looked for, shape (n,) each: words, share of known words, confidence."""
    words = [split_words(text) for text in texts]
    values = {
        "words": np.array([len(w) for w in words], dtype=np.float64),
        "known_words": known_share(words, known),
    }
    if answers.probabilities is not None or answers.scores is not None:
        values["confidence"] = answers.task.certainty(answers.labels, answers.confidences)
    return values


def _spaced(n: int, most: int) -> NDArray[np.int64]:
    """Return at most so many of n positions, evenly spaced."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).round().astype(np.int64)


def shifts(reference: Mapping[str, Any], quantities: Mapping[str, ArrayLike], labels: ArrayLike) -> list[Shift]:
    """Compare m new texts, by their quantities and predicted classes, with a reference of :func:`reference_of`.

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
    """Return the population stability index of two histograms, shape (B,) each: the sum of (q - p) ln(q / p).

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
    return class_counts(np.asarray(labels, dtype=np.int64), n_classes).astype(np.float64)
