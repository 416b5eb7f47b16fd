"""Anyone's own files: CSV, TSV or JSON lines, any number of classes, named columns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from agnews_exp.config.errors import ConfigError, DataError, nearest
from agnews_exp.data.corpus import Corpus, TextRows
from agnews_exp.data.files import Columns, Labels
from agnews_exp.data.json_lines import read_json_lines
from agnews_exp.data.readers import read_header, read_table

ColumnName = str | int


def load_csv(
    *,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    text_columns: Annotated[list[ColumnName], Field(min_length=1)] | ColumnName = "text",
    label_column: ColumnName = "label",
    delimiter: Annotated[str, Field(pattern=r'^(auto|tab|[^\r\n"])$')] = "auto",
    encoding: str = "utf-8",
    has_header: bool = True,
) -> Corpus:
    """Load a corpus from the user's files.

    Args:
        train_file: ``.csv``, ``.tsv`` or ``.jsonl``, each also with ``.gz``. Relative to the current folder.
        validation_file: Own validation rows; None cuts them from the training file.
        test_file: Own test rows; None cuts them from the training file.
        text_columns: Names of the columns that are joined with one space; positions (0-based) without header.
        label_column: Name or position of the column with the class, any string. Class names are sorted.
        delimiter: One character, ``tab``, or ``auto``: a tab for ``.tsv``, else a comma.
        encoding: Encoding of CSV and TSV files (JSON lines are UTF-8).
        has_header: Whether the first row of a CSV or TSV file names its columns.

    Raises:
        ConfigError: No training file is named, or a column does not exist.
        DataError: A file is missing, empty, or has bad lines; a class of the validation or test file is not
            in the training file; there is only one class.
    """
    if not train_file:
        raise ConfigError(
            "data=csv needs a training file.",
            fix="data.train_file=my.csv data.label_column=<name of a column>",
        )
    texts = text_columns if isinstance(text_columns, list) else [text_columns]
    labels = Labels()

    def read(file: str | Path) -> TextRows:
        return read_file(Path(file).expanduser(), texts, label_column, labels, delimiter, encoding, has_header)

    train = read(train_file)
    class_names = tuple(sorted(labels.index))
    if len(class_names) < 2:
        raise DataError(
            f"{train_file}: all {len(train):,} rows have the class {class_names[0]!r}; "
            "there must be at least two classes.",
            fix="check data.label_column",
        )
    labels.is_open = False
    own = [read(file) if file else None for file in (validation_file, test_file)]
    # Classes were numbered as they came; sorted names make the numbering independent of the row order.
    order = np.empty(len(class_names), dtype=np.int64)
    for name, index in labels.index.items():
        order[index] = class_names.index(name)

    def renumber(rows: TextRows) -> TextRows:
        return TextRows(rows.texts, order[rows.labels], rows.row_ids)

    validation, test = (None if rows is None else renumber(rows) for rows in own)
    files = [str(Path(f).expanduser().resolve()) for f in (train_file, validation_file, test_file) if f]
    return Corpus(renumber(train), validation, test, class_names, source="csv", location=", ".join(files))


def read_file(
    path: Path,
    text_columns: list[ColumnName],
    label_column: ColumnName,
    labels: Labels,
    delimiter: str = "auto",
    encoding: str = "utf-8",
    has_header: bool = True,
    *,
    group: str = "data",
) -> TextRows:
    """Read one labelled file; arguments as :func:`load_csv`.

    Args:
        path: The file.
        text_columns: Names or positions of the columns that make the text.
        label_column: Name or position of the column with the class.
        labels: The classes; extended in place when open.
        delimiter: One character, ``tab`` or ``auto``.
        encoding: Encoding of CSV and TSV files.
        has_header: Whether the first row names the columns.
        group: Where the configuration holds these options, for error messages.

    Raises:
        ConfigError: A column does not exist.
        DataError: The file is missing, empty, or has bad lines.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if ".jsonl" in suffixes[-2:] or ".ndjson" in suffixes[-2:]:
        return read_json_lines(path, [str(name) for name in text_columns], str(label_column), labels)
    if delimiter == "auto":
        delimiter = "tab" if ".tsv" in suffixes[-2:] else ","
    delimiter = "\t" if delimiter == "tab" else delimiter
    first = read_header(path, delimiter=delimiter, encoding=encoding)
    names: list[ColumnName] = list(first) if has_header else list(range(len(first)))
    positions = tuple(_position(path, names, name, "text_columns", group) for name in text_columns)
    columns = Columns(
        texts=positions,
        label=_position(path, names, label_column, "label_column", group),
        n_fields=len(first),
        has_header=has_header,
    )
    return read_table(path, columns, labels, delimiter=delimiter, encoding=encoding)


def _position(path: Path, names: list[ColumnName], wanted: ColumnName, key: str, group: str) -> int:
    """Return the position of a column.

    Raises:
        ConfigError: No column, or more than one, has this name.
    """
    # A header's names are strings, even where they look like numbers.
    headless = isinstance(names[0], int)
    name: ColumnName = wanted if headless else str(wanted)
    if headless and isinstance(wanted, str) and wanted.isdigit():
        name = int(wanted)
    if names.count(name) == 1:
        return names.index(name)
    listed = ", ".join(str(n) for n in names)
    if name in names:
        raise ConfigError(f"{group}.{key}={wanted}: {path} has {names.count(name)} columns of this name ({listed}).")
    if headless:
        raise ConfigError(
            f"{group}.{key}={wanted}: without a header, columns are numbered 0 to {len(names) - 1} in {path}.",
            fix=f"{group}.{key}=<number>, or {group}.has_header=true",
        )
    guess = nearest(str(wanted), [str(n) for n in names])
    raise ConfigError(
        f"{group}.{key}={wanted}: {path} has no such column.\n  its columns: {listed}",
        fix=(f"{group}.{key}={guess}" if key == "label_column" else f"{group}.{key}=[{guess}]")
        if guess
        else f"set {group}.{key} to one of its columns",
    )
