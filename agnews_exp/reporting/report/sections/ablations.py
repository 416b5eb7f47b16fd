"""Ablations of a transformer: sweeps over one of its settings."""

from __future__ import annotations

from agnews_exp.reporting.report.content import Block, Chart, Missing, Series, Table, interval, number, text
from agnews_exp.reporting.report.inputs import Inputs
from agnews_exp.reporting.report.origin import PUBLISHED, SEED_BARS, origin
from agnews_exp.reporting.report.published import published
from agnews_exp.reporting.report.stored_run import StoredRun
from agnews_exp.reporting.report.systems import System

_ABLATIONS = (
    ("tuning", "Parts that are trained", "ablation_tuning", ("F22", "T21")),
    ("max_length", "Tokens kept of a text", "ablation_length", ("F22", "T20")),
)


def ablations(inputs: Inputs) -> list[Block]:
    """Return a chart and a table of each ablation."""
    return [block for arguments in _ABLATIONS for block in _ablation(inputs, *arguments)]


def _ablation(inputs: Inputs, kind: str, title: str, experiment: str, covers: tuple[str, ...]) -> list[Block]:
    best = _arms(inputs, kind)
    theirs = [line for line in published("ablations") if line["kind"] == kind and line["notebook"]]
    blocks: list[Block] = []
    if not best:
        blocks.append(Missing(f"{title}: not tried among these runs.", f"python run.py -m experiment={experiment}"))
    series = []
    runs: list[StoredRun] = []
    rows = []
    for name, arms in best.items():
        runs += [run for system in arms.values() for run in system.runs]
        values, lows, highs = zip(*(system.mean_interval("val/macro_f1") for system in arms.values()), strict=True)
        series.append(Series(f"ours: {name}", values, tuple(arms), lows, highs))
        for label, system in arms.items():
            study = next((line for line in theirs if line["arm"] == label), None)
            ends = system.first.interval("test/macro_f1") or (None, None)
            rows.append(
                (
                    text(label),
                    text(name),
                    text(", ".join(map(str, system.seeds))),
                    number(system.mean("val/macro_f1")),
                    number(system.spread("val/macro_f1")),
                    interval(system.first.metrics.get("test/macro_f1"), *ends),
                    number(system.mean("train_seconds"), ".1f"),
                    number(float(study["notebook"]) if study else None),
                    number(float(study["report"]) if study else None),
                )
            )
    series.append(
        Series(
            "study, DistilBERT",
            tuple(float(line["notebook"]) for line in theirs),
            tuple(line["arm"] for line in theirs),
            published=True,
        )
    )
    made = origin(runs, ("val", "test"))
    blocks.append(
        Chart(
            f"ablation_{kind}",
            f"Ablation: {title.lower()}",
            "dots",
            "macro-F1 on validation",
            "",
            tuple(series),
            made,
            intervals=f"{SEED_BARS} {PUBLISHED}",
            covers=covers,
        )
    )
    if rows:
        header = (
            "arm",
            "model",
            "seeds",
            "validation macro-F1, mean",
            "sd over seeds",
            "test macro-F1 [95 %]",
            "training, s",
            "study, notebook: validation",
            "study, report: validation",
        )
        note = "Every arm of ours has a schedule of its own over its whole run; the study's arms ran on a finished one."
        blocks.append(
            Table(f"ablation_{kind}_table", f"Ablation: {title.lower()}", header, tuple(rows), made, note, covers)
        )
    return blocks


def _arms(inputs: Inputs, kind: str) -> dict[str, dict[str, System]]:
    """Return the arms of each model that was tried in several ways: model, what the job was told, system."""
    systems = {system.first.group: system for system in inputs.systems}
    found: dict[str, dict[str, System]] = {}
    for sweep in inputs.sweeps:
        for job, run in sweep.jobs.items():
            told = dict(str(word).lstrip("+").split("=", 1) for word in sweep.overrides.get(job, ()) if "=" in word)
            arm = told.get(kind, told.get(f"model.{kind}"))
            if not sweep.is_search and sweep.info.get("swept") and arm is not None and run.group in systems:
                share = "" if run.fraction == 1 else f", {run.fraction:g} of the rows"
                found.setdefault(f"{run.name}{share}", {})[arm] = systems[run.group]
    return {name: dict(sorted(arms.items(), key=_order)) for name, arms in found.items() if len(arms) > 1}


def _order(arm: tuple[str, System]) -> tuple[float, str]:
    try:
        return float(arm[0]), ""
    except ValueError:
        return 0.0, arm[0]
