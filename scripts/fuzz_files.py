"""Random files of all formats and encodings for scripts/fuzz.py: every row is read, rejected, or its file refused.

Each file holds rows that are known: every text has a mark of its own (``row17x``). Then some are damaged as files
are in life: a lone quote, a cut or repeated line, a bad byte, another encoding. Marks that are in no answer are lost
where no reject has their line and the file was not refused; two marks in one text are rows that were joined in silence.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import re
import shutil
import time
import traceback
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import AgnewsError
from agnews_exp.serving.inputs import Asked, Item, describe_source, read_items

ENCODINGS = ("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1", "shift_jis")
FORMATS = ("csv", "csv", "csv", "tsv", "tsv", "jsonl", "json", "parquet", "xlsx", "ods", "text", "folder")
PACKED = ("", "", "", ".gz", ".bz2", ".xz", ".zst", ".zip")
WORDS = ("oil", "cup", "café", "a,b", "x;y", "tab\there", "two\nlines", '"said"', "it's", "5\" pipe", "=1+1", "naïve",
         "№", "日本", "\\", "NA", "null", "<b>", "\u2028", "  ", "|", "\r", "'")  # fmt: skip
_MARK = re.compile(r"row\d+x")


def rows_of(rng: random.Random, plain: bool) -> list[tuple[str, str]]:
    """Return texts, each with its mark, and classes."""
    words = [word for word in WORDS if not plain or not set(word) & set('\n\r\t"\u2028')]
    return [
        (f"row{i}x {' '.join(rng.choice(words) for _ in range(rng.randint(1, 8)))}", rng.choice(("one", "two", "drei")))
        for i in range(rng.randint(2, 40))
    ]


def write_table(rng: random.Random, rows: Sequence[tuple[str, str]], mark: str, quoted: int | None) -> str:
    """Return rows as a table: an id, the text, the class; with csv's quotes, or None without any."""
    out = io.StringIO(newline="")
    end = rng.choice(("\n", "\r\n"))
    table = [("id", "text", "label"), *((str(i), *row) for i, row in enumerate(rows))]
    if quoted is None:
        return end.join(mark.join(row) for row in table) + end
    csv.writer(out, delimiter=mark, quoting=quoted, lineterminator=end).writerows(table)
    return out.getvalue()


def damaged(rng: random.Random, content: str) -> str:
    """Return a table or lines with one thing wrong, as happens to files."""
    lines = content.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    kind = rng.choice(("quotes", "quote", "header", "cut", "blank", "twice", "end", "none", "none"))
    if kind in ("quotes", "quote"):  # a text that begins with a quote, and perhaps a later one that ends with one
        lines[at] = lines[at].replace("row", '"row', 1)
        if kind == "quotes" and at + 2 < len(lines):
            lines[at + 1] = re.sub(r"(row\d+x[^,;|\t\n]*)", r'\1"', lines[at + 1], count=1)
    elif kind == "header":
        lines.insert(at, lines[0])
    elif kind == "cut":
        lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)] + "\n"
    elif kind == "blank":
        lines.insert(at, "\n")
    elif kind == "twice":
        lines.insert(at, lines[at])
    elif kind == "end":
        return content[: rng.randrange(len(content))]
    return "".join(lines)


@dataclass(frozen=True)
class Made:
    """A random file and all that is known of it."""

    path: Path
    rows: Sequence[tuple[str, str]]  # texts, each with its mark, and classes
    what: str  # a description
    asked: dict[str, Any]  # the options that a user would know
    lines: Mapping[str, set[int]]  # the lines (1-based), or rows of a file without lines, on which each mark stands


def make_file(rng: random.Random, folder: Path) -> Made:
    """Write a random file."""
    format = rng.choice(FORMATS)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if format in ("parquet", "xlsx", "ods", "folder"):
        path, rows, what = _write_binary(rng, folder, format)
        first = 2 if format in ("xlsx", "ods") else 1
        every = {i + 1 for i in range(len(rows))}  # a folder is read class by class
        lines = {_mark(row[0]): every if format == "folder" else {first + i} for i, row in enumerate(rows)}
        return Made(path, rows, what, {}, lines)
    encoding = rng.choice(ENCODINGS)
    quoted = rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, None))
    plain = format in ("csv", "tsv") and quoted is None
    rows = [(_fitting(text, encoding), label) for text, label in rows_of(rng, plain or format == "text")]
    mark = "\t" if format == "tsv" else rng.choice((",", ",", ";", "|"))
    asked: dict[str, Any] = {}
    if format in ("csv", "tsv"):
        if quoted is None:
            rows = [(text.replace(mark, " "), label) for text, label in rows]
        content = write_table(rng, rows, mark, quoted)
        asked = rng.choice(({}, {}, {"quoting": "none"} if quoted is None else {"delimiter": mark}))
    elif format == "json":
        content = json.dumps([{"text": t, "label": c} for t, c in rows], ensure_ascii=rng.random() < 0.5, indent=1)
    elif format == "jsonl":
        content = "".join(json.dumps({"text": t, "label": c}, ensure_ascii=rng.random() < 0.5) + "\n" for t, c in rows)
    else:
        content = "".join(text + "\n" for text, _ in rows)
    wrong = rng.random() < 0.5
    if wrong:
        content = damaged(rng, content)
    data = content.encode(encoding, "replace")
    if rng.random() < 0.15 and data:
        at = rng.randrange(len(data))
        if not set(data[max(0, at - 3) : at + 4]) & set(b"\n\r"):  # nobody can see that a line's end was another byte
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            wrong = True
    if encoding in ("cp1252", "latin-1", "shift_jis") and rng.random() < 0.7:
        asked = {**asked, "encoding": encoding}
    left = data.decode(encoding, "replace")
    rows = [row for row in rows if _mark(row[0]) in left]  # the others were damaged themselves
    packed = rng.choice(PACKED)
    suffix = {"text": ".txt"}.get(format, f".{format}")
    path = folder / f"rows{suffix}{packed}"
    _pack(path, packed, data, suffix)
    lines = {}
    for number, line in enumerate(left.split("\n") if format == "text" else re.split(r"\r\n|\r|\n", left), 1):
        for found in _MARK.findall(line):
            lines.setdefault(found, set()).update(
                (number, number - 1, number - 2) if format == "json" else (number,)
            )  # {
    what = f"{format} {encoding} quoting={quoted} mark={mark!r} damaged={wrong} {asked}"
    return Made(path, rows, what, asked, lines)


def _mark(text: str) -> str:
    return str(_MARK.findall(text)[0])


def _fitting(text: str, encoding: str) -> str:
    return text.encode(encoding, "replace").decode(encoding)


def _pack(path: Path, packed: str, data: bytes, suffix: str) -> None:
    if packed == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"rows{suffix}", data)
    elif packed == ".zst":
        import pyarrow as pa

        path.write_bytes(pa.compress(data, codec="zstd", asbytes=True))
    else:
        path.write_bytes({".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}.get(packed, bytes)(data))


def _write_binary(rng: random.Random, folder: Path, format: str) -> tuple[Path, list[tuple[str, str]], str]:
    rows = rows_of(rng, plain=False)
    path = folder / (f"rows.{format}" if format != "folder" else "rows")
    if format == "folder":
        for i, (text, label) in enumerate(rows):
            (path / label).mkdir(parents=True, exist_ok=True)
            (path / label / f"{i}.txt").write_text(text, encoding=rng.choice(("utf-8", "utf-16")), newline="")
        return path, rows, format
    if format == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": [t for t, _ in rows], "label": [c for _, c in rows]}), path)
    else:
        _write_book(path, [("text", "label"), *rows], format)
    wrong = rng.random() < 0.3
    if wrong:
        content = bytearray(path.read_bytes())
        if rng.random() < 0.5:
            content = content[: rng.randrange(len(content))]
        else:
            for _ in range(rng.randint(1, 3)):
                content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        if format == "parquet":  # it has no checksums, as a rule
            rows = []
    return path, rows, f"{format} damaged={wrong}"


def _write_book(path: Path, rows: Sequence[tuple[str, str]], format: str) -> None:
    from xml.sax.saxutils import escape

    def safe(text: str) -> str:
        return escape(text).replace("\r", "&#13;")

    with zipfile.ZipFile(path, "w") as book:
        if format == "ods":
            spaces = " ".join(f'xmlns:{n}="urn:oasis:names:tc:opendocument:xmlns:{n}:1.0"' for n in ("table", "text"))
            cells = (
                "<table:table-row>"
                + "".join(f"<table:table-cell><text:p>{safe(c)}</text:p></table:table-cell>" for c in row)
                + "</table:table-row>"
                for row in rows
            )
            book.writestr("content.xml", f"<d {spaces}><table:table>{''.join(cells)}</table:table></d>")
            return
        main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
        link = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
        book.writestr("xl/workbook.xml", f'<w xmlns="{main}" xmlns:r="{link}"><sheet name="a" r:id="r1"/></w>')
        book.writestr("xl/_rels/workbook.xml.rels", '<R><X Id="r1" Target="worksheets/s.xml"/></R>')
        cells = (
            f'<row r="{n}">'
            + "".join(f'<c t="inlineStr" r="{"AB"[i]}{n}"><is><t>{safe(c)}</t></is></c>' for i, c in enumerate(row))
            + "</row>"
            for n, row in enumerate(rows, 1)
        )
        book.writestr("xl/worksheets/s.xml", f'<w xmlns="{main}">{"".join(cells)}</w>')


def _misplaced(made: Made, items: Sequence[Item], whole: bool) -> Iterator[str]:
    """Yield the rows that are neither answered on their line nor among the rejects with it."""
    ends = [item.line for item in items[1:]] + [float("inf")]
    rejects = [(item.line, end) for item, end in zip(items, ends, strict=False) if item.text is None]
    answered = {_mark(item.text): item.line for item in items if item.text is not None and _MARK.search(item.text)}
    for mark in {_mark(text) for text, _ in made.rows}:
        lines = made.lines.get(mark, set())
        if mark in answered:
            if answered[mark] not in lines:
                yield f"predict: {mark} stands on {sorted(lines)}, not on {answered[mark]}"
        elif whole and not any(first <= line < end for line in lines for first, end in rejects):
            yield f"predict: {mark} of line {sorted(lines)} is not in the rejects {rejects}"


def check_file(made: Made) -> Iterator[str]:
    """Read a file as training, `predict` and `agnews inspect` do; yield what is wrong."""
    from agnews_exp.data.csv_files import load_csv
    from agnews_exp.data.inspection import inspect_file
    from agnews_exp.data.tables import Reading

    path, asked = made.path, made.asked
    marks = {_mark(text) for text, _ in made.rows}
    items, refused = [], False
    try:
        for item in read_items(describe_source(str(path), Asked(**asked))):
            items.append(item)
    except AgnewsError as error:
        refused = True
        if path.name not in str(error) and "encoding" not in str(error):
            yield f"predict: the refusal does not name the file: {error}"
    texts = [item.text for item in items if item.text is not None]
    yield from (f"predict: rows are joined in {t!r}" for t in texts if len(set(_MARK.findall(t))) > 1)
    lines = [item.line for item in items]
    if lines != sorted(lines):
        yield f"predict: lines go back: {lines}"
    missing = marks - {mark for text in texts for mark in _MARK.findall(text)}
    rejected = sum(item.text is None for item in items)
    if len(missing) > rejected and not refused:
        yield f"predict: {sorted(missing)} are lost, with {rejected} rejects"
    yield from _misplaced(made, items, whole=not refused)
    try:
        corpus = load_csv(train_file=path, duplicate_rows="keep", **asked)
    except AgnewsError as error:
        if path.name not in str(error) and "data." not in str(error):
            yield f"training: the refusal does not name the file: {error}"
    else:
        own = corpus.train.texts
        yield from (f"training: rows are joined in {t!r}" for t in own if len(set(_MARK.findall(t))) > 1)
        if lost := marks - {mark for text in own for mark in _MARK.findall(text)}:
            yield f"training: {sorted(lost)} are lost"
        if own != texts and not refused and path.suffixes[0] != ".txt" and len(texts) == len(items):
            yield f"training and predict read other texts: {len(own)} and {len(texts)}"
        if len(corpus.class_names) > 3 and "label" in corpus.class_names:
            yield "training: the header is a class"
    with suppress(AgnewsError):
        inspect_file(path, Reading(**asked))


def fuzz_files(folder: Path, seed: int, *, files: int | None = None, seconds: float = 60) -> tuple[int, list[str]]:
    """Make and check random files.

    Args:
        folder: To write them in; a file with a finding is kept there.
        seed: Of the choices.
        files: So many; None goes on for ``seconds``.
        seconds: See ``files``.

    Returns:
        How many were tried, and the findings.
    """
    began, tried, findings = time.monotonic(), 0, []
    while tried < files if files is not None else time.monotonic() - began < seconds:
        rng = random.Random(f"{seed} {tried}")  # noqa: S311
        made = make_file(rng, folder / "work")
        tried += 1
        try:
            found = list(check_file(made))
        except Exception:  # the finding of a fuzzer is any other exception
            found = [traceback.format_exc()]
        if found:
            kept = folder / f"finding-{tried}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder / "work", kept)
            findings += [f"file {tried} ({made.what}), kept in {kept}: {finding}" for finding in found]
    return tried, findings
