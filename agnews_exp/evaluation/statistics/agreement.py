"""Two models' answers beside each other: where they agree, and whether they fail on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.evaluation.metrics import confusion_matrix
from agnews_exp.evaluation.statistics.inputs import Result, class_indices, same_length
from agnews_exp.evaluation.statistics.margins import cohen_kappa, margins_of_confusion, names_of_classes


@dataclass(frozen=True)
class ClassAgreement(Result):
    """Items of one true class (or all), by who is right.

    Attributes:
        class_name: The true class; ``all`` for the total.
        both_right: Items right by both.
        only_a: Items right by model A only.
        only_b: Items right by model B only.
        same_wrong: Items to which both give the same wrong class.
        different_wrong: Items to which both give wrong classes that differ.
    """

    class_name: str
    both_right: int
    only_a: int
    only_b: int
    same_wrong: int
    different_wrong: int

    @property
    def agreement(self) -> float:
        """Share of items to which both give the same class; NaN without items."""
        n = self.both_right + self.only_a + self.only_b + self.same_wrong + self.different_wrong
        return (self.both_right + self.same_wrong) / n if n else float("nan")


@dataclass(frozen=True, eq=False)
class AgreementTable(Result):
    """Agreement of two models.

    Attributes:
        by_class: One row a true class, then all.
        answers: Shape (K, K), items by A's class (rows) and B's (columns).
        kappa: Cohen's kappa of the two models' answers: agreement beyond what their class shares give.
        shared_errors: Of the items that at least one gets wrong, the share that both get wrong (Jaccard index of
            the two sets of errors); NaN when nobody errs. Near 1, combining the two gains nothing.
        shared_errors_by_chance: What it would be if the two erred independently at their error rates.
    """

    by_class: tuple[ClassAgreement, ...]
    answers: NDArray[np.int64]
    kappa: float
    shared_errors: float
    shared_errors_by_chance: float


def agreement_table(
    y_true: ArrayLike, pred_a: ArrayLike, pred_b: ArrayLike, class_names: Sequence[str] | None = None
) -> AgreementTable:
    """Count where two models agree, by true class.

    Args:
        y_true: Shape (n,), true class indices.
        pred_a: Shape (n,), class indices given by model A.
        pred_b: Shape (n,), class indices given by model B for the same items.
        class_names: The K class names.
    """
    truth = class_indices(y_true, "y_true")
    a, b = class_indices(pred_a, "pred_a"), class_indices(pred_b, "pred_b")
    same_length(y_true=truth, pred_a=a, pred_b=b)
    names = names_of_classes(truth, a, b, class_names=class_names)

    def row(name: str, items: NDArray[np.bool_]) -> ClassAgreement:
        right_a, right_b, same = (a == truth) & items, (b == truth) & items, (a == b) & items
        both_wrong = items & ~right_a & ~right_b
        cells = right_a & right_b, right_a & ~right_b, right_b & ~right_a, both_wrong & same, both_wrong & ~same
        return ClassAgreement(name, *(int(np.count_nonzero(cell)) for cell in cells))

    rows = [row(name, truth == index) for index, name in enumerate(names)]
    total = row("all", np.ones(len(truth), dtype=bool))
    answers = confusion_matrix(a, b, len(names))
    both_wrong = total.same_wrong + total.different_wrong
    errors_a, errors_b = ((both_wrong + only) / len(truth) for only in (total.only_b, total.only_a))
    either = errors_a + errors_b - errors_a * errors_b
    some_wrong = both_wrong + total.only_a + total.only_b
    return AgreementTable(
        by_class=(*rows, total),
        answers=answers,
        kappa=float(cohen_kappa(margins_of_confusion(answers))),
        shared_errors=both_wrong / some_wrong if some_wrong else float("nan"),
        shared_errors_by_chance=errors_a * errors_b / either if either else float("nan"),
    )
