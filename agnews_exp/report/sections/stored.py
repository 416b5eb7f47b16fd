"""What the analyses of single runs have found, as they stored it."""

from __future__ import annotations

from agnews_exp.analyses.findings import Block, Missing, Text
from agnews_exp.analyses.performing import stored_findings
from agnews_exp.core.errors import StorageError
from agnews_exp.report.blocks import Section, renamed, slug
from agnews_exp.report.inputs import Inputs, StoredRun

_COMMANDS = {
    "calibration": "calibrate", "errors": "errors", "explanation": "explain", "robustness": "robustness",
    "external": "external", "efficiency": "bench",
}  # fmt: skip


def analyses(inputs: Inputs) -> Section:
    """Return the stored findings of the best run of each family, by analysis."""
    names = dict.fromkeys(name for run in inputs.runs for name in run.analyses)
    blocks: list[Block] = []
    for name in names:
        best: dict[str, StoredRun] = {}
        for run in inputs.with_analysis(name):
            best.setdefault(run.family, run)
        for run in best.values():
            blocks += _found(run, name)
    blocks += [
        Missing(f"No run has been looked into for {name}.", f"agnews {command} {inputs.chosen.first.short}")
        for name, command in _COMMANDS.items()
        if name not in names
    ]
    return Section("analyses", "Analyses of single runs", (), tuple(blocks))


def _found(run: StoredRun, name: str) -> list[Block]:
    title = f"{name.capitalize()}: {run.name}"
    try:
        found = stored_findings(run.folder.path, name)
    except StorageError as error:
        return [Text(error.message, title)]
    if found is None:
        return []
    prefix = f"{slug(name)}_{slug(run.name)}_{slug(run.fingerprint[:6])}"
    return [Text(found.headline, title), *(renamed(block, prefix, run.names) for block in found.blocks)]
