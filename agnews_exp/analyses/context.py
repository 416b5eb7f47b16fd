"""What an analysis gets, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agnews_exp.config.validation import CheckedConfig
from agnews_exp.data.corpus import Splits
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.models.answers import FittedModel


@dataclass(frozen=True, eq=False)
class AnalysisContext:
    """One run, as an analysis sees it.

    Attributes:
        checked: The run's checked configuration.
        splits: Its training, validation and test rows.
        answers: The model's answers by split: ``val`` and ``test``, rows as in ``splits``.
        model: The fitted model.
        folder: Where the analysis writes its files; exists.
        timings: Seconds of the run's stages so far, by name.
    """

    checked: CheckedConfig
    splits: Splits
    answers: Mapping[str, Predictions]
    model: FittedModel
    folder: Path
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """What an analysis found.

    Attributes:
        metrics: Numbers for result.json and MLflow, such as ``test/ece_temperature``.
        summary: Markdown: the headline tables.
        details: Everything else, JSON-able.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    summary: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
