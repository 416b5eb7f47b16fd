"""Goes when exploration, robustness and the reference give findings of blocks."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agnews_exp.analyses.errors.near_duplicates import cached_near_duplicates as cached_near_duplicates
from agnews_exp.core.files import atomic_path
from agnews_exp.core.text import markdown_cell, spreadsheet_cell


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows that have the same keys, numbers with six digits; no text is a formula to a spreadsheet."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else spreadsheet_cell(v) for k, v in row.items()})


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> str:
    """Return a Markdown table whose last ``numbers`` columns are aligned right."""
    rule = ["---"] * (len(header) - numbers) + ["---:"] * numbers
    return "\n".join("| " + " | ".join(map(markdown_cell, cells)) + " |" for cells in (header, rule, *rows))


def excerpt(text: str, length: int = 90) -> str:
    """Return the beginning of a text, fit for a cell of a Markdown table."""
    words = " ".join(text.split())
    cut = words if len(words) <= length else words[: length - 1].rstrip() + "…"
    return cut.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
