"""How foreign a text is to a model: scores from its own answers and from its training words, and their power."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agnews_exp.evaluation.inputs import Result
from agnews_exp.evaluation.predictions import Predictions

FloatArray = NDArray[np.float64]

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Detection(Result):
    """How well a score tells texts of the own source from foreign ones.

    Attributes:
        score: Its name; higher should mean the own source.
        auroc: Chance that a text of the own source has the higher score than a foreign one, ties counting half.
        low: Lower end of DeLong's 95 % interval (1988), on the logit scale.
        high: Upper end.
        foreign_accepted: Share of the foreign texts that pass the threshold that 95 % of the own texts pass.
        own_mean: Mean score of the own texts.
        foreign_mean: Mean score of the foreign ones.
    """

    score: str
    auroc: float
    low: float
    high: float
    foreign_accepted: float
    own_mean: float
    foreign_mean: float


def confidence_scores(predictions: Predictions) -> dict[str, FloatArray]:
    """Return scores of n answers, each of shape (n,), higher for what the model knows.

    ``max_softmax``: the largest probability (Hendrycks and Gimpel 2017), of the model's own probabilities or, where
    it has none, of the softmax of its decision scores. ``margin``: the highest decision score minus the second (of
    log-probabilities where there are no scores). ``energy``: log-sum-exp of the decision scores (Liu et al. 2020);
    absent without scores. Empty for a model that gives labels only.
    """
    from scipy.special import logsumexp

    from agnews_exp.evaluation.calibrators import log_probabilities, softmax

    probabilities, scores = predictions.probabilities, predictions.scores
    found: dict[str, FloatArray] = {}
    matrix = softmax(scores) if probabilities is None and scores is not None else probabilities
    if matrix is not None:
        found["max_softmax"] = np.asarray(matrix.max(axis=1), dtype=np.float64)
        ranked = np.sort(log_probabilities(matrix) if scores is None else scores, axis=1)
        found["margin"] = ranked[:, -1] - ranked[:, -2]
    if scores is not None:
        found["energy"] = np.asarray(logsumexp(scores, axis=1))
    return found


def vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """Return the words of texts, in lower case."""
    return frozenset(word for text in texts for word in _WORD.findall(text.lower()))


def known_share(texts: Sequence[str], words: Collection[str]) -> FloatArray:
    """Return the share of each text's words, shape (n,), that are among the known ones; 0 for a text without words."""
    shares = np.zeros(len(texts))
    for i, text in enumerate(texts):
        found = _WORD.findall(text.lower())
        if found:
            shares[i] = sum(word in words for word in found) / len(found)
    return shares


def detection(name: str, own: FloatArray, foreign: FloatArray) -> Detection:
    """Return how well a score tells two sets of texts apart.

    Args:
        name: The score's name.
        own: Shape (n,), scores of texts of the own source.
        foreign: Shape (n',), scores of foreign texts.
    """
    from scipy.stats import norm, rankdata

    n, m = len(own), len(foreign)
    ranks = rankdata(np.concatenate([own, foreign]))
    # Placements: for each text, the share of the other set's texts that it is above (below).
    above = (ranks[:n] - rankdata(own)) / m
    below = 1 - (ranks[n:] - rankdata(foreign)) / n
    auroc = float(above.mean())
    variance = float(above.var(ddof=1) / n + below.var(ddof=1) / m) if min(n, m) > 1 else math.nan
    low, high = auroc, auroc
    if 0 < auroc < 1 and variance > 0:
        reach = float(norm.ppf(0.975)) * math.sqrt(variance) / (auroc * (1 - auroc))
        logit = math.log(auroc / (1 - auroc))
        low, high = (1 / (1 + math.exp(-(logit + sign * reach))) for sign in (-1, 1))
    threshold = float(np.quantile(own, 0.05, method="lower"))
    accepted = float(np.mean(foreign >= threshold))
    return Detection(name, auroc, low, high, accepted, float(own.mean()), float(foreign.mean()))
