"""The parts of all readers of text files: classes, columns, opening, and the error that lists all bad lines."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.core.suggestions import nearest
from agnews_exp.core.text import has_control, is_name
from agnews_exp.data.corpus import TextRows

LONGEST_LINE = 1 << 25
"""Most bytes of a line. A reader holds a whole line, so a file without line ends would be held as a whole."""

_EXPANDED = 1 << 30


def most_expanded(size: int) -> int:
    """Return how many bytes a gzipped file of ``size`` bytes may expand to: a gigabyte, or 100 times its size if more.

    Texts compress to a third or a fifth; gzip reaches a thousandth with bytes that are all alike.
    """
    return max(_EXPANDED, 100 * size)


class BoundedStream(io.BufferedIOBase):
    """A binary stream that refuses lines without end and files that expand without end.

    Args:
        name: Its name, for errors.
        stream: Where bytes come from; closed with this one.
        longest_line: Bytes of a line at most; None takes any.
        most: Bytes in all at most; None takes any.
    """

    def __init__(self, name: str, stream: Any, longest_line: int | None, most: int | None = None) -> None:
        self._name = name
        self._stream = stream
        self._longest_line = longest_line
        self._most = most
        self._total = self._line = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes, or all."""
        return self._checked(self._stream.read(size))

    def read1(self, size: int = -1, /) -> bytes:
        """Read up to ``size`` bytes with one call of the system."""
        return self._checked(self._stream.read1(size))

    def _checked(self, part: bytes) -> bytes:
        self._total += len(part)
        if self._most is not None and self._total > self._most:
            raise DataError(
                f"{self._name} expands to more than {self._most:,} bytes, which no text of its size does.",
                fix="if that is right, decompress it yourself: gzip -dk",
            )
        if self._longest_line is not None:
            end = max(part.rfind(b"\n"), part.rfind(b"\r"))
            self._line = self._line + len(part) if end < 0 else len(part) - end - 1
            if self._line > self._longest_line:
                raise DataError(
                    f"{self._name}: a line has more than {self._longest_line:,} bytes.", fix="check its line ends"
                )
        return part

    def close(self) -> None:
        """Close the stream below."""
        if not self.closed:
            self._stream.close()
        super().close()


_SHOWN = 10
_FIELD_LIMIT = 1 << 22
"""Most characters of one field. The csv module's own limit (131,072) is shorter than some documents; without any,
one missing quote would swallow the rest of the file."""


class Labels:
    """Maps label strings to class indices.

    Args:
        known: The labels there are, class i at index i; None to take every new label as a new class.
    """

    def __init__(self, known: tuple[str, ...] | None = None) -> None:
        self.index: dict[str, int] = {name: i for i, name in enumerate(known or ())}
        self.is_open = known is None

    def find(self, label: str) -> int:
        """Return the class index of a label.

        Raises:
            KeyError: The label is empty, or is none of the known ones.
        """
        found = self.index.get(label)
        if found is None:
            if not self.is_open or not is_name(label):
                raise KeyError(label)
            found = self.index[label] = len(self.index)
        return found

    def explain(self, label: str) -> str:
        """Say why :meth:`find` refuses a label."""
        if not label:
            return "the label is empty"
        if self.is_open:
            wrong = "holds a control character" if has_control(label) else f"has {len(label):,} characters"
            return f"the label {label[:80]!r} {wrong}"
        guess = nearest(label, self.index)
        listed = ", ".join(list(self.index)[:12]) + (", ..." if len(self.index) > 12 else "")
        return f"unknown class {label!r} (known: {listed}" + (f"; did you mean {guess!r}?)" if guess else ")")


@dataclass(frozen=True)
class Columns:
    """The positions of texts and label in the rows of a table.

    Attributes:
        texts: Positions of the fields that are joined with one space into the text.
        label: Position of the label.
        n_fields: Fields that every row must have.
        has_header: Whether the first row names the columns.
    """

    texts: tuple[int, ...]
    label: int
    n_fields: int
    has_header: bool = False


@dataclass
class BadLines:
    """The number of bad lines of a file, and the reasons of the first ten."""

    total: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, line: int, reason: str) -> None:
        """Count a bad line (1-based)."""
        self.total += 1
        if len(self.shown) < _SHOWN:
            self.shown.append(f"line {line}: {reason}")

    def error(self, path: Path) -> DataError:
        """Return the error that names the file and its bad lines."""
        more = [f"... and {self.total - _SHOWN:,} more"] if self.total > _SHOWN else []
        lines = "1 bad line" if self.total == 1 else f"{self.total:,} bad lines"
        return DataError(
            f"{path}: {lines}.\n  " + "\n  ".join(self.shown + more),
            fix="correct or remove these lines; nothing was read from this file",
        )


def open_text(
    path: Path, encoding: str, *, errors: str = "strict", newline: str = "", bounded_lines: bool = True
) -> IO[str]:
    """Open a plain or gzipped text file without translating line ends; a UTF-8 byte-order mark is skipped.

    Reading raises DataError for a file that expands without end and, with ``bounded_lines``, for a line without end.

    Raises:
        ConfigError: There is no such encoding.
    """
    try:
        "".encode(encoding, "surrogateescape")
    except (LookupError, ValueError) as error:  # ValueError: its codec cannot read files, such as idna
        raise ConfigError(f"data.encoding={encoding!r} is not an encoding.", fix="data.encoding=utf-8") from error
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        encoding = "utf-8-sig"
    compressed = path.suffix == ".gz"
    stream = gzip.open(path) if compressed else path.open("rb")  # noqa: SIM115 - closed with what is returned
    most = most_expanded(path.stat().st_size) if compressed else None
    bounded = BoundedStream(str(path), stream, LONGEST_LINE if bounded_lines else None, most)
    return io.TextIOWrapper(cast("IO[bytes]", bounded), encoding=encoding, errors=errors, newline=newline)


def as_rows(path: Path, texts: list[str], indices: array[int]) -> TextRows:
    """Build the rows of one file.

    Raises:
        DataError: There are none.
    """
    if not texts:
        raise empty_file(path)
    return TextRows(texts, np.array(indices, dtype=np.int64), np.arange(len(texts), dtype=np.int64))


def empty_file(path: Path) -> DataError:
    """Return the error for a file without rows."""
    return DataError(f"{path}: the file has no rows.", fix="check that it was written completely")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of the operating system and of gzip about a file into a DataError."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(
            f"There is no file {path}.", fix="check the path; relative ones start at the current folder"
        ) from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder, not a file.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


@contextmanager
def field_limit() -> Iterator[None]:
    """Raise the csv module's limit on the length of a field while a file is read."""
    previous = csv.field_size_limit(_FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(previous)
