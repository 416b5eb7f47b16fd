"""The first sheet of an Excel (.xlsx) or OpenDocument (.ods) workbook as rows of texts, read without a further library.

The parser resolves nothing outside a file, and bounds what entities expand to (libexpat 2.4.1 and later).
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast
from xml.etree import ElementTree

from agnews_exp.core.errors import DataError
from agnews_exp.data.files import BoundedStream, listed, most_expanded, reading

logger = logging.getLogger(__name__)

_MOST_COLUMNS = 16_384
_S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_LINK = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


def sheet_rows(path: Path, format: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a workbook's first sheet with their numbers (1-based), without empty cells at their ends.

    Numbers are written as the file holds them, dates of Excel as days since 1900, truth values as true and false.

    Raises:
        DataError: The file is damaged or encrypted.
    """
    try:
        with reading(path), zipfile.ZipFile(path) as book:
            for number, row in _xlsx_rows(path, book) if format == "xlsx" else _ods_rows(path, book):
                while row and not row[-1]:
                    row.pop()
                yield number, row
    except (ElementTree.ParseError, KeyError, ValueError, IndexError) as error:
        raise DataError(
            f"{path} is not a readable .{format} workbook: {error}.", fix="save it as CSV (UTF-8)"
        ) from error


def _open(path: Path, book: zipfile.ZipFile, name: str) -> IO[bytes]:
    stream = BoundedStream(str(path), book.open(name), None, most_expanded(path.stat().st_size))
    return cast("IO[bytes]", stream)


def _say_first(path: Path, names: list[str]) -> None:
    if len(names) > 1:
        logger.warning("%s has %s sheets (%s): the first is read.", path, f"{len(names):,}", listed(names))


def _xlsx_rows(path: Path, book: zipfile.ZipFile) -> Iterator[tuple[int, list[str]]]:
    with _open(path, book, "xl/workbook.xml") as stream:
        sheets = list(ElementTree.parse(stream).iter(f"{_S}sheet"))  # noqa: S314
    with _open(path, book, "xl/_rels/workbook.xml.rels") as stream:
        targets = {link.get("Id"): link.get("Target", "") for link in ElementTree.parse(stream).getroot()}  # noqa: S314
    _say_first(path, [sheet.get("name", "") for sheet in sheets])
    target = targets[sheets[0].get(_LINK)]
    shared: list[str] = []
    if "xl/sharedStrings.xml" in book.namelist():
        with _open(path, book, "xl/sharedStrings.xml") as stream:
            for _, item in ElementTree.iterparse(stream):  # noqa: S314
                if item.tag == f"{_S}si":
                    shared.append(_xlsx_text(item))
                    item.clear()
    with _open(
        path, book, target.lstrip("/") if target.startswith("/") else str(PurePosixPath("xl") / target)
    ) as stream:
        number = 0
        for _, element in ElementTree.iterparse(stream):  # noqa: S314
            if element.tag != f"{_S}row":
                continue
            number = int(element.get("r", number + 1))
            row: list[str] = []
            for cell in element.iter(f"{_S}c"):
                at = _column(cell.get("r", "")) if cell.get("r") else len(row)
                if at >= _MOST_COLUMNS:
                    raise ValueError(f"row {number} has more than {_MOST_COLUMNS:,} columns")
                row += [""] * (at - len(row))
                row.append(_xlsx_cell(cell, shared))
            yield number, row
            element.clear()


def _column(reference: str) -> int:
    """Return the position (0-based) of a cell such as ``AB12``."""
    position = 0
    for letter in reference.rstrip("0123456789"):
        position = position * 26 + ord(letter.upper()) - ord("A") + 1
    return position - 1


def _xlsx_text(item: ElementTree.Element) -> str:
    """Return the text of a string, whose parts may be formatted, without its phonetic reading."""
    parts = [item.find(f"{_S}t"), *(run.find(f"{_S}t") for run in item.findall(f"{_S}r"))]
    return "".join(part.text or "" for part in parts if part is not None)


def _xlsx_cell(cell: ElementTree.Element, shared: list[str]) -> str:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        inline = cell.find(f"{_S}is")
        return "" if inline is None else _xlsx_text(inline)
    value = cell.findtext(f"{_S}v") or ""
    if kind == "s":
        return shared[int(value)]
    return {"0": "false", "1": "true"}[value] if kind == "b" else value


def _ods_rows(path: Path, book: zipfile.ZipFile) -> Iterator[tuple[int, list[str]]]:
    names: list[str] = []
    number = 0
    with _open(path, book, "content.xml") as stream:
        for event, element in ElementTree.iterparse(stream, events=("start", "end")):  # noqa: S314
            if event == "start":
                if element.tag == f"{_TABLE}table":
                    names.append(element.get(f"{_TABLE}name", ""))
                continue
            if element.tag != f"{_TABLE}table-row" or len(names) > 1:
                continue
            times = int(element.get(f"{_TABLE}number-rows-repeated", 1))
            row: list[str] = []
            for cell in element:
                if cell.tag in (f"{_TABLE}table-cell", f"{_TABLE}covered-table-cell"):
                    repeated = int(cell.get(f"{_TABLE}number-columns-repeated", 1))
                    text = _ods_cell(cell)
                    row += [text] * min(repeated, _MOST_COLUMNS + bool(text) - len(row))
                    if len(row) > _MOST_COLUMNS:
                        raise ValueError(f"row {number + 1} has more than {_MOST_COLUMNS:,} columns")
            if any(row):
                if times > 1_048_576:
                    raise ValueError(f"row {number + 1} is repeated {times:,} times")
                for i in range(times):
                    yield number + 1 + i, list(row)
            number += times
            element.clear()
    _say_first(path, names)


def _ods_cell(cell: ElementTree.Element) -> str:
    if (kind := cell.get(f"{_OFFICE}value-type")) == "boolean":
        return cell.get(f"{_OFFICE}boolean-value", "")
    if kind in ("float", "percentage", "currency"):
        return cell.get(f"{_OFFICE}value", "")
    return "\n".join(_ods_text(line) for line in cell.findall(f"{_TEXT}p"))


def _ods_text(element: ElementTree.Element) -> str:
    """Return a paragraph's text; blanks, tabs and line ends are elements of their own."""
    parts = [element.text or ""]
    for child in element:
        if child.tag == f"{_TEXT}s":
            parts.append(" " * min(int(child.get(f"{_TEXT}c", 1)), 10_000))
        else:
            parts.append({f"{_TEXT}tab": "\t", f"{_TEXT}line-break": "\n"}.get(child.tag) or _ods_text(child))
        parts.append(child.tail or "")
    return "".join(parts)
