"""Finds every bad record of a CSV file and says what is wrong with it and on which line."""

from __future__ import annotations

import csv
from collections import deque
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
        lines = _Lines(file)
        skip_header = columns.has_header
        while True:
            lines.record = []
            start = lines.next_line
            row: list[str] | None = None
            try:
                row = next(csv.reader(lines, delimiter=delimiter, strict=True))
            except StopIteration:
                break
            except csv.Error as error:
                bad.add(start, f"unbalanced quote ({error})")
            except UnicodeError as error:
                bad.add(start, f"not {encoding}: {error}")
                break  # an encoding of several bytes a character (UTF-16) cannot go on after a bad one
            else:
                if not row:
                    continue
                reason = _wrong_bytes(row, encoding) if skip_header else _why_bad(row, columns, labels, encoding)
                skip_header = False
                if reason is not None:
                    bad.add(start, reason)
            if len(lines.record) > 1 and (row is None or len(row) != columns.n_fields):
                # A missing quote joins records: go on at the first line that can begin one.
                begins = _record_start(lines.record, columns.n_fields, delimiter)
                if begins is not None:
                    lines.resume_at(begins)
    if not bad.total:
        bad.add(0, "the file changed while it was read")
    return bad


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


def _wrong_bytes(row: list[str], encoding: str) -> str | None:
    """Name the first byte that could not be decoded (the file is open with surrogateescape)."""
    try:
        "".join(row).encode("utf-8")
    except UnicodeEncodeError as error:
        return f"byte 0x{ord(error.object[error.start]) & 0xFF:02x} is not {encoding.upper()}"
    return None


def _why_bad(row: list[str], columns: Columns, labels: Labels, encoding: str) -> str | None:
    wrong_bytes = _wrong_bytes(row, encoding)
    if wrong_bytes is not None:
        return wrong_bytes
    if len(row) != columns.n_fields:
        return f"{len(row)} field{'s' if len(row) != 1 else ''} instead of {columns.n_fields}"
    label = row[columns.label].strip()
    try:
        labels.find(label)
    except KeyError:
        return labels.explain(label)
    if not "".join(row[i] for i in columns.texts).strip():
        return "the text is empty"
    return None
