"""Escaping of foreign text for CSV, Markdown and terminals: it is shown and never interpreted."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # the last four are the full-width forms
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"(?<=\])(?=\()")


def spreadsheet_cell(value: Any) -> Any:
    """Return a CSV cell that no spreadsheet takes for a formula: such a text gets an apostrophe in front.

    Numbers stay as they are, also those that are text already. Source of the list of characters:
    https://owasp.org/www-community/attacks/CSV_Injection
    """
    if isinstance(value, str) and value.startswith(_FORMULA) and not _is_number(value):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii() and text.strip() == text


def without_markup(text: str) -> str:
    """Return Markdown whose HTML tags, links and images are shown as they are written."""
    return _LINK.sub(r"\\", _TAG.sub("&lt;", text))


def markdown_cell(text: str) -> str:
    """Return a text fit for a cell of a Markdown table; one that is fit already is unchanged."""
    return re.sub(r"(?<!\\)\|", r"\\|", without_markup(" ".join(text.splitlines())))


_PASSWORD = re.compile(
    r"(://[^\s/:@]*:)[^\s/]+(?=@)|([?&](?:password|passwd|pwd|sslpassword|token|secret)=)[^&\s]+"
    r"|(\b(?-i:sk-))(?:[a-z0-9]+-)*(?-i:(?=\w*\d)(?=\w*[A-Z]))\w{20,}[\w-]*",
    re.IGNORECASE,
)


def masked(text: str) -> str:
    """Return a text without passwords in addresses (``scheme://user:password@host/...?password=...``) and API keys."""
    return _PASSWORD.sub(lambda m: f"{m.group(m.lastindex or 0)}***", text)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[bool] = ()) -> str:
    """Return a Markdown table whose cells show foreign text as it is; columns that are ``right`` stand flush right."""
    rule = ["---:" if flush else "---" for flush in (*right, *[False] * (len(head) - len(right)))]
    lines = [[markdown_cell(str(cell)) for cell in row] for row in (head, *rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [lines[0], rule, *lines[1:]])


def shortened(text: str, most: int = 200) -> str:
    """Return a text, or of a longer one so many characters and how many are left out."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most:,} characters more)"


def without_middle(name: str, room: int) -> str:
    """Return a name, or of one that is longer than there is room its beginning and its end with a dash of dots."""
    return name if len(name) <= room else f"{name[: room - room // 3 - 1]}…{name[-(room // 3) :]}"


LONGEST_NAME = 1000
"""Most characters of the name of a class, a run or a model: names are put into tables, charts and MLflow."""


def is_name(text: object) -> bool:
    """Return whether something can be shown as a name: a text, not empty, not endless, without control characters."""
    return isinstance(text, str) and 0 < len(text) <= LONGEST_NAME and not has_control(text)


def has_control(text: str) -> bool:
    """Return whether a text holds control characters: line ends, terminal escapes, or marks that turn the reading."""
    return _CONTROL.search(text) is not None


def visible(text: str) -> str:
    """Return a text for a terminal, with its control characters but line ends and tabs spelt out."""
    return _CONTROL.sub(lambda m: m.group() if m.group() in "\n\t" else ascii(m.group())[1:-1], text)


_COLOURS = {"red": "1;31", "yellow": "33", "green": "32"}
_LEVELS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


def painted(text: str, colour: str | None, stream: TextIO) -> str:
    """Return a text in red, yellow or green where a stream is a terminal, and NO_COLOR does not forbid it.

    The convention is that of https://no-color.org; a terminal that calls itself ``dumb`` knows no colours.
    """
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return text if plain or colour is None else f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


class TerminalFormatter(logging.Formatter):
    """Formats log lines for people: warnings yellow and errors red where standard output is a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of one record."""
        return painted(super().format(record), _LEVELS.get(record.levelno), sys.stdout)


def paint_log() -> None:
    """Give the log's lines on the terminal their colours; those in files stay as they are."""
    for handler in logging.getLogger().handlers:
        if type(handler) is logging.StreamHandler and (form := handler.formatter) is not None:
            handler.setFormatter(TerminalFormatter(form._fmt, form.datefmt))
