"""Labelled files of the user: CSV, TSV or JSON lines, any number of classes, named columns."""

from __future__ import annotations

import csv
import json
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
from pydantic import Field

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.core.suggestions import nearest
from agnews_exp.data.corpus import Corpus, TextRows
from agnews_exp.data.files import BadLines, Columns, Labels, as_rows, empty_file, field_limit, open_text, reading


class _Lines:
    """Iterates over lines; those of the current record can be pushed back."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self.pending: deque[str] = deque()
        self.record: list[str] = []
        self.next_line = 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.pending.popleft() if self.pending else next(self.file)
        self.next_line += 1
        self.record.append(line)
        return line

    def resume_at(self, position: int) -> None:
        """Push back the record's lines from ``position`` on."""
        back = self.record[position:]
        self.pending.extendleft(reversed(back))
        self.next_line -= len(back)


def explain_table(path: Path, columns: Columns, labels: Labels, delimiter: str, encoding: str) -> BadLines:
    """Find all bad records of a CSV file. A record is named by the line that it begins on."""
    bad = BadLines()
    with field_limit(), open_text(path, encoding, errors="surrogateescape") as file:
        records = csv_records(file, columns.n_fields, delimiter, encoding)
        for number, (line, row, reason) in enumerate(records):
            is_header = columns.has_header and number == 0
            if row is not None and not reason and not is_header:
                reason = _why_bad(row, columns, labels)
            if reason and not (is_header and row is not None and len(row) != columns.n_fields):
                bad.add(line, reason)
    if not bad.total:
        bad.add(0, "the file changed while it was read")
    return bad


def csv_records(
    file: IO[str], n_fields: int, delimiter: str, encoding: str
) -> Iterator[tuple[int, list[str] | None, str | None]]:
    """Yield every record of a CSV file, the bad ones too, and go on behind a missing quote.

    Args:
        file: Open with ``errors="surrogateescape"``.
        n_fields: Fields that a record should have.
        delimiter: One character.
        encoding: Its name, for the reasons.

    Yields:
        The line that the record begins on (1-based), its fields (None where it cannot be split), and what is wrong
        with it (None where nothing is). Blank lines are left out.
    """
    lines = _Lines(file)
    while True:
        lines.record = []
        start = lines.next_line
        row: list[str] | None = None
        reason: str | None = None
        try:
            row = next(csv.reader(lines, delimiter=delimiter, strict=True))
        except StopIteration:
            return
        except csv.Error as error:
            reason = f"unbalanced quote ({error})"
        except UnicodeError as error:
            yield start, None, f"not {encoding}: {error}"
            return  # an encoding of several bytes a character (UTF-16) cannot go on after a bad one
        else:
            if not row:
                continue
            reason = wrong_bytes("".join(row), encoding) or _wrong_length(row, n_fields)
        yield start, row, reason
        if len(lines.record) > 1 and (row is None or len(row) != n_fields):
            # A missing quote joins records: go on at the first line that can begin one.
            begins = _record_start(lines.record, n_fields, delimiter)
            if begins is not None:
                lines.resume_at(begins)


def _record_start(record: list[str], n_fields: int, delimiter: str) -> int | None:
    for position in range(1, len(record)):
        if record[position].startswith('"'):
            return position
        try:
            if len(next(csv.reader([record[position]], delimiter=delimiter, strict=True))) == n_fields:
                return position
        except csv.Error:
            continue
    return None


def wrong_bytes(text: str, encoding: str) -> str | None:
    """Return a message about the first byte of a text that was not decoded (``surrogateescape``), or None."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"byte 0x{ord(error.object[error.start]) & 0xFF:02x} is not {encoding.upper()}"
    return None


def _wrong_length(row: list[str], n_fields: int) -> str | None:
    if len(row) == n_fields:
        return None
    return f"{len(row)} field{'s' if len(row) != 1 else ''} instead of {n_fields}"


def _why_bad(row: list[str], columns: Columns, labels: Labels) -> str | None:
    label = row[columns.label].strip()
    try:
        labels.find(label)
    except KeyError:
        return labels.explain(label)
    if not "".join(row[i] for i in columns.texts).strip():
        return "the text is empty"
    return None


class _BadRowError(Exception):
    """A row is bad; :func:`explain_table` reads the file again and says why."""


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


def read_json_lines(path: Path, text_keys: list[str], label_key: str, labels: Labels) -> TextRows:
    """Read a JSON-lines file: one object per line, UTF-8, plain or gzipped.

    Args:
        path: The file.
        text_keys: Keys whose values (strings) are joined with one space into the text.
        label_key: Key of the label: a string or an integer.
        labels: The classes; extended in place when open.

    Raises:
        DataError: As :func:`read_table`.
    """
    texts: list[str] = []
    indices = array("q")
    bad = BadLines()
    with reading(path), open_text(path, "utf-8", errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                text, label = _from_object(line, text_keys, label_key)
                indices.append(labels.find(label))
                texts.append(text)
            except KeyError as error:
                bad.add(number, labels.explain(error.args[0]))
            except ValueError as error:
                bad.add(number, str(error))
    if bad.total:
        raise bad.error(path)
    return as_rows(path, texts, indices)


def _from_object(line: str, text_keys: list[str], label_key: str) -> tuple[str, str]:
    """Return (text, label) of one JSON object, or raise ValueError saying what is wrong."""
    if wrong := wrong_bytes(line, "utf-8"):
        raise ValueError(wrong)
    try:
        item: Any = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(item, Mapping):
        raise ValueError("not a JSON object")
    for key in (*text_keys, label_key):
        if key not in item:
            guess = nearest(key, item)
            raise ValueError(f"no key {key!r}" + (f" (did you mean {guess!r}?)" if guess else ""))
    parts = [item[key] for key in text_keys]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("the text is not a string")
    label = item[label_key]
    if not isinstance(label, str | int):
        raise ValueError(f"the label is neither a string nor an integer: {label!r}")
    text = " ".join(parts)
    if not text.strip():
        raise ValueError("the text is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("the text holds half of a surrogate pair, which is no character") from error
    return text, str(label).strip()


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
    positions = tuple(column_position(path, names, name, f"{group}.text_columns") for name in text_columns)
    columns = Columns(
        texts=positions,
        label=column_position(path, names, label_column, f"{group}.label_column"),
        n_fields=len(first),
        has_header=has_header,
    )
    return read_table(path, columns, labels, delimiter=delimiter, encoding=encoding)


def column_position(path: Path, names: Sequence[ColumnName], wanted: ColumnName, key: str) -> int:
    """Return the position of a column.

    Args:
        path: The file, for error messages.
        names: The header's names, or the numbers 0, 1, ... without a header.
        wanted: Name or position of the column.
        key: The configuration's key that says so, such as ``data.label_column``.

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
        raise ConfigError(f"{key}={wanted}: {path} has {names.count(name)} columns of this name ({listed}).")
    if headless:
        raise ConfigError(
            f"{key}={wanted}: without a header, columns are numbered 0 to {len(names) - 1} in {path}.",
            fix=f"{key}=<number>, or {key.partition('.')[0]}.has_header=true",
        )
    guess = nearest(str(wanted), [str(n) for n in names])
    raise ConfigError(
        f"{key}={wanted}: {path} has no such column.\n  its columns: {listed}",
        fix=(f"{key}={guess}" if key.endswith("label_column") else f"{key}=[{guess}]")
        if guess
        else f"set {key} to one of its columns",
    )
