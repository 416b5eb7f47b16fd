"""One reader for all files: formats, packing, delimiters, quotes and encodings; nothing joined, lost or guessed."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import shlex
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agnews_exp.core.errors import AgnewsError, ConfigError, DataError
from agnews_exp.data import files
from agnews_exp.data.csv_files import load_csv, read_file
from agnews_exp.data.files import Labels, first_bad_line, fixed
from agnews_exp.data.tables import Reading, open_table
from agnews_exp.serving.inputs import Asked, describe_source, read_items

ROWS = [("The striker, they say, scored", "sport"), ('A "quiet" market — café', "money"), ("two\nlines", "sport")]


def written(folder, name, rows=ROWS):
    """Write rows in the format of a name."""
    path = folder / name
    objects = [{"text": text, "label": label} for text, label in rows]
    if name.endswith(".jsonl"):
        path.write_text("".join(json.dumps(item) + "\n" for item in objects))
    elif name.endswith(".json"):
        path.write_text(json.dumps(objects, indent=2, ensure_ascii=False), encoding="utf-8")
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(objects), path)
    elif name.endswith(".xlsx"):
        write_xlsx(path, [("text", "label"), *rows])
    elif name.endswith(".ods"):
        write_ods(path, [("text", "label"), *rows])
    elif name == "folder":
        for number, (text, label) in enumerate(rows):
            (path / label).mkdir(parents=True, exist_ok=True)
            (path / label / f"{number}.txt").write_text(text, encoding="utf-8")
    else:
        mark = "\t" if ".tsv" in name else ","
        lines = [f'"text"{mark}"label"'] + ['"' + t.replace('"', '""') + f'"{mark}"{c}"' for t, c in rows]
        content = ("\n".join(lines) + "\n").encode()
        packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": pack_zst}
        if name.endswith(".zip"):
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("inner/rows.tsv" if ".tsv" in name else "rows.csv", content)
                archive.writestr("__MACOSX/rows.csv", b"rubbish")
        else:
            path.write_bytes(packed.get(path.suffix, bytes)(content))
    return path


def pack_zst(content):
    return pa.compress(content, codec="zstd", asbytes=True)


def write_xlsx(path, rows):
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    strings, body = [], []
    for number, row in enumerate(rows, start=1):
        cells = []
        for letter, value in zip("ABCDEFG", row, strict=False):
            if value is None:
                continue
            if isinstance(value, int):
                cells.append(f'<c r="{letter}{number}"><v>{value}</v></c>')
                continue
            text = value.replace("&", "&amp;").replace("<", "&lt;")
            if letter == "A":  # shared, in two parts of which one is bold, with a reading that is no text
                strings.append(f"<si><r><t>{text[:3]}</t></r><r><t>{text[3:]}</t></r><rPh><t>reading</t></rPh></si>")
                cells.append(f'<c r="{letter}{number}" t="s"><v>{len(strings) - 1}</v></c>')
            else:
                cells.append(f'<c r="{letter}{number}" t="inlineStr"><is><t>{text}</t></is></c>')
        body.append(f'<row r="{number}">{"".join(cells)}</row>')
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets><sheet name="one" r:id="rId7"/></sheets></workbook>',
        )
        book.writestr("xl/_rels/workbook.xml.rels", '<R><X Id="rId7" Target="worksheets/s.xml"/></R>')
        book.writestr("xl/sharedStrings.xml", f'<sst xmlns="{main}">{"".join(strings)}</sst>')
        sheet = f'<worksheet xmlns="{main}"><sheetData>{"".join(body)}</sheetData></worksheet>'
        book.writestr("xl/worksheets/s.xml", sheet)


def write_ods(path, rows):
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    body = []
    for row in rows:
        cells = [
            "<table:table-cell>"
            + "".join(f"<text:p>{line}</text:p>" for line in text.split("\n"))
            + "</table:table-cell>"
            for text in row
        ]
        body.append(f"<table:table-row>{''.join(cells)}</table:table-row>")
    empty = '<table:table-row table:number-rows-repeated="1048000"><table:table-cell/></table:table-row>'
    table = f'<table:table table:name="one">{"".join(body)}{empty}</table:table>'
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("content.xml", f"<office:document {spaces}>{table}</office:document>")


NAMES = ["a.csv", "a.tsv", "a.CSV", "a.csv.gz", "a.csv.bz2", "a.tsv.xz", "a.csv.zst", "a.csv.zip", "a.tsv.zip", "a.zip",
         "a.jsonl", "a.json", "a.parquet", "a.xlsx", "a.ods", "folder"]  # fmt: skip


def texts_of(path, **asked):
    return [item.text for item in read_items(describe_source(str(path), Asked(**asked)))]


def test_every_format_gives_the_same_rows_to_training_and_to_predict(tmp_path):
    for name in NAMES:
        path = written(tmp_path, name)
        corpus = load_csv(train_file=path)
        pairs = [(t, corpus.class_names[k]) for t, k in zip(corpus.train.texts, corpus.train.labels, strict=True)]
        assert sorted(pairs) == sorted(ROWS), name
        assert texts_of(path) == corpus.train.texts, name


def refusal(call):
    """Return the message of a refusal, or None."""
    try:
        call()
    except AgnewsError as error:
        return str(error)


def test_what_is_damaged_or_called_something_else_is_refused_by_name(tmp_path):
    for name in NAMES[:-1]:
        path = written(tmp_path, name)
        content = path.read_bytes()
        for end in ("csv", "jsonl", "parquet", "xlsx", "ods", "csv.gz", "csv.zst", "csv.zip", "json"):
            other = f"x.{end}"
            for part in (content, content[:-30], content[: len(content) // 2]):
                (tmp_path / other).write_bytes(part)
                message = refusal(lambda: load_csv(train_file=tmp_path / other))  # noqa: B023
                assert message is None or "x." in message, (name, other)
    (tmp_path / "two.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "x")
    with pytest.raises(DataError, match=r"holds 2 files: 'a.csv', 'b.csv'"):
        load_csv(train_file=tmp_path / "two.zip")


LONE = ["z", '"Hello there, we said', "plain words here", 'and then it ended"', "x y"]


def lone_quotes(mark):
    return "".join(
        f"{text}{mark}{'ab'[i % 2]}\n" for i, text in enumerate(LONE * 5) if mark not in text or mark == "\t"
    )


def test_lone_quotes_never_join_rows_in_silence(tmp_path):
    for mark, name in (("\t", "a.tsv"), ("\t", "a.txt"), (";", "a.csv")):
        path = tmp_path / name
        content = lone_quotes(mark)
        path.write_text(f"text{mark}label\n" + content)
        with pytest.raises(DataError, match=r"line 3: a quote joins it") as caught:
            load_csv(train_file=path)
        assert caught.value.fix.startswith("data.quoting=none")
        items = list(read_items(describe_source(str(path), Asked(format="csv"))))
        assert {i.line for i in items if i.reason and "quote joins it" in i.reason} == {3, 8, 13, 18, 23}
        assert {i.line for i in items} == set(range(2, 27)), "each row has its answer or its reject"
        assert texts_of(path, format="csv", quoting="none") == LONE * 5
        assert load_csv(train_file=path, quoting="none").train.texts == LONE * 5
        joined = load_csv(train_file=path, quoting="csv")
        assert joined.counts["rows_of_several_lines"] == 5, "asked for, and counted"


def test_texts_of_several_lines_are_read_where_quotes_do_enclose_them(tmp_path):
    path = tmp_path / "a.csv"
    letters = [f"Dear {name},\nthank you, and goodbye\n" for name in ("Ann", "Bob", "Cy")]
    path.write_text("id,text,label\n" + "".join(f'{n},"{t}",{"ab"[n % 2]}\n' for n, t in enumerate(letters)))
    corpus = load_csv(train_file=path)
    assert corpus.train.texts == letters
    assert corpus.counts["rows_of_several_lines"] == 3
    assert texts_of(path) == letters


def test_the_header_again_is_no_class(tmp_path):
    for path, line in ((tmp_path / "a.csv", "text,label"), (tmp_path / "a.tsv", "text\tlabel")):
        rows = line.replace("text", "a b").replace("label", "x")
        path.write_text("\n".join([line, rows, line, rows.replace("x", "y")]))
        with pytest.raises(DataError, match="line 3: it is the header again"):
            load_csv(train_file=path)
        assert [i.reason for i in read_items(describe_source(str(path), Asked()))] == [
            None,
            "it is the header again",
            None,
        ]
    write_xlsx(tmp_path / "a.xlsx", [("text", "label"), ("a", "x"), ("text", "label"), ("b", "y")])
    with pytest.raises(DataError, match="line 3: it is the header again"):
        load_csv(train_file=tmp_path / "a.xlsx")


def test_an_encoding_that_the_first_bytes_tell_is_found_and_said(tmp_path, caplog):
    content = "text,label\ncafé — one,x\nÉté,y\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        objects = [{"text": "café — one", "label": "x"}, {"text": "Été", "label": "y"}]
        array = json.dumps(objects, ensure_ascii=False)
        for name, text in (("a.csv", content), ("a.txt", "café — one\nÉté\n"), ("a.json", array)):
            path = tmp_path / name
            path.write_bytes(text.encode(encoding))
            caplog.clear()
            assert texts_of(path) == ["café — one", "Été"], (encoding, name)
            assert ("is read as" in caplog.text) == ("16" in encoding or "32" in encoding), (encoding, name)
    path = tmp_path / "b.csv"
    path.write_bytes(content.encode("cp1252"))
    with pytest.raises(DataError, match=r"line 2: byte 0xe9 is not UTF-8") as caught:
        load_csv(train_file=path)
    assert "data.encoding=cp1252" in caught.value.fix
    assert load_csv(train_file=path, encoding="cp1252").train.texts == ["café — one", "Été"]
    path.write_bytes(codecs.BOM_UTF16_LE + content.encode("utf-16-le"))
    with pytest.raises(DataError, match="UTF-16, not utf-8"):
        load_csv(train_file=path, encoding="utf-8")


def test_a_bad_byte_is_named_with_its_line(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        good = end.join(["text,label", *(f"word {n},{'xy'[n % 2]}" for n in range(40)), ""])
        for encoding, bad in (("utf-8", b"caf\xe9,x"), ("utf-16-le", b"\x00\xd8,\0x\0"), ("utf-16", b"\x00\xdc,\0")):
            path = tmp_path / "a.csv"
            path.write_bytes(good.encode(encoding) + bad + (end + "more,y").encode(encoding.removesuffix("-le") + "-le"
                             if "16" in encoding else encoding))  # fmt: skip
            with pytest.raises(DataError, match="line 42: ") as caught:
                load_csv(train_file=path, encoding=encoding)
            assert "line 1:" not in str(caught.value)
            assert first_bad_line(path, encoding) == 42
    (tmp_path / "a.json").write_bytes(b'[{"text": "a",\n"label": "x"},\n{"text": "caf\xe9"}]')
    with pytest.raises(DataError, match="line 3: byte 0xe9"):
        load_csv(train_file=tmp_path / "a.json")
    (tmp_path / "a.json").write_bytes(b'[{"text": "a",\n"label": "x"},\n{"text": nope}]')
    with pytest.raises(DataError, match="line 3: not JSON"):
        load_csv(train_file=tmp_path / "a.json")


def test_the_delimiter_that_gives_the_columns_is_found_and_said(tmp_path, caplog):
    for mark in (";", "\t", "|", ","):
        path = tmp_path / "a.csv"
        path.write_text(mark.join(["id", "text", "label"]) + "\n" + f"1{mark}a, b{mark}x\n2{mark}c{mark}y\n".replace(
            "a, b", "a b" if mark == "," else "a, b"))  # fmt: skip
        caplog.clear()
        assert load_csv(train_file=path).train.texts[1] == "c"
        assert texts_of(path)[1] == "c"
        assert ("the delimiter is" in caplog.text) == (mark != ",")
        path.write_text(f"a{mark}x\nb{mark}y\n")
        assert load_csv(train_file=path, has_header=False, text_columns=[0], label_column=1).train.texts == ["a", "b"]
    path.write_text("subject;team\n" + "".join(f"a longer text of {n} words;{'xy'[n % 2]}\n" for n in range(18)))
    with pytest.raises(ConfigError, match="its columns: subject, team") as caught:
        load_csv(train_file=path)
    assert caught.value.fix == "data.label_column=team 'data.text_columns=[subject]'"


def test_every_printed_fix_is_read_back_by_shell_and_hydra():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    values = [
        "/tmp/a-b.csv", "../x.csv", "./y", ".", ";", "\t", "|", ",", "'", '"', "\\", "a b", "data (1).csv", "C:\\x",
        "é", "[a]", "${x}", "1", "null", "true", "x=y", "a,b", "{a}", "~", "#", "x#y", "a'b\"c", "choice(a)", "1e5",
    ]  # fmt: skip
    for value in values:
        (word,) = shlex.split(fixed("data.delimiter", value))
        assert str(parser.parse_override(word).value()) == value
        (word,) = shlex.split(fixed("data.text_columns", [value, "other"]))
        assert [str(v) for v in parser.parse_override(word).value()] == [value, "other"], value
        assert shlex.split(fixed("--delimiter", value)) == ["--delimiter", value]


def test_a_column_or_a_key_that_occurs_twice_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,text,label\na,b,x\nc,d,y\n")
    (tmp_path / "a.jsonl").write_text('{"text": "a", "text": "b", "label": "x"}\n')
    write_xlsx(tmp_path / "a.xlsx", [("text", "text", "label"), ("a", "b", "x")])
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names=["text", "text", "label"]), tmp_path / "a.parquet")
    for name in ("a.csv", "a.xlsx", "a.parquet"):
        with pytest.raises(ConfigError, match="2 columns of this name"):
            load_csv(train_file=tmp_path / name)
        with pytest.raises(ConfigError, match="2 columns of this name"):
            texts_of(tmp_path / name)
    with pytest.raises(DataError, match="line 1: the key 'text' occurs twice"):
        load_csv(train_file=tmp_path / "a.jsonl")
    (item,) = read_items(describe_source(str(tmp_path / "a.jsonl"), Asked()))
    assert item.reason == "the key 'text' occurs twice"


def test_no_message_repeats_input_without_bound(tmp_path):
    long = "x" * 20_000
    wide = ",".join(f"column {i}" for i in range(300))
    contents = {
        "label.csv": f"text,label\na,{long}\n", "header.csv": f"{long},label\na,b\n", "wide.csv": f"{wide}\n",
        "key.jsonl": json.dumps({long: 1}), "label.jsonl": json.dumps({"text": "a", "label": [long]}),
        "json.jsonl": "{" + long, "array.json": json.dumps([{long: 1}]), "behind.json": "[]" + long,
        "class.csv": f"text,label\na,x\nb,y\n,{long}\n", "field.csv": f'text,label\n"{long}\n',
        "many.csv": "text,label\n" + "".join(f"a {i},{'k' * 900}{i}\n" for i in range(50)),
    }  # fmt: skip
    known = Labels(tuple(f"{'k' * 900}{i}" for i in range(50)))
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        for read in (
            lambda path: load_csv(train_file=path),
            lambda path: load_csv(train_file=path, text_columns=[long], label_column=long[:-1]),
            lambda path: read_file(path, ["text"], "label", known, Reading()),
            lambda path: [print(i.reason) for i in read_items(describe_source(str(path), Asked(columns=[long])))],
        ):
            message = refusal(lambda: read(tmp_path / name)) or ""  # noqa: B023
            length, longest = len(message), max(map(len, message.split("\n")))
            assert length < 6000, name
            assert longest < 2500, name
        for item in read_items(describe_source(str(tmp_path / name), Asked(columns=None))) if "sonl" in name else ():
            assert len(item.reason or "") < 500, name


def test_truth_values_and_numbers_are_classes_as_the_file_spells_them(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a", "label": true}\n{"text": "b", "label": false}\n{"text": "c", "label": 3}\n'
    )
    assert load_csv(train_file=tmp_path / "a.jsonl").class_names == ("3", "false", "true")
    pq.write_table(pa.table({"text": ["a", "b", "c"], "label": [1.0, 2.0, 1.0]}), tmp_path / "a.parquet")
    assert load_csv(train_file=tmp_path / "a.parquet").class_names == ("1", "2")
    pq.write_table(pa.table({"text": ["a", "b", None], "label": [1.5, 2.0, None]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="2 bad lines"):
        load_csv(train_file=tmp_path / "a.parquet")


def test_a_workbook_with_gaps_numbers_and_long_rows(tmp_path):
    write_xlsx(tmp_path / "a.xlsx", [("text", "n", "label"), ("a b", 3, "x"), ("c", None, "y"), (None, None, None)])
    corpus = load_csv(train_file=tmp_path / "a.xlsx", text_columns=["text", "n"])
    assert corpus.train.texts == ["a b 3", "c "]
    write_xlsx(tmp_path / "a.xlsx", [("text", "label"), ("a", "x", "more")])
    with pytest.raises(DataError, match="line 2: 3 cells instead of 2"):
        load_csv(train_file=tmp_path / "a.xlsx")


def test_a_packed_file_that_expands_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_EXPANDED", 1 << 16)
    content = b"text,label\n" + b"a b,x\n" * 100_000
    for name, pack in (("a.csv.bz2", bz2.compress), ("a.csv.xz", lzma.compress), ("a.csv.zst", pack_zst)):
        (tmp_path / name).write_bytes(pack(content))
        with pytest.raises(DataError, match="expands to more than"):
            load_csv(train_file=tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)
    with pytest.raises(DataError, match="expands to more than"):
        load_csv(train_file=tmp_path / "a.csv.zip")


def test_the_names_of_json_are_the_keys_of_its_first_rows(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n\n{"b": 2, "a": 3}\nrubbish\n')
    (tmp_path / "a.json").write_text('[{"a": 1}, {"b": 2}]')
    for name in ("a.jsonl", "a.json"):
        with open_table(tmp_path / name, Reading()) as table:
            assert table.names == ["a", "b"]
