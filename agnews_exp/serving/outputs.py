"""Answers and rejects written as a stream that can be gone on with; a file gets its name when it is whole."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from agnews_exp.core.errors import ConfigError
from agnews_exp.core.text import spreadsheet_cell

Row = Mapping[str, Any]

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}

_ENCODE = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for every row


class Output(Protocol):
    """Takes rows; a position taken after rows were written can be gone back to."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows."""

    def position(self) -> int:
        """Make all rows written so far durable, and return the position of their end."""

    def close(self) -> None:
        """Complete the file."""


def partial(path: Path) -> Path:
    """Return what an output is called until it is complete: a file, of Parquet a folder."""
    return path.with_name(path.name + ".part")


def holds(path: Path, position: int) -> bool:
    """Return whether an unfinished output is as long as an earlier call noted."""
    if path.suffix.lower() == ".parquet":
        return all(ParquetOutput.part(path, number).is_file() for number in range(position))
    return not position or (partial(path).is_file() and partial(path).stat().st_size >= position)


class LineOutput:
    """Output as CSV or JSON lines, which is called ``<path>.part`` until it is complete.

    With a ``position`` it is cut off there and gone on with; without a path it goes to standard output.
    """

    def __init__(self, path: Path | None, format: str, columns: Sequence[str], position: int | None = None) -> None:
        self._csv = format == "csv"
        self._columns = list(columns)
        self._path = path
        self._file: IO[bytes] = sys.stdout.buffer if path is None else partial(path).open("r+b" if position else "wb")
        if position:
            self._file.truncate(position)
            self._file.seek(position)
        elif self._csv:
            self._put([self._columns])

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows."""
        if self._csv:
            self._put([[row.get(column) for column in self._columns] for row in rows])
        else:
            self._file.write("".join(_ENCODE(row) + "\n" for row in rows).encode())

    def _put(self, rows: list[list[Any]]) -> None:
        text = io.StringIO(newline="")
        plain = csv.writer(text, lineterminator="\n")
        # With this line end Python before 3.13 leaves a lone "\r" bare, and whoever reads the file sees a new row.
        quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in rows:
            broken = any(isinstance(value, str) and "\r" in value for value in row)
            (quoting if broken else plain).writerow(
                [spreadsheet_cell(_ENCODE(v) if isinstance(v, list) else v) for v in row]
            )
        self._file.write(text.getvalue().encode())

    def position(self) -> int:
        """Flush to the disk and return the length."""
        self._file.flush()
        if self._path is None:
            return 0
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Flush, and give a file of our own its name."""
        self._file.flush()
        if self._path is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            partial(self._path).replace(self._path)


class ParquetOutput:
    """Parquet, written in parts that are joined at the end; ``position`` parts are complete already."""

    def __init__(self, path: Path, position: int | None = None) -> None:
        self._path = path
        self._parts = partial(path)
        if not position:
            shutil.rmtree(self._parts, ignore_errors=True)
        self._parts.mkdir(parents=True, exist_ok=True)
        self._count = position or 0
        self._rows: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        """Keep rows for the next part."""
        self._rows += rows

    def position(self) -> int:
        """Write a part and return how many there are."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._rows:
            pq.write_table(pa.Table.from_pylist([dict(row) for row in self._rows]), self.part(self._path, self._count))
            self._count, self._rows = self._count + 1, []
        return self._count

    @staticmethod
    def part(path: Path, number: int) -> Path:
        """Return the file of a part (0-based)."""
        return partial(path) / f"{number:06}.parquet"

    def close(self) -> None:
        """Join the parts, one at a time in memory."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from agnews_exp.core.files import atomic_path

        self.position()
        with atomic_path(self._path) as temporary:
            if not self._count:
                pq.write_table(pa.table({}), temporary)
            else:
                schema = pq.read_schema(self.part(self._path, 0))
                with pq.ParquetWriter(temporary, schema) as writer:
                    for number in range(self._count):
                        writer.write_table(pq.read_table(self.part(self._path, number)).cast(schema))
        shutil.rmtree(self._parts, ignore_errors=True)


def open_output(path: Path | None, columns: Sequence[str], position: int | None = None) -> Output:
    """Open an output by its name.

    Raises:
        ConfigError: Another format.
    """
    if path is None:
        return LineOutput(None, "jsonl", columns)
    format = output_format(path)
    return ParquetOutput(path, position) if format == "parquet" else LineOutput(path, format, columns, position)


def output_format(path: Path) -> str:
    """Return the format that a file name stands for.

    Raises:
        ConfigError: It stands for none.
    """
    if (format := FORMATS.get(path.suffix.lower())) is None:
        raise ConfigError(
            f"--output {path}: the name must end in {', '.join(sorted(FORMATS))}.", fix=f"--output {path.stem}.csv"
        )
    return format
