"""Finds every bad record of a CSV file and says what is wrong with it and on which line."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from agnews_exp.data.files import BadLines, Columns, Labels, field_limit, open_text


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
    """Name the first byte that could not be decoded (the file is open with surrogateescape)."""
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
