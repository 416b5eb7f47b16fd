"""Streams that refuse what would fill the memory."""

from __future__ import annotations

import io

import pytest

from agnews_exp.core.errors import DataError
from agnews_exp.data.files import BoundedStream, most_expanded


def bounded(content: bytes, longest_line: int | None = None, most: int | None = None) -> BoundedStream:
    return BoundedStream("file", io.BytesIO(content), longest_line, most)


def test_bytes_are_counted_over_all_reads():
    stream = bounded(b"x" * 10, most=9)
    assert stream.read(5) == b"xxxxx"
    assert stream.read(4) == b"xxxx"
    with pytest.raises(DataError, match="more than 9 bytes"):
        stream.read(1)


def test_a_line_may_be_as_long_as_is_allowed_and_no_longer():
    assert bounded(b"12345\n12345", longest_line=5).read() == b"12345\n12345"
    stream = bounded(b"1\n234567", longest_line=5)
    assert stream.read(4) == b"1\n23"  # two bytes of the second line
    assert stream.read1(3) == b"456"
    with pytest.raises(DataError, match="more than 5 bytes"):
        stream.read(1)


def test_what_may_come_of_a_gzipped_file_grows_with_it():
    assert most_expanded(1) == most_expanded(10_000_000) == 1 << 30
    assert most_expanded(20_000_000) == 2_000_000_000
