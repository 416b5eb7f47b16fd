"""How alike classes are, and how a space of sentence embeddings is filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.inputs import Result

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def class_centroids(matrix: Any, labels: IntArray, n_classes: int) -> FloatArray:
    """Return the mean row of each class scaled to length 1, shape (K, m); zeros for a class without rows.

    Args:
        matrix: Shape (n, m), sparse or dense.
        labels: Shape (n,).
        n_classes: K.
    """
    from scipy.sparse import csr_array

    rows = np.arange(len(labels))
    member = csr_array((np.ones(len(labels)), (labels, rows)), shape=(n_classes, len(labels)))
    sums = member @ matrix
    dense = np.asarray(sums.toarray() if hasattr(sums, "toarray") else sums, dtype=np.float64)
    lengths = np.linalg.norm(dense, axis=1, keepdims=True)
    centroids: FloatArray = dense / np.where(lengths > 0, lengths, 1)
    return centroids


def merge_tree(similarity: FloatArray) -> FloatArray:
    """Return scipy's linkage of average distances 1 - similarity, shape (K - 1, 4).

    Args:
        similarity: Shape (K, K), K >= 2, symmetric, at most 1.
    """
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    distance = np.clip(1 - (similarity + similarity.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    tree: FloatArray = linkage(squareform(distance, checks=False), method="average")
    return tree


@dataclass(frozen=True)
class EmbeddingSpace(Result):
    """How embeddings lie in their space.

    Attributes:
        isotropy: Mean cosine of random pairs of texts: 0 where directions are used evenly, near 1 in a narrow cone.
        within: Mean cosine of random pairs of the same class.
        between: Mean cosine of random pairs of different classes.
        spread: Mean Euclidean distance of each class's embeddings to their centroid, by class.
    """

    isotropy: float
    within: float
    between: float
    spread: dict[str, float]


def describe_space(
    embeddings: NDArray[np.floating[Any]], labels: IntArray, class_names: tuple[str, ...], n_pairs: int, seed: int
) -> tuple[EmbeddingSpace, FloatArray, NDArray[np.bool_]]:
    """Describe n embeddings.

    Args:
        embeddings: Shape (n, d), n >= 2.
        labels: Shape (n,).
        class_names: K names.
        n_pairs: Random pairs of two different texts.
        seed: Of the pairs.

    Returns:
        The description; the cosine of each pair, shape (n_pairs,); whether the two are of the same class.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    rng = np.random.default_rng(seed)
    first = rng.integers(len(unit), size=n_pairs)
    second = (first + rng.integers(1, len(unit), size=n_pairs)) % len(unit)
    cosines: FloatArray = (unit[first] * unit[second]).sum(axis=1)
    same = labels[first] == labels[second]
    spread = {}
    for k, name in enumerate(class_names):
        if len(own := vectors[labels == k]):
            spread[name] = float(np.linalg.norm(own - own.mean(axis=0), axis=1).mean())
    within = float(cosines[same].mean()) if same.any() else float("nan")
    between = float(cosines[~same].mean()) if (~same).any() else float("nan")
    return EmbeddingSpace(float(cosines.mean()), within, between, spread), cosines, same


def row_cosines(one: Any, other: Any) -> FloatArray:
    """Return the cosine of row i of one matrix and row i of the other, shape (n,); 0 where a row is all zeros."""
    from scipy.sparse import csr_array, issparse

    if issparse(one):
        a, b = csr_array(one), csr_array(other)
        product = np.asarray((a * b).sum(axis=1)).ravel()
        norms = [np.sqrt(np.asarray((m * m).sum(axis=1)).ravel()) for m in (a, b)]
    else:
        product = (one * other).sum(axis=1)
        norms = [np.linalg.norm(m, axis=1) for m in (one, other)]
    scale = norms[0] * norms[1]
    cosines: FloatArray = np.divide(product, scale, out=np.zeros(len(product)), where=scale > 0)
    return cosines
