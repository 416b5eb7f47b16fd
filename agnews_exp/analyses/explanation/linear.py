"""Linear models on n-gram features explained exactly: named weights, and each answer as a sum over its n-grams."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import linalg as sparse_linalg

from agnews_exp.analyses.explanation.words import Explanation, from_characters
from agnews_exp.core.errors import ConfigError
from agnews_exp.evaluation.inputs import FloatArray

_SPACES = re.compile(r"\s\s+")  # as in scikit-learn's character analyzers

NOWHERE = -1
"""Position of a character that the text does not have, such as the padding around a word."""


@dataclass(frozen=True)
class Mapped:
    """A text made from another one, with the place in the original of each of its characters."""

    text: str  # of n characters
    positions: Sequence[int]  # n places in the original, or ``NOWHERE``

    def slice(self, begin: int, end: int) -> Mapped:
        """Return a part of the text with its places."""
        return Mapped(self.text[begin:end], self.positions[begin:end])

    def changed(self, text: str) -> Mapped:
        """Return another version of the text: characters are paired where the versions agree, whatever the case."""
        if len(text) == len(self.text):
            return Mapped(text, self.positions)
        before, after = [c.lower() for c in self.text], [c.lower() for c in text]
        positions = [NOWHERE] * len(text)
        for kind, a0, a1, b0, b1 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
            if kind in ("equal", "replace"):
                for j in range(b0, b1):
                    positions[j] = self.positions[a0 + (j - b0) * (a1 - a0) // (b1 - b0)]
        return Mapped(text, positions)


def is_ngram_vectoriser(block: Any) -> bool:
    """Whether a feature block counts n-grams that can be found again in a text."""
    return getattr(block, "analyzer", None) in ("word", "char", "char_wb") and hasattr(block, "build_preprocessor")


def occurrences(vectoriser: Any, source: Mapped) -> Iterator[tuple[str, list[int]]]:
    """Yield every n-gram of a text, once for each place, with the original places of its characters.

    The n-grams are those of scikit-learn's analyzers (``_word_ngrams``, ``_char_ngrams``, ``_char_wb_ngrams``), or what
    the block itself says that it counts.
    """
    if hasattr(vectoriser, "occurrences"):
        for term, places in vectoriser.occurrences(source.text):
            yield term, [p for place in places if (p := source.positions[place]) != NOWHERE]
        return
    text = source.changed(vectoriser.build_preprocessor()(source.text))
    low, high = vectoriser.ngram_range
    if vectoriser.analyzer == "word":
        yield from _word_ngrams(vectoriser, text, low, high)
    elif vectoriser.analyzer == "char":
        text = _collapsed(text)
        for n in range(low, min(high, len(text.text)) + 1):
            for begin in range(len(text.text) - n + 1):
                yield _gram(text.slice(begin, begin + n))
    else:
        for match in re.finditer(r"\S+", text.text):
            inner = text.slice(*match.span())
            padded = Mapped(f" {inner.text} ", [NOWHERE, *inner.positions, NOWHERE])
            yield from _grams_of_word(padded, low, high)


def _word_ngrams(vectoriser: Any, text: Mapped, low: int, high: int) -> Iterator[tuple[str, list[int]]]:
    stop_words = vectoriser.get_stop_words() or frozenset()
    tokens = [token for token in _tokens(vectoriser, text) if token.text not in stop_words]
    for n in range(low, high + 1):
        for begin in range(len(tokens) - n + 1):
            part = tokens[begin : begin + n]
            yield " ".join(t.text for t in part), [p for t in part for p in t.positions if p != NOWHERE]


def _tokens(vectoriser: Any, text: Mapped) -> Iterator[Mapped]:
    if vectoriser.tokenizer is None:
        pattern = re.compile(vectoriser.token_pattern)
        for match in pattern.finditer(text.text):
            yield text.slice(*match.span(min(pattern.groups, 1)))
        return
    cursor = 0
    for token in vectoriser.build_tokenizer()(text.text):
        begin = text.text.find(token, cursor)
        if begin < 0:
            yield Mapped(token, [NOWHERE] * len(token))
            continue
        cursor = begin + len(token)
        yield text.slice(begin, cursor)


def _collapsed(text: Mapped) -> Mapped:
    """Make each run of white space one space, as the character analyzer does."""
    parts: list[str] = []
    positions: list[int] = []
    end = 0
    for match in _SPACES.finditer(text.text):
        parts += [text.text[end : match.start()], " "]
        positions += [*text.positions[end : match.start()], text.positions[match.start()]]
        end = match.end()
    return Mapped("".join([*parts, text.text[end:]]), [*positions, *text.positions[end:]])


def _grams_of_word(word: Mapped, low: int, high: int) -> Iterator[tuple[str, list[int]]]:
    length = len(word.text)
    for n in range(low, high + 1):
        for begin in range(max(1, length - n + 1)):
            yield _gram(word.slice(begin, begin + n))
        if length <= n:  # a word that is too short for n is counted once
            return


def _gram(part: Mapped) -> tuple[str, list[int]]:
    return part.text, [p for p in part.positions if p != NOWHERE]


_PROBE = "a text to count columns with"


@dataclass(frozen=True, eq=False)
class Block:
    """One feature block of a pipeline."""

    name: str  # its key under ``features.blocks``, or ``word`` and ``char`` where it is the only one
    transformer: Any  # fitted
    begin: int  # its first column
    end: int  # behind its last column

    def names(self) -> NDArray[np.object_]:
        """Return the names of the block's V columns, shape (V,); hashed columns have numbers only."""
        if hasattr(self.transformer, "get_feature_names_out"):
            return np.asarray(self.transformer.get_feature_names_out(), dtype=object)
        return np.array([f"column {i}" for i in range(self.end - self.begin)], dtype=object)

    def families(self) -> dict[str, NDArray[np.int64]]:
        """Return the block's column indices, shape (m,), by length of n-gram: ``word 1-grams``, ``char 3-grams``."""
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


def from_blocks(pipeline: Any, matrix: Any, steps: Sequence[str] = ("select", "reduce", "scale")) -> Any:
    """Return the estimator's input for a :func:`block_matrix`, or what some of the steps before it make of it."""
    known = pipeline.named_steps["features"].named_steps
    for name in steps:
        if name in known:
            matrix = known[name].transform(matrix)
    return matrix


@dataclass(frozen=True, eq=False)
class _Scores:
    """A linear estimator's scores ``X @ weights.T + intercept`` for all K classes.

    ``relative`` says that a constant over the classes changes nothing (softmax, naive Bayes), so weights mean
    something beside those of the other classes only. ``threshold``: the estimator sees X > threshold, not X.
    """

    weights: FloatArray  # shape (K, V)
    intercept: FloatArray  # shape (K,)
    relative: bool = False
    threshold: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class LinearView(_Scores):
    """A fitted pipeline seen as one linear map from its feature blocks to class scores.

    Selection, reduction and scaling are folded into the weights; relative ones have the classes' mean taken off.
    """

    blocks: tuple[Block, ...]  # whose columns make up V
    pipeline: Any

    def matrix(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """Return the blocks' features of n texts, shape (n, V), as the linear map takes them."""
        rows = sparse.csr_matrix(block_matrix(self.pipeline, texts))
        rows.sum_duplicates()
        if self.threshold is not None:
            rows.data = (rows.data > self.threshold).astype(np.float64)
        factors = _row_factors(self.pipeline, texts)
        return rows if factors is None else sparse.csr_matrix(sparse.diags(factors) @ rows)

    def scores(self, texts: Sequence[str]) -> FloatArray:
        """Return the explained scores, shape (n, K)."""
        return np.asarray(self.matrix(texts) @ self.weights.T) + self.intercept


@dataclass(frozen=True)
class Term:
    """The contribution of one n-gram to a score."""

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
    folded = replace(scores, weights=weights, intercept=intercept)
    return LinearView(**vars(folded), blocks=blocks_of(pipeline), pipeline=pipeline)


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


def _before(step: Any, weights: FloatArray, intercept: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the weights that give the same scores on what goes into a fitted step."""
    kind = type(step).__name__
    if kind == "Normalizer":  # divides by a number of each row: see _row_factors
        return weights, intercept
    if kind in ("StandardScaler", "MaxAbsScaler"):
        scale = getattr(step, "scale_", None)
        weights = weights if scale is None else weights / scale
        mean = getattr(step, "mean_", None) if getattr(step, "with_mean", False) else None
        return weights, intercept if mean is None else intercept - weights @ mean
    if kind in ("TruncatedSVD", "StaticVectors"):
        return weights @ step.components_, intercept
    if hasattr(step, "get_support"):
        support = step.get_support()
        full = np.zeros((len(weights), len(support)))
        full[:, support] = weights
        return full, intercept
    raise ConfigError(
        f"{kind} is not linear, so the model has no weights of named features.", fix="explain by occlusion"
    )


def _row_factors(pipeline: Any, texts: Sequence[str]) -> FloatArray | None:
    """Return the factors by which a final Normalizer multiplies the rows, shape (n,), or None without one."""
    scale = pipeline.named_steps["features"].named_steps.get("scale")
    if type(scale).__name__ != "Normalizer":
        return None
    matrix = from_blocks(pipeline, block_matrix(pipeline, texts), ("select", "reduce"))
    order = {"l1": 1, "l2": 2, "max": np.inf}[scale.norm]
    norm = sparse_linalg.norm if sparse.issparse(matrix) else np.linalg.norm
    lengths = np.asarray(norm(matrix, ord=order, axis=1))
    return np.asarray(1.0 / np.where(lengths == 0, 1.0, lengths))


def additive(view: LinearView, texts: Sequence[str], targets: NDArray[np.int64]) -> list[Explanation]:
    """Explain texts exactly: the score of the class is base + the words' weights + elsewhere.

    The contribution of an n-gram, its value times its weight, is shared evenly by the places where it stands, and
    there by its characters other than white space.
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
        if not (is_ngram_vectoriser(block.transformer) or hasattr(block.transformer, "occurrences")):
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
