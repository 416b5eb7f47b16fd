import csv
import gzip
import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.core.text import has_control
from agnews_exp.data.csv_files import read_file
from agnews_exp.data.files import Labels, Lines
from agnews_exp.data.tables import Reading, csv_records, open_table

OFFICIAL = Reading("csv", ",", has_header=False)
NAMED = Reading("csv", ",")
CLASSES = ("1", "2", "3", "4")


def read(path, content: bytes, how=OFFICIAL, labels=None, **options):
    path.write_bytes(content)
    columns = ([1, 2], 0) if how is OFFICIAL else (["text"], "label")
    return read_file(path, *columns, labels or Labels(CLASSES), replace(how, **options))


def read_json_lines(path, text_keys, label_key, labels):
    return read_file(path, text_keys, label_key, labels, Reading())


@pytest.fixture
def file(tmp_path):
    return tmp_path / "rows.csv"


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip())
class_names = texts.filter(lambda text: not has_control(text.strip()))


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from(CLASSES), texts, texts), min_size=1))
def test_what_csv_writer_quotes_comes_back_unchanged(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("round") / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, quoting=csv.QUOTE_ALL).writerows(rows)
    found = read_file(path, [1, 2], 0, Labels(CLASSES), OFFICIAL)
    assert found.texts == [f"{title} {description}" for _, title, description in rows]
    assert found.labels.tolist() == [int(label) - 1 for label, _, _ in rows]
    assert found.row_ids.tolist() == list(range(len(rows)))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(texts, class_names), min_size=1), delimiter=st.sampled_from([",", "\t", ";"]))
def test_named_columns_come_back_with_any_delimiter(tmp_path_factory, rows, delimiter):
    path = tmp_path_factory.mktemp("round") / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, quoting=csv.QUOTE_ALL, delimiter=delimiter).writerows([("text", "label"), *rows])
    labels = Labels()
    found = read_file(path, ["text"], "label", labels, replace(NAMED, delimiter=delimiter, quoting="csv"))
    names = list(labels.index)
    assert [(text, names[i]) for text, i in zip(found.texts, found.labels, strict=True)] == [
        (text, label.strip()) for text, label in rows
    ]


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "NaN", "N/A", "true", "007", "1e3"])
def test_words_that_look_like_missing_values_are_text(file, word):
    assert read(file, f'"1","{word}","{word}"\n'.encode()).texts == [f"{word} {word}"]


@pytest.mark.parametrize(
    "content",
    [
        b'"1","Cup","A, B"\n"2","He said ""no""","two\nlines"\n',
        b'"1","Cup","A, B"\r\n"2","He said ""no""","two\nlines"\r\n',
        b'\xef\xbb\xbf"1","Cup","A, B"\n"2","He said ""no""","two\nlines"',
        b'"1","Cup","A, B"\n\n"2","He said ""no""","two\nlines"\n\n\n',
        b'1,Cup,"A, B"\n2,"He said ""no""","two\nlines"\n',
    ],
    ids=["plain", "crlf", "bom, no final line end", "blank lines", "only what needs quotes is quoted"],
)
def test_line_ends_quotes_and_byte_order_mark_are_handled(file, content):
    found = read(file, content)
    assert found.texts == ["Cup A, B", 'He said "no" two\nlines']
    assert found.labels.tolist() == [0, 1]


GOOD = b'"1","a","b"\n'


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'"1","a"\n', "2 fields instead of 3"),
        (b'"1","a","b","c"\n', "4 fields instead of 3"),
        (b'"5","a","b"\n', "unknown class '5'"),
        (b'"0","a","b"\n', "unknown class '0'"),
        (b'"","a","b"\n', "the label is empty"),
        (b'"1",""," "\n', "the text is empty"),
        (b'"1","caf\xe9","b"\n', "byte 0xe9 is not UTF-8"),
        (b'"1","\xed\xa0\x80","b"\n', "byte 0xed is not UTF-8"),
        (b'"1","a "quoted" word","b"\n', "unbalanced quote"),
        (b'"1","a","b\n', "unbalanced quote"),
    ],
)
def test_a_bad_line_is_named_with_file_line_and_reason(file, bad, reason):
    with pytest.raises(DataError) as caught:
        read(file, GOOD * 2 + bad + GOOD)
    message = caught.value.message
    assert message.startswith(f"{file}: 1 bad line.")
    assert f"line 3: {reason}" in message


def test_every_bad_line_is_counted_and_ten_are_shown(file):
    with pytest.raises(DataError) as caught:
        read(file, (GOOD + b'"7","a","b"\n' + b'"1","a"\n') * 500)
    lines = caught.value.message.splitlines()
    assert lines[0] == f"{file}: 1,000 bad lines."
    assert [line.split(":")[0].strip() for line in lines[1:11]] == [
        f"line {n}" for n in (2, 3, 5, 6, 8, 9, 11, 12, 14, 15)
    ]
    assert lines[11].strip() == "... and 990 more"


def test_bad_lines_of_different_kinds_are_all_found(file):
    content = b"".join(
        [GOOD, b'"1","open,"b"\n', GOOD, b'"9","a","b"\n', b'"1","x\xff","b"\n', b'"2","two\nlines","b"\n', b'"3"\n']
    )
    with pytest.raises(DataError) as caught:
        read(file, content)
    shown = [line.split(":")[0].strip() for line in caught.value.message.splitlines()[1:] if "fix" not in line]
    assert shown == ["line 2", "line 4", "line 5", "line 8"]


def test_a_missing_quote_does_not_hide_the_lines_after_it(file):
    with pytest.raises(DataError, match="3 bad lines") as caught:
        read(file, GOOD + b'"1","a","never closed\n' + b'"7","a","b"\n' + GOOD * 2 + b'"6","a","b"\n')
    assert "line 2: unbalanced quote" in caught.value.message
    assert "line 3: unknown class '7'" in caught.value.message
    assert "line 6: unknown class '6'" in caught.value.message


def test_bad_bytes_in_the_header_are_named(file):
    with pytest.raises(DataError, match="line 1: byte 0xe9 is not UTF-8"):
        read(file, b"text,\xe9\na,b\n", NAMED, Labels())


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_an_error(file, content):
    with pytest.raises(DataError, match="has no rows"):
        read(file, content)


def test_missing_file_folder_and_damaged_gzip_are_errors(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read_file(tmp_path / "no.csv", [1, 2], 0, Labels(CLASSES), OFFICIAL)
    with pytest.raises(DataError, match="is a folder"):
        read_file(tmp_path, [1, 2], 0, Labels(CLASSES), OFFICIAL)
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "cut.csv.gz", gzip.compress(GOOD * 5000)[:-40])
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "plain.csv.gz", GOOD)


def test_other_encodings_are_read_and_unknown_ones_refused(file):
    assert read(file, '"1","café","b"\n'.encode("latin-1"), encoding="latin-1").texts == ["café b"]
    assert read(file, '"1","café","b"\n'.encode("utf-16"), encoding="utf-16").texts == ["café b"]
    with pytest.raises(DataError, match="not utf-16"):
        read(file, '"1","a","b"\n'.encode("utf-16")[:-1], encoding="utf-16")
    with pytest.raises(ConfigError, match=r"data\.encoding='utf-99'"):
        read(file, GOOD, encoding="utf-99")


def test_long_documents_are_read_and_the_csv_limit_is_left_as_it_was(file):
    before = csv.field_size_limit()
    document = "word " * 100_000
    assert read(file, f'"1","a","{document}"\n'.encode()).texts == [f"a {document}"]
    assert csv.field_size_limit() == before


def test_header_names_are_stripped_and_unfinished_quotes_refused(file):
    file.write_bytes(b'\xef\xbb\xbf text ,"la,bel"\r\n')
    with open_table(file, Reading()) as table:
        assert table.names == ["text", "la,bel"]
    file.write_bytes(b'"text,label\n')
    with pytest.raises(DataError, match="unbalanced quote"), open_table(file, Reading()):
        pass


def test_json_lines_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"title": "a", "body": "b\\u2028c", "y": 3}\n\n{"title": "NA", "body": "null", "y": "x"}\n')
    labels = Labels()
    found = read_json_lines(path, ["title", "body"], "y", labels)
    assert found.texts == ["a b\u2028c", "NA null"]
    assert labels.index == {"3": 0, "x": 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"txt": "a", "label": 1}', "no key 'text' (did you mean 'txt'?)"),
        (b'{"text": 5, "label": 1}', "the text is not a string"),
        (b'{"text": "a", "label": null}', "the label is neither"),
        (b'{"text": " ", "label": 1}', "the text is empty"),
        (b'{"text": "\\ud800", "label": 1}', "the text holds half of a surrogate pair"),
        (b'{"text": "\xff", "label": 1}', "byte 0xff is not UTF-8"),
        (b'{"text": "a", "label": "9"}', "unknown class '9'"),
    ],
)
def test_bad_json_lines_are_named(tmp_path, line, reason):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "good", "label": "1"}\n' + line + b"\n")
    with pytest.raises(DataError) as caught:
        read_json_lines(path, ["text"], "label", Labels(("1",)))
    assert f"line 2: {reason}" in caught.value.message


def test_records_go_on_at_the_line_that_begins_one_and_blank_lines_are_none():
    content = '"1","a","no end\nneither record nor end\n"2","b","c"\n\n"3","d","e"\n'
    found = list(csv_records(Lines(io.StringIO(content)), None, 3, OFFICIAL))
    assert [(line, row) for line, row, reason in found if reason is None] == [
        (3, ["2", "b", "c"]),
        (5, ["3", "d", "e"]),
    ]
    assert [line for line, _, reason in found if reason] == [1]


def test_twelve_known_classes_are_all_listed_and_more_are_not():
    names = [f"c{i:02}" for i in range(13)]
    assert "c11; did" in Labels(names[:12]).explain("c111") or "c11)" in Labels(names[:12]).explain("c111")
    assert "c11, ..." in Labels(names).explain("zzz")
