"""Texts to answer, read as a stream: CSV, TSV, JSON lines, Parquet, plain text, or standard input."""

from __future__ import annotations

import io
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.core.suggestions import nearest
from agnews_exp.data.csv_files import csv_records, wrong_bytes
from agnews_exp.data.files import LONGEST_LINE, BoundedStream, field_limit, open_text, reading

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".parquet": "parquet",
}
MAX_CHARACTERS = 1_000_000
"""Longest text that is answered: a line without end would otherwise fill the memory."""

_LINE_LIMIT = 8 * MAX_CHARACTERS


@dataclass(frozen=True)
class Item:
    """One row of the input.

    Attributes:
        line: Where it begins: a line number (1-based), for Parquet the row number (1-based).
        text: The text, or None for a row that cannot be answered.
        reason: Why not.
    """

    line: int
    text: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Source:
    """The place and the format of texts.

    Attributes:
        path: The file; None is standard input.
        format: csv, tsv, jsonl, text, or parquet.
        columns: Names of the columns (CSV without header: positions from 0) that are joined with one space.
        header: Whether the first row of a CSV file names its columns.
        encoding: Of a text file.
    """

    path: Path | None
    format: str
    columns: tuple[str, ...] = ("text",)
    header: bool = True
    encoding: str = "utf-8"


def describe_source(
    word: str, *, format: str | None, columns: Sequence[str], header: bool, encoding: str = "utf-8"
) -> Source:
    """Return the source that a command names.

    Args:
        word: A path, or ``-`` for standard input.
        format: One of the formats; None goes by the file's name (standard input: text).
        columns: See :class:`Source`.
        header: See :class:`Source`.
        encoding: See :class:`Source`.

    Raises:
        ConfigError: The format cannot be told from the name.
        DataError: There is no such file.
    """
    if word == "-":
        return Source(None, format or "text", tuple(columns), header, encoding)
    path = Path(word).expanduser()
    if not path.is_file():
        raise DataError(f"There is no file {path}.", fix="check the path, or give - for standard input")
    name = path.name.removesuffix(".gz")
    chosen = format or FORMATS.get(Path(name).suffix.lower())
    if chosen is None:
        raise ConfigError(
            f"The format of {path.name} cannot be told from its name.\n  allowed: {', '.join(sorted(FORMATS))}",
            fix="--format text",
        )
    return Source(path, chosen, tuple(columns), header, encoding)


def read_items(source: Source) -> Iterator[Item]:
    """Yield the rows of a source one by one, bad ones with the reason.

    Raises:
        ConfigError: A column does not exist.
        DataError: The file cannot be read at all.
    """
    if source.format == "parquet":
        yield from _read_parquet(source)
        return
    with _opened(source) as file:
        if source.format in ("csv", "tsv"):
            yield from _read_csv(file, source)
        else:
            yield from _read_lines(file, source)


@contextmanager
def _opened(source: Source) -> Iterator[IO[str]]:
    with ExitStack() as stack:
        table = source.format in ("csv", "tsv")
        stack.enter_context(field_limit())
        if source.path is None:
            raw = BoundedStream("standard input", sys.stdin.buffer, LONGEST_LINE if table else None)
            stream = io.TextIOWrapper(
                cast("IO[bytes]", raw), encoding="utf-8-sig", errors="surrogateescape", newline=""
            )
            stack.callback(stream.detach)
            yield stream
            return
        stack.enter_context(reading(source.path))
        opened = open_text(source.path, source.encoding, errors="surrogateescape", bounded_lines=table)
        try:
            yield stack.enter_context(opened)
        except UnicodeError as error:  # UTF-16 and its like cannot go on behind a bad character
            raise DataError(f"{source.path}: {error}.", fix="give --encoding, or convert the file") from error


def _read_csv(file: IO[str], source: Source) -> Iterator[Item]:
    delimiter = "\t" if source.format == "tsv" else ","
    first = file.readline(_LINE_LIMIT)
    import csv

    try:
        names = next(csv.reader([first], delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError(f"{source.path or 'standard input'}: line 1: {error}.") from error
    rest = file
    if not source.header:
        names = [str(i) for i in range(len(names))]
        rest = _Prefixed(first, file)  # type: ignore[assignment]
    positions = [_position(names, column, source) for column in source.columns]
    offset = 1 if source.header else 0
    for line, row, reason in csv_records(rest, len(names), delimiter, source.encoding):
        if reason is not None or row is None:
            yield Item(line + offset, None, reason)
        else:
            yield _item(line + offset, " ".join(row[i] for i in positions))


class _Prefixed:
    """A file with its first line given back."""

    def __init__(self, first: str, file: IO[str]) -> None:
        self._lines = itertools.chain([first] if first else [], file)

    def __iter__(self) -> _Prefixed:
        return self

    def __next__(self) -> str:
        return next(self._lines)


def _position(names: list[str], column: str, source: Source) -> int:
    stripped = [name.strip() for name in names]
    if column in stripped:
        return stripped.index(column)
    guess = nearest(column, stripped)
    raise ConfigError(
        f"--columns {column}: {source.path or 'standard input'} has no such column.\n  its columns: "
        + ", ".join(stripped),
        fix=f"--columns {guess}" if guess else "--columns <name>, or --no-header and --columns <position from 0>",
    )


def _read_lines(file: IO[str], source: Source) -> Iterator[Item]:
    as_json = source.format == "jsonl"
    line = 0
    while part := file.readline(_LINE_LIMIT):
        line += 1
        if len(part) == _LINE_LIMIT and not part.endswith("\n"):
            while (more := file.readline(_LINE_LIMIT)) and not more.endswith("\n"):
                pass
            yield Item(line, None, f"the line is longer than {_LINE_LIMIT:,} characters")
            continue
        text = part.rstrip("\r\n")
        if as_json and not text.strip():
            continue
        if bad := wrong_bytes(text, source.encoding):
            yield Item(line, None, bad)
        else:
            yield _from_json(line, text, source.columns) if as_json else _item(line, text)


def _from_json(line: int, content: str, keys: Sequence[str]) -> Item:
    try:
        item: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        return Item(line, None, f"not JSON ({error})")
    if isinstance(item, str):
        return _item(line, item)
    if not isinstance(item, dict):
        return Item(line, None, "neither a JSON object nor a string")
    missing = [key for key in keys if key not in item]
    if missing:
        guess = nearest(missing[0], item)
        return Item(line, None, f"no key {missing[0]!r}" + (f" (did you mean {guess!r}?)" if guess else ""))
    parts = [item[key] for key in keys]
    if not all(isinstance(part, str) for part in parts):
        return Item(line, None, "the text is not a string")
    return _item(line, " ".join(parts))


def _item(line: int, text: str) -> Item:
    if not text.strip():
        return Item(line, None, "the text is empty")
    if len(text) > MAX_CHARACTERS:
        return Item(line, None, f"the text has {len(text):,} characters, more than {MAX_CHARACTERS:,}")
    if any("\ud800" <= c <= "\udfff" for c in text) if not text.isascii() else False:
        return Item(line, None, "the text holds half of a surrogate pair, which is no character")
    return Item(line, text)


def _read_parquet(source: Source) -> Iterator[Item]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if source.path is None:
        raise ConfigError("Parquet cannot be read from standard input.", fix="give the file's path")
    try:
        file = pq.ParquetFile(source.path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source.path} is not readable Parquet: {error}.") from error
    names = list(file.schema_arrow.names)
    columns = [names[_position(names, column, source)] for column in source.columns]
    row = 0
    for batch in _batches(file, columns, source.path):
        for values in zip(*(batch.column(c).to_pylist() for c in columns), strict=True):
            row += 1
            if all(isinstance(value, str) for value in values):
                yield _item(row, " ".join(values))
            else:
                yield Item(row, None, "the text is missing or not a string")


def _batches(file: Any, columns: list[str], path: Path) -> Iterator[Any]:
    import pyarrow as pa

    try:
        yield from file.iter_batches(batch_size=4096, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged: {error}.") from error
