"""Writing a report's folder: report.html, report.md, figures and tables."""

from __future__ import annotations

import csv
import html
import io
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agnews_exp.core.files import atomic_path
from agnews_exp.core.text import spreadsheet_cell
from agnews_exp.report.content import Block, Chart, Missing, Picture, Prose, Section, Stored, Table
from agnews_exp.report.page.html import render_page
from agnews_exp.report.page.stills import draw_still

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


@dataclass(frozen=True)
class Report:
    """What a page says about itself.

    Attributes:
        title: Its heading.
        subtitle: Data and runs in a line.
        date: The one line that differs between two reports of the same runs.
        sections: Its parts.
    """

    title: str
    subtitle: str
    date: str
    sections: tuple[Section, ...]


def write_report(folder: Path, report: Report) -> None:
    """Write a report; figures and tables of an earlier one go.

    Args:
        folder: Where; made when missing.
        report: What.
    """
    for part in ("figures", "tables"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True, exist_ok=True)
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Chart):
                draw_still(block, folder / "figures" / f"{block.name}.png", folder / "figures" / f"{block.name}.svg")
            elif isinstance(block, Picture):
                shutil.copyfile(block.path, folder / "figures" / f"{block.name}.png")
                if (vector := block.path.with_suffix(".svg")).is_file():
                    shutil.copyfile(vector, folder / "figures" / f"{block.name}.svg")
            elif isinstance(block, Table):
                place = folder if block.folded else folder / "tables"
                with atomic_path(place / f"{block.name}.csv") as temporary:
                    temporary.write_text(table_csv(block), encoding="utf-8")
    with atomic_path(folder / "report.md") as temporary:
        temporary.write_text(render_markdown(report.title, report.subtitle, report.date, report.sections), "utf-8")
    with atomic_path(folder / "report.html") as temporary:
        page = render_page(report.title, report.subtitle, report.date, report.sections, folder / "figures")
        temporary.write_text(page, encoding="utf-8")


def table_csv(table: Table) -> str:
    """Return a table as CSV, in which no spreadsheet finds a formula."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([spreadsheet_cell(name) for name in table.header])
    for row in table.rows:
        writer.writerow([cell.text if cell.sort is not None else spreadsheet_cell(cell.text) for cell in row])
    # Before Python 3.13 a lone carriage return is not quoted, and would begin a new row.
    return file.getvalue().replace("\r", " ")


def check_names(sections: Sequence[Section]) -> None:
    """Check that no two blocks would be written to one file.

    Raises:
        ValueError: Two blocks have one name.
    """
    seen: set[str] = set()
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Chart | Picture | Table):
                if block.name in seen:
                    raise ValueError(f"two blocks of the report are called {block.name}")
                seen.add(block.name)
