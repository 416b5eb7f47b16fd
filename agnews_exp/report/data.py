"""The data: rows by split and class, duplicates, and what the exploration of the data has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agnews_exp.analyses.exploration.performing import stored_parts
from agnews_exp.analyses.findings import Block, Column, Missing, Table, Text
from agnews_exp.analyses.performing import FINDINGS, title_of
from agnews_exp.core.errors import StorageError
from agnews_exp.data.stratification import class_counts
from agnews_exp.drawing import Chart, Series
from agnews_exp.report.blocks import Section, origin, renamed
from agnews_exp.report.inputs import Inputs
from agnews_exp.tracking.record import read_json

_NAMES = {"train": "train", "val": "validation", "test": "test"}


def data(inputs: Inputs) -> Section:
    """Return the splits, the classes, and what was found about the texts."""
    shares = _classes(inputs)
    shown: list[Block] = [*([shares] if shares else []), _splits(inputs)]
    more: list[Block] = [] if inputs.eda else [Missing("The data have not been explored.", "agnews eda")]
    for place, folder in enumerate(inputs.eda):
        more += [renamed(block, f"eda{place or ''}", inputs.names) for block in _explored(folder)]
    return Section("data", "Data", tuple(shown), tuple(more))


def _splits(inputs: Inputs) -> Table:
    first = max(inputs.runs, key=lambda run: run.fraction)
    duplicates: Mapping[str, Any] = first.result["data"].get("duplicates") or {}
    rows = tuple(
        (_NAMES.get(split, split), n, first.fraction if split == "train" else 1.0) for split, n in first.rows.items()
    )
    said = ", ".join(f"{k.replace('_', '/')} {v:,}" for k, v in duplicates.items())
    note = f"From {Path(str(first.result['data'].get('location', ''))).name or first.source}."
    note += f" Exact duplicates between splits: {said}." if said else ""
    columns = "split", Column("rows", "count"), Column("fraction used", "number")
    return Table("splits", "Rows by split", columns, rows, provenance=origin([first], tuple(first.rows)), note=note)


def _classes(inputs: Inputs) -> Chart | None:
    run = max(inputs.runs, key=lambda run: run.fraction)
    series = [
        Series(_NAMES[split], run.class_names, tuple(map(float, class_counts(found.labels, len(run.class_names)))))
        for split in ("val", "test")
        if (found := run.answers(split)) is not None
    ]
    if not series:
        return None
    return Chart(
        "class_counts", "Rows by class", "columns", "class", "rows", tuple(series), origin([run], ("val", "test")),
        "Counts of all rows: no interval.", "Classes with short columns have wide intervals everywhere in this report.",
    )  # fmt: skip


def _explored(folder: Path) -> list[Block]:
    """Return the stored findings of one exploration, its parts one after the other, and what was left out."""
    blocks: list[Block] = []
    try:
        for name, found in stored_parts(folder).items():
            named = [replace(b, name=f"{name}_{b.name}") if isinstance(b, Chart | Table) else b for b in found.blocks]
            blocks += [Text(found.headline, title_of(name)), *named]
    except StorageError as error:
        blocks.append(Text(error.message))
    parts = (read_json(folder / FINDINGS) or {}).get("parts") or {}
    left = [f"{name}: {part.get('reason')}" for name, part in parts.items() if part.get("status") != "finished"]
    return [*blocks, *([Text("; ".join(left), "Left out")] if left else [])]
