"""A finished run, opened again for analysis: its configuration, rows, stored answers and model."""

from __future__ import annotations

from typing import Any

from agnews_exp.config.errors import DataError
from agnews_exp.config.validation import CheckedConfig, check_config
from agnews_exp.data.corpus import Splits
from agnews_exp.evaluation.stored_answers import read_predictions
from agnews_exp.models.loading import FittedModel
from agnews_exp.reporting.analyses.context import AnalysisContext
from agnews_exp.reporting.analyses.performing import analysis_folder
from agnews_exp.runners.judged import load_judged
from agnews_exp.runners.rows import load_splits
from agnews_exp.runners.stages import Stages
from agnews_exp.tracking.record import MODEL, PREDICTIONS, RunFolder


class FinishedRun:
    """What analyses need of a finished run; rows and model are loaded once, when first asked for.

    Args:
        run: Its record.

    Raises:
        ConfigError: The run has not finished.
        StorageError: Its record is damaged.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.result: dict[str, Any] = run.needed_result()
        self.checked = stored_config(run)
        self._splits: Splits | None = None
        self._model: FittedModel | None = None

    @property
    def splits(self) -> Splits:
        """The run's rows.

        Raises:
            DataError: The data are no longer those that the run was judged on.
        """
        if self._splits is None:
            splits = load_splits(self.checked, Stages())
            if splits.evaluation_checksum() != self.result["data"]["evaluation_checksum"]:
                raise DataError(
                    f"The data at {splits.location} are not those that {self.run.path.name} was judged on.",
                    fix="bring the files back as they were, or train again (force=true)",
                )
            self._splits = splits
        return self._splits

    @property
    def model(self) -> FittedModel:
        """The run's model, which computes as it did when the run judged it."""
        if self._model is None:
            self._model = load_judged(self.run.path / MODEL, self.checked.run.trainer)
        return self._model

    def context(self, name: str) -> AnalysisContext:
        """Return the context of one analysis."""
        names = self.splits.class_names
        rows = {"val": self.splits.validation, "test": self.splits.test}
        answers = {
            split: read_predictions(self.run.path / PREDICTIONS, split, part, names) for split, part in rows.items()
        }
        folder = analysis_folder(self.run.path, name)
        return AnalysisContext(self.checked, self.splits, answers, self.model, folder, self.result["timings"])


def stored_config(run: RunFolder) -> CheckedConfig:
    """Return the configuration that a run was started with, checked by today's rules."""
    from omegaconf import DictConfig, OmegaConf

    config = OmegaConf.create(run.config())
    assert isinstance(config, DictConfig)
    return check_config(config)
