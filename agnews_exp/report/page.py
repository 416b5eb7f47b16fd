"""Writing a report's folder: report.html (one page that needs nothing else), report.md, figures and tables."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from agnews_exp.analyses.findings import Block, Table, markdown_text, to_html, to_markdown, write_table
from agnews_exp.core.files import atomic_path
from agnews_exp.drawing import Chart, page_script, save, theme, vega
from agnews_exp.report.blocks import Section


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str  # its heading
    subtitle: str  # data and runs in a line
    date: str  # the one line that differs between two reports of the same runs
    sections: tuple[Section, ...]  # its parts
    others: Mapping[str, int] = field(default_factory=dict)  # runs that are left out, by the names of their corpora

    @property
    def blocks(self) -> list[Block]:
        """All blocks, those folded away too."""
        return [block for section in self.sections for block in (*section.blocks, *section.more)]


def write_report(folder: Path, report: Report) -> None:
    """Write a report into a folder; figures and tables of an earlier one go.

    Raises:
        ValueError: Two blocks would be written to one file.
    """
    named = [block for block in report.blocks if isinstance(block, Chart | Table)]
    places = Counter((type(block), block.name) for block in named)
    if twice := [name for (_, name), n in places.items() if n > 1]:
        raise ValueError(f"two blocks of the report are called {twice[0]}")
    for part in ("figures", "tables"):
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir(parents=True, exist_ok=True)
    for block in named:
        if isinstance(block, Chart):
            save(block, folder / "figures" / f"{block.name}.png")
            save(block, folder / "figures" / f"{block.name}.svg")
        else:
            write_table(block, (folder if block.folded else folder / "tables") / f"{block.name}.csv")
    for name, content in (("report.md", render_markdown(report)), ("report.html", render_page(report))):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")


def render_markdown(report: Report) -> str:
    """Return the whole report as Markdown, nothing folded."""
    lines = [f"# {markdown_text(report.title)}", markdown_text(report.subtitle), report.date]
    lines.append(
        "\n".join(f"- [{markdown_text(s.title)}](#{s.title.lower().replace(' ', '-')})" for s in report.sections)
    )
    for section in report.sections:
        blocks = (*section.blocks, *section.more)
        lines += [
            f"## {markdown_text(section.title)}",
            to_markdown(blocks, level=3, figures="figures/", tables="tables/"),
        ]
    return "\n\n".join(lines).rstrip() + "\n"


def render_page(report: Report) -> str:
    """Return the report as one page.

    Everything that a user may have written (class names, run names, texts) is escaped; the page's content security
    policy runs the page's own scripts and no other, and lets nothing be loaded.
    """
    charts = {block.name: vega(block, titled=False) for block in report.blocks if isinstance(block, Chart)}
    for spec in charts.values():
        del spec["config"]  # the page has one for each theme
    drawn = {"charts": charts, "themes": {"light": theme(), "dark": theme(dark=True)}}
    scripts = [*([_draw_script()] if charts else []), _asset("report.js")]
    parts = {
        "title": html.escape(report.title),
        "subtitle": html.escape(report.subtitle),
        "date": html.escape(report.date),
        "hashes": " ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        "style": _asset("report.css"),
        "contents": "\n".join(f'<li><a href="#{s.name}">{html.escape(s.title)}</a></li>' for s in report.sections),
        "sections": "\n".join(map(_section, report.sections)),
        "data": script_json(drawn),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], _asset("report.html"))


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>", to_html(_bare(section.blocks))]
    if section.more:
        n = sum(isinstance(block, Chart | Table) for block in section.more)
        said = (
            f"{'More' if section.blocks else 'Show'}: {f'{n} tables and charts' if n > 1 else 'one table or chart'}"
            if n
            else "Not there yet"
        )
        parts.append(_folded(said, to_html(_bare(section.more))))
    origins = [
        f"<p><b>{html.escape(block.title)}</b>: {html.escape(block.provenance)}</p>"
        for block in (*section.blocks, *section.more)
        if isinstance(block, Chart | Table) and block.provenance
    ]
    if origins:
        parts.append(_folded("Runs and commands behind these numbers", "\n".join(origins), "origin"))
    return f'<section id="{section.name}">\n' + "\n".join(parts) + "\n</section>"


def _bare(blocks: Sequence[Block]) -> list[Block]:
    """Return blocks without their origins, which stand together at the end of the section."""
    return [replace(block, provenance="") if isinstance(block, Chart | Table) else block for block in blocks]


def _folded(said: str, inside: str, kind: str = "") -> str:
    return f'<details class="{f"more {kind}".strip()}">\n<summary>{html.escape(said)}</summary>\n{inside}\n</details>'


def script_json(content: Any) -> str:
    """Return JSON that cannot end the script element it stands in."""
    written = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        written = written.replace(sign, f"\\u{ord(sign):04x}")
    return written


@cache
def _asset(name: str) -> str:
    return files("agnews_exp.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _draw_script() -> str:
    return page_script().replace("</script", "<\\/script")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
