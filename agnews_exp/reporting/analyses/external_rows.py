"""Labelled texts from somewhere else: a table, JSON lines, or a folder with one sub-folder a label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agnews_exp.config.errors import DataError
from agnews_exp.data.csv_files import ColumnName, read_file
from agnews_exp.data.files import Labels

Part = Literal["headers", "footers", "quotes"]

_FOLDER_ENCODING = "latin-1"
"""Of newsgroup posts; every file can be read with it."""


@dataclass(frozen=True, eq=False)
class ExternalRows:
    """Texts with the labels of their source.

    Attributes:
        texts: The n texts.
        labels: Shape (n,), indices into ``label_names``.
        label_names: The source's labels.
    """

    texts: list[str]
    labels: NDArray[np.int64]
    label_names: list[str]


def read_external(
    path: Path,
    *,
    text_columns: list[ColumnName],
    label_column: ColumnName,
    delimiter: str,
    encoding: str,
    has_header: bool,
    strip: Sequence[Part],
    group: str,
) -> ExternalRows:
    """Read an external source.

    Args:
        path: A file as for ``data=csv``, or a folder whose sub-folders are labels that hold one file a text, as
            20 Newsgroups is distributed.
        text_columns: See :func:`agnews_exp.data.csv_files.load_csv`.
        label_column: Likewise.
        delimiter: Likewise.
        encoding: Likewise; files of a folder are read as Latin-1.
        has_header: Likewise.
        strip: Parts of newsgroup posts to remove, as scikit-learn's ``fetch_20newsgroups(remove=...)`` does.
        group: Where the configuration holds these options, for messages.

    Raises:
        DataError: There is nothing at the path, or the file has bad lines.
        ConfigError: A column does not exist.
    """
    if path.is_dir():
        found = _read_folder(path)
    else:
        labels = Labels()
        rows = read_file(
            path, text_columns, label_column, labels, delimiter, encoding, has_header, group=group
        )  # fmt: skip
        found = ExternalRows(rows.texts, rows.labels, list(labels.index))
    if not strip:
        return found
    strippers = _strippers(strip)
    texts = []
    for text in found.texts:
        for strip_part in strippers:
            text = strip_part(text)
        texts.append(text)
    return ExternalRows(texts, found.labels, found.label_names)


def _read_folder(folder: Path) -> ExternalRows:
    texts, labels = [], []
    names = sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    for index, name in enumerate(names):
        for file in sorted((folder / name).iterdir()):
            if file.is_file() and not file.name.startswith("."):
                texts.append(file.read_text(_FOLDER_ENCODING))
                labels.append(index)
    if not texts:
        raise DataError(
            f"{folder} holds no texts: a folder must have one sub-folder a label, with one file a text.",
            fix="give a CSV, TSV or JSON-lines file, or such a folder",
        )
    return ExternalRows(texts, np.array(labels, dtype=np.int64), names)


def _strippers(parts: Sequence[Part]) -> list[Callable[[str], str]]:
    from sklearn.datasets import _twenty_newsgroups as posts

    # In scikit-learn's order.
    known: dict[Part, Callable[[str], str]] = {
        "headers": posts.strip_newsgroup_header,
        "footers": posts.strip_newsgroup_footer,
        "quotes": posts.strip_newsgroup_quoting,
    }
    return [known[part] for part in known if part in parts]
