"""The first section: which system is best, how good it is, and all systems in one table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.report.content import (
    Block,
    Cell,
    Chart,
    Prose,
    Section,
    Series,
    Table,
    interval,
    number,
    plural,
    text,
)
from agnews_exp.report.inputs import Inputs, StoredRun, System
from agnews_exp.report.origin import BOOTSTRAP, PUBLISHED, origin

_DRAWN = 15


def headline(inputs: Inputs) -> Section:
    """Return the best system chosen on validation, its test score, and the table of systems."""
    blocks: list[Block] = [Prose(sentence) for sentence in _sentences(inputs)]
    blocks += [_chart(inputs), _against_published(inputs), _table(inputs)]
    return Section("headline", "Headline", tuple(blocks))


def _sentences(inputs: Inputs) -> list[str]:
    best = inputs.best
    low, high = best.first.interval("test/macro_f1") or (None, None)
    f1, accuracy = best.first.metrics["test/macro_f1"], best.first.metrics["test/accuracy"]
    between = f", 95 % bootstrap interval {low:.4f} to {high:.4f}" if low is not None and high is not None else ""
    n = best.first.rows.get("test", 0)
    chosen = (
        f"Chosen by validation macro-F1 ({best.mean('val/macro_f1'):.4f}) from {plural(len(inputs.systems), 'system')}:"
        f" {best.label}. On the {n:,} test rows its macro-F1 is {f1:.4f}{between}; its accuracy is {accuracy:.4f}."
    )
    lines = [chosen]
    if len(best.runs) > 1:
        spread = best.spread("test/macro_f1")
        lines.append(
            f"Over its {len(best.runs)} seeds the test macro-F1 is {best.mean('test/macro_f1'):.4f} on"
            " average, standard"
            f" deviation {spread:.4f}; the interval above is of seed {best.first.seed}."
        )
    if any(system.fits_on_validation for system in inputs.systems):
        lines.append(
            "Cascades and blends fit a part of themselves on validation rows, so their validation scores flatter them:"
            " they are listed, not chosen."
        )
    fractions = sorted({run.fraction for run in inputs.runs})
    if best.first.fraction < 1:
        lines.append(
            f"The chosen system was trained on {best.first.fraction:.0%} of the training rows"
            f" ({best.first.rows['train']:,}): its numbers do not compare with those of all rows."
        )
    elif len(fractions) > 1:
        lines.append("Systems of several shares of the training rows are in one table; the column says which.")
    if not best.first.source.startswith("ag_news"):
        lines.append(
            f"These runs are on the corpus '{best.first.source}', not on AG News: numbers of the study"
            " stand beside them"
            " for the layout's sake and do not compare."
        )
    return lines


def _chart(inputs: Inputs) -> Chart:
    shown = inputs.systems[:_DRAWN]
    labels = tuple(system.label for system in shown)
    runs = [system.first for system in shown]
    series = tuple(_of_split(split, runs, labels) for split in ("val", "test"))
    more = f" The first {_DRAWN} of {len(inputs.systems)} by validation." if len(inputs.systems) > _DRAWN else ""
    return Chart(
        "systems",
        "Systems: macro-F1 on validation and test",
        "dots",
        "macro-F1",
        "",
        series,
        origin(runs, ("val", "test")),
        intervals=BOOTSTRAP + " Validation chose; test was scored once." + more,
        covers=("F31", "F15"),
    )


def _of_split(split: str, runs: Sequence[StoredRun], labels: tuple[str, ...]) -> Series:
    metric = f"{split}/macro_f1"
    ends = [run.interval(metric) or (None, None) for run in runs]
    return Series(
        {"val": "validation", "test": "test"}[split],
        tuple(run.metrics.get(metric) for run in runs),
        labels,
        tuple(low for low, _ in ends),
        tuple(high for _, high in ends),
    )


def _against_published(inputs: Inputs) -> Table:
    rows = []
    used = []
    for line in published("systems"):
        ours = next((s for s in inputs.systems if s.first.model == line["model"] and s.first.fraction == 1), None)
        ours = ours or next((s for s in inputs.systems if s.first.model == line["model"]), None)
        metric = f"{line['split']}/macro_f1"
        low, high = (ours.first.interval(metric) if ours else None) or (None, None)
        used += [ours.first] if ours else []
        rows.append(
            (
                text(line["system"]),
                text(line["split"]),
                number(float(line["macro_f1"])),
                text(line["where"]),
                text(ours.label if ours else "not run"),
                interval(ours.first.metrics.get(metric) if ours else None, low, high),
                number(ours.first.fraction if ours else None, "g"),
            )
        )
    header = (
        "study's system",
        "split",
        "study: macro-F1",
        "where",
        "ours",
        "ours: macro-F1 [95 %]",
        "ours: data fraction",
    )
    return Table(
        "published_systems",
        "The study's systems beside ours",
        header,
        tuple(rows),
        origin(used, ("val", "test")),
        note="The study scored three systems on the test set; what its README lists as test scores of"
        " others was computed"
        " by cross-validation (see 'Where the study was wrong'). " + PUBLISHED.partition(": ")[2].capitalize(),
        covers=("T01", "T16", "T28"),
    )


def _table(inputs: Inputs) -> Table:
    header: tuple[str, ...] = (
        "system",
        "family",
        "data fraction",
        "seeds",
        "cv: macro-F1",
        "validation: macro-F1",
        "test: macro-F1 [95 %]",
        "test: accuracy [95 %]",
        "test: sd over seeds",
        "fit, s",
        "size, MB",
    )
    runs = [run for system in inputs.systems for run in system.runs]
    own = {name: str(e["title"]) for run in runs for name, e in run.result.get("own_metrics", {}).items()}
    header += tuple(f"{split}: {title}" for title in own.values() for split in ("validation", "test"))
    return Table(
        "systems_table",
        "All systems, the best on validation first",
        header,
        tuple(_row(system, own) for system in inputs.systems),
        origin(runs, ("cv", "val", "test")),
        note="Each number's column names its split. Intervals: 95 % bootstrap over the test rows of the"
        " lowest seed's run;"
        " validation and cv are means over the seeds.",
        covers=("T13", "T15", "T17"),
    )


def _row(system: System, own: Iterable[str]) -> tuple[Cell, ...]:
    first = system.first
    cells = [
        interval(first.metrics.get(f"test/{name}"), *(first.interval(f"test/{name}") or (None, None)))
        for name in ("macro_f1", "accuracy")
    ]
    return (
        text(system.label),
        text(first.family),
        number(first.fraction, "g"),
        text(", ".join(map(str, system.seeds))),
        _over_folds(system),
        number(system.mean("val/macro_f1")),
        *cells,
        number(system.spread("test/macro_f1")),
        number(first.timings.get("fit"), ".1f"),
        number(first.metrics.get("model_size_mb"), ".1f"),
        *(number(system.mean(f"{split}/{name}")) for name in own for split in ("val", "test")),
    )


def _over_folds(system: System) -> Cell:
    mean = system.mean("cv/macro_f1")
    return number(None) if mean is None else Cell(f"{mean:.4f} ({system.first.n_folds} folds)", mean)
