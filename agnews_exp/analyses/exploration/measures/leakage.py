"""What feeds leave in texts, and how well that alone predicts the class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.errors.attributes import NO_AGENCY, OTHER_AGENCY, agencies, artefacts
from agnews_exp.evaluation.inputs import Result

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_MORE: Final[dict[str, re.Pattern[str]]] = {
    "escaped bracket lt; gt;": re.compile(r"&?[lg]t;"),
    "e-mail address": re.compile(r"\b[\w.%+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b"),
    "phone number": re.compile(r"(?<![\w.])(?:\+?\d{1,3}[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[.-]\d{4}(?!\w)"),
    "stock symbol": re.compile(r"&?lt;[A-Z.]{1,7}&?gt;|&lt;[A-Z]{1,5}(?:\.[A-Z]{1,2})?&gt;|<[A-Z]{1,5}\.[A-Z]{1,2}>"),
    "ends with ellipsis": re.compile(r"\.\.\.\s*$"),
    "doubled hyphen": re.compile(r"--"),
    "non-ASCII character": re.compile(r"[^\x00-\x7f]"),
}


def find_artefacts(texts: Sequence[str]) -> dict[str, BoolArray]:
    """Return which texts, shape (n,), hold each artefact; ``HTML residue`` is any rest of markup or of an entity."""
    found = artefacts(texts)
    del found["any"]
    more = {
        name: np.fromiter((bool(pattern.search(text)) for text in texts), dtype=bool, count=len(texts))
        for name, pattern in _MORE.items()
    }
    html = (
        "apostrophe #39;", "quotation mark quot;", "ampersand amp;", "other numeric entity", "escaped tag",
        "plain tag", "escaped bracket lt; gt;",
    )  # fmt: skip
    found |= more
    return found | {"HTML residue": np.logical_or.reduce([found[name] for name in html])}


def find_sources(texts: Sequence[str], min_rows: int) -> dict[str, BoolArray]:
    """Return which texts, shape (n,), name each source, as in ``(Reuters)`` or ``AP -``; rare ones count together."""
    codes, names = agencies(texts, min_rows)
    used = {name: codes == i for i, name in enumerate(names) if name != NO_AGENCY and (codes == i).any()}
    return {f"source: {name.removesuffix(' named') if name == OTHER_AGENCY else name}": v for name, v in used.items()}


@dataclass(frozen=True)
class Probe(Result):
    """How well artefacts alone predict the class.

    Attributes:
        accuracy: Cross-validated accuracy of a logistic regression on the artefacts.
        macro_f1: Its macro-F1.
        majority: Accuracy of naming the most frequent class.
        accuracy_with_any: Accuracy on the texts that hold at least one artefact; NaN where there are none.
        share_with_any: Share of the texts that hold at least one.
        folds: Folds of the cross-validation.
        rows: Texts.
        pull: For each artefact, the log-odds that its presence adds to each class, shape (A, K), as nested lists.
    """

    accuracy: float
    macro_f1: float
    majority: float
    accuracy_with_any: float
    share_with_any: float
    folds: int
    rows: int
    pull: dict[str, list[float]]


def probe(found: Mapping[str, BoolArray], labels: IntArray, n_classes: int, *, folds: int, seed: int) -> Probe:
    """Predict the class from artefacts alone.

    Texts with the same artefacts are one weighted row, so that the time does not grow with the corpus.

    Args:
        found: A artefacts, shape (n,) each.
        labels: Shape (n,).
        n_classes: K.
        folds: Folds, stratified and shuffled.
        seed: Of the shuffling.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedKFold

    matrix = np.column_stack([np.asarray(v, dtype=np.float64) for v in found.values()])

    def fit(rows: IntArray) -> LogisticRegression:
        table, where = np.unique(np.column_stack([matrix[rows], labels[rows]]), axis=0, return_inverse=True)
        weights = np.bincount(where.ravel())
        return LogisticRegression(max_iter=500).fit(table[:, :-1], table[:, -1].astype(np.int64), weights)

    answers = np.zeros(len(labels), dtype=np.int64)
    for train, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(matrix, labels):
        answers[held_out] = fit(train).predict(matrix[held_out])
    whole = fit(np.arange(len(labels)))
    pull = np.zeros((matrix.shape[1], n_classes))
    coefficients = whole.coef_ if len(whole.classes_) > 2 else np.vstack([-whole.coef_, whole.coef_]) / 2
    pull[:, whole.classes_] = coefficients.T
    right, some = answers == labels, matrix.any(axis=1)
    return Probe(
        accuracy=float(right.mean()),
        macro_f1=float(f1_score(labels, answers, average="macro", zero_division=0)),
        majority=float(np.bincount(labels).max() / len(labels)),
        accuracy_with_any=float(right[some].mean()) if some.any() else float("nan"),
        share_with_any=float(some.mean()),
        folds=folds,
        rows=len(labels),
        pull={name: row.tolist() for name, row in zip(found, pull, strict=True)},
    )
