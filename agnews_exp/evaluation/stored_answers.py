"""Reading back the answers that a run has stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from agnews_exp.config.errors import DataError
from agnews_exp.data.corpus import TextRows
from agnews_exp.evaluation.metrics import metric_class_name
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
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path, filters=pc.field("split") == split)
    if not np.array_equal(table["row_id"].to_numpy(), rows.row_ids):
        raise DataError(f"{path} does not hold the answers for the {split} rows of this split.")

    def matrix(kind: str) -> Any:
        columns = [f"{kind}:{metric_class_name(name)}" for name in class_names]
        if columns[0] not in table.column_names or table[columns[0]].null_count:
            return None
        return np.column_stack([table[column].to_numpy() for column in columns])

    labels = table["prediction"].to_numpy().astype(np.int64)
    return Predictions(labels, matrix("score"), matrix("probability"))
