"""Texts without labels for a teacher to answer: the training rows that were left out, or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.core.files import sha256_of
from agnews_exp.data.corpus import Splits
from agnews_exp.data.files import EMPTY, BadLines, reading
from agnews_exp.data.tables import ColumnName, Reading, column_position, format_of, joined_text, open_table

REST = "rest"
"""The source that is the training rows left out by ``data_fraction``."""


def unlabelled_texts(
    splits: Splits, source: str, columns: Sequence[str], limit: int | None, seed: int
) -> tuple[list[str], int]:
    """Return texts without labels, none of which is a validation or test text, and how many were dropped for being one.

    They are the rows left out by ``data_fraction`` (``rest``), or those of a file, at most ``limit`` of them in an
    order that the seed decides: those of a small limit are among those of a larger one.

    Raises:
        ConfigError: No rows were left out, or a column does not exist.
        DataError: The file cannot be read, or no text is left.
    """
    found = left_out(splits) if source == REST else read_texts(Path(source).expanduser(), columns)
    held_out = {*splits.validation.texts, *splits.test.texts}
    texts = [text for text in found if text not in held_out]
    if not texts:
        raise DataError(f"model.unlabelled={source}: all {len(found):,} texts stand in the validation or test rows.")
    order = np.random.RandomState(seed).permutation(len(texts))[:limit]
    return [texts[i] for i in order.tolist()], len(found) - len(texts)


def left_out(splits: Splits) -> list[str]:
    """Return the texts of the training file that are in no split, in its order; a ConfigError where there are none."""
    corpus = splits.corpus
    assert corpus is not None, "the splits of a run know their corpus"
    parts = [splits.train]
    # Rows that were cut from the training file are numbered by it; a source's own files have numbers of their own.
    parts += [splits.validation] if corpus.validation is None else []
    parts += [splits.test] if corpus.test is None else []
    used = np.concatenate([rows.row_ids for rows in parts])
    free = np.flatnonzero(~np.isin(corpus.train.row_ids, used))
    if not len(free):
        raise ConfigError(
            f"model.unlabelled={REST}: no training rows are left out.", fix="data_fraction=0.05, or name a file"
        )
    return corpus.train.take(free).texts


def texts_of(
    path: Path | None, how: Reading, columns: Sequence[ColumnName], key: str
) -> Iterator[tuple[int, str | None, str | None]]:
    """Yield line, text and, where there is none, the reason, of every row of a file; None is standard input.

    The ``columns``, which ``key`` configures, are joined into the text; they do not count where each line is a text.

    Raises:
        ConfigError: A column does not exist.
        DataError: The file cannot be read at all.
    """
    with open_table(path, how, columns) as table:
        chosen: Sequence[ColumnName] = ["text"] if table.how.format == "text" else columns
        if table.how.format not in ("text", "jsonl", "json"):
            for name in chosen:
                column_position(path, table.names, name, key)
        for line, values, reason in table.rows(chosen):
            try:
                text = None if values is None else joined_text(values)
            except ValueError as error:
                text, reason = None, str(error)
            if text is not None and not text.strip():
                text, reason = None, EMPTY
            yield line, text, reason


def read_texts(path: Path, columns: Sequence[str]) -> list[str]:
    """Read the texts of a file: a table or JSON (see :data:`agnews_exp.data.tables.FORMATS`), or one text a line.

    Of a table the ``columns`` are joined with one space.

    Raises:
        ConfigError: A column does not exist.
        DataError: The file is missing, empty, or has bad lines.
    """
    with reading(path):
        format = format_of(path) or "text"
    texts, bad = [], BadLines()
    for line, text, reason in texts_of(path, Reading(format, group="model"), columns, "model.unlabelled_columns"):
        if text is not None:
            texts.append(text.strip() if format == "text" else text)
        elif format != "text" or reason != EMPTY:
            bad.add(line, reason or "")
    if bad.total:
        raise bad.error(path)
    if not texts:
        raise DataError(f"{path} holds no text.")
    return texts


def source_identity(source: str) -> str:
    """Return the identity of a source of texts for fingerprints: ``rest``, or the SHA-256 of the file."""
    if source == REST:
        return REST
    path = Path(source).expanduser()
    with reading(path):
        return sha256_of(path)
