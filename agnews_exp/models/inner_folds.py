"""Folds within a model's own fit, such as those of stacking and calibration, which follow the run's split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import StackingClassifier
from sklearn.model_selection import StratifiedKFold

from agnews_exp.core.errors import ConfigError
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.splits import folds_of
from agnews_exp.data.stratification import Positions


class InnerFolds(StratifiedKFold):  # type: ignore[misc]
    """Stratified folds, or with ``follows`` (``group``, ``time``) folds of rows that carry their keys by that split."""

    def __init__(
        self, n_splits: int = 5, *, shuffle: bool = False, random_state: int | None = None, follows: str | None = None
    ) -> None:
        super().__init__(n_splits, shuffle=shuffle, random_state=random_state)
        self.follows = follows

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[Positions, Positions]]:
        """Yield (positions to train on, positions held out) of n rows.

        Raises:
            DataError: There are too few groups, moments, or rows of a class.
        """
        if self.follows is None:
            yield from super().split(X, y, groups)
            return
        if (keys := keys_of(X)) is None:
            raise ConfigError(
                f"split={self.follows}: a model within the model divides rows whose groups or moments are not known.",
                fix="another model, or split=stratified",
            )
        classes, labels = np.unique(np.asarray(y), return_inverse=True)
        rows = TextRows([""] * len(keys), labels.astype(np.int64), np.arange(len(keys)), list(keys))
        names, seed = classes.astype(str).tolist(), self.random_state
        yield from folds_of(rows, names, self.follows, self.n_splits, seed, "model.cv")


class _Keyed:
    """A matrix whose rows carry keys, also where some of them are taken."""

    keys: NDArray[Any] | None = None

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)  # type: ignore[misc]
        rows = index[0] if isinstance(index, tuple) else index
        if self.keys is not None and isinstance(found, _Keyed) and isinstance(rows, slice | np.ndarray):
            found.keys = self.keys[rows]
        return found


def with_keys(matrix: Any, keys: Sequence[str]) -> Any:
    """Return a matrix of n rows, sparse or dense, that carries the n keys of ``split=group`` or ``split=time``."""
    kind = type("Keyed", (_Keyed, type(matrix)), {})
    found: Any = matrix.view(kind) if isinstance(matrix, np.ndarray) else kind(matrix)
    found.keys = np.array(keys)
    return found


def keys_of(matrix: Any) -> NDArray[Any] | None:
    """Return the keys of a matrix's rows, shape (n,), where it carries them."""
    return getattr(matrix, "keys", None) if isinstance(matrix, _Keyed) else None


def follow(model: Any, split: str) -> bool:
    """Let all folds within an unfitted model follow the split; return whether there are any."""
    found = False
    for _, part in _parts(model):
        if name := _folds_key(part):
            value = getattr(part, name)
            if name == "folds":
                value = InnerFolds(value, shuffle=True, random_state=part.random_state)
            elif not isinstance(value, InnerFolds):
                value = InnerFolds(value or 5)
            folds = InnerFolds(value.n_splits, shuffle=value.shuffle, random_state=value.random_state, follows=split)
            part.set_params(**{name: folds})
            found = True
    return found


def _folds_key(part: Any) -> str | None:
    """Return the parameter that says how many folds a model makes of its rows."""
    if isinstance(getattr(part, "folds", None), int):  # WeightedVoting's
        return "folds"
    return "cv" if hasattr(part, "cv") and (part.cv is None or isinstance(part.cv, int | InnerFolds)) else None


def check_divisions(model: Any, split: str) -> None:
    """Refuse divisions within an unfitted model that cannot follow ``split``, ``group`` or ``time``.

    Raises:
        ConfigError: Names each key and the value that it can have.
    """
    fixes = []
    for path, part in _parts(model):
        if getattr(part, "early_stopping", False):
            fixes.append(f"{path}.early_stopping=false")
        elif not hasattr(part, "early_stopping") and getattr(part, "n_iter_no_change", None) is not None:
            fixes.append(f"{path}.n_iter_no_change=null")
        if getattr(part, "probability", False) is True:
            fixes.append(f"{path}.probability=false")
        if hasattr(part, "cv") and _folds_key(part) is None and part.cv != "prefit":
            fixes.append(f"{path}.cv=5")
    if fixes:
        raise ConfigError(
            f"split={split}: {', '.join(fix.partition('=')[0] for fix in fixes)}: the model would divide its training "
            "rows at random.",
            fix=" ".join(fixes),
        )
    for path, part in _parts(model):
        calibrates = isinstance(part, CalibratedClassifierCV) and part.ensemble is False
        if split == "time" and (calibrates or isinstance(part, StackingClassifier)):
            raise ConfigError(
                f"split=time: {path} is a {type(part).__name__} that needs an answer to every training row from a "
                "model that has not seen it, and before the oldest rows there is none.",
                fix=f"{path}.ensemble=true" if calibrates else "model=weighted_voting",
            )


def _parts(model: Any, path: str = "model") -> Iterator[tuple[str, Any]]:
    """Yield a model and all models within it, with their keys."""
    yield path, model
    for name, value in (model.get_params(deep=False) if hasattr(model, "get_params") else {}).items():
        if hasattr(value, "get_params"):
            yield from _parts(value, f"{path}.{name}")
        members = value.items() if isinstance(value, dict) else value if isinstance(value, list) else ()
        for member in members:
            if isinstance(member, tuple) and len(member) == 2 and hasattr(member[1], "get_params"):
                yield from _parts(member[1], f"{path}.members.{member[0]}")
