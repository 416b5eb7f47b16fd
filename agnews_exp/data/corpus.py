"""The types that every data source returns and every runner takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.core.errors import DataError


@dataclass(frozen=True, eq=False)
class TextRows:
    """Rows of one split."""

    texts: list[str]  # the n texts, exactly as the source gives them (no cleaning)
    labels: NDArray[np.int64]  # class indices 0..K-1, shape (n,), int64; or sets of classes, shape (n, K), 0 and 1
    # Shape (n,), int64, position of each row in its source file (0-based): a row's identity across splits, fractions
    # and machines.
    row_ids: NDArray[np.int64]
    # The n values that ``split=group`` or ``split=time`` goes by (moments as sortable ISO 8601 in UTC); None where it
    # goes by none.
    keys: list[str] | None = None

    def __post_init__(self) -> None:
        if not len(self.texts) == len(self.labels) == len(self.row_ids) == len(self.keys or self.texts):
            raise ValueError(
                f"texts ({len(self.texts)}), labels ({len(self.labels)}) and row_ids ({len(self.row_ids)}) "
                "differ in length"
            )

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, positions: NDArray[np.int64]) -> TextRows:
        """Return the rows at these positions, shape (m,), int64, in this order."""
        texts = list(map(self.texts.__getitem__, positions.tolist()))
        keys = None if self.keys is None else [self.keys[i] for i in positions.tolist()]
        return TextRows(texts, self.labels[positions], self.row_ids[positions], keys)


@dataclass(frozen=True, eq=False)
class Corpus:
    """The rows that a data source returns, before any split is made."""

    train: TextRows  # the training file's rows
    validation: TextRows | None  # the source's own validation rows, or None to cut them from ``train``
    test: TextRows | None  # the source's own test rows, or None to cut them from ``train``
    class_names: tuple[str, ...]  # name of class i at index i
    source: str  # which source answered, such as ``"ag_news:csv"``
    location: str  # where the rows came from, for people to read (a folder, a repository at a revision)
    notes: tuple[str, ...] = ()  # remarks on the rows, which are said before training and stand in the result
    counts: Mapping[str, int] = field(default_factory=dict)  # doubtful rows by kind, whatever became of them
    # The way that the files were read, for later files of their kind; None where there were none.
    reading: Mapping[str, Any] | None = None
    uncut_below: int = 0  # classes with fewer training rows than this stay in training when rows are cut off

    @classmethod
    def from_pairs(
        cls,
        train: Iterable[tuple[str, str]],
        *,
        validation: Iterable[tuple[str, str]] | None = None,
        test: Iterable[tuple[str, str]] | None = None,
        source: str,
        location: str,
    ) -> Corpus:
        """Build a corpus from (text, class name) pairs; class names are sorted.

        Raises:
            DataError: Fewer than two classes, or a class that the training rows do not have.
        """
        rows = {"train": train, "validation": validation, "test": test}
        pairs = {name: list(part) for name, part in rows.items() if part is not None}
        names = tuple(sorted({label for _, label in pairs["train"]}))
        if len(names) < 2:
            raise DataError(f"{source}: the training rows have {len(names)} class; there must be at least two.")
        if absent := sorted({label for part in pairs.values() for _, label in part} - set(names)):
            raise DataError(f"{source}: no training row has the class {', '.join(map(repr, absent))}.")
        made = {
            name: TextRows(
                [text for text, _ in part],
                np.array([names.index(label) for _, label in part], dtype=np.int64),
                np.arange(len(part), dtype=np.int64),
            )
            for name, part in pairs.items()
        }
        return cls(made["train"], made.get("validation"), made.get("test"), names, source, location)

    @property
    def texts(self) -> list[str]:
        """All texts: of train, validation and test."""
        parts = (self.train, self.validation, self.test)
        return [text for rows in parts if rows is not None for text in rows.texts]

    def checksum(self) -> str:
        """Return the SHA-256 of all rows, and of which classes stay uncut: equal exactly when all of it is equal."""
        digest = hashlib.sha256("\x1f".join(self.class_names).encode())
        if self.uncut_below:
            digest.update(f"\x1euncut below {self.uncut_below}".encode())
        for name, rows in (("train", self.train), ("validation", self.validation), ("test", self.test)):
            digest.update(f"\x1e{name}\x1e".encode())
            if rows is not None:
                digest.update(np.ascontiguousarray(rows.labels, dtype="<i8").tobytes())
                lengths = np.fromiter((len(t) for t in rows.texts), dtype="<i8", count=len(rows))
                digest.update(lengths.tobytes())
                for start in range(0, len(rows), 10_000):  # in parts: the joined texts need as much memory again
                    part = "".join(rows.texts[start : start + 10_000])
                    digest.update(part.encode("utf-8", "surrogatepass"))
                if rows.keys is not None:
                    digest.update(json.dumps(rows.keys).encode())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Splits:
    """The training, validation and test rows of a corpus, the same ones for all models that are compared."""

    train: TextRows  # training rows after ``data_fraction``
    validation: TextRows  # validation rows; chooses models and thresholds
    test: TextRows  # test rows; scored once, at the end
    class_names: tuple[str, ...]  # name of class i at index i
    source: str  # see :class:`Corpus`
    location: str  # see :class:`Corpus`
    data_checksum: str  # :meth:`Corpus.checksum` of the corpus the rows come from
    # That corpus, for work that is done once for all its rows and fractions, where it is at hand.
    corpus: Corpus | None = None
    split: str = "stratified"  # how they were divided, which every division within them follows

    def digest(self, rows: TextRows) -> str:
        """Return 12 hex digits that identify one split's rows: their corpus and which of its rows they are."""
        row_ids = np.ascontiguousarray(rows.row_ids, dtype="<i8").tobytes()
        return hashlib.sha256(self.data_checksum.encode() + row_ids).hexdigest()[:12]

    def evaluation_checksum(self) -> str:
        """Return a hash of which rows validation and test hold: runs are comparable only when it is equal."""
        digest = hashlib.sha256(self.data_checksum.encode())
        for rows in (self.validation, self.test):
            digest.update(np.ascontiguousarray(rows.row_ids, dtype="<i8").tobytes() + b"\x1e")
        return digest.hexdigest()
