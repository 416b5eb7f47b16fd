"""Reading back the answers that a run has stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import DataError, StorageError
from agnews_exp.core.files import is_intact
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.metrics import column_key
from agnews_exp.evaluation.predictions import Predictions


def read_predictions(path: Path, split: str, rows: TextRows, class_names: tuple[str, ...]) -> Predictions:
    """Read a run's stored answers for a split.

    Args:
        path: A run's predictions.parquet.
        split: ``val``, ``test``, or ``cv``.
        rows: The split's rows, whose order the answers must have.
        class_names: K names.

    Raises:
        DataError: The record holds other rows.
    """
    table = _answers(path, split)
    if not np.array_equal(table["row_id"].to_numpy(), rows.row_ids):
        raise DataError(f"{path} does not hold the answers for the {split} rows of this split.")
    return _predictions(table, class_names)


def _predictions(table: Any, class_names: tuple[str, ...]) -> Predictions:
    labels = table["prediction"].to_numpy().astype(np.int64)
    return Predictions(
        labels, class_columns(table, "score", class_names), class_columns(table, "probability", class_names)
    )


def stored_probabilities(
    path: Path, split: str, class_names: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Return which rows of a split a run has answered, shape (n,), and its probabilities for them, shape (n, K).

    Args:
        path: A run's predictions.parquet.
        split: ``val``, ``test``, or ``cv``; the answers for a split that the run does not have are none.
        class_names: K names.
    """
    table = _answers(path, split)
    return table["row_id"].to_numpy().astype(np.int64), class_columns(table, "probability", class_names)


def _answers(path: Path, split: str) -> Any:
    import pyarrow.compute as pc

    table = read_table(path)
    return table.filter(pc.equal(table["split"].cast("string"), split))


def read_table(path: Path, n_classes: int | None = None) -> Any:
    """Return a run's predictions.parquet as a pyarrow table whose columns have been checked.

    Args:
        path: The file.
        n_classes: K; None does not check that labels and predictions are below it.

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
        for name in ("row_id", "label", "prediction"):
            if not pa.types.is_integer(table[name].type) or table[name].null_count:
                raise ValueError(f"the column {name} is not of whole numbers")
            ends = pc.min_max(table[name]).as_py()
            if len(table) and (ends["min"] < 0 or (name != "row_id" and n_classes and ends["max"] >= n_classes)):
                raise ValueError(f"the column {name} holds {ends['min']} to {ends['max']}")
        if not pa.types.is_string(table["split"].cast("string").type) or table["split"].null_count:
            raise ValueError("the column split has gaps")
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise StorageError(f"{path} is damaged: {reason}", fix="train it again (force=true)") from error
    return table


def class_columns(table: Any, kind: str, class_names: tuple[str, ...]) -> NDArray[np.float64] | None:
    """Return a table's scores or probabilities, shape (n, K), or None where the model gave none.

    Args:
        table: Rows of a predictions.parquet.
        kind: ``score`` or ``probability``.
        class_names: K names.
    """
    columns = [f"{kind}:{column_key(name, class_names)}" for name in class_names]
    if columns[0] not in table.column_names or table[columns[0]].null_count:
        return None
    return np.column_stack([table[column].to_numpy() for column in columns])
