"""The runner of language models behind an endpoint: nothing is trained, examples come from training rows alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from agnews_exp.config.targets import safe_instantiate
from agnews_exp.config.validation import CheckedConfig
from agnews_exp.core.cache import ArrayCache
from agnews_exp.data.corpus import Splits
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.endpoint import Reply
from agnews_exp.models.llm import Llm, LlmModel, draw_examples, save_llm, usage
from agnews_exp.runners.protocol import FitSummary, Stages

_YES = (
    "model.confirm=true; fewer texts: smaller data.validation_size and data.test_size, or evaluation.score_test=false"
)


class LlmRunner:
    """Runs ``model=llm``: asks for leave to send the rows that are judged, and sends them."""

    def __init__(self, checked: CheckedConfig) -> None:
        self._checked = checked
        self._replies: list[Reply] = []

    def fit(self, splits: Splits, stages: Stages) -> FitSummary:
        """Draw the examples from ``splits.train``, say what will be sent, and wait for a yes.

        Raises:
            ConfigError: Nobody said yes.
        """
        settings: Llm = safe_instantiate(self._checked.component("model"), "model")
        judged = [*splits.validation.texts, *(splits.test.texts if self._checked.run.evaluation.score_test else ())]
        everything = [*splits.validation.texts, *splits.test.texts]
        with stages.stage("fit", f"drawing {settings.shots} examples"):
            names = splits.class_names
            examples = draw_examples(splits.train, names, settings.shots, settings.random_state, everything)
            name = self._checked.run.model.name
            self._model = LlmModel(settings, name, settings.template(), names, examples)
        self._model.agree(judged, confirm=settings.confirm, how=_YES, about=" (validation and test rows)")
        short = (
            []
            if len(examples) == settings.shots
            else [f"model.shots={settings.shots}: {len(examples)} rows are there."]
        )
        return FitSummary({"examples": float(len(examples))}, short)

    def predict(self, texts: Sequence[str]) -> Predictions:
        """Answer texts, those that were asked before from the disk; two runs of one prompt do not ask at once."""
        endpoint = self._model.endpoint
        with ArrayCache(Path(self._checked.run.paths.cache_dir)).locked("llm", endpoint.key("")):
            replies = endpoint.answer(texts)
        self._replies += replies
        return self._model.read(replies)

    def usage(self) -> dict[str, float]:
        """Return tokens, money and seconds of all answers so far."""
        return usage(self._model, self._replies)

    def save(self, folder: Path) -> None:
        """Write prompt, classes, examples and settings."""
        save_llm(self._model, folder)


def unparsed(answers: Mapping[str, Predictions]) -> tuple[dict[str, float], list[str]]:
    """Return the share of answers that were no class by split, and a sentence on them where there are any."""
    shares = {f"{k}/unparsed": float(np.mean(v.unparsed)) for k, v in answers.items() if v.unparsed is not None}
    counts = {k: int(np.sum(v.unparsed)) for k, v in answers.items() if v.unparsed is not None and v.unparsed.any()}
    listed = ", ".join(f"{name} {n:,} of {len(answers[name]):,}" for name, n in counts.items())
    return shares, [f"Answers that are no class (unparsed) count as wrong: {listed}."] if counts else []
