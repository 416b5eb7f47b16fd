"""The titles of a run's test rows: the text's first column, read again from where the rows came from."""

from __future__ import annotations

import importlib.resources
from contextlib import ExitStack
from pathlib import Path

from agnews_exp.config.errors import DataError
from agnews_exp.config.targets import safe_instantiate
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.files import Columns, Labels
from agnews_exp.data.readers import read_table
from agnews_exp.reporting.analyses.context import AnalysisContext

_TITLES = Columns(texts=(1,), label=0, n_fields=3)


def test_titles(context: AnalysisContext) -> list[str] | None:
    """Return each test row's title, or None where the source does not tell title and description apart."""
    test = context.splits.test
    try:
        rows = _read_titles(context)
    except DataError:
        return None
    if rows is None or int(test.row_ids.max()) >= len(rows):
        return None
    titles = [rows.texts[row] for row in test.row_ids.tolist()]
    # What does not open its text comes from other rows, such as a file that changed since.
    return titles if all(text.startswith(title) for text, title in zip(test.texts, titles, strict=True)) else None


def _read_titles(context: AnalysisContext) -> TextRows | None:
    data, source = context.checked.component("data"), context.splits.source
    if source == "csv":
        columns = data["text_columns"]
        if not isinstance(columns, list) or len(columns) < 2:
            return None
        corpus = safe_instantiate(data | {"text_columns": columns[:1]}, "data")
        rows: TextRows = corpus.train if corpus.test is None else corpus.test
        return rows
    with ExitStack() as stack:
        if source == "ag_news:csv":
            path = Path(data["dir"]).expanduser() / "test.csv"
        elif source == "sample":
            shipped = importlib.resources.files("agnews_exp.data") / "sample" / "test.csv.gz"
            path = stack.enter_context(importlib.resources.as_file(shipped))
        else:
            return None
        return read_table(path, _TITLES, Labels())
