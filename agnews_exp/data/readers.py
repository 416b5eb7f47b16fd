"""Strict readers of CSV and TSV files.

Every field is text: "NA", "null", "None" and "nan" are words. The quick path reads a good file once; when a
line is bad the file is read again by a slower path that finds all bad lines, so that one error tells of
them all.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

from agnews_exp.config.errors import DataError
from agnews_exp.data.bad_rows import explain_table
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.files import Columns, Labels, as_rows, empty_file, field_limit, open_text, reading


class _BadRowError(Exception):
    """The quick path met something that the slow path has to explain."""


def read_table(
    path: Path, columns: Columns, labels: Labels, *, delimiter: str = ",", encoding: str = "utf-8"
) -> TextRows:
    """Read a CSV or TSV file, plain or gzipped.

    A byte-order mark, CRLF line ends, blank lines, and quoted delimiters, quotes and line breaks are handled.

    Args:
        path: The file; a name that ends in ``.gz`` is decompressed.
        columns: Where texts and label stand.
        labels: The classes; extended in place when open.
        delimiter: One character.
        encoding: Encoding of the file.

    Raises:
        DataError: The file cannot be read, is empty, or has bad lines (all counted, the first ten shown).
    """
    text_of: Callable[[list[str]], str] = _joiner(columns.texts)
    texts: list[str] = []
    indices = array("q")
    find, label_at, n_fields = labels.find, columns.label, columns.n_fields
    try:
        with reading(path), field_limit(), open_text(path, encoding) as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            if columns.has_header:
                next((row for row in reader if row), None)
            for row in reader:
                if len(row) != n_fields:
                    if row:
                        raise _BadRowError
                    continue
                text = text_of(row)
                if not text or text.isspace():
                    raise _BadRowError
                indices.append(find(row[label_at].strip()))
                texts.append(text)
    except (UnicodeError, csv.Error, KeyError, _BadRowError) as error:
        with reading(path):
            raise explain_table(path, columns, labels, delimiter, encoding).error(path) from error
    return as_rows(path, texts, indices)


def read_header(path: Path, *, delimiter: str = ",", encoding: str = "utf-8") -> list[str]:
    """Return the fields of a CSV file's first row, stripped.

    Raises:
        DataError: The file cannot be read, is empty, or its first row is malformed.
    """
    try:
        with reading(path), field_limit(), open_text(path, encoding) as file:
            row = next((row for row in csv.reader(file, delimiter=delimiter, strict=True) if row), None)
    except UnicodeError as error:
        raise DataError(f"{path}: line 1: not {encoding}: {error}.", fix="set data.encoding, or convert it") from error
    except csv.Error as error:
        raise DataError(f"{path}: line 1: unbalanced quote ({error}).") from error
    if row is None:
        raise empty_file(path)
    return [name.strip() for name in row]


def _joiner(positions: tuple[int, ...]) -> Callable[[list[str]], str]:
    pick = itemgetter(*positions)
    if len(positions) == 1:
        return pick
    join = " ".join
    return lambda row: join(pick(row))
