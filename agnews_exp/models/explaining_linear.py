"""What a linear model on n-gram features says, exactly: named weights, and each answer as a sum over its n-grams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from agnews_exp.config.errors import ConfigError
from agnews_exp.evaluation.explanation.words import Explanation, from_characters
from agnews_exp.models.explaining_blocks import Block, block_matrix, blocks_of, cleaned
from agnews_exp.models.explaining_terms import Mapped, is_ngram_vectoriser, occurrences


@dataclass(frozen=True, eq=False)
class _Scores:
    """A linear estimator's scores ``X @ weights.T + intercept`` for all K classes.

    ``relative`` says that a constant over the classes changes nothing (softmax, naive Bayes), so weights mean
    something beside those of the other classes only. ``threshold``: the estimator sees X > threshold, not X.
    """

    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]
    relative: bool = False
    threshold: float | None = None


@dataclass(frozen=True, eq=False)
class LinearView:
    """A fitted pipeline seen as one linear map from its feature blocks to class scores.

    Attributes:
        weights: Shape (K, V), in the space of the blocks: selection, reduction and scaling are folded in. For models
            whose scores count relative to each other only (softmax, naive Bayes) the classes' mean is taken off.
        intercept: Shape (K,).
        relative: Whether that was done.
        blocks: The blocks, whose columns make up V.
        pipeline: The pipeline.
    """

    weights: NDArray[np.float64]
    intercept: NDArray[np.float64]
    relative: bool
    blocks: tuple[Block, ...]
    pipeline: Any
    threshold: float | None = None

    def matrix(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Return the blocks' features of n texts, shape (n, V), as the linear map takes them."""
        rows = sparse.csr_matrix(block_matrix(self.pipeline, texts))
        rows.sum_duplicates()
        if self.threshold is not None:
            rows.data = (rows.data > self.threshold).astype(np.float64)
        factors = _row_factors(self.pipeline, texts)
        return rows if factors is None else sparse.csr_matrix(sparse.diags(factors) @ rows)

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the explained scores, shape (n, K)."""
        return np.asarray(self.matrix(texts) @ self.weights.T) + self.intercept


@dataclass(frozen=True)
class Term:
    """What one n-gram adds to a score."""

    block: str
    term: str
    contribution: float


def linear_view(pipeline: Any) -> LinearView:
    """Return a fitted pipeline as one linear map.

    Raises:
        ConfigError: It is not linear in its feature blocks.
    """
    if pipeline.named_steps.get("features") is None:
        raise ConfigError("The model reads raw text, so it has no named weights.", fix="explain it by occlusion")
    scores = _linear_scores(pipeline.named_steps["model"])
    steps = pipeline.named_steps["features"].named_steps
    if scores.threshold is not None and {"select", "reduce", "scale"} & set(steps):
        raise ConfigError("A model of yes-or-no features behind select, reduce or scale is not read as linear.")
    weights, intercept = scores.weights, scores.intercept
    for name in ("scale", "reduce", "select"):
        if name in steps:
            weights, intercept = _before(steps[name], weights, intercept)
    if scores.relative:
        weights, intercept = weights - weights.mean(axis=0), intercept - intercept.mean()
    return LinearView(weights, intercept, scores.relative, blocks_of(pipeline), pipeline, scores.threshold)


def _linear_scores(model: Any) -> _Scores:
    members = getattr(model, "calibrated_classifiers_", None)
    if members is not None:  # the calibrated machines' mean: calibration itself is monotone, not linear
        parts = [_linear_scores(member.estimator) for member in members]
        if parts[0].threshold is None:
            weights = np.mean([part.weights for part in parts], axis=0)
            return _Scores(weights, np.mean([part.intercept for part in parts], axis=0), parts[0].relative)
    kind = type(model).__name__
    if hasattr(model, "feature_log_prob_"):
        return _naive_bayes(model, kind)
    weights = getattr(model, "coef_", None)
    if weights is None or np.ndim(weights) != 2 or len(weights) not in (1, len(model.classes_)):
        raise ConfigError(f"{kind} is not linear, so it has no named weights.", fix="explain it by occlusion")
    weights = np.asarray(weights, dtype=np.float64)
    intercept = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64), len(weights))
    if len(weights) == 1:
        return _Scores(np.vstack([-weights, weights]), np.concatenate([-intercept, intercept]))
    softmax = kind == "LogisticRegression" or (kind == "NgramLinear" and model.loss == "log_loss")
    return _Scores(weights, intercept, softmax, 0.0 if getattr(model, "binarize", False) is True else None)


def _naive_bayes(model: Any, kind: str) -> _Scores:
    log_probabilities = np.asarray(model.feature_log_prob_, dtype=np.float64)
    prior = np.asarray(model.class_log_prior_, dtype=np.float64)
    if kind == "BernoulliNB":
        absent = np.log1p(-np.exp(log_probabilities))
        threshold = None if model.binarize is None else float(model.binarize)
        return _Scores(log_probabilities - absent, prior + absent.sum(axis=1), True, threshold)
    return _Scores(log_probabilities, np.zeros(len(prior)) if kind == "ComplementNB" else prior, True)


def _before(
    step: Any, weights: NDArray[np.float64], intercept: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights that give the same scores on what goes into a fitted step."""
    kind = type(step).__name__
    if kind == "Normalizer":  # divides by a number of each row: see _row_factors
        return weights, intercept
    if kind in ("StandardScaler", "MaxAbsScaler"):
        scale = getattr(step, "scale_", None)
        weights = weights if scale is None else weights / scale
        mean = getattr(step, "mean_", None) if getattr(step, "with_mean", False) else None
        return weights, intercept if mean is None else intercept - weights @ mean
    if kind == "TruncatedSVD":
        return weights @ step.components_, intercept
    if hasattr(step, "get_support"):
        support = step.get_support()
        full = np.zeros((len(weights), len(support)))
        full[:, support] = weights
        return full, intercept
    raise ConfigError(
        f"{kind} is not linear, so the model has no weights of named features.", fix="explain by occlusion"
    )


def _row_factors(pipeline: Any, texts: Sequence[str]) -> NDArray[np.float64] | None:
    """Return what a final Normalizer multiplies each row with, shape (n,), or None without one."""
    steps = pipeline.named_steps["features"].named_steps
    scale = steps.get("scale")
    if type(scale).__name__ != "Normalizer":
        return None
    matrix = block_matrix(pipeline, texts)
    for name in ("select", "reduce"):
        if name in steps:
            matrix = steps[name].transform(matrix)
    order = {"l1": 1, "l2": 2, "max": np.inf}[scale.norm]
    norm = sparse_linalg.norm if sparse.issparse(matrix) else np.linalg.norm
    lengths = np.asarray(norm(matrix, ord=order, axis=1))
    return np.asarray(1.0 / np.where(lengths == 0, 1.0, lengths))


def additive(view: LinearView, texts: Sequence[str], targets: NDArray[np.int64]) -> list[Explanation]:
    """Explain texts exactly: the score of the class is base + the words' weights + elsewhere.

    The contribution of an n-gram, its value times its weight, is shared evenly by the places where it stands, and
    there by its characters other than white space.

    Args:
        view: The model.
        texts: n texts.
        targets: Shape (n,), class indices.
    """
    matrix = view.matrix(texts)
    inputs = cleaned(view.pipeline, texts)
    return [
        _spread(view, text, given, matrix[[i]], int(target))
        for i, (text, given, target) in enumerate(zip(texts, inputs, targets, strict=True))
    ]


def top_terms(view: LinearView, text: str, target: int, n: int) -> list[Term]:
    """Return the n features of a text that add most to the score of a class, for or against."""
    row = view.matrix([text])
    contributions = row.data * view.weights[target, row.indices]
    chosen = np.argsort(-np.abs(contributions), kind="stable")[:n]
    names: dict[str, NDArray[np.object_]] = {}
    found = []
    for i in chosen:
        column = int(row.indices[i])
        block = next(b for b in view.blocks if b.begin <= column < b.end)
        if block.name not in names:
            names[block.name] = block.names()
        found.append(Term(block.name, str(names[block.name][column - block.begin]), float(contributions[i])))
    return found


def _spread(view: LinearView, text: str, given: str, row: Any, target: int) -> Explanation:
    contributions = dict(zip(row.indices.tolist(), row.data * view.weights[target, row.indices], strict=True))
    source = Mapped(text, range(len(text))).changed(given)
    characters = np.zeros(len(text))
    spread = 0.0
    for block in view.blocks:
        if not is_ngram_vectoriser(block.transformer):
            continue
        for column, places in _places(block, source, text).items():
            contribution = contributions.get(column, 0.0)
            shown = [place for place in places if place]
            for place in shown:
                np.add.at(characters, place, contribution / len(shown) / len(place))
            spread += contribution if shown else 0.0
    rest = sum(contributions.values()) - spread
    return from_characters(
        "contributions", text, target, characters, elsewhere=float(rest), base=float(view.intercept[target])
    )


def _places(block: Block, source: Mapped, text: str) -> dict[int, list[list[int]]]:
    """Return for each column with an n-gram in the text the original characters of its places, without spaces."""
    vocabulary = getattr(block.transformer, "vocabulary_", None)
    found: dict[int, list[list[int]]] = defaultdict(list)
    hashed: dict[str, int] = {}
    for term, positions in occurrences(block.transformer, source):
        if vocabulary is not None:
            column = vocabulary.get(term)
        else:
            if term not in hashed:
                hashed[term] = int(block.transformer._get_hasher().transform([[term]]).indices[0])
            column = hashed[term]
        if column is not None:
            found[block.begin + int(column)].append([p for p in positions if not text[p].isspace()])
    return found
