"""Ensembles of classifiers: soft voting, voting with weights learned out of fold, and stacking.

Members are given by name in a mapping, so that ``model.members.nb.alpha=0.1`` overrides one of them.
Everything here is fitted on the rows handed to ``fit``; what needs rows that a member has not seen takes
cross-validation within them.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import Interval
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from agnews_exp.core.errors import ConfigError, unknown_name
from agnews_exp.models.inner_folds import InnerFolds

Folds = Annotated[int, Field(ge=2, le=100)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Weight = Annotated[float, Field(ge=0)]


def _named(members: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the members that are switched on, checked for probabilities."""
    chosen = [(name, member) for name, member in members.items() if member is not None]
    if len(chosen) < 2:
        raise ConfigError(f"model.members holds {len(chosen)} classifier(s); an ensemble needs at least two.")
    for name, member in chosen:
        if not hasattr(member, "predict_proba"):
            raise ConfigError(
                f"model.members.{name}: {type(member).__name__} gives no probabilities, which an ensemble needs.",
                fix="wrap it in CalibratedClassifierCV, as conf/model/calibrated_svc.yaml does",
            )
    return chosen


def soft_voting(
    members: dict[str, Any], weights: dict[str, Weight] | None = None, n_jobs: int | None = None
) -> VotingClassifier:
    """Return a classifier that averages its members' probabilities; null switches a member off, 1 is its weight."""
    chosen = _named(members)
    for name, weight in (weights or {}).items():
        # The shipped configuration lists all members with weight 1, also when a member is left out.
        if name not in members and weight != 1.0:
            raise unknown_name("member in model.weights", name, list(members))
    listed = [float((weights or {}).get(name, 1.0)) for name, _ in chosen]
    if sum(listed) == 0:
        raise ConfigError("model.weights are all 0, so no member would count.")
    return VotingClassifier(chosen, voting="soft", weights=listed if set(listed) != {1.0} else None, n_jobs=n_jobs)


def stacking(
    members: dict[str, Any],
    final_estimator: Any,
    folds: Folds = 5,
    passthrough: bool = False,
    n_jobs: int | None = None,
    random_state: Seed = 42,
) -> StackingClassifier:
    """Return a classifier that learns from its members' out-of-fold probabilities.

    With M members and K > 2 classes the final estimator sees M * K columns: 16 for four members
    on four classes. The probabilities of a training row come from members fitted without that row's fold; the
    members that predict later are fitted on all rows given to ``fit``.

    A member that is null is switched off; with ``passthrough`` the final estimator sees the features as well.

    Raises:
        ConfigError: Fewer than two members, or a member without probabilities.
    """
    return StackingClassifier(
        _named(members),
        final_estimator=final_estimator,
        cv=InnerFolds(folds, shuffle=True, random_state=random_state),
        stack_method="predict_proba",
        passthrough=passthrough,
        n_jobs=n_jobs,
    )


def with_selection(select: Any, estimator: Any) -> Pipeline:
    """Return a member that chooses its own columns, anew from the rows of each fit, and then classifies."""
    return Pipeline([("select", select), ("classify", estimator)])


def mixture_weights(probabilities: list[NDArray[np.float64]], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weights, shape (M,), of a mixture of M classifiers that minimise its log-loss.

    The loss is convex on the simplex. Expectation maximisation for the mixing proportions reaches its
    minimum, needs no step size and keeps the weights non-negative with sum 1.

    Probabilities have shape (n, K), ``codes`` are true class indices, shape (n,).
    """
    rows = np.arange(len(codes))
    # A floor: a member that gives the true class probability 0 must not make the logarithm infinite.
    likelihood = np.stack([np.maximum(p[rows, codes], 1e-12) for p in probabilities], axis=1)
    weights = np.full(likelihood.shape[1], 1.0 / likelihood.shape[1])
    before = -np.inf
    for _ in range(1000):
        mixed = likelihood @ weights
        now = float(np.log(mixed).mean())
        weights = (likelihood * weights / mixed[:, None]).mean(axis=0)
        if now - before < 1e-9:
            break
        before = now
    return np.asarray(weights / weights.sum())


class WeightedVoting(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Soft voting whose weights minimise the log-loss of the members' out-of-fold probabilities.

    Args:
        members: Name to classifier with ``predict_proba``; null switches a member off.
        folds: Number of stratified, shuffled folds in which the probabilities are made, or :class:`InnerFolds`.
        n_jobs: Processes; None is one.
        random_state: Seed of the folds.

    Attributes:
        classes_: Shape (K,).
        weights_: Name to weight; the weights sum to 1.
        voting_: The fitted VotingClassifier.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "members": [dict],
        "folds": [Interval(Integral, 2, 100, closed="both"), InnerFolds],
        "n_jobs": [Integral, None],
        "random_state": [Interval(Integral, 0, 2**32 - 1, closed="both")],
    }

    def __init__(
        self, members: dict[str, Any], folds: Any = 5, n_jobs: int | None = None, random_state: int = 42
    ) -> None:
        self.members = members
        self.folds = folds
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Learn the weights out of fold, then fit every member on all rows, shape (n, V).

        Raises:
            ConfigError: Fewer than two members, or a member without probabilities.
        """
        self._validate_params()
        chosen = _named(self.members)
        y = np.asarray(y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        folds = self.folds
        if not isinstance(folds, InnerFolds):
            folds = InnerFolds(folds, shuffle=True, random_state=self.random_state)
        if folds.follows == "time":  # the rows of the first window are held out from no model
            dealt = list(folds.split(X, codes))
            out_of_fold = [
                np.concatenate([clone(m).fit(X[a], codes[a]).predict_proba(X[b]) for a, b in dealt]) for _, m in chosen
            ]
            weights = mixture_weights(out_of_fold, codes[np.concatenate([b for _, b in dealt])])
        else:
            out_of_fold = [
                cross_val_predict(clone(m), X, codes, cv=folds, method="predict_proba", n_jobs=self.n_jobs)
                for _, m in chosen
            ]
            weights = mixture_weights(out_of_fold, codes)
        self.weights_ = {name: float(w) for (name, _), w in zip(chosen, weights, strict=True)}
        self.voting_ = soft_voting(dict(chosen), self.weights_, self.n_jobs).fit(X, y)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the weighted mean of the members' probabilities, shape (n, K)."""
        check_is_fitted(self, "voting_")
        return np.asarray(self.voting_.predict_proba(X))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row, shape (n,)."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])

    def _validate_params(self) -> None:
        super()._validate_params()
        _named(self.members)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
