"""Reading back the answers that a run has stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import DataError, StorageError
from agnews_exp.core.files import is_intact
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.metrics import column_key
from agnews_exp.evaluation.predictions import Predictions


@dataclass(frozen=True, eq=False)
class StoredAnswers:
    """A run's answers for one split."""

    row_ids: NDArray[np.int64]  # shape (n,), int64
    labels: NDArray[np.int64]  # shape (n,), int64, true class indices; or true sets, shape (n, K)
    given: Predictions  # the model's answers for these rows
    folds: NDArray[np.int64] | None  # shape (n,), int64, the fold that held each row out; None but for the split ``cv``
    clusters: NDArray[np.int64] | None = None  # shape (n,), each row's group; None without evaluation.cluster_column


def stored_answers(path: Path, split: str, class_names: tuple[str, ...], *, ordered: bool = True) -> StoredAnswers:
    """Read a run's stored answers for a split (``val``, ``test``, ``cv``), none where the run does not have it.

    They come in the order of the row ids, or, not ``ordered``, in that in which they are stored.

    Raises:
        StorageError: The file is missing or damaged.
    """
    import pyarrow.compute as pc

    table = read_table(path, len(class_names))
    rows = table.filter(pc.equal(table["split"].cast("string"), split))
    rows = rows.sort_by("row_id") if ordered else rows
    names = ["row_id", *(["fold"] if split == "cv" and len(rows) else [])]
    ids, *folds = (rows[name].to_numpy().astype(np.int64) for name in names)
    labels, predicted = (label_columns(rows, kind, class_names) for kind in ("label", "prediction"))
    scores, probabilities = (class_columns(rows, kind, class_names) for kind in ("score", "probability"))
    given = Predictions(predicted, scores, probabilities)
    clusters = None
    if len(rows) and "cluster" in rows.column_names and not rows["cluster"].null_count:
        clusters = rows["cluster"].to_numpy().astype(np.int64)
    return StoredAnswers(ids, labels, given, folds[0] if folds else None, clusters)


def read_predictions(path: Path, split: str, rows: TextRows, class_names: tuple[str, ...]) -> Predictions:
    """Read a run's stored answers for the rows of a split, in their order.

    Raises:
        DataError: The record holds other rows.
    """
    found = stored_answers(path, split, class_names, ordered=False)
    if not np.array_equal(found.row_ids, rows.row_ids):
        raise DataError(f"{path} does not hold the answers for the {split} rows of this split.")
    return found.given


def read_table(path: Path, n_classes: int | None = None) -> Any:
    """Return a run's predictions.parquet as a pyarrow table whose columns have been checked.

    Without K, the number of classes, it is not checked that labels and predictions are below it.

    Raises:
        StorageError: The file is missing, damaged, or holds other columns or values.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        if not is_intact(path):
            raise ValueError("its checksum is another one than when the run ended")
        table = pq.read_table(path)
        kinds = ("label", "prediction")
        sets = [name for name in table.column_names if name.startswith(("label:", "prediction:"))]
        for name in ("row_id", *(sets or kinds)):
            if not pa.types.is_integer(table[name].type) or table[name].null_count:
                raise ValueError(f"the column {name} is not of whole numbers")
            ends = pc.min_max(table[name]).as_py()
            most = None if name == "row_id" else 2 if sets else n_classes
            if len(table) and (ends["min"] < 0 or (most and ends["max"] >= most)):
                raise ValueError(f"the column {name} holds {ends['min']} to {ends['max']}")
        if not pa.types.is_string(table["split"].cast("string").type) or table["split"].null_count:
            raise ValueError("the column split has gaps")
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StorageError(f"{path} is damaged: {reason}", fix="train it again (force=true)") from error
    return table


def label_columns(table: Any, kind: str, class_names: tuple[str, ...]) -> NDArray[np.int64]:
    """Return ``label`` or ``prediction``: class indices, shape (n,), or sets of classes, shape (n, K)."""
    if kind in table.column_names:
        labels: NDArray[np.int64] = table[kind].to_numpy().astype(np.int64)
        return labels
    columns = [f"{kind}:{column_key(name, class_names)}" for name in class_names]
    return np.column_stack([table[column].to_numpy().astype(np.int64) for column in columns])


def class_columns(table: Any, kind: str, class_names: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Return ``score`` or ``probability`` of each class, shape (n, K), or None where the model gave none."""
    columns = [f"{kind}:{column_key(name, class_names)}" for name in class_names]
    if columns[0] not in table.column_names or table[columns[0]].null_count:
        return None
    return np.column_stack([table[column].to_numpy() for column in columns])
