"""The last section: every run in the report, the machine, and what was left out."""

from __future__ import annotations

from agnews_exp.reporting.report.content import Block, Prose, Section, Table, number, text
from agnews_exp.reporting.report.inputs import Inputs
from agnews_exp.reporting.report.origin import origin
from agnews_exp.tracking.record import STATUS, TRACKING, read_json


def sources(inputs: Inputs) -> Section:
    """Return the runs' table, the packages and the runs that were left out."""
    header = ("run", "name", "family", "data fraction", "seed", "train rows", "fingerprint", "command")
    rows = tuple(
        (
            text(run.short),
            text(run.name),
            text(run.family),
            number(run.fraction, "g"),
            number(run.seed, "d"),
            number(run.rows.get("train"), ",.0f"),
            text(run.fingerprint),
            text(run.command),
        )
        for run in inputs.runs
    )
    made = origin(inputs.runs, ("train", "val", "test"))
    blocks: list[Block] = [Table("runs", "Runs in this report", header, rows, made)]
    blocks += [_places(inputs), _machines(inputs)]
    if inputs.left_out:
        left = tuple((text(short), text(name), text(reason)) for short, name, reason in inputs.left_out)
        said = "Finished runs of the same output folder whose numbers do not belong here."
        blocks.append(Table("left_out", "Runs left out", ("run", "name", "reason"), left, said))
    blocks += [Prose(note) for note in inputs.notes]
    return Section("sources", "Runs and machines", tuple(blocks))


def _places(inputs: Inputs) -> Table:
    rows = []
    for run in inputs.runs:
        path, tracked = run.folder.path, read_json(run.folder.path / TRACKING) or {}
        place = path.relative_to(inputs.output_dir) if path.is_relative_to(inputs.output_dir) else path
        started = (read_json(path / STATUS) or {}).get("started")
        rows.append((text(run.short), text(place.as_posix()), text(started), text(tracked.get("run_id"))))
    said = "What tells two studies of the same configuration apart; every command takes the name in the first column."
    header = ("run", "folder in outputs/", "began", "MLflow run")
    return Table("provenance", "Where each run lies, and when it began", header, tuple(rows), said, folded=True)


def _machines(inputs: Inputs) -> Table:
    seen: dict[tuple[str, ...], int] = {}
    for run in inputs.runs:
        e = run.environment
        packages = ", ".join(f"{k} {v}" for k, v in sorted((e.get("packages") or {}).items()))
        key = (
            run.device,
            str(e.get("platform", "–")),
            str(e.get("python", "–")),
            str(e.get("agnews_exp", "–")),
            packages,
        )
        seen[key] = seen.get(key, 0) + 1
    rows = tuple((*(text(v) for v in key), number(n, "d")) for key, n in sorted(seen.items()))
    header = ("device", "platform", "Python", "agnews-exp", "packages", "runs")
    return Table("machines", "Machines", header, rows, origin(inputs.runs, ()))
