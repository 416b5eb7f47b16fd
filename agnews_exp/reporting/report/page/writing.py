"""Writing a report's folder: report.html, report.md, figures and tables."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agnews_exp.config.cells import spreadsheet_cell
from agnews_exp.config.storage import atomic_path
from agnews_exp.reporting.report.content import Chart, Picture, Section, Table
from agnews_exp.reporting.report.page.html import render_page
from agnews_exp.reporting.report.page.markdown import render_markdown
from agnews_exp.reporting.report.page.stills import draw_still


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
