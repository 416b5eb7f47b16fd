"""The data: rows by split and class, duplicates, and what the audit of the data has found."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agnews_exp.report.content import (
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
from agnews_exp.report.inputs import Inputs
from agnews_exp.report.origin import origin
from agnews_exp.tracking.record import read_json

_MOST_POINTS = 2000
_COUNTED = "Counted over all rows of the audit, not an estimate: no interval."
# File -> columns: group (or None), x, y; axes' titles; kind; logarithmic.
_LINES = {
    "zipf": (None, "rank", "frequency", "rank of the word", "occurrences", True),
    "heaps": (None, "words", "distinct", "words read", "distinct words", True),
    "lengths": ("class", "words", "share", "words in a text", "share of the class's texts", False),
}
_MATRICES = {
    "class_similarity": ("class", "other", "cosine", "cosine of the classes' mean TF-IDF vectors"),
    "vocabulary_overlap": ("class", "other", "jaccard", "Jaccard similarity of the classes' vocabularies"),
}


def audit_chart(path: Path, name: str, made: str, covers: tuple[str, ...]) -> Chart | None:
    """Return a chart of a CSV that the audit wrote, or None when its columns are not known.

    Args:
        path: The CSV.
        name: Of the chart.
        made: Its origin.
        covers: The published figures beside it.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return None
    title = f"Audit: {path.stem.replace('_', ' ')}"
    try:
        if path.stem in _LINES:
            return _lines(rows, name, title, made, covers, *_LINES[path.stem])
        if path.stem in _MATRICES:
            return _matrix(rows, name, title, made, covers, *_MATRICES[path.stem])
        if path.stem == "map":
            return _map(rows, name, title, made, covers)
    except (KeyError, ValueError):  # other columns than these: the audit's own picture stands in
        return None
    return None


Rows = list[dict[str, str]]


def _lines(
    rows: Rows,
    name: str,
    title: str,
    made: str,
    covers: tuple[str, ...],
    group: str | None,
    x: str,
    y: str,
    x_title: str,
    y_title: str,
    logarithmic: bool,
) -> Chart:
    groups: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        groups.setdefault(row[group] if group else "all texts", []).append((float(row[x]), float(row[y])))
    series = []
    for label, points in groups.items():
        kept = points[:: max(1, len(points) // _MOST_POINTS)]
        series.append(Series(label, tuple(a for a, _ in kept), tuple(b for _, b in kept)))
    return Chart(
        name,
        title,
        "lines",
        x_title,
        y_title,
        tuple(series),
        made,
        _COUNTED,
        log_x=logarithmic,
        log_y=logarithmic,
        covers=covers,
    )


def _matrix(
    rows: Rows, name: str, title: str, made: str, covers: tuple[str, ...], one: str, other: str, value: str, what: str
) -> Chart:
    names = list(dict.fromkeys([*(row[one] for row in rows), *(row[other] for row in rows)]))
    found = {(row[one], row[other]): float(row[value]) for row in rows}
    found |= {(b, a): v for (a, b), v in found.items()}
    z = tuple(tuple(found.get((a, b), 1.0 if a == b else 0.0) for b in names) for a in names)
    texts = tuple(tuple("" if a == b else f"{found.get((a, b), 0.0):.3f}" for b in names) for a in names)
    labels = (tuple(names), tuple(names))
    return Chart(name, title, "heatmap", what, "", (), made, _COUNTED, z=z, labels=labels, texts=texts, covers=covers)


def _map(rows: Rows, name: str, title: str, made: str, covers: tuple[str, ...]) -> Chart:
    groups: dict[str, list[tuple[float, float]]] = {}
    for row in rows[:: max(1, len(rows) // _MOST_POINTS)]:
        groups.setdefault(row["class"], []).append((float(row["x"]), float(row["y"])))
    series = tuple(Series(k, tuple(a for a, _ in v), tuple(b for _, b in v)) for k, v in groups.items())
    said = "Each mark is a text; axes have no unit and distances between far clusters no meaning: no interval."
    return Chart(name, f"{title}, two dimensions", "points", "first", "second", series, made, said, covers=covers)


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
