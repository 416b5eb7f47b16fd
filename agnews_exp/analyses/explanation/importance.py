"""A model's use of its features over all texts: named weights of linear models, and the worth of feature families."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.explanation.linear import LinearView, block_matrix, blocks_of, from_blocks
from agnews_exp.evaluation.inputs import FloatArray
from agnews_exp.evaluation.metrics import macro_f1, margins_of
from agnews_exp.models.answers import predict_matrix

FAMILY_METRIC = "macro_f1"


@dataclass(frozen=True)
class WeightedTerm:
    """A named feature with its weight for one class."""

    block: str  # feature block
    class_name: str  # the class
    term: str  # the feature's name; n-grams as they are, with their spaces
    weight: float  # its weight in the class's score
    # What it adds to that score in validation texts of the class more than in the others, on average: the weight times
    # the difference of the feature's mean values.
    effect: float
    share: float  # share of the validation texts that have the feature


def named_weights(
    view: LinearView, class_names: Sequence[str], texts: Sequence[str], labels: NDArray[np.int64], n_terms: int
) -> list[WeightedTerm]:
    """Return for each block and class the features of the ``n_terms`` highest and lowest weights and largest effects.

    They come by block, class and weight, highest first; effects are measured on validation texts.
    """
    matrix = view.matrix(texts)
    shares = np.bincount(matrix.indices[matrix.data != 0], minlength=matrix.shape[1]) / max(1, matrix.shape[0])
    found = []
    for k, class_name in enumerate(class_names):
        effects = view.weights[k] * (_mean_row(matrix, labels == k) - _mean_row(matrix, labels != k))
        for block in view.blocks:
            columns = np.arange(block.begin, block.end)
            names, weights = block.names(), view.weights[k, columns]
            order = np.argsort(-weights, kind="stable")
            strongest = np.argsort(-effects[columns] * (weights > 0), kind="stable")[:n_terms]
            chosen = {*order[:n_terms].tolist(), *order[-n_terms:].tolist(), *strongest.tolist()}
            found += [
                WeightedTerm(
                    block.name, class_name, str(names[i]), float(weights[i]), float(effects[j]), float(shares[j])
                )
                for i, j in ((int(i), block.begin + int(i)) for i in order if int(i) in chosen and weights[i] != 0)
            ]
    return found


def _mean_row(matrix: Any, rows: NDArray[np.bool_]) -> FloatArray:
    return np.asarray(rows.astype(np.float64) @ matrix).ravel() / max(1, int(rows.sum()))


Score = Callable[[Any], float]
"""Scores a feature matrix (n, V), higher is better."""


@dataclass(frozen=True)
class FamilyImportance:
    """The worth of a family of columns to a fitted model."""

    family: str  # its name
    n_columns: int  # its columns
    permuted: float  # mean loss of score when the family's part of each row comes from another row
    permuted_sd: float  # standard deviation of that loss over the repetitions
    dropped: float  # loss of score when the family's columns are all zero; the model is not fitted again


def family_importance(
    matrix: Any, families: Mapping[str, NDArray[np.int64]], score: Score, *, repeats: int = 5, seed: int = 0
) -> tuple[float, list[FamilyImportance]]:
    """Permute (Breiman 2001) or blank all columns of a family of a matrix (n, V) together.

    Columns of a family move together, so that what they say of each other stays and only what they say of the rest and
    of the class is lost. Families that say the same stand in for one another: each can then look unimportant.

    Returns:
        The score of the untouched matrix, and one entry a family.
    """
    generator = np.random.default_rng(seed)
    untouched = score(matrix)
    found = []
    for name, columns in families.items():
        without = _blanked(matrix, columns)
        own = matrix - without
        losses = [untouched - score(without + own[generator.permutation(own.shape[0])]) for _ in range(repeats)]
        spread = float(np.std(losses, ddof=1)) if repeats > 1 else 0.0
        dropped = untouched - score(without)
        found.append(FamilyImportance(name, len(columns), float(np.mean(losses)), spread, dropped))
    return untouched, found


def _blanked(matrix: Any, columns: NDArray[np.int64]) -> Any:
    keep = np.ones(matrix.shape[1])
    keep[columns] = 0.0
    if not hasattr(matrix, "tocsr"):
        return matrix * keep
    blanked = matrix.tocsr(copy=True)
    blanked.data = blanked.data * keep[blanked.indices]
    blanked.eliminate_zeros()
    return blanked


def families_of(pipeline: Any) -> dict[str, NDArray[np.int64]]:
    """Return the column indices, shape (m,), of a pipeline's feature families: its blocks, and n-grams by length."""
    families: dict[str, NDArray[np.int64]] = {}
    blocks = blocks_of(pipeline)
    for block in blocks:
        parts = block.families()
        if len(blocks) > 1:
            families[block.name] = np.arange(block.begin, block.end)
        if len(parts) > 1 or len(blocks) == 1:
            families |= parts
    return families


def measure_families(
    pipeline: Any, texts: Sequence[str], labels: NDArray[np.int64], class_names: Sequence[str], *, repeats: int,
    seed: int,
) -> tuple[float, list[FamilyImportance]]:  # fmt: skip
    """Return the validation macro-F1 and what each family's permutation and removal take from it."""
    names = tuple(class_names)

    def score(matrix: Any) -> float:
        answers = predict_matrix(pipeline.named_steps["model"], from_blocks(pipeline, matrix), len(names))
        return float(macro_f1(margins_of(labels, answers.labels, len(names))))

    return family_importance(block_matrix(pipeline, texts), families_of(pipeline), score, repeats=repeats, seed=seed)


def visible(term: str) -> str:
    """Return a term with its spaces made visible."""
    return term.replace(" ", "␣") if term != term.strip() or "  " in term else term
