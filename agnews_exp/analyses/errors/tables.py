"""Goes with reference/ag_news_notebooks/published.py, its last user."""

from __future__ import annotations

from collections.abc import Sequence

from agnews_exp.core.text import markdown_cell


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: int = 0) -> str:
    """Return a Markdown table whose last ``numbers`` columns are aligned right."""
    rule = ["---"] * (len(header) - numbers) + ["---:"] * numbers
    return "\n".join("| " + " | ".join(map(markdown_cell, cells)) + " |" for cells in (header, rule, *rows))
