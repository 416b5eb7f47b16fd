"""Explaining by leaving words out: occlusion, and LIME and SHAP from their own packages with the same removal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agnews_exp.analyses.explanation.words import WORD, Answer, Explanation, keep_words, word_spans
from agnews_exp.core.errors import MissingDependencyError
from agnews_exp.evaluation.inputs import FloatArray


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
    try:
        from lime.lime_text import LimeTextExplainer
    except ImportError as error:
        raise _missing("lime") from error

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
    try:
        from shap import PermutationExplainer
    except ImportError as error:
        raise _missing("shap") from error

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


def _missing(package: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"The explanation method '{package}' needs the package '{package}', which is not installed.",
        fix="pip install 'agnews-exp[explain]'",
    )
