"""Strict reader of JSON-lines files."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.config.errors import nearest
from agnews_exp.data.corpus import TextRows
from agnews_exp.data.files import BadLines, Labels, as_rows, open_text, reading


def read_json_lines(path: Path, text_keys: list[str], label_key: str, labels: Labels) -> TextRows:
    """Read a JSON-lines file: one object per line, UTF-8, plain or gzipped.

    Args:
        path: The file.
        text_keys: Keys whose values (strings) are joined with one space into the text.
        label_key: Key of the label: a string or an integer.
        labels: The classes; extended in place when open.

    Raises:
        DataError: As :func:`read_table`.
    """
    texts: list[str] = []
    indices = array("q")
    bad = BadLines()
    with reading(path), open_text(path, "utf-8", errors="surrogateescape", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                text, label = _from_object(line, text_keys, label_key)
                indices.append(labels.find(label))
                texts.append(text)
            except KeyError as error:
                bad.add(number, labels.explain(error.args[0]))
            except ValueError as error:
                bad.add(number, str(error))
    if bad.total:
        raise bad.error(path)
    return as_rows(path, texts, indices)


def _from_object(line: str, text_keys: list[str], label_key: str) -> tuple[str, str]:
    """Return (text, label) of one JSON object, or raise ValueError saying what is wrong."""
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"byte 0x{ord(error.object[error.start]) & 0xFF:02x} is not UTF-8") from error
    try:
        item: Any = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"not JSON ({error})") from error
    if not isinstance(item, Mapping):
        raise ValueError("not a JSON object")
    for key in (*text_keys, label_key):
        if key not in item:
            guess = nearest(key, item)
            raise ValueError(f"no key {key!r}" + (f" (did you mean {guess!r}?)" if guess else ""))
    parts = [item[key] for key in text_keys]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("the text is not a string")
    label = item[label_key]
    if not isinstance(label, str | int):
        raise ValueError(f"the label is neither a string nor an integer: {label!r}")
    text = " ".join(parts)
    if not text.strip():
        raise ValueError("the text is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("the text holds half of a surrogate pair, which is no character") from error
    return text, str(label).strip()
