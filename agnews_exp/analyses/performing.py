"""Performing analyses: each in its own folder, a failure of one is a note and not the end of the run."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agnews_exp.analyses.context import AnalysisContext, Findings
from agnews_exp.config.targets import resolve_target
from agnews_exp.config.validation import CheckedConfig, check_config
from agnews_exp.core.errors import AgnewsError, DataError
from agnews_exp.core.files import atomic_path
from agnews_exp.data.corpus import Splits
from agnews_exp.evaluation.stored_answers import read_predictions
from agnews_exp.models.answers import FittedModel
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_judged, load_splits
from agnews_exp.tracking.record import ANALYSES, MODEL, PREDICTIONS, RunFolder, read_json, write_json

log = logging.getLogger(__name__)

FINDINGS, SUMMARY = "findings.json", "summary.md"


def perform(component: Mapping[str, Any], name: str, context: AnalysisContext) -> Findings:
    """Perform one analysis and write its folder, replacing what an earlier one left there.

    Args:
        component: ``_target_`` and arguments, checked before.
        name: The analysis' name.
        context: The run; ``folder`` is created.
    """
    arguments = dict(component)
    analyse = resolve_target(arguments.pop("_target_"), f"evaluation.analyses.{name}._target_")
    shutil.rmtree(context.folder, ignore_errors=True)
    context.folder.mkdir(parents=True)
    try:
        findings: Findings = analyse(context, **arguments)
    except BaseException:
        shutil.rmtree(context.folder, ignore_errors=True)
        raise
    if not findings.metrics and not findings.details:  # there was nothing to do, as without an external file
        shutil.rmtree(context.folder)
        return findings
    with atomic_path(context.folder / SUMMARY) as temporary:
        temporary.write_text(findings.summary.rstrip() + "\n", encoding="utf-8")
    content = {"analysis": name, "arguments": arguments, "metrics": dict(findings.metrics)}
    write_json(context.folder / FINDINGS, content | {"details": dict(findings.details)})
    return findings


def perform_all(
    components: Mapping[str, Mapping[str, Any] | None], make_context: Callable[[str], AnalysisContext]
) -> tuple[dict[str, float], list[str]]:
    """Perform the configured analyses of a run.

    Args:
        components: ``evaluation.analyses``; None switches one off.
        make_context: Makes the context of the analysis with this name.

    Returns:
        All metrics, and a note for each analysis that failed.
    """
    metrics: dict[str, float] = {}
    notes: list[str] = []
    for name, component in components.items():
        if component is None:
            continue
        try:
            metrics |= perform(component, name, make_context(name)).metrics
        except Exception as error:
            if not isinstance(error, AgnewsError):
                log.debug("analysis %s failed", name, exc_info=True)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            notes.append(f"The analysis '{name}' could not be done: {reason}")
    return metrics, notes


def analysis_folder(run: Path, name: str) -> Path:
    """Return where a run keeps one analysis."""
    return run / ANALYSES / name


def complete_analyses(run: RunFolder, components: Mapping[str, Any]) -> list[str]:
    """Perform those of the configured analyses that a finished run does not have yet with the same arguments.

    Args:
        run: The finished run.
        components: ``evaluation.analyses``; None switches one off.

    Returns:
        A note for each analysis that failed.
    """
    wanted = {name: dict(component) for name, component in components.items() if component is not None}
    missing = {name: component for name, component in wanted.items() if not _has(run.path, name, component)}
    if not missing:
        return []
    return perform_all(missing, FinishedRun(run).context)[1]


def _has(run: Path, name: str, component: Mapping[str, Any]) -> bool:
    findings = read_json(analysis_folder(run, name) / FINDINGS)
    arguments = {k: v for k, v in component.items() if k != "_target_"}
    return findings is not None and findings.get("arguments") == arguments


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


@contextmanager
def steps(total: int, what: str) -> Iterator[Callable[[str], None]]:
    """Show a bar on a terminal, nothing elsewhere.

    Args:
        total: Number of steps.
        what: What is being done.

    Yields:
        A function to call after each step with its name.
    """
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)

        def advance(step: str) -> None:
            bar.update(task, advance=1, description=f"{what}: {step}")

        yield advance
