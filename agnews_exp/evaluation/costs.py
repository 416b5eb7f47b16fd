"""Costs of errors: the answers that cost least, by a rule that validation rows choose, and what they cost on average.

With probabilities p and costs C the answer of least expected cost is argmin_j sum_k p_k C_kj (Elkan 2001). That is
right as far as the probabilities are; of two classes a threshold tuned on validation rows needs only their order.
Whichever of these rules, the usual answers among them, costs least on validation rows is taken; other rows say what it
is worth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import ConfigError, unknown_name
from agnews_exp.evaluation.inputs import FloatArray
from agnews_exp.evaluation.predictions import Predictions

ARGMAX = "argmax"
"""The rule that leaves a model's own answers as they are."""

DECISION = "decision.json"
"""The file of a model folder that holds the rule which validation rows chose, where it is another one."""

Costs = Mapping[str | int, float | Mapping[str | int, float]] | Sequence[Sequence[float]]
"""``{spam: 5}``: a row of spam answered wrongly costs 5; ``{spam: {news: 5}}``: only where the answer is news; or the
matrix, true classes down, answers across. What is not named costs 1, right answers nothing."""


def cost_matrix(costs: Costs, class_names: Sequence[str]) -> FloatArray:
    """Return what each answer (column) costs for each true class (row), shape (K, K).

    Raises:
        ConfigError: A class is unknown, or the matrix has another shape.
    """
    k = len(class_names)
    if not isinstance(costs, Mapping):
        if len(costs) != k or any(len(row) != k for row in costs):
            raise ConfigError(
                f"evaluation.costs has {len(costs)} rows of {sorted({len(row) for row in costs})} numbers; the {k} "
                f"classes need {k} rows of {k}: true classes down, answers across ({', '.join(class_names)}).",
                fix=f"evaluation.costs={{{class_names[0]}: 5}}, or the whole matrix",
            )
        return np.array(costs, dtype=np.float64)

    def place(name: str | int) -> int:
        if str(name) not in class_names:
            raise unknown_name("class in evaluation.costs", str(name), class_names)
        return list(class_names).index(str(name))

    matrix = 1.0 - np.eye(k)
    for name, cost in costs.items():
        row = place(name)
        if isinstance(cost, Mapping):
            for answer, one in cost.items():
                matrix[row, place(answer)] = one
        else:
            matrix[row] = cost * (1.0 - np.eye(k)[row])
    return matrix


@dataclass(frozen=True, eq=False)
class Decision:
    """A rule that turns probabilities into answers."""

    rule: str  # ``argmax`` (the model's own answers), ``expected cost`` or ``threshold``
    costs: FloatArray  # shape (K, K), true classes down, answers across
    threshold: float | None = None  # with two classes, the probability of the second one from which on it is answered

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Decision:
        """Return the rule that a record or a model folder holds (:data:`DECISION`)."""
        return cls(stored["rule"], np.array(stored["costs"], dtype=np.float64), stored["threshold"])

    def said(self, class_names: Sequence[str]) -> str:
        """Return the rule in words."""
        if self.threshold is None:
            return self.rule
        return f"'{class_names[1]}' from a probability of {self.threshold:.4g} on"

    def apply(self, given: Predictions) -> Predictions:
        """Return answers by this rule, with the scores and probabilities that they come from."""
        return replace(given, labels=self.answers(given))

    def answers(self, given: Predictions) -> NDArray[np.int64]:
        """Return the answers, shape (n,), class indices; of equal costs the first class."""
        if self.rule == ARGMAX or given.probabilities is None:
            return given.labels
        if self.threshold is not None:
            chosen = (given.probabilities[:, 1] >= self.threshold).astype(np.int64)
        else:
            chosen = (given.probabilities @ self.costs).argmin(axis=1).astype(np.int64)
        return chosen if given.unparsed is None else np.where(given.unparsed, given.labels, chosen)


def choose_decision(labels: NDArray[np.int64], given: Predictions, costs: FloatArray) -> Decision:
    """Return the rule that costs least on n validation rows, whose classes have shape (n,); of equals the plainest."""
    rules = [Decision(ARGMAX, costs)]
    if given.probabilities is not None:
        rules.append(Decision("expected cost", costs))
        if len(costs) == 2:
            rules.append(Decision("threshold", costs, tuned_threshold(labels, given.probabilities[:, 1], costs)))
    return min(rules, key=lambda rule: float(costs[labels, rule.answers(given)].mean()))


def tuned_threshold(labels: NDArray[np.int64], probabilities: FloatArray, costs: FloatArray) -> float:
    """Return the least costly threshold on the second class's probability; it and the labels have shape (n,).

    It lies halfway between two neighbouring probabilities, and of equally good ones nearest to the threshold that
    would be right for calibrated probabilities.
    """
    values, place = np.unique(probabilities, return_inverse=True)
    saved = np.bincount(place, weights=costs[labels, 1] - costs[labels, 0], minlength=len(values))
    # Threshold i answers the second class from values[i] on; the last one never does.
    totals = np.append(np.cumsum(saved[::-1])[::-1], 0.0)
    cuts = np.concatenate([[values[0]], (values[:-1] + values[1:]) / 2, [np.nextafter(max(1.0, values[-1]), 2)]])
    false_alarm, miss = costs[0, 1] - costs[0, 0], costs[1, 0] - costs[1, 1]
    right = false_alarm / (false_alarm + miss) if false_alarm + miss > 0 else 0.5
    best = cuts[totals <= totals.min() + 1e-9 * max(1.0, float(np.abs(saved).sum()))]
    return float(best[np.abs(best - right).argmin()])


def judge_costs(
    costs: Costs,
    labels: Mapping[str, NDArray[np.int64]],
    answers: Mapping[str, Predictions],
    class_names: Sequence[str],
) -> dict[str, Any]:
    """Return the rule that the validation rows choose, and its mean cost a row beside that of the usual answers.

    Returns:
        The rule, the matrix, and by split ``default``, ``chosen`` and ``difference`` (chosen less default), each with
        its 95 % percentile bootstrap interval over rows. Those of ``val`` flatter, as the rule was chosen there.
    """
    from agnews_exp.evaluation.statistics.bootstrap import bootstrap_mean_difference

    matrix = cost_matrix(costs, class_names)
    decision = choose_decision(labels["val"], answers["val"], matrix)
    found: dict[str, Any] = {}
    for split, truth in labels.items():
        given = answers[split]
        pair = bootstrap_mean_difference(
            matrix[truth, decision.answers(given)], matrix[truth, given.labels], name="cost", resamples=2000
        )
        parts = {"chosen": pair.a, "default": pair.b, "difference": pair.difference}
        found[split] = {
            name: {"estimate": part.estimate, "low": part.percentile[0], "high": part.percentile[1]}
            for name, part in parts.items()
        }
    return {"rule": decision.rule, "threshold": decision.threshold, "costs": matrix.tolist(), "splits": found}
