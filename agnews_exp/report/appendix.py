"""The folded end of a report: findings of single runs, published results that were chosen, runs and machines."""

from __future__ import annotations

from collections import Counter

from agnews_exp.analyses.commands import VERBS
from agnews_exp.analyses.findings import Block, Cell, Column, Missing, Table, Text
from agnews_exp.analyses.performing import FINDINGS, stored_findings, title_of
from agnews_exp.compare.beside import results_table
from agnews_exp.core.errors import StorageError
from agnews_exp.reference.reading import MARGIN, judge_claims, judge_measures
from agnews_exp.report.blocks import Section, origin, renamed, slug
from agnews_exp.report.inputs import Inputs
from agnews_exp.report.systems import StoredRun
from agnews_exp.tracking.record import STATUS, TRACKING, read_json


def analyses(inputs: Inputs) -> Section:
    """Return the stored findings of the chosen system, and of the best run of each other family, by analysis."""
    names = dict.fromkeys(name for run in inputs.runs for name in run.analyses)
    blocks: list[Block] = []
    for name in names:
        best: dict[str, StoredRun] = {}
        for run in sorted(inputs.with_analysis(name), key=lambda run: run not in inputs.chosen.runs):
            best.setdefault(run.family, run)
        for run in best.values():
            blocks += _found(run, name)
    blocks += [
        Missing(f"No run has been looked into for {name}.", f"agnews {verb} {inputs.chosen.first.short}")
        for verb, (name, _) in VERBS.items()
        if name not in names
    ]
    return Section("analyses", "Analyses of single runs", (), tuple(blocks))


def _found(run: StoredRun, name: str) -> list[Block]:
    title = f"{title_of(name)}: {run.name}"
    try:
        found = stored_findings(run.folder.path, name)
    except StorageError as error:
        return [Text(error.message, title)]
    if found is None:
        return []
    prefix = f"{slug(name)}_{slug(run.name)}_{slug(run.fingerprint[:6])}"
    return [Text(found.headline, title), *(renamed(block, prefix, run.names) for block in found.blocks)]


def published(inputs: Inputs) -> Section | None:
    """Return the chosen reference: what it is, its numbers beside own ones, its sentences judged; None without one."""
    reference = inputs.reference
    if reference is None:
        return None
    own = [system.own_result() for system in inputs.systems]
    rule = (
        f"A score is reproduced when the whole 95 % interval of its difference lies within {MARGIN:g}, contradicted"
        " when it lies wholly outside, and cannot be judged otherwise, or where the run had fewer training rows or"
        " another corpus."
    )
    blocks: list[Block] = [Text(reference.introduction), Text(rule), results_table(reference, own)]
    more: list[Block] = []
    if claims := judge_claims(reference, own):
        counts = Counter(judged.verdict for _, judged in claims)
        said = "; ".join(f"{verdict}: {n}" for verdict, n in counts.most_common())
        rows = tuple(
            (line["id"], line["claim"], line["where"], line["problem"], judged.verdict, judged.said, judged.needed)
            for line, judged in claims
        )
        columns = ("no.", "claim", "where", "what is wrong with it", "verdict", "found", "a judgement would need")
        more.append(Table("claims", f"Its sentences, one by one ({said})", columns, rows))
    for place, folder in enumerate(inputs.eda):
        measures = judge_measures(reference, (read_json(folder / FINDINGS) or {}).get("parts") or {})
        if measures:
            found = tuple((m.what, m.source, m.published, m.ours, m.verdict, m.reason) for m in measures)
            names = ("number", "where", "published", "here", "verdict", "how, or why not")
            title = f"Its numbers about the corpus: {folder.name}"
            more.append(Table(f"published_measures{place or ''}", title, names, found))
    return Section("published", "Published results", tuple(blocks), tuple(more))


def checks(inputs: Inputs) -> Section:
    """Return what the checks of the runs and of their comparison found; those of the data are `agnews check`'s."""
    from agnews_exp.compare.checks import CheckedRun, check_runs, results_table

    table = results_table(check_runs([CheckedRun(run.folder.path) for run in inputs.runs]))
    found = table if table.rows else Text(f"Nothing was found: {table.note}.")
    return Section("checks", "Checks", (found, Text("Checks of the data, and what a code means: agnews check --all.")))


def sources(inputs: Inputs) -> Section:
    """Return the runs' table, the machines and the runs that were left out."""
    rows = tuple(
        (run.short, run.name, run.family, run.fraction, str(run.seed), run.rows.get("train"), run.fingerprint,
         run.command)
        for run in inputs.runs
    )  # fmt: skip
    columns = ("run", "name", "family", Column("data fraction", "number"), "seed", Column("train rows", "count"),
               "fingerprint", "command")  # fmt: skip
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
    rows: tuple[tuple[Cell, ...], ...] = tuple((*key, n) for key, n in sorted(seen.items()))
    columns = ("device", "platform", "Python", "agnews-exp", "packages", "runs")
    return Table("machines", "Machines", columns, rows)
