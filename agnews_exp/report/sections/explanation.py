"""Explanation: named features, faithfulness, single articles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agnews_exp.reference.ag_news_notebooks.published import published
from agnews_exp.report.content import (
    Block,
    Chart,
    Picture,
    Section,
    Series,
    Stored,
    Table,
    number,
    slug,
    text,
)
from agnews_exp.report.inputs import Inputs, StoredRun
from agnews_exp.report.origin import details_of, nothing_stored, of_each_family, origin, tag

_TERMS = 10


def explanation(inputs: Inputs) -> Section:
    """Return named features, faithfulness, and single articles."""
    runs = of_each_family(inputs, "explanation")
    if not runs:
        return nothing_stored(
            "explanation", "Explanation", "No run's features have been explained.", "agnews explain RUN"
        )
    blocks: list[Block] = [_study_features()]
    for run in runs:
        details = details_of(run, "explanation")
        blocks += _weights(run, details.get("weights") or [])
        blocks += _faithfulness(run, details.get("faithfulness") or [])
        for picture in sorted(run.analysis_folder("explanation").glob("*.png")):
            if picture.stem in ("weights", "faithfulness"):
                continue
            covers: tuple[str, ...] = ("F28",) if "article" in picture.stem else ()
            if "attention" in picture.stem:
                covers = ("F27",)
            if run.family == "transformer" and "article" in picture.stem:
                covers = ("F27", "F28")
            title = f"{picture.stem.replace('_', ' ').capitalize()}: {run.name}"
            blocks.append(
                Picture(f"explanation_{tag(run)}_{slug(picture.stem)}", title, picture, origin([run]), covers)
            )
        blocks.append(Stored(f"Explanation: {run.name}", run.summary("explanation"), origin([run])))
    return Section("explanation", "Explanation", tuple(blocks))


def _study_features() -> Table:
    rows = tuple(
        (text(line["class"]), text(line["feature"]), number(float(line["weight"]), "+.2f"))
        for line in published("features")
    )
    note = (
        "Printed in the study's README as named features. Its notebook printed column numbers ('Feature names not"
        " available'); World's first is a character n-gram."
    )
    header = ("class", "feature", "study: weight")
    return Table("features_study", "The study's top features, as printed", header, rows, origin([]), note, ("T06",))


def _weights(run: StoredRun, weights: Sequence[dict[str, Any]]) -> list[Block]:
    if not weights:
        return []
    by_class: dict[str, list[dict[str, Any]]] = {}
    for entry in weights:
        by_class.setdefault(str(entry["class_name"]), []).append(entry)
    series, rows = [], []
    for name, entries in by_class.items():
        top = sorted(entries, key=lambda e: -float(e["weight"]))[:_TERMS]
        labels = tuple(f"{e['term']} ({e['block']})" for e in top)
        series.append(Series(name, tuple(float(e["weight"]) for e in top), labels))
        rows += [
            (
                text(name),
                text(e["term"]),
                text(e["block"]),
                number(float(e["weight"]), "+.3f"),
                number(e.get("effect"), ".4f"),
            )
            for e in top
        ]
    made = origin([run], ("train", "val"))
    chart = Chart(
        f"weights_{tag(run)}",
        f"Highest weights by class: {run.name}",
        "dots",
        "weight",
        "",
        tuple(series),
        made,
        intervals="Fitted weights: no interval. Names went with the columns through every step.",
        covers=("F19",),
    )
    header = ("class", "feature", "block", "weight", "effect in the class's texts")
    table = Table(
        f"weights_{tag(run)}_table", f"Highest weights: {run.name}", header, tuple(rows), made, covers=("T06",)
    )
    return [chart, table]


def _faithfulness(run: StoredRun, entries: Sequence[dict[str, Any]]) -> list[Block]:
    if not entries:
        return []
    labels = tuple(str(e["method"]) for e in entries)
    series = []
    for key in ("comprehensiveness", "sufficiency"):
        found = [e[key] for e in entries]
        series.append(
            Series(
                key,
                tuple(float(f["estimate"]) for f in found),
                labels,
                tuple(float(f["low"]) for f in found),
                tuple(float(f["high"]) for f in found),
            )
        )
    return [
        Chart(
            f"faithfulness_{tag(run)}",
            f"Faithfulness of the explanations: {run.name}",
            "dots",
            "change of probability",
            "",
            tuple(series),
            origin([run]),
            intervals="Bars: 95 % bootstrap intervals over the articles.",
            covers=("F28",),
        )
    ]
