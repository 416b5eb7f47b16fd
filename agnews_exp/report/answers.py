"""A run's stored answers, read without its data set, and the intervals that they give."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.metrics import column_key
from agnews_exp.evaluation.predictions import Predictions

RESAMPLES = 2000
"""Of every bootstrap interval in the report; percentile intervals, seed 0."""


@dataclass(frozen=True, eq=False)
class Answers:
    """A run's answers for one split, in the order of the row numbers.

    Attributes:
        row_ids: Shape (n,).
        labels: Shape (n,), true class indices.
        given: What the model said.
        folds: Shape (n,), the fold that held each row out; None but for the split ``cv``.
    """

    row_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    given: Predictions
    folds: NDArray[np.int64] | None


def read_answers(path: Path, split: str, class_names: tuple[str, ...]) -> Answers | None:
    """Read predictions.parquet; None when it is missing or has no rows of the split."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not path.is_file():
        return None
    table = pq.read_table(path, filters=pc.field("split") == split)
    if not table.num_rows:
        return None
    row_ids = table["row_id"].to_numpy().astype(np.int64)
    order = np.argsort(row_ids, kind="stable")

    def column(name: str) -> NDArray[np.int64]:
        return np.asarray(table[name].to_numpy()[order]).astype(np.int64)

    def matrix(kind: str) -> NDArray[np.float64] | None:
        names = [f"{kind}:{column_key(name, class_names)}" for name in class_names]
        if names[0] not in table.column_names or table[names[0]].null_count:
            return None
        return np.column_stack([table[name].to_numpy()[order] for name in names]).astype(np.float64)

    folds = None
    if "fold" in table.column_names and not table["fold"].null_count:
        folds = column("fold")
    given = Predictions(column("prediction"), matrix("score"), matrix("probability"))
    return Answers(row_ids[order], column("label"), given, folds)


def metric_interval(answers: Answers, metric: str, class_names: tuple[str, ...]) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a count metric over the rows."""
    from agnews_exp.evaluation.statistics import bootstrap_metric

    found = bootstrap_metric(
        answers.labels, answers.given.labels, metric, resamples=RESAMPLES, seed=0, class_names=class_names
    )
    return found.percentile
