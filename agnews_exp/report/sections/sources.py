"""Runs, folders, machines and packages that the report's numbers come from."""

from __future__ import annotations

from collections import Counter

from agnews_exp.analyses.findings import Block, Column, Table, Text
from agnews_exp.report.blocks import Section, origin
from agnews_exp.report.inputs import Inputs
from agnews_exp.tracking.record import STATUS, TRACKING, read_json


def sources(inputs: Inputs) -> Section:
    """Return the runs' table, the machines and the runs that were left out."""
    rows = tuple(
        (
            run.short,
            run.name,
            run.family,
            run.fraction,
            str(run.seed),
            run.rows.get("train"),
            run.fingerprint,
            run.command,
        )
        for run in inputs.runs
    )
    columns = (
        "run", "name", "family", Column("data fraction", "number"), "seed", Column("train rows", "count"), "fingerprint", "command",
    )  # fmt: skip
    made = origin(inputs.runs, ("train", "val", "test"))
    blocks: list[Block] = [
        Table("runs", "Runs in this report", columns, rows, provenance=made),
        _places(inputs),
        _machines(inputs),
    ]
    if inputs.left_out:
        note = "Finished runs of the same output folder whose numbers do not belong here."
        blocks.append(Table("left_out", "Runs left out", ("run", "name", "reason"), inputs.left_out, note=note))
    blocks += [Text(note) for note in inputs.notes]
    return Section("sources", "Runs and machines", (), tuple(blocks))


def _places(inputs: Inputs) -> Table:
    rows = []
    for run in inputs.runs:
        path, tracked = run.folder.path, read_json(run.folder.path / TRACKING) or {}
        place = path.relative_to(inputs.output_dir) if path.is_relative_to(inputs.output_dir) else path
        rows.append(
            (run.short, place.as_posix(), (read_json(path / STATUS) or {}).get("started"), tracked.get("run_id"))
        )
    columns = ("run", "folder in outputs/", "began", "MLflow run")
    return Table("provenance", "Where each run lies, and when it began", columns, tuple(rows), folded=True)


def _machines(inputs: Inputs) -> Table:
    seen: Counter[tuple[str, ...]] = Counter()
    for run in inputs.runs:
        e = run.environment
        packages = ", ".join(f"{k} {v}" for k, v in sorted((e.get("packages") or {}).items()))
        seen[run.device, *(str(e.get(key, "–")) for key in ("platform", "python", "agnews_exp")), packages] += 1
    rows = tuple((*key, n) for key, n in sorted(seen.items()))
    columns = ("device", "platform", "Python", "agnews-exp", "packages", "runs")
    return Table("machines", "Machines", columns, rows)
