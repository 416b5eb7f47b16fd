"""Texts without labels for a teacher to answer: the training rows that were left out, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agnews_exp.core.errors import ConfigError, DataError
from agnews_exp.core.files import sha256_of
from agnews_exp.data.corpus import Splits
from agnews_exp.data.csv_files import column_position, read_header, read_json_lines, read_table
from agnews_exp.data.files import Columns, Labels, open_text, reading

REST = "rest"
"""The source that is the training rows left out by ``data_fraction``."""

_TABLES = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson")


class _NoLabels(Labels):
    """Takes any text for a label, because the readers of labelled files want one."""

    def find(self, label: str) -> int:
        """Return 0, the class of every text."""
        return 0


def unlabelled_texts(
    splits: Splits, source: str, columns: Sequence[str], limit: int | None, seed: int
) -> tuple[list[str], int]:
    """Return texts without labels, none of which is a validation or test text.

    Args:
        splits: The labelled rows.
        source: ``rest``, or a file.
        columns: Columns or keys of the file that make a text.
        limit: At most so many texts; those of a small limit are among those of a larger one. None takes all.
        seed: Decides the order, and thereby which.

    Returns:
        The texts, and how many were dropped because they stand in validation or test.

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
    """Return the texts of the training file that are in no split, in the file's order.

    Raises:
        ConfigError: There are none.
    """
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


def read_texts(path: Path, columns: Sequence[str]) -> list[str]:
    """Read the texts of a file: ``.csv``, ``.tsv``, ``.jsonl`` (each also ``.gz``), or one text a line.

    Args:
        path: The file, UTF-8.
        columns: Columns or keys that are joined with one space; not looked at where each line is a text.

    Raises:
        ConfigError: A column does not exist.
        DataError: The file is missing, empty, or has bad lines.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if any(suffix in _JSON for suffix in suffixes):
        return read_json_lines(path, list(columns), columns[0], _NoLabels()).texts
    delimiter = next((_TABLES[suffix] for suffix in suffixes if suffix in _TABLES), None)
    if delimiter is not None:
        header = read_header(path, delimiter=delimiter)
        positions = tuple(column_position(path, header, name, "model.unlabelled_columns") for name in columns)
        table = Columns(positions, label=positions[0], n_fields=len(header), has_header=True)
        return read_table(path, table, _NoLabels(), delimiter=delimiter).texts
    try:
        with reading(path), open_text(path, "utf-8") as file:
            texts = [line.strip() for line in file if not line.isspace()]
    except UnicodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {error}.") from error
    if not texts:
        raise DataError(f"{path} holds no text.")
    return texts


def source_identity(source: str) -> str:
    """Return the identity of a source of texts for fingerprints: ``rest``, or the SHA-256 of the file.

    Raises:
        DataError: The file cannot be read.
    """
    if source == REST:
        return REST
    path = Path(source).expanduser()
    with reading(path):
        return sha256_of(path)
