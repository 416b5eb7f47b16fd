"""The parts of all readers of files: opening and unpacking, encodings, classes, and the error that lists bad lines."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import logging
import lzma
import shlex
import zipfile
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.core.suggestions import nearest
from agnews_exp.core.text import has_control, is_name
from agnews_exp.data.corpus import TextRows

logger = logging.getLogger(__name__)

LONGEST_LINE = 1 << 25
"""Most bytes of a line. A reader holds a whole line, so a file without line ends would be held as a whole."""

HEAD = 1 << 18
"""Bytes at the beginning of a file that its encoding and delimiter are found from."""

_EXPANDED = 1 << 30


def most_expanded(size: int) -> int:
    """Return how many bytes a packed file of ``size`` bytes may expand to: a gigabyte, or 100 times its size if more.

    Texts compress to a third or a fifth; gzip reaches a thousandth with bytes that are all alike.
    """
    return max(_EXPANDED, 100 * size)


class BoundedStream(io.BufferedIOBase):
    """A binary stream that refuses lines, or in all, of more bytes than are allowed; None allows any."""

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
        return self._checked(self._stream.read() if size is None or size < 0 else self._stream.read(size))

    def read1(self, size: int = -1, /) -> bytes:
        """Read up to ``size`` bytes with one call of the system."""
        return self._checked(self._stream.read1(size))

    def _checked(self, part: bytes) -> bytes:
        self._total += len(part)
        if self._most is not None and self._total > self._most:
            raise DataError(
                f"{self._name} expands to more than {self._most:,} bytes, which no text of its size does.",
                fix="if that is right, decompress it yourself",
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


def _open_zst(path: Path) -> Any:
    import pyarrow as pa

    return pa.input_stream(path, compression="zstd")


def _open_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:  # what is opened keeps the file open
        return archive.open(_zipped(path, archive))


def _zipped(path: Path, archive: zipfile.ZipFile) -> str:
    """Return the name of the one file in an archive."""
    names = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith(("__MACOSX/", "."))]
    if len(names) != 1:
        listed = ": " + ", ".join(map(shown, names[:10])) if names else ""
        raise DataError(f"{path} holds {len(names):,} files{listed}; it must hold one.", fix="unpack it, and name one")
    return names[0]


_PACKED: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".lzma": lzma.open, ".zst": _open_zst, ".zip": _open_zip,
}  # fmt: skip

_MAGIC = {
    b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst",
    b"PK\x03\x04": ".zip, .xlsx or .ods", b"PAR1": ".parquet", b"\xd0\xcf\x11\xe0": ".xls (save it as .xlsx)",
}  # fmt: skip
"""First bytes of files that are no text, and the name that they should have."""


def content_suffix(path: Path) -> str:
    """Return the suffix, in lower case, of a file or of what is packed in it: ``.csv`` of ``a.CSV.gz``."""
    packed = path.suffix.lower()
    if packed not in _PACKED:
        return packed
    if packed == ".zip":
        with reading(path), zipfile.ZipFile(path) as archive:
            return Path(_zipped(path, archive)).suffix.lower()
    return Path(path.stem).suffix.lower()


def open_bytes(path: Path, *, longest_line: int | None = None) -> IO[bytes]:
    """Open a file, unpacked if its name says that it is packed, bounded as :class:`BoundedStream` says."""
    opener = _PACKED.get(path.suffix.lower())
    stream = path.open("rb") if opener is None else opener(path)
    most = None if opener is None else most_expanded(path.stat().st_size)
    return cast("IO[bytes]", BoundedStream(str(path), stream, longest_line, most))


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked.

    Raises:
        DataError: They are those of a file of another kind.
    """
    with open_bytes(path) as stream:
        head = b""
        while len(head) < HEAD and (part := stream.read(HEAD - len(head))):
            head += part
    for magic, suffix in _MAGIC.items():
        if head.startswith(magic):
            raise DataError(f"{path} is no text; it looks like {suffix}.", fix="give it the name of what it is")
    return head


class Lines:
    """Iterates over lines; those of the current record can be pushed back, and some be looked at ahead."""

    def __init__(self, file: Iterable[str]) -> None:
        self.file = iter(file)
        self.pending: deque[str] = deque()
        self.record: list[str] = []
        self.next_line = 1

    def __iter__(self) -> Lines:
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

    def ahead(self, n: int) -> list[str]:
        """Return up to ``n`` lines to come."""
        self.pending.extend(islice(self.file, max(0, n - len(self.pending))))
        return list(islice(self.pending, n))


_MARKS = {
    codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
"""Byte-order marks; UTF-32's before UTF-16's, which begin them."""


def find_encoding(head: bytes, name: str, asked: str, remembered: str | None = None) -> str:
    """Return the encoding of a text from its first bytes.

    A byte-order mark decides, then zero bytes in every other place (UTF-16), then what is remembered of earlier files
    of its kind, else UTF-8: anything beyond that would be a guess. What was asked for, unless ``auto``, goes first.

    Raises:
        DataError: The byte-order mark is of another encoding than UTF-8, which was asked for.
    """
    marked = next((encoding for mark, encoding in _MARKS.items() if head.startswith(mark)), None)
    if asked != "auto":
        if marked not in (None, "utf-8") and is_utf8(asked):
            raise DataError(f"{name} is {marked.upper()}, not {asked}, by its byte-order mark.", fix=f"say {marked}")
        return asked
    if marked is not None:
        found = marked
    elif (zeros := [head[i:2000:2].count(0) for i in (0, 1)]) and max(zeros) > len(head[:2000]) // 4:
        found = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    elif remembered is not None and not remembered.startswith(("utf-16", "utf-32")):
        found = remembered
    else:
        found = "utf-8"
    if not is_utf8(found) and found != remembered:
        logger.warning("%s is read as %s, as its first bytes say.", name, found.upper())
    return found


def is_utf8(encoding: str) -> bool:
    """Return whether an encoding's name means UTF-8."""
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig")


def open_text(path: Path, encoding: str, *, bounded_lines: bool = True, key: str = "data.encoding") -> IO[str]:
    """Open a text file without translating line ends; a UTF-8 byte-order mark is skipped.

    Bytes that cannot be decoded become surrogates (``surrogateescape``). Reading raises DataError for a file that
    expands without end and, with ``bounded_lines``, for a line without end.

    Raises:
        ConfigError: There is no such encoding.
    """
    check_encoding(encoding, key)
    stream = open_bytes(path, longest_line=LONGEST_LINE if bounded_lines else None)
    codec = "utf-8-sig" if is_utf8(encoding) else encoding
    return io.TextIOWrapper(stream, encoding=codec, errors="surrogateescape", newline="")


def check_encoding(encoding: str, key: str) -> None:
    """Raise a ConfigError unless there is such an encoding of texts."""
    try:
        "".encode(encoding, "surrogateescape")
    except (LookupError, ValueError) as error:  # ValueError: its codec cannot read files, such as idna
        fix = fixed(key, "utf-8")
        raise ConfigError(f"{key}={shown(encoding)} is not an encoding.", fix=fix) from error


def first_bad_line(path: Path, encoding: str) -> int:
    """Return the line (1-based) of the first byte that cannot be decoded."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    ends, last = 0, ""
    with suppress(UnicodeError), open_bytes(path) as stream:
        while part := stream.read(1 << 16):
            state = decoder.getstate()
            try:
                texts: Iterable[str] = [decoder.decode(part)]
            except UnicodeError:
                decoder.setstate(state)
                texts = _decoded(decoder, part)
            for text in texts:
                ends += text.count("\n") + text.count("\r") - text.count("\r\n") - (last + text[:1] == "\r\n")
                last = text[-1:] or last
    return ends + 1


def _decoded(decoder: codecs.IncrementalDecoder, part: bytes) -> Iterator[str]:
    for at in range(len(part)):
        yield decoder.decode(part[at : at + 1])


def wrong_bytes(text: str, encoding: str) -> str | None:
    """Return a message about the first byte of a text that was not decoded (``surrogateescape``), or None."""
    if text.isascii():
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"byte 0x{ord(error.object[error.start]) & 0xFF:02x} is not {encoding.upper()}"
    return None


def shown(value: object, most: int = 80) -> str:
    """Return a value as messages show it: quoted, and cut where it is long."""
    text = value if isinstance(value, str) else str(value)
    return repr(text) if len(text) <= most else f"{text[:most]!r}... ({len(text):,} characters)"


def listed(names: Sequence[object], most: int = 20) -> str:
    """Return names as messages list them: cut where they are long or many."""
    texts = [text if len(text := str(name)) <= 60 else f"{text[:60]}..." for name in names[:most]]
    return ", ".join(texts) + (f", ... ({len(names):,} in all)" if len(names) > most else "")


def fixed(key: str, value: object) -> str:
    """Return the words that give a configuration's key, or an option such as ``--delimiter``, a value or a list."""
    if key.startswith("--"):
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        return f"{key} {shlex.quote(text)}"
    from agnews_exp.config.compose import quoted

    values = value if isinstance(value, list) else [value]
    words = [str(one) if _is_plain(str(one)) else quoted(str(one)) for one in values]
    return shlex.quote(f"{key}=[{','.join(words)}]" if isinstance(value, list) else f"{key}={words[0]}")


def _is_plain(word: str) -> bool:
    """Return whether Hydra takes a word as it is, for a text."""
    ends_well = (word[:1].isalpha() or word[:1] in "/.") and word.lower() not in ("true", "false", "null", "nan", "inf")
    return word.isdigit() or (ends_well and all(c.isalnum() or c in "_-./" for c in word) and word.isascii())


_SHOWN = 10
_FIELD_LIMIT = 1 << 22
"""Most characters of one field. The csv module's own limit (131,072) is shorter than some documents; without any,
one missing quote would swallow the rest of the file."""


class Labels:
    """Maps label strings to class indices; without known ones every new label is a new class."""

    def __init__(self, known: tuple[str, ...] | None = None) -> None:
        self.index: dict[str, int] = {name: i for i, name in enumerate(known or ())}
        self.is_open = known is None

    def text(self, values: Sequence[Any]) -> str:
        """Return the label that the cell of a row holds, given as a list of one.

        Raises:
            ValueError: It holds none.
        """
        return label_text(values[0])

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
        guess = nearest(label, self.index) if len(label) <= 200 else None
        names = listed(list(self.index), 12)
        return f"unknown class {shown(label)} (known: {names}" + (f"; did you mean {guess!r}?)" if guess else ")")

    def counts(self, rows: TextRows) -> dict[str, int]:
        """Return the rows of each class, and know no others from now on."""
        self.is_open = False
        return dict(zip(self.index, np.bincount(rows.labels, minlength=len(self.index)).tolist(), strict=True))

    def renumbered(self, rows: TextRows, meaning: Mapping[str, str | None], names: Sequence[str]) -> TextRows:
        """Return rows by the numbers of ``names``; those of a class that means none are left out."""
        order = np.full(len(self.index), -1, dtype=np.int64)
        for name, index in self.index.items():
            if (new := meaning[name]) is not None:
                order[index] = names.index(new)
        rows = replace(rows, labels=order[rows.labels])
        return rows if rows.labels.min(initial=0) >= 0 else rows.take(np.flatnonzero(rows.labels >= 0))


@dataclass
class BadLines:
    """The number of bad lines of a file, and the reasons of the first ten."""

    total: int = 0  # how many
    shown: list[str] = field(default_factory=list)  # ``line 3: reason`` of the first ten
    fix: str = "correct or remove these lines; nothing was read from this file"  # the next thing to do

    def add(self, line: int, reason: str) -> None:
        """Count a bad line (1-based)."""
        self.total += 1
        if len(self.shown) < _SHOWN:
            self.shown.append(f"line {line}: {reason}")

    def error(self, path: Path) -> DataError:
        """Return the error that names the file and its bad lines."""
        more = [f"... and {self.total - _SHOWN:,} more"] if self.total > _SHOWN else []
        lines = "1 bad line" if self.total == 1 else f"{self.total:,} bad lines"
        return DataError(f"{path}: {lines}.\n  " + "\n  ".join(self.shown + more), fix=self.fix)


def as_rows(path: Path, texts: list[str], indices: array[int], row_ids: array[int] | None = None) -> TextRows:
    """Build the rows of one file; a DataError where there are none."""
    if not texts:
        raise empty_file(path)
    ids = np.arange(len(texts), dtype=np.int64) if row_ids is None else np.array(row_ids, dtype=np.int64)
    return TextRows(texts, np.array(indices, dtype=np.int64), ids)


def empty_file(path: object) -> DataError:
    """Return the error for a file without rows."""
    return DataError(f"{path}: the file has no rows.", fix="check that it was written completely")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn errors of the operating system and of unpacking about a file into a DataError."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(
            f"There is no file {path}.", fix="check the path; relative ones start at the current folder"
        ) from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder, not a file.") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
    except RuntimeError as error:
        if "password" not in str(error):  # of an encrypted archive
            raise
        raise DataError(f"{path} is encrypted.", fix="unpack it") from error


@contextmanager
def field_limit() -> Iterator[None]:
    """Raise the csv module's limit on the length of a field while a file is read."""
    previous = csv.field_size_limit(_FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(previous)


EMPTY = "the text is empty"
"""The reason of a row without text."""


def label_text(value: object) -> str:
    """Return a label of a typed file as text, as JSON spells it.

    Raises:
        ValueError: It is neither a text, a whole number, nor true or false.
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    raise ValueError(f"the label is neither a string nor an integer: {shown(json.dumps(value, default=str))}")
