"""The feature blocks of a fitted pipeline: which columns are whose, and what each column is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.models.explaining_terms import is_ngram_vectoriser

_PROBE = "a text to count columns with"


@dataclass(frozen=True, eq=False)
class Block:
    """One feature block of a pipeline.

    Attributes:
        name: Its key under ``features.blocks``, or ``word`` and ``char`` where it is the only one.
        transformer: Fitted.
        begin: Its first column.
        end: Behind its last column.
    """

    name: str
    transformer: Any
    begin: int
    end: int

    def names(self) -> NDArray[np.object_]:
        """Return one name a column; hashed columns have numbers only."""
        if hasattr(self.transformer, "get_feature_names_out"):
            return np.asarray(self.transformer.get_feature_names_out(), dtype=object)
        return np.array([f"column {i}" for i in range(self.end - self.begin)], dtype=object)

    def families(self) -> dict[str, NDArray[np.int64]]:
        """Return the block's columns, n-grams by their length: ``word 1-grams``, ``char 3-grams``."""
        columns = np.arange(self.begin, self.end)
        if not is_ngram_vectoriser(self.transformer) or not hasattr(self.transformer, "vocabulary_"):
            return {self.name: columns}
        words = self.transformer.analyzer == "word"
        lengths = np.array([name.count(" ") + 1 if words else len(name) for name in self.names()])
        return {f"{self.name} {n}-grams": columns[lengths == n] for n in np.unique(lengths)}


def blocks_of(pipeline: Any) -> tuple[Block, ...]:
    """Return the feature blocks of a fitted pipeline in the order of their columns; none where it has no features."""
    features = pipeline.named_steps.get("features")
    if features is None:
        return ()
    step = features.named_steps["blocks"]
    if hasattr(step, "transformer_list"):
        members = [(name, block) for name, block in step.transformer_list if block not in ("drop", None)]
    else:
        analyzer = getattr(step, "analyzer", "")
        members = [("char" if str(analyzer).startswith("char") else str(analyzer) or "block", step)]
    blocks, begin = [], 0
    for name, block in members:
        end = begin + block.transform([_PROBE]).shape[1]
        blocks.append(Block(name, block, begin, end))
        begin = end
    return tuple(blocks)


def cleaned(pipeline: Any, texts: Sequence[str]) -> list[str]:
    """Return texts as the feature blocks get them."""
    clean = pipeline.named_steps["features"].named_steps.get("clean")
    return list(texts) if clean is None else list(clean.transform(list(texts)))


def block_matrix(pipeline: Any, texts: Sequence[str]) -> Any:
    """Return the blocks' features side by side, shape (n, V), before selection, reduction and scaling."""
    return pipeline.named_steps["features"].named_steps["blocks"].transform(cleaned(pipeline, texts))


def from_blocks(pipeline: Any, matrix: Any) -> Any:
    """Return what the estimator sees for a :func:`block_matrix`."""
    steps = pipeline.named_steps["features"].named_steps
    for name in ("select", "reduce", "scale"):
        if name in steps:
            matrix = steps[name].transform(matrix)
    return matrix
