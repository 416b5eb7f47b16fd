"""`agnews predict --explain`: the words behind each answer, by the method that fits the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.explanation.methods import Method, find_methods
from agnews_exp.analyses.explanation.words import Explainer, Explanation
from agnews_exp.core.errors import ConfigError
from agnews_exp.models.answers import FittedModel

WordExplainer = Callable[[Sequence[str], NDArray[np.int64]], list[Explanation]]
"""Explains n texts, each for the class index that it was given."""

_CAN = "linear models on n-grams, networks, and cascades of them"


def word_explainer(model: FittedModel) -> WordExplainer:
    """Return the function that explains a model's answers.

    Linear models: each word's part of the class's score (exact). Networks: gradient times input of the class's logit.
    Cascades: whichever fits the model that answered.

    Raises:
        ConfigError: There is no such method for this model.
    """
    from agnews_exp.models.cascade import CascadeModel

    if isinstance(model, CascadeModel):
        return _of_cascade(model)
    wanted: dict[str, Method] = {"classical": "contributions", "transformer": "gradient_x_input"}
    if model.family not in wanted:
        what = "An ONNX model has no gradients" if model.family == "onnx" else "A blend has no words of its own"
        fix = "explain the run that it was exported from" if model.family == "onnx" else "explain its two models"
        raise ConfigError(f"--explain: {what}.\n  can be explained: {_CAN}", fix=fix)
    method = wanted[model.family]
    try:
        return find_methods(model, [method]).explainers[method]
    except ConfigError as error:
        raise ConfigError(
            f"--explain: {error.message}\n  can be explained: {_CAN}",
            fix="agnews explain <run> explains any model by occlusion, more slowly",
        ) from error


def _of_cascade(model: object) -> Explainer:
    from agnews_exp.models.cascade import CascadeModel

    assert isinstance(model, CascadeModel)
    fast, accurate = word_explainer(model.fast), word_explainer(model.accurate)

    def explain(texts: Sequence[str], targets: NDArray[np.int64]) -> list[Explanation]:
        asked = model.asked(model.calibrations[0].apply(model.fast.predict(texts)))
        found: dict[int, Explanation] = {}
        for explainer, rows in ((fast, np.flatnonzero(~asked)), (accurate, np.flatnonzero(asked))):
            if len(rows):
                explained = explainer([texts[int(i)] for i in rows], np.asarray(targets)[rows])
                found |= dict(zip(rows.tolist(), explained, strict=True))
        return [found[i] for i in range(len(texts))]

    return explain


def top_words(explanation: Explanation, n: int) -> str:
    """Return the n words that weigh most, as ``goal:+0.812 bank:-0.204``; a word's places and cases count together."""
    weights: dict[str, float] = defaultdict(float)
    for word, weight in zip(explanation.words, explanation.weights, strict=True):
        weights[word.lower()] += float(weight)
    strongest = sorted(weights.items(), key=lambda entry: (-abs(entry[1]), entry[0]))[:n]
    return " ".join(f"{word}:{weight:+.4g}" for word, weight in strongest if weight)
