"""What every part of an exploration gets: rows, their words and TF-IDF (each computed once), and where files go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.errors.tables import write_csv
from agnews_exp.analyses.exploration.drawing import save_figure
from agnews_exp.analyses.exploration.measures.words import WordTable, index_words
from agnews_exp.data.corpus import Splits, TextRows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
        from agnews_exp.data.batching import derive_seed

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
