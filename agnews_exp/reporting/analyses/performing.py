"""Performing analyses: each in its own folder, a failure of one is a note and not the end of the run."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agnews_exp.config.errors import AgnewsError
from agnews_exp.config.storage import atomic_path
from agnews_exp.config.targets import resolve_target
from agnews_exp.reporting.analyses.context import AnalysisContext, Findings
from agnews_exp.tracking.record import ANALYSES, RunFolder, read_json, write_json

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
    from agnews_exp.reporting.analyses.finished import FinishedRun

    wanted = {name: dict(component) for name, component in components.items() if component is not None}
    missing = {name: component for name, component in wanted.items() if not _has(run.path, name, component)}
    if not missing:
        return []
    return perform_all(missing, FinishedRun(run).context)[1]


def _has(run: Path, name: str, component: Mapping[str, Any]) -> bool:
    findings = read_json(analysis_folder(run, name) / FINDINGS)
    arguments = {k: v for k, v in component.items() if k != "_target_"}
    return findings is not None and findings.get("arguments") == arguments
