"""Robustness, other sources and cascades: what the stored analyses of single runs have found."""

from __future__ import annotations

from collections.abc import Sequence

from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.report.content import (
    Block,
    Chart,
    Missing,
    Section,
    Series,
    Stored,
    Table,
    interval,
    number,
    text,
)
from agnews_exp.report.inputs import Inputs, StoredRun
from agnews_exp.report.origin import BOOTSTRAP, details_of, nothing_stored, of_each_family, origin, tag

_MOST_RUNS = 4


def robustness(inputs: Inputs) -> Section:
    """Return what changed texts cost."""
    runs = of_each_family(inputs, "robustness")
    if not runs:
        return nothing_stored(
            "robustness", "Robustness", "No run has been tried on changed texts.", "agnews robustness RUN"
        )
    series = []
    for run in runs:
        variants = details_of(run, "robustness").get("variants") or {}
        changes = {name: v["metrics"]["macro_f1"]["difference"] for name, v in variants.items()}
        series.append(
            Series(
                run.name,
                tuple(float(c["estimate"]) for c in changes.values()),
                tuple(name.replace("_", " ") for name in changes),
                tuple(float(c["percentile"][0]) for c in changes.values()),
                tuple(float(c["percentile"][1]) for c in changes.values()),
            )
        )
    chart = Chart(
        "robustness",
        "What changed texts cost",
        "dots",
        "change of macro-F1 on test",
        "",
        tuple(series),
        origin(runs),
        intervals="Bars: 95 % paired bootstrap intervals over the test rows. The study measured"
        " embeddings' similarity, no"
        " classifier.",
        references=(("x", 0.0, "no change"),),
        covers=("T34",),
    )
    stored = [Stored(f"Robustness: {run.name}", run.summary("robustness"), origin([run])) for run in runs]
    return Section("robustness", "Robustness", (chart, *stored))


def external(inputs: Inputs) -> Section:
    """Return other labelled sources, beside the study's 20 Newsgroups."""
    rows = []
    runs = [run for run in inputs.with_analysis("external") if details_of(run, "external").get("metrics")]
    for run in runs:
        details = details_of(run, "external")
        for split in ("test", "external"):
            m = details["metrics"][split]["macro_f1"]
            low, high = m["percentile"]
            name = str(details.get("path", "")).rpartition("/")[2] if split == "external" else "own test rows"
            n = details.get("kept") if split == "external" else run.rows.get("test")
            rows.append((text(run.name), text(name), number(n, ",.0f"), interval(float(m["estimate"]), low, high)))
    blocks: list[Block] = []
    if not runs:
        blocks.append(
            Missing("No run has been judged on another source.", "agnews external RUN path=FOLDER mapping=newsgroups")
        )
    else:
        header = ("run", "rows of", "rows", "macro-F1 [95 %]")
        blocks.append(Table("external", "Other sources", header, tuple(rows), origin(runs), covers=("F32",)))
        blocks.append(_external_chart(runs))
    blocks.append(_newsgroups())
    blocks += [Stored(f"Other source: {run.name}", run.summary("external"), origin([run])) for run in runs[:_MOST_RUNS]]
    return Section("external", "Cross-dataset", tuple(blocks))


def _external_chart(runs: Sequence[StoredRun]) -> Chart:
    series = []
    for split, name in (("test", "own test rows"), ("external", "other source")):
        found = [details_of(run, "external")["metrics"][split]["macro_f1"] for run in runs]
        labels = tuple(run.name for run in runs)
        ends = [m["percentile"] for m in found]
        values = tuple(float(m["estimate"]) for m in found)
        series.append(Series(name, values, labels, tuple(low for low, _ in ends), tuple(high for _, high in ends)))
    theirs = [line for line in published("external") if line["class"] == "macro"]
    series.append(
        Series(
            "study, 20 Newsgroups",
            tuple(float(line["f1"]) for line in theirs),
            tuple(f"study: {line['system']}" for line in theirs),
            published=True,
        )
    )
    return Chart(
        "external_chart",
        "Own test rows and another source",
        "dots",
        "macro-F1",
        "",
        tuple(series),
        origin(runs),
        intervals=BOOTSTRAP,
        covers=("F32",),
    )


def _newsgroups() -> Table:
    rows = tuple(
        (
            text(line["system"]),
            text(line["class"]),
            number(float(line["precision"]) if line["precision"] else None),
            number(float(line["recall"]) if line["recall"] else None),
            number(float(line["f1"])),
        )
        for line in published("external")
    )
    header = ("study's system", "class", "precision", "recall", "F1")
    note = (
        "6,738 rows of 20 Newsgroups, mapped by hand. The classical model is better on them, which the"
        " README leaves out;"
        " the figure's axis starts above both values. misc.forsale is not business news."
    )
    return Table("external_study", "The study on 20 Newsgroups", header, rows, origin([]), note, ("F32",))


def cascade(inputs: Inputs) -> Section:
    """Return cascades: every threshold, the chosen one, and the study's fixed confidence."""
    runs = inputs.with_analysis("cascade")
    if not runs:
        command = "python run.py model=cascade model.fast=RUN model.accurate=RUN"
        return nothing_stored("cascade", "Cascade and routing", "No cascade is among these runs.", command)
    blocks: list[Block] = []
    fixed = []
    for run in runs[:_MOST_RUNS]:
        details = details_of(run, "cascade")
        curve, chosen = details["curve"], details["chosen"]
        at = float(chosen["accuracy"]["estimate"])
        low, high = map(float, chosen["accuracy"]["percentile"])
        step = max(1, len(curve["accuracy"]) // 250)
        every = Series("every threshold", tuple(curve["escalation_rate"][::step]), tuple(curve["accuracy"][::step]))
        point = Series("chosen on validation", (chosen["escalation_rate"],), (at,), (low,), (high,))
        blocks.append(
            Chart(
                f"cascade_{tag(run)}",
                f"Routing: {run.name}",
                "lines",
                "share of test rows handed to the accurate model",
                "test accuracy",
                (every, point),
                origin([run]),
                intervals="Bar of the chosen point: 95 % bootstrap interval over the test rows; the"
                " curve has none: it shows"
                " what other thresholds would have given on these rows.",
            )
        )
        for when, row in details["fixed_confidence"].items():
            fixed.append(
                (
                    text(run.name),
                    text(when),
                    number(row["threshold"], "g"),
                    number(row["answered_fast"], ".1%"),
                    number(row["accuracy_of_fast_there"]),
                    number(row["accuracy_of_accurate_on_the_rest"]),
                    number(row["accuracy"]),
                )
            )
    header = (
        "cascade",
        "confidence is",
        "threshold",
        "answered by the fast model",
        "its accuracy there",
        "the other's on the rest",
        "test: accuracy",
    )
    note = "The study claims 95 % answered fast at confidence .9, with accuracies of 96 % and 85 %; it ran no router."
    blocks.append(
        Table("fixed_confidence", "A fixed confidence as router", header, tuple(fixed), origin(runs), note, ("T31",))
    )
    blocks += [Stored(f"Cascade: {run.name}", run.summary("cascade"), origin([run])) for run in runs[:_MOST_RUNS]]
    return Section("cascade", "Cascade and routing", tuple(blocks))
