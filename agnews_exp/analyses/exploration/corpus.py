"""One corpus as its exploration sees it: rows, words and TF-IDF, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.findings import Column, Columns, Table
from agnews_exp.data.batching import derive_seed
from agnews_exp.data.corpus import Splits, TextRows
from agnews_exp.data.splits import folds_of
from agnews_exp.data.stratification import Positions
from agnews_exp.data.tokens import TokenTable
from agnews_exp.drawing import Chart, box_series
from agnews_exp.evaluation.drift import split_words
from agnews_exp.evaluation.inputs import FloatArray, IntArray
from agnews_exp.evaluation.metrics import column_key

TFIDF: Final = {"ngram_range": (1, 2), "max_features": 50_000, "max_df": 0.95, "sublinear_tf": True}
"""Word TF-IDF of single words and pairs; the terms of fewer than three texts are left out where there are that many."""


@dataclass(frozen=True, eq=False)
class WordTable:
    """The words of n texts."""

    table: TokenTable  # ids of the words, text after text
    terms: tuple[str, ...]  # the V distinct words, id i at position i, in the order of their first occurrence

    @property
    def ids(self) -> IntArray:
        """Shape (total,), the id of every word."""
        ids: IntArray = self.table.ids
        return ids

    @cached_property
    def documents(self) -> IntArray:
        """Shape (total,), the text that each word stands in."""
        return np.repeat(np.arange(len(self.table)), self.table.lengths)

    @cached_property
    def frequencies(self) -> IntArray:
        """Shape (V,), occurrences of each distinct word; 0 for words of texts that were not taken."""
        return np.bincount(self.ids, minlength=len(self.terms)).astype(np.int64)

    def take(self, positions: IntArray) -> WordTable:
        """Return the words of the texts at these positions, shape (m,), in this order; ids stay the same."""
        return WordTable(self.table.take(positions), self.terms)

    def class_counts(self, labels: IntArray, n_classes: int) -> IntArray:
        """Return how often each class uses each word, shape (K, V); ``labels`` has shape (n,)."""
        flat = labels[self.documents] * len(self.terms) + self.ids
        counts = np.bincount(flat, minlength=n_classes * len(self.terms))
        return counts.reshape(n_classes, len(self.terms)).astype(np.int64)


def index_words(texts: Sequence[str], split: Callable[[str], list[str]] = split_words) -> WordTable:
    """Find the words of texts; ``str.split`` cuts them at blanks and keeps letter case."""
    index: dict[str, int] = {}
    ids: list[int] = []
    lengths = np.zeros(len(texts) + 1, dtype=np.int64)
    for position, text in enumerate(texts):
        words = split(text)
        lengths[position + 1] = len(words)
        ids.extend([index.setdefault(word, len(index)) for word in words])
    return WordTable(TokenTable(np.array(ids, dtype=np.int64), np.cumsum(lengths)), tuple(index))


@dataclass(frozen=True, eq=False)
class Weighted:
    """TF-IDF of the training rows."""

    matrix: Any  # shape (n, m), sparse, rows of length 1
    names: tuple[str, ...]  # m terms

    @cached_property
    def content_columns(self) -> IntArray:
        """Columns of single words that are no stop words and no numbers: what topics are made of."""
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return np.array(
            [i for i, n in enumerate(self.names) if " " not in n and n.isalpha() and n not in ENGLISH_STOP_WORDS],
            dtype=np.int64,
        )


@dataclass(eq=False)
class ExploredCorpus:
    """A corpus with what several parts of its exploration need, each found when first asked for."""

    splits: Splits  # its rows
    cache_dir: Path  # the project's cache
    seed: int  # of every random choice
    show_texts: bool = True  # whether tables may hold texts of the corpus

    @property
    def train(self) -> TextRows:
        """The training rows."""
        return self.splits.train

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the K classes."""
        return self.splits.class_names

    @property
    def n_classes(self) -> int:
        """The number of classes, K."""
        return len(self.names)

    @property
    def parts(self) -> dict[str, TextRows]:
        """The rows of each split by its name."""
        return {"train": self.splits.train, "val": self.splits.validation, "test": self.splits.test}

    def folds(self, n_folds: int) -> list[tuple[Positions, Positions]]:
        """Return folds of the training rows: of whole groups under ``split=group``, else stratified."""
        split = "group" if self.splits.split == "group" else "stratified"
        return folds_of(self.train, self.names, split, n_folds, self.seed, "folds")

    @cached_property
    def words(self) -> WordTable:
        """The words of the training rows, in lower case."""
        return index_words(self.train.texts)

    @cached_property
    def tfidf(self) -> Weighted:
        """TF-IDF of the training rows."""
        from agnews_exp.ngrams import TfidfVectorizer

        vectorizer = TfidfVectorizer(min_df=min(3, len(self.train)), **TFIDF)
        matrix = vectorizer.fit_transform(self.train.texts)
        return Weighted(matrix, tuple(vectorizer.get_feature_names_out().tolist()))

    @cached_property
    def sentence_embeddings(self) -> Any:
        """all-MiniLM-L6-v2, loaded.

        Raises:
            MissingDependencyError: The extra ``minilm`` is not installed.
        """
        from agnews_exp.features.sentence_embeddings import SentenceEmbeddings

        if find_spec("transformers") is not None:
            from transformers.utils import logging as transformers_logging

            transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it would break the bar of the exploration
        return SentenceEmbeddings().fit([])

    def rng(self, purpose: str) -> np.random.Generator:
        """Return a generator that depends on the seed and the purpose only."""
        return np.random.default_rng(derive_seed("eda", purpose, self.seed))

    def sample(self, n: int, purpose: str) -> IntArray:
        """Return positions of at most n training rows drawn at random, shape (m,), ascending."""
        size = min(n, len(self.train))
        return np.sort(self.rng(purpose).choice(len(self.train), size, replace=False)).astype(np.int64)

    @property
    def text_column(self) -> tuple[Column, ...]:
        """The column of a table that holds texts of the corpus, where tables may hold any."""
        return (Column("text", width=90),) if self.show_texts else ()

    def shown(self, text: str) -> tuple[str, ...]:
        """Return a text as the cell of :meth:`text_column`."""
        return (text,) if self.show_texts else ()

    def draw(self, n: int, purpose: str) -> TextRows:
        """Return the rows of :meth:`sample`."""
        return self.train.take(self.sample(n, purpose))

    def by_class(self, labels: IntArray, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return the finite ones of values, shape (n,), of texts with these labels, for each class that has any."""
        keep = np.isfinite(values)
        groups = {name: values[keep & (labels == k)] for k, name in enumerate(self.names)}
        return {name: own for name, own in groups.items() if len(own)}

    def class_metrics(self, prefix: str, values: Mapping[str, float]) -> dict[str, float]:
        """Return ``<prefix>/<class>`` for the value of each class."""
        return {f"{prefix}/{column_key(name, self.names)}": float(value) for name, value in values.items()}

    def pair_metrics(self, prefix: str, pairs: Mapping[tuple[str, str], float]) -> dict[str, float]:
        """Return ``<prefix>/<class>-<class>`` for the first 200 pairs."""
        keys = {name: column_key(name, self.names) for name in self.names}
        return {f"{prefix}/{keys[one]}-{keys[other]}": v for (one, other), v in list(pairs.items())[:200]}


def class_pairs(names: Sequence[str], matrix: FloatArray) -> dict[tuple[str, str], float]:
    """Return the value of each pair of classes from a symmetric matrix (K, K)."""
    i, j = np.triu_indices(len(names), 1)
    return {(names[a], names[b]): float(matrix[a, b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)}


def extremes(values: Mapping[str, float]) -> str:
    """Return the highest and the lowest value with their names, such as ``books 4.03 to games 2.45``."""
    if not values:
        return ""
    high, low = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    return f"{high} {values[high]:.2f} to {low} {values[low]:.2f}"


def boxes(
    name: str, title: str, x_title: str, groups: Mapping[str, FloatArray], x_range: tuple[float, float] | None = None
) -> tuple[Table, Chart]:
    """Return a number of texts as a row and as a box for each group of values, shape (n,), n at least 1."""
    shares = (5, 25, 50, 75, 95)
    rows = [
        (group, len(values), float(values.mean()), float(values.std()), *np.percentile(values, shares).tolist())
        for group, values in groups.items()
    ]
    numbers = ("mean", "sd", *(f"{share} %" for share in shares))
    columns: Columns = ("class", "texts", *(Column(said, ".4g") for said in numbers))
    series = tuple(box_series(group, values) for group, values in groups.items())
    caption = "Box: quartiles; line: median; whiskers: 5th to 95th percentile; dot: mean."
    chart = Chart(name, title, "box", x_title, "", series, caption=caption, x_range=x_range)
    return Table(name, title, columns, tuple(rows)), chart
