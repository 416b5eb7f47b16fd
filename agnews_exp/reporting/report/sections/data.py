"""The data: rows by split and class, duplicates, and what the audit of the data has found."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.reporting.report.content import (
    Block,
    Cell,
    Chart,
    Missing,
    Picture,
    Prose,
    Section,
    Series,
    Stored,
    Table,
    number,
    slug,
    text,
)
from agnews_exp.reporting.report.inputs import Inputs
from agnews_exp.reporting.report.origin import origin
from agnews_exp.reporting.report.sections.audit_charts import audit_chart
from agnews_exp.tracking.record import read_json

# Words in a figure's file name -> the published figures and tables that it stands beside.
_COVERS = {
    ("length", "word_count", "words"): ("F01",),
    ("zipf",): ("F02",),
    ("ngram", "bigram"): ("F03",),
    ("map", "projection", "tsne", "umap"): ("F04",),
    ("entit",): ("F05",),
    ("polarity", "sentiment"): ("F06",),
    ("readab", "flesch"): ("F07",),
    ("topic",): ("F08",),
    ("jaccard", "overlap"): ("F10", "T33"),
    ("perturb",): ("F11", "T34"),
    ("entropy", "richness"): ("T32",),
    ("chi2",): ("T11",),
}
_MOST_ROWS = 40


def data(inputs: Inputs) -> Section:
    """Return the splits and the audit."""
    blocks: list[Block] = [_splits(inputs)]
    shares = _classes(inputs)
    blocks += [shares] if shares else []
    if not inputs.eda:
        blocks.append(Missing("The data have not been audited.", "agnews eda"))
    for number_, folder in enumerate(inputs.eda):
        blocks += _audit(folder, f"eda{number_ or ''}")
    return Section("data", "Data", tuple(blocks))


def _splits(inputs: Inputs) -> Table:
    first = max(inputs.runs, key=lambda run: run.fraction)
    duplicates: Mapping[str, Any] = first.result["data"].get("duplicates") or {}
    study = {"train": 102_000, "val": 18_000, "test": 7_600}
    names = {"train": "train", "val": "validation", "test": "test"}
    rows = [
        (
            text(names.get(split, split)),
            number(n, ",.0f"),
            number(study.get(split), ",.0f"),
            number(first.fraction if split == "train" else 1.0, "g"),
        )
        for split, n in first.rows.items()
    ]
    said = ", ".join(f"{k.replace('_', '/')} {v:,}" for k, v in duplicates.items())
    note = f"Location: {Path(str(first.result['data'].get('location', ''))).name or first.source}. " + (
        f"Exact duplicates between splits: {said}." if said else ""
    )
    header = ("split", "rows", "study: rows", "fraction used")
    return Table("splits", "Rows by split", header, tuple(rows), origin([first], tuple(first.rows)), note, ("T04",))


def _classes(inputs: Inputs) -> Chart | None:
    run = max(inputs.runs, key=lambda run: run.fraction)
    confusion: Mapping[str, Any] = run.result.get("confusion") or {}
    series = []
    for split in ("val", "test"):
        matrix = confusion.get(split)
        if matrix:
            series.append(Series(split, run.class_names, tuple(float(sum(row)) for row in matrix)))
    if not series:
        return None
    splits = [one.name for one in series]
    return Chart(
        "class_counts",
        "Rows by class",
        "columns",
        "class",
        "rows",
        tuple(series),
        origin([run], splits),
        intervals="Counts of all rows, not estimates: no interval.",
    )


def _audit(folder: Path, prefix: str) -> list[Block]:
    findings = read_json(folder / "findings.json") or {}
    made = _origin(folder, findings)
    blocks: list[Block] = []
    drawn = set()
    for path in sorted(folder.glob("*.csv")):
        chart = audit_chart(path, f"{prefix}_{slug(path.stem)}", made, _covers(path.stem))
        if chart is not None:
            drawn.add(path.stem)
            blocks.append(chart)
    for picture in sorted(folder.glob("*.png")):
        if picture.stem not in drawn:
            title = picture.stem.replace("_", " ").capitalize()
            name = f"{prefix}_{slug(picture.stem)}"
            blocks.append(Picture(name, f"Audit: {title}", picture, made, _covers(picture.stem)))
        drawn.add(picture.stem)
    for path in sorted(folder.glob("*.csv")):
        if path.stem not in drawn:
            blocks += _table(path, f"{prefix}_{slug(path.stem)}_table", made)
    for name, part in (findings.get("parts") or {}).items():
        if isinstance(part, Mapping) and part.get("status") not in ("finished", None):
            blocks.append(
                Prose(f"Audit, part {name}: {part.get('status')}; {part.get('reason') or 'no reason given'}.")
            )
    summary = folder / "summary.md"
    if summary.is_file():
        blocks.append(Stored(f"Audit of the data: {folder.name}", summary.read_text(encoding="utf-8"), made))
    return blocks


def _origin(folder: Path, findings: Mapping[str, Any]) -> str:
    facts: Mapping[str, Any] = findings.get("data") or {}
    rows = ", ".join(f"{split} {n:,}" for split, n in (facts.get("rows") or {}).items())
    seed = (findings.get("settings") or {}).get("seed", "–")
    return (
        f"Audit {folder.name}; rows: {rows or '–'}; data: {facts.get('source', '–')}, fraction"
        f" {facts.get('data_fraction', '–')}; seed {seed}; command: agnews eda."
    )


def _covers(stem: str) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(c for words, ids in _COVERS.items() if any(w in stem.lower() for w in words) for c in ids)
    )


def _table(path: Path, name: str, made: str) -> list[Block]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if len(rows) < 2 or len({len(row) for row in rows}) > 1:
        return []
    body = tuple(tuple(_cell(value) for value in row) for row in rows[1 : _MOST_ROWS + 1])
    note = f"The first {_MOST_ROWS} of {len(rows) - 1:,} rows." if len(rows) - 1 > _MOST_ROWS else ""
    title = f"Audit: {path.stem.replace('_', ' ')}"
    return [Table(name, title, tuple(rows[0]), body, made, note, _covers(path.stem))]


def _cell(value: str) -> Cell:
    try:
        return Cell(f"{float(value):.6g}", float(value)) if value not in ("nan", "inf", "-inf", "") else Cell("–")
    except ValueError:
        return text(value)
