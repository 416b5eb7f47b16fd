"""The files of a run record that people and later commands read: predictions, report, figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.files import atomic_path
from agnews_exp.core.text import spreadsheet_cell
from agnews_exp.data.corpus import TextRows
from agnews_exp.drawing import matrix_chart, save
from agnews_exp.evaluation.metrics import classification_report_table, column_key
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.tasks import task_of


def write_predictions(
    path: Path,
    parts: Mapping[str, TextRows],
    answers: Mapping[str, Predictions],
    class_names: tuple[str, ...],
    folds: NDArray[np.int64] | None = None,
    clusters: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write one row a text: split, row_id, label, prediction, then score: and probability: columns by class.

    Of sets of classes there are label: and prediction: columns by class, too, of 0 and 1.

    Rows of the part ``cv`` are out-of-fold answers for training rows and have their fold in the column ``fold``.
    Texts are left out: a record can be shared where the corpus may not.

    A row whose answer was no class is ``unparsed`` and has a wrong class as its prediction.

    ``clusters`` has the group of each row by split, which become numbers in the column ``cluster``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables, keys = [], [column_key(name, class_names) for name in class_names]
    for split, rows in parts.items():
        answer = answers[split]
        columns: dict[str, object] = {
            "split": pa.array([split] * len(rows)).dictionary_encode(),
            "row_id": rows.row_ids,
            **answer.task.columns("label", rows.labels, keys),
            **answer.task.columns("prediction", answer.labels, keys),
        }
        if answer.unparsed is not None:
            columns["unparsed"] = answer.unparsed
        if split == "cv" and folds is not None:
            columns["fold"] = folds
        if clusters and split in clusters:
            columns["cluster"] = np.unique(np.array(clusters[split]), return_inverse=True)[1].astype(np.int64)
        for kind, values in (("score", answer.scores), ("probability", answer.probabilities)):
            if values is not None:
                columns |= {f"{kind}:{key}": values[:, i] for i, key in enumerate(keys)}
        tables.append(pa.table(columns))
    with atomic_path(path) as temporary:
        pq.write_table(pa.concat_tables(tables, promote_options="default"), temporary)


def write_report(path: Path, rows: TextRows, answer: Predictions, class_names: tuple[str, ...]) -> None:
    """Write the test set's classification report as CSV: class, precision, recall, f1, support."""
    import csv

    table = classification_report_table(rows.labels, answer, class_names)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows({k: spreadsheet_cell(v) for k, v in row.items()} for row in table)


def write_confusions(
    folder: Path, matrices: Mapping[str, NDArray[np.int64]], parts: Mapping[str, TextRows], class_names: tuple[str, ...]
) -> None:
    """Write confusion matrices (K, K) as charts' data, ``confusion_<split>.json``, to be drawn when somebody looks."""
    for split, matrix in matrices.items():
        rows = parts[split]
        title = f"{task_of(rows.labels).matrix_title} on {split}: {len(rows):,} rows"
        chart = matrix_chart(f"confusion_{split}", title, matrix, class_names)
        save(chart, folder / f"{chart.name}.json")
