"""Which methods can explain a fitted model, ready to be called."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, cast, get_args

import numpy as np

from agnews_exp.analyses.explanation import perturbation
from agnews_exp.analyses.explanation.words import Explainer
from agnews_exp.core.errors import AgnewsError, ConfigError, MissingDependencyError
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


@dataclass(frozen=True)
class Budget:
    """Limits of the costly methods.

    Attributes:
        samples: Variants of a text for LIME and SHAP.
        integration_steps: Points of the integral of integrated gradients.
        seed: Of everything random.
    """

    samples: int = 200
    integration_steps: int = 32
    seed: int = 0


@dataclass
class Methods:
    """The methods that a model can be explained by.

    Attributes:
        explainers: Name to explainer, in the order in which they are shown.
        left_out: Name to the reason why a method is not among them.
    """

    explainers: dict[str, Explainer] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


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


def find_methods(model: FittedModel, wanted: Sequence[Method] | None, budget: Budget) -> Methods:
    """Return the wanted methods; None takes all that the model and the installed packages allow.

    Raises:
        ConfigError: A wanted method does not fit the model.
        MissingDependencyError: A wanted method needs a package that is not installed.
    """
    found = Methods()
    for name in get_args(Method) if wanted is None else dict.fromkeys(wanted):
        try:
            found.explainers[name] = _explainer(name, model, budget)
        except AgnewsError as error:
            if wanted is not None:
                raise
            found.left_out[name] = error.message
    return found


def _explainer(name: str, model: FittedModel, budget: Budget) -> Explainer:
    package = _PACKAGES.get(name)
    if package and importlib.util.find_spec(package) is None:
        raise MissingDependencyError(
            f"The method '{name}' needs the package '{package}', which is not installed.",
            fix="pip install 'agnews-exp[explain]'",
        )
    if name == "occlusion":
        return partial(perturbation.occlusion, partial(scores, model))
    if name in ("lime", "shap"):
        method: Callable[..., Any] = getattr(perturbation, name)
        return partial(method, partial(probabilities, model), samples=budget.samples, seed=budget.seed)
    if name == "contributions":
        return _contributions(model)
    return _inside_network(name, model, budget)


def _contributions(model: FittedModel) -> Explainer:
    if model.family != "classical":
        raise ConfigError("Contributions are for linear models only.")
    from agnews_exp.analyses.explanation.linear import additive, linear_view

    return partial(additive, linear_view(cast(Any, model).pipeline))


def _inside_network(name: str, model: FittedModel, budget: Budget) -> Explainer:
    if model.family != "transformer":
        raise ConfigError(f"The method '{name}' is for networks only.")
    from agnews_exp.analyses.explanation import networks as networks
    from agnews_exp.models.inference import TextPredictor

    predictor = cast(TextPredictor, model)
    if name == "gradient_x_input":
        return partial(networks.gradient_x_input, predictor)
    if name == "integrated_gradients":
        return partial(networks.integrated_gradients, predictor, steps=budget.integration_steps)
    networks.check_attention(predictor)
    return partial(networks.attention, predictor, rollout=name == "attention_rollout")
