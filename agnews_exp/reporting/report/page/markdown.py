"""The report as Markdown, with links to its figures and tables."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from agnews_exp.reporting.report.content import Block, Chart, Missing, Picture, Prose, Section, Stored, Table

_MOST_ROWS = 60


def render_markdown(title: str, subtitle: str, date: str, sections: Sequence[Section]) -> str:
    """Return the whole report."""
    lines = [f"# {escape(title)}", "", escape(subtitle), "", date, ""]
    lines += [f"- [{escape(section.title)}](#{_anchor(section.title)})" for section in sections]
    for section in sections:
        lines += ["", f"## {escape(section.title)}"]
        for block in section.blocks:
            lines += ["", *_block(block)]
    return "\n".join(lines).rstrip() + "\n"


def escape(words: str) -> str:
    """Make text of a user's plain in Markdown: no tag, no image, no table's bar."""
    return html.escape(words, quote=False).replace("|", "\\|").replace("[", "\\[").replace("\n", " ")


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _block(block: Block) -> list[str]:
    match block:
        case Prose(text):
            return [escape(text)]
        case Missing(text, command):
            return [f"*{escape(text)}* Fill it with `{command.replace('`', '')}`."]
        case Stored(title, markdown, provenance):
            return [f"### {escape(title)}", "", _demoted(markdown), "", _small(provenance)]
        case Table(folded=True):
            return [f"{escape(block.title)}: [CSV]({block.name}.csv)"]
        case Table():
            return _table(block)
        case Chart() | Picture():
            alt = escape(block.title).replace("]", "")
            lines = [f"### {escape(block.title)}", "", f"![{alt}](figures/{block.name}.png)", ""]
            said = block.intervals if isinstance(block, Chart) else ""
            return [*lines, _small(f"{block.provenance} {said}".strip())]
    raise TypeError(block)


def _small(words: str) -> str:
    return f"<sub>{escape(words)}</sub>"


def _table(table: Table) -> list[str]:
    lines = [f"### {escape(table.title)}", "", "| " + " | ".join(map(escape, table.header)) + " |"]
    right = [
        bool(table.rows) and all(r[i].sort is not None or r[i].text == "–" for r in table.rows)
        for i in range(len(table.header))
    ]
    lines += ["|" + "|".join(" ---: " if r else " --- " for r in right) + "|"]
    lines += ["| " + " | ".join(escape(cell.text) for cell in row) + " |" for row in table.rows[:_MOST_ROWS]]
    if len(table.rows) > _MOST_ROWS:
        lines += ["", f"The first {_MOST_ROWS} of {len(table.rows):,} rows."]
    said = [escape(table.note), ""] if table.note else []
    return [*lines, "", *said, _small(table.provenance) + f" [CSV](tables/{table.name}.csv)"]


def _demoted(markdown: str) -> str:
    """Lower headings by two levels and show tags as text."""
    markdown = re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", markdown)
    return re.sub(r"^(#+) ", lambda m: "##" + m.group(1) + " ", markdown, flags=re.MULTILINE).strip()
