"""The report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agnews_exp.report.content import Block, Chart, Picture, Section, Stored, Table
from agnews_exp.report.page.plotly_specs import plotly_spec

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markupsafe import Markup

_PLACE = "agnews_exp.report.page"


def render_page(title: str, subtitle: str, date: str, sections: Sequence[Section], figures: Path) -> str:
    """Return the page.

    Args:
        title: Its heading.
        subtitle: Data and runs in a line.
        date: A line of its own.
        sections: Its parts.
        figures: Where the figures' files lie.

    Everything that a user may have written (class names, run names, texts) is escaped; the page's content security
    policy runs the page's own scripts and no other.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    charts = [block for section in sections for block in section.blocks if isinstance(block, Chart)]
    specs = {chart.name: plotly_spec(chart) for chart in charts}
    scripts = [_plotly(), _asset("report.js")] if charts else [_asset("report.js")]
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_asset), trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["kind"] = _is_kind
    environment.filters |= {"prose_html": stored_html, "column_is_number": column_is_number}
    return environment.get_template("report.html.j2").render(
        title=title,
        subtitle=subtitle,
        date=date,
        sections=sections,
        stills=dict(_stills(sections, figures)),
        style=Markup(_asset("report.css")),  # noqa: S704 our own file
        scripts=[Markup(script) for script in scripts],  # noqa: S704 our own file and Plotly's
        hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        specs=script_json(specs),
    )


def script_json(content: Any) -> Markup:
    """Return JSON that cannot end the script element it stands in."""
    from markupsafe import Markup

    written = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        written = written.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(written)  # noqa: S704 no sign of HTML is left


def stored_html(block: Stored) -> Markup:
    """Return a stored summary as HTML: tags in it are text, images are left out, tables scroll."""
    from markupsafe import Markup

    shown = re.sub(r"^(#+) ", lambda m: "##" + m.group(1) + " ", block.markdown, flags=re.MULTILINE)
    return Markup(_markdown().render(shown))  # noqa: S704 rendered with html=False


def column_is_number(table: Table, column: int) -> bool:
    """Return whether all of a column's cells are numbers or dashes."""
    cells = [row[column] for row in table.rows]
    return bool(cells) and all(cell.sort is not None or cell.text == "–" for cell in cells)


def _is_kind(block: Block, name: str) -> bool:
    return type(block).__name__ == name


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
    wrapper = '<div class="scroll" tabindex="0" role="region" aria-label="table">'
    parser.add_render_rule("table_open", lambda *_: f"{wrapper}<table>\n")
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser


@cache
def _asset(name: str) -> str:
    return files(_PLACE).joinpath(name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _stills(sections: Sequence[Section], figures: Path) -> list[tuple[str, str]]:
    found = []
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Chart):
                content = base64.b64encode((figures / f"{block.name}.svg").read_bytes()).decode()
                found.append((block.name, f"data:image/svg+xml;base64,{content}"))
            elif isinstance(block, Picture):
                content = base64.b64encode((figures / f"{block.name}.png").read_bytes()).decode()
                found.append((block.name, f"data:image/png;base64,{content}"))
    return found
