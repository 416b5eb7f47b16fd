"""The register of analyses, and their performance: in a run, of a finished run, each in a folder of its own.

A failure of one is a note and not the end of the run.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from agnews_exp.analyses.findings import (
    Findings,
    Table,
    chart_table,
    findings_to_json,
    markdown_text,
    read_findings,
    to_markdown,
    write_table,
)
from agnews_exp.config.fingerprint import component_fingerprint
from agnews_exp.config.targets import resolve_target
from agnews_exp.config.validation import CheckedConfig, check_config
from agnews_exp.core.errors import AgnewsError, ConfigError, DataError, first_line
from agnews_exp.data.corpus import Splits
from agnews_exp.drawing import Chart, save
from agnews_exp.evaluation.predictions import Predictions
from agnews_exp.evaluation.stored_answers import read_predictions
from agnews_exp.evaluation.tasks import refuse_left_out, task_of_record
from agnews_exp.models.answers import FittedModel
from agnews_exp.runners.protocol import Stages
from agnews_exp.runners.rows import load_judged, load_splits
from agnews_exp.tracking.record import ANALYSES, MODEL, PREDICTIONS, RunFolder, escaped, read_json, write_json

log = logging.getLogger(__name__)

FINDINGS, SUMMARY = "findings.json", "summary.md"


@dataclass(frozen=True, eq=False)
class AnalysisContext:
    """One run, as an analysis sees it."""

    checked: CheckedConfig  # the run's checked configuration
    splits: Splits  # its training, validation and test rows
    answers: Mapping[str, Predictions]  # the model's answers by split: ``val`` and ``test``, rows as in ``splits``
    model: FittedModel  # the fitted model
    folder: Path  # where the analysis may leave files beside its findings; exists
    timings: Mapping[str, float] = field(default_factory=dict)  # seconds of the run's stages so far, by name


@dataclass(frozen=True)
class Analysis:
    """An analysis in the register: a question about finished runs and the function that answers it."""

    name: str  # its key in ``evaluation.analyses``, and its folder's name
    title: str  # the question, for people
    # Called with the context and the configured arguments; returns the findings. The arguments' annotations
    # (``Annotated[int, Field(ge=1)]``) say what is allowed, and are checked before any work; the comments of its YAML
    # say what they mean.
    function: Callable[..., Findings]


REGISTER: dict[str, Analysis] = {}
"""The analyses of the modules that have been imported, by name."""

_Function = TypeVar("_Function", bound=Callable[..., Findings])


def analysis(name: str, *, title: str) -> Callable[[_Function], _Function]:
    """Enter a function into the register of analyses, see :class:`Analysis`."""

    def enter(function: _Function) -> _Function:
        REGISTER[name] = Analysis(name, title, function)
        return function

    return enter


def perform(component: Mapping[str, Any], name: str, context: AnalysisContext, *, draw: bool = False) -> Findings:
    """Perform one analysis and write its folder, which replaces an earlier one only when all is done.

    The folder holds ``findings.json``, ``summary.md``, a CSV file a table and a JSON file a chart, and with ``draw`` a
    PNG.
    """
    arguments = dict(component)
    function = resolve_target(arguments.pop("_target_"), f"evaluation.analyses.{name}._target_")
    with renewed(context.folder) as folder:
        findings: Findings = function(replace(context, folder=folder), **arguments)
        if findings:  # else there was nothing to do, as without an external file
            origin = {"analysis": name, "arguments": arguments, "identity": component_fingerprint(component)}
            write_findings(folder, findings, origin, draw=draw)
    return findings


@contextmanager
def renewed(folder: Path) -> Iterator[Path]:
    """Give a new folder that takes the place of an old one when all is done; left empty, there is none afterwards."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        shutil.rmtree(folder, ignore_errors=True)
        if any(unfinished.iterdir()):
            unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def title_of(name: str) -> str:
    """Return an analysis' question; its name where its module has not been imported."""
    return REGISTER[name].title if name in REGISTER else name.capitalize()


def write_findings(folder: Path, findings: Findings, origin: Mapping[str, Any], *, draw: bool = False) -> None:
    """Write findings into an existing folder, with ``draw`` the charts as PNG and CSV too.

    ``origin`` has the name and arguments of the analysis: keys that stand first in findings.json.
    """
    tables = {block.name for block in findings.blocks if isinstance(block, Table)}
    for block in findings.blocks:
        if isinstance(block, Table):
            write_table(block, folder / f"{block.name}.csv")
        elif isinstance(block, Chart):
            save(block, folder / f"{block.name}.json")
            if draw:
                save(block, folder / f"{block.name}.png")
                if block.name not in tables:
                    write_table(chart_table(block), folder / f"{block.name}.csv")
    head = f"# {markdown_text(title_of(str(origin['analysis'])))}\n\n{markdown_text(findings.headline)}\n\n"
    body = to_markdown(findings.blocks, figures="" if draw else None)
    (folder / SUMMARY).write_text(f"{head}{body}\n", encoding="utf-8")
    write_json(folder / FINDINGS, dict(origin) | findings_to_json(findings))


def stored_findings(run: Path, name: str) -> Findings | None:
    """Return the findings of an analysis of a run; None where it has not been performed.

    Raises:
        StorageError: The findings are damaged or of an older version.
    """
    folder = analysis_folder(run, name)
    content = read_json(folder / FINDINGS)
    return None if content is None else read_findings(folder, content)


def perform_all(
    components: Mapping[str, Mapping[str, Any] | None], make_context: Callable[[str], AnalysisContext]
) -> tuple[dict[str, float], list[str]]:
    """Perform the configured analyses of a run; return all metrics, and a note for each that failed."""
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
            notes.append(f"The analysis '{name}' could not be done: {first_line(error)}")
    return metrics, notes


def analysis_folder(run: Path, name: str) -> Path:
    """Return where a run keeps one analysis."""
    return run / ANALYSES / name


def complete_analyses(run: RunFolder, components: Mapping[str, Any]) -> list[str]:
    """Perform the analyses that a finished run lacks with these arguments and files; return notes of failures."""
    wanted = {name: dict(component) for name, component in components.items() if component is not None}
    known = {name: (read_json(analysis_folder(run.path, name) / FINDINGS) or {}).get("identity") for name in wanted}
    missing = {name: one for name, one in wanted.items() if known[name] != component_fingerprint(one)}
    return perform_all(missing, FinishedRun(run).context)[1] if missing else []


class FinishedRun:
    """A finished run as analyses use it; rows and model are loaded once, when first asked for.

    Raises:
        ConfigError: The run has not finished.
        StorageError: Its record is damaged.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.result: dict[str, Any] = run.needed_result()
        self.checked = stored_config(run)

    @cached_property
    def splits(self) -> Splits:
        """The run's rows.

        Raises:
            DataError: The data are no longer those that the run was judged on.
        """
        splits = load_splits(self.checked, Stages())
        if splits.evaluation_checksum() != self.result["data"]["evaluation_checksum"]:
            raise DataError(
                f"The data at {splits.location} are not those that {self.run.path.name} was judged on.",
                fix="bring the files back as they were, or train again (force=true)",
            )
        return splits

    @cached_property
    def model(self) -> FittedModel:
        """The run's model, which computes as it did when the run judged it.

        Raises:
            ConfigError: The run has none: its answers came from elsewhere.
        """
        if self.checked.run.model.family == "answers":
            raise ConfigError(
                f"{self.result['name']} has answers and no model that could be asked.",
                fix=f"agnews compare {self.run.path.name} <another run>",
            )
        return load_judged(self.run.path / MODEL, self.checked.run.trainer)

    def context(self, name: str) -> AnalysisContext:
        """Return the context of one analysis."""
        refuse_left_out(task_of_record(self.result), "analyses", str(self.result["name"]))
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

    config = OmegaConf.create(escaped(run.config()))
    assert isinstance(config, DictConfig)
    return check_config(config)


@contextmanager
def steps(total: int, what: str) -> Iterator[Callable[[str], None]]:
    """Show a bar on a terminal, nothing elsewhere; yield a function to call after each step with its name."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=total)

        def advance(step: str) -> None:
            bar.update(task, advance=1, description=f"{what}: {step}")

        yield advance
