"""Data files of any content: rows, or an error that names the file; never another exception, never all the memory."""

from __future__ import annotations

import csv
import gzip
import io
import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agnews_exp.core.errors import AgnewsError, ConfigError, DataError
from agnews_exp.data import files as bounded
from agnews_exp.data.csv_files import load_csv
from agnews_exp.serving.inputs import Asked, describe_source, read_items
from agnews_exp.serving.outputs import LineOutput

PIECES = [b'"', b",", b"\n", b"\r\n", b"\0", b"\xff", b"\xed\xa0\x80", b"{", b"[" * 3000, b"\\ud800", b"NaN", b"null"]
PIECES += [b"text,label\n", b"a b,x\n", b'{"text": "a", "label": "x"}\n', b'{"text": 1}\n', b"\t", b"\x1f\x8b", b"PAR1"]
PIECES += ["text,label\nä,x\n".encode("utf-16"), b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"9" * 5000, b"\x1b[2J"]


@contextmanager
def refusals_name(word):
    """Let an error for people pass that names the file, or the encoding that no file can be read in."""
    try:
        yield
    except AgnewsError as error:
        message = str(error)
    else:
        return
    assert word in message or "is not an encoding" in message


contents = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=12).map(b"".join)
suffixes = st.sampled_from([".csv", ".tsv", ".jsonl", ".csv.gz", ".jsonl.gz", ".parquet", ".txt"])
encodings = st.sampled_from(
    ["utf-8", "utf-16", "utf-32", "latin-1", "utf-7", "idna", "undefined", "a\0b", "rot13", "hz"]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@settings(max_examples=400, deadline=None)
@given(content=contents, suffix=suffixes, encoding=encodings, packed=st.booleans(), header=st.booleans())
def test_a_file_of_any_bytes_is_read_or_refused_by_name(folder, content, suffix, encoding, packed, header):
    path = folder / f"rows{suffix}"
    path.write_bytes(gzip.compress(content) if packed and suffix.endswith(".gz") else content)
    columns = {} if header else {"text_columns": 0, "label_column": 1}
    with refusals_name("rows"):
        corpus = load_csv(train_file=path, encoding=encoding, has_header=header, **columns)
        assert len(corpus.train.texts) == len(corpus.train.labels) > 0
    with refusals_name("rows"):
        source = describe_source(
            str(path), Asked(header=header, columns=["text"] if header else ["0"], encoding=encoding)
        )
        assert all((item.text is None) != (item.reason is None) for item in read_items(source))


@pytest.mark.parametrize("label", ["\x1b[31mred", "a\tb", "a\u2028b", "a\u202eb", "a\0b"])
def test_a_class_name_with_control_characters_is_refused_with_its_line(folder, label):
    path = folder / "control.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), ("one", "good"), ("two", label)])
    with pytest.raises(DataError, match=r"line 3: the label .* control character") as caught:
        load_csv(train_file=path)
    assert label not in str(caught.value)


def bomb(path, line: bytes, times: int) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(times):
            file.write(line)


def to_predict(path):
    return list(read_items(describe_source(str(path), Asked())))


@pytest.mark.parametrize("read", [lambda path: load_csv(train_file=path), to_predict], ids=["train", "predict"])
def test_a_gzipped_file_that_expands_without_end_is_refused(folder, monkeypatch, read):
    monkeypatch.setattr(bounded, "_EXPANDED", 1 << 22)
    path = folder / "bomb.csv.gz"
    bomb(path, b"text,label\n", 1)
    with gzip.open(path, "ab") as file:
        file.write((b"a" * 99_990 + b",x\n") * 100)
    assert path.stat().st_size < 50_000
    with pytest.raises(DataError, match="expands to more than"):
        read(path)


CAPPED = """
import sys
from agnews_exp.core.errors import DataError
from agnews_exp.data.csv_files import load_csv
try:
    load_csv(train_file=sys.argv[1])
except DataError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["line.csv.gz", "line.jsonl.gz"])
def test_a_line_without_end_does_not_fill_the_memory(folder, name):
    path = folder / name
    bomb(path, b"a" * (1 << 20), 700)  # 700 MB in some 3 MB
    done = subprocess.run(
        [sys.executable, "-c", CAPPED, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20)),
    )
    assert "a line has more than 33,554,432 bytes" in done.stdout, done.stderr


def test_a_header_longer_than_any_field_may_be_is_an_error_for_people(folder):
    path = folder / "wide.csv"
    path.write_bytes(b'"' + b"a" * (1 << 23) + b'",label\nx,y\n')
    with pytest.raises(AgnewsError, match=r"wide\.csv"):
        list(read_items(describe_source(str(path), Asked())))


def test_damaged_parquet_is_an_error_for_people(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / "rows.parquet"
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(5000)]}), path, compression="snappy")
    whole = path.read_bytes()
    outcomes = set()
    for position in range(0, len(whole), len(whole) // 60):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            list(read_items(describe_source(str(path), Asked())))
            outcomes.add("read")
        except (DataError, ConfigError):
            outcomes.add("refused")
    assert "refused" in outcomes


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝"])
def test_no_text_cell_of_written_answers_is_a_formula(tmp_path, start):
    output = LineOutput(tmp_path / "out.csv", "csv", ["line", "text", "confidence"])
    output.write([{"line": 1, "text": f"{start}cmd|' /C calc'!A0", "confidence": -0.5}])
    output.close()
    (_, row) = csv.reader(io.StringIO((tmp_path / "out.csv").read_bytes().decode(), newline=""))
    assert row == ["1", f"'{start}cmd|' /C calc'!A0", "-0.5"]
