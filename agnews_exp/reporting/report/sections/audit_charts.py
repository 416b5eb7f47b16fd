"""Charts of the audit's tidy tables, where their columns are known; others are shown as the audit drew them."""

from __future__ import annotations

import csv
from pathlib import Path

from agnews_exp.reporting.report.content import Chart, Series

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
