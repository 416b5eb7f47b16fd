"""Searches: what Optuna found, beside what the study found in the same space."""

from __future__ import annotations

from itertools import accumulate

from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.report.content import Block, Chart, Missing, Section, Series, Table, number, slug, text
from agnews_exp.report.inputs import Inputs, Sweep
from agnews_exp.report.origin import origin


def searches(inputs: Inputs) -> Section:
    """Return one table of all searches and a chart of each one's trials."""
    found = [sweep for sweep in inputs.sweeps if sweep.is_search]
    blocks: list[Block] = []
    done = {_experiment(sweep) for sweep in found}
    missing = [line["experiment"] for line in published("searches") if line["experiment"] not in done]
    if missing:
        command = f"python run.py -m experiment={missing[0]}"
        blocks.append(Missing(f"Of the study's searches these have not been run: {', '.join(missing)}.", command))
    blocks.append(_table(found))
    blocks += [_trials(sweep) for sweep in found]
    return Section("searches", "Searches", tuple(blocks))


def _experiment(sweep: Sweep) -> str:
    words = (str(word) for word in sweep.info.get("words") or ())
    return next((word.partition("=")[2] for word in words if word.startswith("experiment=")), sweep.path.name)


def _table(found: list[Sweep]) -> Table:
    header = (
        "search",
        "study: trials",
        "study: space",
        "study: best",
        "study: best score",
        "ours: trials finished",
        "ours: objective",
        "ours: best",
        "ours: best score",
        "ours: data fraction",
    )
    by_experiment: dict[str, list[Sweep]] = {}
    for sweep in found:
        by_experiment.setdefault(_experiment(sweep), []).append(sweep)
    theirs = {line["experiment"]: line for line in published("searches")}
    rows = []
    for name in dict.fromkeys([*theirs, *by_experiment]):
        line = theirs.get(name, {})
        left = (
            text(name),
            number(float(line["trials"]) if line else None, ".0f"),
            text(line.get("space")),
            text(line.get("best")),
            number(float(line["macro_f1"]) if line else None),
        )
        if name not in by_experiment:
            rows.append((*left, *(number(None),) * 5))
        for sweep in by_experiment.get(name, ()):
            objective = str((sweep.best.get("objectives") or [sweep.info.get("primary", "objective")])[0])
            best = (sweep.best.get("best") or [{}])[0]
            params = ", ".join(f"{k.rpartition('.')[2]} {_short(v)}" for k, v in (best.get("params") or {}).items())
            value = (best.get("values") or {}).get(objective)
            ours = number(len(sweep.jobs), "d"), text(objective), text(params), number(value)
            rows.append((*left, *ours, number(sweep.runs[0].fraction, "g")))
    runs = [run for sweep in found for run in sweep.runs]
    note = (
        "The best of many trials flatters itself: its cross-validation score chose it. The study's"
        " scores are means over"
        " folds too (DistilBERT's: one validation split); its naive Bayes optimum lies at the edge of"
        " its space. LightGBM"
        " ignored the study's subsample for want of subsample_freq."
    )
    return Table("searches_table", "Searches", header, tuple(rows), origin(runs, ("cv", "val")), note, ("T27",))


def _trials(sweep: Sweep) -> Chart:
    values = [(trial, float(run.result["objective"])) for trial, run in sweep.jobs.items()]
    numbers, scores = zip(*values, strict=True)
    maximise = bool(sweep.info.get("maximise", True))
    best = tuple(accumulate(scores, max if maximise else min))
    objective = str(sweep.info.get("primary", "objective"))
    series = (Series("trial", numbers, scores), Series("best so far", numbers, best))
    pruned = int(sweep.info.get("total", len(scores))) - len(scores)
    more = (
        f" {pruned} of {sweep.info.get('total')} trials were pruned or failed and have no score." if pruned > 0 else ""
    )
    return Chart(
        f"search_{slug(sweep.path.name)}",
        f"Trials of {sweep.path.name}",
        "lines",
        "trial",
        objective,
        series,
        origin(sweep.runs, ("cv", "val")),
        intervals="One score a trial: no interval." + more,
    )


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
