"""Methods that explain a fitted model: those that leave words out (occlusion, LIME, SHAP), and a finder for all."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.explanation.words import WORD, Answer, Explainer, Explanation, keep_words, word_spans
from agnews_exp.core.errors import AgnewsError, ConfigError, MissingDependencyError, needs
from agnews_exp.evaluation.inputs import FloatArray
from agnews_exp.evaluation.score_calibration import uncalibrated
from agnews_exp.models.answers import FittedModel

Method = Literal[
    "contributions", "occlusion", "gradient_x_input", "integrated_gradients", "attention", "attention_rollout", "lime",
    "shap",
]  # fmt: skip

DESCRIPTIONS: dict[str, str] = {
    "contributions": "exact: the score of the class as a sum over n-grams, shared by the words they touch",
    "occlusion": "how far the score falls without the word",
    "gradient_x_input": "gradient of the logit at the word's vectors, times the vectors",
    "integrated_gradients": "that gradient integrated from padding to the word; adds up to the logit",
    "attention": "where the last layer looks, mean over heads; no sign",
    "attention_rollout": "where all layers together look; no sign",
    "lime": "linear model of the answers to random parts of the text",
    "shap": "Shapley values of the words; add up to the probability",
}
_PACKAGES = {"lime": "lime", "shap": "shap", "integrated_gradients": "captum"}


@dataclass
class Methods:
    """The methods that a model can be explained by."""

    # Name to explainer, in the order in which they are shown.
    explainers: dict[str, Explainer] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)  # name to the reason why a method is not among them


def probabilities(model: FittedModel, texts: Sequence[str]) -> FloatArray:
    """Return shape (n, K): the model's probabilities, or what stands for them."""
    return described_probabilities(model, texts)[0]


def described_probabilities(model: FittedModel, texts: Sequence[str]) -> tuple[FloatArray, str]:
    """Return shape (n, K) and its description: the model's probabilities, the softmax of its scores, or 0 and 1."""
    answers = model.predict(list(texts))
    if answers.scores is None and answers.probabilities is None:
        return np.eye(len(model.class_names))[answers.labels], "1 for the answer: the model gives labels only"
    matrix, about = uncalibrated(answers)
    return np.asarray(matrix, dtype=np.float64), about


def scores(model: FittedModel, texts: Sequence[str]) -> FloatArray:
    """Return shape (n, K): the model's scores, or the logarithms of its probabilities."""
    answers = model.predict(list(texts))
    if answers.scores is not None:
        return np.asarray(answers.scores, dtype=np.float64)
    if answers.probabilities is not None:
        return np.log(np.clip(answers.probabilities, 1e-12, None))
    return np.eye(len(model.class_names))[answers.labels]


def occlusion(answer: Answer, texts: Sequence[str], targets: NDArray[np.int64]) -> list[Explanation]:
    """Explain texts by leaving out one word at a time (Zeiler and Fergus 2014; for text Li et al. 2016).

    A word's weight is the score of the class for the whole text less that for the text without the word. All variants
    of all texts are answered in one call, so that the model can batch them.
    """
    variants: list[str] = []
    counts = []
    for text in texts:
        m = len(word_spans(text))
        kept = ~np.eye(m, dtype=bool)
        variants += [text, *(keep_words(text, row) for row in kept)]
        counts.append(m)
    scores = answer(variants)
    explanations = []
    start = 0
    for text, target, m in zip(texts, targets, counts, strict=True):
        own = scores[start : start + m + 1, target]
        explanations.append(Explanation("occlusion", text, int(target), own[0] - own[1:]))
        start += m + 1
    return explanations


def lime(
    answer: Answer, texts: Sequence[str], targets: NDArray[np.int64], *, samples: int = 500, seed: int = 0
) -> list[Explanation]:
    """Explain texts by a linear model of the answers to random parts of them (Ribeiro et al. 2016).

    Raises:
        MissingDependencyError: The package lime is not installed.
    """
    with needs("lime", "The explanation method 'lime'", "'agnews-exp[explain]'"):
        from lime.lime_text import LimeTextExplainer
    explanations = []
    for text, target in zip(texts, targets, strict=True):
        spans = word_spans(text)
        weights = np.zeros(len(spans))
        if len(spans):
            # bow=False: each place of a word counts for itself; the empty mask removes it instead of writing UNKWORDZ.
            explainer: Any = LimeTextExplainer(
                split_expression=WORD.findall, bow=False, mask_string="", random_state=seed
            )
            found = explainer.explain_instance(
                text, answer, labels=(int(target),), num_features=len(spans), num_samples=samples
            )
            starts = found.domain_mapper.indexed_string
            position = {int(begin): i for i, begin in enumerate(spans[:, 0])}
            for feature, weight in found.as_map()[int(target)]:
                weights[position[int(np.ravel(starts.string_position(feature))[0])]] = weight
        explanations.append(Explanation("lime", text, int(target), weights))
    return explanations


def shap(
    answer: Answer, texts: Sequence[str], targets: NDArray[np.int64], *, samples: int = 500, seed: int = 0
) -> list[Explanation]:
    """Explain texts by Shapley values of their words, estimated from permutations (Lundberg and Lee 2017).

    The values of a text's words and the probability for an empty text add up to the probability for the text. One
    permutation of m words asks about 2 m + 1 variants; at least one is made.

    Raises:
        MissingDependencyError: The package shap is not installed.
    """
    with needs("shap", "The explanation method 'shap'", "'agnews-exp[explain]'"):
        from shap import PermutationExplainer
    explanations = []
    for text, target in zip(texts, targets, strict=True):
        m = len(word_spans(text))
        if m == 0:
            explanations.append(Explanation("shap", text, int(target), np.zeros(0)))
            continue

        def probability(masks: NDArray[Any], text: str = text, target: int = int(target)) -> FloatArray:
            return answer([keep_words(text, mask.astype(bool)) for mask in masks])[:, target]

        explainer: Any = PermutationExplainer(probability, np.zeros((1, m)), seed=seed)
        found = explainer(np.ones((1, m)), max_evals=max(samples, 2 * m + 1), silent=True)
        base = float(np.ravel(found.base_values)[0])
        explanations.append(Explanation("shap", text, int(target), np.asarray(found.values[0], dtype=float), base=base))
    return explanations


def find_methods(
    model: FittedModel,
    wanted: Sequence[Method] | None,
    *,
    samples: int = 200,
    integration_steps: int = 32,
    seed: int = 0,
) -> Methods:
    """Return the wanted methods; None takes all that the model and the installed packages allow.

    Raises:
        ConfigError: A wanted method does not fit the model.
        MissingDependencyError: A wanted method needs a package that is not installed.
    """
    found = Methods()
    for name in get_args(Method) if wanted is None else dict.fromkeys(wanted):
        try:
            found.explainers[name] = _explainer(name, model, samples, integration_steps, seed)
        except AgnewsError as error:
            if wanted is not None:
                raise
            found.left_out[name] = error.message
    return found


def _explainer(name: str, model: FittedModel, samples: int, integration_steps: int, seed: int) -> Explainer:
    if (package := _PACKAGES.get(name)) and importlib.util.find_spec(package) is None:
        said = f"The explanation method '{name}' needs the package '{package}', which is not installed."
        raise MissingDependencyError(said, fix="pip install 'agnews-exp[explain]'")
    if name == "occlusion":
        return partial(occlusion, partial(scores, model))
    if name in ("lime", "shap"):
        return partial(lime if name == "lime" else shap, partial(probabilities, model), samples=samples, seed=seed)
    if name != "contributions":
        return _inside_network(name, model, integration_steps)
    if model.family != "classical":
        raise ConfigError("Contributions are for linear models only.")
    from agnews_exp.analyses.explanation.linear import additive, linear_view

    return partial(additive, linear_view(cast(Any, model).pipeline))


def _inside_network(name: str, model: FittedModel, integration_steps: int) -> Explainer:
    if model.family != "transformer":
        raise ConfigError(f"The method '{name}' is for networks only.")
    from agnews_exp.analyses.explanation import networks
    from agnews_exp.models.inference import TextPredictor

    predictor = cast(TextPredictor, model)
    if name == "gradient_x_input":
        return partial(networks.gradient_x_input, predictor)
    if name == "integrated_gradients":
        return partial(networks.integrated_gradients, predictor, steps=integration_steps)
    networks.check_attention(predictor)
    return partial(networks.attention, predictor, rollout=name == "attention_rollout")
