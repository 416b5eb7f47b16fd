"""Texts to answer, read as a stream: any file that training reads, lines of text, or standard input."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.data.files import reading
from agnews_exp.data.tables import FORMATS, ColumnName, Reading, format_of
from agnews_exp.data.unlabelled import texts_of
from agnews_exp.models.persistence import READING, read_manifest

MAX_CHARACTERS = 1_000_000
"""Longest text that is answered: a line without end would otherwise fill the memory."""


@dataclass(frozen=True)
class Item:
    """One row of the input."""

    line: int  # where it begins: a line number (1-based), for Parquet and folders the row number (1-based)
    text: str | None  # the text, or None for a row that cannot be answered
    reason: str | None = None  # why not


@dataclass(frozen=True)
class Source:
    """The place and the format of texts."""

    path: Path | None  # the file; None is standard input
    how: Reading  # the way it is read
    # Names of the columns (without header: positions from 0) that are joined with one space.
    columns: tuple[ColumnName, ...] = ("text",)


@dataclass(frozen=True)
class Asked:
    """The options of a command about its input; None is what the model was trained with, or else found out."""

    format: str | None = None  # a format of :data:`agnews_exp.data.tables.FORMATS`
    columns: Sequence[str] | None = None  # names or positions
    delimiter: str | None = None  # one character, ``tab`` or ``auto``
    quoting: str | None = None  # ``auto``, ``csv`` or ``none``
    encoding: str | None = None  # an encoding or ``auto``
    header: bool | None = None  # whether the first row names the columns


def recall_reading(folder: Path) -> Mapping[str, Any]:
    """Return how the training files of a model were read; empty where they were no files."""
    if READING not in read_manifest(folder)["sha256"]:
        return {}
    found = json.loads((folder / READING).read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def describe_source(word: str, asked: Asked, remembered: Mapping[str, Any] | None = None) -> Source:
    """Return the source that a command names, a path or ``-`` for standard input.

    Raises:
        ConfigError: The format cannot be told from the name.
        DataError: There is no such file.
    """
    path = None if word == "-" else Path(word).expanduser()
    chosen = asked.format
    if path is not None:
        if not path.exists():
            raise DataError(f"There is no file {path}.", fix="check the path, or give - for standard input")
        with reading(path):
            chosen = chosen or format_of(path)
        if chosen is None:
            raise ConfigError(
                f"The format of {path.name} cannot be told from its name.\n  allowed: {', '.join(sorted(FORMATS))}",
                fix="--format text",
            )
    chosen = chosen or "text"
    # Of files that need none, such as Parquet, "auto" is remembered where another has a delimiter or an encoding.
    before = {name: value for name, value in (remembered or {}).items() if value != "auto"}
    table = chosen in ("csv", "tsv")
    how = Reading(
        chosen,
        asked.delimiter or "auto",
        asked.quoting or (str(before.get("quoting", "auto")) if table else "auto"),
        asked.encoding or "auto",
        bool(before.get("has_header", True)) if asked.header is None else asked.header,
        group="--",
        remembered=before.get("encoding"),
        usual=before.get("delimiter") if table else None,
        width=None if asked.columns else before.get("width"),
    )
    columns: Sequence[ColumnName] = asked.columns or before.get("text_columns") or ("text",)
    return Source(path, how, tuple(columns))


def read_items(source: Source) -> Iterator[Item]:
    """Yield the rows of a source one by one, bad ones with the reason.

    Raises:
        ConfigError: A column does not exist.
        DataError: The file cannot be read at all.
    """
    for line, text, reason in texts_of(source.path, source.how, source.columns, "--columns"):
        if text is not None and len(text) > MAX_CHARACTERS:
            reason = f"the text has {len(text):,} characters, more than {MAX_CHARACTERS:,}"
            text = None
        yield Item(line, text, reason)
