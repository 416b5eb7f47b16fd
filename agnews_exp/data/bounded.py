"""Reading files whose size on the disk says nothing of the memory that they would take."""

from __future__ import annotations

import io
from typing import Any

from agnews_exp.config.errors import DataError

LONGEST_LINE = 1 << 25
"""Bytes. A reader holds a whole line, so a file without line ends would be held as a whole."""

_EXPANDED = 1 << 30
_RATIO = 100


def most_expanded(size: int) -> int:
    """Return how many bytes a gzipped file of ``size`` bytes may expand to: a gigabyte, or 100 times its size if more.

    Texts compress to a third or a fifth; gzip reaches a thousandth with bytes that are all alike.
    """
    return max(_EXPANDED, _RATIO * size)


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
