"""Checks of the arrays that statistics and calibration take, and plain values from their results."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agnews_exp.core.errors import DataError, unknown_name

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Adjustment = Literal["holm", "benjamini_hochberg"]


def adjust(p_values: ArrayLike, method: Adjustment = "holm") -> FloatArray:
    """Return the adjusted p-values, shape (m,), of a whole family, those that were not significant included.

    ``holm`` (1979) bounds the chance of even one false finding, under any dependence; ``benjamini_hochberg`` (1995)
    bounds the expected share of false ones among the findings, for independent or positively dependent tests.

    Raises:
        DataError: A p-value is not between 0 and 1.
        ConfigError: Unknown method.
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise DataError(f"p-values must be a list of numbers between 0 and 1, got {values}")
    if method not in get_args(Adjustment):
        raise unknown_name("adjustment", method, get_args(Adjustment))
    if len(values) < 2:
        return values.copy()
    if method == "benjamini_hochberg":
        from scipy import stats  # seconds, which the process that tells MLflow of a run would pay too

        return np.asarray(stats.false_discovery_control(values, method="bh"))
    # statsmodels has Holm too, but imports pandas and collects garbage on each call (0.1 s).
    order = np.argsort(values, kind="stable")
    stepped = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted


def class_indices(values: ArrayLike, what: str) -> NDArray[np.int64]:
    """Return class indices, whole numbers >= 0, as an int64 array of shape (n,); ``what`` names it in messages.

    Raises:
        DataError: The array is empty, has another shape, or holds something else than class indices.
    """
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise DataError(f"{what} must be a non-empty one-dimensional array of class indices, got shape {array.shape}")
    if array.dtype.kind not in "iub":
        raise DataError(f"{what} must hold class indices (whole numbers), got dtype {array.dtype}")
    indices = array.astype(np.int64)
    if indices.min() < 0:
        raise DataError(f"{what} holds the class index {indices.min()}; class indices start at 0")
    return indices


def same_length(**arrays: NDArray[Any]) -> int:
    """Return the common length of the arrays.

    Raises:
        DataError: The lengths differ; the message names every array and its length.
    """
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise DataError(f"The arrays must describe the same items in the same order, but {listed}")
    return next(iter(lengths.values()))


def probability_matrix(probabilities: ArrayLike, n_items: int | None = None) -> FloatArray:
    """Return class probabilities as a float64 array of shape (n, K), K >= 2, whose rows sum to 1.

    Rows that sum to 1 within 1e-3 (float32 or rounded output) are rescaled to sum to exactly 1.

    Raises:
        DataError: Wrong shape, values outside 0..1 or not finite, or rows that do not sum to 1.
    """
    array = np.asarray(probabilities, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] < 2 or array.shape[0] == 0:
        raise DataError(f"probabilities must have shape (items, classes) with two classes or more, got {array.shape}")
    if n_items is not None and len(array) != n_items:
        raise DataError(f"probabilities has {len(array)} rows, but there are {n_items} labels")
    if not np.isfinite(array).all():
        raise DataError("probabilities holds values that are not finite (NaN or infinity)")
    if array.min() < -1e-9 or array.max() > 1 + 1e-6:
        raise DataError(
            f"probabilities must lie between 0 and 1, got {array.min():.4g} to {array.max():.4g}",
            fix="pass probabilities, not scores or logits (a calibrator turns scores into probabilities)",
        )
    totals = array.sum(axis=1)
    worst = float(np.abs(totals - 1).max())
    if worst > 1e-3:
        raise DataError(f"each row of probabilities must sum to 1; one is off by {worst:.4g}")
    clipped = np.clip(array, 0, 1)
    rows: FloatArray = clipped / clipped.sum(axis=1, keepdims=True)
    return rows


def open_interval(value: float, what: str) -> None:
    """Check that a value lies strictly between 0 and 1.

    Raises:
        DataError: It does not.
    """
    if not 0 < value < 1:
        raise DataError(f"{what} must lie strictly between 0 and 1, got {value}")


def plain(value: Any) -> Any:
    """Turn a result into values that JSON holds: dicts, lists, str, bool, int, float and None.

    Dataclasses become dicts, numpy values become Python ones, and numbers that JSON lacks (NaN, infinity)
    become None.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


class Result:
    """Base of all result dataclasses: :meth:`to_dict` gives values that JSON holds."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain Python values; NaN and infinity become None."""
        plain_fields: dict[str, Any] = plain(self)
        return plain_fields
