"""Rows of any file, one reader for all: CSV, JSON lines and arrays, Parquet, spreadsheets, plain lines, folders."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, cast

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.core.suggestions import nearest
from agnews_exp.data.files import (
    LONGEST_LINE,
    BoundedStream,
    Lines,
    check_encoding,
    content_suffix,
    empty_file,
    field_limit,
    find_encoding,
    first_bad_line,
    fixed,
    listed,
    open_bytes,
    open_text,
    read_head,
    reading,
    shown,
    wrong_bytes,
)

logger = logging.getLogger(__name__)

ColumnName = str | int
Row = tuple[int, Sequence[Any] | None, str | None]
"""The line that a row begins on (1-based; of Parquet and folders its number), its values, and why it has none."""

FORMATS = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet", ".xlsx": "xlsx", ".ods": "ods", ".txt": "text",
}  # fmt: skip
"""Formats by the end of a file's name, which may be packed: ``.csv.gz``, ``.bz2``, ``.xz``, ``.zst`` or ``.zip``."""

QUOTING = ("auto", "csv", "none")


@dataclass(frozen=True)
class Reading:
    """The way a file is read, as it is asked for or as it was found to be."""

    format: str | None = None  # a value of :data:`FORMATS`, ``folder``, or None to go by the name
    delimiter: str = "auto"  # one character, ``tab``, or ``auto``
    # ``csv``: quotes enclose fields; ``none``: quotes are characters; ``auto``: they enclose fields, and a row that
    # seems to be several is refused.
    quoting: str = "auto"
    encoding: str = "auto"  # an encoding, or ``auto``: UTF-8 unless the first bytes say otherwise
    has_header: bool = True  # whether the first row of a table names its columns
    group: str = "data"  # where these options are: a group of the configuration, or ``--`` for those of a command
    remembered: str | None = None  # the encoding of earlier files of its kind, for ``auto``
    usual: str | None = None  # the delimiter of earlier files of its kind, which ``auto`` tries first
    classes: tuple[str, ...] = ()  # names of classes that a labelled file numbers from 0; none: it names them itself
    width: int | None = None  # fields of a row without header; None goes by the first row

    def key(self, name: str) -> str:
        """Return how one of these options is written."""
        return f"--{name}" if self.group == "--" else f"{self.group}.{name}"

    def advice(self, reason: str) -> str | None:
        """Return the option that settles what is wrong with a row, or None."""
        if "quote" in reason:
            return f"{fixed(self.key('quoting'), 'none')}, where quotes are characters of the text"
        if reason.startswith("byte 0x"):
            return f"{fixed(self.key('encoding'), 'cp1252')}, or the encoding that the file was written in"
        return None


@dataclass
class Table:
    """An open file."""

    path: Path | None  # the file; None is standard input
    # Of the columns, or their positions where there is no header. Of JSON: the keys of the first row.
    names: list[ColumnName]
    how: Reading  # the way it is read, with what was found out
    # Takes columns, and yields every row with the values of these.
    rows: Callable[[Sequence[ColumnName]], Iterator[Row]]
    joined: int = 0  # rows of several lines so far


def format_of(path: Path) -> str | None:
    """Return the format that a name stands for, or None.

    Raises:
        DataError: A zip archive cannot be read.
    """
    return "folder" if path.is_dir() else FORMATS.get(content_suffix(path))


@contextmanager
def open_table(path: Path | None, how: Reading, wanted: Sequence[ColumnName] = ()) -> Iterator[Table]:
    """Open a file and find out how it is to be read.

    Args:
        path: The file; None is standard input.
        how: What is known.
        wanted: Columns that it should have: the delimiter ``auto`` is the one that gives them.

    Raises:
        ConfigError: A column or an encoding does not exist.
        DataError: The file cannot be read.
    """
    format = how.format or (format_of(path) if path else None) or "csv"
    with ExitStack() as stack:
        if path is not None:
            stack.enter_context(reading(path))
        if format == "json" and path is not None and b"[" not in read_head(path)[:_BEFORE_ARRAY].split(b"{")[0]:
            format = "jsonl"
        if format in ("csv", "tsv"):
            yield _open_csv(stack, path, replace(how, format=format), wanted)
        elif format in ("jsonl", "text"):
            yield _open_lines(stack, path, replace(how, format=format))
        elif path is None:
            raise ConfigError(f"{format} cannot be read from standard input.", fix="give the file's path")
        elif format == "json":
            yield _open_json(path, replace(how, format=format))
        elif format == "parquet":
            yield _open_parquet(path, replace(how, format=format))
        elif format == "folder":
            yield _open_folder(path, replace(how, format=format))
        else:
            from agnews_exp.data.spreadsheets import sheet_rows

            yield _grid(path, replace(how, format=format), sheet_rows(path, format))


_BEFORE_ARRAY = 1000
"""First bytes of a JSON file among which its array begins, or else an object: then it has one on each line."""


def column_position(path: Path | None, names: Sequence[ColumnName], wanted: ColumnName, key: str) -> int:
    """Return the position of a column.

    Args:
        path: The file, for error messages.
        names: The header's names, or the numbers 0, 1, ... without a header.
        wanted: Name or position of the column.
        key: The configuration's key that says so, such as ``data.label_column``, or an option.

    Raises:
        ConfigError: No column, or more than one, has this name.
    """
    # A header's names are strings, even where they look like numbers.
    headless = bool(names) and isinstance(names[0], int)
    name: ColumnName = wanted if headless else str(wanted)
    if headless and isinstance(wanted, str) and wanted.isdigit():
        name = int(wanted)
    if names.count(name) == 1:
        return names.index(name)
    said = f"{key} {shown(wanted)}" if key.startswith("--") else f"{key}={wanted if len(str(wanted)) < 80 else '...'}"
    where = path or "standard input"
    if name in names:
        raise ConfigError(
            f"{said}: {where} has {names.count(name)} columns of this name ({listed(names)}).", fix="rename one of them"
        )
    if headless:
        header = "no --no-header" if key.startswith("--") else f"{key.rpartition('.')[0]}.has_header=true"
        raise ConfigError(
            f"{said}: without a header, columns are numbered 0 to {len(names) - 1} in {where}.",
            fix=f"{key}{' ' if key.startswith('--') else '='}<number>, or {header}",
        )
    guess = str(names[0]) if len(names) == 1 else nearest(str(wanted), [str(n) for n in names])
    raise ConfigError(
        f"{said}: {where} has no such column.\n  its columns: {listed(names)}",
        fix=fixed(key, guess if key.startswith("--") or key.endswith(("label_column", "split.column")) else [guess])
        if guess
        else f"set {key} to one of its columns",
    )


def _open_csv(stack: ExitStack, path: Path | None, how: Reading, wanted: Sequence[ColumnName]) -> Table:
    stack.enter_context(field_limit())
    file, how, head = _open_stream(stack, path, how, bounded_lines=True)
    how = replace(how, delimiter=_find_delimiter(path, head, how, wanted))
    if how.quoting not in QUOTING:
        raise ConfigError(f"{how.key('quoting')}={shown(how.quoting)}: allowed are {', '.join(QUOTING)}.")
    lines = Lines(file)
    reader = csv.reader(lines, **_csv_options(how))
    with _located(path, how):
        first = _first_record(path, lines, reader, how)
    names: list[ColumnName] = [name.strip() for name in first]
    if not how.has_header:
        lines.resume_at(0)
        how = replace(how, width=how.width or len(first))
        names = list(range(how.width or 0))
    table = Table(path, names, how, lambda _columns: iter(()))

    def rows(columns: Sequence[ColumnName]) -> Iterator[Row]:
        positions = [column_position(path, names, name, how.key("columns")) for name in columns]
        pick = itemgetter(*positions) if len(positions) > 1 else lambda row: [row[positions[0]]]
        with _located(path, how):
            for line, row, reason in csv_records(lines, first if how.has_header else None, len(names), how, table):
                yield line, (None if row is None or reason else pick(row)), reason

    table.rows = rows
    return table


def _open_stream(
    stack: ExitStack, path: Path | None, how: Reading, *, bounded_lines: bool
) -> tuple[IO[str], Reading, str]:
    """Return an open text, the way it is read with the encoding found, and its first lines."""
    longest = LONGEST_LINE if bounded_lines else None
    key = how.key("encoding")
    if path is not None:
        head = read_head(path)
        encoding = find_encoding(head, str(path), how.encoding, how.remembered)
        check_encoding(encoding, key)
        file = stack.enter_context(open_text(path, encoding, bounded_lines=bounded_lines, key=key))
    else:
        peek = getattr(sys.stdin.buffer, "peek", None)
        head = peek(1 << 16) if peek else b""
        encoding = find_encoding(head, "standard input", how.encoding, how.remembered)
        check_encoding(encoding, key)
        raw = cast("IO[bytes]", BoundedStream("standard input", sys.stdin.buffer, longest))
        codec = "utf-8-sig" if encoding.replace("-", "") == "utf8" else encoding
        file = io.TextIOWrapper(raw, encoding=codec, errors="surrogateescape", newline="")
        stack.callback(file.detach)
    text = head.decode(encoding, "replace").removeprefix("\ufeff")
    return file, replace(how, encoding=encoding), text


@contextmanager
def _located(path: Path | None, how: Reading) -> Iterator[None]:
    """Name the line of a byte that cannot be decoded where the encoding cannot go on behind it (UTF-16)."""
    try:
        yield
    except UnicodeError as error:
        line = f"line {first_bad_line(path, how.encoding)}: " if path else ""
        reason = getattr(error, "reason", None) or str(error)
        raise DataError(
            f"{path or 'standard input'}: {line}not {how.encoding} ({shown(reason)}).",
            fix=f"set {how.key('encoding')}, or convert the file",
        ) from error


def _csv_options(how: Reading, *, plain: bool = False) -> dict[str, Any]:
    quoting = csv.QUOTE_NONE if plain or how.quoting == "none" else csv.QUOTE_MINIMAL
    return {"delimiter": how.delimiter, "quoting": quoting, "strict": True}


def _first_record(path: Path | None, lines: Lines, reader: Iterator[list[str]], how: Reading) -> list[str]:
    """Return the fields of the first row that is not blank."""
    where = path or "standard input"
    while True:
        lines.record.clear()
        start = lines.next_line
        try:
            row = next(reader)
        except StopIteration:
            raise empty_file(where) from None
        except csv.Error as error:
            fix = how.advice("quote")
            raise DataError(f"{where}: line {start}: unbalanced quote ({error}).", fix=fix) from error
        if reason := wrong_bytes("".join(lines.record), how.encoding):
            raise DataError(f"{where}: line {start}: {reason}.", fix=how.advice(reason))
        if row:
            if len(lines.record) > 1 and how.quoting == "auto" and how.has_header:  # a row is looked at when it is read
                counts = {len(one) for one in _plain_rows(lines.record, how)}
                if counts == {len(row)} != {1}:
                    raise DataError(
                        f"{where}: line {start}: a quote joins it with the next line, which looks like a row.",
                        fix=how.advice("quote"),
                    )
            return row


def _plain_rows(lines: Iterable[str], how: Reading) -> list[list[str]]:
    """Return the fields of lines each of which is a row, with quotes as characters; none of a line without end."""
    rows = []
    for line in lines:
        try:
            rows += list(csv.reader([line.rstrip("\r\n")], **_csv_options(how, plain=True)))
        except csv.Error:
            rows.append([])
    return rows


def csv_records(
    lines: Lines, header: Sequence[str] | None, n_fields: int, how: Reading, table: Table | None = None
) -> Iterator[tuple[int, list[str] | None, str | None]]:
    """Yield every record of a CSV file, the bad ones too, and go on behind a missing quote.

    Args:
        lines: Of the file, opened with ``errors="surrogateescape"``.
        header: The first row, which must not come again.
        n_fields: Fields that a record should have.
        how: Its delimiter, quoting and encoding.
        table: Where rows of several lines are counted.

    Yields:
        The line that the record begins on (1-based), its fields (None where it cannot be split), and what is wrong
        with it (None where nothing is). Blank lines are left out.
    """
    reader = csv.reader(lines, **_csv_options(how))
    sample: list[list[str]] = []
    while True:
        record = lines.record = []
        start = lines.next_line
        row: list[str] | None = None
        reason: str | None = None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = f"unbalanced quote ({error})"
        else:
            if not row:
                continue
            if len(row) != n_fields:
                reason = f"{len(row):,} field{'s' if len(row) != 1 else ''} instead of {n_fields:,}"
            elif row == header:
                reason = "it is the header again"
            elif not all(map(str.isascii, record)):
                reason = wrong_bytes("".join(record), how.encoding)
        if len(record) == 1:
            if reason is None and len(sample) < _SAMPLE:
                assert row is not None
                sample.append(row)
            yield start, row, reason
            continue
        if (
            row is not None
            and reason is None
            and how.quoting == "auto"
            and _joins_rows(row, record, how, sample, lines)
        ):
            rest = (
                "the next line, which looks like a row" if len(record) == 2 else "the next lines, which look like rows"
            )
            yield start, None, f"a quote joins it with {rest}"
            lines.resume_at(1)
            continue
        if reason is None and table is not None:
            table.joined += 1
        yield start, row, reason
        if row is None or len(row) != n_fields:
            # A missing quote joins records: go on at the first line that can begin one.
            lines.record = record
            begins = _record_start(record, n_fields, how)
            if begins is not None:
                lines.resume_at(begins)


_SAMPLE = 500


def _joins_rows(row: list[str], record: list[str], how: Reading, sample: list[list[str]], lines: Lines) -> bool:
    """Return whether a record of several lines seems to be several rows, joined by quotes that enclose nothing.

    Rows that are joined into one with the right number of fields leave a delimiter beside a line's end in a field.
    Between tabs that is enough, for texts hold hardly any. Between commas each line must have all the fields, and in
    some column a value (a class, a kind of number) that ordinary rows have there.
    """
    if how.delimiter == "\t":
        return any("\t" in field and ("\n" in field or "\r" in field) for field in row)
    plain, n_fields = _plain_rows(record, how), len(row)
    if n_fields < 2 or any(len(one) != n_fields for one in plain):
        return False
    coming = [line for line in lines.ahead(_SAMPLE) if '"' not in line]
    ordinary = sample + [one for one in _plain_rows(coming, how) if len(one) == n_fields]
    for column in range(n_fields):
        known = {_kind(one[column]) for one in ordinary} - {""}
        if all(_kind(one[column]) in known for one in plain):
            return True
    return False


def _kind(value: str) -> str:
    """Return a value with every number replaced by the same one."""
    return re.sub(r"\d+", "9", value.strip())


def _record_start(record: list[str], n_fields: int, how: Reading) -> int | None:
    """Return the position of the first line that can begin a record: a quoted one, or one with all fields."""
    for position in range(1, len(record)):
        line = record[position]
        if line.startswith('"') or len(_plain_rows([line], how)[0]) == n_fields:
            return position
        try:
            if len(next(csv.reader([line], **_csv_options(how)))) == n_fields:
                return position
        except csv.Error:
            continue
    return None


def _find_delimiter(path: Path | None, head: str, how: Reading, wanted: Sequence[ColumnName]) -> str:
    """Return the delimiter: the one asked for, or that whose header has the columns, or that which splits evenly."""
    if how.delimiter != "auto":
        return "\t" if how.delimiter == "tab" else how.delimiter
    usual = how.usual or ("\t" if how.format == "tsv" else ",")
    lines = [line for line in head.splitlines()[:51] if line.strip()][:50]
    split = {}
    for mark in dict.fromkeys([usual, ",", ";", "\t", "|"]):
        try:
            split[mark] = [
                row
                for row in csv.reader(lines, **_csv_options(replace(how, delimiter=mark)) | {"strict": False})
                if row
            ]
        except csv.Error:
            continue
    names = {str(name) for name in wanted if isinstance(name, str)}
    if how.has_header and names:
        fitting = [mark for mark, rows in split.items() if rows and names <= {name.strip() for name in rows[0]}]
    else:
        needed = max([int(name) for name in wanted if str(name).isdigit()], default=0) + 1
        fitting = [mark for mark, rows in split.items() if rows and needed > 1 and _share(rows, needed) >= 0.9]
    if not fitting:
        # Nothing has the columns: the error that follows names those of the most likely delimiter.
        even = {mark: _share(rows, 2) for mark, rows in split.items() if rows and len(rows[0]) > 1}
        fitting = [usual] if usual in even or not even else [max(even, key=lambda mark: even[mark])]
    if fitting[0] != usual:
        logger.warning("%s: the delimiter is %r, as its first lines say.", path or "standard input", fitting[0])
    return fitting[0]


def _share(rows: list[list[str]], needed: int) -> float:
    """Return the share of the commonest number of fields among rows, or 0 where it is below ``needed``."""
    ((count, times),) = Counter(map(len, rows)).most_common(1)
    return times / len(rows) if count >= needed else 0.0


def _open_lines(stack: ExitStack, path: Path | None, how: Reading) -> Table:
    # A command that answers row by row rejects a line without end; training refuses the file.
    file, how, _ = _open_stream(stack, path, how, bounded_lines=how.group != "--")
    names: list[ColumnName] = ["text"]
    if how.format == "jsonl" and path is not None and how.group != "--":
        with open_text(path, how.encoding) as first, _located(path, how):
            names = _keys(text for _, text in islice(_bounded(first), 20) if text)

    def rows(columns: Sequence[ColumnName]) -> Iterator[Row]:
        with _located(path, how):
            for line, text in _bounded(file):
                if text is None:
                    yield line, None, f"a line has more than {LONGEST_LINE:,} bytes"
                elif how.format == "text":
                    bad = wrong_bytes(text, how.encoding)
                    yield line, None if bad else [text], bad
                elif text.strip():
                    yield line, *_parsed(text, columns, how)

    return Table(path, names, how, rows)


def _bounded(file: IO[str]) -> Iterator[tuple[int, str | None]]:
    """Yield line numbers and lines without their ends; None for a line that is too long to be held."""
    line = 0
    while part := file.readline(LONGEST_LINE):
        line += 1
        if len(part) < LONGEST_LINE or part.endswith(("\n", "\r")):
            yield line, part.rstrip("\r\n")
            continue
        while (more := file.readline(LONGEST_LINE)) and not more.endswith(("\n", "\r")):
            pass
        yield line, None


def _keys(texts: Iterable[str]) -> list[ColumnName]:
    keys: dict[ColumnName, None] = {}
    for text in texts:
        try:
            item = json.loads(text)
        except (ValueError, RecursionError):
            continue
        keys |= dict.fromkeys(item) if isinstance(item, dict) else {}
    return list(keys)


class _TwiceError(ValueError):
    """A key occurs twice in an object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise _TwiceError(f"the key {shown(key)} occurs twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _parsed(text: str, columns: Sequence[ColumnName], how: Reading) -> tuple[Sequence[Any] | None, str | None]:
    """Return the values of one JSON object, or what is wrong with it."""
    if wrong := wrong_bytes(text, how.encoding):
        return None, wrong
    try:
        return _values(_DECODER.decode(text), columns)
    except _TwiceError as error:
        return None, str(error)
    except (ValueError, RecursionError) as error:
        return None, f"not JSON ({error})"


def _values(item: Any, columns: Sequence[ColumnName]) -> tuple[Sequence[Any] | None, str | None]:
    if isinstance(item, str) and len(columns) == 1:
        return [item], None
    if not isinstance(item, Mapping):
        return None, "not a JSON object" if len(columns) > 1 else "neither a JSON object nor a string"
    keys = [str(name) for name in columns]
    for key in keys:
        if key not in item:
            guess = nearest(key, item)
            return None, f"no key {shown(key)}" + (f" (did you mean {guess!r}?)" if guess else "")
    return [item[key] for key in keys], None


def _open_json(path: Path, how: Reading) -> Table:
    """Open a file with one array of objects."""
    encoding = find_encoding(read_head(path), str(path), how.encoding, how.remembered)
    check_encoding(encoding, how.key("encoding"))
    how = replace(how, encoding=encoding)
    with open_bytes(path) as stream:
        content = stream.read()
    try:
        whole = content.decode("utf-8-sig" if how.encoding == "utf-8" else how.encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = first_bad_line(path, how.encoding)
        reason = f"byte 0x{content[error.start]:02x} is not {how.encoding.upper()}"
        raise DataError(f"{path}: line {line}: {reason}.", fix=how.advice(reason)) from error

    def items() -> Iterator[tuple[int, Any]]:
        at, line, counted = whole.index("[") + 1, 1, 0
        between = re.compile(r"[\s,]*")
        while True:
            found = between.match(whole, at)
            assert found is not None
            at = found.end()
            line, counted = line + whole.count("\n", counted, at), at
            if whole[at : at + 1] == "]":
                if rest := whole[at + 1 :].strip():
                    raise DataError(f"{path}: line {line}: {shown(rest)} stands behind the array.")
                return
            try:
                item, at = _DECODER.raw_decode(whole, at)
            except _TwiceError as error:
                raise DataError(f"{path}: line {line}: {error}.") from error
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}: line {line}: not JSON ({error}).", fix="check that it is complete") from error
            yield line, item

    def rows(columns: Sequence[ColumnName]) -> Iterator[Row]:
        for line, item in items():
            yield line, *_values(item, columns)

    names: dict[ColumnName, None] = {}
    for _, item in islice(items(), 20):
        names |= dict.fromkeys(item) if isinstance(item, dict) else {}
    return Table(path, list(names), how, rows)


def _open_parquet(path: Path, how: Reading) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    @contextmanager
    def readable(what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = shown(str(error).splitlines()[0], 200)
            raise DataError(f"{path} {what}: {reason}.", fix="delete it and get it again") from error

    paths = sorted(path.parent.glob(path.name)) if "*" in path.name else [path]
    if not paths or not paths[0].is_file():
        raise FileNotFoundError(path)
    with readable("is not readable Parquet"):
        files = [pq.ParquetFile(one, page_checksum_verification=True) for one in paths]
    names: list[ColumnName] = list(files[0].schema_arrow.names)

    def rows(columns: Sequence[ColumnName]) -> Iterator[Row]:
        chosen = [str(names[column_position(path, names, name, how.key("columns"))]) for name in columns]
        number = 0
        with readable("is damaged"):
            for batch in chain.from_iterable(file.iter_batches(batch_size=4096, columns=chosen) for file in files):
                for values in zip(*(batch.column(name).to_pylist() for name in chosen), strict=True):
                    number += 1
                    yield number, values, None

    return Table(path, names, how, rows)


def _grid(path: Path, how: Reading, grid: Iterator[tuple[int, list[str]]]) -> Table:
    """Return the table of a sheet: rows of texts, of which blank ones are left out."""
    filled = ((line, row) for line, row in grid if any(cell.strip() for cell in row))
    first = next(filled, None)
    if first is None:
        raise empty_file(path)
    width = len(first[1])
    names: list[ColumnName] = [name.strip() for name in first[1]] if how.has_header else list(range(width))

    def rows(columns: Sequence[ColumnName]) -> Iterator[Row]:
        positions = [column_position(path, names, name, how.key("columns")) for name in columns]
        if not how.has_header:
            yield first[0], [first[1][i] for i in positions], None
        for line, row in filled:
            if len(row) > width:
                yield line, None, f"{len(row):,} cells instead of {width:,}"
            elif how.has_header and row == first[1]:
                yield line, None, "it is the header again"
            else:
                full = row + [""] * (width - len(row))
                yield line, [full[i] for i in positions], None

    return Table(path, names, how, rows)


def _open_folder(path: Path, how: Reading) -> Table:
    """Open a folder with one sub-folder a class, named by it, and one file a text; or with files alone."""
    visible = sorted(child for child in path.iterdir() if not child.name.startswith("."))
    folders = [child for child in visible if child.is_dir()]
    if not visible or (folders and len(folders) < len(visible)):
        raise DataError(
            f"{path} is no folder of texts: it must hold one sub-folder for each class, with one file for each text.",
            fix="name one file, or sort the files into sub-folders",
        )

    names: list[ColumnName] = ["text", "label"] if folders else ["text"]

    def rows(columns: Sequence[ColumnName]) -> Iterator[Row]:
        for name in columns:
            column_position(path, names, name, how.key("columns"))
        files = [f for child in folders or [path] for f in sorted(child.iterdir()) if not f.name.startswith(".")]
        for number, file in enumerate(files, start=1):
            name = file.relative_to(path).as_posix()
            if file.is_dir():
                raise DataError(f"{file} is a folder in the folder of a class.", fix="move its files up")
            with reading(file), open_bytes(file) as stream:
                content = stream.read(LONGEST_LINE + 1)
            if len(content) > LONGEST_LINE:
                yield number, None, f"{name} has more than {LONGEST_LINE:,} bytes"
                continue
            encoding = find_encoding(content, name, how.encoding, how.remembered)
            check_encoding(encoding, how.key("encoding"))
            try:
                text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
            except UnicodeError as error:
                yield number, None, f"{name} is not {encoding.upper()}: {getattr(error, 'reason', error)}"
                continue
            found = {"text": text, "label": file.parent.name}
            yield number, [found[str(name)] for name in columns], None

    return Table(path, names, how, rows)


def joined_text(values: Sequence[Any]) -> str:
    """Return the text of a row: its values joined with one space.

    Raises:
        ValueError: One is no text.
    """
    if any(value is None for value in values):
        raise ValueError("the text is missing or not a string")
    if not all(isinstance(value, str) for value in values):
        raise ValueError("the text is not a string")
    text = values[0] if len(values) == 1 else " ".join(values)
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("the text holds half of a surrogate pair, which is no character")
    return text
