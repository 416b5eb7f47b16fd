"""One corpus as its exploration sees it: rows, words and TF-IDF, each computed once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.errors.tables import write_csv
from agnews_exp.analyses.exploration import drawing
from agnews_exp.analyses.exploration.drawing import save_figure
from agnews_exp.data.corpus import Splits, TextRows
from agnews_exp.data.tokens import TokenTable
from agnews_exp.evaluation.metrics import metric_class_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


IntArray = NDArray[np.int64]

_WORD: Final = re.compile(r"\w+")


def split_words(text: str) -> list[str]:
    """Return the lower-cased runs of letters, digits and underscores of a text."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True, eq=False)
class WordTable:
    """The words of n texts.

    Attributes:
        table: Ids of the words, text after text.
        terms: The V distinct words, id i at position i, in the order of their first occurrence.
    """

    table: TokenTable
    terms: tuple[str, ...]

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
        """Return the words of some texts, in this order; ids stay what they are."""
        return WordTable(self.table.take(positions), self.terms)

    def class_counts(self, labels: IntArray, n_classes: int) -> IntArray:
        """Return how often each class uses each word, shape (K, V).

        Args:
            labels: Shape (n,), each text's class.
            n_classes: K.
        """
        flat = labels[self.documents] * len(self.terms) + self.ids
        counts = np.bincount(flat, minlength=n_classes * len(self.terms))
        return counts.reshape(n_classes, len(self.terms)).astype(np.int64)

    def without(self, dropped: Iterable[str], min_length: int = 2) -> WordTable:
        """Return the table without some words and without words of fewer than ``min_length`` characters."""
        unwanted = frozenset(dropped)
        keep = np.array([len(term) >= min_length and term not in unwanted for term in self.terms], dtype=bool)
        mask = keep[self.ids] if len(self.ids) else np.zeros(0, dtype=bool)
        lengths = np.bincount(self.documents[mask], minlength=len(self.table))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return WordTable(TokenTable(self.ids[mask], offsets), self.terms)


def index_words(texts: Sequence[str], split: Callable[[str], list[str]] = split_words) -> WordTable:
    """Find the words of texts.

    Args:
        texts: The n texts.
        split: Cuts a text into words; ``str.split`` for words between blanks, letter case kept.
    """
    index: dict[str, int] = {}
    ids: list[int] = []
    lengths = np.zeros(len(texts) + 1, dtype=np.int64)
    for position, text in enumerate(texts):
        words = split(text)
        lengths[position + 1] = len(words)
        ids.extend([index.setdefault(word, len(index)) for word in words])
    return WordTable(TokenTable(np.array(ids, dtype=np.int64), np.cumsum(lengths)), tuple(index))


IntArray = NDArray[np.int64]

TFIDF: Final = {"ngram_range": (1, 2), "max_features": 50_000, "max_df": 0.95, "sublinear_tf": True}
"""The study's word TF-IDF (it also asks for three texts, which a small corpus cannot give)."""


@dataclass(frozen=True, eq=False)
class Weighted:
    """TF-IDF of the training rows.

    Attributes:
        matrix: Shape (n, m), sparse, rows of length 1.
        names: m terms.
    """

    matrix: Any
    names: tuple[str, ...]

    @cached_property
    def content_columns(self) -> IntArray:
        """Columns of single words that are no stop words and no numbers: what topics are made of."""
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return np.array(
            [i for i, n in enumerate(self.names) if " " not in n and n.isalpha() and n not in ENGLISH_STOP_WORDS],
            dtype=np.int64,
        )


@dataclass(eq=False)
class EdaContext:
    """One corpus, as a part of its exploration sees it.

    Attributes:
        splits: Its rows.
        folder: Where files go; exists.
        cache_dir: The project's cache.
        seed: Of every random choice.
        show_texts: Whether files may hold texts of the corpus.
        figures: Name -> title of the figures that the part at work has saved.
        tables: Names of the CSV files that it wrote beside them.
    """

    splits: Splits
    folder: Path
    cache_dir: Path
    seed: int
    show_texts: bool = True
    figures: dict[str, str] = field(default_factory=dict)
    tables: list[str] = field(default_factory=list)

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
        """K."""
        return len(self.names)

    @property
    def parts(self) -> dict[str, TextRows]:
        """All rows by split."""
        return {"train": self.splits.train, "val": self.splits.validation, "test": self.splits.test}

    @cached_property
    def words(self) -> WordTable:
        """The words of the training rows, in lower case."""
        return index_words(self.train.texts)

    @cached_property
    def content_words(self) -> WordTable:
        """The same without single characters and English stop words."""
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return self.words.without(ENGLISH_STOP_WORDS)

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
        from agnews_exp.data.datamodule import derive_seed

        return np.random.default_rng(derive_seed("eda", purpose, self.seed))

    def sample(self, n: int, purpose: str) -> IntArray:
        """Return positions of at most n training rows at random, in ascending order."""
        size = min(n, len(self.train))
        return np.sort(self.rng(purpose).choice(len(self.train), size, replace=False)).astype(np.int64)

    def draw(self, name: str, title: str, figure: Figure, rows: Sequence[Mapping[str, Any]]) -> None:
        """Save a figure as PNG and SVG with the tidy data behind it as CSV."""
        save_figure(self.folder, name, figure)
        write_csv(self.folder / f"{name}.csv", rows)
        self.figures[name] = title

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a CSV file without a figure; nothing where there are no rows."""
        if rows:
            write_csv(self.folder / f"{name}.csv", rows)
            self.tables.append(name)


Groups = dict[str, NDArray[np.float64]]


def by_class(context: EdaContext, positions: IntArray, values: NDArray[np.float64]) -> Groups:
    """Return the finite values of each class that has any.

    Args:
        context: The corpus.
        positions: Shape (n,), rows of train.
        values: Shape (n,), one of each.
    """
    labels = context.train.labels[positions]
    keep = np.isfinite(values)
    groups = {name: values[keep & (labels == k)] for k, name in enumerate(context.names)}
    return {name: own for name, own in groups.items() if len(own)}


def box_part(context: EdaContext, name: str, title: str, groups: Groups, xlabel: str,
             limits: tuple[float, float] | None = None) -> dict[str, float]:  # fmt: skip
    """Draw boxes and return each group's mean."""
    rows = []
    for group, values in groups.items():
        p5, q25, median, q75, p95 = np.percentile(values, [5, 25, 50, 75, 95]).tolist()
        rows.append({"class": group, "texts": len(values), "mean": float(values.mean()), "sd": float(values.std()),
                     "p5": p5, "q25": q25, "median": median, "q75": q75, "p95": p95})  # fmt: skip
    context.draw(name, title, drawing.box_rows(groups, xlabel, limits), rows)
    return {str(row["class"]): float(row["mean"]) for row in rows}


def extremes(means: dict[str, float]) -> str:
    """Return the highest and the lowest of some means, for a line."""
    if not means:
        return ""
    high, low = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    return f"{high} {means[high]:.2f} to {low} {means[low]:.2f}"


def reasons(left_out: Mapping[str, str]) -> str:
    """Return a list of what was left out of a part and why, to stand at its end; nothing when nothing was."""
    lines = [f"- left out, {what}: {' '.join(why.split())}" for what, why in left_out.items()]
    return "\n\n" + "\n".join(lines) if lines else ""


def class_pairs(names: tuple[str, ...], matrix: NDArray[np.float64], key: str) -> list[dict[str, Any]]:
    """Return one row for each pair of classes, with the value of a symmetric matrix of shape (K, K) under a key."""
    i, j = np.triu_indices(len(names), 1)
    return [{"class": names[a], "other": names[b], key: float(matrix[a, b])} for a, b in zip(i, j, strict=True)]


def pair_name(row: dict[str, Any]) -> str:
    """Return the name of a pair of classes in metrics, such as ``World-Sports``."""
    return f"{metric_class_name(str(row['class']))}-{metric_class_name(str(row['other']))}"
